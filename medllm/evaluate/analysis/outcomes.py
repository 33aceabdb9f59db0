"""What a model did on each item of a task, as far as other models' doings compare with it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medllm.artifacts.lineage import open_input
from medllm.artifacts.manifest import Manifest
from medllm.data.example import read_jsonl
from medllm.data.generators.canaries import ROLE

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
    is_ratio: bool = False
    """Whether the weight of an item hangs on the model, too, as the number of names it lists."""


ACCURACY = Measure("accuracy", "share", higher_is_better=True, is_share=True)
PASSED = Measure("passed", "share", higher_is_better=True, is_share=True)
RETENTION = Measure("retention", "share of facts", higher_is_better=True, is_share=False)
F1 = Measure("f1", "F1 an answer", higher_is_better=True, is_share=False)
RUBRIC = Measure("rubric_score", "share of points", higher_is_better=True, is_share=False)
EXTRACTED = Measure("extracted", "share", higher_is_better=False, is_share=True)
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

    def parts(self) -> "Iterator[Outcomes]":
        """The same by the other measures that belong to its own, as precision and recall to F1."""
        for measure, weigh in SPANS.items() if self.measure in SPANS else ():
            if measure != self.measure:
                records = [{**record, **weigh.of(record)} for record in self.records]
                yield replace(self, measure=measure, records=records)


def read_outcomes(folder: Path, score: Score) -> Outcomes | None:
    """The outcomes behind a score of an evaluation; None where it has no records of its own."""
    path = folder / score["model"] / f"{score['task']}.jsonl"
    if not path.is_file():
        return None
    return outcomes_of(read_jsonl(path), score)


def outcomes_of(records: Iterable[Record], score: Score) -> Outcomes | None:
    """The outcomes of some records; None where they have nothing that compares.

    Items without a value, as notes without facts, weigh nothing.
    """
    asked = [record for record in records if "not_asked" not in record]
    for measure, weigh in WEIGHED.items():
        if asked and all({*weigh.needs} <= record.keys() for record in asked):
            weighed = [{**record, **weigh.of(record)} for record in asked]
            if any(record["weight"] for record in weighed):
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


def _of_counts(way: str, parts: Sequence[int], wholes: Sequence[int]) -> Weigh:
    """A ratio of counts of all types; by place: wanted, given, hits, reached."""

    def sum_up(record: Record, places: Sequence[int]) -> int:
        found = [each for name, each in record["counts"].items() if name.startswith(f"{way} ")]
        return sum(counts[place] for counts in found for place in places)

    return Weigh(
        ("counts",),
        lambda record: float(sum_up(record, parts)),
        lambda record: sum_up(record, wholes),
    )


def _ratio(way: str, name: str) -> Measure:
    """Precision, recall or F1 of the names that a model lists."""
    unit = name.replace("f1", "F1")
    return Measure(f"{way}_{name}", unit, higher_is_better=True, is_share=False, is_ratio=True)


SPANS: Mapping[Measure, Weigh] = {
    _ratio(way, name): _of_counts(way, *places)
    for way in ("overlap", "exact")
    for name, places in {
        "f1": ((2, 3), (0, 1)), "precision": ((2,), (1,)), "recall": ((3,), (0,)),
    }.items()
}  # fmt: skip
"""Micro-F1, precision and recall, of spans that overlap, and of exact ones."""
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
    RUBRIC: Weigh(
        ("rubric_score",),
        lambda each: float(each["rubric_score"] or 0.0),
        lambda each: int(each["rubric_score"] is not None),
    ),
    EXTRACTED: Weigh(
        (ROLE,),
        lambda each: float(each.get("given_away", False)),
        lambda each: int(each[ROLE] == "train" and "given_away" in each),
    ),
    LOSS: Weigh(("logprob", "tokens"), lambda each: -each["logprob"], lambda each: each["tokens"]),
    **SPANS,
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
        assert found.manifest
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

    def pooled(self) -> list[Outcomes]:
        """What each model did on the items of each group of tasks, all as one sample."""
        of_task = {(each.model, each.task): each for each in self.outcomes()}
        found = []
        for score in self.scores:
            members = [of_task.get((score["model"], task)) for task in score.get("tasks", ())]
            known = [each for each in members if each]
            if known and len(known) == len(members):
                found.append(pool(score, known))
        return found


def pool(score: Score, members: Sequence[Outcomes]) -> Outcomes:
    """The items of several tasks, each by its task and its id; their mean is the group's."""
    records = [
        {**record, "id": f"{each.task}: {record['id']}"}
        for each in members for record in each.records
    ]  # fmt: skip
    keys = sorted({str(each.score.get("prompt_key")) for each in members})
    how = {"prompt_key": ", ".join(keys), **score}
    return Outcomes(score["model"], score["task"], members[0].measure, how, records)
