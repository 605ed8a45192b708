"""Which cloud an edge connects to, over real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing

import pytest

from pipesd.actors.link import Link, listening
from pipesd.clouds import Clouds
from pipesd.errors import LinkError
from tests.actors.helpers import PATIENCE_S

Address = tuple[str, int]


@asynccontextmanager
async def cloud(name: bytes) -> AsyncIterator[Address]:
    """Whoever connects is told its name."""
    links: list[Link] = []
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:

        def accept(link: Link) -> None:
            links.append(link)
            group.create_task(link.send(name))

        yield await stack.enter_async_context(listening("127.0.0.1", 0, accept))
        for link in links:
            link.abort()


def nowhere() -> Address:
    """Where nobody listens."""
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        host, port = unused.getsockname()
        return host, port


async def name_behind(link: Link) -> bytes:
    try:
        return await link.receive()
    finally:
        link.abort()


async def test_the_first_that_answers_is_used_and_comes_first_from_then_on():
    async with cloud(b"second") as second, cloud(b"third") as third:
        dead = nowhere()
        clouds = Clouds([dead, second, third], PATIENCE_S, None)
        assert clouds.host == dead[0]
        assert await name_behind(await clouds.first()) == b"second"
        assert [await name_behind(await clouds.dial(number)) for number in (0, 1)] == [b"second", b"third"]
        with pytest.raises(LinkError, match=f"cannot connect to {dead[0]}:{dead[1]}"):
            await clouds.dial(2)
        assert await name_behind(await clouds.first()) == b"second"


async def test_the_host_is_that_of_the_cloud_that_is_used():
    async with cloud(b"here") as (host, port):
        clouds = Clouds([("localhost", nowhere()[1]), (host, port)], PATIENCE_S, None)
        assert clouds.host == "localhost"
        await name_behind(await clouds.first())
        assert clouds.host == host


@pytest.mark.parametrize("number", [1, 3])
async def test_if_none_answers_the_last_one_is_named_and_all_are_tried_again(number: int):
    dead = [nowhere() for _ in range(number)]
    clouds = Clouds(dead, PATIENCE_S, None)
    for _ in range(2):
        says = rf"^cannot connect to 127\.0\.0\.1:{dead[-1][1]} .*is pipesd-cloud running"
        with pytest.raises(LinkError, match=says):
            await clouds.first()
        dead = [*dead[-1:], *dead[:-1]]


async def test_one_that_takes_the_call_and_never_answers_is_left_after_a_while():
    """A full backlog, as of a host that drops what comes."""
    async with cloud(b"second") as second, AsyncExitStack() as stack:
        silent = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0), backlog=0)))
        for _ in range(2):
            filler = stack.enter_context(closing(socket.socket()))
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        clouds = Clouds([silent.getsockname(), second], 0.2, None)
        assert await name_behind(await clouds.first()) == b"second"
