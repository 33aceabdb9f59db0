"""Keyed digests: whether two prompts, or two patients, are the same, and nothing else of them.

Without the key nobody can try texts until one fits. The key of this machine lies in the user's
settings; open data have a key that all share, so that anybody can compare.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from medllm import console
from medllm.artifacts.manifest import DataTerm, strictest
from medllm.artifacts.own_key import own_key, own_key_path
from medllm.data.example import Example
from medllm.data.groups import LONGEST
from medllm.evaluate.kinds.base import Record

SHARED_KEY = b"medllm: open data"
CHARACTERS = 16
"""Of a digest, 64 bits: ten million prompts share none with a chance of 999,997 in a million."""


@dataclass(frozen=True)
class Keyed:
    """Digests with one key."""

    key: bytes

    @classmethod
    def of(cls, terms: Sequence[DataTerm]) -> Self:
        """With the key that fits the terms of the data; those without terms are private."""
        return cls(SHARED_KEY if strictest(terms) == "open" else _own_key())

    @classmethod
    def named(cls, name: str) -> Self | None:
        """With the key of this name, where it is one of this machine."""
        known = (cls(SHARED_KEY), cls(_own_key()))
        return next((each for each in known if each.name == name), None)

    @property
    def name(self) -> str:
        """Which key it is; it does not give it away."""
        return hashlib.sha256(self.key).hexdigest()[:8]

    def prompt(self, text: str, answers: Sequence[str]) -> str:
        """What is asked, and what may be answered."""
        return self._digest(json.dumps([text, *answers]))

    def group(self, item: Example) -> str:
        """The patient, or whatever else an item shares with others."""
        return self._digest(item.group_key)

    def _digest(self, text: str) -> str:
        found = hmac.new(self.key, text.encode("utf-8", "replace"), "sha256")
        return found.hexdigest()[:CHARACTERS]


def _own_key() -> bytes:
    """The key of this user on this machine; where none can be kept, one of this run alone."""
    try:
        return own_key()
    except OSError as problem:
        console.notice(
            f"evaluate: {own_key_path()} cannot be kept ({problem.strerror}), so the prompts of "
            "this run cannot be compared with those of another; MEDLLM_CONFIG_DIR names another "
            "folder"
        )
        return secrets.token_bytes(32)


def described(
    records: Iterable[Record], items: Sequence[Example], asked: Sequence[Example], keyed: Keyed
) -> Iterator[Record]:
    """The records with what they are compared and grouped by; `asked` is how the items were put."""
    for record, item, put in zip(records, items, asked, strict=True):
        text = "\n".join(message.content for message in put.prompt)
        known = {
            "prompt": keyed.prompt(text, put.choices or (put.completion,)),
            "group": keyed.group(item),
            "metadata": facts_of(item),
        }
        if "answer" in record and "target" in record:
            known["correct"] = record["answer"] == record["target"]
        yield {**record, **known}


def facts_of(item: Example) -> dict[str, Any]:
    """Its metadata without texts."""
    return {
        key: value
        for key, value in item.metadata.items()
        if isinstance(value, int | float) or (isinstance(value, str) and len(value) <= LONGEST)
    }
