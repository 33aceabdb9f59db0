"""Questions with their options in another order: whoever knows the answer gives it again."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from medllm.data.example import Example, Message

LAST = "\nAnswer:"
"""What stands after the options, as lm-evaluation-harness writes it."""


@dataclass(frozen=True, slots=True)
class Shuffled:
    """A question in another order."""

    item: Example
    letters: dict[str, str]
    """What the letters of this order were before."""

    @property
    def order(self) -> str:
        """The letters of before, in the order in which their options stand now."""
        return "".join(self.letters.values())


def shuffle(item: Example, count: int, seed: int) -> list[Shuffled]:
    """The question in so many other orders, drawn by seed and id.

    There are fewer where there are fewer orders, and none where no options stand in its prompt.
    """
    others = list(permutations(range(len(item.choices))))[1:] if len(item.choices) < 7 else []
    drawn = random.Random(f"{seed}/{item.id}")
    orders = drawn.sample(others, min(count, len(others)))
    return [each for order in orders if (each := _in_order(item, order))]


def _in_order(item: Example, order: Sequence[int]) -> Shuffled | None:
    *before, last = item.prompt
    text = _reordered(last.content, item.choices, order)
    if text is None:
        return None
    letters = {new: item.choices[old] for new, old in zip(item.choices, order, strict=True)}
    target = next(new for new, old in letters.items() if old == item.target)
    put = replace(item, prompt=(*before, Message(last.role, text)), target=target)
    return Shuffled(put, letters)


def _reordered(text: str, letters: Sequence[str], order: Sequence[int]) -> str | None:
    """The text with the options that it lists last in another order; None where it lists none."""
    end = text.rfind(LAST)
    marks = [f"\n{letter}. " for letter in letters]
    options: list[str] = []
    until = end
    for mark in reversed(marks):
        at = text.rfind(mark, 0, max(until, 0))
        if at < 0:
            return None
        options.insert(0, text[at + len(mark) : until])
        until = at
    listed = "".join(mark + options[old] for mark, old in zip(marks, order, strict=True))
    return text[:until] + listed + text[end:]
