"""Secrets do not belong in a recipe: it is kept beside what it makes, and goes where that goes."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

NAMES = re.compile(
    r"(?i)(.*_)?(api_?key|key|token|password|passwd|passphrase|secret|credentials?|authorization)"
)
PLAIN = re.compile(r"(eos|bos|pad|unk|sep|cls|mask|image)_token")
"""Options of trl and of tokenizers, which name a token of a text."""
VALUES = re.compile(
    r"hf_\w{16,}|sk-[\w-]{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|Bearer\s+\S{8,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|\w+://[^/@\s]+@"
)
"""What tokens of well-known services look like, and passwords in a URL."""
PUSHES = ("push_to_hub", "hub_always_push")


def find_secret(options: Mapping[str, Any]) -> str | None:
    """Where a mapping holds a secret, by its key or its looks; None where it holds none."""
    return next((place for place, value in _leaves(options, "") if _is_secret(place, value)), None)


def find_push(options: Mapping[str, Any]) -> str | None:
    """The option that would send what is trained to the hub."""
    return next((name for name in PUSHES if options.get(name)), None)


def _is_secret(place: str, value: Any) -> bool:
    name = place.rpartition(".")[2].replace("-", "_")
    named = NAMES.fullmatch(name) and not PLAIN.fullmatch(name)
    return bool(value) and (bool(named) or bool(VALUES.search(str(value))))


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Each single value with the keys that lead to it."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(each, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each, place)
    else:
        yield place, value
