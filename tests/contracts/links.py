"""What every ``actors.link.Link`` must do; each kind of link runs this in its own test file."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress

import pytest

from pipesd.actors.link import Link
from pipesd.errors import LinkError

MakePair = Callable[[], AbstractAsyncContextManager[tuple[Link, Link]]]
"""Both ends of a new link; everything is let go at the end of the block."""

SENDS_UNTIL_NOTICED = 50


async def check_link(make_pair: MakePair) -> None:
    """Fail if the links that ``make_pair`` makes break the contract."""
    for check in (
        _keeps_order_and_every_byte,
        _ends_one_direction_and_leaves_the_other,
        _says_the_end_again_and_again,
        _abort_ends_a_waiting_receive_at_both_ends,
        _abort_ends_a_waiting_send,
        _send_after_abort_is_an_error,
        _send_after_end_is_an_error,
        _end_after_abort_is_quiet_or_an_error,
        _a_peer_that_aborted_is_noticed,
        _what_is_done_twice_does_no_harm,
        _a_cancelled_receive_loses_nothing,
    ):
        async with make_pair() as (ours, theirs):
            await check(ours, theirs)


async def read_to_end(link: Link) -> bytes:
    """Everything until the end in good order."""
    received = bytearray()
    while data := await link.receive():
        received += data
    return bytes(received)


async def _is_over(link: Link) -> bool:
    """Whether there is nothing more to receive, in good order or not."""
    try:
        return not await link.receive()
    except LinkError:
        return True


async def _keeps_order_and_every_byte(ours: Link, theirs: Link) -> None:
    parts = [bytes([number % 256]) * (number * number) for number in range(1, 80)]

    async def talk(link: Link) -> None:
        for part in parts:
            await link.send(part)
        await link.end()

    async with asyncio.TaskGroup() as group:
        group.create_task(talk(ours))
        group.create_task(talk(theirs))
        heard = [group.create_task(read_to_end(link)) for link in (ours, theirs)]
    assert [task.result() for task in heard] == [b"".join(parts)] * 2


async def _ends_one_direction_and_leaves_the_other(ours: Link, theirs: Link) -> None:
    await ours.send(b"question")
    await ours.end()
    assert await read_to_end(theirs) == b"question"
    await theirs.send(b"answer")
    await theirs.end()
    assert await read_to_end(ours) == b"answer"


async def _says_the_end_again_and_again(ours: Link, theirs: Link) -> None:
    await ours.end()
    assert [await theirs.receive() for _ in range(3)] == [b""] * 3
    theirs.abort()
    assert all([await _is_over(theirs) for _ in range(3)])


async def _abort_ends_a_waiting_receive_at_both_ends(ours: Link, theirs: Link) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(_is_over(link)) for link in (ours, theirs)]
        await asyncio.sleep(0)
        ours.abort()
    assert all(task.result() for task in waiting)


async def _abort_ends_a_waiting_send(ours: Link, theirs: Link) -> None:
    async def send() -> None:
        with suppress(LinkError):
            await ours.send(bytes(20_000_000))

    started = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        await asyncio.sleep(0)
        ours.abort()
    assert asyncio.get_running_loop().time() - started < 1.0, "the send waited on"


async def _send_after_abort_is_an_error(ours: Link, theirs: Link) -> None:
    ours.abort()
    for _ in range(2):
        with pytest.raises(LinkError):
            await ours.send(b"too late")
    assert await _is_over(ours)  # time to close
    with pytest.raises(LinkError):
        await ours.send(b"much too late")


async def _send_after_end_is_an_error(ours: Link, theirs: Link) -> None:
    await ours.end()
    with pytest.raises(LinkError):
        await ours.send(b"too late")


async def _end_after_abort_is_quiet_or_an_error(ours: Link, theirs: Link) -> None:
    ours.abort()
    assert await _is_over(ours)
    with suppress(LinkError):
        await ours.end()


async def _a_peer_that_aborted_is_noticed(ours: Link, theirs: Link) -> None:
    theirs.abort()
    assert await _is_over(ours)

    async def send_on() -> None:
        for _ in range(SENDS_UNTIL_NOTICED):
            await ours.send(b"is anybody there?")
            await asyncio.sleep(0)

    with pytest.raises(LinkError):
        await send_on()
    ours.abort()
    with pytest.raises(LinkError):
        await ours.send(b"no")
    with suppress(LinkError):
        await ours.end()


async def _what_is_done_twice_does_no_harm(ours: Link, theirs: Link) -> None:
    await ours.end()
    await ours.end()
    assert await read_to_end(theirs) == b""
    ours.abort()
    ours.abort()
    assert await _is_over(ours)
    ours.abort()


async def _a_cancelled_receive_loses_nothing(ours: Link, theirs: Link) -> None:
    waiting = asyncio.get_running_loop().create_task(theirs.receive())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await ours.send(b"news")
    await ours.end()
    assert await read_to_end(theirs) == b"news"
