"""Choices: the likeliest one after the prompt counts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from medllm.data.example import Example
from medllm.engines.base import Engine, Scores, require
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import Asking, Column, Record
from medllm.measures.intervals import estimate_proportion, macro_f1, majority_share
from medllm.measures.likelihood import score_choices


class Choices:
    """Multiple choice, by the likelihood of each choice."""

    ability: type[Engine] = Scores
    takes_examples = True
    measure = "accuracy"

    def lacking(self, item: Example) -> str | None:
        """Its choices, where it has none."""
        return None if item.choices else "no choices"

    def is_in_chat(self, config: EvaluateConfig) -> bool:
        """As the configuration says."""
        return config.apply_chat_template

    def score(self, engine: Engine, items: Sequence[Example], asking: Asking) -> Iterable[Record]:
        """The likelihood of each choice."""
        scoring = require(engine, Scores, "evaluate")
        results = score_choices(scoring, items, chat=asking.in_chat, what=asking.what)
        return map(asdict, results)

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """Accuracy and its 95 % interval, macro-F1, and the accuracy of the most frequent label."""
        targets = [record["target"] for record in records]
        answers = [record["answer"] for record in records]
        hits = sum(target == answer for target, answer in zip(targets, answers, strict=True))
        accuracy = estimate_proportion(hits, len(records))
        return {
            "items": len(records),
            "accuracy": accuracy.value,
            "accuracy_low": accuracy.low,
            "accuracy_high": accuracy.high,
            "macro_f1": macro_f1(targets, answers),
            "majority": majority_share(targets),
        }

    def pool(self, scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The mean accuracy weighted by items, as lm-evaluation-harness weights its groups.

        The interval is that of all items as one sample, which is at least as wide as one that
        knows of the tasks (Hoeffding 1956). Labels of different tasks have no common F1.
        """
        items = sum(score["items"] for score in scores)
        hits = sum(round(score["accuracy"] * score["items"]) for score in scores)
        accuracy = estimate_proportion(hits, items)
        return {
            "items": items,
            "accuracy": accuracy.value,
            "accuracy_low": accuracy.low,
            "accuracy_high": accuracy.high,
            "majority": sum(score["majority"] * score["items"] for score in scores) / items,
        }

    def columns(self, score: Mapping[str, Any]) -> list[Column]:
        """Accuracy beside that of always giving the most frequent label, and F1."""
        interval = f"{100 * score['accuracy_low']:.1f}–{100 * score['accuracy_high']:.1f}"
        accuracy = Column(
            f"{score['task']} accuracy\nn = {score['items']}",
            f"{score['accuracy']:.1%}\n{interval}",
            {"most frequent label": f"{score['majority']:.1%}"},
        )
        if "macro_f1" not in score:  # of a group
            return [accuracy]
        return [accuracy, Column("F1", f"{score['macro_f1']:.2f}")]
