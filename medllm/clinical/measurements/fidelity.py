"""Whether an answer keeps to the vital signs that it was given: `check_vitals`."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from medllm.clinical.measurements.consciousness import (
    CONSCIOUSNESS,
    Level,
    find_levels,
    letters_of_coma,
)
from medllm.clinical.measurements.finding import find_measurements
from medllm.clinical.measurements.measurement import Measurement
from medllm.clinical.measurements.quantities import quantity

Outcome = Literal["kept", "altered", "invented", "reference"]
WRONG: tuple[Outcome, ...] = ("altered", "invented")
PRESSURES = ("systolic blood pressure", "diastolic blood pressure")
MEAN = "mean arterial pressure"
SATURATION = "oxygen saturation"
GIVEN_TO_PATIENTS = ("oxygen flow", "fraction of inspired oxygen")
COMA = "Glasgow Coma Scale"
VITALS = frozenset({
    "heart rate", "respiratory rate", *PRESSURES, MEAN, "body temperature", SATURATION,
    *GIVEN_TO_PATIENTS, COMA, "glucose", "urine output", "hourly urine output",
})  # fmt: skip
MOST_OF_COMA = 15
MOST_POINTS = 3
"""A parameter of a score has up to 3 points: so small a number without a unit is no vital sign."""
_CLAUSE = re.compile(r"[;:!?()|\n,]|\.(?!\d)|\b(?:and|but|while|with)\b")
"""Where the words before a value begin that can say what it is."""
_SENTENCE = re.compile(r"\.(?!\d)|[;!?\n]")
_NORM = re.compile(
    r"(?i)\b(?:normal(?:ly)?|reference|targets?|targeted|targeting|goal|aim(?:s|ing)? for|"
    r"thresholds?|limits?|cut-?offs?|ranges?|keep|maintain\w*|titrat\w+|expected|typical(?:ly)?|"
    r"usual(?:ly)?|healthy|e\.g|example|criteri\w+|defined as|points? (?:for|if)|"
    r"scores? \d.{0,12}(?:for|if))\b"
)
_NORM_AFTER = re.compile(
    r"(?i)[^.;\n\d]{0,12}\b(?:is|are|as|would be|being)\b[^.;\n\d]{0,16}\b(?:normal|a reference|"
    r"target|threshold|cut-?off|goal)|[ (]*(?:scores?|gives?|=) ?\+?[0-3] points?"
)
_GENERAL = re.compile(
    r"(?i)\b(?:for example|for instance|e\.g\.|in (?:healthy )?(?:adults|children|people)|"
    r"an? (?:healthy )?(?:adult|child|person))\b"
)
_OF_PATIENT = re.compile(r"(?i)\b(?:patients?|his|her|their|your|he|she|this|these|now)\b")
_BRACKET = re.compile(r"\s*[(=/]\s*")
_NEGATED = re.compile(r"(?i)\b(?:not|n't|never|far from|ab(?=normal))")
_CONDITION = re.compile(
    r"(?i)\b(?:if|when|whenever|unless|until|once)\b[^,;]*$|"
    r"\bshould\b(?:(?!\b(?:because|since|as|due|given|with|for|at|after)\b)[^,;])*$"
)
"""Before a value that may come to be; of what should be done for a reason the value is one."""
_ADVICE = re.compile(
    r"(?i)\b(?:give|giving|start|apply|administer|deliver|increase|titrate|initiate|provide|consider|"
    r"commence|begin|escalate|switch|change|wean|reduce|via|recommend\w*|needs?|requires?)\b"
)
_CLAIM = re.compile(
    r"(?i)\b(?:is|was|are|were|remains?|has|had|with|shows?|showed|measured|now|currently)\b[^,;(]*$"
)
_BEYOND = re.compile(r"(?i)\s?(?:points )?(?:above|below|higher than|lower than)\b")
"""After a number that says how far a sign is from another: `6 above the upper limit of 20`."""
LEAST: Mapping[str, int] = {
    "heart rate": 25, "respiratory rate": 8, "systolic blood pressure": 50,
    "diastolic blood pressure": 20, "body temperature": 25, SATURATION: 40,
}  # fmt: skip
"""A number that is not below this may be the sign itself, whatever stands after it."""
_DIFFERENCE = re.compile(r"(?i)\bby(?: (?:about|around|up to|more than))?\s*$")
_ITEM = re.compile(r"\d{1,2}[.)]\s")
_LINE = re.compile(r"(?:^|\n)[ \t]*\(?$")
_OR_MORE = re.compile(
    r"(?i)\s?(?:\+|(?:or|and) (?:more|above|higher|over|greater|less|below|lower|under)\b)"
)
_FILLER = r"[ ,:(]{1,3}(?:(?:at|of|to|with|rate|hr|rr|is|was|around|about|in|the|a) ){0,3}"
_ADJECTIVES: Mapping[str, re.Pattern[str]] = {
    name: re.compile(rf"(?i)\b(?:{words}){_FILLER}(?P<n>{number})(?![\d/.,]?\d)")
    for name, words, number in (
        ("heart rate", r"(?:tachy|brady)cardi(?:a|c)", r"\d{2,3}"),
        ("respiratory rate", r"(?:tachy|brady)pno?e(?:a|ic)", r"\d{1,2}"),
        ("oxygen saturation", r"hypox(?:ic|ia|aemia|emia|aemic|emic)", r"\d{2}"),
        ("body temperature", r"febrile|fever|pyrexial?|hypothermi(?:a|c)", r"\d{2}(?:\.\d)?"),
        ("systolic blood pressure", r"hyp(?:o|er)tensi(?:ve|on)", r"\d{2,3}"),
    )
}
"""Words that name a sign by its being high or low, and the number after them."""
_NUMBER = re.compile(r"\d+(?:[.,](\d+))?")


@dataclass(frozen=True, slots=True)
class StatedVital:
    """A vital sign as an answer states it, in the usual unit, and what that is.

    The value of a level of consciousness is the letters of ACVPU that it leaves possible.

    `kept`: one of the values given, in whatever unit, or what follows of them. `altered`: another
    value than those given. `invented`: none was given. `reference`: a range, a threshold, a target
    or advice, which says nothing of how the patient is.
    """

    attribute: str
    value: Decimal | str
    outcome: Outcome
    begin: int
    end: int


def given_vitals(text: str) -> set[str]:
    """The vital signs of which a text has a value."""
    signs = {each.attribute for each in find_measurements(text) if _is_sign(each)}
    has_level = any(each.is_said for each in find_levels(text))
    return signs | ({CONSCIOUSNESS} if has_level else set())


def known_vitals(given: str) -> dict[str, list[Measurement]]:
    """The vital signs of a text, by what they are of."""
    known: dict[str, list[Measurement]] = {}
    for each in find_measurements(given):
        if _is_sign(each):
            known.setdefault(each.attribute, []).append(each)
    return known


def check_vitals(given: str, answer: str) -> tuple[StatedVital, ...]:
    """Each vital sign that an answer states, held against the text that it was given.

    Signs without a number ("normal pulse") are not judged, but for the level of consciousness,
    which points of the coma scale tell, too. The time is linear in both texts.
    """
    known = known_vitals(given)
    return check_known(known, known_levels(given), answer)


def known_levels(given: str) -> list[str]:
    """The levels of consciousness of a text, each as letters of ACVPU."""
    return [each.letters for each in find_levels(given) if each.is_said]


def check_known(
    known: Mapping[str, Sequence[Measurement]], levels: Sequence[str], answer: str
) -> tuple[StatedVital, ...]:
    """The same, held against signs and levels that are known."""
    levels = [*levels, *(letters_of_coma(each.readings[0]) for each in known.get(COMA, ()))]
    stated = [_with_level(each, levels) for each in _check_numbers(known, answer)]
    stated += [_stated_level(each, levels) for each in find_levels(answer)]
    return tuple(sorted(stated, key=lambda one: one.begin))


def _with_level(stated: StatedVital, levels: Sequence[str]) -> StatedVital:
    """Points of the coma scale that nobody gave, held against the level that was given."""
    if stated.attribute != COMA or stated.outcome != "invented" or isinstance(stated.value, str):
        return stated
    outcome = _level_outcome(letters_of_coma(stated.value), levels)
    is_told = outcome == "altered" or stated.value == MOST_OF_COMA
    return replace(stated, outcome=outcome) if is_told else stated


def _stated_level(stated: Level, levels: Sequence[str]) -> StatedVital:
    outcome = _level_outcome(stated.letters, levels) if stated.is_said else "reference"
    return StatedVital(CONSCIOUSNESS, stated.letters, outcome, stated.begin, stated.end)


def _level_outcome(stated: str, levels: Sequence[str]) -> Outcome:
    """Whether a level that was given says it, rules it out, or leaves it open."""
    if any(set(given) <= set(stated) for given in levels):
        return "kept"
    is_ruled_out = levels and not any(set(given) & set(stated) for given in levels)
    return "altered" if is_ruled_out else "invented"


def _check_numbers(
    known: Mapping[str, Sequence[Measurement]], answer: str
) -> tuple[StatedVital, ...]:
    stated: list[StatedVital] = []
    for each in _measurements(answer):
        outcome = _outcome(answer, each, known, stated[-1] if stated else None)
        value = each.readings[0]
        stated.append(StatedVital(each.attribute, value, outcome, each.begin, each.end))
    return tuple(stated)


def _measurements(answer: str) -> Iterator[Measurement]:
    """The vital signs in an answer, in order: named, told by their unit, or by an adjective."""
    found = find_measurements(answer)
    begins = [each.begin for each in found]
    more = []
    for name, pattern in _ADJECTIVES.items():
        for match in pattern.finditer(answer):
            at = bisect_left(begins, match.end("n"))
            if at == 0 or found[at - 1].end <= match.start("n"):
                value, unit = Decimal(match["n"]), quantity(name).unit
                more.append(Measurement(
                    attribute=name, value=value, unit=unit, begin=match.start("n"),
                    end=match.end("n"), quote=match["n"], readings=(value,),
                ))  # fmt: skip
    own = [_as_percent(each) for each in found if _is_sign(each)]
    for each in sorted([*own, *more], key=lambda one: one.begin):
        if not (is_points(each) or _is_item(answer, each.begin) or _is_distance(answer, each)):
            yield each


def is_points(found: Measurement) -> bool:
    """Whether it is rather the points of a sign in a score, or the number of a scale."""
    most = max(found.readings, default=Decimal(0))
    return not found.written_unit and most <= MOST_POINTS and not most % 1


def _is_distance(text: str, found: Measurement) -> bool:
    """Whether a number says how far a sign is from something else."""
    is_small = found.readings[0] < LEAST.get(found.attribute, 0)
    return is_small and bool(_BEYOND.match(text, found.end))


def _is_item(text: str, begin: int) -> bool:
    """Whether a number begins an item of a list, as `4. ` does."""
    return bool(_ITEM.match(text, begin) and _LINE.search(text, max(0, begin - 8), begin))


def _is_sign(found: Measurement) -> bool:
    return found.attribute in VITALS and bool(found.readings)


def _as_percent(each: Measurement) -> Measurement:
    """A saturation that is written as a fraction, 0.92, in percent."""
    value = each.readings[0]
    if each.attribute != SATURATION or value > 1 or not value % 1:
        return each
    return replace(each, readings=(value * 100,), value=value * 100, upper=None)


def _outcome(
    answer: str,
    stated: Measurement,
    known: Mapping[str, Sequence[Measurement]],
    before: StatedVital | None,
) -> Outcome:
    own = known.get(stated.attribute, ())
    if any(_agrees(stated, each) for each in own) or _is_derived(stated, known):
        return "kept"
    is_range = stated.upper is not None and stated.sign != "~"
    or_more = _OR_MORE.match(answer, stated.end)
    is_open = is_range or bool(stated.sign.strip("~")) or bool(or_more)
    if _is_reference(answer, stated, is_open, before):
        return "reference"
    return "altered" if own else "invented"


def _agrees(stated: Measurement, given: Measurement) -> bool:
    """Whether a statement is true of a value that was given."""
    low, high = given.readings[0], given.upper or given.readings[0]
    first, last = stated.readings[0], stated.upper
    if sign := stated.sign.strip("~"):
        return high > first if sign == ">" else low < first if sign == "<" else (
            high >= first if sign == ">=" else low <= first)  # fmt: skip
    if last is not None:
        return first <= low and high <= last
    is_exact = stated.written_unit == given.written_unit and stated.sign != "~"
    near = Decimal(0) if is_exact else _half_a_digit(stated)
    wanted = (*given.readings, high)
    return any(abs(one - each) <= near for one in stated.readings for each in wanted)


def _half_a_digit(stated: Measurement) -> Decimal:
    """Half of the last digit as written, in the usual unit: how far rounding can be off."""
    written = _NUMBER.findall(stated.quote)
    half = Decimal(5).scaleb(-len(written[-1]) - 1) if written else Decimal(0)
    known = quantity(stated.attribute)
    unit = stated.written_unit
    if not unit or unit == known.unit or not known.has_unit(unit):
        return half
    return abs(known.to_usual(half, unit) - known.to_usual(Decimal(0), unit)) * Decimal("1.001")


def _is_derived(stated: Measurement, known: Mapping[str, Sequence[Measurement]]) -> bool:
    """Whether it is the mean pressure of a pressure that was given, to 1 mmHg."""
    if stated.attribute != MEAN:
        return False
    pairs = zip(*(known.get(name, ()) for name in PRESSURES), strict=False)
    means = [(high.readings[0] + 2 * low.readings[0]) / 3 for high, low in pairs]
    return any(abs(stated.readings[0] - each) <= 1 for each in means)


def _is_reference(
    answer: str, stated: Measurement, is_open: bool, before: StatedVital | None
) -> bool:
    """Whether a value is a guideline's, a target's or advice, by the words around it.

    A plain number is the patient's unless the words say otherwise; a range or a threshold is the
    patient's only where they say so.
    """
    sentence = answer[_last(_SENTENCE, answer, max(0, stated.begin - 200), stated.begin) :]
    sentence = sentence[: len(sentence) - len(answer) + stated.end]
    clause = answer[_last(_CLAUSE, answer, max(0, stated.begin - 80), stated.begin) : stated.end]
    own = len(sentence) - (stated.end - stated.begin)
    if _is_general(sentence) or _is_converted(answer, stated, before):
        return True
    after = _NORM_AFTER.match(answer, stated.end)
    if _NORM.search(clause) or (after and not _NEGATED.search(after[0])):
        return True
    if _CONDITION.search(sentence[:own]) or _DIFFERENCE.search(sentence[:own]):
        return True
    if stated.attribute in GIVEN_TO_PATIENTS and _ADVICE.search(sentence):
        return True
    if not is_open:
        return False
    follows = before is not None and before.outcome == "reference"
    near = before is not None and not _SENTENCE.search(answer, before.end, stated.begin)
    return (follows and near) or not _CLAIM.search(sentence[:own])


def _is_general(sentence: str) -> bool:
    """Whether a sentence is about people at large, or an example."""
    return bool(_GENERAL.search(sentence) and not _OF_PATIENT.search(sentence))


def _is_converted(answer: str, stated: Measurement, before: StatedVital | None) -> bool:
    """Whether it repeats the threshold before it in another unit: above 38 °C (100.4 °F)."""
    if before is None or before.attribute != stated.attribute or before.outcome in WRONG:
        return False
    near = abs(stated.readings[0] - Decimal(before.value)) <= _half_a_digit(stated)
    return near and bool(_BRACKET.fullmatch(answer, before.end, stated.begin))


def _last(pattern: re.Pattern[str], text: str, begin: int, end: int) -> int:
    """The end of the last match in a part of a text, else where the part begins."""
    return max((match.end() for match in pattern.finditer(text, begin, end)), default=begin)
