"""Texts: the perplexity of whole texts, without a question."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from medllm.data.example import Example
from medllm.engines.base import Engine, Expects, require
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.answers import Answers
from medllm.evaluate.kinds.base import Asking, Column, Record
from medllm.evaluate.kinds.generated import cell_of, ends, groups_of
from medllm.measures.intervals import estimate_ratio, exponential
from medllm.measures.likelihood import score_texts


class Texts(Answers):
    """Whole texts, whose numbers are those of answers."""

    ability: type[Engine] = Expects

    def is_in_chat(self, config: EvaluateConfig) -> bool:
        """Never: a text is read as it is."""
        return False

    def score(self, engine: Engine, items: Sequence[Example], asking: Asking) -> Iterable[Record]:
        """The likelihood of each text."""
        reading = require(engine, Expects, "evaluate")
        return map(asdict, score_texts(reading, items, what=asking.what))

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """The numbers of answers, and those that do not hang on the tokenizer.

        `bits_per_byte` with its 95 % interval over the texts, and what a byte and a word of white
        space cost as perplexities, under the names that lm-evaluation-harness gives them.
        """
        numbers = super().summarize(records)
        if not all(record.get("bytes") for record in records):
            return numbers
        losses = [-record["logprob"] for record in records]
        bits = estimate_ratio(
            [loss / math.log(2) for loss in losses],
            [record["bytes"] for record in records],
            groups_of(records),
        )
        words = sum(record["words"] for record in records)
        return {
            **numbers,
            "words": words,
            "text_bytes": sum(record["bytes"] for record in records),  # `bytes` is the model's size
            **ends("bits_per_byte", bits),
            "byte_perplexity": exponential(math.log(2) * bits.value),
            "word_perplexity": exponential(sum(losses) / max(words, 1)),
        }

    def columns(self, score: Mapping[str, Any]) -> list[Column]:
        """Perplexity of tokens, and bits per byte, by which other tokenizers compare."""
        shown = super().columns(score)
        if "bits_per_byte" not in score:
            return shown
        return [*shown, Column("bits per byte", cell_of(score, "bits_per_byte"))]
