"""Examples → token ids and labels: loss on the answer and its end alone, never on padding."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medllm.data.example import read_examples
from medllm.models.chat import Template, encode_rendered, render_example

if TYPE_CHECKING:
    from datasets import Dataset

IGNORED = -100
"""The label that PyTorch's cross entropy leaves out."""


@dataclass
class RowCounts:
    """What happened to the examples on their way to the trainer."""

    examples: int = 0
    tokens: int = 0
    learnt_tokens: int = 0
    truncated: int = 0
    too_long: int = 0


def build_rows(
    path: Path, template: Template, max_length: int, counts: RowCounts
) -> Iterator[dict[str, list[int]]]:
    """Rows {input_ids, labels} of at most `max_length` tokens.

    A prompt that is too long loses its middle; an answer that alone is too long is left out.
    """
    for example in read_examples(path):
        prompt, completion = encode_rendered(template, render_example(template, example))
        if len(completion) > max_length:
            counts.too_long += 1
            continue
        room = max_length - len(completion)
        counts.truncated += len(prompt) > room
        prompt = cut_middle(prompt, room)
        counts.examples += 1
        counts.tokens += len(prompt) + len(completion)
        counts.learnt_tokens += len(completion)
        yield {"input_ids": prompt + completion, "labels": [IGNORED] * len(prompt) + completion}


def cut_middle(ids: list[int], room: int) -> list[int]:
    """The ids, or their beginning and end where they do not fit."""
    if len(ids) <= room:
        return ids
    tail = room // 2
    return ids[: room - tail] + ids[len(ids) - tail :]


def load_rows(path: Path, template: Template, max_length: int) -> "tuple[Dataset, RowCounts]":
    """The rows of a prepared file for the trainer, and their counts."""
    from datasets import Dataset, Features, List, Value

    counts = RowCounts()
    rows = list(build_rows(path, template, max_length, counts))
    features = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32"))})
    return Dataset.from_list(rows, features=features), counts
