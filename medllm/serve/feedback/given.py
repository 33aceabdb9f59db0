"""The answers that a server gave lately, by what tells texts apart: it keeps none of their text."""

import hashlib
import json
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from medllm.data.example import Message

MOST = 10_000
"""Answers that are remembered; of a busy server's day."""


@dataclass(slots=True)
class Given:
    """An answer, or several to one request."""

    caller: str
    question: str
    """Digest of the conversation before it."""
    answers: set[str]
    """Digests of its choices, as they went out."""
    is_clean: bool
    """Whether each was reviewed, and nothing found but notes."""


class GivenAnswers:
    """Answers by their id, so that feedback is tied to what was really said, and to whom."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)  # digests are of use to this process only
        self._given: OrderedDict[str, Given] = OrderedDict()

    def digest(self, turns: Sequence[Message]) -> str:
        """What tells a conversation apart."""
        text = json.dumps([[turn.role, turn.content] for turn in turns])
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=16).hexdigest()

    def digest_answer(self, text: str) -> str:
        """What tells an answer apart."""
        return self.digest((Message("assistant", text),))

    def add(self, id: str, caller: str, question: str, text: str, *, is_clean: bool) -> None:
        """Remember an answer; the oldest one is forgotten for it where there are many."""
        given = self._given.setdefault(id, Given(caller, question, set(), is_clean))
        given.answers.add(self.digest_answer(text))
        given.is_clean &= is_clean
        while len(self._given) > MOST:
            self._given.popitem(last=False)

    def find(self, id: str, caller: str) -> Given | None:
        """The answer of this id, if it was this caller's."""
        given = self._given.get(id)
        return given if given and given.caller == caller else None
