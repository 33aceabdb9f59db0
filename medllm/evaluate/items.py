"""The items of a task: rows of its test split, in its words."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.lineage import Input, open_output
from medllm.artifacts.manifest import NAME
from medllm.data.example import Example, Rejected, read_examples
from medllm.data.generators.canaries import ROLE, is_canary
from medllm.data.registry.datasets import Dataset, open_dataset
from medllm.data.sample import take_lowest
from medllm.data.split import official_split
from medllm.errors import ConfigError, DataError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.fewshot import Shots
from medllm.evaluate.kinds import find_kind
from medllm.evaluate.kinds.base import Decides
from medllm.tasks.harness import HarnessData
from medllm.tasks.spec import WORDS, find_task
from medllm.tasks.words import put_as

PREPARED = "--data DIR, a folder that `medllm prepare` wrote"


@dataclass(frozen=True, slots=True)
class Items:
    """What a task asks, and how many rows of its test split it cannot ask, by reason."""

    examples: list[Example]
    rejected: Counter[str]


class Task:
    """A task with its data at hand.

    Raises:
        ConfigError: it is unknown, is not scored, needs data that are not named, or the prepared
            data are in other words.
    """

    def __init__(self, name: str, config: EvaluateConfig) -> None:
        self.name = name
        self.spec = find_task(name, "evaluate", config.task_dir)
        self.kind = find_kind(self.spec.kind or "")
        self.config = config
        self.source: Dataset | Input
        if self.spec.harness and self.spec.folder:
            self.source = HarnessData.open(self.spec.harness, self.spec.folder)
        elif self.spec.dataset:
            self.source = open_dataset(
                self.spec.dataset, data_dir=config.data_dir, accepted=config.data_use
            )
        elif config.data and self.spec.whole and not _is_prepared_folder(config.data):
            self.source = open_dataset(
                str(config.data), data_dir=config.data_dir, accepted=config.data_use
            )
        elif config.data:
            self.source = open_output(config.data, "prepare", "test.jsonl", "evaluation data")
        else:
            needed = "a text to read" if self.spec.whole else "prepared data"
            fix = "--data FILE, or a folder" if self.spec.whole else PREPARED
            raise ConfigError(f"the task {name} needs {needed}", fix)
        self._is_put = not self.spec.has_words or self._is_prepared()
        of_task = self.spec.harness.num_fewshot if self.spec.harness else 0
        self.num_fewshot = (config.num_fewshot or of_task) if self.kind.takes_examples else 0
        if self.num_fewshot < config.num_fewshot:
            console.notice(f"evaluate: {name} is asked without worked examples: it has no choices")

    @cached_property
    def shots(self) -> Shots:
        """Its worked examples.

        Raises:
            ConfigError: `num_fewshot` asks for some, and nothing is there to train on.
        """
        return Shots(self.name, self.spec, self.num_fewshot, self._rows_to_show())

    @property
    def decides(self) -> dict[str, Any]:
        """What of its specification decides a score, as plain data."""
        unsaid: dict[str, Any] = {} if self.spec.has_words else dict.fromkeys(WORDS, True)
        unsaid |= {"folder": True, "harness": {"dataset_kwargs"}}  # its files are digested
        own = self.kind.decides(self.config) if isinstance(self.kind, Decides) else {}
        return {**self.spec.model_dump(mode="json", exclude=unsaid), **own}

    def items(self) -> Items:
        """The items of the test split that can be scored, up to the limit.

        Raises:
            DataError: there is none.
        """
        rejected: Counter[str] = Counter()
        rows: Iterable[Example] = self._scorable(rejected)
        limit = self.config.limit or self.spec.most
        if limit:
            drawn = take_lowest(map(self._sorted, rows), limit, self.config.seed)
            rows = chain.from_iterable(drawn[sort] for sort in sorted(drawn))
        items = list(rows)
        if not items:
            raise self._without_items(rejected)
        for item in items:  # whatever is wrong with worked examples is said before a model loads
            self.shots.put(item, in_chat=False)
        return Items(items, rejected)

    def _scorable(self, rejected: Counter[str]) -> Iterator[Example]:
        """The rows that have what the kind scores; the others are counted."""
        for row in self._in_words(self._test_split(), rejected):
            if lacking := self.kind.lacking(row) or self._other_choices(row):
                rejected[lacking] += 1
            else:
                yield row

    def _sorted(self, row: Example) -> tuple[str, Example]:
        """The row, and the sort of rows that it is limited with."""
        return row.metadata[ROLE] if self.spec.rows == "trained_on" else self.name, row

    def _other_choices(self, row: Example) -> str | None:
        """That a row has other choices than the task asks for."""
        asked = self.spec.choices
        return f"other choices than {', '.join(asked)}" if asked and row.choices != asked else None

    def _without_items(self, rejected: Counter[str]) -> DataError:
        """Why nothing can be asked; rows that are no examples are of any split."""
        lost = rejected.copy()
        if isinstance(self.source, Dataset):
            lost.update(row.reason for row in self.source.examples() if isinstance(row, Rejected))
        told = ", ".join(f"{count} rows: {reason}" for reason, count in lost.items())
        message = f"the task {self.name} has no items" + (f" ({told})" if told else "")
        return DataError(message, "check the data: rows that hold what the task scores are needed")

    def _rows_to_show(self) -> Iterator[Example]:
        """What worked examples come from: the rows to train on, as the source has them."""
        rows = self._to_train_on()
        return (row for row in self._in_words(rows, Counter()) if not self.kind.lacking(row))

    def _to_train_on(self) -> Iterator[Example]:
        if isinstance(self.source, Input):
            yield from read_examples(self.source.path / "train.jsonl")
            return
        for row in self.source.examples():
            if isinstance(row, Example):
                place = self.source.split_of(row, self.config.split)
                # what a source gives to train on stays so, though a share of it validates training
                if place == "train" or (place == "validation" and official_split(row) == "train"):
                    yield row

    def _in_words(self, rows: Iterable[Example], rejected: Counter[str]) -> Iterator[Example]:
        """The rows as prepare would put them; those that lack something are counted."""
        for row in rows:
            put = row if self._is_put else put_as(row, self.name, self.spec, None)
            if isinstance(put, Rejected):
                rejected[put.reason] += 1
            else:
                yield put

    def _test_split(self) -> Iterator[Example]:
        if self.spec.rows == "trained_on":
            return self._with_roles()
        if self.spec.whole and isinstance(self.source, Dataset):
            return (row for row in self.source.examples() if isinstance(row, Example))
        rows = self._tested()
        first = next(rows, None)
        if first is None and self.spec.rows == "held_out" and isinstance(self.source, Dataset):
            what = f"evaluate: {self.name}"
            console.notice(f"{what}: no test split is here, so validation rows are asked")
            return self.source.in_split("validation", self.config.split)
        return chain([first], rows) if first else rows

    def _with_roles(self) -> Iterator[Example]:
        """The rows to train on and those of the test split; their metadata say which they are."""
        for role, rows in (("train", self._to_train_on()), ("test", self._tested())):
            for row in rows:
                named = "canary" if is_canary(row) else role
                yield replace(row, metadata={**row.metadata, ROLE: named})

    def _tested(self) -> Iterator[Example]:
        if isinstance(self.source, Input):
            return read_examples(self.source.path / "test.jsonl")
        return self.source.in_split("test", self.config.split)

    def _is_prepared(self) -> bool:
        """Whether the rows have the task's words from prepare.

        Raises:
            ConfigError: they have other words.
        """
        manifest = self.source.manifest if isinstance(self.source, Input) else None
        prepared = manifest.settings.get("words_of_tasks", {}) if manifest else {}
        words = {name: {key: said.get(key) for key in WORDS} for name, said in prepared.items()}
        if words and words.get(self.name) != self.spec.words and not self.spec.as_prepared:
            how = "before its words changed" if self.name in words else f"as {', '.join(words)}"
            message = f"the prepared data are not in the words of the task {self.name}"
            fix = f"prepare the data as {self.name}, or give the task a `dataset` of its own"
            raise ConfigError(f"{message}: they were prepared {how}", fix)
        return bool(words)


def _is_prepared_folder(data: Path) -> bool:
    """Whether `data` is what prepare wrote, whose test split is read."""
    return any((data / name).is_file() for name in (NAME, "test.jsonl"))
