"""How often, where a number says it: `q4-6h`, `every 8 hours`, `3 times a day`, `1-0-1`."""

import re
from dataclasses import dataclass
from decimal import Decimal

from medllm.clinical.doses.vocabulary import NUMBERS, Often, Sign

N = r"(?:\d+(?:\.\d+)?|" + "|".join(NUMBERS) + ")"
_AGAIN = r"(?: ?\((?:" + "|".join(NUMBERS) + r")\))?"  # "3 (three) times daily"
RANGE = rf"(?P<low>{N}){_AGAIN}(?: ?(?:-|to|or) ?(?P<high>{N}){_AGAIN})?"
_UNITS = {"mi": Decimal(1) / 1440, "h": Decimal(1) / 24, "d": Decimal(1), "w": Decimal(7),
          "mo": Decimal(30), "y": Decimal(365)}  # fmt: skip
_UNIT = (
    r"(?P<unit>h|hr|hrs|hours?|hourly|hrly|d|days?|w|wks?|weeks?|mo|mos|months?|min|mins|minutes?|"
    r"years?|nights?)(?![a-z])"
)
_EVERY = re.compile(rf"(?:every|each|q\.?) ?{RANGE} ?-?{_UNIT}")
_Q_ALONE = re.compile(r"q ?(?P<low>4|6|8|12|24)(?! ?[a-z\d-]|-)")
_HOURLY = re.compile(
    rf"{RANGE}[ -]?(?:(?:hourly|hrly)|h(?:ou)?rs? (?:interval|apart))(?P<unit>)(?![a-z])"
)
_PERIOD = (
    r"(?: ?(?:/|per|an?|each|every|in an?|in|over|within|times) ?| )"
    r"(?P<period>day|daily|d|24 ?h(?:ou)?rs?|24 ?h|week|weekly|wk|month|monthly|year)(?![a-z])"
)
_TIMES = re.compile(
    rf"(?:(?P<low>once|twice|{N}) ?(?:-|to|or) ?)?(?:(?P<word>once|twice|thrice)[ -]?|"
    rf"(?P<high>{N}){_AGAIN} ?(?:x|times?) ?-?){_PERIOD}"
)
_X_BEFORE = re.compile(
    r"x ?(?P<high>\d{1,2})(?: ?/ ?| a | per | )(?P<period>day|daily|weekly)(?![a-z])"
)
_DOSES = re.compile(rf"(?P<high>{N})(?: ?(?:to|-) ?{N})? ?(?:equal(?:ly)? )?(?:divided )?doses?")
_ROW = re.compile(
    r" ?(?P<row>(?:[0-4]|[0-3]?\.5| ?1/2)(?: ?[-+] ?(?:[0-4]|[0-3]?\.5|1/2)){2,3})"
    r"(?![\d/.-]\d|[\d-])"
)
_MILLIONTH = Decimal("0.000001")
_UNITS_OF_ROW = re.compile(r"(?P<row>\d{1,3}(?: ?- ?\d{1,3}){2,3}) ?(?:units?|iu|u)(?![a-z])")
_WORDS = {"once": Decimal(1), "twice": Decimal(2), "thrice": Decimal(3)}


@dataclass(frozen=True, slots=True)
class Row:
    """`1-0-2`: how many are taken each time of a day; units of insulin in `20-0-10 units`."""

    counts: tuple[Decimal, ...]
    unit: str = ""


def number(written: str) -> Decimal:
    """The number of a word or of digits."""
    return NUMBERS.get(written) or _WORDS.get(written) or Decimal(written)


def read_every(text: str, begin: int) -> tuple[Often | Sign, int] | None:
    """`q4-6h`, `q12h`, `every 2 weeks`: the most times, hence those of the shortest interval.

    Minutes say how fast doses follow each other, and nothing of a whole day.
    """
    match = _EVERY.match(text, begin) or _Q_ALONE.match(text, begin)
    if not match:
        return None
    unit = match.groupdict().get("unit") or "h"
    if unit.startswith("mi"):
        return Sign("over"), match.end()
    return _interval(match["low"], match.groupdict().get("high"), unit), match.end()


def read_often(text: str, begin: int) -> tuple[Often, int] | None:
    """`4 times a day`, `once or twice daily`, `8-hourly`, `3x/day`, `x 3 daily`."""
    if match := _HOURLY.match(text, begin):
        return _interval(match["low"], match["high"], "h"), match.end()
    match = _TIMES.match(text, begin) or _X_BEFORE.match(text, begin)
    if not match:
        return None
    found = match.groupdict()
    times = _WORDS[found["word"]] if found.get("word") else number(found["high"])
    period = match["period"]
    days = _UNITS["mo" if period.startswith("mo") else period[0] if period[0] in "wy" else "d"]
    return Often(times, days), match.end()


def read_doses(text: str, begin: int) -> tuple[Decimal, int] | None:
    """`3 divided doses`, `3 doses`: how many."""
    match = _DOSES.match(text, begin)
    return (number(match["high"]), match.end()) if match else None


def read_row(text: str, begin: int) -> tuple[Row, int] | None:
    """`1-0-1`, `1/2-0-1/2`, `1+1+1`: what is taken in the morning, at noon and at night."""
    if units := _UNITS_OF_ROW.match(text, begin):
        of_units = tuple(Decimal(each) for each in units["row"].replace(" ", "").split("-"))
        return Row(of_units, "U"), units.end()
    match = _ROW.match(text, begin)
    if not match:
        return None
    written = re.split(r"[-+]", match["row"].replace(" ", ""))
    counts = tuple(Decimal("0.5") if each == "1/2" else Decimal(each) for each in written)
    return (Row(counts), match.end()) if any(counts) else None


def _interval(low: str, high: str | None, unit: str) -> Often:
    least = min(number(each) for each in (low, high) if each)
    days = _UNITS[unit[:2] if unit[:2] in _UNITS else unit[0].replace("n", "d")]
    if not least:
        return Often(Decimal(1))
    span = (least * days).quantize(_MILLIONTH).normalize()
    return Often(Decimal(1), span) if span >= 1 else Often(_times(span))


def _times(span: Decimal) -> Decimal:
    """How many intervals are in a day: 4 of 6 hours, 8 of 3."""
    return (1 / span).quantize(Decimal(1)) if span else Decimal(1)
