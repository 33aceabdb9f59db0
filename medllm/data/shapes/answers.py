"""Which option an answer names: by a letter, by a number, or by its text.

Options may be letters or numbers themselves (hepatitis A to E, how many valves there are), so that
an answer can be read in more than one way; then the other rows of the file decide, or nobody.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from medllm.data.left_out import LeftOut
from medllm.errors import DataError

Kind = Literal["letter", "number", "text"]
KINDS: tuple[Kind, ...] = ("letter", "number", "text")
LETTERS = "ABCDEFGH"
NUMBER = re.compile(r"-?[0-9]{1,3}(\.0)?")
STRAYS = 0.05
"""At most this share of a file's answers may differ in kind, as slips do, without being a kind."""
Readings = dict[Kind, set[int]]
"""The places of the options that an answer may name, by the ways to read it."""


def readings_of(answer: str, options: Sequence[str], first: int | None) -> Readings:
    """The ways in which an answer names an option; numbers count from `first`, 0, 1, or either."""
    found: Readings = {"letter": set(), "number": set(), "text": _places_of(answer, options)}
    if len(answer) == 1:
        found["letter"] = {LETTERS.find(answer.upper())}
    if NUMBER.fullmatch(answer):
        firsts = (0, 1) if first is None else (first,)
        found["number"] = {int(float(answer)) - one for one in firsts}
    at_hand = set(range(len(options)))
    return {kind: places & at_hand for kind, places in found.items()}


def _places_of(answer: str, options: Sequence[str]) -> set[int]:
    """The options that have this text, else this text in another case, or as 3.0 for 3."""
    stripped = [option.strip() for option in options]
    exact = {place for place, option in enumerate(stripped) if option == answer}
    return exact or {n for n, option in enumerate(stripped) if _folded(option) == _folded(answer)}


def folded(text: str) -> str:
    """A text as answers are compared: upper case and forms of accents are alike."""
    return unicodedata.normalize("NFC", text).casefold()


def _folded(text: str) -> str:
    return text.removesuffix(".0") if NUMBER.fullmatch(text) else folded(text)


def find_place(answer: str, readings: Readings, kinds: Sequence[Kind]) -> int:
    """The place of the option that an answer names; `kinds` are the file's, where it has some.

    Raises:
        LeftOut: it names none, or several.
    """
    if not answer:
        raise LeftOut("no label")
    places = set().union(*(readings[kind] for kind in kinds or KINDS))
    if len(places) > 1:
        raise LeftOut("ambiguous answer")
    if places:
        return places.pop()
    if NUMBER.fullmatch(answer) and answer.startswith("-"):  # the hub's mark of what has no label
        raise LeftOut("no label")
    is_label = NUMBER.fullmatch(answer) or (len(answer) == 1 and answer.upper() in LETTERS)
    raise LeftOut("no such choice" if is_label else "unknown answer")


class Evidence:
    """What the answers of a file that can be read in one way only say of all of them."""

    def __init__(self) -> None:
        self._rows: Counter[Kind] = Counter()
        self._low = self._high = False

    def add(self, answer: str, options: Sequence[str], kinds: Sequence[Kind]) -> None:
        """Take an answer in that can be of these kinds."""
        readings = readings_of(answer, options, None)
        ways = [kind for kind in kinds or KINDS if readings[kind]]
        is_unlabelled = answer.startswith("-") and NUMBER.fullmatch(answer)
        if len(ways) == 1 or is_unlabelled:
            kind = ways[0] if ways else "number"
            self._rows[kind] += 1
            if kind == "number":
                self._low = self._low or float(answer) <= 0
                self._high = self._high or float(answer) == len(options)

    def kinds(self, first: int | None) -> tuple[Kind, ...]:
        """How the file names answers; no numbers where nobody knows where they begin."""
        known = KINDS if first is not None else ("letter", "text")
        return tuple(kind for kind in known if self._rows[kind] > STRAYS * self._rows.total())

    @property
    def first(self) -> int | None:
        """Whether numbers begin at 0 or at 1; None where there are none, or a few strays.

        Raises:
            DataError: a 0 and the number of options both occur, or neither does.
        """
        numbered = self._rows["number"]
        if numbered <= STRAYS * self._rows.total():
            return None
        if self._low != self._high:
            return 0 if self._low else 1
        both = "a 0 and the number of options both occur" if self._low else "neither end occurs"
        raise DataError(
            f"answers may count from 0 or from 1: {both} in {numbered:,} rows",
            "state `columns: {first_answer: 0}` or 1 in the dataset's YAML",
        )
