import math
import random

import pytest

from medllm.measures.drift import MARKED, Drift


def test_the_index_is_that_of_shares_worked_out_by_hand() -> None:
    drift = Drift((10,), window=4)
    for value in (1, 2, 3, 20, 1, 20, 20, 10):  # the bound belongs to the bin above
        drift.add(value)

    first, late = (3.5 / 5, 1.5 / 5), (1.5 / 5, 3.5 / 5)
    by_hand = sum((b - a) * math.log(b / a) for a, b in zip(first, late, strict=True))
    assert drift.index() == pytest.approx(by_hand)


def test_too_few_values_tell_nothing() -> None:
    drift = Drift((10,), window=4)
    for _ in range(7):
        assert math.isnan(drift.index())
        drift.add(1)
    assert math.isnan(drift.index())
    drift.add(1)
    assert drift.index() == 0


def test_the_same_questions_do_not_drift_and_longer_ones_do() -> None:
    draw = random.Random(0)
    bounds = tuple(2**n for n in range(4, 13))
    drift = Drift(bounds)
    for _ in range(3000):
        drift.add(draw.lognormvariate(5, 1))
    assert drift.index() < 0.1
    for _ in range(500):
        drift.add(draw.lognormvariate(6, 1))
    assert drift.index() > MARKED


def test_only_the_last_values_count() -> None:
    drift = Drift((10,), window=10)
    for value in (*[1] * 10, *[99] * 10, *[1] * 10):
        drift.add(value)
    assert drift.index() == 0
