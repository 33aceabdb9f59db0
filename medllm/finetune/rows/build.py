"""Examples → token ids and labels: loss on the answer and its end alone, never on padding."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from medllm import console
from medllm.data.example import Example, read_examples
from medllm.errors import DataError
from medllm.finetune.config import FinetuneConfig, OverLength, TrainingSettings, Turns
from medllm.models.chat.template import Rendered, Template, render_example
from medllm.models.chat.turns import Span, encode_parts, find_answers

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

IGNORED = -100
"""The label that PyTorch's cross entropy leaves out."""


CHUNK = 1000
"""Rows that are in memory as Python's lists at a time."""
FEWEST = 2
"""Training examples; from a single one nothing general can be learned."""


@dataclass
class RowCounts:
    """What happened to the examples on their way to the trainer."""

    examples: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    truncated: int = 0
    too_long: int = 0
    dropped: int = 0
    """Examples whose answer fits, but not with the prompt."""
    answers: int = 0
    """Answers that are trained on: of a conversation all, or its last."""
    answers_not_trained: int = 0
    """Earlier answers that are not: their prompt was cut there, or the template hides them."""
    images: int = 0
    images_too_long: int = 0
    """Examples that do not fit with their images, which cannot be cut."""
    images_spelled: int = 0
    """Examples with images whose prompt spells a special token, which a processor would read."""

    def announce(self, what: str, max_length: int) -> None:
        """Say what was cut or left out of the examples in `what`."""
        if self.truncated:
            cut = f"{console.counted(self.truncated, 'prompt')} of {what} cut in the middle"
            console.notice(f"finetune: {cut} to fit {max_length} tokens")
        if self.answers_not_trained:
            answers = console.counted(self.answers_not_trained, "earlier answer")
            console.notice(
                f"finetune: {answers} of {what} not trained on: cut, or rendered by the chat "
                "template unlike a new answer"
            )
        for reason, count in self.rejected.items():
            left_out = f"{console.counted(count, 'example')} of {what} left out"
            console.notice(f"finetune: {left_out}: {reason}")

    @property
    def rejected(self) -> dict[str, int]:
        """How many examples were left out, by reason."""
        reasons = {
            "answer longer than max_length": self.too_long,
            "longer than max_length": self.dropped,
            "longer than max_length with its images": self.images_too_long,
            "a special token is spelled beside images": self.images_spelled,
        }
        return {reason: count for reason, count in reasons.items() if count}

    def add(self, row: "Row", answers: int, images: int = 0) -> None:
        """Count an example that is trained on, with so many answers."""
        self.examples += 1
        self.tokens += len(row.input_ids)
        self.trained_tokens += len(row.labels) - row.labels.count(IGNORED)
        self.answers += answers
        self.images += images


@dataclass(frozen=True)
class Limit:
    """The most tokens of a row, and what becomes of an example that has more."""

    max_length: int
    over_length: OverLength = "truncate"
    turns: Turns = "all"
    """Which answers of a conversation are trained on."""

    @classmethod
    def of(cls, training: TrainingSettings) -> Self:
        """That of a training."""
        return cls(training.max_length, training.over_length, training.train_on_turns)

    def fit(
        self, given: "Prompt", completion: list[int], counts: RowCounts, images: int = 0
    ) -> "Row | None":
        """The row, its prompt without the middle where it is too long; None where it is left out.

        Left out is an answer that is too long alone, and a prompt with images that is too long.
        """
        prompt, room = given.ids, self.max_length - len(completion)
        if room < 0:
            counts.too_long += 1
            return None
        if len(prompt) > room and images:
            counts.images_too_long += 1
            return None
        if len(prompt) > room and self.over_length == "drop":
            counts.dropped += 1
            return None
        counts.truncated += len(prompt) > room
        fitting = given.within(room)
        counts.answers_not_trained += given.hidden + len(given.answers) - len(fitting.answers)
        row = Row(fitting.ids + completion, fitting.labels + completion)
        counts.add(row, len(fitting.answers) + 1, images)
        return row


@dataclass(frozen=True)
class Row:
    """What the trainer reads of an example."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Prompt:
    """The token ids before the last answer, and where the earlier answers stand among them."""

    ids: list[int]
    answers: tuple[Span, ...] = ()
    hidden: int = 0
    """Earlier answers whose place is not known."""

    @classmethod
    def of(cls, parts: Iterable[tuple[list[int], int]], hidden: int = 0) -> Self:
        """From its parts, and how many tokens at the beginning of each are answer."""
        ids: list[int] = []
        answers = []
        for part, answer in parts:
            if answer:
                answers.append((len(ids), len(ids) + answer))
            ids += part
        return cls(ids, tuple(answers), hidden)

    @property
    def labels(self) -> list[int]:
        """The ids of the answers, IGNORED elsewhere."""
        labels = [IGNORED] * len(self.ids)
        for begin, end in self.answers:
            labels[begin:end] = self.ids[begin:end]
        return labels

    def within(self, room: int) -> "Prompt":
        """Its beginning and end where it does not fit, and the answers that are whole in them."""
        if len(self.ids) <= room:
            return self
        tail = room // 2
        head, lost = room - tail, len(self.ids) - room
        answers = [(begin, end) for begin, end in self.answers if end <= head]
        answers += [
            (begin - lost, end - lost) for begin, end in self.answers if begin >= head + lost
        ]
        return Prompt(self.ids[:head] + self.ids[head + lost :], tuple(answers))


def build_rows(
    path: Path, template: Template, limit: Limit, counts: RowCounts
) -> Iterator[dict[str, list[int]]]:
    """Rows {input_ids, labels} of the examples that fit."""
    for example in read_examples(path):
        if row := build_row(example, template, limit, counts):
            yield row


def build_row(
    example: Example, template: Template, limit: Limit, counts: RowCounts
) -> dict[str, list[int]] | None:
    """The row of an example, if it fits."""
    rendered = render_example(template, example)
    completion = template.encode(rendered.completion, add_special_tokens=False)
    row = limit.fit(encode_prompt(template, example, rendered, limit), completion, counts)
    return vars(row) if row else None


def encode_prompt(template: Template, example: Example, rendered: Rendered, limit: Limit) -> Prompt:
    """The prompt of an example, with the earlier answers that are to be trained on."""
    if limit.turns == "last":
        return Prompt(template.encode(rendered.prompt, add_special_tokens=rendered.is_plain))
    answers = find_answers(template, example, rendered)
    return Prompt.of(encode_parts(template, rendered, answers), answers.hidden)


@dataclass(frozen=True)
class Splits:
    """The rows {input_ids, labels} that a training reads."""

    train: "Dataset"
    validation: "Dataset | None"
    counts: RowCounts
    """Of the training examples."""
    validation_counts: RowCounts | None = None
    """Of the validation examples."""
    collate: "Callable[[Sequence[dict[str, Any]]], dict[str, Tensor]] | None" = None
    """What makes a batch of rows with images."""
    is_packed: bool = False

    @property
    def longest(self) -> int:
        """The tokens of the longest row."""
        return max(max(lengths_of(rows)) for rows in (self.train, self.validation) if rows)

    def packed(self, config: FinetuneConfig, padding: int | None = None) -> "Splits":
        """With several training examples in a row of at most `max_length` tokens.

        Each row is filled up to exactly so many with `padding`, a token, if it is given: a text of
        its own, which no other sees and nothing is learned from.
        """
        mixed, room = self.train.shuffle(config.seed), config.training.max_length
        with console.quiet():  # they draw bars of their own
            from trl import pack_dataset

            packed = pack_dataset(mixed, room)
            if padding is not None:
                fill = partial(_fill, room=room, padding=padding)
                packed = packed.map(fill, features=packed.features)
        times = len(mixed) / len(packed)
        console.notice(
            f"finetune: {len(mixed)} examples share {len(packed)} rows of up to {room} tokens: a "
            f"step sees {times:.1f} times as many as per_device_train_batch_size says"
        )
        return replace(self, train=packed, is_packed=True)


def _fill(row: dict[str, list[int]], room: int, padding: int) -> dict[str, list[int]]:
    """The packed row with a last text of padding, where there is room for one."""
    free = room - len(row["input_ids"])
    ends = {"input_ids": [padding] * free, "labels": [IGNORED] * free, "seq_lengths": [free]}
    return {name: values + ends[name] if free else values for name, values in row.items()}


class ImageRows(Protocol):
    """What reads examples with images."""

    def load_rows(self, path: Path, limit: Limit) -> "tuple[Dataset, RowCounts]":
        """The rows of a prepared file, and their counts."""

    def collate(self, rows: Sequence[dict[str, Any]]) -> "dict[str, Tensor]":
        """A batch of rows."""


def load_splits(
    data: Path, template: Template, limit: Limit, images: "ImageRows | None" = None
) -> Splits:
    """What a prepared folder holds, as rows; `images` reads those with images.

    Raises:
        DataError: there are no two examples to train on, or none that fit.
    """
    load = images.load_rows if images else partial(_load_rows, template)
    train, counts = load(data / "train.jsonl", limit)
    if not counts.examples and counts.rejected:
        message = f"{data}: no training example fits {limit.max_length} tokens"
        raise DataError(message, "raise training.max_length")
    if counts.examples < FEWEST:
        message = f"{data}: {counts.examples} training examples, and one is not enough to train on"
        raise DataError(message, "prepare more rows, or hold fewer of them out (`split:`)")
    counts.announce("the training file", limit.max_length)
    path = data / "validation.jsonl"
    validation, held_out = load(path, limit) if path.is_file() else (None, None)
    if held_out:
        held_out.announce("the validation file", limit.max_length)
    if not validation:
        console.notice("finetune: no validation rows, so over-fitting will not show")
    collate = images.collate if images else None
    return Splits(train, validation or None, counts, held_out, collate)


def _load_rows(template: Template, path: Path, limit: Limit) -> "tuple[Dataset, RowCounts]":
    """The rows of a prepared file, and their counts."""
    from datasets import List, Value

    counts = RowCounts()
    ids = List(Value("int32"))
    rows = build_rows(path, template, limit, counts)
    return collect(rows, {"input_ids": ids, "labels": ids}), counts


def collect(rows: Iterator[dict[str, Any]], columns: dict[str, Any]) -> "Dataset":
    """Rows as a dataset with these columns, from names to types.

    It takes chunks of them, as an integer in a list of Python takes ten times as much memory.
    """
    from datasets import Dataset, Features, concatenate_datasets

    features = Features(columns)
    parts = [Dataset.from_dict({name: [] for name in columns}, features=features)]
    while chunk := list(islice(rows, CHUNK)):
        values = {name: [row[name] for row in chunk] for name in columns}
        parts.append(Dataset.from_dict(values, features=features))
    return concatenate_datasets(parts)


def lengths_of(rows: "Dataset") -> list[int]:
    """The tokens of each row."""
    chunks = rows.select_columns("input_ids").iter(CHUNK)
    return [len(ids) for chunk in chunks for ids in chunk["input_ids"]]
