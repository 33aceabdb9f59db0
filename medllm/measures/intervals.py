"""Proportions, label metrics and means, each with what is known of its uncertainty."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
DRAWS = 2000
DRAWN_AT_ONCE = 2**20
"""Documents of the draws that are in memory at a time: 8 MiB of numbers an array."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; without ends where one document says nothing of others."""

    value: float
    low: float | None
    high: float | None


def estimate_proportion(successes: int, total: int) -> Estimate:
    """A proportion with its exact (Clopper-Pearson) interval."""
    from scipy.stats import binomtest

    interval = binomtest(successes, total).proportion_ci(CONFIDENCE, method="exact")
    return Estimate(successes / total, float(interval.low), float(interval.high))


def estimate_ratio(numerators: Sequence[float], denominators: Sequence[int]) -> Estimate:
    """Sum over sum (as nats per token), with a percentile bootstrap interval over the documents.

    A single document has no interval. Memory does not grow with the number of draws.
    """
    import numpy

    top, bottom = numpy.asarray(numerators, dtype=float), numpy.asarray(denominators, dtype=float)
    value = float(top.sum() / bottom.sum())
    if len(top) < 2:
        return Estimate(value, None, None)
    # scipy.stats.bootstrap draws the same numbers in twice the time and 1.5 times the memory, and
    # of a value that is no number it warns in words about another method (BCa)
    generator, ratios = numpy.random.default_rng(0), []
    rows = max(DRAWN_AT_ONCE // len(top), 1)
    for begin in range(0, DRAWS, rows):
        size = (min(rows, DRAWS - begin), len(top))
        draws = generator.integers(0, len(top), size=size)
        ratios.append(top[draws].sum(axis=1) / bottom[draws].sum(axis=1))
    ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = numpy.quantile(numpy.concatenate(ratios), ends)
    return Estimate(value, float(low), float(high))


def macro_f1(targets: Sequence[str], answers: Sequence[str]) -> float:
    """The unweighted mean of the labels' F1, over the labels that occur as target."""
    hits = Counter(
        target for target, answer in zip(targets, answers, strict=True) if target == answer
    )
    wanted, given = Counter(targets), Counter(answers)
    return sum(2 * hits[label] / (wanted[label] + given[label]) for label in wanted) / len(wanted)


def majority_share(targets: Sequence[str]) -> float:
    """The accuracy of always answering the most frequent label."""
    return max(Counter(targets).values()) / len(targets)
