"""Tasks: a dataset, how it is asked, and the items of its test split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from medllm.artifacts.lineage import Input, open_output
from medllm.config.base import Strict
from medllm.config.loader import read_named
from medllm.data.example import Example, read_examples
from medllm.data.registry.datasets import Dataset, open_dataset
from medllm.data.sample import take_lowest
from medllm.errors import ConfigError, DataError
from medllm.evaluate.config import EvaluateConfig

SHIPPED = Path(__file__).parent / "tasks"


class TaskSpec(Strict):
    """A task, from its YAML."""

    description: str = ""
    """What it measures."""
    kind: Literal["choices", "answers", "texts"]
    """`choices`: the likeliest one after the prompt; `answers`, `texts`: the perplexity of whole
    answers, or of whole texts."""
    dataset: str | None = None
    """Dataset of the registry; without one, the test split of the prepared data."""


class Task:
    """A task with its items at hand.

    Raises:
        ConfigError: it is unknown, or needs data that are not named.
    """

    def __init__(self, name: str, config: EvaluateConfig) -> None:
        self.name = name
        self.spec = read_named(TaskSpec, "task", name, SHIPPED, config.task_dir)
        self._config = config
        self.source: Dataset | Input
        if self.spec.dataset:
            self.source = open_dataset(
                self.spec.dataset, data_dir=config.data_dir, accepted=config.data_use
            )
        elif config.data:
            self.source = open_output(config.data, "prepare", "test.jsonl", "evaluation data")
        else:
            fix = "--data DIR, a folder that `medllm prepare` wrote"
            raise ConfigError(f"the task {name} needs prepared data", fix)

    def items(self) -> list[Example]:
        """The items of the test split, up to the limit; for choices, those that have some.

        Raises:
            DataError: there is none.
        """
        rows = self._test_split()
        if self.spec.kind == "choices":
            rows = (row for row in rows if row.choices)
        limit = self._config.limit
        if limit:
            keyed = ((self.name, row) for row in rows)
            rows = iter(take_lowest(keyed, limit, self._config.seed).get(self.name, []))
        items = list(rows)
        if not items:
            fix = "check the data: a test split with answers is needed"
            raise DataError(f"the task {self.name} has no items", fix)
        return items

    def _test_split(self) -> Iterator[Example]:
        if isinstance(self.source, Input):
            return read_examples(self.source.path / "test.jsonl")
        return self.source.in_split("test", self._config.split)
