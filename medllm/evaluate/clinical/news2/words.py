"""What the readers of totals, points and responses have in common."""

import re

END = re.compile(r"\n|[;!?]|\.(?!\d)")
"""Where what is said of one thing ends."""
_UNIT = r"\s?(?:-|–)?\s?(?:%|h\b|hour|min|day|mm|bpm|beats|breaths|l\b|/|per\b|°|mg|ml)"
_MORE = r"(?:or|and) (?:more|above|higher|greater|over)\b|\+(?!\d)"
THRESHOLD = re.compile(
    rf"(?i)[≥>]=?\s?\d{{1,3}}(?![\d.])(?!{_UNIT})|\b\d{{1,3}}\s?(?:{_MORE})|"
    rf"(?<![\d./])\b\d{{1,3}}\s?(?:-|–|to|or)\s?\d{{1,3}}\b(?![.,]\d)(?!{_UNIT})"
)
"""A limit or a range, as the rules of the score are told with: 7 or more, 5–6, ≥ 25."""


def clause_before(text: str, at: int) -> str:
    """What stands before a place since the last end."""
    begin = max((match.end() for match in END.finditer(text, 0, at)), default=0)
    return text[begin:at]


def clause_around(text: str, begin: int, end: int) -> str:
    """All of what a place stands in."""
    stop = END.search(text, end)
    return clause_before(text, begin) + text[begin : stop.start() if stop else len(text)]
