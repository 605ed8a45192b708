"""Private turns between public ones: what the cloud is told is as if they had never been, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd import cloud, edge
from pipesd.actors.compute import ModelledCompute, Pace
from pipesd.actors.runtime import Hooks
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import Edge
from pipesd.edge_session import Generation, Session
from pipesd.engines.alone import answer_alone
from pipesd.engines.scripted import ScriptedDraft, ScriptedTarget
from pipesd.engines.solo import scripted_solo
from pipesd.errors import LinkError, UsageError
from pipesd.lab.clock import run_virtually
from pipesd.lab.link import LinkModel, MemoryLink, memory_link
from pipesd.session.commands import GenerationStats
from pipesd.values import Sampling
from pipesd.wire.codec import Decoder
from pipesd.wire.frames import Draft, EdgeFrame, Ping, Prompt
from tests.speech import CHATML, TOKENIZER, SpeechTarget

WAY = LinkModel(delay_s=0.01)
TOKENS = 12
AGREEMENT = 0.85
"""The scripted draft's own."""

SECRET = "XYZZY"
"""Letters that occur in no other prompt, and in no answer."""


@dataclass
class Recorded:
    """A link, and all that was sent over it."""

    link: MemoryLink
    sent: bytearray = field(default_factory=bytearray)

    @property
    def address(self) -> str:
        return self.link.address

    async def send(self, data: bytes) -> None:
        self.sent += data
        await self.link.send(data)

    async def receive(self) -> bytes:
        return await self.link.receive()

    async def end(self) -> None:
        await self.link.end()

    def abort(self, reason: str = "the test has cut it") -> None:
        self.link.abort(reason)

    def frames(self) -> list[EdgeFrame]:
        """Heartbeats apart: they come with time alone."""
        said = Decoder[EdgeFrame](EdgeFrame).feed(bytes(self.sent))
        return [frame for frame in said if not isinstance(frame, Ping)]


@asynccontextmanager
async def connected(
    target: ScriptedTarget | None = None, draft: ScriptedDraft | None = None, **given: object
) -> AsyncIterator[tuple[Edge, Recorded]]:
    quiet = {"ping_after_s": 80_000.0, "silent_after_s": 86_400.0}
    served = CloudConfig(engine="scripted", **quiet)  # type: ignore[arg-type]
    gateway = cloud.make_gateway(
        served, target or ScriptedTarget(), ModelledCompute(Pace(0.02, 0.001)), Hooks()
    )
    async with gateway.running():
        ours, theirs = memory_link(WAY, WAY)
        gateway.accept(theirs)
        link = Recorded(ours)
        config = EdgeConfig(engine="scripted", tuner="off", tokens_max=TOKENS, **quiet, **given)  # type: ignore[arg-type]
        compute = ModelledCompute(Pace(0.005))
        async with edge.connect_over(config, link, draft or ScriptedDraft(), compute, Hooks()) as connection:
            yield connection, link


async def ids_of(answer: Generation) -> list[int]:
    return [token async for piece in answer for token in piece.tokens]


def the_draft_says(text: Sequence[int], tokens_max: int = TOKENS, **sampled: float) -> list[int]:
    engine = scripted_solo(0, AGREEMENT, context_tokens=4_096, chunk_tokens=512)
    return answer_alone(engine, text, sampling=Sampling(**sampled), seed=0, tokens_max=tokens_max)[0]  # type: ignore[arg-type]


def the_target_says(text: Sequence[int]) -> list[int]:
    return answer_alone(ScriptedTarget(), text, sampling=Sampling(), seed=0, tokens_max=TOKENS)[0]


# --- what is said ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_the_draft_model_alone_answers_and_nothing_it_says_is_verified(temperature: float) -> None:
    async def main() -> None:
        async with connected(temperature=temperature) as (connection, link), connection.session() as session:
            await asyncio.sleep(1)
            before = bytes(link.sent)
            answer = session.generate(SECRET, private=True)
            assert answer.private
            pieces = [piece async for piece in answer]
            assert not any(piece.verified or piece.preview for piece in pieces)
            said = [token for piece in pieces for token in piece.tokens]
            assert said == the_draft_says(answer.prompt_ids, temperature=temperature)
            assert answer.result is not None
            assert answer.result.finish == "length"
            assert answer.result.stats == GenerationStats(tokens=TOKENS, drafted=TOKENS)
            assert (session.length, session.public_length) == (len(SECRET) + TOKENS, 0)
            assert link.sent == before

            more = [*answer.prompt_ids, *said, *b" more"]
            assert await ids_of(session.generate(" more", private=True)) == the_draft_says(
                more, temperature=temperature
            )

    run_virtually(main())


def test_a_private_turn_goes_on_behind_the_public_text_and_is_taken_back_whole() -> None:
    async def main() -> None:
        async with connected() as (connection, _), connection.session() as session:
            first = await ids_of(session.generate("Hello"))
            text = [*b"Hello", *first]
            private = await ids_of(session.generate(SECRET, private=True))
            assert private == the_draft_says([*text, *SECRET.encode()])
            assert (session.length, session.public_length) == (len(text) + len(SECRET) + TOKENS, len(text))

            with pytest.raises(UsageError, match=f"behind its first {len(text)} tokens is private"):
                await ids_of(session.generate("And"))
            with pytest.raises(UsageError, match="is private"):
                await ids_of(session.generate("And", base=len(text) + 1))
            assert session.length == len(text) + len(SECRET) + TOKENS, "a refused turn has changed the text"

            session.leave_private()
            session.leave_private()
            assert session.length == session.public_length == len(text)
            assert await ids_of(session.generate("And")) == the_target_says([*text, *b"And"])

    run_virtually(main())


def test_a_public_turn_with_a_base_takes_private_ones_back() -> None:
    async def main() -> None:
        async with connected() as (connection, _), connection.session() as session:
            await ids_of(session.generate("Hello"))
            await ids_of(session.generate(SECRET, private=True, base=3))
            assert session.length == 3 + len(SECRET) + TOKENS
            assert session.public_length == len("Hello") + TOKENS
            assert await ids_of(session.generate("p me", base=3)) == the_target_says(b"Help me")
            assert session.length == session.public_length == len("Help me") + TOKENS

    run_virtually(main())


def test_templates_stop_strings_and_end_ids_are_as_in_public() -> None:
    target = SpeechTarget(CHATML, ends_every=9)
    draft = ScriptedDraft(tokenizer=TOKENIZER, ends_every=9)

    async def main() -> None:
        async with connected(target, draft) as (connection, _), connection.session() as session:
            public = session.generate("Hi")
            await ids_of(public)
            async with connection.session() as other:
                private = other.generate("Hi", private=True)
                said = await ids_of(private)
                assert private.prompt_ids == public.prompt_ids
                assert private.result is not None
                assert private.result.finish == "stop"
                assert said[-1] in connection.welcome.end_ids
                text = "".join([str(piece) async for piece in other.generate("Hi", base=0, private=True)])
                stop = text[3:6]
                stopped = other.generate("Hi", base=0, private=True, stop=[stop])
                assert "".join([str(piece) async for piece in stopped]) == text[: text.index(stop)]
                assert stopped.result is not None
                assert stopped.result.finish == "stop"

    run_virtually(main())


# --- what leaves the device -----------------------------------------------------------------------------

Turn = tuple[str, bool, bool]
"""A prompt, whether it is private, and whether its answer is left after two pieces."""

a_turn = st.tuples(st.sampled_from(["One ", "two", "three?", "four" * 30]), st.booleans(), st.booleans())


def recorded(turns: Sequence[Turn]) -> list[EdgeFrame]:
    async def main() -> list[EdgeFrame]:
        async with connected() as (connection, link), connection.session() as session:
            for prompt, private, is_left in turns:
                if not private:
                    session.leave_private()
                said = SECRET if private else ""
                async with aclosing(aiter(session.generate(prompt + said, private=private))) as pieces:
                    async for number, piece in enumerated(pieces):
                        assert piece.verified != private
                        if is_left and number == 1:
                            break
                await asyncio.sleep(1)
        return link.frames()

    return run_virtually(main())


async def enumerated(pieces):
    number = 0
    async for piece in pieces:
        yield number, piece
        number += 1


@settings(max_examples=25, deadline=None)
@given(st.lists(a_turn, max_size=6))
def test_the_cloud_is_told_what_it_would_be_told_without_the_private_turns(turns: list[Turn]) -> None:
    told = recorded(turns)
    assert told == recorded([turn for turn in turns if not turn[1]])
    private = set(SECRET.encode())
    for frame in told:
        if isinstance(frame, Prompt | Draft):
            assert private.isdisjoint(frame.tokens), "a private letter has crossed the link"


def test_the_record_does_hold_what_is_public() -> None:
    """Or the test before proved nothing."""
    letters = {
        token
        for frame in recorded([(SECRET, False, False)])
        if isinstance(frame, Prompt)
        for token in frame.tokens
    }
    assert letters >= set(SECRET.encode())


# --- what may go wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": "x", "base": 1}, "base: must be between 0 and 0"),
        ({"prompt": [1], "base": -1}, "base: must be between 0 and 0"),
        ({"prompt": "x", "tokens_max": 0}, "tokens_max: must be at least 1"),
        ({"prompt": "x", "seed": -1}, "seed: must be at least 0"),
        ({"prompt": [2**20]}, f"token {2**20}, which the draft does not know"),
        ({"prompt": "x" * 100}, "100 tokens, but the draft's context of 64 has room for 63"),
        ({"prompt": "x", "stop": [""]}, "stop: must be a list of texts"),
    ],
)
def test_an_impossible_wish_costs_nothing(wish: dict[str, object], words: str) -> None:
    async def main() -> None:
        async with (
            connected(draft=ScriptedDraft(context_tokens=64)) as (connection, _),
            connection.session() as session,
        ):
            with pytest.raises(UsageError, match=words):
                await ids_of(session.generate(**wish, private=True))  # type: ignore[arg-type]
            assert session.length == 0
            assert await ids_of(session.generate("Fine")) == the_target_says(b"Fine")

    run_virtually(main())


def test_a_text_that_fills_the_drafts_context_ends() -> None:
    async def main() -> None:
        draft = ScriptedDraft(context_tokens=16)
        async with connected(draft=draft) as (connection, _), connection.session() as session:
            answer = session.generate("0123456789", private=True, tokens_max=100)
            assert len(await ids_of(answer)) == 6
            assert answer.result is not None
            assert answer.result.finish == "context"

    run_virtually(main())


@pytest.mark.parametrize("private", [(True, False), (False, True), (True, True)])
def test_answers_of_one_session_are_read_one_after_the_other(private: tuple[bool, bool]) -> None:
    async def main() -> None:
        async with connected() as (connection, _), connection.session() as session:
            older = aiter(session.generate("One", private=private[0]))
            await anext(older)
            newer = session.generate("two", private=private[1], base=0)
            said = await ids_of(newer)
            assert said == (the_draft_says if private[1] else the_target_says)(b"two")
            with pytest.raises(UsageError, match="read one answer at a time"):
                async for _ in older:
                    pass
            assert session.length == len("two") + TOKENS, "an answer that was given up moved the text"

    run_virtually(main())


def test_an_answer_that_is_left_keeps_what_was_read() -> None:
    async def main() -> None:
        async with connected() as (connection, _), connection.session() as session:
            async with aclosing(aiter(session.generate("Tell", private=True))) as pieces:
                read = list((await anext(pieces)).tokens)
            assert session.length == len("Tell") + len(read)
            assert await ids_of(session.generate(" on", private=True)) == the_draft_says(
                [*b"Tell", *read, *b" on"]
            )

    run_virtually(main())


def test_private_and_public_sessions_share_the_draft_model_and_do_not_mix() -> None:
    """Interrupted steps included: the public one's drafts are thrown away often."""

    async def main() -> None:
        async with connected(draft=ScriptedDraft(agreement=0.5)) as (connection, _):
            async with asyncio.TaskGroup() as group:
                public = [group.create_task(one(connection, text, private=False)) for text in ("One", "Two")]
                private = [group.create_task(one(connection, text, private=True)) for text in ("Un", "Deux")]
            assert [task.result() for task in public] == [the_target_says(b"One"), the_target_says(b"Two")]
            engine = scripted_solo(0, 0.5, context_tokens=4_096, chunk_tokens=512)
            for task, text in zip(private, (b"Un", b"Deux"), strict=True):
                expected = answer_alone(engine, text, sampling=Sampling(), seed=0, tokens_max=TOKENS)[0]
                assert task.result() == expected

    async def one(connection: Edge, text: str, *, private: bool) -> list[int]:
        return [token async for piece in connection.generate(text, private=private) for token in piece.tokens]

    run_virtually(main())


class Counted(ScriptedDraft):
    """Knows which sequences it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.held: set[int] = set()

    def extend(self, sequence: int, tokens: Sequence[int], *, prompt: bool = False) -> None:
        self.held.add(sequence)
        super().extend(sequence, tokens, prompt=prompt)

    def release(self, sequence: int) -> None:
        self.held.discard(sequence)
        super().release(sequence)


@pytest.mark.parametrize("leave", [Session.leave_private, Session._close], ids=["taken back", "closed"])
def test_the_drafts_cache_forgets_private_turns(leave: Callable[[Session], None]) -> None:
    draft = Counted()

    async def main() -> None:
        async with connected(draft=draft) as (connection, _):
            session = Session(connection._means)
            await ids_of(session.generate("Tell", private=True))
            assert len(draft.held) == 1
            leave(session)
            await asyncio.sleep(1)
            assert draft.held == set()

    run_virtually(main())


def test_a_session_that_is_over_answers_nothing() -> None:
    async def main() -> None:
        async with connected() as (connection, _):
            async with connection.session() as closed:
                pass
            with pytest.raises(UsageError, match="the session is closed"):
                await ids_of(closed.generate("Tell", private=True))
            session = Session(connection._means)
        with pytest.raises(LinkError, match="connection was closed"):
            await ids_of(session.generate("Tell", private=True))

    run_virtually(main())


def test_who_is_private_needs_no_cloud_that_is_there() -> None:
    async def main() -> None:
        async with connected() as (connection, link), connection.session() as session:
            link.abort()
            await asyncio.sleep(1)
            with pytest.raises(LinkError):
                await ids_of(session.generate("Tell"))
            assert await ids_of(session.generate("Tell", private=True)) == the_draft_says(b"Tell")

    run_virtually(main())
