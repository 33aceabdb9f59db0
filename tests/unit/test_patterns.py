"""Regular expressions of the user's: they end."""

import re
import time

import pytest

from medllm.data import patterns
from medllm.data.patterns import check_pattern, finder
from medllm.errors import ConfigError


@pytest.mark.parametrize("pattern", ["^(a+)+$", r"^(\w+\s?)*$", "(a|aa)+$", "^(([a-z])+.)+[A-Z]$"])
def test_a_search_that_would_not_end_is_stopped(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.2)
    start = time.monotonic()

    try:
        found = finder(pattern)("a" * 5000 + "!")
    except ConfigError as problem:
        assert "takes more than" in problem.message
    else:
        assert found is None
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^\d+", "10000032-DS-21"),
        (r"(?<=/p)\d+(?=/s\d+\.txt$)", "files/p10/p10000032/s50414267.txt"),
        (r"(?ms)^\s*FINDINGS?:(.*?)(?=^\s*[A-Z][A-Z /()]+:|\Z)", "FINDINGS: clear.\nPLAN: no."),
        (r"(?i)ward", "WARD 7"),
    ],
)  # fmt: skip
def test_a_pattern_finds_what_pythons_own_does(pattern: str, text: str) -> None:
    ours, own = finder(pattern)(text), re.search(pattern, text)

    assert own
    assert (ours.span(), ours.groups()) == (own.span(), own.groups())


@pytest.mark.parametrize("pattern", ["((", "[a", "(?P<a", "*"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        check_pattern(pattern)
