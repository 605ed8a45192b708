"""On real sockets, where nothing is timed."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pipesd import tls
from pipesd.actors.link import Link, TcpLink, Tls, listening, open_tcp_link
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.errors import ConfigError, LinkError
from pipesd.keys import LOCAL, make_pair
from pipesd.lab import relay
from pipesd.lab.emulator import LinkEmulator, LinkModel
from pipesd.lab.faults import HONEST, KINDS, TAMPERING, FaultModel, LinkFault, spoilt
from pipesd.lab.relay import precise_loop, relaying
from pipesd.lab.storm import Storm
from pipesd.lab.way import Way
from tests.actors.helpers import PATIENCE_S, run_on, turns, until
from tests.contracts.links import check_link, read_to_end

HOST = "127.0.0.1"
IDEAL = LinkModel()
QUICK = LinkModel(delay_s=0.001, message_s=0.0001, bytes_per_s=1e9)


def run(main: Coroutine[Any, Any, None]) -> None:
    run_on(precise_loop, main)


@asynccontextmanager
async def pair(
    up: LinkModel = IDEAL, down: LinkModel = IDEAL, **how: Any
) -> AsyncIterator[tuple[Link, Link]]:
    """The ends of a relayed connection."""
    accepted: asyncio.Queue[Link] = asyncio.Queue()
    at_edge, at_cloud = how.pop("tls", (None, None))
    async with (
        listening(HOST, 0, accepted.put_nowait, at_cloud) as upstream,
        relaying((HOST, 0), upstream, up, down, **how) as address,
    ):
        edge = await open_tcp_link(*address, PATIENCE_S, at_edge)
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


# -- faults -------------------------------------------------------------------------------------------------

MESSAGE = b"a message of some length"
CALM = FaultModel(every_s=86_400.0, stall_s=(0.05, 0.05), delay_s=(0.05, 0.05))
"""Nothing comes by itself in time; what is called for is ``CALM.fault(kind, 0.0, 0)``."""


def now() -> float:
    return asyncio.get_running_loop().time()


async def read(link: Link, length: int) -> bytes:
    """So much, in however many pieces it comes."""
    data = b""
    while len(data) < length:
        data += await link.receive()
    return data


@asynccontextmanager
async def struck(kind: str, **how: Any) -> AsyncIterator[tuple[Link, Link, LinkFault, float]]:
    """A link that carries something each way and then meets a fault: who sends in the direction of the fault,
    who receives, the fault, and when it was called for."""
    storm, fault = Storm(CALM), CALM.fault(kind, 0.0, 0)
    async with pair(storm=storm, **how) as (edge, cloud):
        for ours, theirs in ((edge, cloud), (cloud, edge)):
            await ours.send(b"before")
            assert await read(theirs, 6) == b"before"
        called_at = now()
        storm.strike(kind)
        yield (edge, cloud, fault, called_at) if fault.direction == "up" else (cloud, edge, fault, called_at)
        assert (storm.drawn, storm.injected) == (1, {kind: 1})


def test_a_connection_in_a_storm_that_has_no_faults_keeps_the_contract_of_links():
    run(check_link(lambda: pair(storm=Storm(CALM))))


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_cut_connection_is_lost_at_both_ends(kind: str):
    async def main() -> None:
        async with struck(kind) as (sender, receiver, fault, _):
            if kind == "reset":
                await sender.send(MESSAGE)
                part = spoilt(fault, MESSAGE)
                assert 0 < len(part) < len(MESSAGE)
                assert await receiver.receive() == part
            for link in (receiver, sender):
                with pytest.raises(LinkError, match="connection was lost"):
                    await link.receive()

    run(main())


def test_in_a_stall_nothing_passes_and_then_all_of_it_does():
    async def main() -> None:
        async with struck("stall") as (sender, receiver, _, called_at):
            for link in (sender, receiver):
                await link.send(MESSAGE)
            for link in (sender, receiver):
                assert await read(link, len(MESSAGE)) == MESSAGE
                assert now() - called_at >= 0.05
                await link.end()
            for link in (sender, receiver):
                assert await read_to_end(link) == b""

    run(main())


def test_an_end_that_went_away_in_a_stall_is_noticed_afterwards():
    async def main() -> None:
        async with struck("stall") as (ours, theirs, _, called_at):
            reset(ours)
            with pytest.raises(LinkError, match="connection was lost"):
                await theirs.receive()
            assert now() - called_at >= 0.05

    run(main())


@pytest.mark.parametrize("ends", ["in good order", "lost"])
def test_a_connection_that_is_over_is_struck_no_more(ends: str):
    async def main() -> None:
        storm = Storm(CALM)
        async with pair(storm=storm) as (edge, cloud):
            if ends == "lost":
                reset(edge)
                with pytest.raises(LinkError):
                    await cloud.receive()
            else:
                for link in (edge, cloud):
                    await link.end()
                for link in (edge, cloud):
                    assert await read_to_end(link) == b""
            for kind in ("cut", "stall", "half-close"):
                storm.strike(kind)
        assert (storm.drawn, storm.injected) == (3, {})

    run(main())


def test_after_a_half_close_the_other_direction_goes_on():
    async def main() -> None:
        async with struck("half-close") as (sender, receiver, _, _):
            assert await read_to_end(receiver) == b""
            for _ in range(3):
                await sender.send(MESSAGE)
                await receiver.send(MESSAGE)
                assert await read(sender, len(MESSAGE)) == MESSAGE
            await receiver.end()
            assert await read_to_end(sender) == b""

    run(main())


def test_a_delay_makes_one_message_late_and_those_behind_it_wait():
    async def main() -> None:
        async with struck("delay") as (sender, receiver, _, called_at):
            for link in (sender, receiver):
                await link.send(b"late")
                await link.send(b"behind")
                await link.end()
            assert await read_to_end(sender) == b"latebehind"
            assert await read_to_end(receiver) == b"latebehind"
            assert now() - called_at >= 0.05

    run(main())


@pytest.mark.parametrize("kind", TAMPERING)
def test_tampering_changes_one_message_in_one_direction(kind: str):
    async def main() -> None:
        async with struck(kind) as (sender, receiver, fault, _):
            changed = spoilt(fault, MESSAGE)
            await sender.send(MESSAGE)
            assert await read(receiver, len(changed)) == changed != MESSAGE
            for ours, theirs in ((sender, receiver), (receiver, sender)):
                await ours.send(MESSAGE)
                await ours.end()
                assert await read_to_end(theirs) == MESSAGE

    run(main())


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Tls]:
    """TLS for an edge and for a cloud."""
    folder = tmp_path_factory.mktemp("pair")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    make_pair(Path(cert), Path(key), LOCAL)
    context = tls.of_cloud(CloudConfig(tls_cert=cert, tls_key=key))
    assert context is not None
    return tls.of_edge(EdgeConfig(tls_ca=cert)), Tls(context, PATIENCE_S, PATIENCE_S)


@pytest.mark.parametrize("kind", TAMPERING)
def test_with_tls_nothing_that_was_tampered_with_is_believed(kind: str, safe: tuple[Any, Tls]):
    """What arrives is the beginning of what was sent, and then the connection breaks."""

    async def send_on(link: Link) -> None:
        with suppress(LinkError):
            while True:
                await link.send(MESSAGE)
                await asyncio.sleep(0)

    async def receive_on(link: Link, received: bytearray) -> None:
        while True:
            received += await link.receive()

    async def main() -> None:
        received = bytearray()
        async with struck(kind, tls=safe) as (sender, receiver, _, _), asyncio.TaskGroup() as group:
            group.create_task(send_on(sender))
            with pytest.raises(LinkError, match="connection was lost"):
                await receive_on(receiver, received)
            receiver.abort()
        assert received == (MESSAGE * len(received))[: len(received)]

    run(main())


@pytest.mark.parametrize("seed", range(2))
def test_a_long_transfer_arrives_unchanged_through_delays_and_stalls(seed: int):
    much, other = bytes(range(256)) * 20_000, bytes(range(255)) * 20_000
    often = FaultModel(
        every_s=0.002,
        weights={"delay": 1.0, "stall": 1.0},
        seed=seed,
        stall_s=(0.001, 0.003),
        delay_s=(0.001, 0.003),
    )

    async def send(link: Link, data: bytes) -> None:
        await link.send(data)
        await link.end()

    async def main() -> None:
        storm = Storm(often)
        async with pair(QUICK, QUICK, storm=storm) as (edge, cloud), asyncio.TaskGroup() as group:
            group.create_task(send(edge, much))
            group.create_task(send(cloud, other))
            up, down = (group.create_task(read_to_end(link)) for link in (cloud, edge))
            assert await up == much
            assert await down == other
        assert min(storm.injected[kind] for kind in often.weights) > 3

    run(main())


@pytest.mark.parametrize("kinds", [HONEST, KINDS], ids=["honest", "all"])
def test_a_storm_over_many_connections_leaves_nothing_behind(kinds: tuple[str, ...]):
    """Each connection says something until it ends; nobody waits for ever, and the relay serves on."""
    often = FaultModel(
        every_s=0.001,
        weights=dict.fromkeys(kinds, 1.0),
        stall_s=(0.001, 0.01),
        delay_s=(0.001, 0.01),
    )

    async def chat(link: Link) -> None:
        try:
            for _ in range(20):
                await link.send(MESSAGE)
                await asyncio.sleep(0)
            await link.end()
            await read_to_end(link)
        except LinkError:
            pass
        finally:
            link.abort()

    async def main() -> None:
        storm = Storm(often)
        async with asyncio.TaskGroup() as group:

            def accept(link: Link) -> None:
                group.create_task(chat(link))

            async with (
                listening(HOST, 0, accept) as upstream,
                relaying((HOST, 0), upstream, QUICK, QUICK, storm=storm) as address,
            ):
                while storm.injected.total() < 100:
                    await chat(await open_tcp_link(*address, PATIENCE_S))
                storm.stop()
                await chat(await open_tcp_link(*address, PATIENCE_S))
            await turns()
        assert set(storm.injected) == set(kinds)

    run(main())
