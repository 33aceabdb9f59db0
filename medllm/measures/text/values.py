"""Measurements of a text, and what it adds to one: `lactate 1.4 (from 5.1)`."""

import re
from collections.abc import Iterator
from dataclasses import replace

from medllm.clinical.measurements import Measurement, find_measurements

_OTHER = re.compile(
    r"\s{0,2}(?:->|→|[,(\[]{0,2}\s?(?:(?:is |now )?(?:up|down|risen|fallen) )?"
    r"(?:from|was|prev(?:ious(?:ly)?)?|pre-?op|baseline|last|peak|nadir|usually)|\s?\()[:.]?\s?"
    r"(?:of )?"
    r"(?P<number>\d+(?:\.\d+)?)(?! ?(?:days?|weeks?|months?|years?|hours?|h|d|min)\b)"
    r"(?: ?(?P<unit>[^\d\s,;.()\[\]]{0,9})\s?(?:[),;\]]|\.(?!\d)|$|"
    r"(?:to|on|in|at|yesterday|pre-?op|last|before)\b))",
    re.IGNORECASE,
)
"""Another value behind one; what follows shows that it is of the same thing, no `(last 3 days)`."""


def find_values(text: str) -> list[Measurement]:
    """The measurements of a text in order, each with the other values that stand behind it."""
    found: dict[int, Measurement] = {}
    for each in find_measurements(text):
        known = found.get(each.begin)
        if not (known and known.attribute):
            found[each.begin] = each
        if each.attribute and each.value is not None:
            found |= {other.begin: other for other in _others(each, text)}
    return [found[begin] for begin in sorted(found)]


def _others(measured: Measurement, text: str) -> Iterator[Measurement]:
    """The values behind a measurement, as if its name stood beside each, and else its unit."""
    match = _OTHER.match(text, measured.end)
    if match is None:
        return
    stated = f"{measured.attribute} {match['number']} "
    read = find_measurements(stated + (match["unit"] or ""))[:1]
    begin, end = match.start("number"), match.end("unit")
    if not (read and read[0].written_unit):
        read, end = find_measurements(stated + measured.written_unit)[:1], match.end("number")
    for each in read:
        if each.attribute == measured.attribute:
            yield replace(each, begin=begin, end=end, quote=text[begin:end])
