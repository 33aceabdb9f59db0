"""The loss curves of a training as numbers, a plot and a page; no text of the data."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm.artifacts.manifest import write_atomically, write_json
from medllm.reports.page import Page
from medllm.reports.plots import save_curves

WORSE = 0.05
"""A last validation loss that lies so far above the best one means over-fitting."""
STILL_FALLING = 0.02
"""A validation loss that fell so much from the last but one evaluation is not at its end."""

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
        return "The validation loss has levelled off: there is no sign of over- or under-fitting."


def write_report(curves: LossCurves, results: Mapping[str, Any], folder: Path) -> None:
    """Write `course.json`, `loss.png` and `report.html`."""
    kept = {name: [list(point) for point in points] for name, points in curves.series.items()}
    write_json(folder / "course.json", kept)
    save_curves(folder / "loss.png", curves.series, "step", "loss, nats per token")
    write_atomically(folder / "report.html", build_page(curves, results).render())


def build_page(curves: LossCurves, results: Mapping[str, Any]) -> Page:
    """The training for people."""
    page = Page("What the training reached")
    page.text(curves.verdict)
    page.curves("Loss", curves.series, "step", "nats per token")
    page.table(("", ""), [(name.replace("_", " "), _shown(v)) for name, v in results.items()])
    return page


def perplexity_of(loss: float | None) -> float | None:
    """E to the mean loss of a token."""
    return None if loss is None else math.exp(min(loss, 700))


def _shown(value: Any) -> Any:
    return (
        "not measured" if value is None else value if isinstance(value, int | float) else str(value)
    )
