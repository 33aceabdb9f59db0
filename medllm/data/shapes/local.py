"""A user's own data, recognised by the usual names of columns."""

from collections.abc import Iterator, Mapping
from typing import Any

from medllm.data.example import FIELDS, Example, Message, Rejected, plain_row
from medllm.data.groups import Group, find_group, group_column, read_id
from medllm.data.left_out import LeftOut
from medllm.data.readers.csv_form import plain_cells
from medllm.data.readers.rows import KEY, Row
from medllm.data.shapes.columns import Columns, group_of, source_id_of
from medllm.data.shapes.conversation import (
    Conversation,
    earlier_turns,
    listed,
    messages_of,
    parts_of,
)
from medllm.data.shapes.values import first_of, images_of, is_missing, known, paragraphs_of, text_of

PAIRS = (
    ("prompt", "completion"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("question", "answers"),
    ("input", "target"),
    ("note", "summary"),
    ("findings", "impression"),
)
"""Columns that local data name its input and its answer by."""

CONVERSATIONS = ("messages", "conversations", "conversation")
SYSTEMS = ("system", "system_prompt")
CONTEXTS = ("history", "context", "contexts", "passage", "passages", "note", "abstract", "document")
"""Columns that a question is about; a history may be earlier turns, too."""
IDS = ("id", "note_id", KEY, "idx")
IMAGES = ("images", "image", "image_path", "image_file")
CUT = "turns_cut_off"
"""Metadata: how many turns of a conversation came after its last answer."""
PREPARED = ("id", "dataset", "group")
"""What every row has that medllm wrote, besides prompt and completion."""


class Fields:
    """A row's values by the names of its columns in lower case; knows which were used."""

    def __init__(self, row: Row) -> None:
        self.values: dict[str, Any] = {}
        for name, value in plain_row(plain_cells(row)).items():
            lower = str(name).strip().lower()
            self.values[f"{name} (again)" if lower in self.values else lower] = value
        nested = self.values.get("metadata")
        self._nested = nested if isinstance(nested, Mapping) else {}
        self.used: set[str] = {"metadata"} if self._nested else set()

    def has(self, name: str) -> bool:
        """Whether a column holds something."""
        if (value := self.values.get(name)) is None:
            return False
        if isinstance(value, str):
            return bool(value) and not value.isspace()
        return not is_missing(value) and value not in ([], (), {})

    def value(self, name: str) -> Any:
        """The value of a column, which is used by that."""
        self.used.add(name)
        return parts_of(self.values.get(name))

    def text(self, name: str) -> str:
        """The text of a column, which is used by that."""
        return text_of(self.value(name))

    def identity(self, names: tuple[str, ...]) -> str:
        """The id in the first of the columns that holds one; all of them are used by that."""
        self.used.update(names)
        return next(filter(None, (read_id(self.values.get(name)) for name in names)), "")

    def first(self, names: tuple[str, ...]) -> str:
        """The text of the first of the columns that holds some; all of them are used by that."""
        self.used.update(names)
        return first_of(self.values, names)

    def group(self) -> Group | None:
        """What a split must not cut through, also where nested metadata tell it."""
        if column := group_column(self.values):
            self.used.add(column)
        return find_group(self.values) or find_group(self._nested)

    def rest(self) -> dict[str, Any]:
        """What was not used, nested metadata among it."""
        own = {name: value for name, value in self.values.items() if name not in self.used}
        return known(
            {str(k): v for k, v in {**self._nested, **own}.items() if not str(k).startswith("__")}
        )


def read_local(dataset: str, number: int, row: Row, columns: Columns) -> Example | Rejected:
    """A user's row: a conversation, one of the usual column pairs, plain text, or medllm's own."""
    fields = Fields(row)
    identity = f"{dataset}/{number}"
    try:
        source_id = fields.identity(IDS) or str(number)
        if columns.id:
            source_id = source_id_of(number, fields.values, columns)
        identity = f"{dataset}/{source_id}"
        if _is_prepared(fields):
            return _prepared(fields)
        group = group_of(source_id, fields.values, columns) if columns.group else fields.group()
        return _build(dataset, source_id, group or Group(source_id, ""), fields)
    except LeftOut as problem:
        return Rejected(identity, str(problem))


def _build(dataset: str, source_id: str, group: Group, fields: Fields) -> Example:
    talk = _conversation(fields)
    cut = talk.cut_to_answer()
    completion = talk.turns.pop().content
    if not completion:
        raise LeftOut("no answer")
    fields.used.update(IMAGES)
    images = talk.show(images_of(fields.values, IMAGES))
    talk.check()
    rest = {f"messages.{name}": values for name, values in talk.rest.items()}
    return Example(
        id=f"{dataset}/{source_id}",
        dataset=dataset,
        group=group.id,
        prompt=tuple(talk.turns),
        completion=completion,
        images=images,
        metadata={**fields.rest(), **rest, **({CUT: cut} if cut else {})},
        group_kind=group.kind,
    )


def _is_prepared(fields: Fields) -> bool:
    has_prompt = messages_of(fields.values.get("prompt")) is not None
    return has_prompt and all(map(fields.has, PREPARED)) and "completion" in fields.values


def _prepared(fields: Fields) -> Example:
    """The example of a row that medllm wrote, of whatever dataset it was."""
    fields.used.update(FIELDS)
    row = fields.values
    talk = Conversation()
    talk.add(messages_of(row["prompt"]) or ())
    talk.check()
    dataset, completion = text_of(row["dataset"]), text_of(row["completion"])
    if not completion:
        raise LeftOut("no answer")
    return Example(
        id=f"{dataset}/{text_of(row['id']).removeprefix(f'{dataset}/')}",
        dataset=dataset,
        group=read_id(row["group"]),
        prompt=tuple(talk.turns),
        completion=completion,
        choices=tuple(paragraphs_of(row.get("choices"))),
        target=text_of(row.get("target")) or None,
        images=images_of(row, ("images",)),
        metadata=fields.rest(),
        group_kind=read_id(row.get("group_kind")),
    )


def read_prompt(row: Row) -> tuple[Message, ...]:
    """The prompt of a user's row that need not have an answer; empty where there is none.

    Raises:
        LeftOut: it holds what is not text.
    """
    fields = Fields(row)
    if images_of(fields.values, IMAGES):
        raise LeftOut("with images")
    if name := _conversation_column(fields):
        talk = _told(fields, name)
    elif question := _question(fields):
        talk = _asked(fields, question)
    else:
        text = fields.text("text")
        talk = Conversation([Message("user", text)] if text else [])
    while talk.turns and talk.turns[-1].role == "assistant":  # what is to be answered anew
        talk.turns.pop()
    if talk.images:
        raise LeftOut("with images")
    talk.check()
    return tuple(talk.turns)


def _question(fields: Fields) -> str | None:
    """The column that asks: that of the pair to train on, else one that holds something."""
    pairs = [pair[0] for pair in PAIRS if fields.values.keys() >= set(pair)]
    alone = [question for question, _ in PAIRS if question != "instruction"]
    return next(filter(fields.has, (*pairs, *alone, "instruction")), None)


def _conversation(fields: Fields) -> Conversation:
    """A row as who said what; plain text is an answer to nothing."""
    if name := _conversation_column(fields):
        return _told(fields, name)
    named = [pair for pair in PAIRS if pair[0] in fields.values and pair[1] in fields.values]
    whole = [pair for pair in named if fields.has(pair[1]) and _is_asked(fields, pair[0])]
    if not whole and "text" in fields.values and (fields.has("text") or not named):
        return Conversation([Message("assistant", fields.text("text"))])
    for question, answer in whole or named:
        return _answered(fields, question, answer)
    raise LeftOut("no answer" if _is_empty_conversation(fields) else "no known columns")


def _conversation_column(fields: Fields) -> str | None:
    found = (name for name in CONVERSATIONS if messages_of(fields.values.get(name)))
    return next(found, None)


def _is_empty_conversation(fields: Fields) -> bool:
    return any(fields.values.get(name) == [] for name in CONVERSATIONS)


def _is_asked(fields: Fields, question: str) -> bool:
    """Whether there is a question; TRL's empty prompt says that there need be none."""
    if question == "prompt":
        return not is_missing(fields.values[question])
    return fields.has(question) or (question == "instruction" and fields.has("input"))


def _answered(fields: Fields, question: str, answer: str) -> Conversation:
    if not fields.has(answer):
        raise LeftOut("no answer")
    if not _is_asked(fields, question):
        raise LeftOut(f"no {question}")
    talk = _asked(fields, question)
    said = fields.value(answer)
    messages = messages_of(said)
    talk.add([{"role": "assistant", "content": said}] if messages is None else messages)
    return talk


def _asked(fields: Fields, question: str) -> Conversation:
    """What a column asks, after the system's words, earlier turns, and what it is about."""
    talk = Conversation()
    if system := fields.first(SYSTEMS):
        talk.add([{"role": "system", "content": system}])
    history = listed(fields.values.get("history"))
    if isinstance(history, list | tuple):
        fields.used.add("history")
        talk.add(earlier_turns(history))
    asked = fields.value(question)
    messages = messages_of(asked)
    if messages is None:
        text = "\n\n".join(filter(None, _words(fields, question)))
        messages = [{"role": "user", "content": text}] if text else []
    talk.add(messages)
    return talk


def _words(fields: Fields, question: str) -> list[str]:
    """The texts of a question in order: its instruction first, what it is about before it."""
    asked = fields.text(question)
    about = list(_contexts(fields, question, asked))
    if question == "instruction":
        return [asked, fields.text("input"), *about]
    instruction = fields.text("instruction") if question != "prompt" else ""
    return [instruction, *about, asked]


def _contexts(fields: Fields, question: str, asked: str) -> Iterator[str]:
    """What a question is about, as far as it does not hold that itself."""
    for name in CONTEXTS:
        if name != question and name not in fields.used and fields.has(name):
            text = "\n\n".join(paragraphs_of(fields.value(name)))
            if text not in asked:
                yield text


def _told(fields: Fields, column: str) -> Conversation:
    talk = Conversation()
    talk.add(messages_of(fields.value(column)) or ())
    if not any(turn.role == "system" for turn in talk.turns) and (system := fields.first(SYSTEMS)):
        talk.turns.insert(0, Message("system", system))
    return talk
