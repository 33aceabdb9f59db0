"""Answers: the perplexity of whole answers after their prompts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from medllm.data.example import Example
from medllm.engines.base import Engine, Expects, Scores, require
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import Asking, Column, Record
from medllm.evaluate.kinds.generated import cell_of, ends, groups_of
from medllm.measures.intervals import estimate_ratio, perplexity_of
from medllm.measures.likelihood import score_answers


class Answers:
    """Whole answers, asked as in training."""

    ability: type[Engine] = Expects  # who knows all tokens knows the one that ends an answer
    takes_examples = False
    settings: frozenset[str] = frozenset()
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
        losses = [-record["logprob"] for record in records]
        tokens = [record["tokens"] for record in records]
        loss = estimate_ratio(losses, tokens, groups_of(records))
        return {
            "items": len(records),
            "tokens": sum(tokens),
            "loss": loss.value,
            **ends("perplexity", perplexity_of(loss)),
        }

    def columns(self, score: Mapping[str, Any]) -> list[Column]:
        """Perplexity; a single item has no interval, as it says nothing of others."""
        heading = f"{score['task']} perplexity\nn = {score['items']}"
        return [Column(heading, cell_of(score, "perplexity", 2))]
