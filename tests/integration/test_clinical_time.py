"""Twice the text takes about twice the time, whatever it repeats."""

from collections.abc import Callable

import pytest
from pace import is_linear, repeated

from medllm.clinical import review_answer
from medllm.clinical.case import Case
from medllm.clinical.context import context_of
from medllm.clinical.doses.checks import find_doses
from medllm.clinical.interactions.checks import find_interactions
from medllm.clinical.measurements import find_measurements
from medllm.clinical.patient import Patient
from medllm.clinical.policy import Policy
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.clinical.text.reading import read
from medllm.measures.text.facts import find_facts
from medllm.measures.text.shorthand import written_out

PIECES = [
    "BP", "HR ", "120/80", "7.2", "38,8", "1,200", "mg", "mmol/L", " ", "\n", "-", "→", "to ",
    "and ", "x10^9/L", "×10⁹", "½", "%", "on 2L", "GCS ", "E4V5M6", "<", "~", "K+", "from ",
    "5'10\"", "9" * 30, "e99", "x10^99", ".", "/", "°C", "é", "㎎", "µg", "s", "1 200 ", "(", "k",
    "lakh", "na, k, ", "BP is of at ", "200 ", "creatinine from 1 to ", "weight, ",
]  # fmt: skip
SIGS = ["paracetamol 500 mg every 4 to 6 hours ", "1-", "5/", "x 3 ", "one or two ", "500 mg-"]
DOSES = [
    "warfarin 5 mg daily and ",
    "5 mg daily ",
    "aspirin ",
    "then 500 mg, not 5 g; for a child ",
]
CUES = ["no fever, ", "pain in left knee and no ", "no; ", "any? no. "]
PAIRS = "Take warfarin 5 mg and Advil 400 mg or naproxen, with an SSRI. Avoid MTX (Trexall).\n- "
LISTS = ["no aspirin, enoxaparin 40 mg, ", "furosemide 40 mg, and ramipril was stopped, "]
NOTES = [
    "ramipril, furosemide and ",
    "Hb 98 (131), ",
    "biso 2.5 od, CKD3, ",
    "58M on simva, 16/40 ",
]
FLAGS = ["chest pain sudden ", "no no fever ", "it drops, ", "38.5 180/120 ", "if worse "]


def case_of(text: str) -> Case:
    return Case(read(text), read(""), Patient(), shipped_knowledge(), Policy())


def doses(text: str) -> None:
    list(find_doses(case_of(f"Take warfarin {text}")))


def interactions(text: str) -> None:
    list(find_interactions(case_of(text)))


def contexts(text: str) -> None:
    reading = read(text)
    for word in range(len(reading.words)):
        context_of(reading, word, word + 1)


def whole_review(text: str) -> None:
    review_answer(text, question=text)


def facts(text: str) -> None:
    find_facts(read(written_out(text)))


WORKS = {
    find_measurements: PIECES,
    doses: [*SIGS, *DOSES],
    contexts: CUES,
    interactions: [PAIRS],
    whole_review: [*FLAGS, PAIRS, *LISTS, *NOTES],
    facts: NOTES,
}


@pytest.mark.parametrize(
    ("work", "piece"), [(work, piece) for work, pieces in WORKS.items() for piece in pieces]
)
def test_twice_the_text_takes_about_twice_the_time(
    work: Callable[[str], object], piece: str
) -> None:
    assert is_linear(work, repeated(piece))
