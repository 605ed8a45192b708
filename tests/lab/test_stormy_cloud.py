"""A target that is lost on demand and minds its prompts, and clouds that go and come back."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pipesd.config import CloudConfig
from pipesd.engines.scripted import FIRST_WORD_ID
from pipesd.errors import EngineError, EngineLostError, LinkError
from pipesd.lab.clock import run_virtually
from pipesd.lab.link import LinkModel, memory_link
from pipesd.lab.scenarios import SCENARIOS
from pipesd.lab.stormy_cloud import CHUNK_TOKENS, CloudHost, FragileTarget, stormy_target
from pipesd.lab.stormy_trip import PROMPT_MARK
from pipesd.values import Sampling, Slice
from pipesd.wire.frames import Bye, CloudFrame, Draft, Open, Prompt, Verdict, Welcome
from tests.actors.helpers import Talker
from tests.lab.tiny_storm import hello

WORD = FIRST_WORD_ID + 1
CONFIG = CloudConfig(engine="scripted", tuner="off", drain_s=0.5)


def part(base: int, *tokens: int, prompt: bool, sequence: int = 0, copy_of: int | None = None) -> Slice:
    picks = int(not prompt)
    return Slice(sequence, base, tokens, picks, prompt, Sampling(), seed=0, copy_of=copy_of)


def fragile(on_loss: Callable[[], None] = lambda: None) -> FragileTarget:
    return FragileTarget(stormy_target, on_loss)


# -- the target ---------------------------------------------------------------------------------------------


def test_it_says_what_the_target_behind_it_says():
    slices = [part(0, PROMPT_MARK, 8, 9, prompt=True), part(3, WORD, WORD, prompt=False)]
    target = fragile()
    assert target.forward(slices) == stormy_target().forward(slices)
    assert target.identity == stormy_target().identity
    assert target.tokenizer.vocabulary.hashes == stormy_target().tokenizer.vocabulary.hashes


def test_a_loss_takes_everything_with_it_once():
    lost: list[None] = []
    target = fragile(lambda: lost.append(None))
    target.forward([part(0, PROMPT_MARK, 8, prompt=True)])
    target.fail()
    with pytest.raises(EngineLostError):
        target.forward([part(2, WORD, prompt=False)])
    assert len(lost) == 1
    with pytest.raises(AssertionError, match="beyond what the sequence holds"):
        target.forward([part(2, WORD, prompt=False)])
    assert target.forward([part(0, PROMPT_MARK, 8, prompt=True)]) == [()]


LONG = (PROMPT_MARK, *[8] * (2 * CHUNK_TOKENS))
FIRST, SECOND = LONG[:CHUNK_TOKENS], LONG[CHUNK_TOKENS : 2 * CHUNK_TOKENS]


@pytest.mark.parametrize(
    "slices",
    [
        [part(0, *FIRST, prompt=True), part(CHUNK_TOKENS, *SECOND, prompt=True)],
        [part(0, *FIRST, prompt=True), part(CHUNK_TOKENS, 8, prompt=True)],
        [part(0, PROMPT_MARK, 8, prompt=True), part(2, PROMPT_MARK, 8, prompt=True)],
        [part(0, *FIRST, prompt=True), part(CHUNK_TOKENS, 8, prompt=True, sequence=1, copy_of=0)],
    ],
    ids=["two chunks", "the second is short", "two prompts", "a chunk is copied"],
)
def test_chunks_that_are_counted_from_a_prompts_start_are_read(slices: list[Slice]):
    assert fragile().forward(slices) == stormy_target().forward(slices)


@pytest.mark.parametrize(
    ("slices", "words"),
    [
        ([part(0, *FIRST[:-1], prompt=True), part(CHUNK_TOKENS - 1, 8, prompt=True)], "not read in chunks"),
        ([part(0, *FIRST, 8, prompt=True)], "not read in chunks"),
        ([part(0, PROMPT_MARK, 8, PROMPT_MARK, prompt=True)], "not read in chunks"),
        ([part(0, PROMPT_MARK, WORD, prompt=True)], "a prompt was taken for an answer"),
        ([part(0, PROMPT_MARK, 8, prompt=False)], "a prompt was taken for an answer"),
    ],
    ids=[
        "it begins within one",
        "it is too long",
        "two at once",
        "an answer as prompt",
        "a prompt as answer",
    ],
)
def test_any_other_way_to_read_is_refused(slices: list[Slice], words: str):
    with pytest.raises(EngineError, match=words):
        fragile().forward(slices)


def test_what_is_released_is_forgotten():
    target = fragile()
    target.forward([part(0, PROMPT_MARK, 8, prompt=True)])
    target.release(0)
    with pytest.raises(AssertionError, match="beyond what the sequence holds"):
        target.forward([part(2, WORD, prompt=False)])
    target.interrupt()
    target.close()


# -- where it is served -------------------------------------------------------------------------------------


def with_host(play: Callable[[CloudHost, list[None]], Awaitable[None]]) -> None:
    async def main() -> None:
        lost: list[None] = []
        async with asyncio.TaskGroup() as hands:
            host = CloudHost(CONFIG, SCENARIOS["s1"], hands, lambda: lost.append(None))
            host.start()
            await asyncio.sleep(0)
            try:
                await play(host, lost)
            finally:
                host.close()

    run_virtually(main())


async def called(host: CloudHost) -> Talker[CloudFrame]:
    ours, theirs = memory_link(LinkModel(), LinkModel())
    host.accept(theirs)
    talker: Talker[CloudFrame] = Talker(ours, CloudFrame)
    await talker.say(hello())
    assert isinstance(await talker.hear(), Welcome)
    return talker


def test_who_is_killed_says_nothing_and_comes_back():
    async def play(host: CloudHost, lost: list[None]) -> None:
        talker = await called(host)
        host.kill(0.7)
        assert await talker.hear_all() == []
        with pytest.raises(LinkError, match="nobody listens"):
            await called(host)
        await asyncio.sleep(0.8)
        assert host.is_up
        (await called(host)).link.abort()

    with_host(play)


def test_who_is_killed_while_down_comes_back_later():
    async def play(host: CloudHost, lost: list[None]) -> None:
        host.kill(0.5)
        await asyncio.sleep(0.4)
        host.kill(0.5)
        host.fail_engine()
        await asyncio.sleep(0.4)
        assert not host.is_up
        await asyncio.sleep(0.2)
        assert host.is_up

    with_host(play)


def test_who_is_replaced_finishes_what_it_owes_while_another_serves():
    async def play(host: CloudHost, lost: list[None]) -> None:
        talker = await called(host)
        asking = Prompt(0, 1, 0, (PROMPT_MARK, 8), Sampling(), 0, 50)
        await talker.say(Open(0), asking, Draft(0, 1, 2, (), 12))
        await asyncio.sleep(0.01)
        host.replace()
        await asyncio.sleep(0)
        (await called(host)).link.abort()
        heard = await talker.hear_all()
        assert any(isinstance(frame, Verdict) for frame in heard)
        assert isinstance(heard[-1], Bye)

    with_host(play)


def test_a_lost_engine_costs_its_cloud_a_pass_and_nothing_else():
    async def play(host: CloudHost, lost: list[None]) -> None:
        talker = await called(host)
        asking = Prompt(0, 1, 0, (PROMPT_MARK, 8), Sampling(), 0, 50)
        host.fail_engine()
        await talker.say(Open(0), asking)
        await talker.hear()
        assert isinstance(await talker.hear(), Verdict)
        assert len(lost) == 1
        talker.link.abort()

    with_host(play)
