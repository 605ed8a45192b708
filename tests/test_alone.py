"""A model alone, as an application meets it: what it says is what a fresh text of the same tokens gets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial

import pytest

from pipesd.actors.compute import ModelledCompute, Pace, ThreadCompute
from pipesd.alone import Alone, AloneAnswer, alone, edge_alone
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.engines.alone import answer_alone
from pipesd.engines.scripted import END_ID, ScriptedDraft, ScriptedTarget
from pipesd.errors import EngineError, InterruptedStepError, UsageError
from pipesd.lab.clock import run_virtually
from pipesd.values import Finish, Sampling, Slice
from tests.speech import CHATML, SpeechTarget, as_text, rendered

GREEDY = Sampling()
SAMPLED = {"temperature": 0.9, "top_p": 0.9, "seed": 5}


class Chatty(SpeechTarget):
    """Notes what it is asked."""

    def __init__(self, template: str = "", *, ends_every: int = 0, context_tokens: int = 8_192) -> None:
        super().__init__(template, ends_every=ends_every, context_tokens=context_tokens)
        self.passes: list[Slice] = []
        self.interrupts = 0

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        self.passes += slices
        return super().forward(slices)

    def interrupt(self) -> None:
        self.interrupts += 1


def config_of(**settings: object) -> CloudConfig:
    return CloudConfig(**{"engine": "scripted", "tokens_max": 12, **settings})  # type: ignore[arg-type]


def target_of(engine: Chatty | None = None, **settings: object) -> Alone:
    return Alone(config_of(**settings), engine or Chatty(), ModelledCompute(Pace(0.1, 0.01)))


def fresh(tokens: Sequence[int], engine: ScriptedTarget | None = None, **settings: object) -> list[int]:
    """What a target that has seen nothing yet says behind ``tokens``."""
    config = config_of(**settings)
    said, _ = answer_alone(
        engine or Chatty(),
        tokens,
        sampling=config.sampling,
        seed=config.seed,
        tokens_max=config.tokens_max,
    )
    return said


async def read(answer: AloneAnswer) -> tuple[str, list[int]]:
    pieces = [piece async for piece in answer]
    return "".join(map(str, pieces)), [token for piece in pieces for token in piece.tokens]


# --- one answer ---


async def test_it_says_its_path_piece_by_piece():
    async with alone(config_of()) as target:
        answer = target.generate("Hello")
        assert (answer.prompt_ids, answer.tokens, answer.kept_tokens, answer.finish) == ((), 0, 0, None)
        pieces = [piece async for piece in answer]
    said = [token for piece in pieces for token in piece.tokens]
    assert said == fresh(list(b"Hello"), ScriptedTarget())
    assert "".join(piece.text for piece in pieces) == as_text(said)
    assert all(len(piece.tokens) == 1 for piece in pieces), "it was not streamed"
    assert (answer.prompt_ids, answer.tokens, answer.kept_tokens) == (tuple(b"Hello"), 12, 12)
    assert answer.finish == "length"
    assert target.length == 5 + 12
    assert target.engine.identity.model == ScriptedTarget().identity.model


async def test_sampling_and_seed_are_those_of_the_configuration():
    async with alone(config_of(**SAMPLED)) as one, alone(config_of(**{**SAMPLED, "seed": 6})) as other:
        said = (await read(one.generate("Hello")))[1]
        assert said == fresh(list(b"Hello"), ScriptedTarget(), **SAMPLED)
        assert said != (await read(other.generate("Hello")))[1]


def test_each_token_is_paid_for_as_the_configuration_says():
    async def main() -> float:
        await read(target_of().generate("Hello"))
        return asyncio.get_running_loop().time()

    assert run_virtually(main()) == pytest.approx(12 * 0.1 + 5 * 0.01 + 11 * 0.01, abs=0.11)


@pytest.mark.parametrize(
    ("make", "settings", "finish", "length"),
    [
        pytest.param(Chatty, {"tokens_max": 3}, "length", 3, id="its length"),
        pytest.param(partial(Chatty, context_tokens=9), {}, "context", 4, id="a full context"),
        pytest.param(partial(Chatty, ends_every=5), {"tokens_max": 99}, "stop", 4, id="an end id"),
    ],
)
def test_why_it_ended_is_told(
    make: Callable[[], Chatty], settings: dict[str, object], finish: Finish, length: int
):
    async def main() -> None:
        answer = target_of(make(), **settings).generate("Hello")
        text, said = await read(answer)
        assert said == fresh(list(b"Hello"), make(), **settings)
        assert (answer.finish, answer.tokens, len(said)) == (finish, length, length)
        assert text == as_text([token for token in said if token != END_ID])

    run_virtually(main())


# --- several turns ---


@pytest.mark.parametrize("settings", [{}, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("template", ["", CHATML], ids=["raw", "chat"])
@pytest.mark.parametrize("ends_every", [0, 6], ids=["endless", "ending"])
def test_every_turn_is_what_a_fresh_text_of_the_same_tokens_would_be_answered(
    settings: dict[str, object], template: str, ends_every: int
):
    async def main() -> None:
        target = target_of(Chatty(template, ends_every=ends_every), **settings)
        text: list[int] = []
        for prompt in ("Tell me of the water.", "And?", "So  what <|endoftext|>\n then?"):
            answer = target.generate(prompt)
            _, said = await read(answer)
            text = [*text[: target.length - len(answer.prompt_ids) - len(said)], *answer.prompt_ids]
            assert said == fresh(text, Chatty(ends_every=ends_every), **settings)
            text += said
            assert target.length == len(text)

    run_virtually(main())


def test_turns_go_on_in_the_chat_template():
    async def main() -> None:
        target = target_of(Chatty(CHATML), system="Be brief.")
        first = target.generate("Hi")
        said = (await read(first))[0]
        second = target.generate("And?")
        await read(second)
        assert as_text(first.prompt_ids) == rendered(CHATML, "Hi", system="Be brief.")
        whole = as_text(first.prompt_ids) + said + as_text(second.prompt_ids)
        assert whole == rendered(CHATML, "Hi", said, "And?", system="Be brief.")

    run_virtually(main())


def test_a_turn_evaluates_what_is_new_only():
    async def main() -> None:
        engine = Chatty()
        target = target_of(engine)
        await read(target.generate("Hello"))
        engine.passes.clear()
        await read(target.generate("More"))
        assert [(part.base, len(part.tokens)) for part in engine.passes][:2] == [(16, 1), (17, 4)]

    run_virtually(main())


def test_raw_prompts_ignore_a_template():
    async def main() -> None:
        answer = target_of(Chatty(CHATML), prompts="raw").generate("Hello")
        await read(answer)
        assert answer.prompt_ids == tuple(b"Hello")

    run_virtually(main())


# --- stop strings ---


@pytest.mark.parametrize("at", [0, 4, 11])
def test_a_stop_string_cuts_the_text_and_the_next_turn_follows_the_cut(at: int):
    async def main() -> None:
        said = fresh(list(b"Hello"))
        words = [as_text([token]) for token in said]
        stop = words[at]
        at_first = words.index(stop)
        target = target_of()
        answer = target.generate("Hello", stop=["never", stop])
        text, tokens = await read(answer)
        assert text == "".join(words[:at_first])
        assert tokens == said[: at_first + 1]
        assert (answer.finish, answer.tokens, answer.kept_tokens) == ("stop", at_first + 1, at_first)
        assert target.length == 5 + at_first
        _, following = await read(target.generate("Go"))
        assert following == fresh([*b"Hello", *said[:at_first], *b"Go"])

    run_virtually(main())


def test_text_that_might_have_become_a_stop_string_is_shown_in_the_end():
    async def main() -> None:
        said = fresh(list(b"Hello"))
        last = as_text(said[-1:])
        answer = target_of().generate("Hello", stop=[f"{last} and more"])
        text, tokens = await read(answer)
        assert (text, tokens, answer.finish, answer.kept_tokens) == (as_text(said), said, "length", 12)

    run_virtually(main())


def test_an_impossible_stop_string_is_the_callers_fault():
    async def main() -> None:
        target = target_of()
        with pytest.raises(UsageError, match=r"^stop: "):
            await read(target.generate("Hello", stop=[""]))
        assert (await read(target.generate("Hello")))[1] == fresh(list(b"Hello"))

    run_virtually(main())


# --- leaving early ---


async def taken(answer: AloneAnswer, count: int) -> list[int]:
    said: list[int] = []
    async with aclosing(aiter(answer)) as pieces:
        async for piece in pieces:
            said += piece.tokens
            if len(said) == count:
                break
    return said


def test_leaving_an_answer_ends_it_and_keeps_what_was_read():
    async def main() -> None:
        engine = Chatty()
        target = target_of(engine)
        answer = target.generate("Hello")
        said = await taken(answer, 3)
        assert said == fresh(list(b"Hello"))[:3]
        assert (answer.tokens, answer.finish, target.length) == (3, None, 8)
        passes = len(engine.passes)
        assert (await read(target.generate("Go")))[1] == fresh([*b"Hello", *said, *b"Go"])
        assert engine.passes[passes].base == 7, "what was read is evaluated anew"

    run_virtually(main())


@pytest.mark.parametrize("later_s", [0.0, 0.05, 0.25])
def test_an_answer_that_is_closed_late_does_not_interrupt_the_next(later_s: float):
    async def main() -> None:
        target = target_of()
        late = aiter(target.generate("Hello"))
        first = await anext(late)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(read(target.generate("Go")))
            await asyncio.sleep(later_s)
            await late.aclose()
        assert following.result()[1] == fresh([*b"Hello", *first.tokens, *b"Go"])

    run_virtually(main())


def test_a_loop_that_is_left_needs_no_closing():
    async def main() -> None:
        target = target_of()
        async for piece in target.generate("Hello"):
            first = piece.tokens
            break
        assert (await read(target.generate("Go")))[1] == fresh([*b"Hello", *first, *b"Go"])

    run_virtually(main())


class Gate(Chatty):
    """Waits in its second pass until it is interrupted; works as before when that is over."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.waiting = asyncio.Event()
        self.opened = asyncio.Event()

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        if len(self.passes) == 1:
            self.loop.call_soon_threadsafe(self.waiting.set)
            asyncio.run_coroutine_threadsafe(self.opened.wait(), self.loop).result(60)
            self.passes += slices
            raise InterruptedStepError("the step was interrupted")
        return super().forward(slices)

    def interrupt(self) -> None:
        super().interrupt()
        self.opened.set()


async def test_cancelling_a_reader_interrupts_the_pass_and_the_next_turn_is_right():
    engine = Gate()
    target = Alone(config_of(), engine, compute := ThreadCompute("test", engine.interrupt))
    said: list[int] = []

    async def reader() -> None:
        async for piece in target.generate("Hello"):
            said.extend(piece.tokens)

    async with asyncio.timeout(60):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(reader())
            await engine.waiting.wait()
            task.cancel()
        assert engine.interrupts == 1
        assert said == fresh(list(b"Hello"))[:1]
        assert (await read(target.generate("Go")))[1] == fresh([*b"Hello", *said, *b"Go"])
    compute.close()


def test_a_model_that_fails_is_reported_and_the_text_goes_on():
    class Flaky(Chatty):
        def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
            if len(self.passes) == 3:
                self.passes += slices
                raise EngineError("out of memory; close something")
            return super().forward(slices)

    async def main() -> None:
        target = target_of(Flaky())
        pieces = aiter(target.generate("Hello"))
        said = [token for _ in range(3) for token in (await anext(pieces)).tokens]
        with pytest.raises(EngineError, match="out of memory"):
            await anext(pieces)
        assert said == fresh(list(b"Hello"))[:3]
        assert (await read(target.generate("Go")))[1] == fresh([*b"Hello", *said, *b"Go"])

    run_virtually(main())


# --- one after the other ---


def test_an_answer_is_read_once():
    async def main() -> None:
        target = target_of()
        answer = target.generate("Hello")
        await read(answer)
        with pytest.raises(UsageError, match="this answer was read before; call generate again"):
            await read(answer)
        assert (answer.tokens, target.length) == (12, 17)

    run_virtually(main())


def test_an_answer_that_another_took_over_from_says_so_and_spoils_nothing():
    async def main() -> None:
        target = target_of()
        old, new = aiter(target.generate("Hello")), aiter(target.generate("Go"))
        first = await anext(old)
        assert (await anext(new)).tokens
        with pytest.raises(UsageError, match="newer prompt"):
            await anext(old)
        said = fresh([*b"Hello", *first.tokens, *b"Go"])
        rest = [token async for piece in new for token in piece.tokens]
        assert rest == said[1:]
        assert target.length == 5 + 1 + 2 + 12
        _, following = await read(target.generate("?"))
        assert following == fresh([*b"Hello", *first.tokens, *b"Go", *said, *b"?"])

    run_virtually(main())


def test_a_reset_begins_a_new_text():
    async def main() -> None:
        target = target_of(Chatty(CHATML))
        first = target.generate("Hi")
        said = await read(first)
        await read(target.generate("And?"))
        target.reset()
        assert target.length == 0
        again = target.generate("Hi")
        assert await read(again) == said
        assert again.prompt_ids == first.prompt_ids

    run_virtually(main())


def test_an_answer_from_before_a_reset_spoils_nothing():
    async def main() -> None:
        target = target_of()
        old = aiter(target.generate("Hello"))
        await anext(old)
        target.reset()
        new = target.generate("Hello")
        assert (await read(new))[1] == fresh(list(b"Hello"))
        with pytest.raises(UsageError, match="newer prompt"):
            await anext(old)
        assert target.length == 17

    run_virtually(main())


# --- what cannot be ---


@pytest.mark.parametrize(
    ("prompt", "words"),
    [("", "empty"), ("x" * 9_000, "shorten it"), ("\ud800", "half a surrogate")],
    ids=["nothing", "too long", "no text"],
)
async def test_an_impossible_prompt_is_the_callers_fault_and_changes_nothing(prompt: str, words: str):
    async with alone(config_of()) as target:
        await read(target.generate("Hello"))
        with pytest.raises(UsageError, match=words):
            await read(target.generate(prompt))
        assert target.length == 17
        expected = fresh([*b"Hello", *fresh(list(b"Hello")), *b"Go"])
        assert (await read(target.generate("Go")))[1] == expected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prompts": "chat"}, "no chat template"),
        ({"system": "Be brief."}, r"^system: "),
        ({"engine": "replay", "traces": ("nowhere.jsonl",)}, "nowhere"),
        ({"engine": "llama", "model": "nobody"}, "nobody"),
    ],
)
async def test_what_cannot_be_is_said_before_anything_is_asked(settings: dict[str, object], words: str):
    with pytest.raises((UsageError, EngineError), match=words):
        async with alone(config_of(**settings)):
            raise AssertionError("it began")


# --- the draft alone ---


def edge_config_of(**settings: object) -> EdgeConfig:
    given = {"engine": "scripted", "policy": "edge-only", "tokens_max": 12, **settings}
    return EdgeConfig(**given)  # type: ignore[arg-type]


def drafted(prompt: Sequence[int], count: int, *, seed: int = 0, sampling: Sampling = GREEDY) -> list[int]:
    """What the scripted draft proposes again and again."""
    draft = ScriptedDraft()
    draft.extend(0, prompt, prompt=True)
    said: list[int] = []
    while len(said) < count:
        said.append(draft.propose(0, sampling, seed).token)
        draft.extend(0, said[-1:])
    return said


@pytest.mark.parametrize("settings", [{}, SAMPLED], ids=["greedy", "sampled"])
async def test_the_draft_alone_says_what_it_would_propose(settings: dict[str, object]):
    config = edge_config_of(**settings)
    propose = partial(drafted, seed=config.seed, sampling=config.sampling)
    async with edge_alone(config) as draft:
        assert not draft.verified
        assert (await read(draft.generate("Hello")))[1] == (first := propose(list(b"Hello"), 12))
        assert (await read(draft.generate("Go")))[1] == propose([*b"Hello", *first, *b"Go"], 12)
        assert draft.length == 5 + 12 + 2 + 12


async def test_the_text_of_the_draft_alone_is_not_the_targets():
    async with edge_alone(edge_config_of(agreement=0.1)) as draft, alone(config_of()) as target:
        assert target.verified
        assert (await read(draft.generate("Hello")))[1] != (await read(target.generate("Hello")))[1]


def test_each_token_of_the_draft_takes_a_modelled_step():
    async def main() -> None:
        clock = asyncio.get_running_loop().time
        async with edge_alone(edge_config_of(draft_ms=20.0)) as draft:
            moments = [clock() async for _ in draft.generate("Hello")]
        assert moments == pytest.approx([0.02 * count for count in range(1, 13)])

    run_virtually(main())


@pytest.mark.parametrize(
    ("model", "modelled"),
    [
        pytest.param(partial(alone, config_of()), False, id="a target"),
        pytest.param(partial(alone, config_of(pass_token_ms=0.1)), True, id="a paced target"),
        pytest.param(partial(alone, config_of(engine="replay")), True, id="a recorded target"),
        pytest.param(partial(edge_alone, edge_config_of()), False, id="a draft"),
        pytest.param(partial(edge_alone, edge_config_of(draft_ms=0.1)), True, id="a paced draft"),
        pytest.param(partial(edge_alone, edge_config_of(engine="replay")), True, id="a recorded draft"),
    ],
)
async def test_what_is_modelled_says_so(
    model: Callable[[], AbstractAsyncContextManager[Alone]], modelled: bool
):
    async with model() as writer:
        assert writer.modelled == modelled


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prompts": "chat"}, "no chat template"),
        ({"engine": "replay", "traces": ("nowhere.jsonl",)}, "nowhere"),
        ({"engine": "llama", "draft": "nobody"}, "nobody"),
    ],
)
async def test_what_a_draft_cannot_be_is_said_before_anything_is_asked(
    settings: dict[str, object], words: str
):
    with pytest.raises((UsageError, EngineError), match=words):
        async with edge_alone(edge_config_of(**settings)):
            raise AssertionError("it began")


# --- the end ---


@asynccontextmanager
async def no_new_tasks() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(partial(alone, config_of(pass_ms=20.0)), id="target"),
        pytest.param(partial(edge_alone, edge_config_of(draft_ms=20.0)), id="draft"),
    ],
)
async def test_nothing_is_left_behind(model: Callable[[], AbstractAsyncContextManager[Alone]]):
    async with no_new_tasks():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), model() as writer:
                await read(writer.generate("Hello"))
