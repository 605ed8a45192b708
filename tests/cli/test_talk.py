"""All talkers, with the scripted pair. Consoles and signals: ``tests/end_to_end/test_chats.py``."""

import itertools
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from pipesd.alone import Alone, alone, edge_alone
from pipesd.cli import output, talk
from pipesd.cli.output import Timing, Writer
from pipesd.cli.talk import AloneTalker, EdgeTalker, write_alone
from pipesd.cloud import serve
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import connect
from pipesd.engines.alone import answer_alone
from pipesd.engines.scripted import ScriptedTarget
from pipesd.errors import UsageError
from pipesd.planner.trigger import Thresholds
from pipesd.summary import UNVERIFIED, Summary
from pipesd.text import Piece
from pipesd.values import Sampling, TunerPlace

if TYPE_CHECKING:
    from pipesd.edge_session import Generation

CLOUD = CloudConfig(engine="scripted", listen="127.0.0.1:0", tokens_max=10)
EDGE = EdgeConfig(engine="scripted", tokens_max=10, tuner="off")

Talking = Callable[..., AbstractAsyncContextManager[AloneTalker | EdgeTalker]]


@asynccontextmanager
async def at_the_edge(
    *stop: str, show_ids: bool = False, tuner: TunerPlace = "off"
) -> AsyncIterator[EdgeTalker]:
    async with serve(CLOUD) as cloud:
        config = replace(EDGE, cloud="{}:{}".format(*cloud.address), tuner=tuner)
        async with connect(config) as edge, AsyncExitStack() as sessions:
            talker = EdgeTalker(edge, sessions, stop, show_ids=show_ids)
            await talker.reset()
            yield talker


@asynccontextmanager
async def without_an_edge(*stop: str, show_ids: bool = False) -> AsyncIterator[AloneTalker]:
    async with alone(CLOUD) as target:
        yield AloneTalker(target, stop, show_ids=show_ids)


@asynccontextmanager
async def without_a_cloud(*stop: str, show_ids: bool = False) -> AsyncIterator[AloneTalker]:
    async with edge_alone(replace(EDGE, agreement=1.0)) as draft:
        yield AloneTalker(draft, stop, show_ids=show_ids)


both = pytest.mark.parametrize("talking", [at_the_edge, without_an_edge])


def path_behind(text: bytes, *more: int, tokens_max: int = 10) -> list[int]:
    prompt = [*text, *more]
    return answer_alone(ScriptedTarget(), prompt, sampling=Sampling(), seed=0, tokens_max=tokens_max)[0]


def as_text(tokens: list[int]) -> str:
    pieces = ScriptedTarget().tokenizer.vocabulary.pieces
    return b"".join(pieces[token] for token in tokens).decode()


async def answered(talker: AloneTalker | EdgeTalker, line: str) -> str:
    return "".join([str(piece) async for piece in talker.answer(line)])


@both
async def test_each_answer_continues_the_conversation_until_it_is_reset(talking: Talking):
    first = path_behind(b"Tell me")
    second = path_behind(b"Tell me", *first, *b"Go on")
    async with talking() as talker:
        assert await answered(talker, "Tell me") == as_text(first)
        assert await answered(talker, "Go on") == as_text(second)
        await talker.reset()
        assert await answered(talker, "Tell me") == as_text(first)


@both
async def test_an_answer_that_is_left_keeps_what_was_read(talking: Talking):
    async with talking() as talker:
        async with aclosing(talker.answer("Tell me")) as pieces:
            read = list((await anext(pieces)).tokens)
        assert "no answer is complete yet" in talker.stats()
        assert f"text of {7 + len(read)} tokens" in talker.stats()
        assert await answered(talker, "Go on") == as_text(path_behind(b"Tell me", *read, *b"Go on"))


@pytest.mark.parametrize(
    ("thresholds", "line"),
    [
        (None, "thresholds are tuned here, trial 4: R1 follows its closed form"),
        (
            Thresholds(0.8, 0.6, 8, 2),
            "thresholds are tuned here, trial 4: R1 0.800, R2 0.600, at most 8 drafts between two asks",
        ),
    ],
)
async def test_figures_say_what_the_tuner_does(thresholds: Thresholds | None, line: str):
    async with at_the_edge(tuner="edge") as talker:
        talker._edge.tuned.begin(4, thresholds)
        assert talker.stats().splitlines()[1] == line


@both
async def test_figures_are_those_of_the_last_answer_and_of_all(talking: Talking):
    async with talking() as talker:
        before, *rest = talker.stats().splitlines()
        assert rest == ["no answer is complete yet"]
        assert before.startswith("target scripted, seed 0")
        assert before.endswith("exact numerics; text of 0 tokens")
        await answered(talker, "Tell me")
        await answered(talker, "Go on")
        text, last, every = talker.stats().splitlines()
        assert text.endswith("text of 32 tokens")
        assert last.startswith("last answer: 10 tokens (length)")
        assert every.startswith("2 complete: 20 tokens (length)")
        assert ("acceptance" in last) == isinstance(talker, EdgeTalker)
        await talker.reset()
        assert talker.stats().splitlines() == [before, "no answer is complete yet"]


@both
async def test_ids_are_shown_if_that_is_asked_for(talking: Talking, capsys):
    said = path_behind(b"Tell me")
    stop = as_text(said[4:5])
    kept = said[: said.index(said[4])]
    async with talking(stop, show_ids=True) as talker:
        assert await answered(talker, "Tell me") == as_text(kept)
    ids = " ".join(map(str, kept))
    assert capsys.readouterr() == ("", f"prompt ids: 84 101 108 108 32 109 101\nanswer ids: {ids}\n")
    async with talking() as talker:
        await answered(talker, "Tell me")
    assert capsys.readouterr() == ("", "")


@both
async def test_a_line_that_cannot_be_answered_changes_nothing(talking: Talking):
    async with talking() as talker:
        await answered(talker, "Tell me")
        with pytest.raises(UsageError, match="empty"):
            await answered(talker, "")
        with pytest.raises(UsageError, match="shorten it"):
            await answered(talker, "x" * 9_000)
        assert "1 complete" in talker.stats()
        first = path_behind(b"Tell me")
        assert await answered(talker, "Go on") == as_text(path_behind(b"Tell me", *first, *b"Go on"))


class Unsure:
    """An answer of which drafts are shown before it is confirmed."""

    prompt_ids = (7, 8)
    kept_tokens = 2
    pieces = (Piece("so", (9,), verified=False, preview=True), Piece("it", (1,)), Piece("", (2,)))

    async def __aiter__(self) -> AsyncGenerator[Piece, None]:
        for piece in self.pieces:
            yield piece


async def test_drafts_are_passed_on_and_neither_timed_nor_among_the_ids(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    looks = itertools.count(1)
    monkeypatch.setattr(output, "monotonic", lambda: next(looks))
    figures, elapsed_ms = talk._Figures(show_ids=True), list[float]()
    answer = cast("Generation", Unsure())

    def summary_of(timing: Timing) -> Summary:
        elapsed_ms.append(timing.elapsed_ms)
        return Summary(tokens=2, finish="stop", elapsed_ms=40.0, first_token_ms=10.0, passes=4)

    passed = [piece async for piece in figures.passed_on(answer, summary_of)]
    assert tuple(passed) == Unsure.pieces
    assert capsys.readouterr() == ("", "prompt ids: 7 8\nanswer ids: 1 2\n")
    assert elapsed_ms == [2_000.0], "the clock is looked at once for each piece that counts"


async def test_private_turns_are_the_drafts_and_are_taken_back():
    async with at_the_edge() as talker:
        begun = await answered(talker, "Tell me")
        before = talker.stats().splitlines()[0]
        assert "private" in talker.set_private(True)
        told = [piece async for piece in talker.answer("My secret")]
        assert len(told) == 10
        assert not any(piece.verified or piece.preview for piece in told)
        about, last, every = talker.stats().splitlines()
        assert about == before.replace("text of 17 tokens", "text of 36 tokens, the last 19 private")
        assert last.endswith(UNVERIFIED)
        assert "bytes" not in last + every
        assert "19 tokens" in talker.set_private(False)
        assert talker.stats().splitlines()[0] == before
        first = path_behind(b"Tell me")
        assert begun == as_text(first)
        assert await answered(talker, "Go on") == as_text(path_behind(b"Tell me", *first, *b"Go on"))


async def test_a_new_conversation_is_as_private_as_the_last_one():
    async with at_the_edge() as talker:
        talker.set_private(True)
        await talker.reset()
        (first, *_) = [piece async for piece in talker.answer("Tell me")]
        assert not first.verified


async def test_who_has_no_cloud_or_no_draft_says_so_when_asked_to_be_private():
    async with without_a_cloud() as talker:
        assert "everything is private" in talker.set_private(True)
        with pytest.raises(UsageError, match=r"everything is private here.*edge-only"):
            talker.set_private(False)
    async with without_an_edge() as talker:
        for on in (True, False):
            with pytest.raises(UsageError, match="no draft model is there"):
                talker.set_private(on)


async def test_a_draft_alone_is_marked_as_unverified():
    async with without_a_cloud() as talker:
        assert await answered(talker, "Tell me") == as_text(path_behind(b"Tell me"))
        await answered(talker, "Go on")
        text, last, every = talker.stats().splitlines()
    assert text == (
        "unverified: scripted, seed 0, agreement 1 (draft) alone, exact numerics; text of 32 tokens"
    )
    assert last.endswith(UNVERIFIED)
    assert every.endswith(UNVERIFIED)
    assert "passes" not in last + every


@pytest.mark.parametrize(
    ("opening", "verified"), [(alone(CLOUD), True), (edge_alone(EDGE), False)], ids=["target", "draft"]
)
async def test_a_single_answer_of_a_model_alone_is_put_out(
    opening: AbstractAsyncContextManager[Alone], verified: bool, capsys: pytest.CaptureFixture[str]
):
    await write_alone(opening, "Tell me", (), Writer(as_json=True, show_ids=False))
    shown, errors = capsys.readouterr()
    answer = json.loads(shown)
    assert (answer["tokens"], answer["verified"], errors) == (10, verified, "")
    assert answer["prompt_ids"] == list(b"Tell me")
    assert answer["text"] == as_text(answer["token_ids"])


async def test_a_reset_gives_the_old_session_back():
    async with serve(replace(CLOUD, edge_sessions_max=1)) as cloud:
        config = replace(EDGE, cloud="{}:{}".format(*cloud.address))
        async with connect(config) as edge, AsyncExitStack() as sessions:
            talker = EdgeTalker(edge, sessions, (), show_ids=False)
            for _ in range(3):
                await talker.reset()
                assert await answered(talker, "Tell me") == as_text(path_behind(b"Tell me"))
