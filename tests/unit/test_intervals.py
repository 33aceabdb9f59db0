"""Numbers with their uncertainty, against values known from elsewhere."""

import random
import tracemalloc
from dataclasses import astuple

import numpy as np
import pytest

from medllm.measures.intervals import (
    DRAWS,
    Estimate,
    estimate_macro_f1,
    estimate_part,
    estimate_proportion,
    estimate_ratio,
    estimate_share,
    majority_share,
    tail_of,
)


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        # R: binom.test(k, n)$conf.int
        (0, 10, 0.0, 0.3084971),
        (10, 10, 0.6915029, 1.0),
        (5, 10, 0.1870860, 0.8129140),
        (7, 20, 0.1539092, 0.5921885),
        (276, 500, 0.5072200, 0.5961504),
        (0, 1, 0.0, 0.975),
    ],
)
def test_proportions_have_clopper_pearson_intervals(
    successes: int, total: int, low: float, high: float
) -> None:
    estimate = estimate_proportion(successes, total)

    assert estimate.value == successes / total
    assert estimate.low == pytest.approx(low, abs=1e-4)
    assert estimate.high == pytest.approx(high, abs=1e-4)


def test_macro_f1_by_hand() -> None:
    targets = ["yes", "yes", "yes", "no", "no", "maybe"]
    answers = ["yes", "yes", "no", "no", "yes", "yes"]

    # yes: 2 hits of 3, 4 given: 4/7; no: 1 hit of 2, 2 given: 1/2; maybe: never given: 0
    assert estimate_macro_f1(targets, answers).value == pytest.approx((4 / 7 + 1 / 2 + 0) / 3)


def test_macro_f1_counts_only_labels_that_occur() -> None:
    assert estimate_macro_f1(["yes", "yes"], ["yes", "yes"]).value == 1.0
    assert estimate_macro_f1(["yes", "yes"], ["yes", "no"]).value == pytest.approx(2 / 3)
    assert estimate_macro_f1(["a"], ["b"]).value == 0.0


def test_the_majority_share() -> None:
    assert majority_share(["yes", "no", "yes", "maybe"]) == 0.5


def test_a_ratio_is_sum_over_sum_not_the_mean_of_ratios() -> None:
    assert estimate_ratio([10.0, 1.0], [1, 10]).value == 1.0


def test_a_ratios_interval_is_stable_and_holds_the_value() -> None:
    losses = [random.Random(n).gauss(50, 10) for n in range(40)]

    one, same = (estimate_ratio(losses, [20] * 40) for _ in range(2))

    assert one == same
    assert one.low is not None and one.high is not None
    assert one.low < one.value < one.high


def test_items_that_agree_leave_no_uncertainty() -> None:
    estimate = estimate_ratio([4.0] * 10, [2] * 10)

    assert (estimate.value, estimate.low, estimate.high) == (2.0, 2.0, 2.0)


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    """In 200 draws of 60 documents with mean loss 2, about 95 % of the intervals hold the 2."""
    source = random.Random(0)
    hits = 0
    for _ in range(200):
        tokens = [source.randint(20, 200) for _ in range(60)]
        nats = [count * source.gauss(2.0, 0.5) for count in tokens]
        estimate = estimate_ratio(nats, tokens)
        hits += estimate.low <= 2.0 <= estimate.high

    assert 0.89 <= hits / 200 <= 0.99


@pytest.mark.parametrize(("items", "least"), [(6, 0.90), (10, 0.93), (20, 0.93)])
def test_the_bootstrap_of_few_items_is_not_too_narrow(items: int, least: float) -> None:
    """A plain percentile interval holds the mean of 6 values in 86 of 100 cases."""
    source = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        found = estimate_ratio(source.normal(2.0, 1.0, items).tolist(), [1] * items)
        held += found.low is not None and found.low <= 2.0 <= (found.high or 0)

    assert least <= held / 400 <= 0.98


@pytest.mark.parametrize("items", [1, 2, 5])
def test_few_documents_have_no_interval(items: int) -> None:
    assert estimate_ratio([10.0] * items, [5] * items) == Estimate(2.0, None, None)
    assert estimate_share([True] * 12, [str(n % items) for n in range(12)]).low is None
    groups = [str(n % items) for n in range(12)]
    assert estimate_share([n < 6 for n in range(12)], groups) == Estimate(0.5, None, None)


def test_counts_that_are_none_or_all_are_no_certainty() -> None:
    assert alike(estimate_part([0.0] * 8, [3] * 8), estimate_proportion(0, 8))
    assert alike(estimate_part([3.0] * 8, [3] * 8), estimate_proportion(8, 8))
    groups = [str(n // 2) for n in range(16)]
    assert alike(estimate_part([0.0] * 16, [3] * 16, groups), estimate_proportion(0, 8))


def test_a_share_that_is_the_same_in_all_groups_is_no_certainty() -> None:
    groups = [str(n // 2) for n in range(40)]
    found = estimate_share([n % 2 == 0 for n in range(40)], groups)
    assert alike(found, estimate_proportion(10, 20))


def alike(one: Estimate, other: Estimate) -> bool:
    return astuple(one) == pytest.approx(astuple(other), rel=1e-9)


def test_a_patient_who_stands_twice_makes_nothing_surer() -> None:
    """A bootstrap of the same 200 items would end at 1.5 %, and pass a gate of 2 %."""
    found = [True] + [False] * 199
    twice = [str(n) for n in range(199)] + ["198"]
    alone, grouped = estimate_share(found), estimate_share(found, twice)

    assert alone.high == pytest.approx(0.0275415, abs=1e-6)  # R: binom.test(1, 200)
    assert grouped.high == pytest.approx(alone.high, abs=1e-5)
    assert alike(estimate_part([1.0] + [0.0] * 19, [1] * 20), estimate_proportion(1, 20))


def test_items_of_one_patient_count_as_one_where_they_are_the_same() -> None:
    found = [n // 4 < 8 for n in range(40)]
    grouped = estimate_share(found, [str(n // 4) for n in range(40)])
    single = estimate_share(found[::4])

    assert grouped.value == single.value == 0.8
    assert grouped.low == pytest.approx(single.low, abs=0.07)
    assert grouped.high == pytest.approx(single.high, abs=0.07)


@pytest.mark.parametrize(("share", "patients", "each"), [(0.98, 60, 3), (0.9, 30, 4), (0.5, 60, 3)])
def test_intervals_of_groups_cover_the_truth(share: float, patients: int, each: int) -> None:
    """Patients who differ (correlation 0.3); a bootstrap holds 0.98 in 87 of 100 cases."""
    source, of = np.random.default_rng(1), (1 - 0.3) / 0.3
    held = 0
    for _ in range(300):
        chances = source.beta(share * of, (1 - share) * of, patients)
        sizes = source.integers(1, 2 * each, patients)
        right = np.concatenate([source.random(n) < p for n, p in zip(sizes, chances, strict=True)])
        groups = np.repeat(np.arange(patients).astype(str), sizes)
        found = estimate_share(right.tolist(), groups.tolist())
        held += found.low is not None and found.low <= share <= (found.high or 0)

    assert held / 300 >= 0.92


@pytest.mark.parametrize(("sizes", "alike"), [([200] + [1] * 19, 5), ([100] + [2] * 60, 5)])
def test_a_patient_with_most_of_the_items_is_one_patient(sizes: list[int], alike: float) -> None:
    """The share of all is nearly that patient's own: told by the distance to it, 26 of 100 hold."""
    source, held = np.random.default_rng(1), 0
    groups = np.repeat(np.arange(len(sizes)).astype(str), sizes).tolist()
    for _ in range(300):
        chances = np.repeat(source.beta(0.8 * alike, 0.2 * alike, len(sizes)), sizes)
        found = estimate_share((source.random(len(groups)) < chances).tolist(), groups)
        held += found.low is not None and found.low <= 0.8 <= (found.high or 0)

    assert held / 300 >= 0.85


def test_labels_that_are_all_right_are_no_certainty() -> None:
    labels = ["a", "b"] * 20

    assert estimate_macro_f1(labels, labels) == Estimate(1.0, None, None)
    wrong = estimate_macro_f1(labels, ["a"] * 2 + labels[2:])
    assert wrong.low is not None and wrong.low < wrong.value


def test_drawing_in_parts_gives_what_drawing_at_once_gives() -> None:
    generator = np.random.default_rng(3)
    top, bottom = generator.normal(50, 10, 900), generator.integers(5, 50, 900)
    draws = np.random.default_rng(0).integers(0, 900, size=(2000, 900))
    ends = [tail_of(900), 1 - tail_of(900)]
    low, high = np.quantile(top[draws].sum(axis=1) / bottom[draws].sum(axis=1), ends)

    estimate = estimate_ratio(top.tolist(), bottom.tolist())

    assert estimate.low == pytest.approx(low, rel=1e-12)
    assert estimate.high == pytest.approx(high, rel=1e-12)


def test_the_interval_is_that_of_scipys_bootstrap() -> None:
    from scipy.stats import bootstrap

    source = np.random.default_rng(5)
    data = source.normal(50, 10, 300), source.integers(5, 50, 300).astype(float)

    interval = bootstrap(
        data, lambda top, bottom, axis: top.sum(axis=axis) / bottom.sum(axis=axis), paired=True,
        n_resamples=DRAWS, method="percentile", random_state=np.random.default_rng(0),
        confidence_level=1 - 2 * tail_of(300),
    ).confidence_interval  # fmt: skip
    estimate = estimate_ratio(data[0].tolist(), data[1].astype(int).tolist())

    assert (estimate.low, estimate.high) == pytest.approx(tuple(interval), rel=1e-12)


def test_the_memory_of_the_bootstrap_is_bounded() -> None:
    values = [float(n % 7) for n in range(20_000)]
    tracemalloc.start()

    estimate_ratio(values, [1] * len(values))

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20  # at once it would be 600 MiB
