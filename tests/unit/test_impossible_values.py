"""Values in an answer that no patient can have."""

import pytest

from medllm.clinical import review_answer


def impossible(answer: str) -> list[str]:
    found = review_answer(answer).report.findings
    return [each.severity for each in found if each.rule == "value.impossible"]


@pytest.mark.parametrize(
    "answer",
    [
        "SpO2 of 112% on room air is excellent.",
        "His GCS was 2 on arrival.",
        "GCS 14 (E3 V4 M6)",
        "Her pulse was 720 and regular.",
        "Temp 37.2 °F, so no fever.",
        "A temperature of 101 °C at home means fever.",
        "BP 60/110 lying.",
        "CURB-65 score 8: admit.",
        "Potassium of 45 mmol/L needs insulin and glucose now.",
        "With warfarin we aim for an INR between 20 and 30.",
        "His CHA2DS2-VASc comes to 11.",
    ],
)
def test_a_value_that_nobody_can_have_is_found_once(answer: str) -> None:
    assert impossible(answer) == ["moderate"]


@pytest.mark.parametrize(
    "answer",
    [
        "A GCS of 17 is impossible, the highest is 15.",
        "Keep the vaccine fridge at a temperature of 4 °C.",
        "Cook chicken to an internal temperature of 165 °F.",
        "Take potassium 20 daily, calcium 1200 and magnesium 400 at night.",
        "pCO2 7.2, pO2 8.1 on air, pH 7.28, fibrinogen 1.2",
        "HCT in 1989 was normal.",
        "A diet of 2 grams sodium, 1800 calories.",
        "Dexamethasone phosphate (4 mg/mL) was injected.",
        "Ferritin 45,000 ng/mL, platelets 1450, glucose 1200 mg/dL, CK 85,000 U/L",
    ],
)
def test_what_is_odd_but_possible_or_of_no_patient_is_not(answer: str) -> None:
    assert impossible(answer) == []
