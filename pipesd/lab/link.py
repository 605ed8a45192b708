"""A link that is a model, in memory: both ends offer ``actors.link.Link``.

Its buffers are unbounded: a sender is never kept waiting by a reader that does not read, only by the link.
Messages arrive whole and in order, at the moments that ``lab.emulator`` computes.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from pipesd.actors.link import CLOSED_HERE
from pipesd.errors import LinkError
from pipesd.lab.emulator import LinkEmulator, LinkModel, both_ways

__all__ = ["LinkModel", "MemoryLink", "memory_link"]


class _Direction:
    """Messages on their way from one end to the other."""

    def __init__(self, emulator: LinkEmulator, charge: Callable[[bytes], int]) -> None:
        self._emulator = emulator
        self._charge = charge
        self._travelling: deque[bytes] = deque()
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self._ended = False
        self._cut = asyncio.Event()
        self._reason = CLOSED_HERE

    async def send(self, data: bytes) -> None:
        if self._cut.is_set() or self._ended:
            raise LinkError(self._reason)
        loop = asyncio.get_running_loop()
        free_at, arrival = self._emulator.send(loop.time(), self._charge(data))
        self._travel(data, arrival)
        if free_at > loop.time():
            await self._wait_until(free_at)

    async def _wait_until(self, free_at: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(free_at):
                await self._cut.wait()
        if self._cut.is_set():
            raise LinkError(self._reason)

    def _travel(self, data: bytes, arrival: float) -> None:
        self._travelling.append(data)
        asyncio.get_running_loop().call_at(arrival, self._arrive)

    def _arrive(self) -> None:
        self._arrived.put_nowait(self._travelling.popleft())

    def end(self) -> None:
        """What is on its way arrives, then the end does."""
        if not self._ended:
            self._ended = True
            self._travel(b"", self._emulator.end(asyncio.get_running_loop().time()))

    def cut(self, reason: str) -> None:
        """Nothing arrives any more but the end."""
        if not self._cut.is_set():
            self._reason = reason
        self._cut.set()
        self._arrived.put_nowait(b"")

    async def receive(self) -> bytes:
        data = await self._arrived.get()
        if self._cut.is_set():
            self._arrived.put_nowait(b"")
            raise LinkError(self._reason)
        if not data:
            self._arrived.put_nowait(b"")
        return data


class MemoryLink:
    """One end of a modelled link."""

    def __init__(self, outgoing: _Direction, incoming: _Direction) -> None:
        self._outgoing = outgoing
        self._incoming = incoming

    async def send(self, data: bytes) -> None:
        """Wait until the link has taken ``data``."""
        await self._outgoing.send(data)

    async def receive(self) -> bytes:
        """Wait for the next message; empty at the end."""
        return await self._incoming.receive()

    async def end(self) -> None:
        """Send no more."""
        self._outgoing.end()

    def abort(self, reason: str = CLOSED_HERE) -> None:
        """Cut both directions."""
        self._outgoing.cut(reason)
        self._incoming.cut(reason)


def memory_link(
    up: LinkModel, down: LinkModel, *, seed: int = 0, up_bytes: Callable[[bytes], int] = len
) -> tuple[MemoryLink, MemoryLink]:
    """The edge's end and the cloud's end of a new link.

    ``seed`` fixes its luck; a message upward is charged for ``up_bytes`` of it.
    """
    upward, downward = both_ways(up, down, seed)
    rising, falling = _Direction(upward, up_bytes), _Direction(downward, len)
    return MemoryLink(rising, falling), MemoryLink(falling, rising)
