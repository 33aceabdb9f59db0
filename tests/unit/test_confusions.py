import pytest

from medllm.clinical import review_answer
from medllm.clinical.finding import Finding
from medllm.clinical.wording.letters import are_alike, distance, swapped


def found(question: str, answer: str, *medications: str) -> list[Finding]:
    report = review_answer(
        answer, question=question, context={"medications": [*medications]}
    ).report
    return [each for each in report.findings if each.kind == "look-alike"]


@pytest.mark.parametrize(
    ("question", "answer", "quote", "severity"),
    [
        ("Is hydroxyzine good for itching?", "Hydralazine 25 mg.", "Hydralazine", "moderate"),
        ("Is Atarax good for itching?", "HYDRALAZINE", "HYDRALAZINE", "moderate"),
        ("I take Celexa.", "Celebrex helps.", "Celebrex", "moderate"),
        ("Crohn disease of the ileum", "The ilium is inflamed", "ilium", "moderate"),
        ("peroneal nerve", "the perineal\nnerve", "perineal", "moderate"),
        ("hypokalaemia", "hyperkalemia", "hyperkalemia", "minor"),
        ("hypokinesia", "hyperkinesia", "hyperkinesia", "minor"),
        ("after a colectomy", "The colostomy", "colostomy", "minor"),
        ("my left knee", "Rest the right knee", "right knee", "moderate"),
        ("the upper eyelid", "the lower eyelid", "lower eyelid", "minor"),
        ("amlodipine", "amoxapine 50 mg", "amoxapine", "minor"),
        ("fluoxetine", "paroxetine", "paroxetine", "minor"),
        ("vincristine", "vinblastine", "vinblastine", "moderate"),
    ],
)
def test_a_name_that_looks_like_that_of_the_question_is_found(
    question: str, answer: str, quote: str, severity: str
) -> None:
    (one,) = found(question, answer)

    ((begin, end),) = one.spans
    assert (answer[begin:end], one.severity) == (quote, severity)
    assert one.message.startswith("The answer says '")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is hydralazine?", "Hydralazine lowers the blood pressure."),
        ("Is hydroxyzine good?", "Hydroxyzine, which is not hydralazine."),
        ("Which is it, hydroxyzine or hydralazine?", "Hydralazine."),
        ("What lowers the blood pressure?", "Hydralazine."),
        ("Should I come right now?", "What is left now may stay."),
        ("Is atenolol good?", "Metoprolol and nadolol are others."),
        ("", "ileum and ilium"),
    ],
)
def test_a_name_alone_is_no_finding(question: str, answer: str) -> None:
    assert found(question, answer) == []


def test_a_name_like_that_of_a_medication_is_a_minor_finding() -> None:
    (one,) = found("What helps?", "Take tramadol.", "trazodone 50 mg at night")

    assert one.severity == "minor" and one.basis.verified
    assert "list of medications" in one.message
    assert found("What helps?", "Take tramadol.", "trazodone", "tramadol") == []


def test_letters_are_compared() -> None:
    assert distance("warfarin", "wafarin", 2) == 1
    assert distance("metoprolol", "metorpolol", 2) == 1
    assert distance("", "ab", 2) == 2
    assert distance("aspirin", "heparin", 2) is None
    assert are_alike("carbimazole", "clotrimazole") and not are_alike("aspirin", "aspirin")
    assert swapped("hypoxia", "hypo-", "hyper-") == "hyperxia"
    assert swapped("colectomy", "-ectomy", "-ostomy") == "colostomy"
    assert swapped("fever", "hypo-", "hyper-") is None
