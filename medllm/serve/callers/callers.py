"""Who may ask a served model."""

import hmac
from dataclasses import dataclass

from medllm.serve.callers.keys import TAKEN, Caller, KeyRing
from medllm.serve.callers.proxy import Proxies

ANYONE = Caller(name=TAKEN[1])
"""Whoever asks a server without a key."""
THE_KEY = Caller(name=TAKEN[0], role="admin")
"""Whoever holds the one key of `MEDLLM_API_KEY` or of the recipe."""


@dataclass(frozen=True, slots=True)
class Callers:
    """Whoever may come in: who holds the one key, or one of the named keys.

    Without any, whoever is on this machine.
    """

    api_key: str | None = None
    ring: KeyRing | None = None
    allow_origins: tuple[str, ...] = ()
    """Web pages that may ask from a browser."""
    proxies: Proxies | None = None
    """Reverse proxies that name their users."""

    @property
    def are_unnamed(self) -> bool:
        """Whether nobody is asked for a key."""
        return self.api_key is None and self.ring is None

    def find(self, secret: str) -> Caller | None:
        """The caller whose key this is."""
        # Bytes, because compare_digest refuses strings that are not ASCII.
        if self.api_key and hmac.compare_digest(secret.encode(), self.api_key.encode()):
            return THE_KEY
        return self.ring.find(secret) if self.ring else None
