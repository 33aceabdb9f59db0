"""Two models on the same items: what changed, whether chance explains it, what could be seen.

Everything is of the second model less the first. Items of one patient are alike: where groups are
known, they are what is drawn and tested.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medllm.measures.intervals import (
    CONFIDENCE,
    DRAWN_AT_ONCE,
    FEWEST,
    Estimate,
    Groups,
    Numbers,
    count_units,
    drawn_sums,
    estimate,
    estimate_proportion,
    estimate_ratio,
    repeats,
    sum_by_group,
    without_certainty,
)

ALPHA = round(1 - CONFIDENCE, 9)
POWER = 0.8
"""How surely a difference of the smallest detectable size is found; what trials are planned for."""
FEW_FLIPS = 10
"""Below so many units that changed a bootstrap is not trusted, and the score interval is given."""
FLIPS = 9_999
"""Random sign changes of a permutation test."""

Verdict = Literal["non-inferior", "inferior", "not decided"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The second model less the first, on the same items."""

    items: int
    units: int
    """Groups that the items fall into; of no groups, items."""
    before: float
    after: float
    difference: Estimate
    p: float
    """Two-sided, of no difference at all."""
    test: str
    interval: str
    """How the interval was made."""
    differing: Estimate
    """The share of units in which the models differ, with its exact interval: where none differs,
    its upper end is how many may."""
    detectable: float | None
    """The smallest true difference that these items find with 80 % power at 5 %; None where none
    can be told, as when no item changed."""
    gained: int | None = None
    """Items that only the second model has right."""
    lost: int | None = None
    """Items that only the first model has right."""


def compare_right(
    before: Sequence[bool], after: Sequence[bool], groups: Groups | None = None
) -> Comparison:
    """Which items two models have right: exact McNemar test, or its like by whole groups."""
    pairs = list(zip(before, after, strict=True))
    gained = sum(new and not old for old, new in pairs)
    lost = sum(old and not new for old, new in pairs)
    changes = [float(new) - float(old) for old, new in pairs]
    weights, grouped = [1] * len(pairs), repeats(groups)
    nets = _net_changes(changes, groups)
    difference, interval = without_certainty(estimate_ratio(changes, weights, groups)), "bootstrap"
    if sum(map(bool, nets)) < FEW_FLIPS or difference.low is None:
        difference, interval = _score_interval(changes, nets), "score (Tango 1998)"
    detectable = _detectable_by_spread if grouped else _detectable_by_flips
    return Comparison(
        items=len(pairs),
        units=len(nets),
        before=sum(before) / len(pairs),
        after=sum(after) / len(pairs),
        difference=difference,
        p=_flip_groups(nets) if grouped else mcnemar(gained, lost),
        test="sign changes of whole groups" if grouped else "exact McNemar",
        interval=f"{interval} over groups" if grouped else interval,
        differing=_differing(np.asarray(changes)[:, None], groups),
        detectable=detectable(changes, weights, groups),
        gained=gained,
        lost=lost,
    )


def compare_means(
    before: Sequence[float],
    after: Sequence[float],
    weights: Sequence[int],
    groups: Groups | None = None,
) -> Comparison:
    """Sums of the items over their weights, as nats a token: bootstrap and a permutation test.

    Where fewer than 6 units differ the difference has no interval: how large it is where models
    differ is then not known, and a bootstrap would see none. Nor has one that is alike everywhere.
    """
    changes = [new - old for old, new in zip(before, after, strict=True)]
    total, grouped = sum(weights), repeats(groups)
    differing = _differing(np.asarray(changes, float)[:, None], groups)
    units = count_units(len(changes), groups)
    return Comparison(
        items=len(changes),
        units=units,
        before=sum(before) / total,
        after=sum(after) / total,
        difference=_as_far_as_seen(estimate_ratio(changes, weights, groups), differing, units),
        p=_flip_signs(_net_changes(changes, groups)),
        test="sign changes of whole groups" if grouped else "sign changes",
        interval="bootstrap over groups" if grouped else "bootstrap",
        differing=differing,
        detectable=_detectable_by_spread(changes, weights, groups),
    )


def compare_ratios(
    before: Sequence[tuple[float, float]],
    after: Sequence[tuple[float, float]],
    groups: Groups | None = None,
) -> Comparison:
    """Sums over sums that both hang on the model, as micro-F1: of each item a part and a whole.

    The interval is a paired bootstrap of the items, or of their groups; there is none where fewer
    than 6 of them differ. p is of items that the models exchange at random (approximate
    randomization; Yeh 2000, COLING).

    Raises:
        ZeroDivisionError: the wholes of a model add up to nothing.
    """
    columns = np.hstack([np.asarray(before, float), np.asarray(after, float)])
    units, grouped = sum_by_group(columns, groups), repeats(groups)
    differing = _differing(columns[:, 2:] - columns[:, :2], groups)
    change = estimate(columns, _change_of_ratio, groups, is_counted=True)
    old_part, old_whole, new_part, new_whole = (float(each) for each in columns.sum(axis=0))
    return Comparison(
        items=len(columns),
        units=len(units),
        before=old_part / old_whole,
        after=new_part / new_whole,
        difference=_as_far_as_seen(change, differing, len(units)),
        p=_exchange(units),
        test="whole groups exchanged" if grouped else "items exchanged",
        interval="bootstrap over groups" if grouped else "bootstrap",
        differing=differing,
        detectable=_seen_by(units, _change_of_ratio),
    )


def mcnemar(gained: int, lost: int) -> float:
    """The two-sided p of the exact McNemar test; 1 where no item changed."""
    from scipy.stats import binomtest

    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number (Holm 1979), in their order."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = highest
    return adjusted


def judge_margin(difference: Estimate, margin: float, *, higher_is_better: bool) -> Verdict:
    """Whether the second model is worse by less than a margin, by the bounds of the 95 % interval.

    Its lower bound is that of a one-sided test at 2.5 %, as regulators ask (ICH E9).
    """
    if difference.low is None or difference.high is None:
        return "not decided"
    low, high = difference.low, difference.high
    worst, best = (low, high) if higher_is_better else (-high, -low)
    if worst > -margin:
        return "non-inferior"
    return "inferior" if best < -margin else "not decided"


def _differing(changes: Numbers, groups: Groups | None) -> Estimate:
    """The share of units of which an item differs in any column."""
    differ = sum_by_group((changes != 0).any(axis=1)[:, None].astype(float), groups)
    return estimate_proportion(int((differ > 0).sum()), len(differ))


def _as_far_as_seen(difference: Estimate, differing: Estimate, units: int) -> Estimate:
    """The difference; without its interval where too few units differ to know how much they do."""
    if round(differing.value * units) < FEWEST:
        return Estimate(difference.value, None, None)
    return without_certainty(difference)


def _net_changes(changes: Sequence[float], groups: Groups | None) -> list[float]:
    """The change of each unit."""
    column = np.asarray(changes, float)[:, None]
    return [float(each) for each in sum_by_group(column, groups)[:, 0]]


def _flip_groups(nets: Sequence[float]) -> float:
    """The exact two-sided p of groups' net gains whose signs are chance; of items: McNemar's."""
    from scipy.stats import binom

    chances: Numbers = np.ones(1)  # of each sum, from the least on
    for size, count in Counter(int(abs(net)) for net in nets if net).items():
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, steps)
    sums = np.arange(len(chances)) - (len(chances) - 1) // 2
    return min(1.0, float(chances[abs(sums) >= abs(sum(nets))].sum()))


def _flip_signs(changes: Sequence[float]) -> float:
    """The two-sided p of changes whose signs are chance; exact for few, else of `FLIPS` draws.

    It is that of scipy.stats.permutation_test, whose draws take a minute for 20,000 changes.
    """
    moved = np.array([change for change in changes if change])
    if len(moved) < 2:
        return 1.0  # a single unit that changed says nothing: its sign is a coin
    is_exact = 2 ** len(moved) <= FLIPS
    sums = np.concatenate([moved @ signs for signs in _signs(len(moved), is_exact)])
    observed, drawn = moved.sum(), 0 if is_exact else 1
    near = 1e-12 * abs(moved).sum()  # sums that differ by how they were rounded are one
    tails = ((sums <= observed + near).sum(), (sums >= observed - near).sum())
    return min(1.0, 2 * float(min(tails) + drawn) / (len(sums) + drawn))


def _exchange(units: Numbers) -> float:
    """The two-sided p of two models' ratios where each unit may be the one's or the other's."""
    moved = units[:, 2:] - units[:, :2]
    moved = moved[moved.any(axis=1)].T
    both = (units[:, :2] + units[:, 2:]).sum(axis=0)[:, None]
    count = moved.shape[1]
    if count < 2:
        return 1.0
    is_exact = 2**count <= FLIPS

    def change(steps: Numbers) -> Numbers:
        return _change_of_ratio(np.concatenate([(both - steps) / 2, (both + steps) / 2]).T)

    drawn = np.abs(np.concatenate([change(moved @ signs) for signs in _signs(count, is_exact)]))
    observed = float(abs(change(moved.sum(axis=1, keepdims=True))[0]))
    as_far = (~(drawn < observed - 1e-12)).sum()  # a ratio over nothing may be anything
    own = 0 if is_exact else 1
    return float(as_far + own) / (len(drawn) + own)


def _change_of_ratio(sums: Numbers) -> Numbers:
    """The second ratio less the first, of part, whole, part and whole in the last axis."""
    parts, wholes = sums[..., 0::2], sums[..., 1::2]
    ratios = np.where(wholes > 0, parts / np.where(wholes > 0, wholes, 1), np.nan)
    change: Numbers = ratios[..., 1] - ratios[..., 0]
    return change


def _signs(count: int, is_exact: bool) -> Iterator[Numbers]:
    """All signs that `count` changes may have, or `FLIPS` draws: a column each, in parts."""
    if is_exact:
        yield 1.0 - 2.0 * (np.arange(2**count) >> np.arange(count)[:, None] & 1)
        return
    generator, columns = np.random.default_rng(0), max(DRAWN_AT_ONCE // count, 1)
    for begin in range(0, FLIPS, columns):
        size = count * min(columns, FLIPS - begin)
        bits = np.unpackbits(np.frombuffer(generator.bytes(-(-size // 8)), np.uint8), count=size)
        yield 1.0 - 2.0 * bits.reshape(count, -1)


def _score_interval(changes: Sequence[float], nets: Sequence[float]) -> Estimate:
    """Tango's interval over the units; of groups it is about which gained and which lost.

    There the value, which is over the items, is always inside.
    """
    value = sum(changes) / len(changes)
    if len(nets) < 2:
        return Estimate(value, None, None)
    gained, lost = sum(net > 0 for net in nets), sum(net < 0 for net in nets)
    low, high = tango(gained, lost, len(nets))
    return Estimate(value, min(low, value), max(high, value))


def tango(gained: int, lost: int, total: int) -> tuple[float, float]:
    """The 95 % score interval of a paired difference of proportions (Tango 1998, Stat Med 17:891).

    It holds where nothing changed, too.
    """
    from scipy.optimize import brentq

    z, value = _z(1 - ALPHA / 2), (gained - lost) / total

    def score(difference: float) -> float:
        b = -gained - lost + (2 * total - gained + lost) * difference
        c = -lost * difference * (1 - difference)
        share = (math.sqrt(max(b * b - 8 * total * c, 0)) - b) / (4 * total)
        spread = total * (2 * share + difference * (1 - difference))
        top = gained - lost - total * difference
        return top / math.sqrt(spread) if spread > 0 else math.copysign(1e9, top) * bool(top)

    edge = 1 - 1e-12
    low = -1.0 if value <= -edge else brentq(lambda d: score(d) - z, -edge, value)
    high = 1.0 if value >= edge else brentq(lambda d: score(d) + z, value, edge)
    return float(low), float(high)


def _detectable_by_flips(
    changes: Sequence[float], weights: Sequence[int], groups: Groups | None
) -> float | None:
    """By the share of items that changed (Connor 1987, Biometrics 43:207), solved for the size."""
    return detectable_difference(len(changes), sum(map(bool, changes)))


def detectable_difference(items: int, changed: int) -> float | None:
    """The smallest true difference that McNemar's test finds, where so many of the items change.

    None where no item changed, or where even if all changes had one sign it would not be found.
    """
    a, b = _z(1 - ALPHA / 2), _z(POWER)
    share = changed / items
    if changed == 0 or items <= a * a - b * b:
        return None
    root = a * math.sqrt(items) + b * math.sqrt(items - a * a + b * b)
    difference = math.sqrt(share) * root / (items + b * b)
    return difference if difference <= share else None


def _detectable_by_spread(
    changes: Sequence[float], weights: Sequence[int], groups: Groups | None
) -> float | None:
    """By the standard error of the difference, which the bootstrap gives."""
    columns = np.stack([np.asarray(changes, float), np.asarray(weights, float)], axis=1)
    return _seen_by(sum_by_group(columns, groups), lambda sums: sums[..., 0] / sums[..., 1])


def _seen_by(units: Numbers, statistic: Callable[[Numbers], Numbers]) -> float | None:
    """What is found with 80 % power, by the spread of a statistic over units drawn anew."""
    if len(units) < FEWEST:
        return None
    error = float(statistic(drawn_sums(units)).std())
    return None if math.isnan(error) else (_z(1 - ALPHA / 2) + _z(POWER)) * error or None


def _z(probability: float) -> float:
    """The quantile of the normal distribution."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)
