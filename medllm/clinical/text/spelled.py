"""Numbers that are spelled out before a unit: `two hundred and fifty milligrams`."""

import re
from collections.abc import Sequence

SMALL_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES = {
    **{word: value for value, word in enumerate(SMALL_NUMBERS)},
    **{word: 10 * value for value, word in enumerate(TENS, 2)},
    "a": 1,
}
SCALES = {"hundred": 100, "thousand": 1000}
_MOST_WORDS = 9
"""Of a number after its first one: so a list of numbers is not gone through again and again."""
_HALF = " and a half"
_PARTS = {"half": "0.5", "quarter": "0.25", "quarters": "0.75"}
_UNITS = (
    r"(?:mg|mcg|ug|g|gm|grams?|grammes?|milligrams?|milligrammes?|micrograms?|microgrammes?|ml|"
    r"millilit(?:er|re)s?|units?|iu|meq|tab(?:let)?s?|cap(?:sule|let)?s?|pills?|puffs?|drops?)"
)
_WORD = "|".join(sorted((*SMALL_NUMBERS, *TENS, *SCALES), key=len, reverse=True))
_SAID = (
    rf"(?:(?:a (?=hundred|thousand))?\b(?:{_WORD})"
    rf"(?:[\s-]+(?:(?:and|point)\s+)?(?:{_WORD})){{0,{_MOST_WORDS}}})"
)
SPOKEN = rf"{_SAID}\b(?![\s-](?:of )?{_UNITS}\b)"
SPELLED = (
    rf"\b(?:half (?:of )?an?|(?:a |three )?quarters? of an?|{_SAID}(?:{_HALF})?)"
    rf"(?=[\s-](?:of )?{_UNITS}\b)"
)
"""The pattern of one, in lower case; what follows it is a unit or a form."""
SPELLED_MARKS = (*TENS, *SCALES, "teen", "eleven", "twelve", "half", "quarter", " point ")
"""One of these is in each that `read_spelled` reads, but for `ten`."""


def read_spelled(written: str) -> str | None:
    """The number in digits; None for one of a single digit, and for what is none (`two one`)."""
    words = re.split(r"[\s-]+", written.lower())
    if words[-3:] == _HALF.split():
        words[-3:] = ["point", "five"]
    elif part := next((_PARTS[each] for each in words if each in _PARTS), None):
        return part
    at = words.index("point") if "point" in words else len(words)
    whole, digits = _whole(words[:at]), [_VALUES.get(word, 10) for word in words[at + 1 :]]
    if whole is None or max(digits, default=0) > 9:
        return None
    told = ".".join([str(whole), *filter(None, ["".join(map(str, digits))])])
    return told if len(told) > 1 else None


def read_spoken(written: str) -> str | None:
    """The same of a number that is said: `one twenty-four` is 124."""
    first, *rest = re.split(r"[\s-]+", written)
    below = _whole(rest) or 0
    if _VALUES.get(first, 10) < 10 and 10 <= below < 100:
        return str(100 * _VALUES[first] + below)
    return read_spelled(written)


def _whole(words: Sequence[str]) -> int | None:
    """`two hundred and fifty`: each word after the first must have room in what stands before."""
    if [*words] == ["zero"]:
        return 0
    thousands = part = 0
    room = 1000
    for word in words:
        scale, value = SCALES.get(word), _VALUES.get(word, 0)
        if scale and 0 < part < scale and not (scale == 1000 and thousands):
            part, room = part * scale, scale
            if scale == 1000:
                thousands, part = part, 0
        elif word != "and":
            if scale or not 0 < value < room:
                return None
            part, room = part + value, 10 if value in range(20, 100, 10) else 1
    return thousands + part
