"""A link that is a model, in memory: both ends offer ``actors.link.Link``.

Its buffers are unbounded: a sender is never kept waiting by a reader that does not read.
A message occupies the link for ``message_s`` and its bytes for ``1 / bytes_per_s`` each, then travels for
``delay_s`` while the next one may follow. Messages arrive whole and in order.
"""

import asyncio
import math
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from pipesd.actors.link import CLOSED_HERE
from pipesd.errors import LinkError


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkModel:
    """One direction of a link."""

    delay_s: float = 0.0
    message_s: float = 0.0
    bytes_per_s: float = math.inf

    def occupancy_s(self, message_bytes: int) -> float:
        """How long a message keeps others from leaving."""
        return self.message_s + message_bytes / self.bytes_per_s


class _Direction:
    """Messages on their way from one end to the other."""

    def __init__(self, model: LinkModel) -> None:
        self._model = model
        self._free_at = 0.0
        self._travelling: deque[bytes] = deque()
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self._ended = False
        self._cut = asyncio.Event()
        self._reason = CLOSED_HERE

    async def send(self, data: bytes) -> None:
        if self._cut.is_set() or self._ended:
            raise LinkError(self._reason)
        loop = asyncio.get_running_loop()
        self._free_at = max(self._free_at, loop.time()) + self._model.occupancy_s(len(data))
        self._travel(data)
        if self._free_at > loop.time():
            await self._wait_free()

    async def _wait_free(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._free_at):
                await self._cut.wait()
        if self._cut.is_set():
            raise LinkError(self._reason)

    def _travel(self, data: bytes) -> None:
        self._travelling.append(data)
        arrival = self._free_at + self._model.delay_s
        asyncio.get_running_loop().call_at(arrival, self._arrive)

    def _arrive(self) -> None:
        self._arrived.put_nowait(self._travelling.popleft())

    def end(self) -> None:
        """What is on its way arrives, then the end does."""
        if not self._ended:
            self._ended = True
            self._free_at = max(self._free_at, asyncio.get_running_loop().time())
            self._travel(b"")

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


def memory_link(up: LinkModel, down: LinkModel) -> tuple[MemoryLink, MemoryLink]:
    """The edge's end and the cloud's end of a new link."""
    upward, downward = _Direction(up), _Direction(down)
    return MemoryLink(upward, downward), MemoryLink(downward, upward)
