"""Patterns of errors in answers by likelihood: definition, rate, interval, what to try."""

import math
from typing import Any

import pytest

from medllm.evaluate.analysis.outcomes import Outcomes, outcomes_of
from medllm.evaluate.analysis.patterns import find_patterns, rank_items
from medllm.measures.intervals import estimate_proportion

SCORE = {"model": "base", "task": "mine"}
LETTERS = "ABCD"


def outcomes(*items: tuple[str, list[float]], letters: str = LETTERS, **more: Any) -> Outcomes:
    """Outcomes of targets and the log-likelihoods of the choices."""
    records = [
        {"id": f"q{n}", "target": target, "answer": letters[logprobs.index(max(logprobs))],
         "logprobs": logprobs, **more}
        for n, (target, logprobs) in enumerate(items)
    ]  # fmt: skip
    found = outcomes_of(records, SCORE)
    assert found
    return found


def likes(letter: str, lead: float = 1.0, letters: str = LETTERS) -> list[float]:
    return [lead if each == letter else 0.0 for each in letters]


def rates(found: Outcomes, name: str) -> dict[str, dict[str, Any]]:
    return {row["definition"]: row for row in find_patterns([found]) if row["pattern"] == name}


def test_an_option_that_wrong_answers_fall_on_is_named_with_its_rate() -> None:
    biased = outcomes(*[(LETTERS[n % 4], likes("A")) for n in range(40)])
    even = outcomes(
        *[(LETTERS[n % 4], likes(LETTERS[(n + 1 + n // 4 % 3) % 4])) for n in range(48)]
    )

    (row,) = rates(biased, "wrong-option bias").values()
    assert row["definition"] == "wrong answers that say “A”, where 33% would be even"
    exact = estimate_proportion(30, 30)
    assert (row["of"], row["rate"]["value"], row["rate"]["low"]) == (30, 1.0, exact.low)
    assert "num_fewshot" in row["try"]
    assert rates(even, "wrong-option bias") == {}


def test_the_wrong_answers_of_one_patient_are_no_bias() -> None:
    items = [(LETTERS[n % 4], likes("A")) for n in range(40)]

    assert rates(outcomes(*items, group="p1"), "wrong-option bias") == {}


def test_of_two_options_all_answers_count() -> None:
    found = outcomes(*[("AB"[n % 2], likes("A", letters="AB")) for n in range(40)], letters="AB")

    (row,) = rates(found, "wrong-option bias").values()
    assert (row["definition"], row["of"]) == ("answers that say “A”, the label of 50%", 40)


def test_confident_errors_close_calls_and_cut_prompts_are_counted() -> None:
    sure, unsure = math.log(0.9 / (0.1 / 3)) + 1e-9, math.log(0.89 / (0.11 / 3))
    found = outcomes(("A", likes("B", sure)), ("A", likes("B", unsure)), ("A", likes("A", 0.05)))

    (confident,) = rates(found, "confidently wrong").values()
    (close,) = rates(found, "close calls").values()
    assert (confident["rate"]["value"], confident["of"]) == (0.5, 2)
    assert (close["rate"]["value"], close["of"]) == (pytest.approx(1 / 3), 3)
    assert rates(found, "cut prompts") == {}
    cut = outcomes(("A", likes("A")), ("B", likes("B")), cut=3)
    assert rates(cut, "cut prompts").popitem()[1]["rate"]["value"] == 1.0


def test_the_best_and_the_worst_items_are_named_by_id() -> None:
    found = outcomes(("A", likes("A", 2.0)), ("A", likes("B", 3.0)), ("A", likes("B", 1.0)),
                     ("A", likes("A", 0.5)))  # fmt: skip

    (row,) = rank_items([found])
    assert row["best"] == [["q0", 2.0], ["q3", 0.5]]
    assert row["worst"] == [["q1", -3.0], ["q2", -1.0]]
    losses = outcomes_of([{"id": "x", "logprob": -9.0, "tokens": 3},
                          {"id": "y", "logprob": -8.0, "tokens": 8}], SCORE)  # fmt: skip
    assert losses
    (nats,) = rank_items([losses])
    assert (nats["best"], nats["worst"]) == ([["y", -1.0]], [["x", -3.0]])
    assert find_patterns([losses]) == []
