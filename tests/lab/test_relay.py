"""The arithmetic in virtual time with faked ends; the rest on real sockets, where nothing is timed."""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from pipesd.actors.link import Link, TcpLink, listening, open_tcp_link
from pipesd.errors import ConfigError, LinkError
from pipesd.lab import relay
from pipesd.lab.clock import run_virtually
from pipesd.lab.emulator import LinkEmulator, LinkModel
from pipesd.lab.relay import Way, precise_loop, relaying
from tests.actors.helpers import PATIENCE_S, run_on, turns, until
from tests.contracts.links import check_link, read_to_end

HOST = "127.0.0.1"
IDEAL = LinkModel()
QUICK = LinkModel(delay_s=0.001, message_s=0.0001, bytes_per_s=1e9)
LUCKY = LinkModel(
    delay_s=0.05,
    message_s=0.01,
    jitter_s=0.03,
    loss=0.2,
    outages=((1.0, 1.5),),
    changes_every_s=0.4,
    drawn_bytes_per_s=(500.0, 2_000.0),
)

Moments = list[tuple[float, bytes]]


def now() -> float:
    return asyncio.get_running_loop().time()


# -- the arithmetic -----------------------------------------------------------------------------------------


class Source:
    """Has messages waiting, each from a moment on, and is read as a socket is: in the loop's next turn."""

    def __init__(self, *messages: tuple[float, bytes]) -> None:
        self._messages = deque(messages)
        self._reads = False
        self.way: Way
        self.taken: Moments = []

    def read_on(self, is_wanted: bool) -> None:
        self._reads = is_wanted
        if is_wanted and self._messages:
            asyncio.get_running_loop().call_at(self._messages[0][0], self._read)

    def _read(self) -> None:
        if not self._reads:
            return
        _, data = self._messages.popleft()
        if not data:
            self.way.take_end()
            return
        self.taken.append((now(), data))
        self.way.take(data)

    def write(self, data: bytes) -> None:
        raise AssertionError(f"{data!r} came the wrong way")

    def write_end(self) -> None:
        raise AssertionError("an end came the wrong way")


class Sink(Source):
    """Notes what arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: Moments = []
        self.ended = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.arrived.append((now(), data))

    def write_end(self) -> None:
        self.arrived.append((now(), b""))
        self.ended.set()


async def passed(emulator: LinkEmulator, *messages: tuple[float, bytes]) -> tuple[Moments, Moments]:
    """When messages were read, and when they arrived."""
    source, sink = Source(*messages), Sink()
    source.way = Way(emulator, source, sink, began=now())
    source.way.begin()
    await sink.ended.wait()
    return source.taken, sink.arrived


def test_a_message_is_read_when_the_one_before_has_left_and_written_when_it_arrives():
    emulator = LinkEmulator(LinkModel(delay_s=0.05, message_s=0.01, bytes_per_s=1_000.0))
    messages = (0.0, b"x" * 10), (0.0, b"y" * 30), (0.5, b"z"), (0.505, b"")
    taken, arrived = run_virtually(passed(emulator, *messages))
    assert taken == [(0.0, b"x" * 10), (0.02, b"y" * 30), (0.5, b"z")]
    assert arrived == [(0.07, b"x" * 10), (0.11, b"y" * 30), (0.561, b"z"), (0.561, b"")]


@pytest.mark.parametrize("seed", range(5))
def test_the_relay_keeps_to_the_emulator_whatever_the_link_does(seed: int):
    messages = [
        (number * 0.013 % 0.7 + number // 50, bytes([number]) * (number + 1)) for number in range(150)
    ]
    messages.sort()
    alone = LinkEmulator(LUCKY, seed)
    expected = [alone.send(moment, len(data))[1] for moment, data in messages]
    end = alone.end(3.0)
    taken, arrived = run_virtually(passed(LinkEmulator(LUCKY, seed), *messages, (3.0, b"")))
    assert [data for _, data in taken] == [data for _, data in messages]
    assert [data for _, data in arrived] == [data for _, data in messages] + [b""]
    assert [moment for moment, _ in arrived] == pytest.approx([*expected, max(end, expected[-1])], abs=5e-9)


def test_time_counts_from_the_beginning_of_the_link():
    async def main() -> Moments:
        await asyncio.sleep(100.0)
        model = LinkModel(delay_s=1.0, outages=((5.0, 9.0),))
        return (await passed(LinkEmulator(model), (106.0, b"late"), (106.0, b"")))[1]

    assert run_virtually(main()) == [(110.0, b"late"), (110.0, b"")]


@pytest.mark.parametrize(
    ("late_s", "second", "third"),
    [(0.0004, (1.0004, 2.0), (2.0006, 3.0006)), (0.3, (1.3, 2.299), (2.7, 3.7))],
    ids=["a little", "much"],
)
def test_a_message_that_waited_for_the_link_does_not_pay_for_a_timer_that_was_a_little_late(
    late_s: float, second: tuple[float, float], third: tuple[float, float]
):
    class LateWay(Way):
        def _free(self) -> None:
            asyncio.get_running_loop().call_later(late_s, super()._free)

    async def main() -> tuple[Moments, Moments]:
        messages = (0.0, b"one"), (0.0, b"two"), (third[0], b"three"), (5.0, b"")
        source, sink = Source(*messages), Sink()
        source.way = LateWay(LinkEmulator(LinkModel(message_s=1.0)), source, sink, began=0.0)
        source.way.begin()
        await sink.ended.wait()
        return source.taken, sink.arrived

    taken, arrived = run_virtually(main())
    assert taken == [(0.0, b"one"), (second[0], b"two"), (third[0], b"three")]
    assert arrived == [(1.0, b"one"), (second[1], b"two"), (third[1], b"three"), (5.0, b"")]


def test_a_link_that_costs_no_time_never_falls_behind():
    """However fast messages follow each other, each travels as long as it should."""

    class Stream(Source):
        def __init__(self, number: int) -> None:
            super().__init__(*[(0.0, b"x")] * number, (0.0, b""))

        def _read(self) -> None:
            asyncio.get_running_loop()._jumper.now_ns += 50_000  # type: ignore[attr-defined]
            super()._read()

    async def main() -> tuple[Moments, Moments]:
        source, sink = Stream(200), Sink()
        source.way = Way(LinkEmulator(LinkModel(delay_s=0.02)), source, sink, began=0.0)
        source.way.begin()
        await sink.ended.wait()
        return source.taken, sink.arrived

    taken, arrived = run_virtually(main())
    travelled = [there - here for (here, _), (there, _) in zip(taken, arrived, strict=False)]
    assert len(travelled) == 200
    assert all(0.02 - 0.001 - 1e-9 <= each <= 0.02 + 1e-4 for each in travelled)


def test_nothing_is_read_while_the_sink_is_slow():
    async def main() -> tuple[Moments, Moments]:
        source, sink = Source((0.0, b"one"), (1.0, b"two"), (1.0, b"")), Sink()
        source.way = Way(LinkEmulator(IDEAL), source, sink, began=0.0)
        source.way.begin()
        await asyncio.sleep(0.5)
        source.way.hold(True)
        await asyncio.sleep(6.5)
        source.way.hold(False)
        await sink.ended.wait()
        return source.taken, sink.arrived

    assert run_virtually(main()) == (
        [(0.0, b"one"), (7.0, b"two")],
        [(0.0, b"one"), (7.0, b"two"), (7.0, b"")],
    )


def test_what_travels_has_a_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relay, "TRAVELLING_BYTES_MAX", 5)
    emulator = LinkEmulator(LinkModel(delay_s=1.0))
    messages = [(0.0, b"abc")] * 4
    taken, arrived = run_virtually(passed(emulator, *messages, (0.0, b"")))
    assert [moment for moment, _ in taken] == [0.0, 0.0, 1.0, 1.0]
    assert [moment for moment, _ in arrived] == [1.0, 1.0, 2.0, 2.0, 3.0]


def test_a_closed_way_lets_nothing_happen():
    async def main() -> tuple[Moments, Moments]:
        source, sink = Source((0.0, b"one"), (0.0, b"two")), Sink()
        source.way = Way(LinkEmulator(LinkModel(delay_s=1.0, message_s=1.0)), source, sink, began=0.0)
        source.way.begin()
        await asyncio.sleep(0.5)
        source.way.close()
        await asyncio.sleep(100.0)
        return source.taken, sink.arrived

    assert run_virtually(main()) == ([(0.0, b"one")], [])


# -- real sockets -------------------------------------------------------------------------------------------


def run(main: Coroutine[Any, Any, None]) -> None:
    run_on(precise_loop, main)


@asynccontextmanager
async def pair(
    up: LinkModel = IDEAL, down: LinkModel = IDEAL, **how: Any
) -> AsyncIterator[tuple[Link, Link]]:
    """The ends of a relayed connection."""
    accepted: asyncio.Queue[Link] = asyncio.Queue()
    async with (
        listening(HOST, 0, accepted.put_nowait) as upstream,
        relaying((HOST, 0), upstream, up, down, **how) as address,
    ):
        edge = await open_tcp_link(*address, PATIENCE_S)
        cloud = await accepted.get()
        try:
            yield edge, cloud
        finally:
            edge.abort()
            cloud.abort()
            await turns()


def test_a_relayed_connection_keeps_the_contract_of_links():
    run(check_link(pair))


def test_small_messages_cross_one_by_one():
    async def main() -> None:
        async with pair(QUICK, QUICK) as (edge, cloud):
            for number in range(50):
                await edge.send(b"question %d" % number)
                assert await cloud.receive() == b"question %d" % number
                await cloud.send(b"answer %d" % number)
                assert await edge.receive() == b"answer %d" % number

    run(main())


@pytest.mark.parametrize(
    "model", [IDEAL, LinkModel(delay_s=0.01, bytes_per_s=2e8)], ids=["ideal", "modelled"]
)
def test_much_arrives_whole_while_the_other_direction_works_too(model: LinkModel):
    much, other = bytes(range(256)) * 20_000, bytes(range(255)) * 20_000

    async def send(link: Link, data: bytes) -> None:
        await link.send(data)
        await link.end()

    async def main() -> None:
        async with pair(model, model) as (edge, cloud), asyncio.TaskGroup() as group:
            group.create_task(send(edge, much))
            group.create_task(send(cloud, other))
            up, down = group.create_task(read_to_end(cloud)), group.create_task(read_to_end(edge))
            assert await up == much
            assert await down == other

    run(main())


def test_who_sends_feels_that_nobody_reads():
    much = bytes(20_000_000)

    async def main() -> None:
        async with pair() as (edge, cloud), asyncio.TaskGroup() as group:
            sending = group.create_task(edge.send(much))
            await turns(2_000)
            assert not sending.done()
            reading = group.create_task(read_to_end(cloud))
            await sending
            await edge.end()
            assert len(await reading) == len(much)

    run(main())


def test_who_sends_feels_that_the_link_is_busy():
    """What the link charges for is not only what it carries."""
    charged: list[int] = []

    def charge(data: bytes) -> int:
        charged.append(len(data))
        return 10**9

    async def main() -> None:
        slow = LinkModel(bytes_per_s=1_000.0)
        async with pair(slow, charge=lambda: charge) as (edge, _), asyncio.TaskGroup() as group:
            sending = group.create_task(edge.send(bytes(20_000_000)))
            await until(lambda: bool(charged))
            await turns(2_000)
            assert not sending.done()
            sending.cancel()
        assert len(charged) == 1
        assert charged[0] <= 1 << 16

    run(main())


def test_an_end_passes_through_and_the_other_direction_goes_on():
    async def main() -> None:
        async with pair(QUICK, QUICK) as (edge, cloud):
            await edge.send(b"last words")
            await edge.end()
            assert await read_to_end(cloud) == b"last words"
            for word in (b"but", b"I", b"go", b"on"):
                await cloud.send(word)
                assert await edge.receive() == word
            await cloud.end()
            assert await read_to_end(edge) == b""

    run(main())


def reset(link: Link) -> None:
    assert isinstance(link, TcpLink)
    connection = link._writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    link.abort()


@pytest.mark.parametrize("breaks", ["edge", "cloud"])
def test_a_reset_passes_through_as_one(breaks: str):
    async def main() -> None:
        async with pair() as (edge, cloud):
            await edge.send(b"hello")
            assert await cloud.receive() == b"hello"
            ours, theirs = (edge, cloud) if breaks == "edge" else (cloud, edge)
            reset(ours)
            with pytest.raises(LinkError, match="connection was lost"):
                await theirs.receive()

    run(main())


def test_a_peer_that_went_away_is_noticed_by_who_still_sends():
    async def main() -> None:
        async with pair() as (edge, cloud):
            edge.abort()
            with pytest.raises(LinkError):
                await send_for_ever(cloud)

    async def send_for_ever(link: Link) -> None:
        while True:
            await link.send(b"are you there?")
            await asyncio.sleep(0)

    run(main())


def test_each_connection_is_a_link_of_its_own_with_the_same_luck_and_clock(monkeypatch: pytest.MonkeyPatch):
    links: list[tuple[LinkModel, LinkModel, int]] = []
    clocks: list[float] = []
    charges: list[list[bytes]] = []

    def charge() -> Callable[[bytes], int]:
        seen: list[bytes] = []
        charges.append(seen)

        def count(data: bytes) -> int:
            seen.append(data)
            return 0

        return count

    def both_ways(up: LinkModel, down: LinkModel, seed: int) -> tuple[LinkEmulator, LinkEmulator]:
        links.append((up, down, seed))
        return LinkEmulator(up, seed), LinkEmulator(down, seed)

    class NotedWay(Way):
        def __init__(self, *given: Any, began: float, **named: Any) -> None:
            clocks.append(began)
            super().__init__(*given, began=began, **named)

    monkeypatch.setattr(relay, "both_ways", both_ways)
    monkeypatch.setattr(relay, "Way", NotedWay)

    async def main() -> None:
        accepted: asyncio.Queue[Link] = asyncio.Queue()
        async with (
            listening(HOST, 0, accepted.put_nowait) as upstream,
            relaying((HOST, 0), upstream, QUICK, IDEAL, seed=3, charge=charge) as address,
        ):
            edges = [await open_tcp_link(*address, PATIENCE_S) for _ in range(3)]
            clouds = [await accepted.get() for _ in range(3)]
            for number, edge in enumerate(edges):
                await edge.send(b"%d" % number)
            heard = sorted([await cloud.receive() for cloud in clouds])
            assert heard == [b"0", b"1", b"2"]
            for link in (*edges, *clouds):
                link.abort()
            await turns()
        assert sorted(charges) == [[b"0"], [b"1"], [b"2"]]
        assert links == [(QUICK, IDEAL, 3)] * 3
        assert len(clocks) == 6
        assert len(set(clocks)) == 1

    run(main())


def test_more_connections_than_there_may_be_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relay, "CONNECTIONS_MAX", 1)

    async def main() -> None:
        accepted: asyncio.Queue[Link] = asyncio.Queue()
        async with (
            listening(HOST, 0, accepted.put_nowait) as upstream,
            relaying((HOST, 0), upstream, IDEAL, IDEAL) as address,
        ):
            first = await open_tcp_link(*address, PATIENCE_S)
            cloud = await accepted.get()
            second = await open_tcp_link(*address, PATIENCE_S)
            with pytest.raises(LinkError):
                await second.receive()
            await first.end()
            await cloud.end()
            assert await read_to_end(first) == await read_to_end(cloud) == b""
            third = await open_tcp_link(*address, PATIENCE_S)
            again = await accepted.get()
            await third.send(b"now?")
            assert await again.receive() == b"now?"
            for link in (first, second, third, cloud, again):
                link.abort()
            await turns()

    run(main())


@pytest.mark.parametrize("host", [HOST, "two..dots"])
def test_a_cloud_that_is_not_there_is_said_and_the_edge_loses_its_connection(
    host: str, caplog: pytest.LogCaptureFixture
):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]

    async def main() -> None:
        async with relaying((HOST, 0), (host, port), IDEAL, IDEAL) as address:
            edge = await open_tcp_link(*address, PATIENCE_S)
            with pytest.raises(LinkError, match="connection was lost"):
                await edge.receive()
            edge.abort()
            await turns()

    with caplog.at_level(logging.WARNING, "pipesd.lab"):
        run(main())
    reason = "Connection refused" if host == HOST else "the host name is impossible"
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot connect to {host}:{port} ({reason})"
    ]


def test_leaving_cuts_what_is_still_connected():
    async def main() -> None:
        accepted: asyncio.Queue[Link] = asyncio.Queue()
        async with listening(HOST, 0, accepted.put_nowait) as upstream:
            async with relaying((HOST, 0), upstream, IDEAL, IDEAL) as address:
                edge = await open_tcp_link(*address, PATIENCE_S)
                cloud = await accepted.get()
                await edge.send(b"x")
                assert await cloud.receive() == b"x"
            for link in (edge, cloud):
                with pytest.raises(LinkError, match="connection was lost"):
                    await link.receive()
                link.abort()
            with pytest.raises(LinkError):
                await open_tcp_link(*address, PATIENCE_S)
            await turns()

    run(main())


def test_what_the_block_raises_comes_out_as_it_is():
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with pair():
                raise ZeroDivisionError

    run(main())


def test_an_address_in_use_is_the_settings_fault():
    async def main() -> None:
        with socket.create_server((HOST, 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError, match=rf"listen: .*{HOST}:{port} \(Address already in use\)"):
                async with relaying((HOST, port), (HOST, 1), IDEAL, IDEAL):
                    pytest.fail("it listens")
        with pytest.raises(ConfigError, match=r"listen: .*two..dots:0 \(the host name is impossible\)"):
            async with relaying(("two..dots", 0), (HOST, 1), IDEAL, IDEAL):
                pytest.fail("it listens")

    run(main())


def test_a_loop_with_coarse_timers_is_refused():
    async def main() -> None:
        with pytest.raises(RuntimeError, match="precise_loop"):
            async with relaying((HOST, 0), (HOST, 1), IDEAL, IDEAL):
                pytest.fail("it listens")

    run_on(uvloop.new_event_loop, main())
