import asyncio
import logging
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import pytest

from pipesd.actors import listener
from pipesd.actors.listener import Bounds, Crowd, taking_in
from tests.actors.helpers import LoopFactory, both_loops, run_on

HOST = "127.0.0.1"
HERE, THERE = "192.0.2.1", "192.0.2.2"


# -- who may come in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "let_in"),
    [
        (Bounds(), 5),
        (Bounds(connections_max=3), 3),
        (Bounds(address_connections_max=2), 4),
        (Bounds(connections_max=3, address_connections_max=2), 3),
    ],
)
def test_so_many_enter_in_all_and_from_one_address(bounds: Bounds, let_in: int) -> None:
    crowd = Crowd(bounds)
    came = [HERE, HERE, HERE, THERE, THERE]
    assert sum(crowd.enter(address) for address in came) == let_in


def test_who_leaves_makes_room_for_one_from_there() -> None:
    crowd = Crowd(Bounds(address_connections_max=1))
    assert crowd.enter(HERE)
    assert crowd.enter(THERE)
    crowd.leave(HERE)
    assert not crowd.enter(THERE)
    assert crowd.enter(HERE)
    assert not crowd.enter(HERE)


def test_nothing_is_kept_of_those_who_left_or_were_turned_away() -> None:
    crowd = Crowd(Bounds(address_connections_max=1))
    for number in range(100):
        assert crowd.enter(f"192.0.2.{number}")
        crowd.leave(f"192.0.2.{number}")
    crowd.enter(HERE)
    assert not crowd.enter(HERE)
    assert len(crowd._addresses) == 1


def test_addresses_of_one_subscriber_count_together() -> None:
    crowd = Crowd(Bounds(address_connections_max=1))
    assert crowd.enter("2001:db8::1")
    assert not crowd.enter("2001:db8::2")
    assert crowd.enter("2001:db8:0:1::1")
    crowd.leave("2001:db8::1")
    assert crowd.enter("2001:db8::2")


# -- over real sockets --------------------------------------------------------------------------------------


class Served:
    """Serves by waiting until the other side has ended."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[socket.socket] = asyncio.Queue()
        self.went = 0

    async def serve(self, connection: socket.socket) -> None:
        self.came.put_nowait(connection)
        try:
            with connection:
                while await asyncio.get_running_loop().sock_recv(connection, 64):
                    pass
        finally:
            self.went += 1


@asynccontextmanager
async def guest(address: tuple[str, int]) -> AsyncIterator[socket.socket]:
    with socket.socket() as connection:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, address)
        yield connection


async def heard(connection: socket.socket) -> bytes:
    """All that is said up to the end."""
    said = b""
    while news := await asyncio.get_running_loop().sock_recv(connection, 64):
        said += news
    return said


@both_loops
def test_one_too_many_is_told_so_and_cut_and_comes_in_once_another_has_left(
    loop_factory: LoopFactory,
) -> None:
    served = Served()

    async def main() -> None:
        bounds = Bounds(address_connections_max=2, last_word=b"no room")
        async with taking_in(HOST, 0, served.serve, bounds) as address, AsyncExitStack() as guests:
            first = await guests.enter_async_context(guest(address))
            await guests.enter_async_context(guest(address))
            for _ in range(20):
                async with guest(address) as third:
                    assert await heard(third) == b"no room"
            assert served.came.qsize() == 2
            first.close()
            while served.came.qsize() == 2:
                async with guest(address) as third:
                    third.shutdown(socket.SHUT_WR)
                    assert await heard(third) in {b"no room", b""}
            assert served.came.qsize() == 3

    run_on(loop_factory, main())


@both_loops
def test_a_fault_of_ours_ends_one_connection(
    loop_factory: LoopFactory, caplog: pytest.LogCaptureFixture
) -> None:
    served = Served()

    async def serve(connection: socket.socket) -> None:
        if caplog.records:
            await served.serve(connection)
        raise RuntimeError

    async def main() -> None:
        async with taking_in(HOST, 0, serve) as address:
            async with guest(address) as first:
                assert await heard(first) == b""
            async with guest(address):
                await served.came.get()

    run_on(loop_factory, main())
    assert caplog.messages[0].startswith("! a connection failed on a fault of pipesd")


@both_loops
def test_the_end_of_the_block_ends_the_serving_and_the_listening(loop_factory: LoopFactory) -> None:
    served = Served()

    async def main() -> None:
        before = asyncio.all_tasks()
        async with AsyncExitStack() as guests:
            async with taking_in(HOST, 0, served.serve) as address:
                for _ in range(3):
                    await guests.enter_async_context(guest(address))
                    await served.came.get()
            assert served.went == 3
            with pytest.raises(ConnectionRefusedError):
                await guests.enter_async_context(guest(address))
        assert asyncio.all_tasks() == before

    run_on(loop_factory, main())


@both_loops
def test_a_name_of_several_addresses_is_listened_on_at_all_of_them(loop_factory: LoopFactory) -> None:
    served = Served()

    async def main() -> None:
        found = await asyncio.get_running_loop().getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
        async with taking_in("localhost", 0, served.serve) as address, guest(address):
            assert address[0] in {each[4][0] for each in found}
            await served.came.get()

    run_on(loop_factory, main())


@both_loops
def test_without_a_free_descriptor_who_comes_waits_until_there_is_one(
    loop_factory: LoopFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener, "RETRY_S", 0.01)
    served = Served()

    async def main() -> None:
        async with taking_in(HOST, 0, served.serve) as address:
            with socket.socket() as waiting:
                waiting.setblocking(False)
                with no_descriptors_left():
                    await asyncio.get_running_loop().sock_connect(waiting, address)
                    while not caplog.records:  # noqa: ASYNC110 - there is no event to wait for
                        await asyncio.sleep(0)
                    assert served.came.empty()
                await served.came.get()

    run_on(loop_factory, main())
    assert caplog.messages[0] == "! no connection can be taken in: Too many open files"
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@contextmanager
def no_descriptors_left():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
