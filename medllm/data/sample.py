"""Sampling by ids and seed, never by the order of rows, in memory that follows the sample."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction

from medllm.data.example import Example
from medllm.data.split import rank


def largest_remainder(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers that sum to `total`, by share: {60, 30, 10} of 512 are {307, 154, 51}."""
    whole = sum(Fraction(str(share)) for share in shares.values())
    exact = {name: Fraction(str(share)) * total / whole for name, share in shares.items()}
    quotas = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (quotas[name] - exact[name], name))
    for name in by_remainder[: total - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def take_lowest(examples: Iterable[Example], count: int, seed: int) -> list[Example]:
    """The `count` examples whose ids rank lowest, in that order; never holds more than `count`."""
    lowest: list[tuple[float, int, Example]] = []
    for number, example in enumerate(examples):
        key = (-rank(example.id, seed), -number)
        if len(lowest) < count:
            heapq.heappush(lowest, (*key, example))
        elif key > lowest[0][:2]:
            heapq.heapreplace(lowest, (*key, example))
    return [example for _, _, example in sorted(lowest, key=lambda item: (-item[0], -item[1]))]


def take_accepted(
    stream: Callable[[], Iterator[Example]],
    accept: Callable[[list[Example]], list[bool]],
    count: int,
    seed: int,
) -> list[Example]:
    """The first `count` examples in rank order that `accept` lets through.

    `accept` tests a batch, for example by length. Only a pool of low ranks is held and tested; when
    it does not suffice, the stream is read again for a larger one. An id that comes twice is taken
    once. Fewer than `count` come back where the stream has no more.
    """
    pool_size = 2 * count + 64
    while True:
        lowest = take_lowest(stream(), pool_size, seed)
        pool = list({example.id: example for example in lowest}.values())
        accepted: list[Example] = []
        for start in range(0, len(pool), 256):
            batch = pool[start : start + 256]
            accepted += [
                example for example, good in zip(batch, accept(batch), strict=True) if good
            ]
            if len(accepted) >= count:
                return accepted[:count]
        if len(lowest) < pool_size:
            return accepted
        pool_size *= 4
