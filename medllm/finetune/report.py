"""The loss curves of a training as numbers, a plot and a page; no text of the data."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm.artifacts.manifest import write_json
from medllm.finetune.activations import Recomputation
from medllm.finetune.config import FinetuneConfig
from medllm.places import short_ref
from medllm.reports.page import Page

WORSE = 0.05
"""A last validation loss that lies so far above the best one means over-fitting."""
STILL_FALLING = 0.02
"""A validation loss that fell so much from the last but one evaluation is not at its end."""

UNITS = {
    "train_loss": "mean loss of the training, nats per token",
    "validation_loss_before": "validation loss before, nats per token",
    "validation_loss": "validation loss, nats per token",
    "training_seconds": "training, seconds",
    "evaluation_seconds": "evaluations, seconds",
    "seconds": "in all, seconds",
    "peak_memory_gib": "peak memory, GiB",
    "total_flos": "floating-point operations",
    "dtype": "number format",
    "attn_implementation": "attention",
    "not_varlen_attn": "why not PyTorch's attention for packed rows",
    "answer_end": "what ends an answer",
}
"""What a figure is called, where its name does not say it."""
MEASURED = ("validation_", "total_flos")
"""How figures begin that may be unknown; another that is None does not apply, and is left out."""
NESTED = {"rows", "validation_rows", "replay", "recomputation"}
"""Results that are no single figures."""
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class LossCurves:
    """The losses of a training by step, in nats per token."""

    train: Points
    validation: Points
    """Its first point is from before the first step, where there are validation rows at all."""

    @classmethod
    def of(cls, history: Sequence[Mapping[str, Any]], before: float | None) -> "LossCurves":
        """From the trainer's log."""
        train = [(log["step"], float(log["loss"])) for log in history if "loss" in log]
        evaluated = {log["step"]: float(log["eval_loss"]) for log in history if "eval_loss" in log}
        if before is not None:
            evaluated[0] = before
        return cls(train, sorted(evaluated.items()))

    @classmethod
    def read(cls, folder: Path) -> "LossCurves":
        """From the `course.json` of a training."""
        kept = json.loads((folder / "course.json").read_text(encoding="utf-8"))
        return cls(kept["training"], kept["validation"])

    @property
    def series(self) -> dict[str, Points]:
        """Both by name."""
        return {"training": self.train, "validation": self.validation}

    @property
    def outcome(self) -> str:
        """How far the loss fell, in a sentence."""
        if len(self.validation) > 1:
            (_, before), (_, after) = self.validation[0], self.validation[-1]
            return f"The validation loss went from {before:.3f} to {after:.3f} nats a token."
        if self.train:
            (_, first), (_, last) = self.train[0], self.train[-1]
            return f"The training loss went from {first:.3f} to {last:.3f} nats a token."
        return "No loss was logged."

    @property
    def verdict(self) -> str:
        """Over- or under-fitting, and the setting to try."""
        if len(self.validation) < 2:
            return "Not known: there are too few evaluations on validation rows."
        losses = [loss for _, loss in self.validation]
        best = min(losses)
        if best == losses[0]:
            return (
                "Nothing was learned that helps on validation rows: try another "
                "training.learning_rate, more rows, or look at the data."
            )
        if losses[-1] > best * (1 + WORSE):
            step = self.validation[losses.index(best)][0]
            return (
                f"Over-fitting: the validation loss was lowest at step {step:.0f}. Try fewer "
                "training.num_train_epochs, training.early_stopping_patience, more "
                "lora.lora_dropout or a smaller lora.r."
            )
        if len(losses) < 3:
            return (
                "The validation loss fell; whether it has stopped falling cannot be told from "
                "one evaluation: lower training.eval_steps."
            )
        if losses[-1] < losses[-2] * (1 - STILL_FALLING):
            return (
                "The validation loss was still falling at the end: try more "
                "training.num_train_epochs or a higher training.learning_rate."
            )
        return "The validation loss levelled off: no sign of over- or under-fitting."


def write_report(
    curves: LossCurves, results: Mapping[str, Any], folder: Path, config: FinetuneConfig
) -> None:
    """Write `course.json`, `report.html` and its plot."""
    kept = {name: [list(point) for point in points] for name, points in curves.series.items()}
    write_json(folder / "course.json", kept)
    build_page(curves, results, config).write(folder / "report.html")


def build_page(curves: LossCurves, results: Mapping[str, Any], config: FinetuneConfig) -> Page:
    """The training for people."""
    lead = f"{curves.outcome} {curves.verdict}"
    page = Page("What the training reached", lead, _about(config))
    page.curves("Loss", curves.series, "step", "nats per token")
    page.table(("figure", "value"), list(_figures(results)))
    rows, held_out = results.get("rows") or {}, results.get("validation_rows") or {}
    page.table(
        ("rows", "to train on", "for validation"),
        [
            (name.replace("_", " "), count, held_out.get(name, 0))
            for name, count in rows.items()
            if count or held_out.get(name)
        ],
    )
    replay = results.get("replay") or {}
    page.table(("replay", ""), [(name.replace("_", " "), str(v)) for name, v in replay.items()])
    return page


def _figures(results: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What each figure is called, and its value."""
    for name, value in results.items():
        if name not in NESTED and (value is not None or name.startswith(MEASURED)):
            yield UNITS.get(name, name.replace("_", " ")), value
    if chosen := results.get("recomputation"):
        yield "activations", str(Recomputation(**chosen))


def _about(config: FinetuneConfig) -> dict[str, Any]:
    """What was trained, how, and on what."""
    method = "all weights"
    if config.lora:
        quantized = f" on a base in {config.quantization}" if config.quantization else ""
        method = f"LoRA of rank {config.lora.r}{quantized}"
    places = {"base": short_ref(config.model), "data": short_ref(config.data)}
    return {"method": method, **places, "recipe": config.recipe}
