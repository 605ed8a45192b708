import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from pipesd.actors.link import Link
from pipesd.errors import LinkError
from pipesd.lab.clock import run_virtually
from pipesd.lab.emulator import both_ways
from pipesd.lab.link import LinkModel, MemoryLink, memory_link
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
