"""How far numbers of the same things agree: ratings by people, preferences, ranks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np

from medllm.measures.intervals import (
    CONFIDENCE,
    Estimate,
    Groups,
    Numbers,
    estimate,
    estimate_part,
    estimate_proportion,
    estimate_share,
)

FEWEST_RANKED = 10
"""Of fewer items a correlation may be almost any by chance: it has no interval."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far people agree on the same things."""

    items: int
    """Things that at least two of them rated."""
    raters: int
    alike: Estimate
    """The share of equal ratings, of all pairs of people on the same thing."""
    kappa: Estimate | None
    """Agreement beyond chance, 1 at most; None where all ratings are one category, which leaves
    nothing to agree on beyond chance."""
    statistic: str
    """Which kappa."""


@dataclass(frozen=True, slots=True)
class Preference:
    """How often one of two is preferred to the other, and whether chance explains it."""

    first: int
    second: int
    even: int
    """Items on which neither is."""
    share: Estimate | None
    """Of the items that are decided, how many the first one has; exact."""
    p: float
    """Two-sided, of the exact sign test."""


def measure_agreement(
    ratings: Sequence[Sequence[int | None]],
    categories: int,
    *,
    ordered: bool,
    groups: Groups | None = None,
) -> Agreement | None:
    """Cohen's kappa of two people, Fleiss' of more; None where no two rated the same thing.

    `ratings` has a row a thing and a column a person: a category from 0, or None. Where categories
    are `ordered`, near ones half agree: weights fall by the square of the distance (Cohen 1968).
    The intervals are bootstrapped over the groups, or things.
    """
    rated = [[each for each in row if each is not None] for row in ratings]
    kept = [at for at, row in enumerate(rated) if len(row) > 1]
    if not kept:
        return None
    own = [groups[at] for at in kept] if groups is not None else None
    people = len(ratings[0])
    weights = _weights(categories, ordered=ordered)
    name = "Cohen's" if people == 2 else "Fleiss'"
    kappa = (
        _cohen([rated[at] for at in kept], weights, own)
        if people == 2
        else _fleiss([rated[at] for at in kept], weights, own)
    )
    return Agreement(
        items=len(kept),
        raters=people,
        alike=_alike([rated[at] for at in kept], own),
        kappa=None if np.isnan(kappa.value) else kappa,
        statistic=f"{name} kappa" + (", quadratic weights" if ordered else ""),
    )


def _weights(categories: int, *, ordered: bool) -> Numbers:
    """How far two categories agree: 1 for the same."""
    if not ordered or categories < 2:
        return np.eye(categories)
    at = np.arange(categories)
    near: Numbers = 1 - ((at[:, None] - at) / (categories - 1)) ** 2
    return near


def _alike(rated: Sequence[Sequence[int]], groups: Groups | None) -> Estimate:
    found = [[one == other for one, other in combinations(row, 2)] for row in rated]
    agreed, pairs = [float(sum(row)) for row in found], [len(row) for row in found]
    if {*pairs} == {1}:
        return estimate_share([*map(bool, agreed)], groups)
    return estimate_part(agreed, pairs, groups)


def _cohen(rated: Sequence[Sequence[int]], weights: Numbers, groups: Groups | None) -> Estimate:
    """Two people, each with a leaning of their own (Cohen 1960)."""
    size = len(weights)
    columns = np.zeros((len(rated), size * size))
    for row, (one, other) in enumerate(rated):
        columns[row, one * size + other] = 1

    def kappa(sums: Numbers) -> Numbers:
        table = sums.reshape(*sums.shape[:-1], size, size)
        table = table / table.sum(axis=(-2, -1), keepdims=True)
        seen = (table * weights).sum(axis=(-2, -1))
        chance = np.einsum("...i,...j,ij->...", table.sum(axis=-1), table.sum(axis=-2), weights)
        return _beyond(seen, chance)

    return estimate(columns, kappa, groups, is_counted=True)


def _fleiss(rated: Sequence[Sequence[int]], weights: Numbers, groups: Groups | None) -> Estimate:
    """More people, whose leanings are taken as one (Fleiss 1971); not all need to rate all."""
    size = len(weights)
    counts = np.array([np.bincount(row, minlength=size) for row in rated], float)
    number = counts.sum(axis=1)
    agreed = np.einsum("ni,nj,ij->n", counts, counts, weights) - number
    agreed /= number * (number - 1)
    columns = np.column_stack([agreed, np.ones(len(rated)), counts / number[:, None]])

    def kappa(sums: Numbers) -> Numbers:
        shares = sums[..., 2:] / sums[..., 1:2]
        chance = np.einsum("...i,...j,ij->...", shares, shares, weights)
        return _beyond(sums[..., 0] / sums[..., 1], chance)

    return estimate(columns, kappa, groups, is_counted=True)


def _beyond(seen: Numbers, chance: Numbers) -> Numbers:
    """Agreement beyond chance; no number where chance alone agrees on everything."""
    room = 1 - chance
    found: Numbers = np.where(room > 1e-12, (seen - chance) / np.where(room > 1e-12, room, 1),
                              np.nan)  # fmt: skip
    return found


def measure_preference(first: int, second: int, even: int) -> Preference:
    """The exact sign test of how many items each of two is preferred on; ties say nothing."""
    from scipy.stats import binomtest

    decided = first + second
    if not decided:
        return Preference(first, second, even, None, 1.0)
    p = float(binomtest(first, decided).pvalue)
    return Preference(first, second, even, estimate_proportion(first, decided), p)


def estimate_correlation(
    one: Sequence[float], other: Sequence[float], units: int | None = None
) -> Estimate | None:
    """Spearman's correlation of ranks with its 95 % interval; None where one side never changes.

    The interval is that of Bonett and Wright 2000 (Psychometrika 65:23), which of ranks that are
    all the same would be a point. Of items in groups `units` is the number of groups: items of one
    patient are not counted as many.
    """
    from scipy.stats import spearmanr

    if len({*one}) < 2 or len({*other}) < 2:
        return None
    value, count = float(spearmanr(one, other).statistic), units or len(one)
    if count < FEWEST_RANKED or abs(value) > 1 - 1e-12:
        return Estimate(value, None, None)
    error = math.sqrt((1 + value * value / 2) / (count - 3))
    far = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * error
    return Estimate(value, *(math.tanh(math.atanh(value) + side * far) for side in (-1, 1)))
