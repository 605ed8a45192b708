import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pipesd.actors.link import Link
from pipesd.errors import LinkError
from pipesd.lab.clock import run_virtually
from pipesd.lab.emulator import both_ways
from pipesd.lab.faults import HONEST, TAMPERING, FaultModel, LinkFault, spoilt
from pipesd.lab.link import CUT_BY_FAULT, LinkModel, MemoryLink, memory_link
from pipesd.lab.storm import Storm
from tests.contracts.links import check_link, read_to_end

DIAL_UP = LinkModel(delay_s=0.1, message_s=0.001, bytes_per_s=5_000.0)
MODELS = {
    "ideal": LinkModel(),
    "distant": LinkModel(delay_s=0.3),
    "slow": DIAL_UP,
    "lucky": LinkModel(delay_s=0.1, jitter_s=0.2, loss=0.1, outages=((0.2, 0.4),)),
}


def pairs_of(model: LinkModel) -> Callable[[], AbstractAsyncContextManager[tuple[Link, Link]]]:
    @asynccontextmanager
    async def make_pair() -> AsyncIterator[tuple[Link, Link]]:
        yield memory_link(model, model)

    return make_pair


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_memory_keeps_the_contract_of_links(model: LinkModel):
    run_virtually(check_link(pairs_of(model)))


def now() -> float:
    return asyncio.get_running_loop().time()


async def arrivals(link: MemoryLink) -> list[tuple[float, bytes]]:
    seen = []
    while data := await link.receive():
        seen.append((now(), data))
    return seen


def test_occupancy_delay_and_order_are_as_computed_by_hand():
    async def main() -> tuple[list[float], list[tuple[float, bytes]]]:
        ours, theirs = memory_link(LinkModel(delay_s=0.05, message_s=0.01, bytes_per_s=1_000.0), LinkModel())
        async with asyncio.TaskGroup() as group:
            seen = group.create_task(arrivals(theirs))
            taken = []
            for data in (b"x" * 10, b"y" * 30, b"z"):
                await ours.send(data)
                taken.append(now())
            await ours.end()
        return taken, seen.result()

    taken, seen = run_virtually(main())
    assert taken == [0.02, 0.06, 0.071]
    assert seen == [(0.07, b"x" * 10), (0.11, b"y" * 30), (0.121, b"z")]


def test_an_idle_link_is_free_at_once_and_a_busy_one_later():
    async def main() -> list[tuple[float, bytes]]:
        ours, theirs = memory_link(LinkModel(message_s=0.5), LinkModel())
        async with asyncio.TaskGroup() as group:
            seen = group.create_task(arrivals(theirs))
            await asyncio.sleep(10)
            group.create_task(ours.send(b"first"))
            group.create_task(ours.send(b"second"))
            await asyncio.sleep(10)
            await ours.send(b"third")
            await ours.end()
        return seen.result()

    assert run_virtually(main()) == [(10.5, b"first"), (11.0, b"second"), (20.5, b"third")]


def test_each_direction_has_its_own_model():
    async def main() -> tuple[float, float]:
        edge, cloud = memory_link(LinkModel(delay_s=1.0), LinkModel(delay_s=0.25))
        await edge.send(b"up")
        await cloud.receive()
        up = now()
        await cloud.send(b"down")
        await edge.receive()
        return up, now() - up

    assert run_virtually(main()) == (1.0, 0.25)


def test_the_end_arrives_after_what_is_on_its_way():
    async def main() -> tuple[bytes, float]:
        ours, theirs = memory_link(LinkModel(delay_s=2.0), LinkModel())
        await ours.send(b"last")
        await ours.send(b" words")
        await ours.end()
        return await read_to_end(theirs), now()

    assert run_virtually(main()) == (b"last words", 2.0)


def test_a_cut_loses_what_is_on_its_way():
    async def main() -> None:
        ours, theirs = memory_link(LinkModel(delay_s=2.0), LinkModel())
        await ours.send(b"lost")
        ours.abort()
        with pytest.raises(LinkError):
            await theirs.receive()

    run_virtually(main())


def test_occupancy_counts_the_message_and_its_bytes():
    assert LinkModel().occupancy_s(1_000_000) == 0.0
    assert DIAL_UP.occupancy_s(0) == 0.001
    assert DIAL_UP.occupancy_s(5_000) == pytest.approx(1.001)


def test_a_message_upward_is_charged_for_what_it_is_said_to_count():
    async def main() -> list[float]:
        model = LinkModel(bytes_per_s=10.0)
        edge, cloud = memory_link(model, model, up_bytes=lambda data: 100 * len(data))
        taken = []
        for link in (edge, cloud):
            await link.send(b"xx")
            taken.append(now())
        return taken

    assert run_virtually(main()) == [20.0, 20.2]


LUCKY = LinkModel(delay_s=0.1, message_s=0.01, jitter_s=0.05, loss=0.2, outages=((0.1, 0.3),))


async def lucky_arrivals(seed: int) -> list[list[tuple[float, bytes]]]:
    """At the cloud and at the edge, of the same messages both ways."""
    edge, cloud = memory_link(LUCKY, LUCKY, seed=seed)

    async def say(link: MemoryLink) -> None:
        for number in range(30):
            await link.send(b"%d" % number)
        await link.end()

    async with asyncio.TaskGroup() as group:
        seen = [group.create_task(arrivals(link)) for link in (cloud, edge)]
        for link in (edge, cloud):
            group.create_task(say(link))
    return [task.result() for task in seen]


def test_a_lucky_link_keeps_the_order_and_the_emulators_moments():
    seen = run_virtually(lucky_arrivals(7))
    for emulator, there in zip(both_ways(LUCKY, LUCKY, 7), seen, strict=True):
        expected, free_at = [], 0.0
        for number in range(30):
            free_at, arrival = emulator.send(free_at, len(b"%d" % number))
            expected.append(arrival)
        assert [data for _, data in there] == [b"%d" % number for number in range(30)]
        assert [moment for moment, _ in there] == pytest.approx(expected, abs=1e-8)


def test_the_seed_fixes_what_happens_and_the_directions_differ():
    first = run_virtually(lucky_arrivals(1))
    assert first == run_virtually(lucky_arrivals(1))
    assert first != run_virtually(lucky_arrivals(2))
    assert first[0] != first[1]


# -- faults -------------------------------------------------------------------------------------------------

WAY = LinkModel(delay_s=0.1)
MESSAGE = b"a message of some length"
CALM = FaultModel(every_s=86_400.0)
"""Nothing comes by itself in time; what is called for is ``CALM.fault(kind, 0.0, 0)``."""

LONG_S = FaultModel(every_s=86_400.0, stall_s=(3.0, 3.0), delay_s=(3.0, 3.0))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", [MODELS["distant"], MODELS["lucky"]], ids=["distant", "lucky"])
def test_stalls_and_delays_break_no_promise_of_links(model: LinkModel, seed: int):
    """An end that went away is noticed in the end, though not at once."""
    weights = {"stall": 1.0, "delay": 1.0}
    storm = Storm(FaultModel(every_s=0.02, weights=weights, seed=seed, stall_s=(0.001, 0.05)))

    @asynccontextmanager
    async def make_pair() -> AsyncIterator[tuple[Link, Link]]:
        edge, cloud = memory_link(model, model, seed=seed, storm=storm)
        yield edge, cloud
        for link in (edge, cloud):
            link.abort()

    run_virtually(check_link(make_pair))
    assert min(storm.injected[kind] for kind in weights) > 3


async def heard(link: MemoryLink) -> tuple[list[tuple[float, bytes]], str]:
    """What arrives and when, and how it ends."""
    seen = []
    try:
        while data := await link.receive():
            seen.append((now(), data))
    except LinkError as error:
        return seen, str(error)
    return seen, "the end"


def struck(
    kind: str, model: FaultModel = CALM, *, at: float = 0.5
) -> tuple[LinkFault, list[tuple[list[tuple[float, bytes]], str]]]:
    """A fault, and what was heard in the direction that it strikes, and in the other.

    A message leaves each end each second; each ends its direction after three, whatever it hears.
    """
    fault = model.fault(kind, at, 0)

    async def say(link: MemoryLink) -> None:
        try:
            for _ in range(3):
                await link.send(MESSAGE)
                await asyncio.sleep(1.0)
            await link.end()
        except LinkError as error:
            assert str(error) == CUT_BY_FAULT  # noqa: PT017 - one of two ways in which this may go

    async def main() -> list[tuple[list[tuple[float, bytes]], str]]:
        storm = Storm(model)
        ends = memory_link(WAY, WAY, storm=storm)
        asyncio.get_running_loop().call_at(at, storm.strike, kind)
        async with asyncio.TaskGroup() as group:
            for link in ends:
                group.create_task(say(link))
            tasks = [group.create_task(heard(link)) for link in ends]
        assert (storm.drawn, storm.injected) == (1, {kind: 1})
        at_edge, at_cloud = (task.result() for task in tasks)
        return [at_cloud, at_edge] if fault.direction == "up" else [at_edge, at_cloud]

    return fault, run_virtually(main())


UNHARMED = [(0.1, MESSAGE), (1.1, MESSAGE), (2.1, MESSAGE)], "the end"


def test_a_fault_that_cuts_is_told_to_both_ends_and_takes_what_is_on_its_way():
    _, both = struck("cut", at=1.05)
    assert both == [([(0.1, MESSAGE)], CUT_BY_FAULT)] * 2


def test_a_reset_is_told_to_both_ends_behind_a_part_of_a_message():
    fault, (there, here) = struck("reset")
    part = spoilt(fault, MESSAGE)
    assert 0 < len(part) < len(MESSAGE)
    assert there == ([(0.1, MESSAGE), (1.1, part)], CUT_BY_FAULT)
    assert here[0] in ([(0.1, MESSAGE)], [(0.1, MESSAGE), (1.1, MESSAGE)])
    assert here[1] == CUT_BY_FAULT


def test_in_a_stall_nothing_passes_and_then_all_of_it_does():
    _, both = struck("stall", LONG_S)
    assert both == [([(0.1, MESSAGE), (3.5, MESSAGE), (3.5, MESSAGE)], "the end")] * 2


def test_after_a_half_close_the_other_direction_goes_on():
    _, (there, here) = struck("half-close")
    assert there == ([(0.1, MESSAGE)], "the end")
    assert here == UNHARMED


def test_a_delay_makes_one_message_late_and_those_behind_it_wait():
    _, (there, here) = struck("delay", LONG_S)
    assert there == ([(0.1, MESSAGE), (4.1, MESSAGE), (4.1, MESSAGE)], "the end")
    assert here == UNHARMED


@pytest.mark.parametrize("kind", TAMPERING)
def test_tampering_changes_one_message_in_one_direction(kind: str):
    fault, (there, here) = struck(kind)
    changed = spoilt(fault, MESSAGE)
    assert changed != MESSAGE
    assert there == ([(0.1, MESSAGE), (1.1, changed), (2.1, MESSAGE)], "the end")
    assert here == UNHARMED


def test_who_aborts_in_a_stall_is_gone_at_once_and_missed_later():
    """A half-open connection: the other end sends on, is not heard, and hears nothing."""

    async def main() -> None:
        storm = Storm(LONG_S)
        edge, cloud = memory_link(WAY, WAY, storm=storm)
        storm.strike("stall")
        await edge.send(b"lost")
        edge.abort("gone")
        for work in (edge.receive(), edge.send(b"x")):
            with pytest.raises(LinkError, match="gone"):
                await work
        await cloud.send(b"not heard")
        with pytest.raises(LinkError, match="gone"):
            await cloud.receive()
        assert now() == 3.0
        with pytest.raises(LinkError, match="gone"):
            await cloud.send(b"x")

    run_virtually(main())


def test_a_send_that_waits_for_the_link_hears_of_a_cut():
    async def main() -> None:
        storm = Storm(CALM)
        edge, _ = memory_link(DIAL_UP, DIAL_UP, storm=storm)
        asyncio.get_running_loop().call_later(1.0, storm.strike, "cut")
        with pytest.raises(LinkError, match=r"connection was lost \(a fault of the lab\)"):
            await edge.send(bytes(1_000_000))
        assert now() == 1.0

    run_virtually(main())


def test_what_has_arrived_before_a_cut_can_be_read_behind_it():
    async def main() -> None:
        storm = Storm(CALM)
        edge, cloud = memory_link(WAY, WAY, storm=storm)
        await edge.send(b"arrived")
        await asyncio.sleep(0.2)
        await edge.send(b"on its way")
        storm.strike("cut")
        assert await cloud.receive() == b"arrived"
        for _ in range(3):
            with pytest.raises(LinkError, match="a fault of the lab"):
                await cloud.receive()
        cloud.abort("closed")
        with pytest.raises(LinkError):
            await cloud.receive()

    run_virtually(main())


async def transfer(number: int, **model: Any) -> tuple[bytes, bytes, Storm]:
    storm = Storm(FaultModel(every_s=0.05, **model))
    edge, cloud = memory_link(WAY, WAY, storm=storm)

    async def say(link: MemoryLink) -> None:
        for count in range(number):
            await link.send(b"message %d;" % count)
            await asyncio.sleep(0.01)
        await link.end()

    async with asyncio.TaskGroup() as group:
        for link in (edge, cloud):
            group.create_task(say(link))
        up, down = (group.create_task(read_to_end(link)) for link in (cloud, edge))
    return up.result(), down.result(), storm


@pytest.mark.parametrize("seed", range(5))
def test_a_long_transfer_arrives_unchanged_through_delays_and_stalls(seed: int):
    weights = {"delay": 2.0, "stall": 1.0}
    up, down, storm = run_virtually(
        transfer(5_000, weights=weights, seed=seed, stall_s=(0.01, 0.2), delay_s=(0.01, 0.2))
    )
    assert up == down == b"".join(b"message %d;" % count for count in range(5_000))
    assert storm.injected["delay"] > 100
    assert storm.injected["stall"] > 100


@pytest.mark.parametrize("kinds", [HONEST, TAMPERING], ids=["honest", "tampering"])
def test_over_many_links_the_seed_fixes_every_byte_and_moment(kinds: tuple[str, ...]):
    """One storm over reconnects: it strikes new links in their first moments, too."""

    async def main(seed: int) -> tuple[list[object], Storm]:
        storm, seen = (
            Storm(FaultModel(every_s=0.4, weights=dict.fromkeys(kinds, 1.0), seed=seed)),
            list[object](),
        )
        while now() < 60.0:
            edge, cloud = memory_link(WAY, WAY, storm=storm)
            async with asyncio.TaskGroup() as group:
                for link in (edge, cloud):
                    group.create_task(say(link))
                tasks = [group.create_task(heard(link)) for link in (edge, cloud)]
            seen += [task.result() for task in tasks]
            edge.abort()
        return seen, storm

    async def say(link: MemoryLink) -> None:
        try:
            for number in range(30):
                await link.send(b"message %d" % number)
                await asyncio.sleep(0.05)
        except LinkError:
            return
        await link.end()

    seen, storm = run_virtually(main(1))
    again, other = run_virtually(main(1)), run_virtually(main(2))
    assert (seen, storm.injected) == (again[0], again[1].injected)
    assert seen != other[0]
    assert set(storm.injected) == set(kinds)
    assert storm.injected.total() == pytest.approx(60.0 / 0.4, rel=0.25)
