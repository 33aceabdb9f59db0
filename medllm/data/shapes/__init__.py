"""Rows → Examples: one function per shape of source, chosen by columns."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.metadata import entry_points
from typing import Any, cast

from medllm.data.example import Example, Rejected
from medllm.data.generators import GENERATORS
from medllm.data.readers.rows import Row
from medllm.data.shapes import multiple_choice, pubmedqa, rubrics
from medllm.data.shapes.columns import Columns, read_columns, used_by
from medllm.data.shapes.entities import read_entities
from medllm.data.shapes.local import CUT, IMAGES, read_local, read_prompt
from medllm.data.shapes.multiple_choice import read_multiple_choice
from medllm.data.shapes.pubmedqa import read_pubmedqa
from medllm.data.shapes.rubrics import read_rubrics
from medllm.data.shapes.values import columns_of, image_choices

Shape = Callable[[str, int, Row, Columns], Example | Rejected]
"""(dataset, row number, row, columns) → example; the row number is the id of last resort."""

ENTRY_POINTS = "medllm.shapes"
"""Group in which an installed package names shapes of its own: `name = "module:function"`."""


def read_generated(shape: str, dataset: str, number: int, row: Row, columns: Columns) -> Example:
    """A row of a generated dataset, which holds its number alone."""
    return GENERATORS[shape].build_example(0, row["number"])


SHAPES: dict[str, Shape] = {
    "columns": read_columns,
    "local": read_local,
    "multiple_choice": read_multiple_choice,
    "entities": read_entities,
    "pubmedqa": read_pubmedqa,
    "rubrics": read_rubrics,
    **{name: partial(read_generated, name) for name in GENERATORS},
}


READ = {
    "columns": frozenset(),
    "entities": frozenset({"text"}),
    "multiple_choice": multiple_choice.READ,
    "pubmedqa": pubmedqa.READ,
    "rubrics": rubrics.READ,
}
"""The columns that a shape reads besides those that the dataset's YAML names."""
GROUPED = frozenset({"id", "group", "group_kind", "group_pattern"})
ANSWERED = frozenset({"first_answer", "answers"})
NAMED = {
    "columns": Columns.model_fields.keys() - ANSWERED,
    "local": GROUPED,
    "multiple_choice": GROUPED | ANSWERED | {"prompt", "metadata", "cut"},
    "pubmedqa": frozenset({"group_kind"}),
}
"""Of `columns:` in a dataset's YAML, what a shape of medllm goes by; the others by none of it."""
SPLIT_AND_TASK = ("split", "task")
"""Columns that place a row, where they stand beside the text."""


def unread_columns(shape: str, columns: Columns, names: Sequence[Any]) -> tuple[Any, ...]:
    """Which columns of a file its shape does not read; none where a package's shape reads it."""
    if shape not in READ:
        return ()
    used = used_by(columns, tuple(names))
    own = {*READ[shape], *SPLIT_AND_TASK}
    return tuple(n for n in names if n not in used and n not in own and not str(n).startswith("__"))


def unasked(example: Example) -> list[str]:
    """The columns of a user's row that are kept beside its text, but that no model will see."""
    return [name for name in example.metadata if name not in (*SPLIT_AND_TASK, CUT)]


def images_at_hand(shape: str, columns: Columns, row: Row) -> list[tuple[str, ...]]:
    """The images in each of the columns of a row that may hold some."""
    at_hand = columns_of(tuple(row))
    names = IMAGES if shape == "local" else columns.images
    return image_choices(row, [at_hand[n.lower()] for n in names if n.lower() in at_hand])


def passed_over(shape: str, columns: Columns) -> list[str]:
    """What a dataset's YAML says of its columns and its shape, if it is medllm's, does not read."""
    if shape not in SHAPES:
        return []
    return sorted(columns.model_fields_set - NAMED.get(shape, frozenset()))


def list_shapes() -> list[str]:
    """The names of all shapes, medllm's and those of installed packages."""
    return sorted({*SHAPES, *entry_points(group=ENTRY_POINTS).names})


@cache
def find_shape(name: str) -> Shape:
    """The function of a shape; a name of `list_shapes`."""
    if name in SHAPES:
        return SHAPES[name]
    (found,) = entry_points(group=ENTRY_POINTS, name=name)
    return cast(Shape, found.load())


__all__ = [
    "CUT",
    "SHAPES",
    "Columns",
    "Shape",
    "find_shape",
    "images_at_hand",
    "list_shapes",
    "passed_over",
    "read_prompt",
    "unasked",
    "unread_columns",
]
