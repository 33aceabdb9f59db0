"""Labels among the answers: whether there are any, and which tokens of an answer are one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from medllm import console
from medllm.data.example import Example, read_examples
from medllm.finetune.rows.build import IGNORED
from medllm.models.chat.template import TokenizerTemplate, render_example
from medllm.models.chat.tokens import TokenCounter

LONGEST_LABEL = 40
"""Characters."""
MOST_LABELS = 20

Tokens = tuple[int, ...]


def label_of(example: Example) -> str:
    """What would be its label: its target where it has one, else its whole answer."""
    return example.target or example.completion


def has_labels(examples: Iterable[Example]) -> bool:
    """Whether every answer begins with a label, and the labels are few, short and repeated.

    At most `MOST_LABELS` of them, and half as many as examples: else they are answers.
    """
    seen: set[str] = set()
    count = 0
    for example in examples:
        label, count = label_of(example), count + 1
        seen.add(label)
        if not example.completion.startswith(label) or not 0 < len(label) <= LONGEST_LABEL:
            return False
        if len(seen) > MOST_LABELS:
            return False
    return 0 < 2 * len(seen) <= count


def find_labels(path: Path, template: TokenizerTemplate) -> frozenset[Tokens]:
    """The labels of a file of examples as token ids; empty where answers are no labels.

    Each with the token after it, which ends it: "no" is not the beginning of "none".
    """
    if not has_labels(read_examples(path)):
        return frozenset()
    if not template.tokenizer.is_fast:
        console.notice("finetune: this tokenizer cannot tell where the tokens of a label end")
        return frozenset()
    ends = TokenCounter(template.tokenizer).ends
    return frozenset(_label_tokens(example, template, ends) for example in read_examples(path))


def _label_tokens(
    example: Example, template: TokenizerTemplate, ends: Callable[[str], list[int]]
) -> Tokens:
    mark, text = template.special_tokens.mark, render_example(template, example).completion
    label_ends = text.index(mark(example.completion)) + len(mark(label_of(example)))
    inside = sum(end < label_ends for end in ends(text)) + 1
    return tuple(template.encode(text, add_special_tokens=False)[: inside + 1])


def right_labels(
    labels: Sequence[int], is_right: Sequence[bool], known: frozenset[Tokens]
) -> Iterator[bool]:
    """For each answer of a row whether the tokens of its label are right.

    `labels` holds the token ids to predict, IGNORED where there are none; `is_right` whether each
    was the likeliest.
    """
    lengths = sorted({len(tokens) for tokens in known}, reverse=True)
    for start, end in _answers(labels):
        fitting = (length for length in lengths if start + length <= end)
        found = (n for n in fitting if tuple(labels[start : start + n]) in known)
        if length := next(found, 0):
            yield all(is_right[start : start + length])


def _answers(labels: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where the tokens of each answer begin and end."""
    start = None
    for place, label in enumerate([*labels, IGNORED]):
        if label == IGNORED and start is not None:
            yield start, place
            start = None
        elif label != IGNORED and start is None:
            start = place
