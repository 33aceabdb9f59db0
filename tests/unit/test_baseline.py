"""What may be compared, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest

from medllm.evaluate.analysis.baseline import Unlike, compare
from medllm.evaluate.analysis.outcomes import Outcomes, outcomes_of

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
