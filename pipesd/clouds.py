"""The clouds that an edge may connect to."""

import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from pipesd.actors.link import Link, open_tcp_link
from pipesd.errors import LinkError, PeerError, RefusedError

T = TypeVar("T")
logger = logging.getLogger("pipesd.edge")


class Clouds:
    """Their addresses; the one that is called first comes first."""

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

    async def one_of(self, enter: Callable[[], Awaitable[T]]) -> T:
        """What ``enter`` gives with the first one where it does not fail.

        If it fails with all, raises what a cloud without room said, who may be tried again, or what the last
        one did: ``LinkError``, ``PeerError`` or ``RefusedError``.
        """
        failures: list[LinkError | PeerError | RefusedError] = []
        for number in range(len(self._addresses)):
            try:
                return await enter()
            except (LinkError, PeerError, RefusedError) as failure:
                failures.append(failure)
                if number + 1 < len(self._addresses):
                    logger.warning("%s:%d: %s; going on to the next", *self._addresses[0], failure)
                self._addresses.append(self._addresses.pop(0))
        busy = (each for each in failures if isinstance(each, RefusedError) and each.code == "busy")
        raise next(busy, failures[-1])

    async def dial(self, number: int) -> Link:
        """Connect to one of them. Raises ``LinkError``."""
        return await open_tcp_link(*self._addresses[number], self._timeout_s, self._context)
