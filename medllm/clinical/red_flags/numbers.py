"""Numbers that make an emergency, as lay people write them: "39.2", "200 over 125", "sugar is 2".

A number without a unit is read in the unit in which a living person can have it. Thresholds are
those of the rules (`red_flags.yaml`) that name these concepts.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Iterator

from medllm.clinical.red_flags.patterns import Content
from medllm.clinical.text.reading import Reading, Span
from medllm.clinical.text.spelled import SMALL_NUMBERS, TENS

Found = tuple[str, int, int]
"""A concept, and where it stands in the folded text."""

_DEGREES = re.compile(
    r"(?<![\d./-])(\d{2,3})(\.\d{1,2})?(?![\d/]|\.\d)"
    r"(?! ?(?:-|weeks?|wks?|years?|yrs?|y/?o|months?|days?|kgs?|lbs?|cm|mm|m[gl]|mcg|%|min|hours?|"
    r"hrs?|[ap]m|x|bpm|beats|old|tabl|pills?|puffs|times|people|over\b))"
)
_UNIT = re.compile(r" ?(?:°|degrees?\b|deg\b|c\b|f\b|celsius|fahrenheit)")
_CUE = re.compile(r"(?:temp\w*|fever\w*|thermometer|hot|burning)\b[^.\d]{0,25}$")
_NO_BODY = re.compile(
    r"\b(?:room|nursery|bedroom|house|bath\w*|water|oven|fridge|outside|weather|milk|bottle|"
    r"incubator|yog\w+)\b[^.\d]{0,25}$"
)
_PRESSURE = re.compile(r"(?<![\d./])(\d{3}) ?(?:/|over) ?(\d{2,3})(?![\d/])")
_SYSTOLIC = re.compile(r"(?<![\d./])(\d{3}) systolic|systolic[^.\d]{0,20}(\d{3})(?![\d/])")
_OXYGEN = re.compile(
    r"\b(?:oxygen|o2|spo2|sats?|saturations?|oximeter)\b[^.\d]{0,25}(\d{2})(?![\d.]| ?l)"
)
_SUGAR = re.compile(
    r"\b(?:sugars?|glucose|glucometer|(?<!flow )meter|bm|bg)\b"
    r"[^.\d]{0,20}(\d{1,3}(?:\.\d)?)(?![\d/])"
)
_KETONES = re.compile(r"\bketones?\b[^.\d]{0,20}(\d(?:\.\d)?)(?![\d/])")
_POTASSIUM = re.compile(
    r"\b(?:potassium|k\+|(?<!vitamin )(?<!vit )k(?= ?[=:]? ?\d))"
    r"(?! (?:chlor|citr|gluc|bicarb|iod|perm|suppl|tab|food|rich))"
    r"(?:(?! in \d|creat|gluc|sugar|phos|ha?emo| age)[^.\d]){0,25}(\d{1,2}(?:\.\d{1,2})?)"
    r"(?![\d/]|\.\d| ?(?:m[gl]|meq|g|tab\w*|times|days?|weeks?|months?|servings?)\b(?!/))"
)
_MINUTES = re.compile(r"(?<![\d./-])(\d{2,3}) ?min(?:ute)?s?\b")
_TENS = re.compile(
    rf"\b(?:{'|'.join(TENS)}|(?:a|one) hundred)\b"
    r"(?![ -](?:mg|mcg|grams?|milli\w*|minutes?|hours?|days?|weeks?|years?)\b)"
)
_YOUNG = re.compile(
    rf"\b(\d{{1,2}}|{'|'.join(SMALL_NUMBERS[1:13])})[ -]?"
    r"(day|week|wk|month|mth|mo)s?\b(?:[ -]?olds?)?"
)
_YEARS = re.compile(
    r"\b(?:is|i'm|am|aged?|at|she's|he's|over|,) ?(\d{2})\b"
    r"(?! ?[%/.\d]| ?(?:week|day|month|mg|ml))|"
    r"\b(\d{2})[ -]?(?:years?|yrs?|y/?o)\b(?=[ -]?(?:old|of age|male|female|man|woman|m\b|f\b|\W))"
)
_GESTATION = re.compile(
    r"\b(2\d|3\d|4[0-2])(?: ?\+ ?\d)? ?(?:weeks?|wks?|w)\b(?! ago| old|[a-z ]{0,12} ago)|"
    r"\bweeks? (2\d|3\d|4[0-2])\b"
)
_PERSON = re.compile(
    r"\b(?:i|i'm|im|i've|i'd|me|my|myself|we|((?:s?he|they)(?:'?s|'?re|'?ve)?|him|her|his|himself|"
    r"herself|themselves|brother|sister|friend|son|daughter|mate|partner|wife|husband))\b"
)
_COUNT = re.compile(
    r"(?<![\d./])(\d{1,3})"
    r"(?![\d./]| ?(?:mgs?|mcg|g|ml|milli\w*|gram\w*|hours?|days?|weeks?|years?)\b)"
)
_DEPARTMENT = re.compile(r"\ba ?(?:&|and|\+|n) ?(e)\b")
_DAYS = {"d": 1.0, "w": 7.0, "m": 30.44}
TERM_WEEKS = 37
"""Labour before is premature (Tommy's)."""
MANY = 8
"""So many tablets at once are more than a day's worth of most medicines (a convention)."""

_BOUNDS = (
    ("$low_oxygen", _OXYGEN, 40, 91),
    ("$ketones", _KETONES, 3, math.inf),
    ("$high_potassium", _POTASSIUM, 6.5, 12),
    ("$many", _COUNT, MANY, math.inf),
    ("$minutes10", _MINUTES, 10, math.inf),
)


def find_numbers(reading: Reading, content: Content) -> dict[str, list[Span]]:
    """The places of each such concept, in content words, in order."""
    folded = reading.folded.text
    found: dict[str, set[Span]] = {}
    if any(map(str.isdigit, folded)) or _YOUNG.search(folded) or _TENS.search(folded):
        for name, begin, end in (*_temperatures(folded), *_pressures(folded), *_other(folded)):
            found.setdefault(name, set()).add(_place(reading, content, begin, end))
    return {name: sorted(places) for name, places in found.items()}


def find_department(reading: Reading, content: Content) -> list[Span]:
    """Where a text names A&E, whose letters are no words."""
    found = _DEPARTMENT.finditer(reading.folded.text)
    return [_place(reading, content, *each.span(1)) for each in found]


def find_people(reading: Reading, content: Content) -> dict[str, list[Span]]:
    """Before which content words somebody is spoken of (`$other`: than the writer), in no word."""
    found: dict[str, list[Span]] = {}
    for each in _PERSON.finditer(reading.folded.text):
        place = bisect_left(content.words, bisect_left(reading.begins, each.start()))
        for name in ("$person", "$other") if each[1] else ("$person",):
            found.setdefault(name, []).append((place, place))
    return found


def _place(reading: Reading, content: Content, begin: int, end: int) -> Span:
    """The content words that a part of the folded text covers; at least one."""
    first = bisect_left(content.words, bisect_left(reading.begins, begin))
    last = bisect_left(content.words, bisect_left(reading.begins, end))
    first = min(first, len(content.words) - 1)
    return first, max(last, first + 1)


def _temperatures(folded: str) -> Iterator[Found]:
    for each in _DEGREES.finditer(folded):
        has_cue = _CUE.search(folded, max(0, each.start() - 40), each.start())
        is_other = _NO_BODY.search(folded, max(0, each.start() - 40), each.start())
        if is_other or not (each[2] or has_cue or _UNIT.match(folded, each.end())):
            continue
        degrees = float(each[1] + (each[2] or ""))
        celsius = (degrees - 32) / 1.8 if 86 <= degrees <= 110 else degrees
        for name, fits in (
            ("$fever38", 38 <= round(celsius, 1) <= 43),
            ("$fever39", 39 <= round(celsius, 1) <= 43),
            ("$hot", 39.4 <= round(celsius, 1) <= 43.5),
            ("$below36", has_cue and 30 <= celsius < 36),
            ("$cold", has_cue and 25 <= celsius <= 35),
        ):
            if fits:
                yield name, *each.span()


def _pressures(folded: str) -> Iterator[Found]:
    for each in _PRESSURE.finditer(folded):
        systolic, diastolic = int(each[1]), int(each[2])
        if systolic > 300 or diastolic >= systolic or diastolic > 200:
            continue
        if systolic >= 180 or diastolic >= 120:
            yield "$pressure180", *each.span()
        if systolic >= 140 or diastolic >= 90:
            yield "$pressure140", *each.span()
    for each in _SYSTOLIC.finditer(folded):
        if 180 <= int(each[1] or each[2]) <= 300:
            yield "$pressure180", *each.span()


def _other(folded: str) -> Iterator[Found]:
    for name, pattern, least, most in _BOUNDS:
        for each in pattern.finditer(folded):
            if least <= float(each[1]) <= most:
                yield name, *each.span()
    for each in _TENS.finditer(folded):
        yield "$many", *each.span()
    for each in _GESTATION.finditer(folded):
        yield "$gestation", *each.span()
        if int(each[1] or each[2]) < TERM_WEEKS:
            yield "$preterm", *each.span()
    yield from _sugars(folded)
    yield from _ages(folded)


def _sugars(folded: str) -> Iterator[Found]:
    for each in _SUGAR.finditer(folded):
        sugar = float(each[1])  # mmol/L up to 35, else mg/dL
        if sugar < 3.0 or 36 <= sugar < 54:
            yield "$low_sugar", *each.span()
        if 14 <= sugar <= 35 or sugar >= 250:
            yield "$high_sugar", *each.span()


def _ages(folded: str) -> Iterator[Found]:
    for each in _YOUNG.finditer(folded):
        count = int(each[1]) if each[1].isdigit() else SMALL_NUMBERS.index(each[1])
        months = count * _DAYS[each[2][0]] / _DAYS["m"]
        old = "_old" if each[0].endswith(("old", "olds")) else ""
        if months < 3:
            yield f"$under3months{old}", *each.span()
        elif months < 6.01:
            yield f"$under6months{old}", *each.span()
    for each in _YEARS.finditer(folded):
        if 50 <= int(each[1] or each[2]) <= 110:
            yield "$over50", *each.span()
