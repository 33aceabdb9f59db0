"""Vital signs that an answer changes or invents, and values that no patient can have."""

import re
from collections.abc import Container, Iterator
from dataclasses import replace
from decimal import Decimal

from medllm.clinical.case import Case
from medllm.clinical.finding import Finding, NotChecked, Severity
from medllm.clinical.measurements.consciousness import CONSCIOUSNESS
from medllm.clinical.measurements.fidelity import (
    StatedVital,
    check_known,
    known_levels,
    known_vitals,
)
from medllm.clinical.measurements.finding import find_impossible
from medllm.clinical.measurements.measurement import Measurement
from medllm.clinical.measurements.quantities import quantity
from medllm.clinical.rules.basis import Basis
from medllm.clinical.text.reading import Reading

BASIS = Basis(
    source="comparison with the question and the system prompt",
    source_kind="comparison",
    verified=False,
)
"""A comparison of texts rests on no source, so that it blocks only where the operator says so."""
BOUNDS = replace(BASIS, source="bounds of this project, wide on purpose")
_TOLD_AS_WRONG = re.compile(
    r"\b(?:impossible|not possible|cannot|can't|no such|not exist|doesn't exist|typo|mistyped|"
    r"mistake|error|artefact|artifact|incompatible|maximum|highest|rather than|not)\b"
)
_TELLING = {"points", "beats/min", "breaths/min", "mmHg", "%", "ratio"}
"""Units that need not be written: a bare number after "potassium" may be of a tablet."""
_SEVERITIES: dict[str, Severity] = {"altered": "major", "invented": "moderate"}
_WORDS = {"A": "alert", "C": "confused", "V": "voice", "P": "pain", "U": "unresponsive"}
_TOLD = {
    "altered": "which is none of those that were given",
    "invented": "of which nothing was given",
}


def find_changed_vitals(case: Case) -> Iterator[Finding | NotChecked]:
    """The vital signs of an answer that are not those of the texts that it was given.

    Where these hold none, an answer's numbers are no patient's, and nothing is compared.
    """
    known = {**case.record.built(_known)}
    for attribute, signs in case.question.built(_known).items():
        known[attribute] = [*known.get(attribute, ()), *signs]
    levels = [level for each in (case.record, case.question) for level in each.built(_levels)]
    stated = check_known(known, levels, case.answer.text) if known or levels else ()
    wrong = [each for each in stated if each.outcome in _counted(each)]
    for each in {(one.attribute, one.value): one for one in reversed(wrong)}.values():
        yield _finding(each)


def _known(reading: Reading) -> dict[str, list[Measurement]]:
    has_digits = any(map(str.isdigit, reading.folded.text))  # what looks for more takes its time
    return known_vitals(reading.text) if has_digits else {}


def _counted(stated: StatedVital) -> Container[str]:
    """A level in words that nobody gave may be a word for what was given ("not himself")."""
    return ("altered",) if stated.attribute == CONSCIOUSNESS else _SEVERITIES


def _levels(reading: Reading) -> list[str]:
    return known_levels(reading.text)


def _finding(stated: StatedVital) -> Finding:
    if stated.attribute == CONSCIOUSNESS:
        value = f'"{" or ".join(_WORDS[each] for each in str(stated.value))}"'
    else:
        unit = quantity(stated.attribute).unit
        value = f"{Decimal(stated.value).normalize():f} {unit}".strip()
    return Finding(
        rule=f"vital.{stated.outcome}",
        kind="measurement",
        severity=_SEVERITIES[stated.outcome],
        message=f"The answer states a {stated.attribute} of {value}, {_TOLD[stated.outcome]}.",
        action="Compare it with the chart.",
        basis=BASIS,
        spans=((stated.begin, stated.end),),
    )


def find_impossible_values(case: Case) -> Iterator[Finding]:
    """The values in an answer that no patient can have, unless the answer says so itself."""
    reading = case.answer
    if not any(map(str.isdigit, reading.folded.text)):
        return
    problems: set[str] = set()
    for each in find_impossible(reading):
        begin = max(each.begin - 100, 0)
        around = reading.text[begin : each.end + 60].lower()
        if each.problem in problems or not _is_of_body(each) or _TOLD_AS_WRONG.search(around):
            continue
        problems.add(each.problem)
        yield Finding(
            rule="value.impossible",
            kind="measurement",
            severity="moderate",
            message=f"The answer states a value that no patient can have: {each.quote} "
            f"({each.problem.removeprefix('impossible: ')}).",
            action="Look for a slip of the unit or of the decimal point.",
            basis=BOUNDS,
            spans=((each.begin, each.end),),
        )


def _is_of_body(found: Measurement) -> bool:
    """Whether a number is meant of a patient, and not of a fridge, a tablet or a year."""
    value, unit = found.readings[0], found.written_unit
    if found.attribute == "body temperature":  # of a body where the other scale makes it one
        return (unit == "°F" and -2 < value < 8) or (unit != "°F" and 86 <= value <= 113)
    if unit:
        return unit != "mg/mL"
    return quantity(found.attribute).unit in _TELLING and not 1900 <= value < 2100
