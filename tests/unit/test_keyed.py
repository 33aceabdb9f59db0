"""Doses in key-value notations are read as doses, and quoted where they stand."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pace import is_linear, repeated

from medllm.clinical.finding import Finding
from medllm.clinical.review import review_answer
from medllm.clinical.text.folding import fold
from medllm.clinical.text.keyed import find_keyed

LIST = [
    {"dose_mg": 500, "drug": "amoxicillin", "times_per_day": 3},
    {"dose_mg": 20, "drug": "citalopram"},
    {"dose_mg": 9000, "drug": "paracetamol"},
]
FHIR = {
    "medicationCodeableConcept": {"text": "Methotrexate"},
    "dosageInstruction": [{
        "timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
        "doseAndRate": [{"doseQuantity": {"unit": "mg", "value": 10}}],
    }],
}  # fmt: skip


def doses(answer: str, **context: object) -> list[Finding]:
    found = review_answer(answer, context=context).report.findings
    return [each for each in found if each.kind == "dose" and each.severity != "info"]


@pytest.mark.parametrize(
    ("answer", "drug", "quoted"),
    [
        ('{"drug": "ibuprofen", "dose_mg": 5000}', "ibuprofen", "5000"),
        ("```json\n" + json.dumps(LIST, indent=2) + "\n```", "paracetamol", "9000"),
        ("Doses: " + "\n".join(map(json.dumps, LIST)), "paracetamol", "9000"),
        ('{"medication": "paracetamol", "dose": {"value": 8, "unit": "g"}}', "paracetamol", "8"),
        ('{"drugName": "ibuprofen", "doseMg": "2000", "timesPerDay": 3}', "ibuprofen",
         '2000", "timesPerDay": 3'),
        ('{"drug": "ibuprofen", "age": 70, "dose": 5000, "dose_unit": "mg"}', "ibuprofen", "5000"),
        ('{"ibuprofen": {"dose_mg": {"low": 400, "high": 5000}}}', "ibuprofen", "5000"),
        ("{'drug': 'ibuprofen', 'dose_mg': [400, 5000]}", "ibuprofen", "5000"),
        ('{"drug": "ibuprofen", "dose_mg": 5000, "frequency": "three ti', "ibuprofen", "5000"),
        ('{"drug": "ibuprofen", "dose_mg": 800, "interval_hours": 4}', "ibuprofen",
         '800, "interval_hours": 4'),
        ('{"drug": "paracetamol", "dose_mg": 1000, "max_daily_dose_g": 8}', "paracetamol",
         '1000, "max_daily_dose_g": 8'),
        (json.dumps(FHIR), "methotrexate", "10"),
        ("drug: ibuprofen\ndose_mg: 5000.", "ibuprofen", "5000"),
        ("- name: amoxicillin\n  dose_mg: 500\n- name: ibuprofen\n  dose:\n    value: 5\n"
         "    unit: g", "ibuprofen", "5"),
        ("drug=ibuprofen dose_mg=5000 frequency=tid", "ibuprofen", "5000 frequency=tid"),
        ('prescribe(drug="ibuprofen", dose_mg=5000)', "ibuprofen", "5000"),
        ("<drug>ibuprofen</drug><dose_mg>5000</dose_mg>", "ibuprofen", "5000"),
        ("**Drug:** ibuprofen\n**Dose (mg):** 5000", "ibuprofen", "5000"),
        ("| Drug | Dose (mg) |\n|---|---|\n| citalopram | 20 |\n| ibuprofen | 5000 |",
         "ibuprofen", "5000"),
        ("| Dose (mg) | Drug | Times per day |\n|-|-|-|\n| 1000 | paracetamol | 4 |\n"
         "| 40 | citalopram | 2 |", "citalopram", "40 | citalopram | 2"),
        ("| Drug | Dose (mg) | Max daily dose (mg) |\n|-|-|-|\n| paracetamol | 500 | 8000 |",
         "paracetamol", "500 | 8000"),
        ("drug,dose,unit,times_per_day\ncitalopram,20,mg,1\nparacetamol,1,g,9", "paracetamol",
         "1,g,9"),
        ('name\tdose_mg\n"ibuprofen, coated"\t5000', "ibuprofen", "5000"),
    ],
)  # fmt: skip
def test_a_dose_whose_unit_stands_in_a_key_is_held_against_its_limit(
    answer: str, drug: str, quoted: str
) -> None:
    (found,) = doses(answer)
    assert found.severity in ("major", "contraindicated")
    assert found.message.startswith(f"{drug}:")
    assert [answer[begin:end] for begin, end in found.spans] == [quoted]


@pytest.mark.parametrize(
    "answer",
    [
        '{"drug": "ibuprofen", "dose_mg": 400, "max_daily_dose_mg": 2400, "frequency": "tid"}',
        '{"drug": "paracetamol", "dose": {"value": 1, "unit": "g"}, "times_per_day": 4}',
        '{"drug": "paracetamol", "strength_mg": 500, "tablets": 2, "times_per_day": 4}',
        '{"drug": "metformin", "dose_mg": 500, "glucose_mg_dl": 5000, "birth_weight_g": 3000}',
        '{"avoid": [{"drug": "ibuprofen", "dose_mg": 5000}]}',
        json.dumps(LIST[:2] + [{"dose_mg": 1000, "drug": "paracetamol", "interval_hours": 6}]),
        "- drug: methotrexate\n  dose_mg: 15\n  frequency: once a week",
        "| Drug | Dose (mg) | Max (mg/day) |\n|-|-|-|\n| paracetamol | 500-1000 | 4000 |",
        "drug,dose_mg,times_per_day\nparacetamol,1000,4\ncitalopram,20,1",
    ],
)
def test_what_is_within_the_limits_is_no_finding(answer: str) -> None:
    assert doses(answer) == []


@pytest.mark.parametrize("age", ['"age_years": 7', '"age": 7', '"age": "7"'])
def test_an_age_in_a_key_makes_the_dose_one_for_a_child(age: str) -> None:
    report = review_answer(f'{{{age}, "drug": "ibuprofen", "dose_mg": 1000}}').report
    assert "dose: ibuprofen: a dose for a child" in report.not_checked
    assert [each for each in report.findings if each.kind == "dose"] == []


@pytest.mark.parametrize(
    "text", ["Take 500 mg (two tablets), 3 times a day: rest = best.", "BP: 120/80, age: 70", "=|_"]
)
def test_prose_is_read_as_it_stands(text: str) -> None:
    assert find_keyed(text) == []


PARTS = ["{", "}", '"dose_mg": 5', '"unit": "g"', ", ", "\n", "µ½", " eighty mg ", "| mg | 5 |",
         "a,b_mg\n1,2\n", "  ", "drug: ibuprofen ", "\u200b", "x"]  # fmt: skip


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
@settings(max_examples=100, deadline=None)
def test_what_is_read_leads_back_to_the_text(text: str) -> None:
    folded = fold(text)
    last = 0
    for at in range(len(folded.text)):
        begin, end = folded.origin(at, at + 1)
        assert last <= begin < end <= len(text)
        last = begin


@pytest.mark.parametrize("part", ["{", "}{", '{"dose_mg": 5, "unit": "g", ', "a_mg,b\n1,2\n"])
def test_the_time_is_linear(part: str) -> None:
    assert is_linear(find_keyed, repeated(part), 80_000)
