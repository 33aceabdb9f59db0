"""Notes in shorthand: what is written out, what short forms stand for, and what stays open."""

import pytest

from medllm.clinical import review_answer
from medllm.clinical.entities import find_entities
from medllm.clinical.text.reading import read
from medllm.measures.text.comparing import count_shared, find_unsupported
from medllm.measures.text.facts import find_facts
from medllm.measures.text.flips import find_flips
from medllm.measures.text.numbers import judge_numbers
from medllm.measures.text.shorthand import written_out
from medllm.measures.text.values import find_values


def wrong(summary: str, note: str) -> list[tuple[str, str, str]]:
    """Class, severity and flip of what a summary states and its note does not."""
    found = find_unsupported(find_facts(read(summary)), find_facts(read(written_out(note))))
    return [(each.kind, each.severity, each.flip) for each in found]


@pytest.mark.parametrize(
    ("note", "written"),
    [
        ("bisoprolol 2.5 od, levothyroxine 100", "bisoprolol 2.5 mg od, levothyroxine 100 mcg"),
        ("biso 2.5, amlo ↓5", "biso 2.5 mg, amlo ↓5 mg"),
        ("spiro 100/furos 40", "spiro 100/furos 40 mg"),
        ("carbimazole 20 -> 10mg OD", "carbimazole 20 mg -> 10mg OD"),
        ("aspirin 300 stat", "aspirin 300 mg stat"),
        ("aspirin 2 stat", "aspirin 2 stat"),
        ("warfarin 2020 stopped", "warfarin 2020 stopped"),
        ("bisoprolol 2.5 mg od", "bisoprolol 2.5 mg od"),
        ("L NOF #, bed #1", "L NOF fracture, bed #1"),
        ("# L distal radius, rib # 4-8", "fracture L distal radius, rib fracture 4-8"),
        ("# Sepsis: abx\n#HTN stable", "# Sepsis: abx\n#HTN stable"),
        ("D&V x3, no N/V", "diarrhoea and vomiting x 3, no nausea and vomiting"),
        ("POD2, D19. Vit D3 800, HD4", "day 2, day 19. Vit D3 800, day 4"),
        ("86F fall. 30/M c/o cough", "86 year old female fall. 30 year old male c/o cough"),
        ("rpt OGD 2-4/52, DES '18", "rpt OGD 2-4 weeks, DES 2018"),
    ],
)
def test_shorthand_of_one_meaning_is_written_out(note: str, written: str) -> None:
    assert written_out(note) == written


@pytest.mark.parametrize(
    ("summary", "note"),
    [
        ("Chest X-ray showed pneumonia.", "CXR: pneumonia."),
        ("CXR showed pneumonia.", "Chest radiograph: pneumonia"),
        ("He has chronic kidney disease and type 2 diabetes.", "PMHx CKD3b, T2DM"),
        ("She has CKD.", "chronic kidney disease stage 3"),
        ("He had pneumonia.", "Rx for CAP"),
        ("She was short of breath: shortness of breath on exertion.", "c/o SOB"),
        ("Prostate cancer was found.", "Bx: prostate ca"),
        ("Atrial fibrillation is new.", "new AF on tele"),
        ("Vomiting and diarrhoea settled.", "D&V settled"),
        ("A caesarean section was done.", "EmLSCS for FTP"),
        ("Bisoprolol 2.5 mg once daily.", "on biso 2.5 od"),
        ("Review in six weeks.", "r/v 6/52"),
        ("Review in 3 months.", "RTC 3 mo"),
        ("Ramipril and furosemide have been withheld.", "On ramipril and furosemide. Both held."),
        ("Azathioprine had been stopped.", "Prev azathioprine stopped"),
        ("She is allergic to penicillin.", "Hx penicillin allergy"),
        ("Trimethoprim causes her a rash.", "Allergy: trimethoprim (rash)"),
        ("Enoxaparin 40 mg once daily.", "Plan: no transfusion, enoxaparin 40 mg od, physio"),
        (
            "Warfarin is stopped and apixaban 5 mg twice daily begun.",
            "stop warfarin, start apix 5 bd",
        ),
        ("Right hemicolectomy was done.", "s/p R hemicolectomy"),
        ("He has heart failure.", "known HFpEF"),
        ("He has chronic kidney disease.", "known CKD3b"),
        ("He weighs 70 kg.", "weight 154 lb (70 kg)"),
        ("Aspirin continues.", "On aspirin, bisoprolol, furosemide held"),
        ("He has lymphoma.", "known NHL"),
    ],
)
def test_what_a_note_has_in_shorthand_is_supported(summary: str, note: str) -> None:
    assert wrong(summary, note) == []


@pytest.mark.parametrize(
    ("summary", "note", "found"),
    [
        ("He has multiple sclerosis.", "Known MS", [("diagnosis", "minor", "")]),
        ("He has mitral stenosis.", "Known MS", [("diagnosis", "minor", "")]),
        ("He has psoriasis.", "Known MS", [("diagnosis", "major", "")]),
        ("He has a pleural effusion.", "R PE on CTPA", [("diagnosis", "major", "")]),
        ("Pulmonary embolism.", "PE: chest clear, abdo soft", [("diagnosis", "major", "")]),
        ("Pneumonia.", "DOXYCYCLINE 100 MG CAP BID", [("diagnosis", "major", "")]),
        ("Left hemicolectomy.", "s/p R hemicolectomy", [("procedure", "major", "laterality")]),
        ("Bisoprolol 25 mg.", "biso 2.5 od", [("medication", "major", "")]),
        ("Levothyroxine 100 mg.", "levothyroxine 100 od", [("medication", "major", "")]),
        ("Ramipril continues.", "ramipril held", [("medication", "major", "stopping")]),
        ("He has COPD.", "No COPD", [("diagnosis", "major", "negation")]),
        ("He has HFrEF.", "known HFpEF", [("diagnosis", "major", "")]),
        ("He has CKD5.", "known CKD3", [("diagnosis", "major", "")]),
        ("A STEMI.", "NSTEMI today", [("diagnosis", "major", "")]),
        ("Hodgkin lymphoma.", "known NHL", [("diagnosis", "major", "")]),
        ("Eclampsia.", "known pre-eclampsia", [("diagnosis", "major", "")]),
        ("He has diabetes.", "known pre-diabetes", [("diagnosis", "major", "")]),
        ("He has a fracture.", "# Sepsis: on abx", [("diagnosis", "major", "")]),
        ("He has a fracture.", "Bed # 4, sepsis", [("diagnosis", "major", "")]),
        ("His weight is 154 kg.", "weight 70 kg (154 lb)", [("vital sign", "moderate", "")]),
    ],
)  # fmt: skip
def test_what_it_has_not_is_found(
    summary: str, note: str, found: list[tuple[str, str, str]]
) -> None:
    assert wrong(summary, note) == found


def test_a_short_form_of_several_meanings_is_kept_by_each_of_them() -> None:
    note = find_facts(read("Known MS"))

    for summary in ("Mitral stenosis.", "Known MS", "Psoriasis."):
        shared = count_shared(note, find_facts(read(summary)))
        assert shared["diagnosis"] == (1, int(summary != "Psoriasis."))


@pytest.mark.parametrize(
    ("question", "read_as"),
    [
        ("58M on simvastatin", "58 year old male is on simvastatin"),
        ("PCN allergy", "penicillin allergy"),
        ("5yo m w/ fever", "5 year old male with fever"),
        ("28F G2P1 16/40", "28 year old female g2p1 16 weeks pregnant"),
        ("NKDA except pen", "allergic to penicillin"),
        ("QTc 520, DHx: warfarin", "prolonged qtc 520, medications: warfarin"),
        ("She has VA 20/40 in the left eye", "she has va 20/40 in the left eye"),
        ("temp 101 F, 12F catheter", "temp 101 f, 12f catheter"),
        ("I have a 101 F fever. 103F last night", "i have a 101 f fever. 103f last night"),
        ("she scored 36/40 in a test", "she scored 36/40 in a test"),
        ("my DH has pain, a 2 F rise", "my dh has pain, a 2 f rise"),
        ("hepatitis c known since 2010", "hepatitis c known since 2010"),
        ("a question on warfarin, row with my bf", "a question on warfarin, row with my bf"),
        ("AF on warfarin", "af is on warfarin"),
        ("All: pen. all-cause mortality", "allergic to penicillin. all-cause mortality"),
        ("rash on hands", "rash on hands"),
    ],
)  # fmt: skip
def test_a_question_in_shorthand_is_read_in_words(question: str, read_as: str) -> None:
    reading = read(question, words={"warfarin", "simvastatin"}, is_question=True)

    assert reading.folded.text == read_as
    assert read(question).folded.text == question.lower()
    for first in range(len(reading.words)):
        begin, end = reading.place(first, first + 1)
        assert 0 <= begin < end <= len(question)


@pytest.mark.parametrize(
    ("question", "answer", "kinds"),
    [
        ("60M on warf, oral thrush", "Miconazole oral gel four times daily.", {"interaction"}),
        ("PCN allergy (anaphylaxis)", "Flucloxacillin 1 g four times daily.", {"allergy"}),
        ("pen - rash. tonsillitis", "Phenoxymethylpenicillin 500 mg.", {"allergy"}),
        ("PMHx MG, UTI", "Give ciprofloxacin 500 mg twice daily.", {"contraindication"}),
        ("G6PD def, UTI", "Nitrofurantoin 100 mg twice daily.", {"contraindication"}),
        ("G6PD normal, UTI", "Nitrofurantoin 100 mg twice daily.", set()),
        ("5yo M fever", "Give aspirin 150 mg.", {"contraindication"}),
        ("15yo F fever", "Give paracetamol 500 mg.", set()),
        ("30F, +ve UPT, HTN", "Start ramipril 2.5 mg daily.", {"contraindication"}),
    ],
)
def test_what_a_question_says_in_shorthand_counts(
    question: str, answer: str, kinds: set[str]
) -> None:
    found = review_answer(answer, question=question).report.findings

    assert {each.kind for each in found if each.severity not in {"info", "minor"}} == kinds


def test_what_a_text_defines_itself_wins() -> None:
    reading = read("Mitral insufficiency (MI) is severe. No surgery for MI.")

    found = [each for each in find_entities(reading, is_note=True) if each.type == "disease"]
    assert [each.names for each in found] == [(), (), ()]


def test_short_forms_are_of_notes_alone() -> None:
    reading = read("The PE was measured.")

    assert find_entities(reading) == ()
    assert [each.names for each in find_entities(reading, is_note=True)][0] == (
        "pulmonary embolism",
    )


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Lactate 1.4 (from 5.1).", ["1.4", "5.1"]),
        ("Hb 98 (131), Na 137", ["98", "131", "137"]),
        ("HbA1c 8.4%, up from 7.6% in March", ["8.4%", "7.6%"]),
        ("weight 70 kg (was 75 kg)", ["70 kg", "75 kg"]),
        ("K 5.4 (last 3 days)", ["5.4"]),
        ("CK 2400 -> 900.", ["2400", "900"]),
    ],
)
def test_what_stands_behind_a_value_is_of_the_same_thing(text: str, values: list[str]) -> None:
    found = find_values(text)

    assert [each.quote for each in found] == values
    assert all(each.attribute for each in found)


def test_an_earlier_value_of_something_else_is_altered() -> None:
    note = read(written_out("Hb 98 (131)"))

    kept, other = (judge_numbers(read(f"Haemoglobin was {n}."), note)[0] for n in (131, 121))
    assert (kept.outcome, other.outcome) == ("kept", "altered")


@pytest.mark.parametrize(
    ("summary", "note", "flips"),
    [
        ("He is a current smoker.", "ex-smoker, 30 pk yrs", ["negation"]),
        ("He smokes 20 a day.", "never smoked", ["negation"]),
        ("He is a former smoker.", "Smoking 15/day", ["negation"]),
        ("She continues to smoke.", "still smoking 10/day", []),
    ],
)
def test_who_smokes_is_not_who_smoked(summary: str, note: str, flips: list[str]) -> None:
    assert [each.flip for each in find_flips(read(summary), read(note))] == flips
