"""Markup that parts a word or a number from its unit: `**metho**trexate`, `<b>25</b>&nbsp;mg`.

Marks go only where what stands around them is then read as it is shown. Two numbers never join
across one, and a number that touches another in this way is left without its unit.
"""

import re
from collections.abc import Callable, Container, Iterator
from html import unescape

from medllm.clinical.text.keyed import Edit

_REFERENCE = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8}\d{0,2});")
_SPACES = re.compile(" {2,}| *(?:<br ?/?> *)+")
_PARTED = re.compile(
    r"(?i)(?:[-\u2010\u00ad][^\S\n]*+\n|[-\u2010\u00ad]?<br ?/?>\n?)[^\S\n]*+([^\W\d_]{2,30}+)"
)
_PART = re.compile(r"[^\W\d_]{2,30}$")
_TAG = (
    r"<(?:/?(?:b|i|u|em|strong|span|mark|small|big|font|code)"
    r"(?: [a-z-]{1,20}=(?:\"[^\"<>]{0,200}+\"|'[^'<>]{0,200}+'))*+ ?|wbr ?/?)>"
)
"""Of formatting. What is struck out, raised or lowered has another meaning than plain text."""
_MARKS = re.compile(
    rf"(?:{_TAG})++"
    r"|(?<![*\\])(?P<stars>\*{1,3})(?![ *])[^*]{1,200}+(?<! )(?P=stars)(?!\*)"
    r"|(?<![\w\\])(?P<lines>_{1,3})(?![ _])[^_]{1,200}+(?<! )(?P=lines)(?!\w)"
)
_LETTER = r"[^\W\d_]"
_JOINS = re.compile(
    rf"{_LETTER}\n{_LETTER}|(?:{_LETTER}|%)\n ?/|/ ?\n{_LETTER}|\d(?:\n ?| \n)(?:{_LETTER}|%)"
    rf"|{_LETTER}\n per "
)
"""What may stand around a mark, here `\\n`, that goes."""
_NUMBERS = re.compile(r"\d[.,/]?\n[.,/]?\d|\d \n\d|/\n\d")
_NUMBER = re.compile(r"[\d.,/]+ ?")
_TEX = re.compile(
    r"(?P<space>(?<=\d)(?: ?(?:\\[,;:! ]|~))? ?)?\\(?:text|textrm|mathrm) ?\{ ?"
    r"(?P<words>[a-z%/ ]{1,20}+)\}|(?<=\d)(?P<gap>\\[,;:])(?=[a-z])"
)
_TEX_POWERS = ("^", "\\cdot", "\\frac", "\\mu")
"""With one of these a unit in TeX is more than its words, so none of a text is read."""


def find_references(text: str, fold: Callable[[str], str]) -> Iterator[Edit]:
    """The HTML character references, each as the character that it stands for, folded."""
    if "&" not in text:
        return
    for found in _REFERENCE.finditer(text):
        if (character := unescape(found[0])) != found[0]:
            yield *found.span(), fold(character)


def find_spaces(folded: str) -> list[Edit]:
    """Several spaces, as references leave them, and HTML's line breaks, each time as one space."""
    return [(*found.span(), " ") for found in _SPACES.finditer(folded)]


def find_parted(text: str, words: Container[str]) -> Iterator[Edit]:
    """The hyphens at the end of a line that part one of these words, to be left out."""
    for found in _PARTED.finditer(text):
        part = _PART.search(text, max(0, found.start() - 30), found.start())
        if part and f"{part[0]}{found[1]}".lower() in words:
            yield found.start(), found.start(1), ""


def find_marks(folded: str) -> list[Edit]:
    """The marks of emphasis in a folded text that part what belongs together, to be left out."""
    if not any(mark in folded for mark in ("*", "_", "</", "<wbr")):
        return []
    edits: list[Edit] = []
    stop = 0
    for begin, end in _marks(folded):
        around = f"{folded[max(0, begin - 2) : begin]}\n{folded[end : end + 5]}"
        if _NUMBERS.search(around):
            stop = end
        elif _JOINS.search(around) and not (stop and _NUMBER.fullmatch(folded, stop, begin)):
            edits.append((begin, end, ""))
    return edits


def _marks(folded: str) -> Iterator[tuple[int, int]]:
    for found in _MARKS.finditer(folded):
        begin, end = found.span()
        mark = found["stars"] or found["lines"]
        if not mark:
            yield begin, end
        elif mark != "*" or not (_is_word(folded, begin - 1) and _is_word(folded, end)):
            yield begin, begin + len(mark)
            yield end - len(mark), end


def _is_word(folded: str, place: int) -> bool:
    """Whether a letter or digit stands there; `mg*kg*day` is a product."""
    return 0 <= place < len(folded) and folded[place].isalnum()


def find_tex(folded: str) -> Iterator[Edit]:
    r"""`25\,\text{mg}` in a folded text, as `25 mg`."""
    if "\\" not in folded or any(power in folded for power in _TEX_POWERS):
        return
    for found in _TEX.finditer(folded):
        if found["gap"]:
            yield *found.span(), " "
        else:
            begin, end = found.span("words")
            yield found.start(), begin, " " if found["space"] is not None else ""
            yield end, found.end(), ""
