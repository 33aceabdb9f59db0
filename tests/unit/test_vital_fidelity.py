"""What answers state of vital signs that they were given: kept, altered, invented, a reference."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pace import is_linear, repeated

from medllm.clinical.measurements.consciousness import find_levels
from medllm.clinical.measurements.fidelity import check_vitals

GIVEN = (
    "HR 115 bpm, BP 95/60 mmHg, RR 26/min, Temp 38.8 °C, SpO2 92% on 2 L/min O2, GCS 15, alert, "
    "glucose 8.2 mmol/L, urine output 0.6 mL/kg/h."
)
STATEMENTS = Path(__file__).with_name("vital_statements.txt")
SIGNS = {"+": "kept", "!": "altered", "?": "invented", "=": "reference"}


PARTS = ("built on", "held out", "missed")


def statements(part: str) -> list[tuple[str, list[str], str]]:
    """What an answer says, what is meant, and what was given."""
    rows = STATEMENTS.read_text(encoding="utf-8").split(f"\n== {part}\n")[1].split("== ")[0]
    found = (row.replace("\\n", "\n").split("\t") for row in rows.splitlines())
    return [(answer, said.split(), rest[0] if rest else GIVEN) for answer, said, *rest in found]


def read(answer: str, given_text: str = GIVEN) -> list[tuple[str, Decimal | str]]:
    return [(each.outcome, each.value) for each in check_vitals(given_text, answer)]


@pytest.mark.parametrize(
    ("answer", "said", "told"),
    [row for part in PARTS for row in (*statements(part), *statements(f"levels {part}"))],
)
def test_each_statement_is_read_as_it_is_meant(answer: str, said: list[str], told: str) -> None:
    found = read(answer, told)
    assert [outcome for outcome, _ in found] == [SIGNS[each[0]] for each in said], found
    for (_, value), wanted in zip(found, said, strict=True):
        is_level = isinstance(value, str)
        assert (
            value == wanted[1:]
            if is_level
            else float(value) == pytest.approx(float(wanted[1:]), abs=0.06)
        )


def test_without_any_sign_given_all_are_invented() -> None:
    found = check_vitals("The patient feels unwell.", "Heart rate 88 bpm, BP 120/80.")
    assert [each.outcome for each in found] == ["invented"] * 3


def test_a_place_is_where_the_value_stands() -> None:
    answer = "He has a pulse of 150."
    (found,) = check_vitals(GIVEN, answer)
    assert "150" in answer[found.begin : found.end]
    assert found.value == Decimal(150)


def test_fahrenheit_given_and_celsius_stated() -> None:
    (kept,) = check_vitals("T 101.8 F", "temperature 38.8 °C")
    (altered,) = check_vitals("T 101.8 F", "temperature 39.4 °C")
    assert (kept.outcome, altered.outcome) == ("kept", "altered")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_crashes_it(one: str, other: str) -> None:
    check_vitals(one, other)


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("ACVPU: A", "A"), ("AVPU is voice", "V"), ("level of consciousness: new confusion", "C"),
        ("mental status: unresponsive", "U"), ("reduced conscious level", "CVPU"),
        ("He does not respond to pain.", "U"), ("She is comatose.", "PU"),
        ("He cannot be woken.", "PU"), ("He could not be roused.", "PU"),
        ("She rouses to voice.", "V"), ("He wakes to pain.", "P"),
        ("She opens her eyes to speech.", "V"), ("drowsy", "VP"), ("somnolent", "VP"),
        ("lethargic", "VP"), ("obtunded", "VP"), ("stuporous", "VP"), ("very sleepy", "VP"),
        ("newly disoriented", "C"), ("delirious", "C"), ("delirium", "C"), ("A&Ox3", "A"),
        ("He is a & o x 3.", "A"), ("fully conscious", "A"), ("alert and oriented", "A"),
    ],
)  # fmt: skip
def test_a_level_is_found_however_it_is_said(text: str, letters: str) -> None:
    assert [each.letters for each in find_levels(text)] == [letters]


def test_its_time_is_linear() -> None:
    said = "Heart rate 115 (normal 60-100), if BP 95/60 falls, now alert, not confused "
    assert is_linear(lambda text: check_vitals(GIVEN, text), repeated(said))
