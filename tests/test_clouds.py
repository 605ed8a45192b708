"""Which cloud an edge connects to, over real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing

import pytest

from pipesd.actors.link import Link, listening
from pipesd.clouds import Clouds
from pipesd.errors import LinkError, RefusedError
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


async def first_of(clouds: Clouds) -> bytes:
    return await name_behind(await clouds.one_of(lambda: clouds.dial(0)))


async def test_the_first_that_answers_is_used_and_comes_first_from_then_on(caplog: pytest.LogCaptureFixture):
    async with cloud(b"second") as second, cloud(b"third") as third:
        dead = nowhere()
        clouds = Clouds([dead, second, third], PATIENCE_S, None)
        assert clouds.host == dead[0]
        assert await first_of(clouds) == b"second"
        assert f"{dead[0]}:{dead[1]}: cannot connect" in caplog.text
        assert [await name_behind(await clouds.dial(number)) for number in (0, 1)] == [b"second", b"third"]
        with pytest.raises(LinkError, match=f"cannot connect to {dead[0]}:{dead[1]}"):
            await clouds.dial(2)
        assert await first_of(clouds) == b"second"


async def test_the_host_is_that_of_the_cloud_that_is_used():
    async with cloud(b"here") as (host, port):
        clouds = Clouds([("localhost", nowhere()[1]), (host, port)], PATIENCE_S, None)
        assert clouds.host == "localhost"
        await first_of(clouds)
        assert clouds.host == host


@pytest.mark.parametrize("number", [1, 3])
async def test_if_none_answers_the_last_one_is_named_and_all_are_tried_again(number: int):
    dead = [nowhere() for _ in range(number)]
    clouds = Clouds(dead, PATIENCE_S, None)
    for _ in range(2):
        says = rf"^cannot connect to 127\.0\.0\.1:{dead[-1][1]} .*is pipesd-cloud running"
        with pytest.raises(LinkError, match=says):
            await first_of(clouds)


async def test_of_clouds_that_all_refuse_the_one_without_room_is_named_since_it_may_be_tried_again():
    addresses = [("one", 1), ("two", 2), ("three", 3)]
    said: list[RefusedError] = [
        RefusedError("stopping", "one stops", retryable=True),
        RefusedError("busy", "two is full", retryable=True, retry_s=0.5),
        RefusedError("unauthorized", "three knows nobody", retryable=False),
    ]
    clouds = Clouds(addresses, PATIENCE_S, None)

    async def enter() -> None:
        raise said.pop(0)

    with pytest.raises(RefusedError, match="two is full"):
        await clouds.one_of(enter)
    assert said == []
    assert clouds.host == "one"


async def test_one_that_takes_the_call_and_never_answers_is_left_after_a_while():
    """A full backlog, as of a host that drops what comes."""
    async with cloud(b"second") as second, AsyncExitStack() as stack:
        silent = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0), backlog=0)))
        for _ in range(2):
            filler = stack.enter_context(closing(socket.socket()))
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        clouds = Clouds([silent.getsockname(), second], 0.2, None)
        assert await first_of(clouds) == b"second"
