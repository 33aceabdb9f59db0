"""A text that is too long for a model → pieces of it, cut where it can be cut best."""

import re

JOINT = "\n\n"
"""Between the answers of two pieces."""
_ENDS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"[.!?]\s"), re.compile(r"\s"))
"""Where a text is cut, the best first: after a paragraph, a line, a sentence, a word."""
NEAR = 0.25
"""How far from its place a cut may lie, as a share of a piece."""


def split_text(text: str, count: int) -> list[str]:
    """The text in at most so many pieces of about one length; together they are all of it.

    It is cut where a paragraph ends, else a line, a sentence or a word.
    """
    size = len(text) / count
    cuts, begin = [0], 0
    for number in range(1, count):
        begin = _cut_near(text, round(number * size), max(round(NEAR * size), 1), begin)
        cuts.append(begin)
    pieces = [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]
    return [piece for piece in pieces if piece.strip()]


def _cut_near(text: str, place: int, reach: int, after: int) -> int:
    """The best end near a place, the nearest of its kind; the place itself where there is none."""
    low, high = max(place - reach, after), min(place + reach, len(text))
    for end in _ENDS:
        found = [match.end() for match in end.finditer(text, low, high)]
        if found:
            return min(found, key=lambda each: abs(each - place))
    return max(place, after)
