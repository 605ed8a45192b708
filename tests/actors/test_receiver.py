import asyncio
from dataclasses import dataclass, field

import pytest

from pipesd.actors.mailbox import Mailbox
from pipesd.actors.receiver import Receiver, Reports
from pipesd.errors import LinkError
from pipesd.wire.codec import Decoder, encode
from pipesd.wire.frames import Bye, EdgeFrame, Ping
from tests.actors.helpers import FakeLink, at_work, turns

REPORTS: Reports[object, EdgeFrame] = Reports(
    frame=lambda frame: frame,
    rejected=lambda code, message: ("rejected", code, message),
    closed=lambda reason: ("closed", reason),
)
CLEAN_END = ("closed", "the other side closed the connection")


async def go_on() -> None:
    return


@dataclass
class Bench:
    limit: int = 100
    link: FakeLink = field(default_factory=FakeLink)

    def __post_init__(self) -> None:
        self.inbox: Mailbox[object] = Mailbox("inbox", self.limit)
        self.receiver = Receiver(self.link, Decoder[EdgeFrame](EdgeFrame), self.inbox, REPORTS)


def pings(*numbers: int) -> bytes:
    return b"".join(encode(Ping(number)) for number in numbers)


async def test_frames_are_reported_in_order_however_the_bytes_are_cut():
    bench = Bench()
    whole = pings(1, 2) + encode(Bye("leaving")) + pings(3)
    for at in range(len(whole)):
        bench.link.arrive(whole[at : at + 1])
    bench.link.arrive(b"")
    await bench.receiver.run(go_on)
    assert await bench.inbox.next_all() == [Ping(1), Ping(2), Bye("leaving"), Ping(3), CLEAN_END]
    assert bench.receiver.received_bytes == len(whole)


async def test_a_lost_link_is_reported_with_its_reason():
    bench = Bench()
    bench.link.arrive(pings(1), LinkError("the connection was lost (reset)"))
    await bench.receiver.run(go_on)
    assert await bench.inbox.next_all() == [Ping(1), ("closed", "the connection was lost (reset)")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "oversized"),
        (b"\xff\xff\xff\xff", "oversized"),
        (b"\0\0\0\1\xc1", "malformed"),
    ],
)
async def test_what_is_no_frame_is_rejected_once_and_the_rest_is_passed_over(data: bytes, code: str):
    bench = Bench()
    bench.link.arrive(pings(1) + data, pings(2), data, b"")
    await bench.receiver.run(go_on)
    first, rejected, last = await bench.inbox.next_all()
    assert (first, last) == (Ping(1), CLEAN_END)
    assert isinstance(rejected, tuple)
    assert rejected[:2] == ("rejected", code)
    assert bench.link.unread == 1  # the end, which is always there


async def test_who_stopped_listening_reads_on_and_hears_only_the_end():
    bench = Bench()
    async with at_work(bench.receiver.run(go_on)):
        bench.receiver.stop_listening()
        bench.link.arrive(pings(1), b"garbage", b"")
        await turns()
    assert await bench.inbox.next_all() == [CLEAN_END]


async def test_it_waits_for_room_after_each_frame():
    bench, room = Bench(), asyncio.Semaphore(0)

    async def wait_room() -> None:
        await room.acquire()

    bench.link.arrive(pings(1, 2), pings(3), b"")
    async with at_work(bench.receiver.run(wait_room)) as (task,):
        for number in (1, 2, 3):
            assert await bench.inbox.next_all() == [Ping(number)]
            room.release()
            await turns()
        assert task.done()


async def test_nothing_more_is_read_while_the_funnel_is_behind():
    bench = Bench(limit=2)
    bench.link.arrive(pings(1), pings(2), pings(3), pings(4), b"")
    async with at_work(bench.receiver.run(go_on)) as (task,):
        assert len(bench.inbox) == 2
        assert bench.link.unread == 2
        heard = [await bench.inbox.next() for _ in range(5)]
        assert heard == [Ping(1), Ping(2), Ping(3), Ping(4), CLEAN_END]
        await turns()
        assert task.done()


async def test_who_stops_listening_hears_no_more_of_the_bytes_at_hand():
    bench = Bench(limit=2)
    bench.link.arrive(pings(1, 2, 3, 4, 5, 6), b"")
    async with at_work(bench.receiver.run(go_on)):
        bench.receiver.stop_listening()
        await turns()
        heard = [await bench.inbox.next() for _ in range(4)]
        assert heard == [Ping(1), Ping(2), Ping(3), CLEAN_END]


async def test_a_cancelled_receiver_reports_nothing():
    bench = Bench()
    async with at_work(bench.receiver.run(go_on)) as (task,):
        task.cancel()
        await turns()
        assert task.cancelled()
    assert len(bench.inbox) == 0
