"""What answers say of NEWS2: total, points, response; held against the recomputed score."""

from pathlib import Path

import pytest

from medllm.clinical.scores import Unscorable
from medllm.clinical.scores.observations import read_news2, read_vitals
from medllm.evaluate.clinical.alerts import check_alert, needed_response
from medllm.evaluate.clinical.news2.points import stated_points
from medllm.evaluate.clinical.news2.response import stated_response
from medllm.evaluate.clinical.news2.total import stated_totals

GUIDE = ("Patient vitals: HR 115 bpm, BP 95/60 mmHg, RR 26/min, Temp 38.8°C, SpO2 92% on 2L O2. "
         "NEWS2 score: 8")  # fmt: skip
GUIDE_ANSWER = """The NEWS2 score of 8 (High Risk) was triggered due to multiple vital signs:

1. **Heart Rate 115 bpm** (+2 points) - Tachycardia, indicating possible infection
2. **Systolic BP 95 mmHg** (+2 points) - Hypotension, suggesting inadequate perfusion
3. **Respiratory Rate 26/min** (+2 points) - Tachypnea
4. **Temperature 38.8°C** (+1 point) - Fever, suggesting infection
5. **Supplemental Oxygen** (+1 point) - Patient requires O2 support

**Recommended Actions:**
- Assess for sepsis using qSOFA criteria
- Senior clinician review within 1 hour

**Evidence:** NEWS2 ≥7 is associated with 25% mortality risk (Royal College of Physicians, 2017)."""


def test_a_widely_copied_example_is_wrong_in_total_points_and_response() -> None:
    found = check_alert(GUIDE, GUIDE_ANSWER)
    assert found.total == "wrong"  # 12, as nothing is said of consciousness at least that
    wrong = sorted(name for name, is_right in found.points.items() if not is_right)
    assert wrong == ["air or oxygen", "respiratory rate"]
    assert found.unstated == ("oxygen saturation",)
    assert found.response == "under"


@pytest.mark.parametrize(
    ("text", "totals"),
    [
        ("NEWS2 is 12", {12}), ("NEWS2: 12 (high)", {12}), ("NEWS 2 score of 5.", {5}),
        ("The total score is 7 points.", {7}), ("Total = 9", {9}), ("**NEWS2 total:** 11", {11}),
        ("The aggregate score was 6", {6}), ("national early warning score 2 of 8", {8}),
        ("NEWS2 is at least 12", {12}), ("a NEWS2 score of 7 or more", set()),
        ("NEWS2 of 5-6 is medium", set()), ("NEWS2 ≥7", set()),
        ("NEWS2 was published in 2017", set()),
        ("The NEWS2 alert fired.", set()), ("NEWS 2 is a score.", set()),
        ("NEWS2 ranges to 20", set()),
        ("early warning score is 4", {4}), ("NEWS2 is 3, so the total is 4", {3, 4}),
        ("| **Total** | | **12** |", {12}), ("a total of 3 points for oxygen", set()),
    ],
)  # fmt: skip
def test_totals(text: str, totals: set[int]) -> None:
    assert stated_totals(text) == totals


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("Heart rate 115 bpm (+2 points)", {"pulse": {2}}),
        ("RR 26/min: 3 points", {"respiratory rate": {3}}),
        ("- Temperature: 38.8 °C (1)", {"temperature": {1}}),
        ("| Pulse | 115 | 2 |", {"pulse": {2}}),
        ("Systolic blood pressure 95 mmHg scores 2", {"systolic blood pressure": {2}}),
        ("3 points for respiratory rate, 2 points for the pulse",
         {"respiratory rate": {3}, "pulse": {2}}),
        ("SpO2 92% → 2", {"oxygen saturation": {2}}),
        ("Supplemental oxygen adds 2.", {"air or oxygen": {2}}),
        ("The patient is on 2 L oxygen.", {}),
        ("Consciousness: alert, 0 points", {"consciousness": {0}}),
        ("temperature 38.8", {}),
        ("Pulse 115 (2), later the pulse scores 1", {"pulse": {2, 1}}),
        ("HR 115 (2 points), RR 26 (3 points)", {"pulse": {2}, "respiratory rate": {3}}),
        ("Temperature gives no points", {"temperature": {0}}),
    ],
)  # fmt: skip
def test_points(text: str, points: dict[str, set[int]]) -> None:
    assert stated_points(text) == points


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("An emergency response is needed.", 3), ("Call the rapid response team now.", 3),
        ("Immediate review by critical care.", 3), ("Urgent review by a doctor", 2),
        ("Senior clinician review within 1 hour", 2), ("Observe at least hourly.", 2),
        ("Monitor at least 4 to 6-hourly.", 1), ("12-hourly observations", 1),
        ("No urgent review is needed; routine care.", 1), ("The patient is stable.", 0),
        ("If the score reaches 7, call the emergency team. Continue routine monitoring.", 1),
        ("This is not an emergency.", 0), ("Continue to monitor the patient.", 1),
        ("Continuous monitoring of vital signs", 3),
    ],
)  # fmt: skip
def test_responses(text: str, level: int) -> None:
    least, most = stated_response(text)
    assert least <= level <= most


def test_immediate_is_urgent_or_an_emergency() -> None:
    """RCP 2017, chart 4: the medical team is immediately informed from 5 points on."""
    assert stated_response("The nurse immediately informs the medical team.") == (2, 3)
    given = "RR 22, SpO2 94% on room air, BP 108/70, HR 95, alert, T 37.0 °C."  # 2 + 1 + 1 + 1
    assert check_alert(given, "Immediately inform the medical team.").response == "right"
    assert check_alert(given, "Emergency assessment is needed.").response == "over"
    assert check_alert(given, "Monitor 4-hourly.").response == "under"


@pytest.mark.parametrize(
    ("advice", "response"),
    [
        ("Ward-based response: monitor at least 12-hourly.", "under"),
        ("Repeat observations every 12 hours.", "under"),
        ("Monitor 4 to 6-hourly.", "right"), ("Observations every 4–6 hours.", "right"),
        ("Not 12-hourly but 4-hourly observations.", "right"), ("Ward-based response.", "right"),
        ("At 0, 12-hourly is enough; now observe 6-hourly.", "right"),
    ],
)  # fmt: skip
def test_a_total_above_0_is_not_observed_twice_a_day(advice: str, response: str) -> None:
    """RCP 2017, chart 4: from 1 to 4 points at least every 4 to 6 hours."""
    given = "RR 16, SpO2 97% on room air, BP 120/70, HR 95, alert, T 37.0 °C."  # 1
    well = given.replace("HR 95", "HR 80")

    assert check_alert(given, advice).response == response
    assert check_alert(well, advice).response == "right"


def test_an_answer_is_judged_by_what_it_says_of_the_patient_not_of_the_rules() -> None:
    given = "RR 26, SpO2 92% on room air, BP 120/70, HR 95, alert, T 37.0 °C, in the ICU."
    answer = """The NEWS2 score for this patient is calculated as follows:
3 + 2 + 0 + 0 + 1 + 0 = 6.

| Parameter | Value | Score | Range |
| Respiratory rate | 26 | 3 | ≥25 |
| SpO2 on room air | 92% | 2 | 92–93 |
| Pulse | 95 | 1 | 91–110 |

A NEWS2 score of 7 or more would need an emergency response. She is in the intensive care unit.
The registered nurse should immediately inform the medical team; observe at least hourly."""
    found = check_alert(given, answer)

    assert (found.total, found.response, found.unstated) == ("right", "right", ())
    assert found.points == {"respiratory rate": True, "oxygen saturation": True, "pulse": True}


def test_needed_responses() -> None:
    needed = [needed_response(total, has_three=False) for total in (0, 4, 5, 6, 7, 20)]
    assert needed == [1, 1, 2, 2, 3, 3]
    assert needed_response(3, has_three=True) == 2


def test_what_is_not_given_leaves_a_higher_total_possible() -> None:
    given = "HR 80, BP 120/80, RR 16, T 37.0 °C, SpO2 97% on room air."
    assert check_alert(given, "NEWS2 is 0.").total == "right"
    assert check_alert(given, "NEWS2 is 3.").total == "possible"
    assert check_alert(given, "NEWS2 is 4.").total == "wrong"
    assert check_alert(given, "All is well.").total == "not stated"


@pytest.mark.parametrize(
    ("text", "letter", "oxygen"),
    [
        ("alert, on room air", "A", False), ("She is alert and oriented. SpO2 97% RA", "A", False),
        ("ACVPU: C. On 2 L/min O2", "C", True), ("newly confused, nasal cannula", "C", True),
        ("responds only to pain; FiO2 0.4", "P", True),
        ("Explain why this alert fired.", None, None),
        ("GCS 15, no supplemental oxygen", "A", False), ("not confused, on air", None, False),
        ("unresponsive on oxygen", "U", True), ("Consciousness: voice. Oxygen: no", "V", False),
        ("does not respond to pain", "U", None), ("GCS 15/15", "A", None),
        ("chronically confused, at baseline", None, None), ("not newly confused", None, None),
        ("previously confused, now alert", "A", None), ("alert but confused", "C", None),
        ("if he becomes unresponsive, call", None, None), ("Consciousness: not alert", None, None),
        ("unresponsive to voice, responds to pain", "P", None), ("Not unresponsive", None, None),
        ("found unresponsive, is now alert", "A", None), ("Explain the patient alert.", None, None),
        ("was drowsy, now alert and not confused", "A", None),
        ("Level of consciousness. A man", None, None), ("drowsy", None, None),
    ],
)  # fmt: skip
def test_consciousness_and_oxygen(text: str, letter: str | None, oxygen: bool | None) -> None:
    found = read_vitals(text)
    assert (found.acvpu(), found.oxygen()) == (letter, oxygen)


def test_two_values_of_one_sign_are_not_scored() -> None:
    with pytest.raises(Unscorable, match="heart rate"):
        read_vitals("HR 115, later HR 80")
    found = check_alert("HR 115, later HR 80", "NEWS2 is 1.")
    assert (found.total, found.response) == ("not recomputed", "not recomputed")
    assert "heart rate" in found.reason


def test_children_and_pregnancy_are_not_scored_and_scale_2_is() -> None:
    for who in ("A 9-year-old with HR 120", "A pregnant woman with HR 90"):
        with pytest.raises(Unscorable):
            read_news2(who)
    text = "SpO2 90% on room air"
    assert read_news2(text).total == 3
    assert read_news2(f"{text}, SpO2 scale 2 (target 88-92%)").total == 0


def statements(part: str) -> list[tuple[str, str]]:
    """What answers say, and what is meant by it."""
    path = Path(__file__).with_name("alert_statements.txt")
    rows = path.read_text(encoding="utf-8").split(f"== {part}\n")[1].split("== ")[0].splitlines()
    pairs = (row.rpartition("\t") for row in rows)
    return [(text.replace("\\n", "\n").replace("\\t", "\t"), said) for text, _, said in pairs]


@pytest.mark.parametrize(("text", "level"), statements("responses"))
def test_advice_as_models_and_the_chart_word_it(text: str, level: str) -> None:
    least, most = stated_response(text)
    assert least <= int(level) <= most


@pytest.mark.parametrize(("text", "totals"), statements("totals"))
def test_totals_as_models_word_them(text: str, totals: str) -> None:
    assert stated_totals(text) == {int(each) for each in totals.split()}


@pytest.mark.parametrize(("text", "points"), statements("points"))
def test_points_as_models_word_them(text: str, points: str) -> None:
    said = (each.split("=") for each in points.split("; ") if each)
    assert stated_points(text) == {name: {int(number)} for name, number in said}
