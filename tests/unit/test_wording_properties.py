"""What holds for look-alikes, abbreviations, unknown words and languages in any text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pace import is_linear, repeated

from medllm.clinical.case import Case, Family
from medllm.clinical.finding import Finding
from medllm.clinical.patient import read_patient
from medllm.clinical.policy import Policy
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.clinical.text.reading import read
from medllm.clinical.wording.abbreviations import find_abbreviations
from medllm.clinical.wording.confusions import find_confusions
from medllm.clinical.wording.languages import find_languages
from medllm.clinical.wording.unknown_words import find_unknown_words

FAMILIES = (find_abbreviations, find_confusions, find_languages, find_unknown_words)
QUESTION = "Is hydroxyzine or hypokalemia bad for my left knee or the ileum after a colectomy?"
PIECES = [
    "hydralazine", "the ilium", "right knee", "hyperkalemia", "colostomy", "warfrin", "zalotinib",
    "10U", "5 cc", "QD", "1.0 mg", ".5 mg", "MS 4 mg", "MSO4", "und nicht", "нет", "\u00b5g", ",",
    "\n", "(", "-", "Dr.", "pancratitis", "100000 units", "od", "drops", "\u0130",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join)


def case(answer: str) -> Case:
    patient = read_patient({"medications": ["trazodone"]})
    return Case(read(answer), read(QUESTION), patient, shipped_knowledge(), Policy())


def found(answer: str) -> list[Finding]:
    each_case = case(answer)
    everything = (each for family in FAMILIES for each in family(each_case))
    return [each for each in everything if isinstance(each, Finding)]


@settings(max_examples=50, deadline=None)
@given(TEXTS | st.text(max_size=60))
def test_no_text_crashes_them_and_offsets_lie_in_the_text(answer: str) -> None:
    for each in found(answer):
        assert each.spans
        assert all(0 <= begin < end <= len(answer) for begin, end in each.spans)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(PIECES[:15]), max_size=12).map(" , ".join))
def test_line_breaks_spaces_and_case_change_no_finding(answer: str) -> None:
    def rules(text: str) -> set[tuple[str, int]]:
        return {(each.rule, len(each.spans)) for each in found(text)}

    assert rules(answer.replace(" ", "\n")) == rules(answer)
    assert rules(answer.replace(" ", "\u00a0 ")) == rules(answer)
    assert rules(answer.lower()) == rules(answer)
    assert rules(answer.upper()) == rules(answer)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    "piece", ["10 u ", "1.0", "zalotinib ", "und ", "hydralazine 5 mg, ", "\n"]
)
def test_time_is_linear_in_the_length(family: Family, piece: str) -> None:
    def case_of(characters: int) -> Case:
        each_case = case(repeated(piece)(characters))
        assert each_case.answer.sentences is not None
        assert each_case.drugs is not None
        return each_case

    assert is_linear(lambda each_case: list(family(each_case)), case_of)
