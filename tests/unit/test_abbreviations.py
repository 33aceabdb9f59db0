import pytest

from medllm.clinical import review_answer
from medllm.clinical.finding import Finding


def found(answer: str) -> dict[str, list[str]]:
    """The quotes by the last part of the rule's id."""
    return {each.rule.split(".")[1]: quotes(answer, each) for each in notes(answer)}


def notes(answer: str) -> list[Finding]:
    report = review_answer(answer).report
    return [each for each in report.findings if each.kind == "abbreviation"]


def quotes(answer: str, finding: Finding) -> list[str]:
    return [answer[begin:end] for begin, end in finding.spans]


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("Give insulin 10U at once and 10 u later.", {"u": ["10U", "u"]}),
        ("Vitamin D 400 IU QD", {"iu": ["IU"], "qd": ["QD"]}),
        ("One tablet q.d., then Q.O.D.", {"qd": ["q.d"], "qod": ["Q.O.D"]}),
        ("MS 4 mg, or 4 mg MS", {"ms": ["MS", "MS"]}),
        ("MSO4 2 mg and MgSO4 2 g", {"mso4": ["MSO4"], "mgso4": ["MgSO4"]}),
        ("Take 1.0 mg, or .5 mg", {"trailing_zero": ["1.0 mg"], "naked_decimal": [".5 mg"]}),
        ("2.0 mg/kg", {"trailing_zero": ["2.0 mg"]}),
        ("levothyroxine 50 \u00b5g, 25\u03bcg", {"microgram_sign": ["\u00b5g", "25\u03bcg"]}),
        ("warfarin 5 mg OD", {"od_daily": ["OD"]}),
        ("timolol 1 drop OD", {"eyes": ["OD"]}),
        ("heparin 100000 units", {"no_comma": ["100000 units"]}),
        ("Tegretol300 mg", {"run_together": ["Tegretol300 mg"]}),
    ],
)
def test_an_abbreviation_beside_a_dose_is_noted(answer: str, wanted: dict[str, list[str]]) -> None:
    assert found(answer) == wanted


@pytest.mark.parametrize(
    "answer",
    [
        "ALT 40 U/L, TSH 2.0 mIU/L, anti-Xa 0.5 IU/mL, creatinine 1.0 mg/dL, potassium 4.0 mmol/L",
        "She has MS and takes MS Contin.", "A nodule of 2.0 cm", "version 1.0 of the guideline",
        "Overdose (OD) is likely.", "vitamin b12 500 mcg", "75 mg/sq m", "In 5 mL of water",
        "USE THESE DROPS AS THE DOCTOR TOLD YOU, ONE DROP A DAY", "Washington, D.C.", "0.5 mg",
    ],
)  # fmt: skip
def test_what_is_not_about_a_dose_is_not_noted(answer: str) -> None:
    assert found(answer) == {}


def test_a_note_says_what_to_write_and_never_counts_as_more_than_minor() -> None:
    (note,) = notes("Insulin 10 U.")

    assert note.action == "Write units."
    assert note.severity == "minor" and note.basis.verified
    assert "0, 4 or cc" in note.message


def test_each_abbreviation_names_the_list_that_it_stands_on() -> None:
    sources = {each.basis.source for each in notes("Give insulin 10 U SC at hs.")}

    assert len(sources) == 2
    assert all("abbreviations" in source for source in sources), sources
