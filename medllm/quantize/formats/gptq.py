"""GPTQ through gptqmodel."""

import csv
import json
import math
import os
import re
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import write_atomically
from medllm.errors import ArtifactError, SetupError
from medllm.models.hardware import count_cpus, pick_device
from medllm.models.load import save_tokenizer
from medllm.quantize.config import GptqFormat
from medllm.quantize.kept_layers import quantize_kept
from medllm.quantize.work import Made, Work

FEW_SAMPLES = 128
"""Below this, gptqmodel's own advice and the GPTQ paper's default say that quality suffers."""

NUMBER = re.compile(r"\s*[-+]?\d*\.?\d+(e[-+]?\d+)?\s*", re.IGNORECASE)


def check_ahead(choice: GptqFormat) -> None:
    """Raise SetupError where gptqmodel is not installed."""
    if find_spec("gptqmodel") is None:
        raise SetupError("GPTQ needs gptqmodel", "pip install 'medllm[gptq]'")


def make(choice: GptqFormat, work: Work, folder: Path) -> Made:
    """Write a GPTQ model that transformers loads.

    Raises:
        ArtifactError: gptqmodel does not know the architecture.
    """
    assert work.calibration is not None  # it always calibrates
    model = work.model
    rows = [
        {"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in work.calibration.token_ids
    ]
    if len(rows) < FEW_SAMPLES:
        advice = f"{FEW_SAMPLES} or more give better weights"
        console.notice(f"quantize: only {len(rows)} calibration texts; {advice}")
    with _gptqmodel() as library:
        kept = work.scratch.resolve() / folder.name
        options = choice.model_dump(exclude={"format", "batch_size"})
        settings = library.QuantizeConfig(**options, offload_to_disk_path=str(kept))
        try:
            loaded = library.GPTQModel.load(model.location, settings)
        except (TypeError, NotImplementedError, ValueError) as problem:
            message = f"{model.location}: gptqmodel cannot load it: {problem}"
            raise ArtifactError(message, "choose --format gguf") from problem
        console.notice(
            "quantize: GPTQ (the first run on a machine compiles a kernel for about a minute)"
        )
        with console.progress("quantize: layers", loaded.model.config.num_hidden_layers) as advance:
            loaded.layer_callback = lambda layer_idx, submodule_finalized: advance(
                int(submodule_finalized)
            )
            quantize_kept(loaded, rows, kept, batch_size=choice.batch_size)
        loaded.save(str(folder))
    _forget_machine(folder)
    save_tokenizer(model, folder)
    errors = _layer_errors(folder)
    results = {"bits": choice.bits, "group_size": choice.group_size, **_worst(errors)}
    return Made(folder, results, len(rows), pick_device(), errors)


@contextmanager
def _gptqmodel() -> Iterator[Any]:
    """The library, silenced, with the worker pool it needs on few processors."""
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(max(2, count_cpus())))
    with console.quiet():
        import gptqmodel

        yield gptqmodel


def _forget_machine(folder: Path) -> None:
    """Take the temporary folder out of the configuration: it would differ in every run."""
    for name in ("config.json", "quantize_config.json"):
        path = folder / name
        config = json.loads(path.read_text(encoding="utf-8"))
        config.get("quantization_config", config).get("meta", {}).pop("offload_to_disk_path", None)
        write_atomically(path, json.dumps(config, indent=2) + "\n")


def _layer_errors(folder: Path) -> dict[str, float]:
    """The error of each layer, from gptqmodel's log; NaN for a layer that fell back."""
    log = folder / "quant_log.csv"
    if not log.is_file():
        return {}
    with log.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    log.unlink()  # it holds times, which would make every run another artifact
    return {
        f"{row['layer']}.{row['module']}": float(row["loss"])
        if NUMBER.fullmatch(row["loss"])
        else math.nan
        for row in rows
    }


def _worst(errors: dict[str, float]) -> dict[str, Any]:
    """The mean error of the layers and the worst one."""
    known = {name: error for name, error in errors.items() if not math.isnan(error)}
    if not known:
        return {}
    worst = max(known, key=known.__getitem__)
    return {
        "mean_layer_error": statistics.fmean(known.values()),
        "worst_layer": worst,
        "worst_layer_error": known[worst],
        "layers_without_error": len(errors) - len(known),
    }
