"""Answers: the perplexity of whole answers after their prompts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from medllm.data.example import Example
from medllm.engines.base import Engine, Expects, Scores, require
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import Asking, Column, Record
from medllm.measures.intervals import estimate_ratio
from medllm.measures.likelihood import score_answers


class Answers:
    """Whole answers, asked as in training."""

    ability: type[Engine] = Expects  # who knows all tokens knows the one that ends an answer
    takes_examples = False
    measure = "perplexity"
    higher_is_better = False

    def lacking(self, item: Example) -> str | None:
        """Nothing; an empty answer is not asked, which is counted."""

    def is_in_chat(self, config: EvaluateConfig) -> bool:
        """Always, as in training."""
        return True

    def score(self, engine: Engine, items: Sequence[Example], asking: Asking) -> Iterable[Record]:
        """The likelihood of each answer, its end included."""
        scoring = require(engine, Scores, "evaluate")
        return map(asdict, score_answers(scoring, items, what=asking.what))

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """Loss in nats per token and perplexity, with a 95 % bootstrap interval over the items."""
        loss = estimate_ratio(
            [-record["logprob"] for record in records], [record["tokens"] for record in records]
        )
        return {
            "items": len(records),
            "tokens": sum(record["tokens"] for record in records),
            "loss": loss.value,
            "perplexity": math.exp(loss.value),
            "perplexity_low": None if loss.low is None else math.exp(loss.low),
            "perplexity_high": None if loss.high is None else math.exp(loss.high),
        }

    def columns(self, score: Mapping[str, Any]) -> list[Column]:
        """Perplexity; a single item has no interval, as it says nothing of others."""
        interval = "no interval"
        if score["perplexity_low"] is not None:
            interval = f"{score['perplexity_low']:.2f}–{score['perplexity_high']:.2f}"
        heading = f"{score['task']} perplexity\nn = {score['items']}"
        return [Column(heading, f"{score['perplexity']:.2f}\n{interval}")]
