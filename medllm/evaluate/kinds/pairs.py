"""Pairs: which of two sentences, alike but for a name, a model finds likelier."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medllm.clinical.look_alikes import LookAlike
from medllm.data.example import Example
from medllm.engines.base import Engine, Scores, require
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import Asking, Column, Record
from medllm.evaluate.kinds.generated import cell_of, mean_of, percent_of, share_of
from medllm.measures.probes import score_look_alikes

GUESSING = 0.5
"""The share that is right by chance: the sentences of a pair of names are asked both ways."""


class Pairs:
    """Sentences with the name that fits and with its look-alike, by their likelihood as a whole.

    It is the measure of the quality report and of the calibration study.
    """

    ability: type[Engine] = Scores
    takes_examples = False
    settings: frozenset[str] = frozenset()
    measure = "accuracy"

    def lacking(self, item: Example) -> str | None:
        """Its two sentences, one of which is right."""
        if len(item.choices) != 2:
            return "no two sentences to choose from"
        return None if item.target in item.choices else "no right sentence"

    def is_in_chat(self, config: EvaluateConfig) -> bool:
        """Never: a sentence is read as it is."""
        return False

    def score(self, engine: Engine, items: Sequence[Example], asking: Asking) -> Iterable[Record]:
        """How far, in nats, the fitting sentence is likelier than the other one."""
        pairs = [LookAlike(*_ordered(item)) for item in items]
        scoring = require(engine, Scores, "evaluate")
        found = score_look_alikes(scoring, scoring, pairs)
        for item, margin in zip(items, found.margins, strict=True):
            fits, other = (str(item.metadata.get(key, key)) for key in ("fits", "other"))
            answer = fits if margin > 0 else other
            yield {"id": item.id, "target": fits, "answer": answer, "margin": margin}

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """The share in which the fitting name is the likelier one, and by how much on the mean."""
        right = [{**record, "accuracy": record["answer"] == record["target"]} for record in records]
        known = {**share_of(right, "accuracy"), **mean_of(records, "margin")}
        return {"items": len(records), **known, "majority": GUESSING}

    def columns(self, score: Mapping[str, Any]) -> list[Column]:
        """The share beside that of guessing, and the mean advantage."""
        heading = f"{score['task']} accuracy\nn = {score['items']}"
        baselines = {"guessing": f"{GUESSING:.1%}"}
        return [
            Column(heading, percent_of(score, "accuracy"), baselines),
            Column("nats ahead", cell_of(score, "margin", 2)),
        ]


def _ordered(item: Example) -> tuple[str, str]:
    """The right sentence, and the other one."""
    first, second = item.choices
    return (first, second) if first == item.target else (second, first)
