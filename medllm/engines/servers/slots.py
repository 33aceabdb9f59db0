"""The places of llama-server's cache: which one the next prompt gets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from os.path import commonprefix

FAMILIAR = 0.5
"""The share of what a slot holds that a prompt must begin with to go on from there."""
WORTH = 64
"""Tokens that a prompt must have in common with a slot to go there while others answer elsewhere:
to read fewer again is taken to cost less than to answer apart from them; not measured."""


@dataclass(slots=True)
class Slot:
    """A place of the cache, and what it holds."""

    number: int
    owner: str | None = None
    tokens: list[int] = field(default_factory=list)
    used: int = 0


class Slots:
    """So many slots; what one owner asked is never used for another's answer."""

    def __init__(self, count: int) -> None:
        self._free = [Slot(number) for number in range(count)]
        self._numbers = frozenset(range(count))
        self._asked = 0

    def take(self, ids: Sequence[int], owner: str | None) -> tuple[Slot, bool]:
        """The slot for a prompt, and whether what it holds may be used for it.

        It is the one that holds most of the prompt, for the same owner; else the best free one.
        """
        self._asked += 1
        known = self._familiar(list(ids), owner) or self._best_free()
        is_kept = owner is not None and known.owner == owner
        self._free.remove(known)
        known.owner, known.tokens, known.used = owner, list(ids), self._asked
        return known, is_kept

    def _familiar(self, ids: list[int], owner: str | None) -> Slot | None:
        """The slot that holds most of a prompt of the same owner, if that is enough."""

        def common(slot: Slot) -> int:
            return len(commonprefix([slot.tokens, ids]))

        own = [each for each in self._free if owner is not None and each.owner == owner]
        known = max(own, key=common, default=None)
        is_alone = len(self._free) == len(self._numbers)
        if known and common(known) >= max(0 if is_alone else WORTH, FAMILIAR * len(known.tokens)):
            return known
        return None

    def give_back(self, slot: Slot) -> None:
        """The slot is free again, and keeps what it holds."""
        self._free.append(slot)

    def _best_free(self) -> Slot:
        """Beside slots that answer, and of those the one that was used longest ago.

        llama.cpp computes the next tokens of slots in one pass only where their numbers follow each
        other (`docs/benchmarks/serve-gemma-3-270m.json`, 4 at once).
        """
        answering = self._numbers - {slot.number for slot in self._free}

        def rank(slot: Slot) -> tuple[int, int]:
            beside = {slot.number - 1, slot.number + 1} & answering
            return -len(beside), slot.used

        return min(self._free, key=rank)
