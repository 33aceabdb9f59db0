"""What a kind of task is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from medllm.data.example import Example
from medllm.engines.base import Engine
from medllm.evaluate.config import EvaluateConfig
from medllm.reports.page import Page
from medllm.tasks.spec import TaskSpec

Record = dict[str, Any]
"""What is known of an item, as plain data: its `id`, and either what was found, with the tokens
that it lost to fit into the context as `cut`, or why it was `not_asked`."""


Known = TypeVar("Known", bound=Mapping[str, Any])


def by_value(records: Iterable[Known], key: str) -> dict[Any, list[Known]]:
    """The records by what they have under a key, those without it aside."""
    found: dict[Any, list[Known]] = {}
    for record in records:
        if key in record:
            found.setdefault(record[key], []).append(record)
    return found


@dataclass(frozen=True, slots=True)
class Asking:
    """How the items of a task are put to a model."""

    config: EvaluateConfig
    in_chat: bool
    """Whether through the model's chat template, which it then has."""
    what: str
    """The words before the progress."""
    spec: TaskSpec = TaskSpec()
    """The task."""
    shows_text: bool = False
    """Whether a record may hold text of the item or of its answer: the data are open, or the
    configuration says so."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What a kind adds while it scores to how the items were asked; it stands in the score."""
    own: Sequence[Example] = ()
    """The items without worked examples; empty where none stand before them."""
    written: Path | None = None
    """Where answers lie until all are scored, for a run that is interrupted to go on from."""


MOST_FREQUENT = "most frequent label"
"""What always giving that scores, in the words of tables."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that a score has in the table, with the model's cell in it."""

    heading: str
    cell: str
    baselines: Mapping[str, str] = field(default_factory=dict)
    """The cells of what no model is needed for, by its name."""


class Kind(Protocol):
    """How the items of a task are scored: what that needs, its records, numbers and columns."""

    ability: type[Engine]
    """What an engine must be able to do."""
    takes_examples: bool
    """Whether worked examples may stand before an item."""
    settings: frozenset[str]
    """What of the section is of this kind and its like alone, besides `num_fewshot`."""
    measure: str
    """Which of its numbers stands for all where there is room for one."""

    def lacking(self, item: Example) -> str | None:
        """What an item lacks to be scored, as "no choices"; None where it lacks nothing."""

    def is_in_chat(self, config: EvaluateConfig) -> bool:
        """Whether items are asked through a chat template, where the model has one."""

    def score(self, engine: Engine, items: Sequence[Example], asking: Asking) -> Iterable[Record]:
        """A record of each item, in their order."""

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """The numbers of all items that were asked, with their intervals, and how many `items`."""

    def columns(self, score: Mapping[str, Any]) -> list[Column]:
        """What the table shows of the numbers, which have the name of their `task` with them."""


@runtime_checkable
class Decides(Kind, Protocol):
    """A kind whose scores hang on more than task and engine, as on an encoder."""

    def decides(self, config: EvaluateConfig) -> dict[str, Any]:
        """What that is, as plain data."""


@runtime_checkable
class Sees(Kind, Protocol):
    """A kind that may ask about the images of rows."""

    with_images: bool
    """Whether it does."""


@runtime_checkable
class Tells(Kind, Protocol):
    """A kind that has more to tell on the page of an evaluation than its numbers."""

    def tell(self, page: Page, score: Mapping[str, Any], records: Sequence[Record]) -> None:
        """Add it to the page, below a heading of its own."""


@runtime_checkable
class Pools(Kind, Protocol):
    """A kind whose scores on several tasks have one number together."""

    def pool(
        self, scores: Sequence[Mapping[str, Any]], records: Sequence[Record]
    ) -> dict[str, Any]:
        """The number of all `records` of a group of tasks, with how many `items`."""
