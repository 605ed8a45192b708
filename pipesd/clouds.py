"""The clouds that an edge may connect to."""

import ssl
from collections.abc import Sequence

from pipesd.actors.link import Link, open_tcp_link
from pipesd.errors import LinkError


class Clouds:
    """Their addresses; the one that answered first comes first."""

    def __init__(
        self, addresses: Sequence[tuple[str, int]], timeout_s: float, context: ssl.SSLContext | None
    ) -> None:
        self._addresses = list(addresses)
        self._timeout_s = timeout_s
        self._context = context

    @property
    def host(self) -> str:
        """Where the first one is."""
        return self._addresses[0][0]

    async def first(self) -> Link:
        """Connect to the first that answers. Raises ``LinkError``, of the last one, if none does."""
        for _ in self._addresses[1:]:
            try:
                return await self.dial(0)
            except LinkError:
                self._addresses.append(self._addresses.pop(0))
        return await self.dial(0)

    async def dial(self, number: int) -> Link:
        """Connect to one of them. Raises ``LinkError``."""
        return await open_tcp_link(*self._addresses[number], self._timeout_s, self._context)
