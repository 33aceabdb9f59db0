"""A text in the form that patterns look at, and the way back to where it stood."""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from medllm.clinical.text import markup
from medllm.clinical.text.keyed import Edit, find_keyed
from medllm.clinical.text.spelled import SPELLED, SPELLED_MARKS, SPOKEN, read_spelled, read_spoken

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
_SPELLED, _SPOKEN = re.compile(SPELLED), re.compile(SPOKEN)
_GLUED = re.compile(r"(?<!\w)(?:bp|hr|rr|sats|spo2|temp|gcs|wt|ht|t(?=\d\d\.\d))(?=\d\d)")
_LATIN = dict(zip("аеорсухіјѕԁһ", "aeopcyxijsdh", strict=True))
"""Letters of Cyrillic that look like Latin ones: read as those within a word of Latin letters."""


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

    def parts(self, begin: int, end: int) -> Iterator[tuple[int, tuple[int, bool]]]:
        """Where the parts of a part of it begin, and where each of them comes from."""
        if begin < end:
            first = bisect_right(self._starts, begin) - 1
            yield begin, (self._place(begin), self._origins[first][1])
            for at in range(first + 1, bisect_left(self._starts, end)):
                yield self._starts[at], self._origins[at]

    def place_of(self, position: int) -> int:
        """Where a position of the text that it was made of stands in the folded text."""
        at = bisect_right(self._origins, (position, True)) - 1
        origin, runs = self._origins[at]
        end = self._starts[at + 1] if at + 1 < len(self._starts) else len(self.text)
        if position == origin:
            return self._starts[at]
        return min(self._starts[at] + position - origin, end) if runs else end

    def _place(self, position: int) -> int:
        at = bisect_right(self._starts, position) - 1
        origin, runs = self._origins[at]
        return origin + (position - self._starts[at]) * runs


def fold(text: str, words: Container[str] = (), edits: Sequence[Edit] = ()) -> Folded:
    """The folded text, in which these words are whole; as fast as a search with nothing to fold.

    `edits` are places of the text that are read in another way.
    """
    folded = fold_characters(text)
    references = [*markup.find_references(text, lambda character: fold_characters(character).text)]
    parted = [*markup.find_parted(text, words)] if words else []
    for found in filter(None, (references, find_keyed(text), parted, edits)):
        place_of = folded.place_of
        folded = _with(
            folded, [(place_of(begin), place_of(end), said) for begin, end, said in found]
        )
    has_spaces = references or "<br" in folded.text
    for find in (*([markup.find_spaces] if has_spaces else []), markup.find_marks, markup.find_tex):
        if edits := [*find(folded.text)]:
            folded = _with(folded, edits)
    if any(mark in folded.text for mark in SPELLED_MARKS):
        spelled = [(each, read_spelled(each[0])) for each in _SPELLED.finditer(folded.text)]
        folded = _with(folded, [(*each.span(), digits) for each, digits in spelled if digits])
    return folded


def with_spoken(folded: Folded) -> Folded:
    """The same with numbers in words as digits (`one forty over ninety`), and `HR112` as `HR 112`.

    Not where doses are read: two twenty milligram tablets are no 220 mg.
    """
    edits = [(*each.span(), f"{each[0]} ") for each in _GLUED.finditer(folded.text)]
    if any(mark in folded.text for mark in SPELLED_MARKS):
        said = [(each, read_spoken(each[0])) for each in _SPOKEN.finditer(folded.text)]
        edits += [(*each.span(), digits) for each, digits in said if digits]
    return _with(folded, sorted(edits)) if edits else folded


def _with(folded: Folded, edits: Sequence[Edit]) -> Folded:
    """The same, read in another way at some places, which stay where they are in the text."""
    pieces: list[str] = []
    starts: list[int] = []
    origins: list[tuple[int, bool]] = []
    length = done = 0
    for begin, end, said in edits:
        for start, origin in folded.parts(done, begin):
            starts.append(length + start - done)
            origins.append(origin)
        length += begin - done
        first, last = folded.origin(begin, end) if begin < end else folded.origin(begin - 1, end)
        first = first if begin < end else last - 1
        starts += [length, length + 1][: len(said)]
        origins += [(first, False), (last - 1, False)][: len(said)]
        pieces += [folded.text[done:begin], said]
        length, done = length + len(said), end
    for start, origin in folded.parts(done, len(folded.text)):
        starts.append(length + start - done)
        origins.append(origin)
    return Folded("".join([*pieces, folded.text[done:]]), starts, origins)


def fold_characters(text: str) -> Folded:
    """The same but for numbers in words, which no phrase of a vocabulary has before a unit."""
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
        fold_one = _fold_disguised if _is_disguised(text, odd) else _fold_character
        for place, character in enumerate(odd[0], odd.start()):
            piece, is_raised = fold_one(character)
            if is_raised and raised:
                piece = piece[1:]
            if not (piece == " " and spaced):
                add(piece, place, False)
            raised, spaced = is_raised, piece == " " or (spaced and not piece)
        done = odd.end()
    add(text[done:].lower(), done, True)
    return Folded("".join(pieces), starts, origins)


def _is_disguised(text: str, odd: re.Match[str]) -> bool:
    """Whether letters of another script stand in a word of Latin ones, which they look like."""
    begin, end = odd.span()
    before = "" if odd[0][0] == " " else text[max(0, begin - 1) : begin]
    after = "" if odd[0][-1] == " " else text[end : end + 1]
    touches = any(each.isascii() and each.isalpha() for each in (before, after))
    return touches and set(odd[0].lower()) <= {*_LATIN, " "}


def _fold_disguised(character: str) -> tuple[str, bool]:
    return _LATIN.get(character.lower(), character), False


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
