"""A second model that answers a share of the keys, always the same ones."""

import hashlib
from dataclasses import dataclass

from medllm.engines.base import Answers


@dataclass(frozen=True, slots=True)
class Canary:
    """The second model, and whom it answers."""

    engine: Answers
    name: str
    identity: str | None
    share: float

    def takes(self, caller: str) -> bool:
        """Whether it answers this caller: the same each time, and others with another model."""
        drawn = hashlib.sha256(f"{self.identity}\n{caller}".encode()).digest()[:8]
        return int.from_bytes(drawn) / 2**64 < self.share
