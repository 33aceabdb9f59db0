"""Chat templates from elsewhere, rendered within bounds: they are programs.

Jinja's sandbox keeps them from the machine, but not from endless loops and gigabytes of text.
"""

import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from medllm.errors import ArtifactError, DataError

MOST_SECONDS = 10.0
"""Of one rendering; that of a long conversation takes a hundredth of a second."""
MOST_BYTES = 2**30
"""What a rendering may add to the memory of the process."""
BROKEN = (ArithmeticError, AttributeError, LookupError, MemoryError, OverflowError, RecursionError,
          TypeError, ValueError)  # fmt: skip
"""What the Python code that a template becomes raises by itself."""


class EndlessTemplate(Exception):
    """A rendering that took longer than `MOST_SECONDS`."""


@contextmanager
def bounded_rendering() -> Iterator[None]:
    """Meanwhile a chat template may take so much time and memory, and its errors are ours.

    Raises:
        DataError: the template refuses the messages, in its own words.
        ArtifactError: it is broken, does not end, or takes too much memory.
    """
    from jinja2 import TemplateError

    try:
        with _little_memory(), _little_time():
            yield
    except TemplateError as problem:
        if type(problem) is TemplateError:  # what `raise_exception` in a template raises
            raise refused(problem) from problem
        raise _broken(problem) from problem
    except EndlessTemplate as problem:
        raise _broken(f"it does not end within {MOST_SECONDS:.0f} s") from problem
    except BROKEN as problem:
        raise _broken(problem) from problem


def refused(problem: Exception) -> DataError:
    """The error of a chat template that does not take a conversation, in its own words."""
    fix = "leave out the system message, or let user and assistant take turns"
    return DataError(f"the chat template refuses the messages: {problem}", fix)


def _broken(problem: Exception | str) -> ArtifactError:
    said = str(problem) or ("it takes too much memory" if isinstance(problem, MemoryError) else "")
    kind = "" if isinstance(problem, str) else f"{type(problem).__name__}: "
    fix = "get chat_template.jinja, or tokenizer_config.json, again from the model's source"
    return ArtifactError(f"the chat template is broken: {kind}{said:.200}", fix)


@contextmanager
def _little_time() -> Iterator[None]:
    """Meanwhile the clock runs: an alarm in the main thread, and in others a look at each line.

    An alarm ends an endless power of numbers, too; in another thread none arrives.
    """
    if not _is_main_thread():
        with _looking_at_the_clock():
            yield
        return

    def end(*_: object) -> None:
        raise EndlessTemplate

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _looking_at_the_clock() -> Iterator[None]:
    """Meanwhile each line that a template runs looks at the clock; other code is not slowed."""
    deadline, before = time.monotonic() + MOST_SECONDS, sys.gettrace()

    def look(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != "<template>":
            return None
        if time.monotonic() > deadline:
            raise EndlessTemplate
        return look

    sys.settrace(look)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def _little_memory() -> Iterator[None]:
    """Meanwhile the process may grow by `MOST_BYTES`; in the main thread, on Linux alone.

    In a server, other threads may need memory while one of them renders.
    """
    status = Path("/proc/self/statm")
    if not _is_main_thread() or not status.is_file():
        yield
        return
    size = int(status.read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = size + MOST_BYTES
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
