"""The gate: what a quantized model may lose against its parent."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import Manifest
from medllm.errors import ConfigError
from medllm.measures.gates import Check, settle_gate
from medllm.quantize.config import QuantizeConfig, QuantizeGate
from medllm.quantize.holdouts import MEDICAL, Holdouts


def check_can_judge(config: QuantizeConfig, holdouts: Holdouts | None) -> None:
    """Raise ConfigError where there is a gate and nothing to judge by."""
    if config.gate is None:
        return
    fix = "name a calibration set with holdouts, --calibration DIR, or quantize.holdouts"
    if holdouts is None:
        raise ConfigError("quantize.gate: there is no held-out text to judge by", fix)
    if config.gate.max_perplexity_increase is not None and not holdouts.texts.get(MEDICAL):
        raise ConfigError("quantize.gate: there is no held-out medical text to judge by", fix)


def apply_gate(gate: QuantizeGate, output: Path, manifests: Mapping[str, Manifest]) -> None:
    """Hold all formats against the gate; the outcome is in `gate.json`.

    Raises:
        GateError: a format lost more than a threshold allows, or a figure is no number.
    """
    checks = [
        ({"format": name, "identity": manifest.identity}, check)
        for name, manifest in manifests.items()
        for check in judge(gate, manifest.results)
    ]
    fix = "quality.html of each says what to try; use more bits, or raise the thresholds"
    settle_gate(gate.model_dump(), checks, output, fix)
    console.say(f"  gate: passed by {len(manifests)} formats")


def judge(gate: QuantizeGate, results: Mapping[str, Any]) -> Iterator[Check]:
    """Each threshold with the figure that it is held against."""
    if gate.max_kl is not None:
        yield Check("kl", results["kl_mean"], gate.max_kl)
    if gate.max_perplexity_increase is not None:
        ratio = results["perplexity_medical"] / results["perplexity_medical_parent"]
        yield Check("perplexity_increase", ratio - 1, gate.max_perplexity_increase)
