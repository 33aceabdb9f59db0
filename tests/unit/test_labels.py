"""Which answers are labels, and which of their tokens count."""

import pytest

from medllm.data.example import Example, Message
from medllm.finetune.rows.build import IGNORED
from medllm.finetune.rows.labels import has_labels, right_labels


def examples(*answers: str, targets: tuple[str | None, ...] = (None,)) -> list[Example]:
    return [
        Example(
            f"t/{n}", "t", str(n), (Message("user", "?"),), answer,
            target=targets[n % len(targets)],
        )
        for n, answer in enumerate(answers)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (examples("yes", "no", "no", "yes"), True),
        (examples("yes", "no", "no"), False),  # two labels of three answers
        (examples("x" * 41, "x" * 41), False),
        (examples(*map(str, range(21)), *map(str, range(21))), False),
        (examples(*map(str, range(20)), *map(str, range(20))), True),
        (examples("A. aspirin", "B. none", "A. heparin", "B. both", targets=("A", "B")), True),
        (examples("The answer is A", "A", targets=("A",)), False),
        ([], False),
    ],
)
def test_labels_are_few_short_and_repeated(given: list[Example], expected: bool) -> None:
    assert has_labels(given) is expected


def test_each_answer_counts_by_the_tokens_of_its_label() -> None:
    known = frozenset({(5, 9), (5, 6, 9)})
    row = [IGNORED, 5, 9, 1, 2, IGNORED, 5, 6, 9, IGNORED, 5, 9, IGNORED, 5, 9, 7]
    wrong = {0, 3, 4, 5, 7, 9, 12, 15}
    right = [place not in wrong for place in range(len(row))]

    assert list(right_labels(row, right, known)) == [True, False, True, True]
