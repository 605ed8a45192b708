"""The edge's connections, one after another, as ``EdgeSide`` wants them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipesd.actors.connection import Connection, ConnectionLimits, LinkStatistics
from pipesd.actors.link import Link, fresh_nonce
from pipesd.actors.mailbox import Mailbox
from pipesd.actors.receiver import Reports
from pipesd.errors import LinkError
from pipesd.session import events
from pipesd.session.commands import OpenLink
from pipesd.wire.codec import Decoder
from pipesd.wire.frames import CloudFrame, EdgeFrame

Dial = Callable[[int], Awaitable[Link]]
"""Connects to the cloud of that number, counted from 0. Raises ``LinkError``."""


async def no_dial(_: int) -> Link:
    """For a link that cannot be had again."""
    raise LinkError("this connection cannot be made again")


class Lines:
    """The connection that there is; those before it may still be ending."""

    def __init__(self, dial: Dial, inbox: Mailbox[events.EdgeEvent], limits: ConnectionLimits) -> None:
        self._dial = dial
        self._inbox = inbox
        self._limits = limits
        self._current: Connection[events.EdgeEvent, CloudFrame] | None = None
        self._dialling: asyncio.Task[Any] | None = None
        self._open = 0
        self._none_open = asyncio.Event()
        self._past = LinkStatistics(0, 0, 0)
        """What crossed the links that are gone."""

    def adopt(self, link: Link, number: int) -> events.LinkOpened:
        """Use a link that is there; the event that says so."""
        reports: Reports[events.EdgeEvent, CloudFrame] = Reports(
            frame=lambda frame: events.FrameReceived(frame, number),
            rejected=lambda code, message: events.BytesRejected(code, message, number),
            closed=lambda reason: events.LinkClosed(reason, number),
            idle=lambda frames: events.LinkIdle(frames, number),
        )
        self._past = self.statistics()
        self._current = Connection(link, Decoder[CloudFrame](CloudFrame), self._inbox, reports, self._limits)
        return events.LinkOpened(number, fresh_nonce())

    async def open(self, order: OpenLink) -> None:
        """Connect, and serve the connection until it is over; what becomes of it is reported."""
        with self._at_work():
            self._dialling = asyncio.current_task()
            try:
                link = await self._dial(order.cloud)
            except LinkError as error:
                await self._inbox.report(events.LinkClosed(str(error), order.link))
                return
            finally:
                self._dialling = None
            await self._inbox.report(self.adopt(link, order.link))
            await self.run()

    async def run(self) -> None:
        """Serve the connection that there is until it is over."""
        connection = self._current
        assert connection is not None, "no connection to serve"
        with self._at_work():
            try:
                await connection.run()
            finally:
                self._forget(connection)

    def _forget(self, connection: Connection[events.EdgeEvent, CloudFrame]) -> None:
        """It is over, and its buffers are large."""
        if self._current is connection:
            self._past = self.statistics()
            self._current = None

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        self._open += 1
        self._none_open.clear()
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()

    async def wait_closed(self) -> None:
        """Wait until no connection is there or being made."""
        await self._none_open.wait()

    def tell(self, frame: EdgeFrame) -> None:
        """Send this next; without a connection nobody hears it."""
        if self._current is not None:
            self._current.tell(frame)

    def finish(self) -> None:
        """Send what is queued, and close; what is being made is given up."""
        if self._dialling is not None:
            self._dialling.cancel()
        if self._current is not None:
            self._current.finish()

    def abort(self) -> None:
        """Cut the connection."""
        if self._current is not None:
            self._current.abort()

    def statistics(self) -> LinkStatistics:
        """What crossed all links so far."""
        return self._past if self._current is None else self._past + self._current.statistics()
