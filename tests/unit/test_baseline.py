"""What may be compared, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest

from medllm.evaluate.analysis.baseline import Unlike, compare, compare_pairs
from medllm.evaluate.analysis.outcomes import Outcomes, outcomes_of, pool

ASKED = {"model": "base", "task": "mine", "chat_template": False, "n_ctx": 4096, "cut": 0,
         "prompt_key": "k", "template": "{prompt}"}  # fmt: skip


def choices(answers: str, targets: str = "aabb", **score: Any) -> Outcomes:
    """Outcomes of items whose answers are letters."""
    records = [
        {"id": str(n), "prompt": f"p{n}", "group": f"g{n}", "answer": answer, "target": target}
        for n, (answer, target) in enumerate(zip(answers, targets, strict=True))
    ]
    found = outcomes_of(records, ASKED | score)
    assert found
    return found


def losses(nats: list[float], tokens: list[int]) -> Outcomes:
    records = [
        {"id": str(n), "prompt": f"p{n}", "logprob": -each, "tokens": count}
        for n, (each, count) in enumerate(zip(nats, tokens, strict=True))
    ]
    found = outcomes_of(records, ASKED)
    assert found
    return found


def test_right_answers_and_losses_are_compared() -> None:
    found = compare(choices("abab"), choices("aabb"))
    assert (found.gained, found.lost, found.before, found.after) == (2, 0, 0.5, 1.0)

    nats = compare(losses([20.0, 10.0], [10, 5]), losses([10.0, 5.0], [10, 5]))
    assert (nats.before, nats.after, nats.difference.value) == (2.0, 1.0, -1.0)


def test_the_order_of_the_items_does_not_matter() -> None:
    ours = choices("aabb")
    turned = replace(ours, records=ours.records[::-1])

    assert compare(choices("abab"), turned) == compare(choices("abab"), ours)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (choices("aab", "aab"), "the items differ: 4 of the baseline, 3 here, 3 in common"),
        (choices("aabb", chat_template=True), "chat_template differs"),
        (choices("aabb", template="<user>{prompt}"), "template differs"),
        (choices("aabb", num_fewshot=5), None),
        (choices("aabb", n_ctx=1024), "contexts differ: n_ctx 4,096 and 1,024"),
        (choices("aabb", n_ctx=2048, cut=1), "contexts differ"),
        (choices("aabb", n_ctx=32768), None),
        (choices("aabb", n_ctx=4096, cut=1), None),
        (choices("aabb", prompt_key="other"), "another key"),
        (losses([1.0] * 4, [2] * 4), "one has accuracy, the other loss"),
    ],
)
def test_only_what_was_asked_alike_is_compared(other: Outcomes, reason: str | None) -> None:
    if reason is None:
        assert compare(choices("abab"), other).gained == 2
        return
    with pytest.raises(Unlike, match=reason):
        compare(choices("abab"), other)


def test_other_prompts_tokenizers_and_records_without_digests_are_refused() -> None:
    ours = choices("aabb")
    first, *others = ours.records
    changed = replace(ours, records=[{**first, "prompt": "new"}, *others])
    old = replace(ours, score={key: ASKED[key] for key in ASKED if key != "prompt_key"})

    with pytest.raises(Unlike, match="the prompts of 1 of 4 items differ"):
        compare(ours, changed)
    with pytest.raises(Unlike, match="tokenizers differ"):
        compare(losses([1.0, 2.0], [3, 4]), losses([1.0, 2.0], [3, 5]))
    with pytest.raises(Unlike, match="not known"):
        compare(old, old)


def test_records_without_an_outcome_are_none() -> None:
    assert outcomes_of([{"id": "1"}], ASKED) is None
    assert outcomes_of([{"id": "1", "not_asked": "empty"}], ASKED) is None


def lists(counts: list[tuple[int, int, int, int]]) -> Outcomes:
    """Outcomes of documents: what is wanted, given, hit and reached of overlapping diseases."""
    records = [
        {"id": str(n), "prompt": f"p{n}", "counts": {
            "overlap disease": [*each], "exact disease": [each[0], each[1], 0, 0],
            "name disease": [9, 9, 9, 9]}}
        for n, each in enumerate(counts)
    ]  # fmt: skip
    found = outcomes_of(records, ASKED)
    assert found
    return found


def test_lists_of_names_are_compared_by_micro_f1_precision_and_recall() -> None:
    """A document may have nothing, and a model may list more in it than the other."""
    old = lists([(2, 2, 1, 1), (0, 0, 0, 0), (3, 1, 1, 1)])
    new = lists([(2, 2, 2, 2), (0, 4, 0, 0), (3, 3, 3, 3)])

    rows = compare_pairs([(old, new)], 0.05)

    found = {row["measure"]: (row["before"], row["after"]) for row in rows if "refused" not in row}
    assert found["overlap_f1"] == (pytest.approx(4 / 8), pytest.approx(10 / 14))
    assert found["overlap_precision"] == (pytest.approx(2 / 3), pytest.approx(5 / 9))
    assert found["overlap_recall"] == (pytest.approx(2 / 5), pytest.approx(1.0))
    assert [row["measure"] for row in rows] == [
        "overlap_f1", "overlap_precision", "overlap_recall", "exact_f1", "exact_precision",
        "exact_recall",
    ]  # fmt: skip
    assert {row["items"] for row in rows} == {3}
    assert all(row["p_holm"] >= row["p"] for row in rows if "refused" not in row)


def test_a_model_that_lists_nothing_has_no_precision_to_compare() -> None:
    old, new = lists([(2, 0, 0, 0)] * 3), lists([(2, 2, 1, 1)] * 3)

    told = {row["measure"]: row.get("refused", "") for row in compare_pairs([(old, new)], None)}

    assert "the baseline has no overlap_precision" in told["overlap_precision"]
    assert told["overlap_f1"] == told["overlap_recall"] == ""


def test_what_no_judge_settles_in_one_of_both_is_left_out_and_said(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def rubrics(scores: list[float | None]) -> Outcomes:
        records = [{"id": str(n), "prompt": "p", "rubric_score": score}
                   for n, score in enumerate(scores)]  # fmt: skip
        found = outcomes_of(records, ASKED)
        assert found
        return found

    found = compare(rubrics([0.2, None, 0.4, None]), rubrics([0.6, 0.5, 0.4, None]))

    assert (found.items, found.before, found.after) == (2, pytest.approx(0.3), 0.5)
    assert "1 item not compared: one has no value" in capfd.readouterr().err
    with pytest.raises(Unlike, match="no item has a value of both"):
        compare(rubrics([None, 0.3]), rubrics([0.2, None]))


def test_training_rows_that_are_given_away_are_compared_without_those_of_the_test_split() -> None:
    def memory(given_away: list[bool]) -> Outcomes:
        records: list[dict[str, Any]] = [
            {"id": str(n), "prompt": "p", "role": "train", "copied": 1, "given_away": each}
            for n, each in enumerate(given_away)
        ]
        records.append({"id": "t", "prompt": "p", "role": "test", "copied": 1, "given_away": True})
        records.append({"id": "c", "prompt": "p", "role": "canary", "drawn_out": True})
        found = outcomes_of(records, ASKED)
        assert found
        return found

    found = compare(memory([False] * 4), memory([True, True, False, False]))

    assert (found.items, found.gained, found.lost, found.after) == (4, 2, 0, 0.5)


def test_a_group_of_tasks_is_compared_as_one_sample() -> None:
    score = {"model": "base", "task": "both", "tasks": ["one", "two"], "chat_template": False}
    parts = [replace(choices(answers), task=name) for name, answers in
             (("one", "abab"), ("two", "aaaa"))]  # fmt: skip
    other = [replace(choices("aabb"), task=name) for name in ("one", "two")]

    found = compare(pool(score, parts), pool(score, other))

    assert (found.items, found.gained, found.lost) == (8, 4, 0)
    assert (found.before, found.after) == (0.5, 1.0)
    assert found.units == 4  # both tasks ask of the same four patients


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_neither_better_nor_left_out(broken: float) -> None:
    whole, wrong = losses([20.0, 10.0], [10, 5]), losses([20.0, broken], [10, 5])

    (row,) = compare_pairs([(whole, wrong)], 0.02)
    assert row["refused"] == "the model has values that are no numbers, of 1 item"
    (row,) = compare_pairs([(wrong, whole)], None)
    assert row["refused"].startswith("the baseline has values")
