"""GPTQ by medllm beside bare gptqmodel: the same settings, the same rows, time and peak memory.

    python scripts/benchmarks/quantize_gptq.py [--shape 100m] [--pairs 5] [--texts 32]

A model of random weights is quantized in processes of their own, after one that warms the kernel's
cache. The two of a pair take turns of a second, so that both meet the same machine. Timed is
gptqmodel's `quantize()` in both; "whole" is the process, its imports, loading and saving too. No
state is kept on the way, as in a run that ends within `keep_seconds`: these stand still half of the
time. Writes docs/benchmarks/quantize-gptq.json.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measure
import random_model

Run = dict[str, float]


def main() -> None:
    """Measure the pairs, print the medians, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=random_model.SHAPES, default="100m")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=512)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        model = random_model.build(Path(room) / "model", asked.shape)
        rows = random_model.write_calibration(Path(room) / "texts", asked.texts, asked.tokens)
        found = compare(model, rows, asked.pairs)
    print(json.dumps(found, indent=1))
    calibration = {"texts": asked.texts, "tokens": asked.tokens}
    measure.write("quantize-gptq", {"shape": asked.shape, "calibration": calibration, **found})


def compare(model: Path, rows: Path, pairs: int) -> dict[str, Any]:
    """The runs of both, the medians, and the medians of what each pair's runs differ by."""
    run_together(["bare"], model, rows)  # compiles the kernel where that is still to do
    runs: dict[str, list[Run]] = {"bare": [], "medllm": []}
    for number in range(pairs):
        order = ["bare", "medllm"] if number % 2 else ["medllm", "bare"]
        for who, run in run_together(order, model, rows).items():
            runs[who].append(run)
            print(who, run, file=sys.stderr, flush=True)
    names = runs["bare"][0].keys()
    return {
        "median": {
            who: {n: median(r[n] for r in found) for n in names} for who, found in runs.items()
        },
        "medllm / bare": {
            n: median(
                ours[n] / bare[n] for ours, bare in zip(runs["medllm"], runs["bare"], strict=True)
            )
            for n in names
        },
        "runs": runs,
    }


def median(values: Any) -> float:
    """The median, to four digits."""
    return float(f"{statistics.median(values):.4g}")


def run_together(order: Sequence[str], model: Path, rows: Path) -> dict[str, Run]:
    """A run of each in a process of its own, by turns."""
    with tempfile.TemporaryDirectory(dir=model.parent) as folder:
        room, script = Path(folder), str(Path(__file__).resolve())
        found = measure.run_in_turns(
            {who: [script, "--one", who, str(model), str(rows), str(room / who)] for who in order},
            room,
        )
    return {who: summarize(ran) for who, ran in found.items()}


def summarize(ran: measure.Ran) -> Run:
    """What a run cost."""
    seconds = ran.seconds(ran.figures.pop("quantize"))
    return {"quantize_seconds": seconds, **ran.figures, "whole_seconds": ran.seconds()}


def one(who: str, model: str, rows: str, folder: str) -> None:
    """The run itself: of our format, or of the library's own three calls."""
    from medllm.models.hardware import count_cpus
    from medllm.models.load import resolve_model
    from medllm.quantize.calibration import Calibration
    from medllm.quantize.config import GptqFormat
    from medllm.quantize.formats import gptq
    from medllm.quantize.work import Work

    os.environ["GPTQMODEL_CPU_WORKERS"] = str(max(2, count_cpus()))
    import gptqmodel
    import torch

    timed = time_calls(gptqmodel)
    source, room = resolve_model(model), Path(folder)
    texts = Calibration.open(source, Path(rows))
    if who == "medllm":
        (room / "scratch").mkdir()
        (room / "out").mkdir()
        patient = GptqFormat(keep_seconds=None if torch.cuda.is_available() else 3600)
        gptq.make(patient, Work(source, texts, room / "scratch"), room / "out")
    else:
        config = gptqmodel.QuantizeConfig(**bare_settings())
        loaded = gptqmodel.GPTQModel.load(model, config)
        ids = texts.token_ids
        loaded.quantize(
            [{"input_ids": row, "attention_mask": [1] * len(row)} for row in ids], batch_size=1
        )
        loaded.save(str(room / "out"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    timed |= {"peak_mib": peak} | gpu_peak()
    (room / measure.FIGURES).write_text(json.dumps(timed), encoding="utf-8")


def bare_settings() -> dict[str, Any]:
    """The options that our format's defaults stand for."""
    names = ("bits", "group_size", "desc_act", "sym", "damp_percent")
    from medllm.quantize.config import GptqFormat

    return {name: getattr(GptqFormat(), name) for name in names}


def time_calls(library: Any) -> dict[str, Any]:
    """When `quantize()` of any model will have begun and ended; the seconds of all cores in it."""
    found: dict[str, Any] = {}
    kind = library.models.base.BaseQModel
    inner = kind.quantize

    def timed(*arguments: Any, **named: Any) -> Any:
        began, busy = time.perf_counter(), time.process_time()
        result = inner(*arguments, **named)
        found["quantize"] = began, time.perf_counter()
        found["quantize_cpu_seconds"] = time.process_time() - busy
        return result

    kind.quantize = timed
    return found


def gpu_peak() -> Run:
    """The most memory that torch has had on a GPU, if there is one."""
    import torch

    if not torch.cuda.is_available():
        return {}
    return {"gpu_peak_mib": torch.cuda.max_memory_reserved() / 2**20}


if __name__ == "__main__":
    one(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main()
