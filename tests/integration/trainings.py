"""Small trainings, and what they leave."""

import json
from collections.abc import Sequence
from pathlib import Path

from medllm.data.example import Example, Message, to_json, write_jsonl
from medllm.finetune.config import FinetuneConfig, LoraSettings, TrainingSettings

ANSWERS = ("yes", "no, by no means", "yes, and so is every other number that ends like this one")
"""Of differing lengths: a mean of means would not be the mean of all tokens."""
SHORT = ("yes", "yesyes", "yesyesyes")


def write_examples(
    folder: Path, train: int = 48, validation: int = 8, answers: Sequence[str] = ANSWERS
) -> Path:
    """A prepared folder: so many examples to train on and to validate, their answers by turns."""
    folder.mkdir()
    numbers = range(train + validation)
    for name, part in (("train", numbers[:train]), ("validation", numbers[train:])):
        asked = ((n, (Message("user", f"Is {n} even?"),)) for n in part)
        rows = (Example(f"t/{n}", "t", str(n), p, answers[n % len(answers)]) for n, p in asked)
        write_jsonl(folder / f"{name}.jsonl", map(to_json, rows))
    return folder


def small(model: Path, data: Path, output: Path, **training: object) -> FinetuneConfig:
    """12 steps of 8 examples, two passes; each step is logged, and alike on all machines."""
    short = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "logging_steps": 1,
             "max_length": 64, "learning_rate": 1e-3, "eval_steps": 3}  # fmt: skip
    return FinetuneConfig(
        model=str(model),
        data=data,
        output=output,
        dtype="float32",
        lora=LoraSettings(r=4, target_modules=("q_proj", "v_proj"), lora_dropout=0.0),
        training=TrainingSettings.model_validate({**short, **training}),
    )


def losses_of(folder: Path, series: str = "training") -> dict[float, float]:
    """The losses by step."""
    points = json.loads((folder / "course.json").read_text())[series]
    assert len({step for step, _ in points}) == len(points)
    return dict(points)
