"""The edge's connections one after another, over links in memory and in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipesd.actors.connection import ConnectionLimits, LinkStatistics
from pipesd.actors.lines import Lines, no_dial
from pipesd.actors.link import Link
from pipesd.actors.mailbox import Mailbox
from pipesd.errors import LinkError
from pipesd.lab.clock import run_virtually
from pipesd.lab.link import LinkModel, MemoryLink, memory_link
from pipesd.session import events
from pipesd.session.commands import OpenLink
from pipesd.wire.codec import encode
from pipesd.wire.frames import Bye, EdgeFrame, Ping, Pong
from tests.actors.helpers import Talker, at_work, turns

WAY = LinkModel(delay_s=0.1)
LIMITS = ConnectionLimits(queued_frames=4, stall_s=5.0, stop_s=2.0)


@dataclass
class Network:
    """Gives links in memory, of which the test holds the other ends."""

    inbox: Mailbox[events.EdgeEvent] = field(default_factory=lambda: Mailbox("events", 64))
    ends: list[MemoryLink] = field(default_factory=list)
    dialled: list[int] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    """Until this is set, whoever dials waits."""

    def link(self) -> Link:
        ours, theirs = memory_link(WAY, WAY)
        self.ends.append(theirs)
        return ours

    def talker(self) -> Talker[EdgeFrame]:
        """The other end of the newest link."""
        return Talker(self.ends[-1], EdgeFrame)

    async def dial(self, cloud: int) -> Link:
        self.dialled.append(cloud)
        await self.answers.wait()
        if cloud == 9:
            raise LinkError("cloud 9 does not answer")
        return self.link()

    async def next_but_idle(self) -> events.EdgeEvent:
        while isinstance(event := await self.inbox.next(), events.LinkIdle):
            pass
        return event


@asynccontextmanager
async def lines_of(network: Network) -> AsyncIterator[Lines]:
    network.answers.set()
    lines = Lines(network.dial, network.inbox, LIMITS)
    opened = lines.adopt(network.link(), 0)
    assert opened.link == 0
    async with at_work(lines.run()):
        yield lines


def played(main: Coroutine[Any, Any, None]) -> None:
    run_virtually(main)


def test_events_name_the_connection_that_they_are_about():
    async def main() -> None:
        network = Network()
        async with lines_of(network) as lines:
            await network.talker().say(Ping(1))
            assert await network.next_but_idle() == events.FrameReceived(Ping(1), 0)
            async with at_work(lines.open(OpenLink(3, 1))):
                opened = await network.next_but_idle()
                assert isinstance(opened, events.LinkOpened)
                assert (opened.link, network.dialled) == (3, [1])
                await network.talker().say(Ping(2))
                assert await network.next_but_idle() == events.FrameReceived(Ping(2), 3)
                await network.ends[0].send(encode(Ping(3)))
                assert await network.next_but_idle() == events.FrameReceived(Ping(3), 0), "it is not over yet"
                network.ends[0].abort("cut")
                closed = await network.next_but_idle()
                assert isinstance(closed, events.LinkClosed)
                assert closed.link == 0
                await network.ends[1].send(b"\xff\xff\xff\xff")
                rejected = await network.next_but_idle()
                assert isinstance(rejected, events.BytesRejected)
                assert rejected.link == 3

    played(main())


def test_each_connection_has_a_nonce_of_its_own():
    async def main() -> None:
        network = Network()
        lines = Lines(network.dial, network.inbox, LIMITS)
        nonces = {lines.adopt(network.link(), number).nonce for number in range(100)}
        assert len(nonces) == 100
        assert min(map(len, nonces)) >= 18

    played(main())


def test_what_is_told_goes_to_the_newest_connection_and_its_end_is_told_by_number():
    async def main() -> None:
        network = Network()
        async with lines_of(network) as lines:
            lines.tell(Ping(1))
            assert await network.talker().hear() == Ping(1)
            assert await network.inbox.next() == events.LinkIdle(1, 0)
            async with at_work(lines.open(OpenLink(1, 0))):
                await network.inbox.next()
                lines.tell(Ping(2))
                assert await network.talker().hear() == Ping(2)
                assert await network.inbox.next() == events.LinkIdle(1, 1)

    played(main())


def test_without_a_connection_nobody_hears_what_is_told():
    async def main() -> None:
        lines = Lines(no_dial, Mailbox("events", 4), LIMITS)
        lines.tell(Ping(1))
        lines.finish()
        lines.abort()
        assert lines.statistics() == LinkStatistics(0, 0, 0)

    played(main())


def test_a_connection_that_cannot_be_made_is_an_event_and_another_may_be_tried():
    async def main() -> None:
        network = Network()
        async with lines_of(network) as lines:
            await lines.open(OpenLink(1, 9))
            assert await network.inbox.next() == events.LinkClosed("cloud 9 does not answer", 1)
            async with at_work(lines.open(OpenLink(2, 0))):
                assert isinstance(await network.inbox.next(), events.LinkOpened)
        assert network.dialled == [9, 0]

    played(main())


def test_a_link_that_cannot_be_had_again_says_so():
    async def main() -> None:
        inbox: Mailbox[events.EdgeEvent] = Mailbox("events", 4)
        await Lines(no_dial, inbox, LIMITS).open(OpenLink(1, 0))
        assert await inbox.next() == events.LinkClosed("this connection cannot be made again", 1)

    played(main())


def test_last_words_are_said_and_the_end_is_waited_for():
    async def main() -> None:
        network = Network()
        async with lines_of(network) as lines:
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(lines.wait_closed())
                await turns()
                lines.tell(Bye("enough"))
                lines.finish()
                talker = network.talker()
                assert await talker.hear_all() == [Bye("enough")]
                assert not waiting.done()
                await network.ends[0].end()
            assert asyncio.get_running_loop().time() < LIMITS.stop_s

    played(main())


def test_a_connection_that_is_being_made_is_given_up_in_the_end():
    async def main() -> None:
        network = Network()
        async with lines_of(network) as lines:
            network.answers.clear()
            async with asyncio.TaskGroup() as group:
                making = group.create_task(lines.open(OpenLink(1, 0)))
                await turns()
                assert network.dialled == [0]
                lines.finish()
                await network.ends[0].end()
                await lines.wait_closed()
            assert making.cancelled()
            assert len(network.ends) == 1

    played(main())


def test_the_end_of_all_is_that_of_every_connection():
    async def main() -> None:
        network = Network()
        async with lines_of(network) as lines, asyncio.TaskGroup() as group:
            lines.finish()
            second = group.create_task(lines.open(OpenLink(1, 0)))
            assert isinstance(await network.inbox.next(), events.LinkOpened)
            waiting = group.create_task(lines.wait_closed())
            lines.finish()
            await network.ends[1].end()
            await second
            await turns()
            assert not waiting.done(), "the first one is still there"
            await network.ends[0].end()

    played(main())


def test_a_connection_can_be_cut():
    async def main() -> None:
        network = Network()
        async with lines_of(network) as lines:
            lines.abort()
            closed = await network.next_but_idle()
            assert isinstance(closed, events.LinkClosed)
            lines.finish()
            await lines.wait_closed()
            with pytest.raises(LinkError):
                await network.ends[0].receive()

    played(main())


def test_a_connection_that_is_over_is_not_kept_and_what_crossed_it_counts():
    async def main() -> None:
        network = Network()
        async with lines_of(network) as lines:
            lines.tell(Ping(1))
            await network.talker().hear()
            lines.abort()
            await network.next_but_idle()
            lines.finish()
            await lines.wait_closed()
            assert lines._current is None
            lines.tell(Ping(2))
            assert lines.statistics() == LinkStatistics(1, len(encode(Ping(1))), 0)

    played(main())


def test_what_crossed_all_links_counts():
    async def main() -> None:
        network = Network()
        async with lines_of(network) as lines:
            lines.tell(Ping(1))
            await network.talker().say(Pong(1))
            await network.next_but_idle()
            once = LinkStatistics(1, len(encode(Ping(1))), len(encode(Pong(1))))
            assert lines.statistics() == once
            async with at_work(lines.open(OpenLink(1, 0))):
                await network.next_but_idle()
                assert lines.statistics() == once
                lines.tell(Ping(1))
                await network.talker().hear()
                assert lines.statistics() == LinkStatistics(2, 2 * once.sent_bytes, once.received_bytes)

    played(main())
