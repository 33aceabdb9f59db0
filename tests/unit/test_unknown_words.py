import pytest

from medllm.clinical import review_answer
from medllm.clinical.finding import Finding
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.clinical.wording.known_words import DrugSpellings


def found(answer: str) -> list[Finding]:
    report = review_answer(answer).report
    return [each for each in report.findings if each.kind == "unknown word"]


@pytest.mark.parametrize(
    ("answer", "quote", "severity", "near"),
    [
        ("Take warfrin 5 mg.", "warfrin", "minor", "warfarin"),
        ("She was given amiodorone for it.", "amiodorone", "minor", "amiodarone"),
        ("METORPOLOL helps", "METORPOLOL", "minor", "metoprolol"),
        ("Start zalotinib at once.", "zalotinib", "info", None),
        ("a gliobastoma of the brain", "gliobastoma", "info", "glioblastoma"),
        ("an acute\npancratitis", "pancratitis", "info", "pancreatitis"),
    ],
)
def test_a_word_like_a_name_that_is_in_no_list_is_found(
    answer: str, quote: str, severity: str, near: str | None
) -> None:
    (one,) = found(answer)

    ((begin, end),) = one.spans
    assert (answer[begin:end], one.severity) == (quote, severity)
    assert ("'" in one.message) == bool(near) and (near or "") in one.message
    assert quote.lower() not in one.message.lower()


@pytest.mark.parametrize(
    "answer",
    [
        "Take aspirin 81 mg and Coumadin, acetaminophen or paracetamol.",
        "A polypectomy, an appendicectomy, an osteoplasty; haemochromatosis and hypoxaemia.",
        "Mr. Petrillo and the Ramirez family live in Antioch and Oklahoma.",
        "The purposes of the diagnosis, the prognosis and the photography in April.",
        "He received approximately 5 mg, at maximum 10 mg; the baseline is fine.",
        "neuro-psychitis",
    ],
)
def test_names_compounds_and_common_words_are_not_found(answer: str) -> None:
    assert found(answer) == []


def test_each_word_counts_once_and_many_are_named_as_not_checked() -> None:
    assert len(found("zalotinib, zalotinib and Zalotinib")) == 1
    many = " ".join(f"zalo{a}{b}tinib" for a in "bcdfg" for b in "bcdfghk")
    report = review_answer(many).report
    assert len([each for each in report.findings if each.kind == "unknown word"]) == 20
    assert any(each.startswith("unknown word: further words") for each in report.not_checked)


def test_a_drug_is_known_with_one_wrong_letter() -> None:
    spellings = DrugSpellings(shipped_knowledge())

    assert spellings.nearest("metformn") == spellings.nearest("metfromin") == "metformin"
    assert spellings.nearest("metforrmin") == spellings.nearest("metfarmin") == "metformin"
    assert spellings.nearest("metformin") is None and spellings.nearest("information") is None
