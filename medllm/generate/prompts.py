"""The prompts of a file, and what is told of their rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medllm import console
from medllm.data.example import Example, Message
from medllm.data.left_out import LeftOut
from medllm.data.readers.reviewed import ContextReader
from medllm.data.readers.rows import read_rows
from medllm.data.shapes import read_prompt
from medllm.data.shapes.columns import Columns
from medllm.data.shapes.local import read_local
from medllm.data.shapes.values import text_of
from medllm.errors import DataError

NAMED = 5
"""Rows that a notice names."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A row that can be asked."""

    number: int
    """Of the row in the file, from 1."""
    id: str
    messages: tuple[Message, ...]
    reference: str = ""
    """The answer that the row has; the model is not told of it."""
    is_twice: bool = False
    """Whether another row has this id."""
    patient: Mapping[str, Any] | None = None
    """What is known of the patient, for a review; the model is not told of it."""

    @property
    def names(self) -> dict[str, Any]:
        """What a row of the result is known by."""
        return {"id": self.id} | ({"row": self.number} if self.is_twice else {})


def read_prompts(
    source: Path, rejected: Counter[str], contexts: ContextReader | None, *, of_texts: bool = False
) -> list[Prompt]:
    """The rows that have a prompt; the others are counted by reason, and named.

    `of_texts`: a row's `text` is its prompt where there is one, whatever else stands there.

    Raises:
        DataError: no row has one, or there is none.
    """
    prompts: list[Prompt] = []
    left_out: list[int] = []
    for number, row in enumerate(read_rows(source), 1):
        patient = None
        if contexts:
            row, patient = contexts.split(row, f"{source}: row {number}")
        try:
            messages = read_prompt(_text_alone(row) if of_texts else row)
            if not messages:
                raise LeftOut("no prompt")
            id_ = text_of(row.get("id")) or str(number)
            prompts.append(Prompt(number, id_, messages, _reference(row), patient=patient))
        except LeftOut as problem:
            rejected[str(problem)] += 1
            left_out.append(number)
    if contexts:
        contexts.check_column(source)
    if not prompts and not left_out:
        raise DataError(f"{source}: no rows in it", "name a file of prompts, one a row or line")
    if not prompts:
        told = ", ".join(f"{count:,} {reason}" for reason, count in rejected.most_common())
        fix = "name the column `prompt`, `question`, `messages` or `text`"
        raise DataError(f"{source}: no row has a prompt ({told})", fix)
    if left_out:
        console.notice(f"generate: no prompt in {named(left_out)} of {source.name}")
    ids = Counter(prompt.id for prompt in prompts)
    return [replace(prompt, is_twice=ids[prompt.id] > 1) for prompt in prompts]


def _text_alone(row: dict[str, Any]) -> dict[str, Any]:
    """The text of a row; all of the row where it has none."""
    texts = {name: row[name] for name in row if str(name).strip().lower() == "text"}
    return texts if any(map(text_of, texts.values())) else row


def _reference(row: Mapping[str, Any]) -> str:
    """The answer that a row has to its prompt; empty where it has none."""
    made = read_local("prompts", 1, dict(row), Columns())
    return made.completion if isinstance(made, Example) and made.prompt else ""


def count_ids(prompts: Sequence[Prompt]) -> dict[str, int]:
    """How many rows share an id with another; says so."""
    twice = [prompt.number for prompt in prompts if prompt.is_twice]
    if twice:
        console.notice(f"generate: {named(twice)} share an id: `row` tells them apart")
    return {"rows_that_share_an_id": len(twice)}


def count_failed(source: Path, failed: Mapping[int, str], asked: int, fix: str) -> int:
    """How many rows have no answer; says which. Where none has one, that is an error."""
    if failed:
        first = next(iter(failed.values()))
        told = f"{named([*failed])} of {source.name} cannot be answered: {first}"
        if len(failed) == asked:
            raise DataError(told, fix)
        console.notice(f"generate: {told}; the others are")
    return len(failed)


def named(rows: Sequence[int]) -> str:
    """The numbers of some rows, the first of them."""
    more = f" and {len(rows) - NAMED} others" if len(rows) > NAMED else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:NAMED]))}{more}"
