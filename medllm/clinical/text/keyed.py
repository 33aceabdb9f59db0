"""Numbers whose unit stands in a key: `"dose_mg": 5000`, `| Dose (mg) |`, `"unit": "g"`.

An answer may write a prescription as JSON, YAML, a call, a table or `dose_mg=5000`. The unit is
read behind its number, so that the rules find there what they find in a sentence.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from medllm.clinical.text.arguments import (
    DURATIONS,
    INTERVALS,
    PERIODS,
    UNITS,
    every,
    number_of,
    words_of_key,
)

Edit = tuple[int, int, str]
"""The begin and end of what stands in a text, and what is read there in its place."""

NEW_OBJECT = "; {"
"""What is read between two objects of a list: what one says is not of the drug of the other."""
_MARKS = (
    *("_", "=", "{", "|", "\t", "<", "Mg", "Mcg"),
    *("unit:", "units:", "mg:", "mcg:", "day:", "g):", "l):", "s):", "y):", "g),", "l),", "g);"),
)
"""One of these stands in each text with such a key, and in few others."""
_LONGEST_KEY = 48
_MOST_BESIDE = 8
"""Entries beside a unit among which its number is looked for."""
_DEEPEST = 64
"""Objects within each other; what lies deeper counts to the one around."""
_MOST_WORDS = 6
"""Of the head of a column."""
_NUMBER = r"\d++(?:[.,]\d++)*+(?:[ ]?(?:-|–|to|,)[ ]?\d++(?:[.,]\d++)*+)*+"
_EVENT = re.compile(
    r"[{}\n:=>](?:(?<=\})(?P<next>\s*+,?\s*+\{)|(?<=\n)(?P<part>[ \t]*+(?:\n|[-*•][ \t]))"
    r"|(?<=[:=>])[ \t\"'`*\[]*+"
    rf"(?:(?P<number>{_NUMBER})(?![\w/%])|(?P<word>[A-Za-zµμ%][\w/%]*+)))?"
)
_BEFORE_JOINT = " \t\"'`*)"
_KEY = re.compile(r"[A-Za-z][^{}\[\]\n;|<>\"'`*,=:]*$")
_UNIT = r"(?:[kmuµμ]?g|mcg|m?l|iu|units?|meq|mmol)(?![^\W_])"
_UNIT_AS_VALUE = re.compile(rf"(?i){_UNIT}(?:/\w+)*")
_HAS_UNIT = re.compile(rf"(?i)[\"'`\])]*[ \t]*(?:{_UNIT}|[%/°x]|tab|cap|puff|drop|times)")
_CELL = re.compile(rf"[\s\"'`*]*(?P<number>{_NUMBER})[\s\"'`*]*")
_QUOTED = re.compile(r'"[^"\n]*"')
_SEPARATORS = ("|", "\t", ";", ",")
_PER = {"kg", "day", "daily", "dose", "dl", "l", "ml", "m2", "hour", "hr", "h", "week", "weekly"}
_OFTEN = {"times", "doses", "frequency", "administrations"}
_NAMES = {"drug", "medication", "medicine", "name", "generic", "product", "agent"}
_LIMITS = {"max", "maximum", "limit"}
_TIMES = {"age", "duration", "course"}
_OF_PATIENT = {"weight", "height"}
"""A mass or volume with one of these in its key is no dose."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A number, or the name of a unit that has a key of its own, and where it stands."""

    key: list[str]
    value: str
    begin: int
    end: int
    is_number: bool = True


@dataclass(slots=True)
class _Scope:
    """The entries of an object, of the item of a list or of a row, and the key of the object."""

    key: list[str] = field(default_factory=list)
    entries: list[_Entry] = field(default_factory=list)
    is_row: bool = False


def find_keyed(text: str) -> list[Edit]:
    """What is read in a text where the units of numbers stand in keys, in order."""
    if not any(mark in text for mark in _MARKS):
        return []
    kept: list[Edit] = []
    for edit in sorted({*_in_objects(text), *_in_columns(text)}):
        if not kept or (kept[-1][1] <= edit[0] and kept[-1][:2] != edit[:2]):
            kept.append(edit)
    return kept


def _in_objects(text: str) -> Iterator[Edit]:
    """In entries of JSON, YAML, calls and tags; one object of a list ends before the next one."""
    scopes = [_Scope()]
    for event in _EVENT.finditer(text):
        mark, kind = event[0][0], event.lastgroup
        if kind in ("number", "word"):
            scopes[-1].entries += _entry(text, event)
        if kind == "next":
            yield event.start(), event.end(), NEW_OBJECT
        if mark == "}" or (kind == "part" and len(scopes) == 1):
            yield from _told(text, scopes.pop())
        if (mark == "{" or kind == "next") and len(scopes) < _DEEPEST:
            scopes.append(_Scope(_key_of_object(text, event.start())))
            if scopes[-1].key == ["repeat"]:  # of FHIR's Timing, not the advice to take it again
                begin = text.rindex("repeat", 0, event.start())
                yield begin, begin + len("repeat"), "timing"
        if not scopes:
            scopes.append(_Scope())
    for scope in scopes:
        yield from _told(text, scope)


def _key(text: str, end: int) -> list[str]:
    """The words of the key before a colon or its like."""
    before = text[max(0, end - _LONGEST_KEY) : end].rstrip(_BEFORE_JOINT)
    found = _KEY.search(before)
    return words_of_key(found[0]) if found else []


def _key_of_object(text: str, begin: int) -> list[str]:
    before = text[max(0, begin - _LONGEST_KEY) : begin].rstrip()
    return _key(before, len(before) - 1) if before[-1:] in {":", "="} else []


def _entry(text: str, event: re.Match[str]) -> Iterator[_Entry]:
    key = _key(text, event.start())
    if event["number"] and not _HAS_UNIT.match(text, event.end()):
        yield _Entry(key, event["number"], *event.span("number"))
    elif event["word"] and key[-1:] in (["unit"], ["units"]):
        yield _Entry(key[:-1], event["word"], *event.span("word"), is_number=False)


def _in_columns(text: str) -> Iterator[Edit]:
    """In tables, whose first row holds the keys: Markdown, and columns of other separators."""
    begin = 0
    keys: list[list[str]] = []
    separator = ""
    for line in text.splitlines(keepends=True):
        cells = [*_cells(line, begin, separator)] if keys else []
        if keys and len(cells) == len(keys):
            edits = [*_told(text, _row(text, keys, cells))]
            if edits and (separator != "|" or _may_mix_up(keys)):
                yield begin - 1, begin, NEW_OBJECT
            yield from edits
        else:
            keys, separator = _header(line)
        begin += len(line)


def _header(line: str) -> tuple[list[list[str]], str]:
    """The keys of the columns and what parts them; none where no key has a unit."""
    separator = next((each for each in _SEPARATORS if each in line), "")
    keys = [words_of_key(each) for each in line.split(separator)] if separator else []
    if any(len(key) > _MOST_WORDS for key in keys):
        return [], ""
    has_units = any(_said("1", key) or key[-1:] in (["unit"], ["units"]) for key in keys)
    return (keys, separator) if has_units else ([], "")


def _may_mix_up(keys: Sequence[list[str]]) -> bool:
    """Whether a row could be read on from the one above: by a dose first, or a head's "max"."""
    if any(_LIMITS & {*key} for key in keys):
        return True
    doses = (place for place, key in enumerate(keys) if _said("1", key))
    names = (place for place, key in enumerate(keys) if _NAMES & {*key})
    return next(doses, 0) < next(names, 0)


def _cells(line: str, begin: int, separator: str) -> Iterator[tuple[int, int]]:
    masked = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), line)
    for cell in masked.split(separator):
        yield begin, begin + len(cell)
        begin += len(cell) + len(separator)


def _row(text: str, keys: Sequence[list[str]], cells: Sequence[tuple[int, int]]) -> _Scope:
    row = _Scope(is_row=True)
    for key, (begin, end) in zip(keys, cells, strict=True):
        if number := _CELL.fullmatch(text, begin, end):
            row.entries.append(_Entry(key, number["number"], *number.span("number")))
        elif key[-1:] in (["unit"], ["units"]):
            written = text[begin:end].strip(" \t\"'`*\r\n")
            row.entries.append(_Entry(key[:-1], written, begin, end, is_number=False))
    return row


def _told(text: str, scope: _Scope) -> Iterator[Edit]:
    """The numbers of a scope with their units, where those stand in keys."""
    bare: dict[int, _Entry] = {}
    for place, entry in enumerate(scope.entries):
        if entry.is_number:
            said = _said(entry.value, entry.key) or _said(entry.value, scope.key)
            if said:
                label = [*takewhile(lambda word: word not in UNITS, entry.key)]
                limit = " ".join(label) if scope.is_row and _LIMITS & {*label} else ""
                if limit:
                    yield entry.begin, entry.begin, f"{limit} "
                yield _edit(entry, said)
            else:
                bare[place] = entry
    for place, unit in enumerate(scope.entries):
        if not unit.is_number:
            beside = range(place - _MOST_BESIDE, place + _MOST_BESIDE)
            yield from _with_unit(unit, [bare[each] for each in beside if each in bare])


def _with_unit(unit: _Entry, numbers: Sequence[_Entry]) -> Iterator[Edit]:
    """The number that a unit with a key of its own is of, or how often, as FHIR has it."""
    by_key = {tuple(each.key): each for each in numbers}
    count, period = by_key.get(("frequency",)), by_key.get(("period",))
    if unit.key == ["period"] and count and period:
        said = every(count.value, period.value, PERIODS.get(unit.value, unit.value))
        yield _edit(count, said)
    elif _UNIT_AS_VALUE.fullmatch(unit.value):
        place = number_of(unit.key, [each.key for each in numbers])
        if place is not None:
            yield _edit(numbers[place], f"{numbers[place].value} {unit.value}")


def _edit(number: _Entry, said: str) -> Edit:
    """What follows a number is put behind it, so its digits stay where they are in the text."""
    if said.startswith(f"{number.value} "):
        return number.end, number.end, said.removeprefix(number.value)
    return number.begin, number.end, said


def _said(number: str, key: Sequence[str]) -> str:
    """A number with the unit that its key ends with; empty for a key that names none."""
    for place, word in enumerate(key):
        rest = [each for each in key[place + 1 :] if each != "per"]
        if word in UNITS | _OFTEN and {*rest} <= _PER:
            return _measured(number, {*key[:place]}, word, rest)
    return ""


def _measured(number: str, label: set[str], unit: str, per: Sequence[str]) -> str:
    periods = [each.replace("daily", "day").replace("weekly", "week") for each in per]
    if unit in DURATIONS:
        if label & INTERVALS:
            return f"every {number} {unit}"
        return f"{number} {unit}" if label & _TIMES else ""
    if unit in _OFTEN:
        return f"{number} times per {periods[0]}" if periods else ""
    if label & _OF_PATIENT:
        return ""
    return "/".join([f"{number} {unit.replace('percent', '%')}", *periods])
