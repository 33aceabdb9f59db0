"""Numbers in words, as in a transcribed conversation: `twenty six`, `three out of six`."""

import re
from collections.abc import Mapping

_SMALL: Mapping[str, int] = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS: Mapping[str, int] = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
    "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES: Mapping[str, int] = {"hundred": 100, "thousand": 1000}
_WORD = "|".join([*_SMALL, *_TENS, *_SCALES])
_NUMBER = re.compile(rf"(?i)\b(?:{_WORD})(?:(?:[- ]|[- ]and )(?:{_WORD}))*\b")
_POINT = re.compile(r"(?<=\d) point (?=\d+\b)")
_ORDINALS: Mapping[str, int] = {
    **{f"{word}th": value for word, value in {**_SMALL, **_TENS}.items()},
    "first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12,
    "twentieth": 20, "thirtieth": 30,
}  # fmt: skip
_OF_MONTH = re.compile(
    r"(?i)\b(january|february|march|april|may|june|july|august|september|october|november|december)"
    rf" (?:the )?(?:(20|30)[- ])?({'|'.join(_ORDINALS)})\b"
)
_OUT_OF = re.compile(r"(?<=\d) out of (?=\d)")
_A_TIME = re.compile(r"\b(in|about|for|after|within) an? (?=(?:year|month|week|day|hour)\b)")


def with_digits(text: str) -> str:
    """The text with numbers in digits; only to look numbers up in, for places in it move."""
    text = _NUMBER.sub(lambda match: _value(match[0].lower()), text)
    text = _OF_MONTH.sub(
        lambda match: f"{match[1]} {int(match[2] or 0) + _ORDINALS[match[3].lower()]}", text
    )
    text = _A_TIME.sub(r"\1 1 ", _POINT.sub(".", text))
    return _OUT_OF.sub("/", text)


def _value(written: str) -> str:
    """One number, or several where words do not join: `one two` is 1 2."""
    numbers, begun, least = list[int](), 0, 0
    for word in re.findall(r"[a-z]+", written):
        if word == "and":
            continue
        if word in _SCALES:
            begun, least = max(begun, 1) * _SCALES[word], _SCALES[word]
            continue
        value = _SMALL.get(word, 0) or _TENS.get(word, 0)
        if value and begun and least >= (10 if value < 10 else 100):
            begun, least = begun + value, 10 if word in _TENS else 1
        else:
            numbers += [begun] if least else []
            begun, least = value, 10 if word in _TENS else 1
    return " ".join(map(str, [*numbers, begun]))
