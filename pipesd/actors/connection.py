"""Both halves of one link, from the first frame to a clean end.

Each side says its last words and ends its own direction; the link is gone once both have, or when the time
for it is up.
"""

import asyncio
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipesd.actors.link import Link
from pipesd.actors.mailbox import Mailbox
from pipesd.actors.receiver import Receiver, Reports
from pipesd.actors.sender import Sender
from pipesd.wire.codec import FRAME_BYTES_MAX, Decoder
from pipesd.wire.frames import AnyFrame

E = TypeVar("E")
F = TypeVar("F", bound=AnyFrame)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What the other side may cost."""

    queued_frames: int
    """When more frames wait to be sent, nothing more is read."""

    stall_s: float | None
    """How long the other side may leave bytes unread before the link is cut; None is for ever."""

    stop_s: float
    """How long a clean end may take."""


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """What crossed a link so far, in both directions."""

    sent_frames: int
    sent_bytes: int
    received_bytes: int

    def __add__(self, other: "LinkStatistics") -> "LinkStatistics":
        return LinkStatistics(
            self.sent_frames + other.sent_frames,
            self.sent_bytes + other.sent_bytes,
            self.received_bytes + other.received_bytes,
        )


class Connection(Generic[E, F]):
    """A link with a sender and a receiver."""

    def __init__(
        self,
        link: Link,
        decoder: Decoder[F],
        inbox: Mailbox[E],
        reports: Reports[E, F],
        limits: ConnectionLimits,
    ) -> None:
        self._link = link
        self._decoder = decoder
        self._limits = limits
        # What was read before the reading stopped may still be answered, each frame at most twice.
        limit_frames = limits.queued_frames + 2 * inbox.limit
        idle = reports.idle
        self._sender = Sender(
            link,
            room_frames=limits.queued_frames,
            limit_frames=limit_frames,
            stall_s=limits.stall_s,
            on_idle=None if idle is None else lambda sent: inbox.report(idle(sent)),
        )
        self._receiver = Receiver(link, decoder, inbox, reports)
        self._cut: asyncio.TimerHandle | None = None
        self._over = False

    def tell(self, frame: AnyFrame) -> None:
        """Send this next."""
        self._sender.tell(frame)

    def trust(self) -> None:
        """The peer is let in: its frames may be as large as frames may be."""
        self._decoder.limit = FRAME_BYTES_MAX

    def finish(self) -> None:
        """Send what is queued, end our direction, and hear nothing more; cut the link if that takes long."""
        self._sender.finish()
        self._receiver.stop_listening()
        if self._cut is None and not self._over:
            reason = f"the other side did not close within {self._limits.stop_s:g} s"
            self._cut = asyncio.get_running_loop().call_later(self._limits.stop_s, self._link.abort, reason)

    def abort(self) -> None:
        """Cut the link."""
        self._over = True
        self._link.abort()

    async def run(self) -> None:
        """Until both directions have ended."""
        try:
            async with asyncio.TaskGroup() as halves:
                halves.create_task(self._sender.run(), name="pipesd sender")
                halves.create_task(self._receiver.run(self._sender.wait_room), name="pipesd receiver")
        finally:
            self.abort()
            if self._cut is not None:
                self._cut.cancel()

    def statistics(self) -> LinkStatistics:
        """What crossed the link so far."""
        return LinkStatistics(
            self._sender.sent_frames, self._sender.sent_bytes, self._receiver.received_bytes
        )
