"""Dates in a text, as year, month and day."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from medllm.clinical.text.reading import Span

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_YEAR}-(?P<number>\d{{1,2}})-{_DAY}\b",
        r"(?<![\d/.-])(?P<first>\d{1,2})(?P<mark>[/.-])(?P<second>\d{1,2})(?P=mark)"
        r"(?P<year>(?:19|20)?\d\d)(?![\d/-]|\.\d)",
        rf"\b{_MONTH} {_DAY}(?:,? {_YEAR})?(?!\d)",
        rf"\b{_DAY} (?:of )?{_MONTH}(?:,? {_YEAR})?(?!\d)",
    )
)


@dataclass(frozen=True, slots=True)
class Date:
    """A date: its readings as year (empty where none is written), month and day."""

    readings: frozenset[tuple[str, int, int]]
    place: Span


def find_dates(text: str) -> Iterator[Date]:
    """The dates of a text; 3/4/2024 may be of March or of April."""
    taken: list[Span] = []
    for pattern in _DATES:
        for match in pattern.finditer(text):
            readings = frozenset(_readings(match.groupdict()))
            if readings and not any(a < match.end() and match.start() < b for a, b in taken):
                taken.append(match.span())
                yield Date(readings, match.span())


def _readings(found: dict[str, str | None]) -> Iterator[tuple[str, int, int]]:
    year = found["year"] or ""
    if len(year) == 2:
        year = f"{19 if int(year) > 50 else 20}{year}"
    if found.get("first"):
        first, second = int(found["first"] or 0), int(found["second"] or 0)
        pairs = [(first, second), (second, first)]
    elif found.get("number"):
        pairs = [(int(found["number"] or 0), int(found["day"] or 0))]
    else:
        pairs = [(_MONTHS.index((found["month"] or "")[:3].lower()) + 1, int(found["day"] or 0))]
    for month, day in pairs:
        if 1 <= month <= 12 and 1 <= day <= 31:
            yield year, month, day
