"""When and with whom a text has a follow-up: `review in six weeks`, `RTC 6/52`, `f/u with GP`."""

import re
from collections.abc import Iterator, Mapping

from medllm.clinical.text.reading import Reading, Span

_FOLLOW_UP = re.compile(
    r"\b(?:follow(?:ed|ing)?[- ]?ups?|f/u|r/v|rtc|rpt|appointments?|return(?:s|ing)? (?:to|in)|"
    r"be seen (?:in|by|at)|see (?:his|her|your|the|a|dr)|outpatient|out-patient|recheck(?:ed)?|"
    r"(?:review|repeat)(?:ed)?(?= (?:in|at|by)\b|[^.;]{0,40} \d{1,2}/(?:7|52|12)\b))\b"
)
_COUNTS = {word: number for number, word in enumerate(
    ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], 1)} | {
    "a": 1, "next": 1, "twelve": 12}  # fmt: skip
_UNITS: Mapping[str, tuple[int, str]] = {
    "d": (1, "day"), "7": (1, "day"), "w": (7, "day"), "52": (7, "day"), "m": (1, "month"),
    "12": (1, "month"), "y": (12, "month"),
}  # fmt: skip
"""By the first letter of a unit, or the part of Britain's shorthand (`6/52` are six weeks)."""
_INTERVAL = re.compile(
    rf"\b(?:(?:\d{{1,2}}[- ](?:to[- ])?)?(\d{{1,2}}|{'|'.join(_COUNTS)})[- ]?"
    r"(day|d|week|wk|w|month|mo|mth|year|yr|y)s?|(\d{1,2})/(7|52|12))\b"
)
_WITH = re.compile(
    r"\b(primary care|pcp|gp|general practi\w+|family (?:doctor|physician|medicine)|"
    r"[a-z]{3,}olog(?:y|ist)|surge(?:ry|on)|orthop\w+|neurosurge\w+|psychiatr\w+|p[a]?ediatric\w+|"
    r"obstetric\w+|physiotherap\w+|physical therap\w+|anticoagulation clinic|wound (?:care|clinic))"
)
_PRIMARY = re.compile(r"pcp|gp|general|family|primary")


def find_follow_ups(reading: Reading) -> Iterator[tuple[Span, set[tuple[int, str] | tuple[str]]]]:
    """Each sentence with a follow-up: its place, when (`42, "day"`) and with whom (`cardiolog`)."""
    text = reading.folded.text
    for first, last in reading.sentences:
        if first == last:
            continue
        begin, end = reading.begins[first], reading.ends[last - 1]
        if _FOLLOW_UP.search(text, begin, end):
            told: set[tuple[int, str] | tuple[str]] = set()
            told |= {_in_days(each) for each in _INTERVAL.finditer(text, begin, end)}
            told |= {(_who(each[1]),) for each in _WITH.finditer(text, begin, end)}
            yield reading.place(first, last), told


def _in_days(interval: re.Match[str]) -> tuple[int, str]:
    """A time in days where it is weeks, in months where it is years."""
    count, unit = interval[1] or interval[3], interval[4] or interval[2][0]
    factor, base = _UNITS[unit]
    return (_COUNTS.get(count) or int(count)) * factor, base


def _who(written: str) -> str:
    """With whom: a specialist is known by the beginning of the word, as cardiolog."""
    return "primary care" if _PRIMARY.match(written) else written[:8]
