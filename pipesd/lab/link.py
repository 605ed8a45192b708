"""A link that is a model, in memory: both ends offer ``actors.link.Link``.

Its buffers are unbounded: a sender is never kept waiting by a reader that does not read, only by the link.
Messages arrive whole and in order, at the moments that ``lab.emulator`` computes, unless a ``Storm`` has it
otherwise.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pipesd.actors.link import CLOSED_HERE
from pipesd.actors.pause import Pause
from pipesd.errors import LinkError
from pipesd.lab.emulator import LinkEmulator, LinkModel, both_ways
from pipesd.lab.storm import Storm

if TYPE_CHECKING:
    from pipesd.lab.gate import Sink

__all__ = ["LinkModel", "MemoryLink", "memory_link"]

CUT_BY_FAULT = "the connection was lost (a fault of the lab)"


class _Direction:
    """Messages on their way from one end to the other."""

    def __init__(self, emulator: LinkEmulator, charge: Callable[[bytes], int]) -> None:
        self._emulator = emulator
        self._charge = charge
        self._travelling: deque[bytes] = deque()
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self._ended = False
        self._is_cut = False
        self._sending = Pause()
        self._reason = CLOSED_HERE
        self._lost_reason: str | None = None
        self._is_unreadable = False

        self.outlet: Sink = self
        """What takes the messages that have travelled; in the end they come back here."""

    async def send(self, data: bytes) -> None:
        if self._is_cut or self._ended:
            raise LinkError(self._reason)
        loop = asyncio.get_running_loop()
        free_at, arrival = self._emulator.send(loop.time(), self._charge(data))
        self._travel(data, arrival)
        if free_at > loop.time():
            await self._sending.until(free_at)
            if self._is_cut:
                raise LinkError(self._reason)

    def _travel(self, data: bytes, arrival: float) -> None:
        self._travelling.append(data)
        asyncio.get_running_loop().call_at(arrival, self._arrive)

    def _arrive(self) -> None:
        if data := self._travelling.popleft():
            self.outlet.write(data)
        else:
            self.outlet.write_end()

    def write(self, data: bytes) -> None:
        self._arrived.put_nowait(data)

    def write_end(self) -> None:
        self._arrived.put_nowait(b"")

    def end(self) -> None:
        """What is on its way arrives, then the end does."""
        if not self._ended:
            self._ended = True
            self._travel(b"", self._emulator.end(asyncio.get_running_loop().time()))

    def cut_sender(self, reason: str) -> None:
        """Nothing is taken any more."""
        if not self._is_cut:
            self._reason = reason
        self._is_cut = True
        self._sending.interrupt()

    def cut_receiver(self, reason: str, *, unread_is_lost: bool) -> None:
        """Nothing arrives any more but the end; what has arrived can be read, or not even that."""
        if self._lost_reason is None:
            self._lost_reason = reason
        self._is_unreadable = self._is_unreadable or unread_is_lost
        self._arrived.put_nowait(b"")

    async def receive(self) -> bytes:
        data = await self._arrived.get()
        if data and not self._is_unreadable:
            return data
        self._arrived.put_nowait(b"")
        if self._lost_reason is not None:
            raise LinkError(self._lost_reason)
        return b""


class MemoryLink:
    """One end of a modelled link."""

    def __init__(self, outgoing: _Direction, incoming: _Direction) -> None:
        self._outgoing = outgoing
        self._incoming = incoming

        self.pass_cut: Callable[[Callable[[], None]], None] = _at_once
        """How the other end hears of a cut."""

    @property
    def address(self) -> str:
        """Nowhere."""
        return ""

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
        _cut_end(self._outgoing, self._incoming, reason, unread_is_lost=True)
        self.pass_cut(partial(_cut_end, self._incoming, self._outgoing, reason, unread_is_lost=True))


def _at_once(cut: Callable[[], None]) -> None:
    cut()


def _cut_end(outgoing: _Direction, incoming: _Direction, reason: str, *, unread_is_lost: bool) -> None:
    outgoing.cut_sender(reason)
    incoming.cut_receiver(reason, unread_is_lost=unread_is_lost)


def memory_link(
    up: LinkModel,
    down: LinkModel,
    *,
    seed: int = 0,
    up_bytes: Callable[[bytes], int] = len,
    storm: Storm | None = None,
) -> tuple[MemoryLink, MemoryLink]:
    """The edge's end and the cloud's end of a new link.

    ``seed`` fixes its luck; a message upward is charged for ``up_bytes`` of it. The faults of ``storm``
    strike it until an end aborts it. Who loses the link by a fault can still read what has arrived.
    """
    upward, downward = both_ways(up, down, seed)
    rising, falling = _Direction(upward, up_bytes), _Direction(downward, len)
    edge, cloud = MemoryLink(rising, falling), MemoryLink(falling, rising)
    if storm is not None:

        def cut() -> None:
            _cut_end(rising, falling, CUT_BY_FAULT, unread_is_lost=False)
            _cut_end(falling, rising, CUT_BY_FAULT, unread_is_lost=False)

        exposed = storm.expose(rising, falling, cut)
        rising.outlet, falling.outlet = exposed.up, exposed.down
        edge.pass_cut = cloud.pass_cut = exposed.pass_cut
    return edge, cloud
