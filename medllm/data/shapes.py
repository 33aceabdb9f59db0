"""Rows → Examples: one function per shape of source, chosen by columns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

from medllm.data.example import Example, Message, Rejected, Role
from medllm.data.readers import KEY, Row

Shape = Callable[[str, int, Row], Example | Rejected]
"""(dataset, row number, row) → example; the row number is the id of last resort."""

PUBMEDQA_DECISIONS = ("yes", "no", "maybe")


def read_pubmedqa(dataset: str, number: int, row: Row) -> Example | Rejected:
    """PubMedQA, the raw release or the hub's.

    The raw one has upper-case columns and the PMID as key, the hub's lower-case columns and a
    nested `context`. The prompt is lm-evaluation-harness's, so that training, calibration and
    evaluation see the same text.
    """
    raw = "QUESTION" in row
    source_id = str(row.get(KEY) or row.get("pubid") or row.get("id") or number)
    question = _text(row.get("QUESTION" if raw else "question"))
    contexts = _contexts(row.get("CONTEXTS") if raw else row.get("context"))
    answer = _text(row.get("LONG_ANSWER" if raw else "long_answer"))
    decision = _text(row.get("final_decision")).lower()
    identity = f"{dataset}/{source_id}"
    if not question or not contexts:
        return Rejected(identity, "no question" if not question else "no context")
    if decision and decision not in PUBMEDQA_DECISIONS:
        return Rejected(identity, "unknown decision")
    if not answer and not decision:
        return Rejected(identity, "no answer")
    abstract = "\n".join(contexts)
    return Example(
        id=identity,
        dataset=dataset,
        group=source_id,
        prompt=(Message("user", f"Abstract: {abstract}\nQuestion: {question}\nAnswer:"),),
        completion=f"{decision}. {answer}".strip() if decision else answer,
        choices=PUBMEDQA_DECISIONS if decision else (),
        target=decision or None,
        metadata=_known({"year": row.get("YEAR")}),
    )


def _contexts(value: Any) -> list[str]:
    """The paragraphs of an abstract: a list, or a mapping (hub) or mappings (older `datasets`)."""
    if isinstance(value, Mapping):
        value = value.get("contexts")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [
            text
            for item in value
            if (text := _text(item.get("contexts") if isinstance(item, Mapping) else item))
        ]
    return []


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


def read_local(dataset: str, number: int, row: Row) -> Example | Rejected:
    """A user's row: messages, one of the usual column pairs, or plain text."""
    row = {str(name).strip().lower(): value for name, value in row.items()}
    identity = f"{dataset}/{_first(row, IDS) or number}"
    group = _first(row, GROUPS) or identity.partition("/")[2]
    turns = _turns(row)
    if turns is None:
        return Rejected(identity, "no known columns")
    prompt, completion = turns
    if not completion:
        return Rejected(identity, "no answer")
    used = {"messages", "text", "input", *GROUPS, *IDS, *(name for pair in PAIRS for name in pair)}
    return Example(
        id=identity,
        dataset=dataset,
        group=group,
        prompt=prompt,
        completion=completion,
        metadata=_known(
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
            asked = [_text(row[question])]
            if question == "instruction":
                asked.append(_text(row.get("input")))
            return _user("\n\n".join(filter(None, asked))), _text(row[answer])
    if "text" in row:
        return (), _text(row["text"])
    return None


def read_prompt(row: Row) -> tuple[Message, ...]:
    """The prompt of a user's row that need not have an answer; empty where there is none."""
    row = {str(name).strip().lower(): value for name, value in row.items()}
    if isinstance(row.get("messages"), list):
        turns = _from_messages([*row["messages"], {"role": "assistant", "content": ""}])
        return turns[0] if turns else ()
    for question, _ in PAIRS:
        if question in row:
            asked = [
                _text(row[question]),
                _text(row.get("input")) if question == "instruction" else "",
            ]
            return _user("\n\n".join(filter(None, asked)))
    return _user(_text(row.get("text")))


def _user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),) if text else ()


def _from_messages(messages: list[Any]) -> tuple[tuple[Message, ...], str] | None:
    turns: list[Message] = []
    for message in messages:
        if not isinstance(message, Mapping) or message.get("role") not in get_args(Role):
            return None
        turns.append(Message(message["role"], _text(message.get("content"))))
    if not turns or turns[-1].role != "assistant":
        return tuple(turns), ""
    return tuple(turns[:-1]), turns[-1].content


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((text for name in names if (text := _text(row.get(name)))), "")


def _text(value: Any) -> str:
    """A value as text that UTF-8 can hold: no NUL, no half of a surrogate pair."""
    text = "" if value is None else str(value).replace("\x00", "").strip()
    return text.encode("utf-8", errors="replace").decode()


def _known(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if value not in (None, "")}


SHAPES: dict[str, Shape] = {"pubmedqa": read_pubmedqa, "local": read_local}


def examples(dataset: str, shape: str, rows: Iterator[Row]) -> Iterator[Example | Rejected]:
    """Rows as examples, with the reason for each that is none."""
    read = SHAPES[shape]
    for number, row in enumerate(rows, 1):
        yield read(dataset, number, row)
