"""Both halves of a link together, in virtual time."""

import asyncio
from collections.abc import Callable

import pytest

from pipesd.actors.connection import Connection, ConnectionLimits
from pipesd.actors.mailbox import Mailbox
from pipesd.actors.receiver import Reports
from pipesd.errors import LinkError
from pipesd.lab.clock import run_virtually
from pipesd.lab.link import LinkModel, MemoryLink, memory_link
from pipesd.wire.codec import Decoder, encode
from pipesd.wire.frames import AnyFrame, Bye, Ping, Pong
from tests.actors.helpers import FakeLink, at_work, turns

WAY = LinkModel(delay_s=0.1)
LIMITS = ConnectionLimits(queued_frames=4, stall_s=5.0, stop_s=2.0)

Event = tuple[str, object]


def connection_over(
    link: MemoryLink | FakeLink, inbox: Mailbox[Event], idle: Callable[[int], Event] | None = None
) -> Connection[Event, AnyFrame]:
    reports: Reports[Event, AnyFrame] = Reports(
        frame=lambda frame: ("frame", frame),
        rejected=lambda code, message: ("rejected", code),
        closed=lambda reason: ("closed", reason),
        idle=idle,
    )
    return Connection(link, Decoder[AnyFrame](AnyFrame), inbox, reports, LIMITS)


def test_last_words_arrive_although_the_other_side_never_stops_talking():
    async def main() -> bytes:
        ours, theirs = memory_link(WAY, WAY)
        inbox: Mailbox[Event] = Mailbox("events", 8)
        connection = connection_over(ours, inbox)

        async def talk() -> None:
            try:
                for number in range(10_000):
                    await theirs.send(encode(Ping(number)))
                    await asyncio.sleep(0.01)
            except LinkError:
                return

        heard = b""
        async with at_work(connection.run(), talk()):
            assert await inbox.next() == ("frame", Ping(0))
            connection.tell(Bye("enough"))
            connection.finish()
            while data := await theirs.receive():
                heard += data
        return heard

    assert run_virtually(main()) == encode(Bye("enough"))


@pytest.mark.parametrize("idle", [None, lambda sent: ("idle", sent)], ids=["not wanted", "wanted"])
def test_a_side_that_wants_to_know_is_told_when_the_link_is_idle(idle: Callable[[int], Event] | None):
    """A slow link takes the first frame for a second; the two behind it leave together."""

    async def main() -> list[tuple[float, Event]]:
        slow = LinkModel(bytes_per_s=len(encode(Ping(0))))
        ours, _ = memory_link(slow, WAY)
        inbox: Mailbox[Event] = Mailbox("events", 8)
        connection = connection_over(ours, inbox, idle)
        told: list[tuple[float, Event]] = []

        async def listen() -> None:
            while True:
                event = await inbox.next()
                told.append((asyncio.get_running_loop().time(), event))

        async with at_work(connection.run(), listen()):
            connection.tell(Ping(0))
            await asyncio.sleep(0.5)
            connection.tell(Ping(1))
            connection.tell(Ping(2))
            await asyncio.sleep(9.5)
        return told

    assert run_virtually(main()) == ([(3.0, ("idle", 3))] if idle else [])


def test_what_comes_after_the_finish_is_passed_over():
    async def main() -> list[Event]:
        link, inbox = FakeLink(), Mailbox[Event]("events", 8)
        connection = connection_over(link, inbox)
        async with at_work(connection.run()):
            link.arrive(encode(Ping(1)))
            await turns()
            connection.finish()
            link.arrive(encode(Ping(2)))
            link.arrive(b"no frame at all, and nobody minds")
            await asyncio.sleep(3)
        return [await inbox.next() for _ in range(len(inbox))]

    assert run_virtually(main()) == [
        ("frame", Ping(1)),
        ("closed", "the other side did not close within 2 s"),
    ]


def test_a_side_that_closes_ends_the_connection_once_we_have_finished_too():
    async def main() -> float:
        ours, theirs = memory_link(WAY, WAY)
        inbox: Mailbox[Event] = Mailbox("events", 8)
        connection = connection_over(ours, inbox)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(connection.run())
            await theirs.end()
            assert await inbox.next() == ("closed", "the other side closed the connection")
            assert not running.done()
            connection.finish()
            await running
        return asyncio.get_running_loop().time()

    assert run_virtually(main()) == pytest.approx(0.1)


def test_a_side_that_reads_nothing_is_named_as_the_reason():
    async def main() -> Event:
        link, inbox = FakeLink(), Mailbox[Event]("events", 8)
        connection = connection_over(link, inbox)
        link.hold()
        async with at_work(connection.run()):
            connection.tell(Pong(1))
            return await inbox.next()

    assert run_virtually(main()) == ("closed", "the other side has read nothing for 5 s")


def test_a_finish_after_the_end_sets_no_timer():
    async def main() -> None:
        ours, theirs = memory_link(WAY, WAY)
        connection = connection_over(ours, Mailbox("events", 8))
        theirs.abort()
        async with asyncio.timeout(1):
            connection.finish()
            await connection.run()
        connection.finish()
        assert connection.statistics().received_bytes == 0

    run_virtually(main())
