"""A text in the form that patterns look at, and the way back to where it stood."""

import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache

SUPERSCRIPT = {
    **{"⁰": "0", "¹": "1", "²": "2", "³": "3"},
    **dict(zip("⁴⁵⁶⁷⁸⁹", "456789", strict=True)),
}
_PLAIN = {
    **dict.fromkeys("‐‑‒–—−﹣－⁻", "-"), **dict.fromkeys("’‘′ʹ`´", "'"),
    **dict.fromkeys("“”″", '"'),
    **dict.fromkeys("×✕✖⨯", "x"), **dict.fromkeys("µμ", "u"), **dict.fromkeys("º˚", "°"),
    **dict.fromkeys("≈∼～≃", "~"), **dict.fromkeys("→⇒➔", "->"), "≤": "<=", "≥": ">=", "⩽": "<=",
    "⩾": ">=", "·": ".", "⁄": "/", "∕": "/", "％": "%", "½": " 1/2", "¼": " 1/4", "¾": " 3/4",
}  # fmt: skip
_ODD = re.compile(r" *[^\x20-\x7e](?:[^\x20-\x7e]| )*| {2,}")
"""What is not a printable ASCII character, with the spaces around; and several spaces."""


@dataclass(frozen=True, slots=True)
class Folded:
    """`text` in lower case, with one space for white space and one form for each character.

    `10⁹` becomes `10^9`, `µ` becomes `u`, every dash `-`; what has no width goes.
    """

    text: str
    _starts: list[int]
    _origins: list[tuple[int, bool]]

    def origin(self, begin: int, end: int) -> tuple[int, int]:
        """Where a part of the folded text stands in the text that it was made of."""
        return self._place(begin), self._place(end - 1) + 1

    def _place(self, position: int) -> int:
        at = bisect_right(self._starts, position) - 1
        origin, runs = self._origins[at]
        return origin + (position - self._starts[at]) * runs


def fold(text: str) -> Folded:
    """The folded text; as fast as a search where there is nothing to fold."""
    pieces: list[str] = []
    starts, origins = [0], [(0, True)]
    length = done = 0

    def add(piece: str, origin: int, runs: bool) -> None:
        nonlocal length
        if piece:
            starts.append(length)
            origins.append((origin, runs))
            pieces.append(piece)
            length += len(piece)

    for odd in _ODD.finditer(text):
        add(text[done : odd.start()].lower(), done, True)
        raised = spaced = False
        for place, character in enumerate(odd[0], odd.start()):
            piece, is_raised = _fold_character(character)
            if is_raised and raised:
                piece = piece[1:]
            if not (piece == " " and spaced):
                add(piece, place, False)
            raised, spaced = is_raised, piece == " " or (spaced and not piece)
        done = odd.end()
    add(text[done:].lower(), done, True)
    return Folded("".join(pieces), starts, origins)


@cache
def _fold_character(character: str) -> tuple[str, bool]:
    """Its form, and whether it is a raised digit, which becomes `^` and the digit."""
    if raised := SUPERSCRIPT.get(character):
        return f"^{raised}", True
    if character in _PLAIN:
        return _PLAIN[character], False
    if character.isspace():
        return " ", False
    if unicodedata.category(character) in {"Cf", "Cc", "Mn"}:
        return "", False
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit), False  # of Arabic, Devanagari and all others
    whole = unicodedata.normalize("NFKC", character).lower()
    return "".join(" " if each.isspace() else _PLAIN.get(each, each) for each in whole), False
