"""Frames to bytes, in order. What is queued while the link is busy leaves together."""

import asyncio
from collections.abc import Awaitable, Callable

from pipesd.actors.link import Link
from pipesd.actors.mailbox import Mailbox
from pipesd.errors import LinkError
from pipesd.wire.codec import encode
from pipesd.wire.frames import AnyFrame

SEND_BYTES = 1 << 16


class Sender:
    """The outgoing half of a connection."""

    def __init__(
        self,
        link: Link,
        *,
        room_frames: int,
        limit_frames: int,
        stall_s: float | None = None,
        on_idle: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """``limit_frames``: more in the queue cut the link; a send that takes ``stall_s`` does so too.

        ``on_idle`` is awaited whenever everything that was told has left, with how many frames that were.
        """
        self._link = link
        self._frames: Mailbox[AnyFrame | None] = Mailbox("sender", limit_frames + 1)
        self._room_frames = room_frames
        self._limit_frames = limit_frames
        self._stall_s = stall_s
        self._on_idle = on_idle
        self._finishing = False
        self._has_room = asyncio.Event()
        self._has_room.set()
        self.sent_frames = 0
        self.sent_bytes = 0

    def tell(self, frame: AnyFrame) -> None:
        """Queue a frame. If the queue is full because the other side reads nothing, the link is cut."""
        if self._finishing:
            return
        if len(self._frames) >= self._limit_frames:
            self._finishing = True
            self._link.abort(f"the other side reads too slowly ({self._limit_frames} frames wait for it)")
            return
        self._frames.tell(frame)
        self._note_room()

    def finish(self) -> None:
        """Send what is queued, and no more."""
        if not self._finishing:
            self._finishing = True
            self._frames.tell(None)

    async def wait_room(self) -> None:
        """Wait until at most ``room_frames`` wait, or nothing will be sent any more."""
        await self._has_room.wait()

    async def run(self) -> None:
        """Send until told to finish or until the link breaks."""
        try:
            while await self._send_next():
                self._note_room()
                if self._on_idle is not None and not self._frames:
                    await self._on_idle(self.sent_frames)
            await self._link.end()
        except TimeoutError:
            self._link.abort(f"the other side has read nothing for {self._stall_s:g} s")
        except LinkError as error:
            self._link.abort(str(error))
        finally:
            self._finishing = True
            self._has_room.set()

    async def _send_next(self) -> bool:
        """Send what is queued, in portions of about ``SEND_BYTES``; whether there may be more."""
        queued = await self._frames.next_all()
        portion = bytearray()
        for frame in queued:
            if frame is not None:
                portion += encode(frame)
                self.sent_frames += 1
            if portion and (frame is queued[-1] or len(portion) >= SEND_BYTES):
                await self._send(bytes(portion))
                portion.clear()
        return queued[-1] is not None

    async def _send(self, data: bytes) -> None:
        async with asyncio.timeout(self._stall_s):
            await self._link.send(data)
        self.sent_bytes += len(data)

    def _note_room(self) -> None:
        if len(self._frames) > self._room_frames:
            self._has_room.clear()
        else:
            self._has_room.set()
