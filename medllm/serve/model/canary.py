"""A second model that answers a share of the keys, always the same ones."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medllm.engines.base import Answers


@dataclass(frozen=True, slots=True)
class Canary:
    """The second model, and whom it answers."""

    engine: Answers
    name: str
    identity: str | None
    share: float
    card: Mapping[str, Any] = field(default_factory=dict)
    """What those whom it answers are told of it beside its name."""

    def takes(self, caller: str) -> bool:
        """Whether it answers this caller: the same each time, and others with another model."""
        drawn = hashlib.sha256(f"{self.identity}\n{caller}".encode()).digest()[:8]
        return int.from_bytes(drawn) / 2**64 < self.share
