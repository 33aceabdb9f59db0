"""A user's own data, recognised by the usual names of columns."""

from collections.abc import Mapping
from typing import Any, get_args

from medllm.data.example import Example, Message, Rejected, Role
from medllm.data.readers import KEY, Row
from medllm.data.shapes.columns import Columns
from medllm.data.shapes.values import LeftOut, first_of, images_of, known, text_of

PAIRS = (
    ("prompt", "completion"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("input", "target"),
    ("note", "summary"),
    ("findings", "impression"),
)
"""Columns that local data name its input and its answer by."""

GROUPS = ("group", "patient_id", "subject_id", "pmid", "note_id")
IDS = ("id", "note_id", KEY, "idx")
IMAGES = ("images", "image", "image_path", "image_file")


def read_local(dataset: str, number: int, row: Row, columns: Columns) -> Example | Rejected:
    """A user's row: messages, one of the usual column pairs, or plain text."""
    row = {str(name).strip().lower(): value for name, value in row.items()}
    identity = f"{dataset}/{number}"
    try:
        source_id = first_of(row, IDS) or str(number)
        identity = f"{dataset}/{source_id}"
        return _build(dataset, source_id, row)
    except LeftOut as problem:
        return Rejected(identity, str(problem))


def _build(dataset: str, source_id: str, row: Mapping[str, Any]) -> Example:
    turns = _turns(row)
    if turns is None:
        raise LeftOut("no known columns")
    prompt, completion = turns
    if not completion:
        raise LeftOut("no answer")
    paired = (name for pair in PAIRS for name in pair)
    used = {"messages", "text", "input", *GROUPS, *IDS, *IMAGES, *paired}
    return Example(
        id=f"{dataset}/{source_id}",
        dataset=dataset,
        group=first_of(row, GROUPS) or source_id,
        prompt=prompt,
        completion=completion,
        images=images_of(row, IMAGES),
        metadata=known(
            {
                name: value
                for name, value in row.items()
                if name not in used and not name.startswith("__")
            }
        ),
    )


def _turns(row: Mapping[str, Any]) -> tuple[tuple[Message, ...], str] | None:
    if isinstance(row.get("messages"), list):
        return _from_messages(row["messages"])
    for question, answer in PAIRS:
        if question in row and answer in row:
            return _asked(row, question), text_of(row[answer])
    if "text" in row:
        return (), text_of(row["text"])
    return None


def read_prompt(row: Row) -> tuple[Message, ...]:
    """The prompt of a user's row that need not have an answer; empty where there is none.

    Raises:
        LeftOut: it holds what is not text.
    """
    row = {str(name).strip().lower(): value for name, value in row.items()}
    if isinstance(row.get("messages"), list):
        turns = _from_messages([*row["messages"], {"role": "assistant", "content": ""}])
        return turns[0] if turns else ()
    for question, _ in PAIRS:
        if question in row:
            return _asked(row, question)
    return _user(text_of(row.get("text")))


def _asked(row: Mapping[str, Any], question: str) -> tuple[Message, ...]:
    """What a column asks; an instruction may come with an input."""
    names = (question, "input") if question == "instruction" else (question,)
    return _user("\n\n".join(filter(None, (text_of(row.get(name)) for name in names))))


def _user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),) if text else ()


def _from_messages(messages: list[Any]) -> tuple[tuple[Message, ...], str] | None:
    turns: list[Message] = []
    for message in messages:
        if not isinstance(message, Mapping) or message.get("role") not in get_args(Role):
            return None
        turns.append(Message(message["role"], text_of(message.get("content"))))
    if not turns or turns[-1].role != "assistant":
        return tuple(turns), ""
    return tuple(turns[:-1]), turns[-1].content
