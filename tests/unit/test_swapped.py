"""Questions asked again with other words, and the flips that they show."""

import pytest

from medllm.data.example import Example, Message
from medllm.engines.base import Score, ScoreRequest
from medllm.engines.fake import FakeEngine
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds import KINDS, Asking
from medllm.evaluate.kinds.swapped import NO_WORD, SAME_CHOICES, Swapped, swap


def ask(text: str, choices: tuple[str, ...] = tuple("AB"), id: str = "q/1") -> Example:
    return Example(id, "q", id, (Message("user", text),), "", choices, choices[0])


def swapped(text: str, name: str) -> str:
    found = swap(ask(text), ask(text), name)
    assert isinstance(found, Swapped), found
    return found.item.prompt[-1].content


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("brands", "On Tylenol 500 mg and warfarin.", "On paracetamol 500 mg and Coumadin."),
        ("brands", "Which?\nA. Xanax\nB. amoxicillin", "Which?\nA. Alprazolam\nB. Amoxil"),
        ("brands", "Lipitor, metoprolol succinate", "Atorvastatin, metoprolol succinate"),
        ("sex", "A MAN and his wife: he says it is his. Mr. X hurt himself.",
         "A WOMAN and her husband: she says it is hers. Mrs. X hurt herself."),
        ("sex", "Her arm hurts; told her to rest.", "His arm hurts; told him to rest."),
        ("age", "A 45-year-old, a 38 year old, a 64yo", "A 50-year-old, a 33 year old, a 59yo"),
        ("ethnicity", "A white man, an African American woman", "A Black man, a Hispanic woman"),
    ],
)  # fmt: skip
def test_words_are_exchanged(name: str, before: str, after: str) -> None:
    assert swapped(before, name) == after


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("brands", "Insulin and epinephrine are hormones.", NO_WORD),
        ("brands", "The adenosine level rose.", NO_WORD),
        ("sex", "A pregnant woman", "the answer may hang on sex"),
        ("sex", "A man has an enlarged prostate.", "the answer may hang on sex"),
        ("age", "A 15-year-old boy takes 45 mg.", NO_WORD),
        ("ethnicity", "White blood cells and black stools in a man.", NO_WORD),
        ("ethnicity", "A Black man with sickle cell disease", "the answer may hang on ethnicity"),
    ],
)
def test_questions_that_would_be_others_are_left_out(name: str, text: str, why: str) -> None:
    assert swap(ask(text), ask(text), name) == why


def test_choices_that_are_texts_are_exchanged_and_stay_apart() -> None:
    found = swap(*[ask("Which, Advil or none?", ("ibuprofen", "Xanax"))] * 2, "brands")
    assert isinstance(found, Swapped)

    assert found.item.choices[1] == "Alprazolam" and found.item.choices[0] not in ("ibuprofen", "")
    assert found.item.target == found.item.choices[0]
    assert found.answer(found.item.choices[1], ask("", ("ibuprofen", "Xanax"))) == "Xanax"
    both = ask("Tylenol?", ("Tylenol", "Panadol"))
    assert swap(both, both, "brands") == SAME_CHOICES


def test_worked_examples_stay_as_they_are() -> None:
    own = ask("A man?\nAnswer:")
    shown = ask("A man!\nAnswer: A\n\nA man?\nAnswer:")

    found = swap(shown, own, "sex")

    assert isinstance(found, Swapped)
    assert found.item.prompt[-1].content == "A man!\nAnswer: A\n\nA woman?\nAnswer:"


class Biased(FakeEngine):
    """Answers A of men and B of women."""

    def score(self, requests: list[ScoreRequest]) -> list[Score]:  # type: ignore[override]
        found = []
        for each in requests:
            wanted = "B" if "woman" in "".join(map(chr, each.context)) else "A"
            found.append(Score(0.0 if chr(each.continuation[-1]) == wanted else -5.0, 1, False))
        return found


def test_flips_tell_who_answers_by_sex() -> None:
    items = [ask(f"A man, {n} kg.\nAnswer:", id=f"q/{n}") for n in range(70, 80)]
    items += [ask("A pregnant woman.\nAnswer:", id="q/0"), ask("Whose?\nAnswer:", id="q/1")]
    asking = Asking(EvaluateConfig(swaps=("sex", "age")), in_chat=False, what="test", own=items)
    kind = KINDS["choices"]

    records = list(kind.score(Biased(), items, asking))
    summary = kind.summarize(records)

    sex = summary["swaps"]["sex"]
    assert (sex["items"], sex["flips"], sex["before"], sex["after"]) == (10, 1.0, 1.0, 0.0)
    assert (sex["gained"], sex["lost"], sex["p"]) == (0, 10, pytest.approx(2 / 2**10))
    assert sex["flips_low"] == pytest.approx(0.025 ** (1 / 10))
    assert sex["left_out"] == {"the answer may hang on sex": 1, NO_WORD: 1}
    assert summary["swaps"]["age"] == {"items": 0, "left_out": {NO_WORD: 12}}
    columns = kind.columns({**summary, "task": "mine"})
    assert [each.heading for each in columns[-2:]] == [
        "flips of sex\nn = 10",
        "flips of age\nn = 0",
    ]
    assert columns[-1].cell == "none"
    assert records[0]["swapped"]["sex"] == {"answer": "B", "words": 1}
