"""What stands after a name: the words between, the number, and its unit."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from medllm.clinical.measurements.measurement import Meaning, fitting_unit, mean
from medllm.clinical.measurements.names import Name
from medllm.clinical.measurements.numbers import Value, read_value
from medllm.clinical.measurements.quantities import Quantity, quantity
from medllm.clinical.measurements.units import UNIT, kind_of, read_unit

_DATE = (
    r"(?:\d{1,2}(?P<mark>[/.-])\d{1,2}(?P=mark)\d{2,4}|\d{4}-\d{1,2}-\d{1,2}"
    r"|\d{1,2}:\d\d(?::\d\d)?(?: ?[ap]\.?m\.?)?)(?!\d|[/.]\d)"
)
_WORDS = """
is was are were be been being has had have of at to in the a an it his her level levels count rate
reading readings value values result results today currently now initially again still measured
found noted recorded reported documented taken obtained checked came back as returned showed shows
showing read reads revealed reveals stable normal elevated high low slightly mildly moderately
markedly maximum max min minimum peak current initial baseline resting average mean oral orally
tympanic rectal axillary sitting standing supine morning afternoon evening yesterday tonight this
last fasting random serum plasma blood total venous arterial remains remained running ranging
ranges ranged between mostly generally only just well score scale from index calculated estimated
which already come drawn varying rating equals equal recently here into okay ok
"""
_PHRASES = [
    "down to", "up to", "down from", "up from", "on arrival", "on admission", "on discharge",
    "on presentation", "on exam", "on examination", "on room air", "on ra", "on oxygen", "on air",
    "at rest", "at discharge", "in triage", "as high as", "as low as", "left arm", "right arm",
    "comes to", "came to", "adds up to", "down at", "up at",
]  # fmt: skip
_CHANGED = (
    r"(?:improved|dipped|dropped|fell|fallen|rose|risen|increased?|decreased?|went|gone|drop|climbed|declined)"
    r"(?: (?:up|down|slightly|markedly))? (?:to|from|into)"
)
"""A change counts only with where it came from or went to: "fell 2 g" is no value."""
_LONGEST_FIRST = "|".join([*_PHRASES, _CHANGED, *sorted(_WORDS.split(), key=len, reverse=True)])
_BETWEEN = re.compile(
    r"\.?(?:\([a-z0-9+ ]{1,12}\)|'s |[ :=|,;()\[\"'_]|-(?!\d)|(?<=[a-z0-9])-(?=\d)|->"
    rf"|(?:on |at )?{_DATE}|on \d{{1,2}}/\d{{1,2}}(?= )"
    rf"|(?:{_LONGEST_FIRST})(?![a-z0-9])){{0,24}}"
)
"""The words between a name and its number, of which none is a name or a number itself."""
_UNIT = re.compile(rf"[ -]?(?:degrees? ?|deg\.? ?|° ?)?(?P<unit>{UNIT.pattern})")
_OUT_OF = re.compile(r" ?(?:/|out of) ?(\d{1,3})(?![\d/])")
_OTHER_THING = re.compile(
    r"[ -]?(?:times?|x|years?|yrs?|yo|y/o|weeks?|months?|mos?|days?|hours?|hrs?|minutes?|pills?|"
    r"tablets?|tabs?|doses?|packs?|patients?|cigarettes|beers?|drinks?|of \d|"
    r"k?cal(?:orie)?s?|(?:[wr]bcs? ?)?(?:/|per) ?(?:hpf|lpf|high power))"
    r"(?![a-z0-9]|(?<=hr)[ :=]{1,2}\d)"
)
"""After a number: it counts something else than what was named before."""
_LIST_MARK = re.compile(r"\d{1,2}\. ?[a-z]")
"""The number of the next item of a list, as in `9. Digoxin. 10. Zocor`."""
_THEN = re.compile(r" ?(?:->|=>|(?:then|and then|to|and)(?![a-z0-9])) ?")
_HEART_RATE = re.compile(r"[ :=]{1,2}\d")
"""After "hr": it is no unit, but the next name, as in `T 36.4 HR 62`."""
SOFT = {"in", "m", "c", "f", "'", '"'}
"""Units that are also other words."""
_JOINT = re.compile(r" ?(?:,? ?and|,|/|&) ?(?=[\d.])")
_SHARE = re.compile(r"(?<![\d.,/-])(?P<share>(\d{1,2}(?:\.\d)?)(?: ?%)?) ?$")
_REST = {"lb": ("oz", 16), "ft": ("in", 12), "stone": ("lb", 14)}
_SECOND = re.compile(rf"\.? ?(?:,|and)? ?(?P<number>\d{{1,2}}(?:\.\d+)?) ?(?P<unit>{UNIT.pattern})")


@dataclass(frozen=True, slots=True)
class Found:
    """A measurement in folded text; `is_sure` where nothing around it is needed to believe it."""

    meaning: Meaning
    begin: int
    end: int
    sign: str = ""
    is_sure: bool = True


def begin_of_value(text: str, name: Name) -> int:
    """Where the words between a name and its number end."""
    between = _BETWEEN.match(text, name.end)
    return between.end() if between else name.end


def read_named(text: str, name: Name, european: bool) -> Iterator[Found]:
    """The measurements after a name: one, or several of the same ("8.2 -> 7.1")."""
    begin = begin_of_value(text, name)
    gap = text[name.end : begin]
    if name.is_weak and name.end - name.begin <= 3 and (gap.strip(" :=") or not gap):
        return
    if begin < len(text) and text[begin] == "-" and not _can_be_negative(name):
        begin += 1
    if set(gap) & {*".,;"} and _LIST_MARK.match(text, begin):
        return
    values = _values(text, begin, european, gap)
    for number, value in enumerate(values):
        last = values[-1] if not read_unit_at(text, value.end)[0] else value
        found = _found(text, name, value, last)
        if not found:
            return
        yield found
        if number == 0 and found.meaning.problem and name.is_weak:
            return


def read_row(text: str, row: list[Name], european: bool) -> list[Found]:
    """`BUN and creatinine were 22 and 1.4`: a number for each name, else nothing is read."""
    begin, values = begin_of_value(text, row[-1]), list[Value]()
    while len(values) <= len(row) and (value := read_value(text, begin, european, "from ")):
        values.append(value)
        joint = _JOINT.match(text, value.end)
        if not joint:
            break
        begin = joint.end()
    if len(values) != len(row):
        return []
    found = [_found(text, name, each, each) for name, each in zip(row, values, strict=True)]
    return [each for each in found if each]


def read_share(text: str, name: Name, done: int) -> Found | None:
    """`61% neutrophils`: a share of cells whose number stands before its name."""
    known = next((each for each in name.quantities if each.name.endswith("share")), None)
    before = known and _SHARE.search(text, max(done, name.begin - 8), name.begin)
    if not known or not before:
        return None
    value = Value((Decimal(before[2]),), None, "", before.start(2), before.end(2))
    return Found(mean(known, value, "%"), value.begin, before.end("share"))


def _can_be_negative(name: Name) -> bool:
    return any(each.possible[0] < 0 for each in name.quantities)


def _values(text: str, begin: int, european: bool, before: str) -> list[Value]:
    """The values at a place that follow each other by an arrow, or by "to" after "from"."""
    values: list[Value] = []
    while value := read_value(text, begin, european, before):
        values.append(value)
        _, end = read_unit_at(text, value.end)
        then = _THEN.match(text, end)
        if not then or (then[0].strip() in {"to", "and"} and "from " not in before):
            break
        begin = then.end()
    return values


def read_unit_at(text: str, position: int) -> tuple[str, int]:
    """The unit after a number and where it ends; none where what stands there is no unit."""
    match = _UNIT.match(text, position)
    unit = read_unit(match["unit"]) if match else ""
    if not match or not unit or not kind_of(unit.removeprefix("/")):
        return "", position
    if match["unit"] == "hr" and _HEART_RATE.match(text, match.end()):
        return "", position
    return unit, match.end()


def _found(text: str, name: Name, value: Value, last: Value) -> Found | None:
    """A value with its unit; `last` is the value of its row that the unit stands after."""
    if _OTHER_THING.match(text, value.end):
        return None
    unit, end = read_unit_at(text, last.end)
    first, end_of_score = name.quantities[0], _end_of_score(text, name.quantities[0], value)
    if end_of_score is None:
        return None
    if unit and kind_of(unit) == ("time",) and not first.has_unit(unit):
        return None
    value, unit, end = with_rest(text, value, unit, end if value is last else value.end)
    known, fitting = _fitting(name, unit)
    if unit and not fitting:
        if text[value.end : end].strip(" -") not in SOFT or first.scored:
            return None
        end = value.end
    elif not unit:
        end = max(value.end, end_of_score)
    meaning = mean(known, value, fitting)
    return _believed(name, known, Found(meaning, value.begin, end, value.sign), value)


def _end_of_score(text: str, known: Quantity, value: Value) -> int | None:
    """Where "14/15" ends; None where a number after a slash is not the most points."""
    match = _OUT_OF.match(text, value.end)
    if not match:
        return value.end
    return match.end() if known.out_of == int(match[1]) else None


def _fitting(name: Name, unit: str) -> tuple[Quantity, str]:
    """The quantity that has this unit, of those that the name stands for; else the first."""
    for each in name.quantities:
        if unit and (fitting := fitting_unit(each, unit)):
            return each, fitting
    return name.quantities[0], ""


def with_rest(text: str, value: Value, unit: str, end: int) -> tuple[Value, str, int]:
    """`5 ft 10 in` and `7 lb 4 oz` as one value in the smaller unit."""
    if unit not in _REST:
        return value, unit, end
    smaller, factor = _REST[unit]
    match = _SECOND.match(text, end)
    written = match["unit"] if match else ""
    is_bare = bool(match) and (
        text[end - 1] == "'" or (unit == "stone" and text[end : end + 2].strip().isdigit())
    )
    if not match or not (read_unit(written) == smaller or (not written and is_bare)):
        return value, unit, end
    total = value.readings[0] * factor + Decimal(match["number"])
    end = match.end() if written else match.end("number")
    return Value((total,), None, value.sign, value.begin, value.end), smaller, end


def _believed(name: Name, known: Quantity, found: Found, value: Value) -> Found | None:
    """What is found, unless a short name or an odd value makes it something else."""
    impossible = found.meaning.problem.startswith("impossible")
    fraction = any(each % 1 for each in value.readings)
    if impossible and (name.is_weak or known.strict):
        return None
    if not name.is_weak:
        return found
    if known.whole and fraction:
        return None
    is_sure = bool(found.meaning.written) or fraction
    return Found(found.meaning, found.begin, found.end, found.sign, is_sure)


def pressure(role: str) -> Quantity:
    """The quantity of the first or the second number of a blood pressure."""
    return quantity(f"{role} blood pressure")
