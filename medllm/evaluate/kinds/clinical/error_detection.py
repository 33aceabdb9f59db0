"""Error detection: does a report have an error? The positive class is "error"."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from medllm.data.example import Example, read_examples
from medllm.engines.base import Engine, GenerateRequest, Scores, require
from medllm.engines.prompts import ask_messages
from medllm.engines.sampling import Sampling
from medllm.engines.writing.seeing import SeeingEngine
from medllm.errors import ConfigError
from medllm.evaluate.clinical.verdicts import POSITIVE, guess_by_rules, read_verdict, target_of
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import Asking, Column, Record, by_value
from medllm.evaluate.kinds.generated import Answered, Generated, share_of
from medllm.measures.intervals import majority_share
from medllm.measures.likelihood import NotAsked, score_choices
from medllm.models.image_files import digest_images
from medllm.reports.page import Page

NEGATIVE = "correct"
UNCLEAR = "unclear"
"""An answer that says neither; it is wrong."""
VERDICTS = ("ERROR", "CORRECT")
"""The words that are compared by likelihood."""
FIELDS = ("modality", "error_type", "severity")
"""The metadata that scores stand by."""


class ErrorDetection(Generated):
    """A verdict on each report, read off what the model writes."""

    measure = "accuracy"
    reads_english = True
    headings = {
        "accuracy": "accuracy", "sensitivity": "sensitivity", "specificity": "specificity",
        "false_positive_rate": "false positives",
    }  # fmt: skip

    def __init__(self, *, with_images: bool = True) -> None:
        self.with_images = with_images
        """Whether rows with images are asked with them; else by their text alone."""

    def lacking(self, item: Example) -> str | None:
        """An answer that says whether there is an error."""
        return super().lacking(item) or (None if target_of(item) else "no verdict in its answer")

    def decides(self, config: EvaluateConfig) -> dict[str, Any]:
        """The images of the rows that are asked, by their content."""
        rows = (config.data or Path()) / "test.jsonl"
        if not (self.with_images and config.data and rows.is_file()):
            return {}
        named = (config.data / each for row in read_examples(rows) for each in row.images)
        return {"images": digest_images(dict.fromkeys(named))}

    def score(self, engine: Engine, items: Sequence[Example], asking: Asking) -> Iterable[Record]:
        """The verdicts, with the images of rows or, as is noted, without them.

        Raises:
            ConfigError: rows have images, and the engine reads none.
        """
        seen = sum(bool(item.images) for item in items)
        asking.notes["with_images"] = seen if self.with_images else 0
        asking.notes["images_left_out"] = 0 if self.with_images else seen
        if seen and self.with_images and not isinstance(engine, SeeingEngine):
            message = f"{seen} of {len(items)} rows have images, and {engine.name} reads none here"
            raise ConfigError(message, "ask by the text alone: the task error_detection_text")
        root = (asking.config.data or Path()) if self.with_images else None
        return super().score(engine, [_with_images(item, root) for item in items], asking)

    def request(self, engine: Engine, item: Example, sampling: Sampling) -> GenerateRequest:
        """The conversation, with the images of the row."""
        return ask_messages(engine, item.prompt, sampling, tuple(map(Path, item.images)))

    def judge(self, answered: Answered, asking: Asking) -> Record:
        """The verdict beside the right one, and beside what plain rules say of the text."""
        reply = {"reply": answered.text} if asking.shows_text else {}
        return {**_judged(answered.item, read_verdict(answered.text) or UNCLEAR), **reply}

    def sum_up(self, records: Sequence[Record]) -> dict[str, Any]:
        """Accuracy, sensitivity to errors, specificity, and the same of plain rules."""
        by_field = {
            f"by_{name}": {
                value: _accuracy(rows) for value, rows in sorted(by_value(records, name).items())
            }
            for name in FIELDS
        }
        return {
            "positive": POSITIVE,
            **detection_rates(records, "answer"),
            "unclear": sum(record["answer"] == UNCLEAR for record in records),
            "majority": majority_share([record["target"] for record in records]),
            "rules": detection_rates(records, "rules"),
            **by_field,
            "heat": _cells(records, lambda cell: sum(map(_is_right, cell)) / len(cell)),
            "heat_items": _cells(records, len),
        }

    def columns(self, score: Mapping[str, Any]) -> list[Column]:
        """Accuracy beside the trivial one and that of plain rules; sensitivity, specificity."""
        first, *others = super().columns(score)
        beside = {**first.baselines, "plain rules": f"{score['rules']['accuracy']:.3f}"}
        return [Column(first.heading, first.cell, beside), *others]

    def tell(self, page: Page, score: Mapping[str, Any], records: Sequence[Record]) -> None:
        """A heat map: how many verdicts are right by modality and type of error."""
        page.heading(f"{score['model']}, {score['task']}: right verdicts, in percent")
        page.heat(f"{score['model']} {score['task']} right", score["heat"], score["heat_items"])
        page.text(
            f"Sensitivity is of the class “{POSITIVE}”. An answer without a verdict is wrong "
            f"({score['unclear']} here). Plain rules, which read no model's mind and no image, "
            f"have {score['rules']['accuracy']:.0%}."
        )


class ErrorDetectionByLikelihood(ErrorDetection):
    """A verdict on each report: the likelier one of the two words, without images."""

    ability: type[Engine] = Scores

    def __init__(self) -> None:
        super().__init__(with_images=False)

    def score(self, engine: Engine, items: Sequence[Example], asking: Asking) -> Iterable[Record]:
        """Which of the words is the likelier one after the prompt."""
        asking.notes["images_left_out"] = sum(bool(item.images) for item in items)
        scoring = require(engine, Scores, "evaluate")
        asked = [replace(item, images=(), choices=VERDICTS) for item in items]
        results = score_choices(scoring, asked, chat=asking.in_chat, what=asking.what)
        for item, result in zip(items, results, strict=True):
            judged = {} if isinstance(result, NotAsked) else _judged(item, result.answer.lower())
            yield {**asdict(result), **judged}

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """The numbers of the verdicts; none of them is unclear."""
        return {"items": len(records), **self.sum_up(records)}


def _judged(item: Example, verdict: str) -> Record:
    """A verdict beside the right one, and beside what plain rules say of the text."""
    text = "\n".join(turn.content for turn in item.prompt if turn.role == "user")
    told = {name: str(item.metadata.get(name, "not known")) for name in FIELDS}
    return {"target": target_of(item), "answer": verdict, "rules": guess_by_rules(text), **told}


def _with_images(item: Example, root: Path | None) -> Example:
    """The row with its images where they lie below the data, or without any."""
    images = () if root is None else tuple(str(root / each) for each in item.images)
    return replace(item, images=images)


def detection_rates(records: Sequence[Record], key: str) -> dict[str, Any]:
    """Accuracy, sensitivity, specificity and false positives of answers, with their intervals."""
    right = [{**record, "accuracy": record[key] == record["target"]} for record in records]
    with_error = [record for record in right if record["target"] == POSITIVE]
    without = [record for record in right if record["target"] == NEGATIVE]
    for record in with_error:
        record["sensitivity"] = record["accuracy"]
    for record in without:
        record["specificity"] = record["accuracy"]
        record["false_positive_rate"] = record[key] == POSITIVE
    return {
        **share_of(right, "accuracy"), **share_of(with_error, "sensitivity"),
        **share_of(without, "specificity"), **share_of(without, "false_positive_rate"),
        "sensitivity_items": len(with_error), "specificity_items": len(without),
        "false_positive_rate_items": len(without),
    }  # fmt: skip


def _accuracy(records: Sequence[Record]) -> dict[str, Any]:
    right = [{**record, "accuracy": record["answer"] == record["target"]} for record in records]
    return {"items": len(records), **share_of(right, "accuracy")}


def _is_right(record: Record) -> bool:
    return bool(record["answer"] == record["target"])


def _cells(
    records: Sequence[Record], measure: Callable[[Sequence[Record]], float]
) -> dict[str, dict[str, float]]:
    """A number of the records of each modality, by type of error within it."""
    return {
        modality: {
            kind: measure(cell) for kind, cell in sorted(by_value(rows, "error_type").items())
        }
        for modality, rows in sorted(by_value(records, "modality").items())
    }
