"""Options in other orders, and the flips that they show."""

from collections import Counter

import pytest

from medllm.data.example import Example, Message
from medllm.engines.base import Score, ScoreRequest
from medllm.engines.fake import FakeEngine
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds import KINDS, Asking
from medllm.evaluate.kinds.shuffled import shuffle

TEXT = "Example: A. x\nAnswer: A\n\nWhich?\nA. one\nB. two:\n- more\nC. three\nD. four\nAnswer:"
ITEM = Example("q/1", "q", "1", (Message("user", TEXT),), "C. three", tuple("ABCD"), "C")


def test_options_change_places_and_the_target_goes_with_its_text() -> None:
    found = shuffle(ITEM, 23, 0)

    assert len({each.order for each in found}) == 23
    for each in found:
        text = each.item.prompt[0].content
        assert f"\n{each.item.target}. three\n" in text
        assert text.startswith("Example: A. x\nAnswer: A\n\nWhich?\nA. ")
        assert text.endswith("\nAnswer:") and len(text) == len(TEXT)
        assert each.letters[each.item.target or ""] == "C"
        assert Counter(text) == Counter(TEXT)
    assert len(shuffle(ITEM, 3, 0)) == len({each.order for each in shuffle(ITEM, 3, 1)}) == 3


def test_a_prompt_without_options_is_not_shuffled() -> None:
    plain = Example("q/1", "q", "1", (Message("user", "Is it?\nAnswer:"),), "", ("yes", "no"), "no")

    assert shuffle(plain, 3, 0) == []


class Positional(FakeEngine):
    """Always answers the first option."""

    def score(self, requests):  # type: ignore[no-untyped-def]
        return [Score(-float(each.continuation[-1]), 1, False) for each in requests]


class Knowing(FakeEngine):
    """Finds the option with the right text, wherever it stands."""

    def score(self, requests: list[ScoreRequest]) -> list[Score]:  # type: ignore[override]
        found = []
        for each in requests:
            text = "".join(map(chr, each.context))
            letter = chr(each.continuation[-1])
            found.append(Score(0.0 if f"\n{letter}. three" in text else -5.0, 1, False))
        return found


@pytest.mark.parametrize(
    ("engine", "flips", "right"), [(Positional(), 1.0, 0), (Knowing(), 0.0, 1)]
)
def test_flips_tell_who_knows_from_who_takes_the_first(
    engine: FakeEngine, flips: float, right: int
) -> None:
    asking = Asking(EvaluateConfig(option_shuffles=20), in_chat=False, what="test")
    kind = KINDS["choices"]

    records = list(kind.score(engine, [ITEM], asking))
    summary = kind.summarize(records)

    assert (summary["shuffled_items"], summary["shuffled_answers"]) == (1, 20)
    assert summary["flips"] == flips
    assert summary["accuracy"] == right
    assert (summary["shuffled_accuracy"] > 0.9) is bool(right)
    columns = kind.columns({**summary, "task": "mine"})
    assert columns[-1].heading == "flips\nn = 1"


def test_scores_stand_by_subject() -> None:
    records = [
        {"id": str(n), "target": "A", "answer": "AB"[n % 2], "subject": ("heart", "lung")[n > 2]}
        for n in range(4)
    ]

    summary = KINDS["choices"].summarize(records)

    told = {name: (each["items"], each["accuracy"]) for name, each in summary["by_subject"].items()}
    assert told == {"heart": (3, pytest.approx(2 / 3)), "lung": (1, 0)}
    assert summary["by_subject"]["lung"]["accuracy_high"] == pytest.approx(0.975)
    assert summary["answers"] == {"A": 2, "B": 2}
