"""Measurements in text, on a list of phrases as clinicians write them, and on any text at all."""

import unicodedata
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm.clinical.measurements import Measurement, find_measurements

PHRASES = Path(__file__).with_name("measurement_phrases.txt")
SHORT = {
    "SBP": "systolic blood pressure", "DBP": "diastolic blood pressure", "HR": "heart rate",
    "MAP": "mean arterial pressure", "RR": "respiratory rate", "SpO2": "oxygen saturation",
    "O2": "oxygen flow", "FiO2": "fraction of inspired oxygen", "T": "body temperature",
    "WBC": "white cell count", "Plt": "platelets", "ANC": "absolute neutrophil count",
    "N%": "neutrophil share", "L%": "lymphocyte share", "Hb": "haemoglobin",
    "Hct": "haematocrit", "K": "potassium",
    "MCV": "mean corpuscular volume", "Na": "sodium", "Cl": "chloride", "HCO3": "bicarbonate",
    "Ca": "calcium", "iCa": "ionised calcium", "Mg": "magnesium", "Phos": "phosphate",
    "Glu": "glucose", "Cr": "creatinine", "BUN": "blood urea nitrogen", "Urea": "urea",
    "CrCl": "creatinine clearance", "A1c": "HbA1c", "Ket": "ketones", "Lac": "lactate",
    "ALT": "alanine aminotransferase", "AST": "aspartate aminotransferase", "Bili": "bilirubin",
    "Alb": "albumin", "CRP": "C-reactive protein", "ESR": "erythrocyte sedimentation rate",
    "DD": "D-dimer", "PT": "prothrombin time", "TSH": "thyroid-stimulating hormone",
    "Trop": "troponin", "Fer": "ferritin", "LDL": "LDL cholesterol", "pH": "arterial pH",
    "pCO2": "arterial pCO2", "pO2": "arterial pO2", "GCS": "Glasgow Coma Scale",
    "CURB": "CURB-65", "Pain": "pain score", "Wt": "body weight", "Ht": "body height",
    "BMI": "body mass index", "UO": "urine output", "EF": "ejection fraction",
    "QTc": "corrected QT interval", "-": "",
}  # fmt: skip


@cache
def phrases(part: str) -> list[tuple[str, list[str]]]:
    """Each phrase of a part of the list, with what is to be read in it."""
    rows = PHRASES.read_text(encoding="utf-8").split(f"== {part}\n")[1].split("== ")[0]
    found = []
    for row in rows.splitlines():
        phrase, _, expected = row.partition("\t")
        found.append((phrase, [each for each in expected.split("; ") if each]))
    return found


def is_read(found: Measurement, expected: str) -> bool:
    """Whether a measurement is what the list says."""
    name, said, *unit = expected.split(" ")
    if found.attribute != SHORT.get(name, name) or (unit and found.unit != unit[0]):
        return False
    if said in ("!", "X"):
        return found.problem.startswith({"!": "ambiguous", "X": "impossible"}[said])
    sign = said[0] if said[0] in "<>~" else ""
    low, _, high = said.removeprefix(sign).removesuffix("?").partition("..")
    return (
        is_close(found.value, low)
        and is_close(found.upper, high)
        and found.sign == sign
        and found.problem.startswith("unit not stated") == said.endswith("?")
        and not found.problem.startswith(("ambiguous", "impossible"))
    )


def is_close(value: Decimal | None, written: str) -> bool:
    if value is None or not written:
        return value is None and not written
    return abs(value - Decimal(written)) <= abs(Decimal(written)) * Decimal("0.0005")


@pytest.mark.parametrize(
    ("part", "least_precision", "least_recall"), [("built on", 1, 1), ("held out", 0.98, 0.98)]
)
def test_phrases_are_read(part: str, least_precision: float, least_recall: float) -> None:
    right = read = wanted = 0
    wrong = []
    for phrase, expected in phrases(part):
        found = list(find_measurements(phrase))
        hits = [each for each in expected if any(is_read(one, each) for one in found)]
        right, read, wanted = right + len(hits), read + len(found), wanted + len(expected)
        if len(hits) != len(expected) or len(found) != len(expected):
            wrong.append(f"{phrase!r} is to be {expected}, and is read as {found}")
    precision, recall = right / read, right / wanted
    report = f"{part}: precision {right}/{read} = {precision:.3f}"
    report += f", recall {right}/{wanted} = {recall:.3f}"
    lines = "\n".join(wrong)

    assert precision >= least_precision and recall >= least_recall, f"{report}\n{lines}"


EVERY = [phrase for part in ("built on", "held out") for phrase, _ in phrases(part)]
OTHER_FORMS = {
    "NFD": lambda text: unicodedata.normalize("NFD", text),
    "NFKC": lambda text: unicodedata.normalize("NFKC", text),
    "upper case": str.upper,
    "lower case": str.lower,
    "line breaks": lambda text: text.replace(" ", "\n"),
    "spaces": lambda text: text.replace(" ", "  \t "),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "dashes": lambda text: text.replace("-", "–"),
    "full width": lambda text: text.translate({ord(d): ord(d) + 0xFEE0 for d in "0123456789"}),
    "zero width": lambda text: text.replace("/", "/\u200b"),
}


def meaning(text: str) -> list[tuple[object, ...]]:
    return [
        (one.attribute, one.value, one.upper, one.unit, one.sign, one.problem)
        for one in find_measurements(text)
    ]


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_another_form_of_a_text_changes_nothing(form: str) -> None:
    changed = OTHER_FORMS[form]

    assert [p for p in EVERY if meaning(changed(p)) != meaning(p)] == []


def check_places(text: str) -> None:
    end = 0
    for one in find_measurements(text):
        assert text[one.begin : one.end] == one.quote
        assert one.quote.strip()
        assert one.begin >= end
        assert one.value is not None or one.problem.startswith("ambiguous")
        end = one.end


@settings(deadline=None)
@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    check_places(text)


PIECES = [
    "BP", "HR ", "120/80", "7.2", "38,8", "1,200", "mg", "mmol/L", " ", "\n", "-", "→", "to ",
    "and ",
    "x10^9/L", "×10⁹", "½", "%", "on 2L", "GCS ", "E4V5M6", "<", "~", "K+", "from ", "5'10\"",
    "9" * 30, "e99", "x10^99", ".", "/", "°C", "é", "㎎", "µg", "s", "1 200 ", "(", "k", "lakh",
]  # fmt: skip


@settings(deadline=None, max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_no_row_of_pieces_breaks_it(text: str) -> None:
    check_places(text)


@settings(deadline=None)
@given(st.sampled_from(EVERY), st.text(alphabet=" .\n", max_size=4), st.sampled_from(EVERY))
def test_offsets_quote_the_text_where_phrases_meet(one: str, between: str, other: str) -> None:
    check_places(one + between + other)


@pytest.mark.parametrize(
    ("text", "value", "unit", "written"),
    [
        ("creatinine 110 umol/L", "1.24434", "mg/dL", "micromol/L"),
        ("temp 100.4", "38", "°C", ""),
        ("HR 80", "80", "beats/min", ""),
        ("0.5 g", "500", "mg", "g"),
    ],
)
def test_a_value_is_in_the_usual_unit_and_the_written_one_is_kept(
    text: str, value: str, unit: str, written: str
) -> None:
    (one,) = find_measurements(text)

    assert (one.value, one.unit) == (Decimal(value), unit)
    assert one.written_unit == written


def test_what_is_ambiguous_has_its_readings_and_no_value() -> None:
    _, dose = find_measurements("T 38,8; take 1.200 mg")

    assert (dose.value, dose.readings) == (None, (Decimal(1200), Decimal("1.2")))
    assert dose.problem == "ambiguous: 1200 or 1.2"


def test_an_impossible_value_is_named_with_what_is_possible() -> None:
    (one,) = find_measurements("heart rate 900")

    assert one.problem == "impossible: heart rate is from 0 to 350 beats/min"
    assert one.value == 900


@pytest.mark.parametrize("text", ["BP½", "BP½1 200 ", "BP 1¾0"])
def test_a_fraction_is_no_blood_pressure(text: str) -> None:
    check_places(text)
    assert not [one for one in find_measurements(text) if "pressure" in one.attribute]
