"""What `finetune --dry-run` estimates beside what the training then takes: time and memory.

    python scripts/benchmarks/profiling.py --model REF --data DIR [--shape 1.1b]

DIR is what `medllm prepare` wrote. The model is profiled and trained whole; one with random
weights of a shape is too large for that, so that one and three of its layers are profiled. Each
profiling run and each training is a process of its own, with validation rows. Writes
docs/benchmarks/profiling.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import measure
import random_model
from finetune import copy_first

from medllm.finetune.config import FinetuneConfig, TrainingSettings
from medllm.finetune.profiling import profile
from medllm.finetune.rows.material import Material
from medllm.finetune.verb import finetune, open_inputs

LENGTHS = {"max_length": 512, "num_train_epochs": 1, "per_device_train_batch_size": 4}
TERMS = ("seconds", "memory_gib")


def main() -> None:
    """Profile and train each, print and write both figures and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shape", choices=random_model.SHAPES, default="1.1b")
    parser.add_argument("--examples", type=int, default=96, help="for the model")
    parser.add_argument("--few", type=int, default=8, help="for the random one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        large = room / asked.shape
        build = [random_model.__file__, str(large), "--shape", asked.shape]
        # not here: a process begins with the peak memory of the one that started it
        subprocess.run([sys.executable, *build], check=True, stdout=subprocess.DEVNULL)
        sizes = {asked.model: asked.examples, str(large): asked.few}
        found = {
            Path(model).name: compare(model, asked.data, count, room / f"{count}")
            for model, count in sizes.items()
        }
    print(json.dumps(found, indent=1))
    measure.write("profiling", {"settings": LENGTHS, "models": found})


def compare(model: str, data: Path, examples: int, room: Path) -> dict[str, Any]:
    """What was estimated, what it took, and the one by the other."""
    room.mkdir()
    copy_first(data / "train.jsonl", room / "data" / "train.jsonl", examples)
    copy_first(data / "validation.jsonl", room / "data" / "validation.jsonl", examples // 4)
    estimated, taken = (run(way, model, room) for way in ("estimate", "take"))
    ratios = {f"{term}, estimated / taken": estimated[term] / taken[term] for term in TERMS}
    return {"examples": examples, "estimated": estimated, "taken": taken, **ratios}


def run(way: str, model: str, room: Path) -> dict[str, Any]:
    """A process of its own."""
    place = str(Path(model).resolve()) if Path(model).exists() else model
    command = [sys.executable, str(Path(__file__).resolve()), "--one", way, place, str(room)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return dict(json.loads((room / measure.FIGURES).read_text(encoding="utf-8")))


def one(way: str, model: str, folder: str) -> None:
    """Profile or train, and write the figures."""
    room = Path(folder)
    training = TrainingSettings.model_validate(LENGTHS)
    config = FinetuneConfig(
        model=model, data=room / "data", training=training, output=room / "adapter"
    )
    figures = estimate(config) if way == "estimate" else take(config)
    (room / measure.FIGURES).write_text(json.dumps(figures), encoding="utf-8")


def estimate(config: FinetuneConfig) -> dict[str, Any]:
    """What the profiling run says."""
    forecast = profile(config, Material.read(open_inputs(config), config, "cpu"), "cpu")
    figures = {"seconds": forecast.seconds, "memory_gib": forecast.costs.memory_gib}
    return {**figures, "profiled": forecast.layers}


def take(config: FinetuneConfig) -> dict[str, Any]:
    """What the training took."""
    results = finetune(config).results
    seconds = results["training_seconds"] + results["evaluation_seconds"]
    return {"seconds": seconds, "memory_gib": results["peak_memory_gib"]}


if __name__ == "__main__":
    one(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main()
