"""What a model did on each item of a task, as far as other models' doings compare with it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medllm.artifacts.lineage import open_input
from medllm.artifacts.manifest import Manifest
from medllm.data.example import read_jsonl
from medllm.errors import ArtifactError

Score = Mapping[str, Any]
"""The numbers of a model on a task, as they stand in the manifest."""
Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Measure:
    """A number of all items that is the sum of a value of each over the sum of its weights."""

    name: str
    unit: str
    higher_is_better: bool
    is_share: bool
    """Whether each item is right or wrong."""


ACCURACY = Measure("accuracy", "share", higher_is_better=True, is_share=True)
PASSED = Measure("passed", "share", higher_is_better=True, is_share=True)
RETENTION = Measure("retention", "share of facts", higher_is_better=True, is_share=False)
F1 = Measure("f1", "F1 an answer", higher_is_better=True, is_share=False)
LOSS = Measure("loss", "nats per token", higher_is_better=False, is_share=False)


@dataclass(frozen=True)
class Outcomes:
    """What a model did on the items of a task."""

    model: str
    task: str
    measure: Measure
    score: Score
    """Its numbers, and how it was asked."""
    records: Sequence[Record] = field(repr=False)
    """Of the items that were asked, in their order; each has a `value` and a `weight`."""
    source: str = "medllm"
    """Whose records these are."""

    def column(self, key: str) -> list[Any]:
        """A value of each item."""
        return [record[key] for record in self.records]


def read_outcomes(folder: Path, score: Score) -> Outcomes | None:
    """The outcomes behind a score of an evaluation; None where it has no records of its own."""
    path = folder / score["model"] / f"{score['task']}.jsonl"
    if not path.is_file():
        return None
    return outcomes_of(read_jsonl(path), score)


def outcomes_of(records: Iterable[Record], score: Score) -> Outcomes | None:
    """The outcomes of some records; None where they have nothing that compares.

    Items that weigh nothing, as notes without facts, are left out.
    """
    asked = [record for record in records if "not_asked" not in record]
    for measure, weigh in WEIGHED.items():
        if asked and all({*weigh.needs} <= record.keys() for record in asked):
            weighed = [{**record, **weigh.of(record)} for record in asked]
            weighed = [record for record in weighed if record["weight"]]
            if not weighed:
                continue
            return Outcomes(score["model"], score["task"], measure, score, weighed)
    return None


@dataclass(frozen=True)
class Weigh:
    """How an item's value and weight are read of its record."""

    needs: tuple[str, ...]
    value: Callable[[Record], float]
    weight: Callable[[Record], int]

    def of(self, record: Record) -> dict[str, Any]:
        """Value, weight and group of an item; without a known group it is one of its own."""
        own = {"value": self.value(record), "weight": self.weight(record)}
        return own | {"group": str(record.get("group", record["id"]))}


WEIGHED: Mapping[Measure, Weigh] = {
    ACCURACY: Weigh(
        ("answer", "target"), lambda each: float(each["answer"] == each["target"]), lambda _: 1
    ),
    PASSED: Weigh(("passed",), lambda each: float(each["passed"]), lambda _: 1),
    RETENTION: Weigh(
        ("facts_source", "facts_retained"),
        lambda each: float(each["facts_retained"]),
        lambda each: int(each["facts_source"]),
    ),
    F1: Weigh(("f1",), lambda each: float(each["f1"]), lambda _: 1),
    LOSS: Weigh(("logprob", "tokens"), lambda each: -each["logprob"], lambda each: each["tokens"]),
}
"""The measures by what records have; the first that fits."""


@dataclass(frozen=True)
class Evaluation:
    """A folder that evaluate wrote."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path, role: str) -> "Evaluation":
        """The evaluation in a folder.

        Raises:
            ArtifactError: there is none, or it was altered.
        """
        found = open_input(folder, ("evaluation",), role)
        if found.manifest is None:
            fix = "name a folder that `medllm evaluate` wrote"
            raise ArtifactError(f"{role}: {folder} is no evaluation", fix)
        return cls(folder, found.manifest)

    @property
    def scores(self) -> list[Score]:
        """The numbers of its models on its tasks."""
        scores: list[Score] = self.manifest.results["scores"]
        return scores

    def outcomes(self) -> list[Outcomes]:
        """What each model did on each task that has records of items."""
        found = (read_outcomes(self.folder, score) for score in self.scores)
        return [each for each in found if each]
