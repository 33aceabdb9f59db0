from pathlib import Path

import pytest

from medllm.clinical import review_answer

LIST = Path(__file__).with_name("language_texts.txt")
ROWS = [
    line.split("\t")
    for line in LIST.read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
SCRIPTS = {"hindi": "Devanagari", "russian": "Cyrillic"}


def not_checked(answer: str, question: str = "") -> list[str]:
    report = review_answer(answer, question=question).report
    return [each for each in report.not_checked if each.startswith("language: ")]


@pytest.mark.parametrize(("language", "text"), ROWS)
def test_a_text_in_another_language_is_announced(language: str, text: str) -> None:
    said = not_checked(text)

    if language == "english":
        assert said == []
    elif language == "part":
        assert "part of the answer is in another language than English" in said[0]
    else:
        assert said[0].startswith("language: the answer is in another language than English (")
        assert SCRIPTS.get(language, language.capitalize()) in said[0]


def test_a_question_in_another_language_is_announced_as_one() -> None:
    said = not_checked("Take one tablet.", "Was soll ich gegen die Schmerzen nehmen?")

    assert said == ["language: the question is in another language than English (German)"]
