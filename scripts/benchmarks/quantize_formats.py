"""Several formats in one command beside one command each: what they share is done once.

    python scripts/benchmarks/quantize_formats.py [--shape 100m] [--texts 32] [--rounds 3]

Random weights, a calibration set with holdouts, quality measured as by default. Writes
docs/benchmarks/quantize-formats.json.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import measure
import random_model

GGUF = ["--format", "gguf", "--type"]
SETS = {
    "gptq and Q4_K_M": (["--format", "gptq"], [*GGUF, "Q4_K_M"]),
    "Q4_K_M, Q8_0 and Q6_K": ([*GGUF, "Q4_K_M"], [*GGUF, "Q8_0"], [*GGUF, "Q6_K"]),
}


def main() -> None:
    """Measure by turns, print the medians, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=random_model.SHAPES, default="100m")
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        model = random_model.build(room / "model", asked.shape)
        texts = random_model.write_calibration(room / "texts", asked.texts, asked.tokens)
        holdout = random_model.write_calibration(room / "holdout", 8, asked.tokens)
        shutil.move(holdout / "calibration.jsonl", texts / "holdout_medical.jsonl")
        base = [sys.executable, "-m", "medllm", "quantize", "--model", str(model)]
        base += ["--calibration", str(texts), "--output", str(room / "out")]
        measure.run([*base, *SETS["gptq and Q4_K_M"][0]])  # compiles gptqmodel's kernel
        found = {
            name: compare(base, room / "out", flags, asked.rounds) for name, flags in SETS.items()
        }
    about = {"shape": asked.shape, "texts": asked.texts, "tokens": asked.tokens}
    measure.write("quantize-formats", {**about, "sets": found})


def compare(base: list[str], output: Path, flags: Any, rounds: int) -> dict[str, Any]:
    """Seconds of one command and of separate ones."""
    pairs = {tuple(each[at : at + 2]): None for each in flags for at in range(0, len(each), 2)}
    together = [part for pair in pairs for part in pair]
    one, apart = [], []
    for _ in range(rounds):
        one.append(seconds([*base, *together], output))
        apart.append(sum(seconds([*base, *each], output) for each in flags))
    figures = {"one_command": statistics.median(one), "apart": statistics.median(apart)}
    figures["one / apart"] = figures["one_command"] / figures["apart"]
    print({name: round(value, 3) for name, value in figures.items()}, flush=True)
    return {**figures, "runs": {"one_command": one, "apart": apart}}


def seconds(command: list[str], output: Path) -> float:
    """Of a run that made something."""
    shutil.rmtree(output, ignore_errors=True)
    done = measure.run(command)
    assert done.exit_code == 0, command
    return done.seconds


if __name__ == "__main__":
    main()
