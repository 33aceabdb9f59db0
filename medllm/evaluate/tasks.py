"""Tasks: a dataset, how it is asked, and the items of its test split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from medllm.artifacts.lineage import open_input
from medllm.artifacts.manifest import DataTerm, Parent
from medllm.config.base import Strict
from medllm.config.loader import read_yaml, validate
from medllm.data.example import Example, read_examples
from medllm.data.registry import Dataset, keep_examples, open_dataset
from medllm.data.sample import take_lowest
from medllm.data.split import split_of
from medllm.errors import ArtifactError, ConfigError, DataError, did_you_mean
from medllm.evaluate.config import EvaluateConfig

SHIPPED = Path(__file__).parent / "tasks"


class TaskSpec(Strict):
    """A task, from its YAML."""

    description: str = ""
    """What it measures."""
    kind: Literal["choices", "answers"]
    """`choices`: the likeliest one after the prompt; `answers`: the perplexity of whole answers."""
    dataset: str | None = None
    """Dataset of the registry; without one, the test split of the prepared data."""


class Task:
    """A task with its items at hand."""

    def __init__(self, name: str, spec: TaskSpec, config: EvaluateConfig) -> None:
        self.name = name
        self.spec = spec
        self._config = config
        self._dataset: Dataset | None = None
        if spec.dataset:
            self._dataset = open_dataset(
                spec.dataset, data_dir=config.data_dir, accepted=config.data_use
            )
            self.parent: Parent = self._dataset.parent
            self.data_terms: tuple[DataTerm, ...] = (self._dataset.term,)
            return
        if config.data is None:
            raise ConfigError(
                f"the task {name} needs prepared data",
                "--data DIR, a folder that `medllm prepare` wrote",
            )
        data = open_input(config.data, ("dataset",), "evaluation data")
        if not (data.path / "test.jsonl").is_file():
            raise ArtifactError(
                f"{data.path}: has no test.jsonl", "name a folder that `medllm prepare` wrote"
            )
        self.parent, self.data_terms, self._path = (
            data.parent,
            data.data_terms,
            data.path / "test.jsonl",
        )

    def items(self) -> list[Example]:
        """The items of the test split, up to the limit; for choices, those that have some.

        Raises:
            DataError: there is none.
        """
        rows = self._test_split()
        if self.spec.kind == "choices":
            rows = (row for row in rows if row.choices)
        limit = self._config.limit
        items = take_lowest(rows, limit, self._config.seed) if limit else list(rows)
        if not items:
            raise DataError(
                f"the task {self.name} has no items",
                "check the data: a test split with answers is needed",
            )
        return items

    def _test_split(self) -> Iterator[Example]:
        if self._dataset is None:
            yield from read_examples(self._path)
            return
        for row in keep_examples(self._dataset.examples(), {}):
            if split_of(row, self._config.split, self._dataset.test_ids) == "test":
                yield row


def list_tasks(folder: Path | None = None) -> dict[str, Path]:
    """All tasks by name; the user's come over the shipped ones."""
    folders = [SHIPPED, *([folder] if folder else [])]
    return {path.stem: path for place in folders for path in sorted(place.glob("*.yaml"))}


def open_tasks(config: EvaluateConfig) -> list[Task]:
    """The tasks that a configuration names.

    Raises:
        ConfigError: one is unknown, or needs data that are not named.
    """
    return [Task(name, _find(name, config.task_dir), config) for name in config.tasks]


def _find(name: str, folder: Path | None) -> TaskSpec:
    tasks = list_tasks(folder)
    if name not in tasks:
        fix = f"{did_you_mean(name, tasks)}known: {', '.join(sorted(tasks))}"
        raise ConfigError(f"unknown task '{name}'", fix)
    return validate(TaskSpec, read_yaml(tasks[name]))
