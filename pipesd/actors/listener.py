"""Where connections come in: so many at once in all, and from one address; the others are cut at once.

This comes before TLS, and before anything is kept of a peer. One connection is taken in at a turn of the
loop, so that a flood of them holds nobody up who is in.
"""

import asyncio
import logging
import math
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from pipesd.address import counted_as
from pipesd.redact import log_fault

BACKLOG = 512
RETRY_S = 1.0
"""When the system has no socket left, it is asked again after so long."""

logger = logging.getLogger("pipesd.cloud")

Serve = Callable[[socket.socket], Awaitable[None]]
"""Has a connection until it is over, and ends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How many connections there may be at once, whatever they wait for: TLS, a greeting, or their end."""

    connections_max: float = math.inf
    address_connections_max: float = math.inf
    """From one address."""

    last_word: bytes = b""
    """What those beyond are told; it may get lost."""


class Crowd:
    """Who is there, by address."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._addresses: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Count one more; False if that is one too many."""
        bounds, address = self._bounds, counted_as(address)
        if self._addresses.total() >= bounds.connections_max:
            return False
        if self._addresses[address] >= bounds.address_connections_max:
            return False
        self._addresses[address] += 1
        return True

    def leave(self, address: str) -> None:
        """One who had entered is gone."""
        address = counted_as(address)
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]


@asynccontextmanager
async def taking_in(
    host: str, port: int, serve: Serve, bounds: Bounds | None = None
) -> AsyncIterator[tuple[str, int]]:
    """Have every connection served while the block lasts; gives the address, port 0 resolved.

    Raises ``OSError`` or ``ValueError`` if the address cannot be used.
    """
    listeners = await _listeners(host, port)
    reception = _Reception(serve, bounds or Bounds())
    loop = asyncio.get_running_loop()
    tasks = {loop.create_task(reception.accept(each), name="pipesd listener") for each in listeners}
    address = listeners[0].getsockname()
    try:
        yield address[0], address[1]
    finally:
        tasks |= reception.served
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for listener in listeners:
            listener.close()


async def _listeners(host: str, port: int) -> list[socket.socket]:
    """One for each address that ``host`` has."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            listeners.append(socket.create_server(address, family=family, backlog=BACKLOG))
            listeners[-1].setblocking(False)
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


class _Reception:
    """Takes connections in, and remembers who is there."""

    def __init__(self, serve: Serve, bounds: Bounds) -> None:
        self._serve = serve
        self._last_word = bounds.last_word
        self._crowd = Crowd(bounds)
        self.served: set[asyncio.Task[None]] = set()

    async def accept(self, listener: socket.socket) -> None:
        """One after another, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except ConnectionError:  # it has gone already
                pass
            except OSError as error:
                logger.warning("! no connection can be taken in: %s", error.strerror or error)
                await asyncio.sleep(RETRY_S)
            else:
                self._meet(connection, address[0])
            await asyncio.sleep(0)  # while others wait in line, asyncio would not let anybody else go on

    def _meet(self, connection: socket.socket, address: str) -> None:
        if not self._crowd.enter(address):
            with connection, suppress(OSError):
                connection.send(self._last_word)
            return
        task = asyncio.get_running_loop().create_task(self._attend(connection, address), name="pipesd guest")
        self.served.add(task)
        task.add_done_callback(self.served.discard)

    async def _attend(self, connection: socket.socket, address: str) -> None:
        """A fault of ours in here ends this connection and no other."""
        try:
            await self._serve(connection)
        except Exception:
            log_fault(logger, "! a connection failed on a fault of pipesd")
            connection.close()
        finally:
            self._crowd.leave(address)
