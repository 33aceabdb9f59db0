"""How far numbers of late are spread differently from those at the beginning."""

import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Sequence

WINDOW = 500
"""Values on each side: by chance alone, ten bins then differ by 0.04."""
MARKED = 0.25
"""An index above this is a marked change, one below 0.1 none (N. Siddiqi, Credit Risk Scorecards,
2006). It is a rule of thumb and no test."""


class Drift:
    """The population stability index of the last values against the first ones."""

    def __init__(self, bounds: Sequence[float], window: int = WINDOW) -> None:
        """`bounds` part the values into bins; each belongs to the bin above it."""
        self._bounds, self._window = bounds, window
        self._first = Counter[int]()
        self._last: deque[int] = deque()
        self._late = Counter[int]()

    def add(self, value: float) -> None:
        """Take in the next value."""
        bin_ = bisect_right(self._bounds, value)
        if self._first.total() < self._window:
            self._first[bin_] += 1
            return
        self._last.append(bin_)
        self._late[bin_] += 1
        if len(self._last) > self._window:
            self._late[self._last.popleft()] -= 1

    def index(self) -> float:
        """The sum of (late - first) · ln(late / first) over shares; NaN before there are enough.

        Half a value is added to each bin, so that an empty one gives no infinity.
        """
        if len(self._last) < self._window:
            return math.nan
        bins = range(len(self._bounds) + 1)
        whole = self._window + len(bins) / 2
        pairs = [((self._late[n] + 0.5) / whole, (self._first[n] + 0.5) / whole) for n in bins]
        return sum((late - first) * math.log(late / first) for late, first in pairs)
