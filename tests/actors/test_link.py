import asyncio
import socket
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from pipesd.actors.link import Link, TcpLink, listening, open_tcp_link
from pipesd.errors import ConfigError, LinkError
from tests.actors.helpers import PATIENCE_S, LoopFactory, both_loops, run_on, turns, uncollected
from tests.contracts.links import check_link, read_to_end

HOST = "127.0.0.1"
IMPOSSIBLE_HOSTS = {"two dots": "two..dots", "too long": "a" * 70 + ".example", "a NUL": "nul\0byte"}


@asynccontextmanager
async def tcp_pair() -> AsyncIterator[tuple[Link, Link]]:
    accepted: asyncio.Queue[Link] = asyncio.Queue()
    async with listening(HOST, 0, accepted.put_nowait) as address:
        ours = await open_tcp_link(*address, PATIENCE_S)
        theirs = await accepted.get()
        try:
            yield ours, theirs
        finally:
            ours.abort()
            theirs.abort()
            await turns()


@both_loops
def test_tcp_keeps_the_contract_of_links(loop_factory: LoopFactory):
    run_on(loop_factory, check_link(tcp_pair))


@both_loops
def test_small_frames_leave_at_once(loop_factory: LoopFactory):
    async def main() -> None:
        async with tcp_pair() as pair:
            for link in pair:
                assert isinstance(link, TcpLink)
                connection = link._writer.get_extra_info("socket")
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0

    run_on(loop_factory, main())


@both_loops
def test_a_send_waits_while_nobody_reads(loop_factory: LoopFactory):
    much = bytes(20_000_000)

    async def main() -> None:
        async with tcp_pair() as (ours, theirs), asyncio.TaskGroup() as group:
            sending = group.create_task(ours.send(much))
            await turns(50)
            assert not sending.done()
            reading = group.create_task(read_to_end(theirs))
            await sending
            await ours.end()
            assert len(await reading) == len(much)

    run_on(loop_factory, main())


@both_loops
def test_a_reset_is_a_lost_link_and_nothing_else(loop_factory: LoopFactory):
    async def main() -> None:
        accepted: asyncio.Queue[Link] = asyncio.Queue()
        async with listening(HOST, 0, accepted.put_nowait) as address:
            rude = socket.create_connection(address)
            link = await accepted.get()
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            rude.close()
            for _ in range(2):
                with pytest.raises(LinkError, match="connection was lost"):
                    await link.receive()
            for _ in range(2):
                with pytest.raises(LinkError):
                    await link.send(b"anybody?")
            with pytest.raises(LinkError):
                await link.end()
            link.abort()

    run_on(loop_factory, main())


@both_loops
def test_a_lost_link_and_its_buffers_go_with_the_last_who_holds_it(loop_factory: LoopFactory):
    async def main() -> None:
        accepted: asyncio.Queue[Link] = asyncio.Queue()
        async with listening(HOST, 0, accepted.put_nowait) as address:
            rude = socket.create_connection(address)
            link = await accepted.get()
            assert isinstance(link, TcpLink)
            buffer = weakref.ref(link._reader)
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            rude.close()
            with suppress(LinkError):
                await link.receive()
            link.abort()
            del link
            await turns()
            assert buffer() is None

    with uncollected():
        run_on(loop_factory, main())


@both_loops
def test_nobody_listening_is_a_lost_link_that_names_the_address(loop_factory: LoopFactory):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]

    async def main() -> None:
        with pytest.raises(LinkError, match=rf"{HOST}:{port} \(Connection refused\)"):
            await open_tcp_link(HOST, port, PATIENCE_S)

    run_on(loop_factory, main())


@both_loops
def test_an_answer_that_takes_too_long_is_a_lost_link(loop_factory: LoopFactory):
    async def main() -> None:
        with socket.create_server((HOST, 0)) as server:
            port = server.getsockname()[1]
            with pytest.raises(LinkError, match=r"did not answer within 1e-09 s"):
                await open_tcp_link(HOST, port, 1e-9)

    run_on(loop_factory, main())


@pytest.mark.parametrize("host", IMPOSSIBLE_HOSTS.values(), ids=IMPOSSIBLE_HOSTS)
async def test_an_impossible_host_is_a_lost_link(host: str):
    with pytest.raises(LinkError):
        await open_tcp_link(host, 7433, PATIENCE_S)


@pytest.mark.parametrize("host", IMPOSSIBLE_HOSTS.values(), ids=IMPOSSIBLE_HOSTS)
async def test_an_impossible_host_cannot_be_listened_on(host: str):
    with pytest.raises(ConfigError, match="listen: "):
        async with listening(host, 0, Link.abort):
            pytest.fail("it listens")


@both_loops
def test_an_address_in_use_is_the_settings_fault(loop_factory: LoopFactory):
    async def main() -> None:
        async with listening(HOST, 0, Link.abort) as (_, port):
            with pytest.raises(ConfigError, match=rf"listen: .*{HOST}:{port} \(Address already in use\)"):
                async with listening(HOST, port, Link.abort):
                    pytest.fail("two listen on one port")

    run_on(loop_factory, main())


@both_loops
def test_listening_ends_with_its_block(loop_factory: LoopFactory):
    async def main() -> None:
        async with listening(HOST, 0, Link.abort) as address:
            assert address[0] == HOST
            assert address[1] > 0
        with pytest.raises(LinkError):
            await open_tcp_link(*address, PATIENCE_S)

    run_on(loop_factory, main())
