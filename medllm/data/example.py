"""The one row, and its JSONL."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TextIO

from medllm import console
from medllm.artifacts.manifest import without_nan
from medllm.data.groups import Group
from medllm.data.readers.files import Source, open_text, read_lines
from medllm.errors import DataError

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


def said_by(role: Role, turns: Iterable[Message]) -> str:
    """What one side said in a conversation."""
    return "\n\n".join(turn.content for turn in turns if turn.role == role)


def last_question(turns: Sequence[Message]) -> tuple[str, str]:
    """What the user said last, and what the system and the user had said before."""
    asked = [at for at, turn in enumerate(turns) if turn.role == "user"]
    last = asked[-1] if asked else len(turns)
    before = "\n\n".join(turn.content for turn in turns[:last] if turn.role != "assistant")
    return (turns[last].content if asked else ""), before


@dataclass(frozen=True, slots=True)
class Example:
    """One training, calibration or evaluation item, whatever it came from.

    `id` is "<dataset>/<source id>"; `group` (patient, PMID, note family) is never cut by a split,
    nor is one that rows of several datasets share: `group_kind` says what it is an id of, and is
    empty where the row stands alone. `target` is the letter or the label where there are `choices`;
    `images` are paths.
    """

    id: str
    dataset: str
    group: str
    prompt: tuple[Message, ...]
    completion: str
    choices: tuple[str, ...] = ()
    target: str | None = None
    images: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    group_kind: str = ""

    @property
    def group_key(self) -> str:
        """What rows that must be in one split have in common, whichever dataset they are of."""
        if self.group_kind:
            return Group(self.group, self.group_kind).key
        return f"{self.dataset}/{self.group}"

    @property
    def text(self) -> str:
        """Prompt and completion as plain text."""
        return "\n".join([*(message.content for message in self.prompt), self.completion]).strip()


FIELDS = tuple(field.name for field in fields(Example))
ALWAYS = ("prompt", "completion")
"""The fields that stand in a file even where they are empty."""
TEXTS = ("id", "dataset", "group", "group_kind", "target")
AS_JSON = ("choices", "metadata")
"""What stands as text, and as JSON in text, in each row of the form `messages`."""
SAID = ("messages", "text")
"""What holds prompt and completion there: a conversation, or a text that answers nothing."""
ENCODER = json.JSONEncoder(ensure_ascii=False, default=str, allow_nan=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was left out, and why; it never holds the text."""

    id: str
    reason: str


def from_json(row: Mapping[str, Any]) -> Example:
    """The example that `to_json` or `to_messages` wrote."""
    row = plain_row(row)
    return Example(
        id=row["id"],
        dataset=row["dataset"],
        group=row["group"],
        prompt=tuple(Message(**message) for message in row["prompt"]),
        completion=row["completion"],
        choices=tuple(row.get("choices", ())),
        target=row.get("target"),
        images=tuple(row.get("images", ())),
        metadata=row.get("metadata", {}),
        group_kind=row.get("group_kind", ""),
    )


def to_json(example: Example) -> dict[str, Any]:
    """The example as plain data, without its empty fields."""
    row = {name: getattr(example, name) for name in FIELDS}  # `asdict` would copy all of it
    row["prompt"] = prompt_turns(example)
    return {name: value for name, value in row.items() if value or name in ALWAYS}


def to_messages(example: Example) -> dict[str, Any]:
    """The example as other trainers read it: with `messages`, or `text` where nothing is asked.

    `datasets` takes the columns and their types from the first rows of a file and stops at others,
    so every row has the same, and lists and metadata stand as JSON in text. Only rows with images
    have `images`, because TRL takes a file with this column for one with pictures.
    """
    row = {name: getattr(example, name) or "" for name in TEXTS}
    row |= {name: as_json(getattr(example, name)) for name in AS_JSON}
    if example.images:
        row["images"] = example.images
    if not example.prompt:
        return {**row, "text": example.completion}
    answer = {"role": "assistant", "content": example.completion}
    return {**row, "messages": [*prompt_turns(example), answer]}


def plain_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row that `to_messages` wrote in the form of `to_json`; other rows as they are."""
    if "prompt" in row or not all(isinstance(row.get(name), str) for name in (*TEXTS, *AS_JSON)):
        return row
    answered = [{"role": "assistant", "content": row["text"]}] if "text" in row else []
    try:
        *prompt, answer = row.get("messages", answered)
        read = {name: json.loads(row[name]) for name in AS_JSON}
        own = {name: value for name, value in row.items() if name not in SAID}
        own["target"] = own["target"] or None
        return {**own, **read, "prompt": prompt, "completion": answer["content"]}
    except (ValueError, TypeError, KeyError):
        return row


def prompt_turns(example: Example) -> list[dict[str, str]]:
    """The messages before the answer as plain data."""
    return [{"role": turn.role, "content": turn.content} for turn in example.prompt]


def open_private(path: Path) -> TextIO:
    """A new text file for writing that only its owner can read: it will hold text of data."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    # half of a surrogate pair, which UTF-8 cannot hold, becomes JSON's own escape
    return os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")


def write_row(file: TextIO, row: dict[str, Any]) -> None:
    """Write one line of JSONL."""
    file.write(as_json(row) + "\n")


def as_json(value: Any) -> str:
    """Plain data on one line; a number that is not finite, which JSON cannot hold, is null."""
    try:
        return ENCODER.encode(value)
    except ValueError:
        return ENCODER.encode(without_nan(value)[0])


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows, one JSON object a line, readable by the owner only; returns how many."""
    count = 0
    with open_private(path) as file:
        for row in rows:
            write_row(file, row)
            count += 1
    return count


def read_jsonl(path: Source, encoding: str = "utf-8") -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file, streamed.

    Raises:
        DataError: it is not UTF-8, or lines are no JSON objects; names the lines.
    """
    with open_text(path, newline="\n", encoding=encoding) as file:
        lines = enumerate(read_lines(path, file), 1)
        for number, line in lines:
            if not line.strip():
                continue
            row = _read_row(line)
            if isinstance(row, str):
                more = [n for n, line in lines if line.strip() and isinstance(_read_row(line), str)]
                also = f"; more lines are wrong: {console.some_of(more)}" if more else ""
                raise DataError(f"{path}:{number}: {row}{also}", "correct or remove the line")
            yield row


def _read_row(line: str) -> dict[str, Any] | str:
    """The JSON object on a line, or why it is none."""
    try:
        row = json.loads(line, object_pairs_hook=build_object)
    except (ValueError, RecursionError) as problem:
        return f"not JSON ({getattr(problem, 'msg', problem)})"
    return row if isinstance(row, dict) else "a row must be a JSON object"


def build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object of its pairs.

    Raises:
        ValueError: a key is written twice, so that one of its values would be lost.
    """
    built = dict(pairs)
    if len(built) != len(pairs):
        raise ValueError("a key is written twice")
    return built


def read_examples(path: Path) -> Iterator[Example]:
    """The examples of a file that medllm wrote, streamed.

    Raises:
        DataError: a row is none.
    """
    for number, row in enumerate(read_jsonl(path), 1):
        try:
            yield from_json(row)
        except (KeyError, TypeError):
            message = f"{path}: row {number} is not in medllm's form"
            raise DataError(message, "`medllm prepare` writes such rows") from None
