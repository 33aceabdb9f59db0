"""Regular expressions of the user's, searched for within a time limit.

The `regex` package reads what Python's own reads, and can stop: a pattern such as `^(a+)+$` takes
longer than anybody waits on some texts.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import regex

from medllm.errors import ConfigError

SECONDS = 2.0
"""For one pattern on one text; milliseconds are usual."""


def check_pattern(pattern: str) -> str:
    """Raise ValueError for what is no regular expression."""
    try:
        regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError) as problem:
        raise ValueError(f"not a regular expression: {problem}") from None
    return pattern


@lru_cache(maxsize=64)
def finder(pattern: str) -> Callable[[str], Any]:
    """Searches a text for the first match of a pattern.

    Raises:
        ConfigError: when called, where the search takes too long.
    """
    search = regex.compile(pattern).search

    def find(text: str) -> Any:
        try:
            return search(text, timeout=SECONDS)
        except TimeoutError:
            raise ConfigError(
                f"the pattern '{pattern:.80}' takes more than {SECONDS:.0f} seconds on one text",
                "rewrite it without a repetition within a repetition, as in (a+)+",
            ) from None

    return find
