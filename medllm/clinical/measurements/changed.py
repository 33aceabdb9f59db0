"""Vital signs that an answer states otherwise than they were given, or that nobody gave."""

from collections.abc import Container, Iterator
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
