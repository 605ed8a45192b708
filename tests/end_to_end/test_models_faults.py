"""The default pair while its cloud is killed and its link cut: the text stays the target's own."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pipesd.actors.compute import run_once
from pipesd.alone import alone
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import Edge, connect
from pipesd.values import Offline
from tests.end_to_end.outages import Reader, weather
from tests.end_to_end.processes import finish, read_some, serving, start

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.models

PROMPT = "Write a Python function that tells whether a text is a palindrome."
TOKENS = 60
MODEL = ("--engine", "llama", "--threads", "1", "--context-tokens", "1024")


@pytest.fixture(scope="module")
def undisturbed() -> tuple[str, list[int]]:
    """Text and tokens of the target alone."""

    async def main() -> tuple[str, list[int]]:
        config = CloudConfig(engine="llama", threads=1, context_tokens=1024, tokens_max=TOKENS)
        async with alone(config) as target:
            pieces = [piece async for piece in target.generate(PROMPT)]
        return "".join(map(str, pieces)), [token for piece in pieces for token in piece.tokens]

    return asyncio.run(main())


@contextmanager
def answering(address: str, offline: Offline) -> Iterator["subprocess.Popen[str]"]:
    prompt = ("-p", PROMPT, "--tokens-max", str(TOKENS), "--offline", offline)
    with start("edge", "generate", "--cloud", address, *MODEL, *prompt) as edge:
        try:
            yield edge
        finally:
            edge.kill()


async def started(stack: AsyncExitStack, *more: str) -> tuple["subprocess.Popen[str]", str]:
    """A cloud, and its address; who waits for it may do other work meanwhile."""
    return await run_once("cloud", lambda: stack.enter_context(serving(*MODEL, *more)))


@asynccontextmanager
async def edge_to(address: str, **settings: Any) -> AsyncIterator[Edge]:
    config = EdgeConfig(
        engine="llama",
        threads=1,
        context_tokens=1024,
        tuner="off",
        tokens_max=TOKENS,
        cloud=address,
        connect_timeout_s=60,
        **settings,
    )
    async with connect(config) as edge:
        yield edge


def test_with_wait_the_text_goes_on_where_the_cloud_was_killed(undisturbed: tuple[str, list[int]]) -> None:
    with serving(*MODEL) as (cloud, address), answering(address, "wait") as edge:
        begun = read_some(edge, 60)
        cloud.kill()
        cloud.wait()
        with serving(*MODEL, "--listen", address):
            code, rest, errors = finish(edge)
    assert code == 0, errors
    assert begun + rest == undisturbed[0]
    assert "the cloud is back" in errors


def test_with_stop_the_text_ends_where_the_cloud_was_killed(undisturbed: tuple[str, list[int]]) -> None:
    with serving(*MODEL) as (cloud, address), answering(address, "stop") as edge:
        begun = read_some(edge, 60)
        cloud.kill()
        code, rest, errors = finish(edge)
    assert code == 1
    assert undisturbed[0].startswith(begun + rest)
    assert len(begun + rest) < len(undisturbed[0])
    assert re.fullmatch(r"pipesd-edge: .*connection.*", errors.splitlines()[-1])


async def test_with_draft_what_was_written_without_the_cloud_is_judged_in_the_end(
    undisturbed: tuple[str, list[int]],
) -> None:
    async with AsyncExitStack() as stack:
        cloud, address = await started(stack)
        reader, is_killed = Reader(), False
        edge = await stack.enter_async_context(edge_to(address, offline="draft", offline_timeout_s=120))
        async for piece in edge.generate(PROMPT):
            reader.take(piece)
            if len(reader.got) > 5 and not is_killed:
                is_killed = True
                cloud.kill()
                cloud.wait()
            elif reader.guessed and cloud.returncode is not None:
                cloud, _ = await started(stack, "--listen", address)
    assert reader.got == undisturbed[1]
    assert sum(reader.right(undisturbed[1])) > 10


async def test_a_connection_that_is_cut_twenty_times_in_one_answer(
    undisturbed: tuple[str, list[int]],
) -> None:
    """After each token or two."""
    got: list[int] = []
    one_by_one: dict[str, Any] = {"upper_tokens": 1, "lower_tokens": 1, "ahead": "never"}
    async with AsyncExitStack() as stack:
        _, address = await started(stack)
        sky = await stack.enter_async_context(weather(address))
        edge = await stack.enter_async_context(edge_to("{}:{}".format(*sky.address), **one_by_one))
        cuts = sky.storm.injected
        async for piece in edge.generate(PROMPT):
            got += piece.tokens
            if cuts.total() < 20:
                sky.storm.strike("cut")
        assert cuts == {"cut": 20}
    assert got == undisturbed[1]
