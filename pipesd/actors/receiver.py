"""Bytes to frames, in order. Nothing more is read while the funnel is behind."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipesd.actors.link import Link
from pipesd.actors.mailbox import Mailbox
from pipesd.errors import LinkError, PeerError
from pipesd.wire.codec import Decoder
from pipesd.wire.frames import AnyFrame

E = TypeVar("E")
F = TypeVar("F", bound=AnyFrame)


@dataclass(frozen=True, slots=True)
class Reports(Generic[E, F]):
    """Which event says what, to the side that a connection works for."""

    frame: Callable[[F], E]
    rejected: Callable[[str, str], E]
    closed: Callable[[str], E]
    idle: Callable[[int], E] | None = None
    """Said by the sender, with how many frames it has sent; None if the side does not want to know."""


class Receiver(Generic[E, F]):
    """The incoming half of a connection."""

    def __init__(self, link: Link, decoder: Decoder[F], inbox: Mailbox[E], reports: Reports[E, F]) -> None:
        self._link = link
        self._decoder = decoder
        self._inbox = inbox
        self._reports = reports
        self._deaf = False
        self.received_bytes = 0

    def stop_listening(self) -> None:
        """Pass over what still comes. Left unread, it would make closing a reset, and lose our last words."""
        self._deaf = True

    async def run(self, wait_room: Callable[[], Awaitable[None]]) -> None:
        """Read until the end, and report why it came; ``wait_room`` is awaited after each frame."""
        try:
            while data := await self._link.receive():
                self.received_bytes += len(data)
                if not self._deaf:
                    await self._take(data, wait_room)
            reason = "the other side closed the connection"
        except LinkError as error:
            reason = str(error)
        await self._inbox.report(self._reports.closed(reason))

    async def _take(self, data: bytes, wait_room: Callable[[], Awaitable[None]]) -> None:
        try:
            for frame in self._decoder.feed(data):
                await self._inbox.report(self._reports.frame(frame))
                await wait_room()
                if self._deaf:
                    return
        except PeerError as error:
            self._deaf = True
            await self._inbox.report(self._reports.rejected(error.code, str(error)))
