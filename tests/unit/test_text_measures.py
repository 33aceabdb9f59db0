"""Measures of answers: what is alike scores 1, nothing scores 0, numbers keep their units."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm.clinical.text.reading import read
from medllm.measures.text.answers import (
    count_words,
    is_exact,
    normalise,
    repeated_share,
    token_f1,
    written_whole,
)
from medllm.measures.text.comparing import count_shared, find_unsupported
from medllm.measures.text.dates import find_dates
from medllm.measures.text.facts import find_facts
from medllm.measures.text.flips import add_flips, find_flips
from medllm.measures.text.numbers import judge_numbers
from medllm.measures.text.overlap import bleu_counts, rouge
from medllm.measures.text.sections import find_elements, is_discharge, name_sections
from medllm.measures.text.spoken import with_digits

NOTE = """CHIEF COMPLAINT: Chest pain.
HISTORY: 67-year-old man with diabetes mellitus, no fever. Presented on 3 March 2024 with left
lower lobe pneumonia. BP 120/80, heart rate 85, temperature 38.5 C, K 3.86 mmol/L.
Family history: father had stroke.
MEDICATIONS: metoprolol 25 mg twice daily, aspirin 81 mg daily. Stop ibuprofen.
PLAN: Follow up with cardiology in 2 weeks. Discharged in stable condition.
"""


def outcomes(answer: str, source: str) -> list[str]:
    return [each.outcome for each in judge_numbers(read(answer), read(source))]


def unsupported(answer: str, source: str) -> list[tuple[str, str]]:
    found = find_unsupported(find_facts(read(answer)), find_facts(read(source)))
    return [(each.kind, each.flip) for each in found]


@pytest.mark.parametrize(
    ("answer", "source", "found"),
    [
        ("体温39.5度、血圧120/80", "体温38.5度、血圧120/80。", ["invented", "kept"]),
        ("ワルファリン5mg", "ワルファリン3mg内服中", ["invented"]),
        ("３mg", "ワルファリン3mg内服中", ["kept"]),
        ("血圧120/80、38.5度", "血圧は１２０／８０、３８．５度", ["kept", "kept"]),
        ("SpO2 95%、500mg", "SpO2は９５％、５００ｍｇ", ["kept", "kept"]),
        ("500mgを1日3回", "1日2回500mg", ["kept", "kept", "invented"]),
        ("Ramipril 1-0-1", "Ramipril 1-1-1", ["invented"]),
        ("1-0-1", "Ramipril 1-0-1", ["kept"]),
    ],
)
def test_numbers_beside_letters_of_other_scripts_are_judged(
    answer: str, source: str, found: list[str]
) -> None:
    assert outcomes(answer, source) == found


@given(st.text(max_size=80))
def test_identical_texts_match_and_empty_ones_never_do(text: str) -> None:
    has_words = bool(normalise(text))

    assert is_exact(text, text) is has_words
    assert token_f1(text, text) == float(has_words)
    assert token_f1("", text) == token_f1(text, "") == 0
    assert not is_exact("", text)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("血压 ５００ｍｇ", "血压 500mg。"),
        ("50 \u00b5g", "50 \u03bcg"),
        ("cafe\u0301", "Café"),
        ("Да, метформин.", "да метформин"),
        ("नहीं है", "नहीं है"),
    ],
)
def test_the_same_words_are_the_same_in_any_script(answer: str, reference: str) -> None:
    pytest.importorskip("rouge_score")

    assert is_exact(answer, reference)
    assert token_f1(answer, reference) == 1
    assert rouge(answer, reference)["rougeL"] == 1


def test_vowel_signs_tell_words_apart() -> None:
    assert not is_exact("दिन", "दान")
    assert token_f1("दिन", "दान") == 0
    assert token_f1("⚠\ufe0f Sepsis 1\ufe0f\u20e3", "Sepsis 1") == 1


def test_texts_without_blanks_have_words() -> None:
    answer, reference = "患者は頭痛を訴えている。", "患者は強い頭痛を訴えている。"
    pytest.importorskip("rouge_score")
    pytest.importorskip("sacrebleu")

    assert token_f1(answer, reference) == pytest.approx(2 * 11 / (11 + 13))
    assert rouge(answer, reference)["rouge1"] == pytest.approx(2 * 11 / (11 + 13))
    assert bleu_counts(answer, answer)[:4] == [12, 11, 10, 9]
    assert count_words("5 mg 血圧") == 4
    assert repeated_share("頭痛。" * 20) > 0.9
    assert repeated_share(reference) == 0
    assert written_whole("発熱あり。血圧12", "length") == "発熱あり"


def test_english_texts_have_rouge_scores_own_words() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer")
    answer, reference = "The patient's lungs_were clear, 2.5 mg", "Lungs are clear; 2.5mg given."
    peer = scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=True).score(reference, answer)

    assert rouge(answer, reference)["rouge1"] == peer["rouge1"].fmeasure
    assert rouge(answer, reference)["rougeL"] == peer["rougeL"].fmeasure


PIECES = [
    "no fever", "5 mg", "metoprolol", "120/80", "BP", "heart rate 85", "left", "pneumonia",
    "3/4/24", "father had", "stop", "twice daily", "follow up in 2 weeks", "\n", ". ", "PLAN:", "½",
    "<", "100 F", "(", "3 March", "1.", "K 3,86", "years", "7", "lobar",
    "2-3", "2 to 3 days", "q8h", "stage IV", "HIV", "negative", "positive",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=9), max_size=12).map(" ".join)


@settings(deadline=None, max_examples=150)
@given(TEXTS)
def test_no_text_has_facts_or_numbers_that_itself_does_not_support(text: str) -> None:
    reading = read(text)
    facts = find_facts(reading)

    assert find_unsupported(facts, facts) == []
    assert {each.outcome for each in judge_numbers(reading, reading)} <= {"kept"}
    assert all(count == shared for count, shared in count_shared(facts, facts).values())
    assert judge_numbers(read(""), reading) == []
    assert len(name_sections(reading, facts)) == len(facts)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("1.5 mg", "15 mg"), ("120/80", "80/120"), ("120/80", "12080"), ("<5", ">5"), ("5%", "5"),
     ("Rh+", "Rh-"), ("2-3", "23"), ("1,5", "15"), ("7:30", "730")],
)  # fmt: skip
def test_values_that_differ_are_no_exact_match(answer: str, reference: str) -> None:
    assert not is_exact(answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference", "f1"),
    [("The aspirin.", "aspirin", 1), ("An X-ray, today!", "xray today", 1),
     ("aspirin and heparin", "aspirin", 0.5), ("no", "yes", 0)],
)  # fmt: skip
def test_f1_is_squads_else(answer: str, reference: str, f1: float) -> None:
    assert token_f1(answer, reference) == f1


@pytest.mark.parametrize(
    ("answer", "source", "outcome"),
    [
        ("5 mg", "5 g", "invented"),
        ("5000 mg", "5 g", "kept"),
        ("metoprolol 25 mg", "metoprolol 25 g", "altered"),
        ("metoprolol 50 mg", NOTE, "altered"),
        ("metoprolol 0.025 g", NOTE, "kept"),
        ("metoprolol 81 mg, aspirin 25 mg", NOTE, "altered altered"),
        ("warfarin 5 mg", NOTE, "invented"),
        ("heart rate 150", NOTE, "altered"),
        ("heart rate 85", NOTE, "kept"),
        ("BP 80/120", NOTE, "altered altered"),
        ("120/80", "it was 120/80", "kept"),
        ("80/120", "it was 120/80", "invented"),
        ("potassium 3.9", NOTE, "kept"),
        ("potassium 3.7", NOTE, "altered"),
        ("temperature 101.3 F", NOTE, "kept"),
        ("temperature 38.5 C", "temp 101.3 F", "kept"),
        ("sodium 140", NOTE, "invented"),
        ("aged 67 years", NOTE, "kept"),
        ("aged 76 years", NOTE, "invented"),
        ("an 88-year-old man", "I turned 88.", "kept"),
        ("an 88-year-old man", "He took 88 mg.", "invented"),
        ("for 88 days", "I turned 88.", "invented"),
        ("two weeks", NOTE, "kept"),
        ("2 days", NOTE, "invented"),
        ("in 2 months", NOTE, "invented"),
        ("in 14 days", NOTE, "kept"),
        ("an 18-year-old", "An 18-month-old.", "invented"),
        ("for 30 minutes", "for 30 hours", "invented"),
        ("every 12 hours for 36 months", "q12h for 3 years", "kept kept"),
        ("every 8 hours", "q12h", "invented"),
        ("2-3 days", "2 to 3 days", "kept"),
        ("2 to 3 days", "2-3 days", "kept kept"),
        ("2-8 days", "2-3 days", "invented"),
        ("type 2, stage IV, grade 2/6", "type II, stage 4, grade II/VI", "kept kept kept"),
        ("stage III", "stage IV", "invented"),
        ("a forty-five-year-old", "45-year-old", "kept"),
        ("a pressure of 120/80", NOTE, "kept"),
        ("weight 154 lb", "weight 70 kg", "kept"),
        ("weight 155 lb", "weight 70 kg", "altered"),
        ("temperature 102 F", "temperature 38.5 C", "altered"),
        ("1. aspirin\n2. metoprolol", NOTE, ""),
        ("COVID-19, T4 and A1c", NOTE, ""),
    ],
)
def test_each_number_is_of_something(answer: str, source: str, outcome: str) -> None:
    assert outcomes(answer, source) == outcome.split()


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ("Pneumonia, diabetes mellitus; no fever.", []),
        ("No diabetes mellitus.", [("diagnosis", "negation")]),
        ("He had fever.", [("finding", "negation")]),
        ("Right lower lobe pneumonia.", [("diagnosis", "laterality")]),
        ("He had a stroke.", [("diagnosis", "whose it is")]),
        ("He has asthma.", [("diagnosis", "")]),
        ("Metoprolol 25 mg twice daily.", []),
        ("Metoprolol 25 mg once daily.", [("medication", "")]),
        ("Metoprolol 50 mg.", [("medication", "")]),
        ("Stop aspirin.", [("medication", "stopping")]),
        ("Heart rate 85, BP 120/80.", []),
        ("Seen on 2024-03-03.", []),
        ("Seen on March 3.", []),
        ("Seen on 4 March 2024.", [("date", "")]),
        ("Follow up with a cardiologist in 2 weeks.", []),
        ("Follow up with neurology.", [("follow-up", "")]),
        ("", []),
    ],
)
def test_what_a_source_does_not_say_is_found(answer: str, wrong: list[tuple[str, str]]) -> None:
    assert unsupported(answer, NOTE) == wrong


@pytest.mark.parametrize(
    ("answer", "source"),
    [
        ("Sodium 140, creatinine 0.9, calcium 2.55 mmol/L.", "Na 140, Cr 0.9, Ca 2.55 mmol/L"),
        ("Breast cancer.", "HER2-negative breast cancer"),
        ("Endocarditis.", "Culture-negative endocarditis"),
        ("Follow up in 14 days.", "Follow up in 2 weeks."),
    ],
)
def test_what_a_source_says_in_other_words_is_supported(answer: str, source: str) -> None:
    assert unsupported(answer, source) == []


@pytest.mark.parametrize(
    ("source", "is_flip"),
    [
        ("Amoxicillin discontinued due to rash.", True), ("Amoxicillin 500 mg tid stopped.", True),
        ("DISCONTINUED: amoxicillin", True), ("He stopped taking amoxicillin.", True),
        ("He no longer takes amoxicillin.", True), ("Amoxicillin was never stopped.", False),
        ("Amoxicillin stopped, restarted on day 3.", False),
        ("Amoxicillin held.", True), ("We held his amoxicillin.", True),
        ("Amoxicillin is on hold.", True), ("Discharged off amoxicillin.", True),
        ("Amoxicillin was held and resumed.", False), ("Do not hold amoxicillin.", False),
        ("Amoxicillin withheld on arrival, resumed on day 2.", False),
    ],
)  # fmt: skip
def test_a_drug_that_was_stopped_or_held_is_not_continued(source: str, is_flip: bool) -> None:
    flips = [flip for _, flip in unsupported("Continue amoxicillin.", source)]

    assert flips == ["stopping"] * is_flip


def test_what_is_measured_in_blood_is_a_drug_only_where_it_is_taken() -> None:
    said = "Sodium 140, potassium 3.1, glucose 7. Give potassium 20 mEq. Home oxygen."
    kinds = [(each.kind, said[slice(*each.place)]) for each in find_facts(read(said))]

    assert {text for kind, text in kinds if kind == "medication"} == {
        "potassium 20 mEq", "oxygen",
    }  # fmt: skip


def test_facts_stand_in_sections_and_elements() -> None:
    reading = read(NOTE)
    facts = find_facts(reading)
    named = dict(zip([each.kind for each in facts], name_sections(reading, facts), strict=True))

    assert named["medication"] == "medications"
    assert named["follow-up"] == "plan"
    assert is_discharge(NOTE)
    assert not is_discharge("a cough")
    assert {"reason for admission", "condition at discharge", "medications", "follow-up"} <= (
        find_elements(reading, facts)
    )
    assert find_elements(read("Cough."), find_facts(read("Cough."))) == set()


def test_a_date_that_may_be_of_two_months_has_both() -> None:
    (date,) = find_dates("on 3/4/24")

    assert date.readings == {("2024", 3, 4), ("2024", 4, 3)}
    assert [*find_dates("BP 120/80, 3.5.1, 99/99/2024")] == []


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("I am twenty six", "I am 26"), ("one hundred and twenty over eighty", "120 over 80"),
        ("January tenth two thousand nine", "January 10 2009"), ("March twenty-first", "March 21"),
        ("eight point one", "8.1"), ("three out of six", "3/6"), ("in a week", "in 1 week"),
        ("twice a day", "twice a day"), ("one two", "1 2"), ("a hundred", "a 100"), ("", ""),
    ],
)  # fmt: skip
def test_spoken_numbers_are_read_as_digits(spoken: str, written: str) -> None:
    assert with_digits(spoken) == written


OPERATION = "A male. The left flank was opened. No deformities. Both eyes: right eye, left eye."


@pytest.mark.parametrize(
    ("answer", "flip"),
    [
        ("Right flank opened.", "laterality"), ("Left flank opened.", ""), ("Flank opened.", ""),
        ("The right eye.", ""), ("Right arm.", ""),
        ("Deformities were seen.", "negation"), ("No deformities.", ""), ("", ""),
        ("No flank was opened.", "negation"), ("Any deformities?", ""),
    ],
)  # fmt: skip
def test_sides_and_denials_need_no_vocabulary(answer: str, flip: str) -> None:
    found = find_flips(read(answer), read(OPERATION))

    assert [each.flip for each in found] == [flip] * bool(flip)
    assert {each.severity for each in found} <= {"major"}
    assert add_flips(found, found) == found


@pytest.mark.parametrize(
    ("answer", "source", "flips"),
    [
        ("HIV positive", "The HIV test was negative.", 1),
        ("Blood cultures positive.", "Blood cultures: negative", 1),
        ("Negative troponin.", "Troponins were positive.", 1),
        ("Margins were negative.", "Margins were not positive.", 0),
        ("ER-positive cancer.", "ER-positive, HER2-negative cancer", 0),
        ("HER2-positive cancer.", "ER-positive, HER2-negative cancer", 1),
        ("She is pregnant.", "She is not pregnant.", 1),
        ("She is not pregnant.", "A pregnant woman in her third month.", 1),
        ("Non-pregnant.", "She is not pregnant.", 0),
        ("He was intubated.", "He was never intubated.", 1),
        ("Febrile on admission.", "Afebrile throughout.", 1),
        ("Afebrile.", "Not febrile.", 0),
        ("Not intubated at discharge.", "Intubated on day 1. Not intubated at discharge.", 0),
        ("If she becomes pregnant, stop.", "She is not pregnant.", 0),
        ("Is she pregnant?", "She is not pregnant.", 0),
        ("She is not pregnant.", "Her sister is pregnant.", 0),
    ],
)
def test_results_and_states_that_are_the_other_way_round_are_flips(
    answer: str, source: str, flips: int
) -> None:
    found = find_flips(read(answer), read(source))

    assert [each.flip for each in found] == ["negation"] * flips


@settings(deadline=None, max_examples=80)
@given(TEXTS)
def test_a_text_never_contradicts_itself(text: str) -> None:
    assert find_flips(read(text), read(text)) == []


@pytest.mark.parametrize(
    ("text", "whole"),
    [("Give 500 mg at 1", "Give 500 mg at"), ("Give 500 ", "Give 500"), ("Pneumo", ""), ("", "")],
)
def test_of_a_cut_answer_the_last_word_is_not_known(text: str, whole: str) -> None:
    assert written_whole(text, "length") == whole
    assert written_whole(text, "stop") == text
