"""What difference between merged model and base + adapter is rounding, and what is a mistake."""

from math import inf, nan

import pytest

from medllm.merge.check import Limits

LEARNT = {"mean_difference_from_base": 2.0, "top1_agreement": 1.0}


@pytest.mark.parametrize(
    ("worst", "mean", "largest", "is_met"),
    [
        (9e-5, 5e-5, 0.5, True),
        (5e-4, 4e-5, 25.9, True),  # float32 itself, where new tokens have large embeddings
        (5e-4, 4e-5, 0.9, False),
        (5e-3, 4e-5, 25.9, False),
        (5e-4, 4e-2, 25.9, False),  # a part of the adapter is missing
        (nan, nan, nan, False),
        (inf, 0.1, 25.9, False),
    ],
)
def test_what_is_computed_in_float32_may_differ_by_its_rounding(
    worst: float, mean: float, largest: float, is_met: bool
) -> None:
    found = {"max_difference": worst, "mean_difference": mean, "largest_logit": largest, **LEARNT}
    assert Limits.of("float32", "float32", 1e-4).are_met(found) is is_met


def test_another_likeliest_token_is_no_rounding() -> None:
    found = {"max_difference": 1e-5, "mean_difference": 1e-6, "largest_logit": 20.0, **LEARNT}
    limits = Limits.of("float32", "float32", 1e-4)
    assert limits.are_met(found)
    assert not limits.are_met(found | {"top1_agreement": 0.9})
