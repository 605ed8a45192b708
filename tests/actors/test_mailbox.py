import asyncio

import pytest

from pipesd.actors.mailbox import Mailbox, MailboxFullError
from tests.actors.helpers import at_work, turns


async def test_items_come_out_in_the_order_they_went_in():
    box: Mailbox[int] = Mailbox("numbers", 4)
    box.tell(1)
    await box.report(2)
    box.tell(3)
    assert len(box) == 3
    assert [await box.next() for _ in range(3)] == [1, 2, 3]
    assert len(box) == 0


async def test_a_command_without_room_is_an_error_that_names_the_mailbox():
    box: Mailbox[int] = Mailbox("sender", 2)
    box.tell(1)
    box.tell(2)
    with pytest.raises(MailboxFullError, match="sender is at its limit of 2"):
        box.tell(3)
    assert await box.next_all() == [1, 2]


async def test_a_report_waits_for_room_and_others_are_served_in_order():
    box: Mailbox[str] = Mailbox("events", 1)
    box.tell("first")
    async with at_work(box.report("second"), box.report("third")) as reporters:
        assert len(box) == 1
        assert [await box.next() for _ in range(3)] == ["first", "second", "third"]
        await turns()
        assert all(reporter.done() for reporter in reporters)


async def test_next_all_waits_for_one_and_takes_what_there_is():
    box: Mailbox[int] = Mailbox("numbers", 3)
    taking = asyncio.get_running_loop().create_task(box.next_all())
    await turns()
    assert not taking.done()
    for number in range(3):
        box.tell(number)
    assert await taking == [0, 1, 2]


async def test_one_who_reports_without_pause_leaves_room_for_the_others():
    limit = 8
    box: Mailbox[str] = Mailbox("events", limit)

    async def flood() -> None:
        while True:
            await box.report("flood")

    async def speak_once() -> None:
        await box.report("word")

    async with at_work(flood(), speak_once()):
        taken = [await box.next() for _ in range(20 * limit)]
    assert "word" in taken


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_cancelled_wait_for_an_item_loses_nothing(cancelled_first: bool):
    box: Mailbox[int] = Mailbox("numbers", 2)
    async with at_work(swallow(box)) as (taker,):
        await turns()
        if cancelled_first:
            taker.cancel()
        box.tell(7)
        taker.cancel()
        await turns()
        assert taker.cancelled()
    assert await box.next_all() == [7]


async def test_two_cannot_wait_at_once():
    box: Mailbox[int] = Mailbox("numbers", 2)
    async with at_work(swallow(box)):
        await turns()
        with pytest.raises(AssertionError, match="two wait for mailbox numbers"):
            await box.next()
        box.tell(1)


async def test_who_was_woken_for_what_another_took_waits_on():
    box: Mailbox[int] = Mailbox("numbers", 2)
    async with at_work(swallow(box)) as (taker,):
        await turns()
        box.tell(1)
        assert await box.next() == 1
        await turns()
        assert not taker.done()
        box.tell(2)
        await turns()
        assert taker.done()
    assert len(box) == 0


async def swallow(box: Mailbox[int]) -> None:
    await box.next()


async def test_a_report_that_was_let_in_and_cancelled_at_once_leaves_its_room_to_the_next():
    box: Mailbox[int] = Mailbox("numbers", 1)
    box.tell(1)
    async with at_work(box.report(2), box.report(3)) as reporters:
        await turns()
        assert await box.next() == 1
        reporters[0].cancel()
        await turns()
        assert reporters[1].done()
        assert await box.next_all() == [3]


async def test_a_cancelled_report_reports_nothing_and_wakes_the_next():
    box: Mailbox[int] = Mailbox("numbers", 1)
    box.tell(1)
    async with at_work(box.report(2), box.report(3)) as reporters:
        reporters[0].cancel()
        assert await box.next() == 1
        assert await box.next() == 3
