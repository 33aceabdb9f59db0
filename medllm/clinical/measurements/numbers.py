"""Numbers as people write them: thousands, decimals, powers of ten, ranges, about and less than."""

import re
from dataclasses import dataclass
from decimal import Decimal

NUMBER = r"(?:\d+(?:[.,]\d+)*(?:'\d{3})*(?:[.,]\d+)?|\.\d+)"
_POWER = r"""(?P<power{0}>
    \ ?[x*]\ ?10\ ?(?:\^|\*\*?|e|\()\ ?-?\d{{1,2}}\)?
  | \ ?[x*]\ ?10\ ?(?:12|[369])(?=\ ?(?:/|per\b|cells))
  | e\+?\d{{1,2}}(?![\da-z])
  | \ ?(?:thousands?|thou|million|lakhs?|lacs?)(?![a-z])
  | \ ?k(?:(?=\ ?/)|(?<=\dk)(?![a-z0-9]))
  | \ ?m(?=\ ?/\ ?(?:ul|mcl|mm3|mm\^3|cumm))
)?"""
_TEN = re.compile(r"[x*] ?10")
_SIGNS = {
    "less than": "<", "under": "<", "below": "<", "greater than": ">", "more than": ">",
    "over": ">", "above": ">", "at least": ">=", "up to": "<=", "about": "~", "around": "~",
    "approximately": "~", "approx.": "~", "approx": "~", "roughly": "~", "circa": "~",
    "close to": "~", "nearly": "~", "almost": "~", "=<": "<=", "=>": ">=",
}  # fmt: skip
_SIGN = "|".join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True))
VALUE = re.compile(
    rf"""(?:(?P<sign><=|>=|<|>|~|{_SIGN})\ ?)?
    (?P<low>{NUMBER})(?:[ -](?P<part>[1-7]/[248])(?![\d/]))?
    (?P<decade>'?s(?![a-z0-9]))?{_POWER.format("1")}
    (?:\ ?%?\ ?(?P<to>-(?!>)|to\b|through\b|and\b)\ ?(?P<high>{NUMBER})
       (?P<decade2>'?s(?![a-z0-9]))?{_POWER.format("2")}(?![\d]|[.,/:-]\d))?
    (?!\d|[.,:]\d|\ ?\+(?!/)|-\d|(?:st|nd|rd|th)\b)""",
    re.VERBOSE,
)
"""A value at a place in folded text, without its unit."""
MOST_DIGITS = 20
"""Longer ones identify something."""
COMMA_DECIMAL = re.compile(r"(?<![\w.,])\d{1,4},\d{1,2}(?!\d|[.,]\d)")
DOT_DECIMAL = re.compile(r"(?<![\w.,])\d{1,4}\.\d{1,2}(?!\d|[.,]\d)")
_POWERS = {"thou": 3, "thousand": 3, "thousands": 3, "k": 3, "m": 6, "million": 6,
           "lakh": 5, "lakhs": 5, "lac": 5, "lacs": 5}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Value:
    """A number of a text, or a range: its readings, of which there is one where it is clear."""

    readings: tuple[Decimal, ...]
    upper: Decimal | None
    sign: str
    begin: int
    end: int


def read_value(text: str, position: int, european: bool, before: str = "") -> Value | None:
    """The value that begins at a place in folded text, if one does.

    After "from" in the words `before` it, "8.2 to 7.1" are two values, of which the first is
    read; after "between", "90 and 100" is a range.
    """
    match = VALUE.match(text, position)
    if not match:
        return None
    lows, highs = readings(match["low"], european), readings(match["high"] or "", european)
    end = match.end()
    if match["to"] and not _is_range(match, lows, highs, before):
        if match["to"] == "-" or not (highs and lows):
            return None
        end = max(match.end(name) for name in ("low", "part", "decade", "power1"))
        highs = ()
    of_upper = _power(match["power2"]) if highs else 0
    power = _power(match["power1"]) or of_upper
    if not lows or power > MOST_DIGITS:
        return None
    if part := match["part"]:
        lows = tuple(each + Decimal(part[0]) / Decimal(part[2]) for each in lows)
    low = tuple(each.scaleb(power) for each in lows)
    upper = highs[0].scaleb(of_upper or power) if highs else None
    sign = _SIGNS.get(match["sign"] or "", match["sign"] or "")
    decade = match["decade2"] if highs else match["decade"]
    if decade:
        sign, upper = sign or "~", (upper if upper is not None else low[0]) + 9
    if upper is not None and upper < low[0]:
        low, upper = (upper,), low[0]
    return Value(low, upper, sign, match.start(), end)


def _is_range(
    match: re.Match[str], lows: tuple[Decimal, ...], highs: tuple[Decimal, ...], before: str
) -> bool:
    """Whether two numbers are the ends of one range, and not two values or an identifier."""
    if not lows or not highs or "from " in before:
        return False
    if match["to"] == "and" and "between" not in before:
        return False
    if match["to"] == "-":  # 93-89 is one, 555-1234 is none
        return highs[0] * 3 > lows[0] and highs[0] < 20 * max(lows[0], Decimal(1))
    return highs[0] > lows[0]


def _power(written: str | None) -> int:
    """The power of ten that is written: `x10^9`, `x 10 9`, `e6`, `million`, `k`; 0 for none."""
    written = (written or "").strip()
    return _POWERS.get(written) or int(_TEN.sub("", written).strip("^*e(+) ") or 0)


def readings(written: str, european: bool) -> tuple[Decimal, ...]:
    """What a number as written can mean: nothing, one value, or two where nothing decides.

    `1,200` is 1200 and `1,5` is 1.5. Where a text writes decimals with a comma (`european`),
    `1,200` and `1.200` may be either.
    """
    written = written.replace("'", "")
    dots, commas = written.count("."), written.count(",")
    if not written or len(written) > MOST_DIGITS:
        return ()
    if dots and commas:
        return _mixed(written)
    if not dots and not commas:
        return (Decimal(written),)
    mark = "." if dots else ","
    head, *groups = written.split(mark)
    grouped = all(len(group) == 3 for group in groups) and 1 <= len(head) <= 3 and head != "0"
    joined, decimal = Decimal(head + "".join(groups)), Decimal(f"{head or 0}.{groups[0]}")
    if len(groups) > 1:
        indian = mark == "," and len(groups[-1]) == 3 and all(len(g) == 2 for g in groups[:-1])
        return (joined,) if grouped or indian else ()
    if grouped and european:
        return (joined, decimal)
    return (joined,) if grouped and mark == "," else (decimal,)


def _mixed(written: str) -> tuple[Decimal, ...]:
    """`1,234.5` and `1.234,5`: the last mark is the decimal one, the others part thousands."""
    mark = max(".,", key=written.rfind)
    other = "," if mark == "." else "."
    whole, _, fraction = written.rpartition(mark)
    head, *groups = whole.split(other)
    if mark in whole or len(head) > 3 or any(len(group) != 3 for group in groups):
        return ()
    return (Decimal(f"{head}{''.join(groups)}.{fraction}"),)


def is_european(text: str) -> bool:
    """Whether a text writes decimals with a comma more often than with a dot."""
    commas = len(COMMA_DECIMAL.findall(text))
    return commas > 0 and commas > len(DOT_DECIMAL.findall(text))
