"""The gate: what a quantized model may lose against its parent."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import Manifest, write_json
from medllm.errors import ConfigError, GateError
from medllm.quantize.config import QuantizeConfig, QuantizeGate
from medllm.quantize.holdouts import MEDICAL, Holdouts

GATE = "gate.json"


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
    """Write the outcome to `gate.json` in the output; it is no part of what was made.

    Raises:
        GateError: a format lost more than a threshold allows, or a figure is no number.
    """
    checks = [
        {"format": name, "identity": manifest.identity, **check}
        for name, manifest in manifests.items()
        for check in judge(gate, manifest.results)
    ]
    failed = [check for check in checks if not check["passed"]]
    outcome = {"gate": gate.model_dump(), "passed": not failed, "checks": checks}
    write_json(output / GATE, outcome)
    if not failed:
        console.say(f"  gate: passed by {len(manifests)} formats")
        return
    fix = "quality.html of each says what to try; use more bits, or raise the thresholds"
    raise GateError("\n".join(_lines(failed)), fix)


def judge(gate: QuantizeGate, results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each threshold with the figure that it is held against."""
    if gate.max_kl is not None:
        yield _check("kl", results["kl_mean"], gate.max_kl)
    if gate.max_perplexity_increase is not None:
        ratio = results["perplexity_medical"] / results["perplexity_medical_parent"]
        yield _check("perplexity_increase", ratio - 1, gate.max_perplexity_increase)


def _check(name: str, value: float, threshold: float) -> dict[str, Any]:
    # a NaN passes no gate
    return {"figure": name, "value": value, "max": threshold, "passed": value <= threshold}


def _lines(failed: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "the gate failed"
    for check in failed:
        what = f"{check['format']}: {check['figure']} {check['value']:.4g}"
        yield f"{what} is more than max_{check['figure']} {check['max']:g}"
