"""How the time of some work grows with the text that it reads."""

import time
from collections.abc import Callable
from typing import TypeVar

CHARACTERS = 10_000
MOST = 2.5
SHORT_S = 0.01
"""What takes no longer is too short to compare."""
TRIES = 6
"""What else the machine does may disturb one measurement, and hardly all of these."""

Text = TypeVar("Text")


def is_linear(
    work: Callable[[Text], object], text: Callable[[int], Text], characters: int = CHARACTERS
) -> bool:
    """Whether twice the text takes about twice the time, squared growth taking four times it.

    `text` makes what `work` reads of a number of characters; its own time is not counted.
    """

    def seconds(length: int) -> float:
        made = text(length)  # anew each time: a reading keeps what was found in it
        began = time.thread_time()
        work(made)
        return time.thread_time() - began

    seconds(characters)
    return any(
        seconds(2 * characters) <= max(MOST * seconds(characters), SHORT_S) for _ in range(TRIES)
    )


def repeated(piece: str) -> Callable[[int], str]:
    """Texts of a number of characters that say `piece` again and again."""
    return lambda characters: (piece * (characters // len(piece) + 1))[:characters]
