"""A review holds an answer's vital signs against those that were given, whoever gave them."""

import pytest

from medllm.clinical import review_answer
from medllm.clinical.policy import Policy

ASKED = "BP 118/70, pulse 88, temp 38.2, SpO2 94% on air. Summarise."
CHART = "You are a ward assistant. Patient: HR 88, BP 120/70."


def found(answer: str, question: str = ASKED, record: str = "") -> list[tuple[str, str]]:
    report = review_answer(answer, question=question, record=record).report
    return [(each.rule, each.severity) for each in report.findings]


@pytest.mark.parametrize(
    "answer",
    [
        "The heart rate is 98.",
        '{"heart_rate": 98, "systolic": 118}',
        "| sign | value |\n|---|---|\n| Heart rate | 98 |\n| BP | 118/70 |",
        "- BP 118/70\n- HR ９８ /min",
        "1. Temp 38.2\n2. Heart rate: 98 bpm",
    ],
)
def test_an_altered_sign_is_found_in_prose_lists_tables_and_json(answer: str) -> None:
    assert found(answer) == [("vital.altered", "major")]


def test_a_sign_that_nobody_gave_is_found_where_others_were_given() -> None:
    assert found("BP 118/70, HR 88, RR 30.") == [("vital.invented", "moderate")]
    assert found("RR 30.", "What does this mean?") == []


@pytest.mark.parametrize(
    "answer",
    [
        "BP 118/70 and HR 88, febrile at 38.2 °C (100.8 °F).",
        "A normal heart rate is 60 to 100 bpm. Keep the SpO2 above 92 %.",
        "If the systolic pressure falls below 90, call for help.",
    ],
)
def test_what_was_given_and_what_is_general_is_no_finding(answer: str) -> None:
    assert found(answer) == []


@pytest.mark.parametrize(
    ("given", "answer", "said"),
    [
        ("Does not respond to pain.", "The patient is alert and orientated.", "is alert"),
        ("AVPU: U. RR 8", "Level of consciousness: alert", "consciousness: alert"),
        ("GCS 6", "He is fully alert.", "fully alert"),
        ("Alert. GCS 15", "The patient is unresponsive.", "unresponsive"),
        ("acutely confused since yesterday", "The patient is alert.", "is alert"),
    ],
)
def test_another_level_of_consciousness_is_found(given: str, answer: str, said: str) -> None:
    for question, record in ((given, ""), ("Summarise.", given)):
        (finding,) = review_answer(answer, question=question, record=record).report.findings
        assert (finding.rule, finding.severity) == ("vital.altered", "major")
        assert [answer[slice(*span)] for span in finding.spans] == [said]


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ("Does not respond to pain.", "The patient is unresponsive."),
        ("GCS 13", "The patient is drowsy but rousable to voice."),
        ("drowsy", "He is drowsy. If he becomes unresponsive, call 2222."),
        ("unconscious", "Stay alert; place an unconscious patient on the side."),
        ("not himself", "He seems confused."),
        ("BP 140/90", "She is alert."),
    ],
)
def test_a_level_that_was_given_or_left_open_is_no_finding(given: str, answer: str) -> None:
    assert "vital.altered" not in dict(found(answer, given))
    assert "vital.invented" not in dict(found(answer, given))


def test_the_offsets_are_those_of_the_number_and_it_blocks_only_on_demand() -> None:
    answer = "BP 118/70. The heart rate is 98 now."
    for unverified in (False, True):
        policy = Policy(action="block", block_from="major", block_unverified=unverified)
        reviewed = review_answer(answer, question=ASKED, policy=policy)
        (finding,) = reviewed.report.findings
        ((begin, end),) = finding.spans
        assert "98" in answer[begin:end] and "98" in finding.message
        assert reviewed.report.is_blocked is unverified
        assert "88" not in finding.message


def test_what_a_system_prompt_says_of_the_patient_counts() -> None:
    record = "Patient: allergies: penicillin. Medications: warfarin 5 mg daily."
    question = "What helps for a sore throat?"

    assert found("Her heart rate is 98.", "Summarise.", CHART) == [("vital.altered", "major")]
    assert found("Her heart rate is 88.", "Summarise.", CHART) == []
    rules = found("Take amoxicillin 500 mg three times a day.", question, record)
    assert ("allergy.amoxicillin.penicillin", "contraindicated") in rules
    rules = found("Take ibuprofen 400 mg three times a day.", question, record)
    assert ("interaction.warfarin.nsaid", "major") in rules
    rules = found("Take isotretinoin 20 mg daily.", "Acne?", "The patient is 20 weeks pregnant.")
    assert ("pregnancy.isotretinoin", "contraindicated") in rules


def test_instructions_of_a_system_prompt_are_no_emergency_and_no_medication() -> None:
    rules = "If a user has crushing chest pain going down the left arm and sweats, say: call 911."
    assert found("Rest.", "Acne?", rules) == []
    warns = "Never recommend ibuprofen with warfarin."
    assert found("Take ibuprofen 400 mg three times a day.", "Pain?", warns) == []


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        ("You definitely have pneumonia.", "wording.diagnosis"),
        ("Your diagnosis is pneumonia.", "wording.diagnosis"),
        ("I am going to prescribe you amoxicillin.", "wording.prescription"),
        ("I'm putting you on amoxicillin.", "wording.prescription"),
    ],
)
def test_words_that_only_a_clinician_may_say_are_noted(answer: str, rule: str) -> None:
    assert (rule, "info") in found(answer, "I cough.")


@pytest.mark.parametrize(
    "answer",
    ["Your diagnosis is not certain yet.", "Your doctor may prescribe amoxicillin.",
     "If you are having a heart attack, call an ambulance."],
)  # fmt: skip
def test_other_words_are_not(answer: str) -> None:
    assert found(answer, "I cough.") == []


def test_digits_of_other_scripts_are_digits() -> None:
    for dose in ("٥٠٠٠", "५०००", "５０００"):
        rules = [
            rule for rule, _ in found(f"Take paracetamol {dose} mg four times a day.", "Pain?")
        ]
        assert any(rule.startswith("dose.paracetamol") for rule in rules), dose
