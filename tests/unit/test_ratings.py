"""Agreement and preference, against published values and by hand."""

import numpy as np
import pytest

from medllm.measures.intervals import Estimate, estimate_proportion
from medllm.measures.ratings import measure_agreement, measure_preference

PSYCHIATRISTS = """0 0 0 6 0|0 3 0 0 3|0 1 4 0 1|0 0 0 0 6|0 3 0 3 0|2 0 4 0 0|0 0 4 0 2
2 0 3 1 0|2 0 0 4 0|0 0 0 0 6|1 0 0 5 0|1 1 0 4 0|0 3 3 0 0|1 0 0 5 0|0 2 0 3 1
0 0 5 0 1|3 0 0 1 2|5 1 0 0 0|0 2 0 4 0|1 0 2 0 3|0 0 0 0 6|0 1 0 5 0|0 2 0 1 3
2 0 0 4 0|1 0 0 4 1|0 5 0 1 0|4 0 0 0 2|0 2 0 4 0|1 0 5 0 0|0 0 0 0 6"""
"""30 patients by 6 psychiatrists into 5 diagnoses: table 1 of Fleiss 1971 (Psychol Bull 76:378)."""


def test_fleiss_kappa_is_the_published_one() -> None:
    rows = [list(map(int, row.split())) for row in PSYCHIATRISTS.replace("\n", "|").split("|")]
    ratings = [[at for at, count in enumerate(row) for _ in range(count)] for row in rows]

    found = measure_agreement(ratings, 5, ordered=False)

    assert found and found.kappa and found.kappa.low is not None and found.kappa.high is not None
    assert (found.items, found.raters, found.statistic) == (30, 6, "Fleiss' kappa")
    assert found.kappa.value == pytest.approx(0.430, abs=5e-4)
    assert found.alike.value == pytest.approx(0.5556, abs=1e-4)
    assert found.kappa.low < 0.430 < found.kappa.high


def pairs(table: list[list[int]]) -> list[list[int | None]]:
    return [[one, two] for one, row in enumerate(table) for two, n in enumerate(row)
            for _ in range(n)]  # fmt: skip


def test_cohens_kappa_by_hand() -> None:
    found = measure_agreement(pairs([[20, 5], [10, 15]]), 2, ordered=False)

    assert found and found.kappa and found.kappa.low is not None and found.kappa.high is not None
    assert found.kappa.value == pytest.approx(0.4)  # (0.7 - 0.5) / (1 - 0.5)
    assert found.alike == estimate_proportion(35, 50)
    error = np.sqrt(0.7 * 0.3 / 50) / 0.5  # of the simple formula, near its bootstrap
    assert found.kappa.high - found.kappa.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_near_ratings_half_agree_where_they_have_an_order() -> None:
    near = pairs([[5, 5, 0], [0, 5, 5], [0, 0, 5]])
    far = pairs([[5, 0, 5], [5, 5, 0], [0, 0, 5]])

    ordered = [measure_agreement(each, 3, ordered=True) for each in (near, far)]
    plain = [measure_agreement(each, 3, ordered=False) for each in (near, far)]

    kappas = [each.kappa.value for each in (*ordered, *plain) if each and each.kappa]
    assert kappas[0] > kappas[1] + 0.2
    assert kappas[2] == pytest.approx(kappas[3], abs=0.05)
    # observed 1 - 10/25 × 1/4; chance by the margins 10, 10, 5 and 5, 10, 10
    assert kappas[0] == pytest.approx(
        1 - 0.1 / ((100 + 4 * 100 + 50 + 100 + 4 * 25 + 50) / 625 / 4)
    )


def test_what_leaves_nothing_to_agree_on_has_no_kappa() -> None:
    same = measure_agreement([[1, 1]] * 20, 3, ordered=True)
    full = measure_agreement([[n % 2, n % 2] for n in range(20)], 2, ordered=False)
    alone = measure_agreement([[1, None], [None, 2]], 3, ordered=True)
    few = measure_agreement([[0, 0], [1, 1], [0, 1]], 2, ordered=False)

    assert same and same.kappa is None and same.alike == estimate_proportion(20, 20)
    assert full and full.kappa == Estimate(1.0, None, None), "no spread is no certainty"
    assert alone is None
    assert few and few.kappa and few.kappa.low is None


def test_answers_of_one_item_are_drawn_together() -> None:
    ratings = [[n % 2, n % 2 if n % 3 else 1 - n % 2] for n in range(60)]

    apart = measure_agreement(ratings, 2, ordered=False)
    together = measure_agreement(ratings, 2, ordered=False, groups=[str(n // 6) for n in range(60)])

    assert apart and together and apart.kappa and together.kappa
    assert apart.kappa.value == together.kappa.value
    assert apart.kappa.low != together.kappa.low


def test_preference_is_the_exact_sign_test() -> None:
    found = measure_preference(9, 1, 5)

    assert found.p == pytest.approx(22 / 1024)
    assert found.share == estimate_proportion(9, 10)
    assert measure_preference(0, 0, 7).share is None and measure_preference(0, 0, 7).p == 1
