"""The draft model alone, behind a door that others use too."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from pipesd.actors.compute import ModelledCompute, Pace
from pipesd.engines.alone import answer_alone
from pipesd.engines.scripted import ScriptedDraft
from pipesd.engines.solo import scripted_solo
from pipesd.errors import EngineError, InterruptedStepError, UsageError
from pipesd.lab.clock import run_virtually
from pipesd.private import PrivateStream, PrivateText
from pipesd.session.events import PromptGiven
from pipesd.values import Proposal, Sampling

LONG = [*b"a long story " * 20]


class Watched(ScriptedDraft):
    """Knows what it was asked to read, and may fail before it does."""

    def __init__(self) -> None:
        super().__init__(agreement=0.85)
        self.read: list[tuple[int, bool]] = []
        self.failures: list[Exception | None] = []

    def extend(self, sequence: int, tokens: Sequence[int], *, prompt: bool = False) -> None:
        self.read.append((len(tokens), prompt))
        super().extend(sequence, tokens, prompt=prompt)

    def propose(self, sequence: int, sampling: Sampling, seed: int) -> Proposal:
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        return super().propose(sequence, sampling, seed)


def text_of(engine: ScriptedDraft, compute: ModelledCompute | None = None) -> PrivateText:
    return PrivateText(engine, compute or ModelledCompute(Pace(0.01)), -1, frozenset())


def wish(tokens: Sequence[int], base: int = 0, tokens_max: int = 8) -> PromptGiven:
    return PromptGiven(0, base, tuple(tokens), Sampling(), 0, tokens_max)


async def rest_of(stream: PrivateStream) -> list[int]:
    said: list[int] = []
    while tokens := (await stream.next()).tokens:
        said += tokens
    return said


def says(text: Sequence[int], tokens_max: int = 8) -> list[int]:
    engine = scripted_solo(0, 0.85, context_tokens=4_096, chunk_tokens=512)
    return answer_alone(engine, text, sampling=Sampling(), seed=0, tokens_max=tokens_max)[0]


def test_a_prompt_is_read_in_chunks_and_an_answer_token_by_token() -> None:
    engine = Watched()

    async def main() -> None:
        assert await rest_of(text_of(engine).answer(LONG, wish(LONG))) == says(LONG)

    run_virtually(main())
    assert engine.read == [(64, True)] * 4 + [(4, True)] + [(1, False)] * 7
    assert len(LONG) == 260


def test_what_the_cache_holds_is_not_read_again() -> None:
    engine = Watched()

    async def main() -> None:
        text = text_of(engine)
        first = await rest_of(text.answer(LONG, wish(LONG)))
        engine.read.clear()
        more = [*LONG, *first, *b" and"]
        assert await rest_of(text.answer(more, wish(b" and", base=len(more) - 4))) == says(more)
        assert engine.read[0] == (5, True), "the last token of an answer was never read, and the prompt"
        engine.read.clear()
        assert await rest_of(text.answer(LONG[:100], wish(LONG[90:100], base=90))) == says(LONG[:100])
        assert engine.read[0] == (1, True), "without a token nothing is known of what follows"

    run_virtually(main())


def test_an_interrupt_that_was_meant_for_another_changes_nothing() -> None:
    engine = Watched()
    engine.failures = [InterruptedStepError("stop"), None, InterruptedStepError("stop")]

    async def main() -> None:
        assert await rest_of(text_of(engine).answer(LONG, wish(LONG))) == says(LONG)

    run_virtually(main())
    assert engine.failures == []


def test_a_door_that_is_interrupted_all_the_time_lets_it_through() -> None:
    async def main() -> None:
        compute = ModelledCompute(Pace(0.01))
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(rest_of(text_of(Watched(), compute).answer(LONG, wish(LONG))))
            for _ in range(20):
                await asyncio.sleep(0.007)
                compute.interrupt()
        assert reading.result() == says(LONG)

    run_virtually(main())


def test_an_engine_that_fails_fails_the_answer_and_the_next_one_is_right() -> None:
    engine = Watched()
    engine.failures = [None, EngineError("out of memory")]

    async def main() -> None:
        text = text_of(engine)
        stream = text.answer(LONG, wish(LONG))
        await stream.next()
        with pytest.raises(EngineError, match="out of memory"):
            await stream.next()
        assert await rest_of(text.answer(LONG, wish(LONG))) == says(LONG)

    run_virtually(main())


@pytest.mark.parametrize(
    "over",
    [
        lambda text, _: text.answer(LONG, wish(LONG)),
        lambda text, _: text.end(),
        lambda _, stream: stream.cancel(),
    ],
    ids=["a newer one", "the text is given up", "it is left"],
)
def test_a_step_that_nobody_waits_for_any_more_leaves_no_trace(
    over: Callable[[PrivateText, PrivateStream], object],
) -> None:
    async def refused(stream: PrivateStream) -> None:
        with pytest.raises(UsageError, match="read one answer at a time"):
            await stream.next()

    async def main() -> None:
        text = text_of(Watched())
        other = [*b"another story"]
        stream = text.answer(other, wish(other))
        async with asyncio.TaskGroup() as group:
            group.create_task(refused(stream))
            await asyncio.sleep(0.005)
            over(text, stream)
        assert await rest_of(text.answer(LONG, wish(LONG))) == says(LONG)

    run_virtually(main())


def test_a_step_whose_reader_is_cancelled_leaves_no_trace() -> None:
    async def main() -> None:
        text = text_of(Watched())
        async with asyncio.TaskGroup() as group:
            step = group.create_task(text.answer(LONG, wish(LONG)).next())
            await asyncio.sleep(0.005)
            step.cancel()
        assert step.cancelled()
        assert await rest_of(text.answer(LONG, wish(LONG))) == says(LONG)

    run_virtually(main())
