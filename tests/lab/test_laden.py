import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from pipesd.actors.link import Link
from pipesd.lab.clock import run_virtually
from pipesd.lab.emulator import LinkModel, LinkPhase
from pipesd.lab.laden import LadenLink, unladen
from pipesd.lab.link import memory_link
from tests.contracts.links import check_link

SLOW = LinkModel(delay_s=0.5, message_s=0.1, bytes_per_s=1_000.0, jitter_s=0.01, loss=0.1)


def test_a_laden_link_keeps_the_contract_of_links():
    @asynccontextmanager
    async def pair() -> AsyncIterator[tuple[Link, Link]]:
        ours, theirs = memory_link(LinkModel(delay_s=0.1), LinkModel(delay_s=0.1))
        yield LadenLink(ours, LinkModel(message_s=0.01), len), theirs

    run_virtually(check_link(pair))


def test_a_message_waits_at_its_own_end_for_the_bytes_it_does_not_have():
    async def main() -> tuple[list[float], list[tuple[float, bytes]]]:
        now = asyncio.get_running_loop().time
        ours, theirs = memory_link(unladen(LinkModel(delay_s=0.5)), LinkModel())
        laden = LadenLink(ours, SLOW, lambda data: 100 * len(data))
        arrived: list[tuple[float, bytes]] = []

        async def listen() -> None:
            while data := await theirs.receive():
                arrived.append((now(), data))

        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            taken = []
            for data in (b"x" * 2, b"y"):
                await laden.send(data)
                taken.append(round(now(), 6))
            await laden.end()
        return taken, [(round(when, 6), data) for when, data in arrived]

    assert run_virtually(main()) == ([0.3, 0.5], [(0.8, b"xx"), (1.0, b"y")])


def test_the_relay_keeps_what_happens_on_the_way():
    rest = unladen(SLOW)
    assert (rest.delay_s, rest.jitter_s, rest.loss) == (0.5, 0.01, 0.1)
    assert (rest.message_s, rest.bytes_per_s) == (0.0, math.inf)
    drawn = LinkModel(changes_every_s=2.0, drawn_bytes_per_s=(1.0, 2.0), outages=((1.0, 2.0),))
    assert unladen(drawn).is_plain
    phase = LinkPhase(duration_s=2.0, delay_s=0.3, message_s=0.1, bytes_per_s=10.0)
    (left,) = unladen(LinkModel(phases=(phase,))).phases
    assert left == replace(phase, message_s=0.0, bytes_per_s=math.inf)
