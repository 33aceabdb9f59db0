"""Numbers in words, as in a transcribed conversation: `twenty six`, `three out of six`."""

import re
from collections.abc import Mapping

from medllm.clinical.text.spelled import SCALES, SMALL_NUMBERS, TENS

_SMALL = {word: value for value, word in enumerate(SMALL_NUMBERS)}
_TENS = {word: 10 * value for value, word in enumerate(TENS, 2)}
_WORD = "|".join([*_SMALL, *_TENS, *SCALES])
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
        if word in SCALES:
            begun, least = max(begun, 1) * SCALES[word], SCALES[word]
            continue
        value = _SMALL.get(word, 0) or _TENS.get(word, 0)
        if value and begun and least >= (10 if value < 10 else 100):
            begun, least = begun + value, 10 if word in _TENS else 1
        else:
            numbers += [begun] if least else []
            begun, least = value, 10 if word in _TENS else 1
    return " ".join(map(str, [*numbers, begun]))
