"""Proportions, label metrics and means, each with what is known of its uncertainty.

Items of one patient are alike: where groups are known, what is drawn anew is groups, not items.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr, stdtrit

CONFIDENCE = 0.95
DRAWS = 2000
FEWEST = 6
"""Of fewer values no interval of 95 % can be had without assuming how they are spread: even the
least and the greatest enclose the median with a chance of 1 - 2**(1 - n), 94 % of 5."""
LARGEST_EXPONENT = 709
DRAWN_AT_ONCE = 2**20
"""Documents of the draws that are in memory at a time: 8 MiB of numbers an array."""

Numbers: TypeAlias = NDArray[Any]
Groups: TypeAlias = Sequence[str]
"""Of each item the patient, or whatever else several items may share."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; without ends where there is too little to make one of."""

    value: float
    low: float | None
    high: float | None


def estimate_proportion(successes: int, total: int) -> Estimate:
    """A proportion with its exact (Clopper-Pearson) interval."""
    from scipy.stats import binomtest

    interval = binomtest(successes, total).proportion_ci(CONFIDENCE, method="exact")
    return Estimate(successes / total, float(interval.low), float(interval.high))


def estimate_share(outcomes: Sequence[bool], groups: Groups | None = None) -> Estimate:
    """The share of items that are so: its interval is exact, of groups as by `estimate_part`."""
    hits, total = sum(outcomes), len(outcomes)
    if not repeats(groups):
        return estimate_proportion(hits, total)
    return estimate_part([float(each) for each in outcomes], [1] * total, groups)


def estimate_quantile(values: Sequence[float], share: float) -> Estimate:
    """The value below which a share of all lie, as 0.95, with its interval by order statistics.

    It assumes nothing of how they are spread, so it has no ends where there are too few values: the
    95th percentile needs some 75, the 99th some 370 (David and Nagaraja 2003, 7.1).
    """
    from scipy.stats import binom

    ordered = sorted(values)
    count, value = len(ordered), float(np.quantile(ordered, share))
    low = int(binom.ppf((1 - CONFIDENCE) / 2, count, share))
    high = int(binom.ppf((1 + CONFIDENCE) / 2, count, share)) + 1
    if low < 1 or high > count:
        return Estimate(value, None, None)
    return Estimate(value, ordered[low - 1], ordered[high - 1])


def estimate_ratio(
    numerators: Sequence[float], denominators: Sequence[float], groups: Groups | None = None
) -> Estimate:
    """Sum over sum (as nats per token), with a percentile bootstrap interval over the documents.

    Fewer than 6 documents have no interval. Memory does not grow with the number of draws.
    """
    columns = np.stack(
        [np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)], axis=1
    )
    return estimate(columns, lambda sums: sums[..., 0] / sums[..., 1], groups)


def estimate_part(
    parts: Sequence[float], wholes: Sequence[int], groups: Groups | None = None
) -> Estimate:
    """The share that some counts are of others, as facts kept of facts given.

    What stands in one document, or one group, is alike: the interval is the exact one of as many
    items as say as much as these do, by how far the documents differ (Korn and Graubard 1998,
    Survey Methodology 24:193). How far is told by leaving each out in turn: beside the share of all
    that of one large document never differs. A bootstrap is too narrow near 0 and 1: of one failure
    among 200 items it sees half of what the exact interval does. Where the share is the same in all
    documents they count as one item each. Fewer than 6 have no interval.
    """
    columns = np.stack([np.asarray(parts, float), np.asarray(wholes, float)], axis=1)
    units, (part, whole) = sum_by_group(columns, groups), columns.sum(axis=0)
    units = units[units[:, 1] > 0]
    value, count = float(part / whole), len(units)
    if count < FEWEST:
        return Estimate(value, None, None)
    without = (part - units[:, 0]) / (whole - units[:, 1])
    error = (count - 1) / count * ((without - value) ** 2).sum()
    alone = value * (1 - value) / max(whole - 1, 1)
    size = float(count)
    if alone > 0 and error > 1e-12 * alone:
        far = stdtrit(whole - 1, (1 + CONFIDENCE) / 2) / stdtrit(count - 1, (1 + CONFIDENCE) / 2)
        size = min(float(whole), float(whole * alone / error * far**2))
    hits, tail = value * size, (1 - CONFIDENCE) / 2
    low = float(betaincinv(hits, size - hits + 1, tail)) if value > 0 else 0.0
    high = float(betaincinv(hits + 1, size - hits, 1 - tail)) if value < 1 else 1.0
    return Estimate(value, low, high)


def exponential(nats: float) -> float:
    """E to some nats; infinity where no float holds it, as of a broken model."""
    return math.exp(nats) if nats < LARGEST_EXPONENT else math.inf


def perplexity_of(loss: Estimate) -> Estimate:
    """The perplexity of a mean loss, and its interval."""
    low, high = (None if end is None else exponential(end) for end in (loss.low, loss.high))
    return Estimate(exponential(loss.value), low, high)


def without_certainty(estimate: Estimate) -> Estimate:
    """The estimate; without its interval where a bootstrap saw no spread: that is no certainty."""
    low, high = estimate.low, estimate.high
    if low is None or high is None or high - low > 1e-12 * max(abs(low), abs(high)):
        return estimate
    return Estimate(estimate.value, None, None)


def estimate_macro_f1(
    targets: Sequence[str], answers: Sequence[str], groups: Groups | None = None
) -> Estimate:
    """The unweighted mean of the F1 of all labels that occur as target, with its interval.

    A label that is not drawn is out.
    """
    labels = sorted(set(targets))
    wanted = np.array([[target == label for label in labels] for target in targets], float)
    given = np.array([[answer == label for label in labels] for answer in answers], float)
    columns = np.concatenate([wanted * given, wanted, given], axis=1)

    def mean_f1(sums: Numbers) -> Numbers:
        hits, asked, said = np.split(sums, 3, axis=-1)
        f1 = 2 * hits / np.maximum(asked + said, 1)
        mean: Numbers = (f1 * (asked > 0)).sum(axis=-1) / (asked > 0).sum(axis=-1)
        return mean

    return estimate(columns, mean_f1, groups, is_counted=True)


def estimate(
    columns: Numbers,
    statistic: Callable[[Numbers], Numbers],
    groups: Groups | None = None,
    *,
    is_counted: bool = False,
) -> Estimate:
    """A statistic of the columns' sums over all items, with its percentile bootstrap interval.

    `columns` has a row an item; `statistic` takes sums with the columns last. Fewer than 6
    documents, or groups, have no interval; nor do labels or ratings (`is_counted`) in which a
    bootstrap sees no spread: that would be taken for certainty.
    """
    value = float(statistic(columns.sum(axis=0)))
    units = sum_by_group(columns, groups)
    if len(units) < FEWEST:
        return Estimate(value, None, None)
    low, high = _percentiles(np.asarray(statistic(drawn_sums(units))), len(units))
    if is_counted and low is not None and high is not None and high - low < 1e-12:
        return Estimate(value, None, None)
    return Estimate(value, low, high)


def _percentiles(drawn: Numbers, units: int) -> tuple[float, float] | tuple[None, None]:
    """The ends of an interval, or none.

    The percentiles are those that make up for how narrow a bootstrap of few values is: as much
    further out as Student's t is than the normal distribution (Hesterberg 2015, The American
    Statistician 69:371). A draw of which the statistic is not defined may be anything.
    """
    tail, unknown = tail_of(units), np.isnan(drawn)
    with np.errstate(invalid="ignore"):
        low = float(np.quantile(np.where(unknown, -np.inf, drawn), tail))
        high = float(np.quantile(np.where(unknown, np.inf, drawn), 1 - tail))
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)


def tail_of(units: int) -> float:
    """The share of draws that lies beyond each end of an interval over so many values."""
    far = math.sqrt(units / (units - 1)) * stdtrit(units - 1, (1 + CONFIDENCE) / 2)
    return float(ndtr(-far))


def drawn_sums(columns: Numbers) -> Numbers:
    """The sums of the columns over as many rows drawn anew, a row a draw."""
    # scipy.stats.bootstrap draws the same numbers in twice the time and 1.5 times the memory, and
    # of a value that is no number it warns in words about another method (BCa)
    generator, sums = np.random.default_rng(0), []
    rows = max(DRAWN_AT_ONCE // len(columns), 1)
    for begin in range(0, DRAWS, rows):
        size = (min(rows, DRAWS - begin), len(columns))
        draws = generator.integers(0, len(columns), size=size)
        sums.append(np.stack([column[draws].sum(axis=1) for column in columns.T], axis=1))
    return np.concatenate(sums)


def sum_by_group(columns: Numbers, groups: Groups | None) -> Numbers:
    """The columns with a row for each group, in the order of their names; else as they are."""
    if not repeats(groups):
        return columns
    names, at = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, at, columns)
    return sums


def repeats(groups: Groups | None) -> bool:
    """Whether some group has several items, which then are not independent."""
    return groups is not None and len(set(groups)) < len(groups)


def count_units(items: int, groups: Groups | None) -> int:
    """How many independent units there are: groups, or items."""
    return items if groups is None else len(set(groups))


def majority_share(targets: Sequence[str]) -> float:
    """The accuracy of always answering the most frequent label."""
    return max(Counter(targets).values()) / len(targets)
