"""The quality report: what usual formats lose, and what one pass of the parent for all saves.

    python scripts/benchmarks/quality.py [--model REF] [--calibration DIR] [--type TYPE]... [--gptq]

Without a calibration set, one of generated reports is made. Writes docs/benchmarks/quality.json:
the figures of each format, and the seconds of comparing all of them with the parent, once with its
pass kept on disk, and once with the parent opened for each; whether both find the same to the bit.
"""

import argparse
import json
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure
import numpy as np

from medllm import console
from medllm.calibrate.config import CalibrateConfig
from medllm.calibrate.verb import calibrate
from medllm.engines.open import open_model
from medllm.models.load import ModelRef, resolve_model
from medllm.quantize.config import GgufFormat, GptqFormat, QuantizeConfig
from medllm.quantize.holdouts import Holdouts, open_holdouts
from medllm.quantize.quality.measure import ByKind, _compare
from medllm.quantize.quality.reference import Reference
from medllm.quantize.summary import COLUMNS, table_of
from medllm.quantize.verb import quantize

TYPES = ("F16", "Q8_0", "Q6_K", "Q4_K_M", "Q3_K_S", "IQ2_XS")
ROUNDS = 3


def main() -> None:
    """Quantize, compare both ways, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="medllm/tiny")
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--type", action="append", default=[])
    parser.add_argument("--gptq", action="store_true", help="also GPTQ at 4 bits")
    asked = parser.parse_args()
    formats: list[Any] = [GgufFormat(type=name) for name in asked.type or TYPES]
    formats += [GptqFormat()] if asked.gptq else []
    with tempfile.TemporaryDirectory() as room:
        found = compare(asked.model, asked.calibration, formats, Path(room))
    print(json.dumps(found["seconds"], indent=1))
    measure.write("quality", found)


def compare(ref: str, texts: Path | None, formats: list[Any], room: Path) -> dict[str, Any]:
    """The figures of the formats of one model, and the seconds of both ways."""
    texts = texts or make_texts(ref, room / "calibration")
    config = QuantizeConfig(
        model=ref, calibration=texts, formats=tuple(formats), output=room / "made"
    )
    manifests = quantize(config)
    console.table(*table_of(manifests))
    holdouts = open_holdouts(config.model_copy(update={"holdouts": texts}), None)
    assert holdouts
    made = [weights_of(room / "made" / choice.folder) for choice in formats]
    seconds, is_same = time_both(resolve_model(ref), holdouts, made, room)
    names = {*COLUMNS, "bytes", "load_seconds", "seconds"}
    return {
        "model": Path(ref).name,
        "texts": {kind: len(rows) for kind, rows in holdouts.texts.items()},
        "formats": {
            choice.folder: {name: m.results[name] for name in sorted(names & m.results.keys())}
            for choice, m in zip(formats, manifests, strict=True)
        },
        "same_to_the_bit": is_same,
        "seconds": seconds,
    }


def make_texts(ref: str, folder: Path) -> Path:
    """A calibration set of generated reports."""
    settings: dict[str, Any] = {"mix": "quickstart", "min_tokens": 32, "samples": 128}
    calibrate(CalibrateConfig(output=folder, tokenizer=ref, holdout_samples=32, **settings))
    return folder


def weights_of(folder: Path) -> Path:
    """What a quantized model is loaded by."""
    return next(folder.glob("model-*.gguf"), folder)


def time_both(
    model: ModelRef, holdouts: Holdouts, made: list[Path], room: Path
) -> tuple[dict[str, float], bool]:
    """The median seconds of comparing all, both ways in turns, and whether they found the same."""
    times: dict[str, list[float]] = {"one pass, kept on disk": [], "a pass for each format": []}
    found: list[list[ByKind]] = []
    for number in range(ROUNDS):
        for name, together in zip(times, (len(made), 1), strict=True):
            scratch = room / f"{number}-{together}"
            scratch.mkdir()
            began = time.perf_counter()
            found.append(compare_all(model, holdouts, made, scratch, together))
            times[name].append(time.perf_counter() - began)
    return {name: float(np.median(each)) for name, each in times.items()}, all(
        are_same(found[0], other) for other in found
    )


def compare_all(
    model: ModelRef, holdouts: Holdouts, made: list[Path], scratch: Path, together: int
) -> list[ByKind]:
    """Every quantized model against its parent."""
    reference = Reference(model, holdouts, scratch, formats=together)
    found: list[ByKind] = []
    for weights in made:
        quantized = replace(model, path=weights, manifest=None)
        with (
            reference.opened() as parent,
            closing(open_model(quantized, n_ctx=parent.context_length)) as engine,
        ):
            found.append(_compare(parent, engine))
    return found


def are_same(some: list[ByKind], others: list[ByKind]) -> bool:
    """Whether all divergences are equal."""
    return all(
        np.array_equal(one.divergence, other.divergence)
        for ours, theirs in zip(some, others, strict=True)
        for kind in ours
        for one, other in zip(ours[kind], theirs[kind], strict=True)
    )


if __name__ == "__main__":
    main()
