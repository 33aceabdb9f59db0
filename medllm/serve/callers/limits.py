"""What a caller has used of its limits."""

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

from medllm.serve.callers import keys
from medllm.serve.callers.keys import Caller
from medllm.serve.wire import ApiError

MINUTE = 60.0


@dataclass(slots=True)
class _Used:
    """What one caller has used."""

    begun: deque[float] = field(default_factory=deque)
    """When the requests of the last minute began."""
    running: int = 0
    day: date = date.min
    tokens: int = 0
    """Of prompts and answers, on that day."""


class Limits:
    """Counts what callers use, in this server and since it started."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used: defaultdict[str, _Used] = defaultdict(_Used)

    @contextmanager
    def asking(self, caller: Caller) -> Iterator[None]:
        """One request of a caller, while it is answered.

        Raises:
            ApiError: it is one too many; says when the next one may come.
        """
        used = self.check(caller)
        used.begun.append(self._clock())
        used.running += 1
        try:
            yield
        finally:
            used.running -= 1

    def check(self, caller: Caller, answers: int = 1, param: str | None = None) -> _Used:
        """What a caller has used, where it may ask now; raises ApiError where it may not."""
        used, now = self._used[caller.name], self._clock()
        while used.begun and used.begun[0] <= now - MINUTE:
            used.begun.popleft()
        if used.day != keys.today():
            used.day, used.tokens = keys.today(), 0
        self._check(caller, used, now, answers, param)
        return used

    def count_tokens(self, caller: str, tokens: int) -> None:
        """Add tokens of a prompt or an answer to what the caller of this name has used."""
        self._used[caller].tokens += tokens

    @staticmethod
    def _check(caller: Caller, used: _Used, now: float, answers: int, param: str | None) -> None:
        per_minute, at_once = caller.requests_per_minute, caller.concurrent
        if at_once is not None and used.running >= at_once:
            raise _too_many(f"{at_once} at once", 1)
        if per_minute is not None and answers > max(per_minute, 1):  # no waiting would help
            message = f"this key may ask {per_minute} a minute, and {answers} answers are wanted"
            raise ApiError(400, message, param=param)
        if per_minute is not None and len(used.begun) + answers > per_minute:
            wait = used.begun[0] + MINUTE - now if used.begun else MINUTE
            raise _too_many(f"{per_minute} a minute", wait)
        if caller.tokens_per_day is not None and used.tokens >= caller.tokens_per_day:
            raise _too_many(f"{caller.tokens_per_day:,} tokens a day (UTC)", 3600)


def _too_many(limit: str, wait_s: float) -> ApiError:
    headers = {"Retry-After": str(max(math.ceil(wait_s), 1))}
    return ApiError(429, f"this key may ask {limit}", "rate_limit_exceeded", headers=headers)
