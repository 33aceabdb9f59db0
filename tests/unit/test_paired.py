"""Paired comparisons, against published examples, formulas by hand and routines of others."""

import math
import random
import tracemalloc
from bisect import bisect_right

import numpy as np
import pytest
from scipy.stats import binom, permutation_test

from medllm.measures.intervals import (
    Estimate,
    estimate_macro_f1,
    estimate_proportion,
    estimate_share,
)
from medllm.measures.paired import (
    compare_means,
    compare_ratios,
    compare_right,
    detectable_difference,
    holm,
    judge_margin,
    mcnemar,
    tango,
)


def outcomes(both: int, lost: int, gained: int, neither: int) -> tuple[list[bool], list[bool]]:
    """The items of a 2 × 2 table of two models."""
    before = [True] * (both + lost) + [False] * (gained + neither)
    after = [True] * both + [False] * lost + [True] * gained + [False] * neither
    return before, after


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (7, 1, 0.0703125),  # Bentur et al. 2009, in Fagerland, Lydersen, Laake 2013: 0.070
        (5, 0, 0.0625),  # 2 / 2**5
        (0, 0, 1.0),
        (3, 3, 1.0),
        (59, 6, 2.0 * sum(math.comb(65, k) for k in range(7)) / 2**65),
    ],
)
def test_mcnemar_is_the_exact_binomial_test_of_the_flips(gained: int, lost: int, p: float) -> None:
    assert mcnemar(gained, lost) == pytest.approx(p, rel=1e-9)
    assert mcnemar(lost, gained) == pytest.approx(p, rel=1e-9)


def test_a_published_table_gives_its_published_numbers() -> None:
    """Airway hyper-responsiveness before and after a transplant (Bentur et al. 2009), n = 21."""
    found = compare_right(*outcomes(both=1, lost=1, gained=7, neither=12))

    assert (found.items, found.units, found.gained, found.lost) == (21, 21, 7, 1)
    assert found.difference.value == pytest.approx(6 / 21)
    assert found.p == pytest.approx(0.0703125)
    # Fagerland, Lydersen, Laake 2014 (Stat Med 33:2850): Tango's interval is 0.026 to 0.517
    assert found.difference.low == pytest.approx(0.026, abs=5e-4)
    assert found.difference.high == pytest.approx(0.517, abs=5e-4)
    assert (found.test, found.interval) == ("exact McNemar", "score (Tango 1998)")


def test_many_flips_are_bootstrapped_and_agree_with_the_formula_by_hand() -> None:
    found = compare_right(*outcomes(both=600, lost=60, gained=100, neither=240))

    difference, n = 0.04, 1000
    error = math.sqrt((0.16 - difference**2) / n)
    assert found.interval == "bootstrap"
    assert found.difference.low == pytest.approx(difference - 1.96 * error, abs=0.002)
    assert found.difference.high == pytest.approx(difference + 1.96 * error, abs=0.002)
    assert (found.before, found.after) == (0.66, 0.7)


def test_no_flips_are_not_certainty() -> None:
    found = compare_right([True] * 30, [True] * 30)

    bound = 1.959964**2 / (30 + 1.959964**2)  # of Tango's score, where nothing changed
    assert found.difference.low == pytest.approx(-bound, abs=1e-6)
    assert found.difference.high == pytest.approx(bound, abs=1e-6)
    assert found.detectable is None
    assert judge_margin(found.difference, 0.05, higher_is_better=True) == "not decided"


def test_all_items_gained_are_not_certainty() -> None:
    found = compare_right([False] * 20, [True] * 20)
    grouped = compare_right([False] * 40, [True] * 40, [str(n // 2) for n in range(40)])

    for each in (found, grouped):
        assert each.difference.value == each.difference.high == 1.0
        assert each.difference.low == pytest.approx(tango(20, 0, 20)[0])
        assert each.interval.startswith("score (Tango 1998)")


def test_means_and_ratios_of_which_no_item_differs_say_how_many_may() -> None:
    values, lists = [0.25 * (n % 4) for n in range(100)], ratios(1, 100, 0.5)
    groups = [str(n // 4) for n in range(100)]

    for found in (compare_means(values, values, [1] * 100), compare_ratios(lists, lists)):
        assert (found.difference, found.p, found.detectable) == (Estimate(0.0, None, None), 1, None)
        assert found.differing.value == 0
        assert found.differing.high == pytest.approx(1 - 0.025 ** (1 / 100))
        assert judge_margin(found.difference, 0.02, higher_is_better=True) == "not decided"
    for found in (compare_means(values, values, [1] * 100, groups),
                  compare_ratios(lists, lists, groups)):  # fmt: skip
        assert found.differing.high == pytest.approx(1 - 0.025 ** (1 / 25)), "of 25 groups"


@pytest.mark.parametrize(("changed", "is_known"), [(1, False), (5, False), (6, True)])
def test_a_few_items_that_differ_do_not_tell_by_how_much_items_do(
    changed: int, is_known: bool
) -> None:
    before, lists = [0.5] * 200, ratios(1, 200, 0.5)
    after = [0.6 + n / 1000 if n < changed else 0.5 for n in range(200)]
    others = [(0.0, 7.0) if n < changed else each for n, each in enumerate(lists)]

    for found in (compare_means(before, after, [1] * 200), compare_ratios(lists, others)):
        assert found.differing.value == changed / 200
        assert (found.difference.low is not None) == is_known


def test_one_item_and_one_patient_have_no_interval() -> None:
    one = compare_means([0.1], [0.9], [1])
    patient = compare_means([0.1, 0.2] * 5, [0.9, 0.7] * 5, [1] * 10, ["a"] * 10)

    for found in (one, patient, compare_right([False], [True]), compare_ratios([(1, 2)], [(0, 2)])):
        assert (found.units, found.p, found.difference.low) == (1, 1.0, None)
        assert found.detectable is None and found.differing.high == 1


@pytest.mark.parametrize(("gained", "lost", "total"), [(0, 0, 2), (3, 0, 3), (0, 5, 5), (9, 1, 10)])
def test_the_score_interval_stays_in_its_range(gained: int, lost: int, total: int) -> None:
    low, high = tango(gained, lost, total)

    assert -1 <= low <= (gained - lost) / total <= high <= 1
    assert tango(lost, gained, total) == pytest.approx((-high, -low), abs=1e-9)


def test_the_smallest_detectable_difference_is_found_as_often_as_is_said() -> None:
    """The power of the exact test, by its own distribution, for the size that the formula gives."""
    items, changed = 1000, 120
    size = detectable_difference(items, changed)
    assert size is not None

    share = changed / items
    chance_of_gain = (share + size) / (2 * share)
    power = 0.0
    for flips in range(60, 190):
        fewest = range(flips // 2 + 1)
        few = bisect_right(fewest, 0.05, key=lambda k: mcnemar(k, flips - k))
        found = [*range(few), *range(flips - few + 1, flips + 1)]
        power += binom.pmf(flips, items, share) * binom.pmf(found, flips, chance_of_gain).sum()
    assert 0.76 <= power <= 0.82  # the exact test is a little conservative
    assert detectable_difference(3, 1) is None
    assert detectable_difference(50, 1) is None, "one change of 50 can never be significant"


def test_items_of_one_patient_are_not_independent_evidence() -> None:
    """Ten patients with ten items each, of which all change alike, are ten pieces of evidence."""
    groups = [f"patient {n // 10}" for n in range(100)]
    before, after = [False] * 100, [n // 10 < 6 for n in range(100)]

    apart, together = compare_right(before, after), compare_right(before, after, groups)

    assert (apart.units, together.units) == (100, 10)
    assert together.p == pytest.approx(mcnemar(6, 0))  # 0.03, not 2e-18
    assert apart.p < 1e-15
    assert together.interval == "score (Tango 1998) over groups"
    assert together.difference.low is not None and apart.difference.low is not None
    assert together.difference.low < apart.difference.low - 0.1


def test_the_test_by_groups_is_that_of_all_signs() -> None:
    source = random.Random(1)
    groups = [str(source.randint(0, 11)) for _ in range(90)]
    before, after = ([source.random() < share for _ in groups] for share in (0.4, 0.7))
    nets = [
        sum(new - old for old, new, own in zip(before, after, groups, strict=True) if own == each)
        for each in sorted(set(groups))
    ]

    exact = permutation_test(
        (np.array(nets),), np.sum, permutation_type="samples", n_resamples=np.inf
    ).pvalue

    assert compare_right(before, after, groups).p == pytest.approx(exact, abs=1e-12)
    alone = [str(n) for n in range(90)]
    assert compare_right(before, after, alone) == compare_right(before, after)


def test_losses_have_a_bootstrap_and_a_permutation_test() -> None:
    source = np.random.default_rng(2)
    tokens = source.integers(5, 50, 400).tolist()
    before = (source.normal(2, 0.4, 400) * tokens).tolist()
    after = [nats - 0.05 * count for nats, count in zip(before, tokens, strict=True)]
    noise = (source.normal(0, 0.3, 400) * tokens).tolist()
    worse = [nats + more for nats, more in zip(before, noise, strict=True)]

    better, unknown = (compare_means(before, each, tokens) for each in (after, worse))

    assert better.difference.value == pytest.approx(-0.05)
    assert better.difference.low is None, "every token lost as much, which is no certainty"
    assert better.p == pytest.approx(2 / 10_000)
    assert unknown.difference.low is not None and unknown.difference.high is not None
    assert (unknown.difference.low < 0 < unknown.difference.high) == (unknown.p > 0.05)
    assert unknown.detectable == pytest.approx(
        2.8016 * (unknown.difference.high - unknown.difference.low) / 3.92, rel=0.05
    )
    assert compare_means([1.0], [2.0], [5]).difference == Estimate(0.2, None, None)


@pytest.mark.parametrize(("count", "near"), [(2, 1e-12), (12, 1e-12), (13, 1e-12), (40, 0.015)])
def test_the_test_of_losses_is_that_of_scipy(count: int, near: float) -> None:
    """Exactly for few items; of more, both draw."""
    for seed in range(3):
        changes = np.random.default_rng(seed).normal(0.2, 1, count)
        expected = permutation_test(
            (changes,), np.sum, permutation_type="samples", n_resamples=9999, rng=seed
        ).pvalue

        found = compare_means([0.0] * count, changes.tolist(), [1] * count).p

        assert found == pytest.approx(expected, abs=near)


def test_holm_by_hand() -> None:
    # smallest × 4, then × 3, × 2, × 1; never below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("low", "high", "higher", "verdict"),
    [
        (-0.01, 0.03, True, "non-inferior"),
        (-0.05, 0.03, True, "not decided"),
        (-0.09, -0.03, True, "inferior"),
        (-0.05, 0.01, False, "non-inferior"),
        (0.03, 0.09, False, "inferior"),
        (None, None, True, "not decided"),
    ],
)
def test_non_inferiority_is_a_matter_of_the_worst_bound(
    low: float | None, high: float | None, higher: bool, verdict: str
) -> None:
    estimate = Estimate(0.0, low, high)

    assert judge_margin(estimate, 0.02, higher_is_better=higher) == verdict


def test_shares_of_repeated_patients_are_as_sure_as_so_many_patients() -> None:
    groups = [str(n // 5) for n in range(100)]
    alike = [n // 5 < 14 for n in range(100)]  # a patient's items are all right, or all wrong

    found = estimate_share(alike, groups)

    exact = estimate_proportion(14, 20)
    assert found.low == pytest.approx(exact.low, abs=0.03)
    assert found.high == pytest.approx(exact.high, abs=0.03)
    assert estimate_share(alike, [str(n) for n in range(100)]) == estimate_share(alike)


def test_a_share_of_all_is_no_certainty_and_one_patient_says_nothing_of_others() -> None:
    all_right = estimate_share([True] * 20, [str(n // 2) for n in range(20)])

    assert all_right.low == pytest.approx(0.025 ** (1 / 10))  # exact, of 10 patients
    assert all_right.high == 1.0
    assert estimate_share([True, True], ["a", "a"]) == Estimate(1.0, None, None)
    assert estimate_share([True, False], ["a", "a"]) == Estimate(0.5, None, None)


def test_macro_f1_has_an_interval() -> None:
    source = random.Random(3)
    targets = [source.choice(["yes", "no", "maybe"]) for _ in range(200)]
    answers = [each if source.random() < 0.7 else "yes" for each in targets]

    found = estimate_macro_f1(targets, answers)

    assert found.low is not None and found.high is not None
    assert found.low < found.value < found.high
    assert 0.05 < found.high - found.low < 0.2
    assert estimate_macro_f1(["a"], ["a"]) == Estimate(1.0, None, None)


def test_memory_is_bounded() -> None:
    changes = [float(n % 7) - 3 for n in range(20_000)]
    tracemalloc.start()

    compare_means(changes, changes[::-1], [1] * len(changes))

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 128 * 2**20


def ratios(seed: int, count: int, right: float) -> list[tuple[float, float]]:
    """Documents of which some names are right, of as many as are listed or wanted."""
    drawn = random.Random(seed)
    wholes = [drawn.randint(2, 12) for _ in range(count)]
    return [(sum(drawn.random() < right for _ in range(whole)), whole) for whole in wholes]


def f1(pairs: list[tuple[float, float]]) -> float:
    return sum(part for part, _ in pairs) / sum(whole for _, whole in pairs)


def test_ratios_whose_wholes_differ_too_are_compared_document_by_document() -> None:
    before, after = ratios(1, 60, 0.5), ratios(2, 60, 0.7)
    found = compare_ratios(before, after)

    assert (found.before, found.after) == (pytest.approx(f1(before)), pytest.approx(f1(after)))
    assert found.difference.value == pytest.approx(f1(after) - f1(before))
    drawn = random.Random(3)
    picked = [[drawn.randrange(60) for _ in range(60)] for _ in range(4000)]
    own = sorted(f1([after[at] for at in each]) - f1([before[at] for at in each])
                 for each in picked)  # fmt: skip
    assert found.difference.low == pytest.approx(own[100], abs=0.02)
    assert found.difference.high == pytest.approx(own[3899], abs=0.02)
    assert found.p < 0.001 and (found.test, found.interval) == ("items exchanged", "bootstrap")
    turned = compare_ratios(after, before)
    assert turned.difference.value == -found.difference.value and turned.p == found.p


def test_exchanged_documents_give_the_p_of_scipys_permutation_test() -> None:
    before, after = ratios(4, 11, 0.45), ratios(5, 11, 0.65)

    def change(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
        # a document is a complex number here, so that its part and its whole go together
        new, old = other.sum(axis=axis), one.sum(axis=axis)
        return new.real / new.imag - old.real / old.imag

    sides = [np.array([complex(*pair) for pair in side]) for side in (before, after)]
    theirs = permutation_test(sides, change, permutation_type="samples", n_resamples=np.inf)

    assert compare_ratios(before, after).p == pytest.approx(theirs.pvalue, abs=1e-12)


def test_many_documents_without_a_difference_are_rarely_told_apart() -> None:
    pairs = [(ratios(2 * seed, 30, 0.6), ratios(2 * seed + 1, 30, 0.6)) for seed in range(40)]

    assert sum(compare_ratios(*pair).p < 0.05 for pair in pairs) <= 5


def test_equal_lists_are_no_certainty_and_few_documents_have_no_interval() -> None:
    before, other = ratios(1, 20, 0.5), ratios(2, 4, 0.5)
    same = compare_ratios(before, before)

    assert (same.p, same.difference) == (1.0, Estimate(0.0, None, None))
    assert same.detectable is None
    assert compare_ratios(other, ratios(3, 4, 0.9)).difference.low is None
    with pytest.raises(ZeroDivisionError):
        compare_ratios([(0, 0)] * 3, other[:3])


def test_ratios_of_groups_are_drawn_and_exchanged_as_wholes() -> None:
    before, after = ratios(1, 20, 0.5), ratios(2, 20, 0.7)
    thrice = [str(at) for at in range(20)] * 3
    found, once = compare_ratios(before * 3, after * 3, thrice), compare_ratios(before, after)

    assert (found.items, found.units, found.test) == (60, 20, "whole groups exchanged")
    assert found.difference.low == pytest.approx(once.difference.low, abs=0.02)
    assert found.p == pytest.approx(once.p, abs=0.01)


def test_a_draw_without_any_name_widens_the_interval_instead_of_hiding() -> None:
    rare = [(0.0, 0.0)] * 29 + [(1.0, 1.0)]
    found = compare_ratios(rare, ratios(2, 30, 0.7))

    assert found.difference.low is None and found.detectable is None
    assert 0 < found.p <= 1
