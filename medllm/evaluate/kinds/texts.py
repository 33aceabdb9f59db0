"""Texts: the perplexity of whole texts, without a question."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from medllm.data.example import Example
from medllm.engines.base import Engine, Expects, require
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.answers import Answers
from medllm.evaluate.kinds.base import Asking, Record
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
