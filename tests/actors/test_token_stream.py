"""Tokens between the funnel and a reader; drafts among them are of interest for the moment only."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.actors.token_stream import UNREAD_TOKENS_MAX, TokenStream, Told
from pipesd.errors import LinkError, RefusedError
from pipesd.lab.clock import StuckError, run_virtually
from pipesd.session.commands import Failure, FinishGeneration, GenerationStats
from tests.actors.helpers import turns

DONE = FinishGeneration(0, "stop", GenerationStats(tokens=3))
LOST = Failure("link", "the connection was lost")
END = Told((), preview=False)


def sure(*tokens: int) -> Told:
    return Told(tokens, preview=False)


def unsure(*tokens: int) -> Told:
    return Told(tokens, preview=True)


async def rest_of(stream: TokenStream) -> list[Told]:
    """All that can be read before the end."""
    told = []
    while (news := await stream.next()).tokens:
        told.append(news)
    return told


def played(main: Coroutine[Any, Any, None]) -> None:
    run_virtually(main)


def test_what_is_pushed_is_read_in_order_and_then_the_end():
    async def main() -> None:
        stream = TokenStream()
        stream.push((1, 2))
        stream.push((3,))
        assert stream.unread_tokens == 3
        assert await stream.next() == sure(1, 2)
        assert (stream.unread_tokens, stream.finish) == (1, None)
        stream.end(DONE)
        assert [await stream.next() for _ in range(3)] == [sure(3), END, END]
        assert stream.finish == DONE

    played(main())


def test_a_reader_waits_for_what_comes():
    async def main() -> None:
        stream = TokenStream()
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(rest_of(stream))
            for deed in (lambda: stream.push((1,)), lambda: stream.show((2,)), lambda: stream.push((3,))):
                await turns()
                assert not reading.done()
                deed()
            await turns()
            stream.end(DONE)
        assert reading.result() == [sure(1), unsure(2), sure(3)]

    played(main())


def test_without_an_end_a_reader_waits_on():
    with pytest.raises(StuckError):
        run_virtually(TokenStream().next())


@pytest.mark.parametrize(
    ("failure", "kind"), [(LOST, LinkError), (Failure("busy", "no room", 2_000), RefusedError)]
)
def test_a_failure_comes_behind_all_that_was_confirmed(failure: Failure, kind: type[Exception]):
    async def main() -> None:
        stream = TokenStream()
        stream.push((1,))
        stream.show((2,))
        stream.end(failure)
        assert await stream.next() == sure(1)
        for _ in range(2):
            with pytest.raises(kind, match=failure.message):
                await stream.next()
        assert stream.finish is None

    played(main())


def test_drafts_that_nobody_has_read_yet_are_forgotten_when_the_text_comes():
    async def main() -> None:
        stream = TokenStream()
        stream.push((1,))
        stream.show((2,))
        stream.show((3, 4))
        assert await stream.next() == sure(1)
        assert await stream.next() == unsure(2)
        stream.push((2, 5))
        stream.show((6,))
        stream.end(DONE)
        assert await rest_of(stream) == [sure(2, 5)]

    played(main())


deeds = st.lists(
    st.one_of(
        st.builds(lambda size: ("push", size), st.integers(1, 300)),
        st.builds(lambda size: ("show", size), st.integers(1, 300)),
        st.just(("read", 0)),
    ),
    max_size=30,
)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(deeds)
def test_whoever_reads_at_whatever_pace_gets_all_that_was_pushed(deeds: list[tuple[str, int]]):
    async def main() -> None:
        stream, pauses = TokenStream(), list[bool]()
        stream.on_pause = pauses.append
        pushed, read = list[int](), list[int]()

        async def take() -> None:
            told = await stream.next()
            if not told.preview:
                read.extend(told.tokens)
            assert stream.unread_tokens == len(pushed) - len(read)

        for number, (kind, size) in enumerate(deeds):
            tokens = (number,) * size
            if kind == "push":
                stream.push(tokens)
                pushed += tokens
            elif kind == "show":
                stream.show(tokens)
            elif stream._unread:
                await take()
        stream.end(DONE)
        while stream._unread:
            await take()
        assert read == pushed
        assert pauses == [True, False] * (len(pauses) // 2), "told by turns, and not paused in the end"

    played(main())


def test_too_much_unread_text_pauses_and_a_quarter_of_it_resumes():
    async def main() -> None:
        stream, pauses = TokenStream(), list[bool]()
        stream.on_pause = pauses.append
        stream.show((0,) * (2 * UNREAD_TOKENS_MAX))
        assert pauses == [], "drafts do not count: they are bounded elsewhere"
        for _ in range(UNREAD_TOKENS_MAX):
            stream.push((1,))
        assert pauses == []
        stream.push((1,))
        stream.push((1,))
        assert pauses == [True]
        while stream.unread_tokens > UNREAD_TOKENS_MAX // 4 + 1:
            await stream.next()
        assert pauses == [True]
        await stream.next()
        assert pauses == [True, False]

    played(main())
