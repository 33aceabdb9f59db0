"""The names of quantities in text, found through the first word of each."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from medllm.clinical.measurements.quantities import Quantity, quantities

_WORD = re.compile(r"(?<![a-z0-9])[a-z][a-z0-9]*")
_NOT_BLOOD = re.compile(
    r"\b(?:urine|urinary|ur|csf|pleural|ascitic|ascites|peritoneal|synovial|gastric|vaginal|fluid|"
    r"room|ambient|water|storage|target|predicted|radial artery)[ -](?:fluid )?$"
)
"""Before a name: another fluid than the blood, or another thing than the patient."""
_LONGEST_BEFORE = 24


@dataclass(frozen=True, slots=True)
class Name:
    """A name at its place in folded text, and what it may stand for."""

    quantities: tuple[Quantity, ...]
    is_weak: bool
    begin: int
    end: int


def find_names(text: str, words: Iterable[tuple[int, str]] | None = None) -> Iterator[Name]:
    """The names in a folded text, in order, the longest at each place; none overlap.

    `words` are those of the text with their places, where they are known already.
    """
    first, end = _by_first_word(), 0
    if words is None:
        words = ((each.start(), each[0]) for each in _WORD.finditer(text))
    for begin, word in [each for each in words if each[1] in first]:
        if begin < end:
            continue
        for pattern, found, is_weak in first[word]:
            if match := pattern.match(text, begin):
                end = match.end()
                if not _NOT_BLOOD.search(text, max(0, begin - _LONGEST_BEFORE), begin):
                    yield Name(found, is_weak, begin, end)
                break


@cache
def _by_first_word() -> dict[str, list[tuple[re.Pattern[str], tuple[Quantity, ...], bool]]]:
    """First word → the patterns of names that begin with it, longest first."""
    named: dict[str, list[Quantity]] = {}
    weak: set[str] = set()
    for each in quantities().values():
        for name in (*each.names, *each.weak):
            named.setdefault(name, []).append(each)
        weak.update(each.weak)
    table: dict[str, list[tuple[re.Pattern[str], tuple[Quantity, ...], bool]]] = {}
    for name in sorted(named, key=len, reverse=True):
        word = re.match(r"[a-z][a-z0-9]*", name)
        assert word, name
        pattern = re.escape(name).replace(r"\ ", "[ _-]").replace(r"\-", "[ -]?")
        compiled = re.compile(pattern + r"(?![a-z0-9])" * name[-1].isalnum())
        table.setdefault(word[0], []).append((compiled, tuple(named[name]), name in weak))
    return table
