import asyncio
import tracemalloc
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

import pytest

from pipesd.actors.compute import Pace
from pipesd.actors.connection import ConnectionLimits
from pipesd.actors.link import Link, listening
from pipesd.errors import LinkError, RefusedError
from pipesd.lab.clock import run_virtually
from pipesd.lab.link import LinkModel, memory_link
from pipesd.observe import StatsObserver
from pipesd.session.rules import CloudRules, Patience
from pipesd.wire import frames
from pipesd.wire.codec import encode
from tests.actors.helpers import (
    ANSWER,
    HELLO,
    PATIENCE_S,
    BulkyTarget,
    FakeLink,
    Insatiable,
    LoopFactory,
    Talker,
    answer_of,
    both_loops,
    caller,
    edge_at,
    quick_plan,
    rude_caller,
    run_on,
    serving,
    turns,
    until,
    wait_answering,
)
from tests.actors.rig import EndlessTarget, Plan, edge, gateway, generate, prompt, read_all

NO_TIME = Pace(0.0)


@pytest.fixture(autouse=True)
def no_fault_of_ours(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever peers do, nothing of ours breaks, not even quietly."""
    yield
    assert [record.getMessage() for record in caplog.records] == []


# -- peers that break the protocol, over real sockets --------------------------------------------------------

BAD_PEERS = {
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", "oversized"),
    "a frame of 4 GB": (b"\xff\xff\xff\xff" + bytes(100), "oversized"),
    "no MessagePack": (b"\0\0\0\2\x91\xc1", "malformed"),
    "no known frame": (b"\0\0\0\2\x91\x7f", "malformed"),
    "a frame of the cloud's": (encode(frames.Opened(0)), "malformed"),
    "no greeting": (encode(frames.Open(0)), "out_of_phase"),
    "two greetings": (encode(HELLO) * 2, "out_of_phase"),
    "a proof that nobody asked for": (encode(HELLO) + encode(frames.Proof(b"")), "out_of_phase"),
    "no session": (encode(HELLO) + encode(frames.Close(5)), "protocol"),
}


@both_loops
def test_a_peer_that_breaks_the_protocol_is_told_and_cut_and_disturbs_nobody(loop_factory: LoopFactory):
    async def misbehave(address: tuple[str, int], data: bytes) -> list[frames.CloudFrame]:
        async with caller(address) as talker:
            await talker.link.send(data)
            return await talker.hear_all()

    async def main() -> None:
        plan = quick_plan()
        async with serving(plan) as address, asyncio.TaskGroup() as group:
            good = [group.create_task(answer_of(plan, address)) for _ in range(2)]
            bad = [group.create_task(misbehave(address, data)) for data, _ in BAD_PEERS.values()]
        assert [task.result() for task in good] == [ANSWER] * 2
        for task, (name, (_, code)) in zip(bad, BAD_PEERS.items(), strict=True):
            last = task.result()[-1]
            assert isinstance(last, frames.Fault), name
            assert (last.session, last.code) == (None, code), name

    run_on(loop_factory, main())


@both_loops
def test_another_version_is_refused(loop_factory: LoopFactory):
    async def main() -> None:
        async with serving(quick_plan()) as address, caller(address) as talker:
            await talker.say(frames.Hello(99, "from the future", 6))
            (refusal,) = await talker.hear_all()
            assert isinstance(refusal, frames.Refuse)
            assert refusal.code == "version"

    run_on(loop_factory, main())


@both_loops
def test_a_peer_that_resets_in_mid_answer_is_forgotten_and_disturbs_nobody(loop_factory: LoopFactory):
    async def main() -> None:
        plan = quick_plan()
        async with serving(plan) as address, asyncio.TaskGroup() as group:
            good = group.create_task(answer_of(plan, address))
            for _ in range(3):
                async with rude_caller(address) as talker:
                    await wait_answering(talker)
            await good
            await until(lambda: not plan.target.caches)
        assert good.result() == ANSWER

    run_on(loop_factory, main())


@both_loops
def test_a_cloud_that_resets_in_mid_answer_is_a_lost_link_for_the_edge(loop_factory: LoopFactory):
    accepted: list[Link] = []
    plan = quick_plan(target=EndlessTarget(), always_right=True)

    async def ask(address: tuple[str, int], pieces_first: int) -> None:
        async with edge_at(plan, address) as runtime:
            stream = runtime.start(prompt(runtime.open_session(), [1], tokens_max=5_000))
            for _ in range(pieces_first):
                await stream.next()
            accepted[-1].abort()
            await read_all(stream)

    async def main() -> None:
        async with gateway(plan) as served:

            def accept(link: Link) -> None:
                accepted.append(link)
                served.accept(link)

            async with listening("127.0.0.1", 0, accept) as address:
                for pieces_first in range(1, 5):
                    with pytest.raises(LinkError):
                        await ask(address, pieces_first)

    run_on(loop_factory, main())


# -- peers that take without end -----------------------------------------------------------------------------


@both_loops
def test_a_peer_that_sends_and_never_reads_is_cut_and_disturbs_nobody(loop_factory: LoopFactory):
    async def main() -> None:
        plan = quick_plan(target=BulkyTarget())
        greedy = Insatiable(frames.BlockWanted(0), at_once=300)
        async with serving(plan) as address, asyncio.TaskGroup() as group:
            group.create_task(greedy.run(address))
            answers = [await answer_of(plan, address)]
            await greedy.cut.wait()
            answers.append(await answer_of(plan, address))
        assert answers == [ANSWER] * 2

    tracemalloc.start()
    try:
        run_on(loop_factory, main())
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@both_loops
def test_a_flood_that_needs_no_reply_leaves_room_for_others(loop_factory: LoopFactory):
    async def main() -> None:
        plan = quick_plan()
        flood = Insatiable(frames.Pong(1), at_once=1_500)
        async with serving(plan) as address, asyncio.TaskGroup() as group:
            flooding = group.create_task(flood.run(address))
            await until(lambda: flood.sent > 10_000)
            async with asyncio.timeout(PATIENCE_S / 2), edge_at(plan, address) as runtime:
                assert await generate(runtime, [1, 2], tokens_max=4) == ANSWER[:4]
            flooding.cancel()

    run_on(loop_factory, main())


def test_a_flood_is_not_served_before_everybody_else():
    pongs = encode(frames.Pong(1)) * 9_000

    async def main() -> tuple[list[int], int]:
        stats = StatsObserver()
        plan = Plan(observers=[stats], draft_pace=NO_TIME, pass_pace=NO_TIME)
        async with gateway(plan) as served:
            flooder, theirs = memory_link(LinkModel(), LinkModel())
            served.accept(theirs)
            await flooder.send(encode(HELLO))
            for _ in range(4):
                await flooder.send(pongs)
            async with edge(replace(plan, observers=()), served) as runtime:
                return await generate(runtime, [1, 2], tokens_max=3), stats.counts["<Pong"]

    text, pongs_first = run_virtually(main())
    assert text == ANSWER[:3]
    assert pongs_first < 18_000


def test_a_burst_of_requests_by_a_peer_that_reads_is_answered():
    count = 1_000

    async def main() -> list[frames.CloudFrame]:
        async with gateway(Plan()) as served:
            ours, theirs = memory_link(LinkModel(), LinkModel())
            served.accept(theirs)
            talker: Talker[frames.CloudFrame] = Talker(ours, frames.CloudFrame)
            await talker.say(HELLO, *(frames.Ping(number) for number in range(count)))
            return [await talker.hear() for _ in range(count + 1)][1:]

    assert run_virtually(main()) == [frames.Pong(number) for number in range(count)]


def test_a_peer_that_reads_nothing_for_too_long_is_cut_even_if_it_asks_for_little():
    async def main() -> None:
        plan = Plan()
        async with gateway(plan) as served:
            link = FakeLink()
            served.accept(link)
            link.arrive(encode(HELLO))
            await turns()
            link.hold()
            link.arrive(encode(frames.Ping(1)))
            for _ in range(60):
                await asyncio.sleep(1)
                link.arrive(encode(frames.Pong(1)))
            assert link.aborted

    run_virtually(main())


def test_replies_left_unread_stop_the_reading_and_end_it_after_the_stall():
    limits = ConnectionLimits(queued_frames=16, stall_s=5.0, stop_s=1.0)

    async def main() -> None:
        async with gateway(Plan(limits=limits)) as served:
            link = FakeLink()
            served.accept(link)
            link.arrive(encode(HELLO))
            await turns()
            link.hold()
            for number in range(60):
                link.arrive(encode(frames.Ping(number)))
                await turns()
            assert link.unread > 30
            await asyncio.sleep(4.9)
            assert not link.aborted
            await asyncio.sleep(1.2)
            assert link.aborted

    run_virtually(main())


# -- coming and going ----------------------------------------------------------------------------------------


def test_a_peer_that_says_nothing_is_given_up():
    async def main() -> None:
        patience = Patience(greeting_s=5.0)
        async with gateway(Plan(cloud_rules=CloudRules(patience=patience))) as served:
            ours, theirs = memory_link(LinkModel(), LinkModel())
            served.accept(theirs)
            (fault,) = await Talker[frames.CloudFrame](ours, frames.CloudFrame).hear_all()
            assert asyncio.get_running_loop().time() == 5.0
            assert isinstance(fault, frames.Fault)
            assert (fault.code, fault.message) == ("silent", "no greeting came within 5 s")

    run_virtually(main())


@both_loops
def test_a_socket_that_says_nothing_is_given_up_and_disturbs_nobody(loop_factory: LoopFactory):
    async def main() -> None:
        plan = quick_plan(cloud_rules=CloudRules(patience=Patience(greeting_s=0.05)))
        async with serving(plan) as address, caller(address) as talker:
            assert await answer_of(plan, address) == ANSWER
            (fault,) = await talker.hear_all()
            assert isinstance(fault, frames.Fault)
            assert fault.code == "silent"

    run_on(loop_factory, main())


@both_loops
def test_too_many_connections_are_refused_until_one_leaves(loop_factory: LoopFactory):
    async def greeted(talker: Talker[frames.CloudFrame]) -> frames.CloudFrame:
        await talker.say(HELLO)
        return await talker.hear()

    async def main() -> None:
        plan = quick_plan(cloud_rules=CloudRules(connections_max=2))
        async with serving(plan) as address, caller(address) as first:
            assert isinstance(await greeted(first), frames.Welcome)
            async with caller(address) as second:
                assert isinstance(await greeted(second), frames.Welcome)
                with pytest.raises(RefusedError, match="no connection is free") as caught:
                    await answer_of(plan, address)
                assert caught.value.retryable
            while True:
                with suppress(RefusedError):
                    assert await answer_of(plan, address) == ANSWER
                    return

    run_on(loop_factory, main())


@both_loops
def test_a_graceful_stop_in_mid_answer_says_so_and_waits_for_nobody(loop_factory: LoopFactory):
    async def main() -> None:
        plan = quick_plan(target=EndlessTarget())
        before, loop = asyncio.all_tasks(), asyncio.get_running_loop()
        async with AsyncExitStack() as peers:
            async with serving(plan) as address:
                talker = await peers.enter_async_context(caller(address))
                await wait_answering(talker)
                runtime = await peers.enter_async_context(edge_at(plan, address))
                stream = runtime.start(prompt(runtime.open_session(), [1], tokens_max=5_000))
                await stream.next()
                stopped = loop.time()
            assert loop.time() - stopped < 1.0
            with pytest.raises(LinkError, match="it is stopping"):
                await read_all(stream)
            assert any(isinstance(frame, frames.Bye) for frame in await talker.hear_all())
        assert asyncio.all_tasks() == before

    run_on(loop_factory, main())


@both_loops
def test_a_cancelled_gateway_cuts_everybody_at_once(loop_factory: LoopFactory):
    async def main() -> None:
        plan = quick_plan(target=EndlessTarget())
        before, loop = asyncio.all_tasks(), asyncio.get_running_loop()
        ready: asyncio.Future[tuple[str, int]] = loop.create_future()

        async def serve() -> None:
            async with serving(plan) as address:
                ready.set_result(address)
                await asyncio.Event().wait()

        serving_task = loop.create_task(serve())
        async with caller(await ready) as talker:
            await wait_answering(talker)
            serving_task.cancel()
            await talker.hear_all()
            with pytest.raises(asyncio.CancelledError):
                await serving_task
        assert asyncio.all_tasks() == before

    run_on(loop_factory, main())


def test_a_link_accepted_just_before_the_end_is_cut_too():
    async def main() -> None:
        ours, theirs = memory_link(LinkModel(), LinkModel())

        async def serve() -> None:
            async with gateway(Plan()) as served:
                await turns()
                served.accept(theirs)
                raise asyncio.CancelledError

        with suppress(asyncio.CancelledError):
            await serve()
        with suppress(LinkError):
            assert await ours.receive() == b""

    run_virtually(main())


def test_a_gateway_that_does_not_run_accepts_nobody():
    async def main() -> None:
        async with gateway(Plan()) as served:
            await turns()
        link = FakeLink()
        served.accept(link)
        assert link.aborted

    run_virtually(main())


def test_who_connects_while_the_gateway_stops_is_refused():
    async def main() -> None:
        link, late = FakeLink(), FakeLink()
        async with gateway(Plan()) as served:
            served.accept(link)
            link.arrive(encode(HELLO))
            await turns()
            asyncio.get_running_loop().call_later(0.5, served.accept, late)
        assert link.aborted
        assert late.aborted
        assert late.sent == [encode(frames.Refuse("stopping", "it is stopping"))]
        assert asyncio.get_running_loop().time() <= 3.0

    run_virtually(main())
