"""Small trainings, and what they leave."""

import json
from pathlib import Path

from medllm.data.example import Example, Message, to_json, write_jsonl
from medllm.finetune.config import FinetuneConfig, LoraSettings, TrainingSettings

ANSWERS = ("yes", "no, by no means", "yes, and so is every other number that ends like this one")
"""Of differing lengths: a mean of means would not be the mean of all tokens."""


def write_rows(folder: Path) -> Path:
    """A prepared folder: 48 examples to train on, 8 to validate."""
    folder.mkdir()
    for name, numbers in (("train", range(48)), ("validation", range(48, 56))):
        rows = [
            Example(f"t/{n}", "t", str(n), (Message("user", f"Is {n} even?"),), ANSWERS[n % 3])
            for n in numbers
        ]
        write_jsonl(folder / f"{name}.jsonl", map(to_json, rows))
    return folder


def small(model: Path, data: Path, output: Path, **training: object) -> FinetuneConfig:
    """12 steps of 8 examples, two passes; each step is logged."""
    short = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "logging_steps": 1,
             "max_length": 64, "learning_rate": 1e-3, "eval_steps": 3}  # fmt: skip
    return FinetuneConfig(
        model=str(model),
        data=data,
        output=output,
        lora=LoraSettings(r=4, target_modules=("q_proj", "v_proj"), lora_dropout=0.0),
        training=TrainingSettings.model_validate({**short, **training}),
    )


def losses_of(folder: Path, series: str = "training") -> dict[float, float]:
    """The losses by step."""
    points = json.loads((folder / "course.json").read_text())[series]
    assert len({step for step, _ in points}) == len(points)
    return dict(points)
