"""Users whom a reverse proxy has let in, and whom it names in a header."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from medllm.serve.callers.keys import Caller
from medllm.serve.wire import ApiError

if TYPE_CHECKING:  # an extra brings it
    from starlette.datastructures import Headers

Network = IPv4Network | IPv6Network
NAME = re.compile(r"[!-~]{1,100}")
"""Of a user: what fits into a line of the audit log whatever reads it."""
PREFIX = "user:"
"""Before the name in log and limits, so that nobody is taken for the holder of a key."""


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies that are believed, by their addresses, and the header in which they name users.

    Whoever else sends that header is not heeded: it needs a key.
    """

    header: str
    networks: tuple[Network, ...]

    def find(
        self, address: str | None, headers: "Headers", origins: Sequence[str]
    ) -> Caller | None:
        """The user of a request from `address`, or None where no proxy names one.

        Raises:
            ApiError: the header is there twice or is no name; or a page of elsewhere asks, which a
                browser would send on with the user's session at the proxy.
        """
        names = headers.getlist(self.header)
        if not names or not self._believes(address):
            return None
        if len(names) > 1 or not NAME.fullmatch(names[0]):
            raise ApiError(401, f"{self.header} names no user", "invalid_user")
        origin = headers.get("origin")
        own = origin and origin.partition("://")[2].lower() == headers.get("host", "").lower()
        if origin and not own and origin not in origins:
            message = f"pages of {origin} may not ask this server; see allow_origins"
            raise ApiError(403, message, "origin_not_allowed")
        return Caller(name=PREFIX + names[0])

    def _believes(self, address: str | None) -> bool:
        try:
            place = ip_address(address or "")
        except ValueError:  # a socket of this machine has none
            return False
        if isinstance(place, IPv6Address) and place.ipv4_mapped:
            place = place.ipv4_mapped
        return any(place in each for each in self.networks)
