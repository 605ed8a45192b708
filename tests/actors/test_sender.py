import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pipesd.actors.sender import Sender
from pipesd.lab.clock import run_virtually
from pipesd.wire.codec import Decoder, encode
from pipesd.wire.frames import CloudFrame, Ping
from tests.actors.helpers import FakeLink, at_work, turns

ROOM, LIMIT = 4, 8


def sent_numbers(link: FakeLink) -> list[int]:
    decoder: Decoder[CloudFrame] = Decoder(CloudFrame)
    return [frame.number for data in link.sent for frame in decoder.feed(data) if isinstance(frame, Ping)]


def make(
    stall_s: float | None = None, on_idle: Callable[[int], Awaitable[None]] | None = None
) -> tuple[FakeLink, Sender]:
    link = FakeLink()
    return link, Sender(link, room_frames=ROOM, limit_frames=LIMIT, stall_s=stall_s, on_idle=on_idle)


async def has_room(sender: Sender) -> bool:
    async with at_work(sender.wait_room()) as (waiting,):
        return waiting.done()


async def test_frames_leave_in_order_and_are_counted():
    link, sender = make()
    async with at_work(sender.run()):
        for number in range(5):
            sender.tell(Ping(number))
            await turns()
    assert sent_numbers(link) == list(range(5))
    assert sender.sent_frames == 5
    assert sender.sent_bytes == sum(map(len, link.sent)) == 5 * len(encode(Ping(0)))


async def test_what_is_queued_while_the_link_is_busy_leaves_together():
    link, sender = make()
    link.hold()
    async with at_work(sender.run()):
        sender.tell(Ping(0))
        await turns()
        for number in (1, 2, 3):
            sender.tell(Ping(number))
        link.let_go()
        await turns()
    assert link.sent == [encode(Ping(0)), b"".join(encode(Ping(number)) for number in (1, 2, 3))]


async def test_it_says_when_all_it_was_told_has_left():
    left: list[tuple[int, list[int]]] = []

    async def on_idle(sent: int) -> None:
        left.append((sent, sent_numbers(link)))

    link, sender = make(on_idle=on_idle)
    async with at_work(sender.run()):
        assert left == []
        sender.tell(Ping(0))
        assert left == []
        await turns()
        assert left == [(1, [0])]
        link.hold()
        sender.tell(Ping(1))
        await turns()
        sender.tell(Ping(2))
        await turns()
        assert left == [(1, [0])]
        link.let_go()
        await turns()
    assert left == [(1, [0]), (3, [0, 1, 2])]


async def test_what_is_told_while_it_says_so_leaves_too():
    said: list[int] = []

    async def on_idle(sent: int) -> None:
        said.append(sent)
        if len(said) < 3:
            sender.tell(Ping(len(said)))

    link, sender = make(on_idle=on_idle)
    async with at_work(sender.run()):
        sender.tell(Ping(0))
        await turns(30)
    assert said == [1, 2, 3]
    assert sent_numbers(link) == [0, 1, 2]


async def test_a_link_that_breaks_is_never_called_idle():
    said: list[int] = []

    async def on_idle(sent: int) -> None:
        said.append(sent)

    link, sender = make(on_idle=on_idle)
    link.hold()
    async with at_work(sender.run()) as (task,):
        sender.tell(Ping(0))
        await turns()
        link.abort()
        await turns()
        assert task.done()
    assert said == []


async def test_finish_sends_what_is_queued_and_then_ends_its_direction():
    link, sender = make()
    sender.tell(Ping(1))
    sender.finish()
    sender.finish()
    sender.tell(Ping(2))
    await sender.run()
    assert sent_numbers(link) == [1]
    assert link.ended
    assert not link.aborted


async def test_finish_wakes_a_sender_that_has_nothing_to_do():
    link, sender = make()
    async with at_work(sender.run()) as (task,):
        sender.finish()
        await turns()
        assert task.done()
    assert link.ended


async def test_room_is_gone_above_its_bound_and_back_once_the_frames_have_left():
    link, sender = make()
    link.hold()
    async with at_work(sender.run()):
        assert await has_room(sender)
        sender.tell(Ping(0))
        await turns()
        for number in range(ROOM):
            sender.tell(Ping(number))
        assert await has_room(sender)
        sender.tell(Ping(9))
        assert not await has_room(sender)
        waiting = asyncio.get_running_loop().create_task(sender.wait_room())
        await turns()
        link.let_go()
        await waiting
        assert await has_room(sender)


def test_a_send_that_stalls_cuts_the_link():
    async def main() -> None:
        link, sender = make(stall_s=3.0)
        async with at_work(sender.run()) as (task,):
            sender.tell(Ping(0))
            await asyncio.sleep(100)
            link.hold()
            sender.tell(Ping(1))
            await asyncio.sleep(2.9)
            assert (link.aborted, task.done()) == (False, False)
            await asyncio.sleep(0.2)
            assert (link.aborted, task.done()) == (True, True)
        assert sent_numbers(link) == [0]

    run_virtually(main())


async def test_a_queue_at_its_limit_cuts_the_link_and_keeps_nothing_more():
    link, sender = make()
    link.hold()
    async with at_work(sender.run()) as (task,):
        sender.tell(Ping(0))
        await turns()
        for number in range(LIMIT):
            sender.tell(Ping(number))
        before = link.aborted
        sender.tell(Ping(99))
        assert (before, link.aborted) == (False, True)
        sender.tell(Ping(100))
        sender.finish()
        await turns()
        assert task.done()
    assert sent_numbers(link) == []


async def test_a_lost_link_ends_the_sender_quietly_and_wakes_who_waits_for_room():
    link, sender = make()
    link.hold()
    async with at_work(sender.run()) as (task,):
        sender.tell(Ping(0))
        await turns()
        for number in range(LIMIT):
            sender.tell(Ping(number))
        waiting = asyncio.get_running_loop().create_task(sender.wait_room())
        await turns()
        assert not waiting.done()
        link.abort()
        await waiting
        assert task.done()
    sender.tell(Ping(1))
    sender.finish()


async def test_a_cancelled_sender_sends_no_more():
    link, sender = make()
    link.hold()
    task = asyncio.get_running_loop().create_task(sender.run())
    sender.tell(Ping(0))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    sender.tell(Ping(1))
    assert link.sent == []
    assert await has_room(sender)
