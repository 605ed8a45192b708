"""The real pair over real sockets: the text is the target's own, whatever the edge does.

Models are loaded once. PIPESD_TEST_EVERY=1 plays every prompt in every way, which takes most of an
hour; otherwise each way is played with two of the prompts.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from time import monotonic

import pytest

from pipesd.actors.compute import ThreadCompute
from pipesd.actors.link import listening, open_tcp_link
from pipesd.actors.runtime import Hooks
from pipesd.cloud import make_gateway
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import Edge, connect_over
from pipesd.edge_session import Result
from pipesd.engines.alone import TextAlone, target_alone
from pipesd.engines.caches import Room
from pipesd.engines.choose import quantize
from pipesd.engines.llama import Model
from pipesd.engines.llama_pair import LlamaDraft, LlamaTarget
from pipesd.engines.traces import load
from pipesd.observe import StatsObserver
from pipesd.session.commands import RunPass
from pipesd.values import Sampling

pytestmark = pytest.mark.models

TOKENS = 96
GREEDY = Sampling()
SAMPLED = Sampling(temperature=0.8, top_p=0.95)
SEED = 7
ROOM = Room(context_tokens=1_024, chunk_tokens=64, slots=2, threads=2)
PROMPTS = [prompt.prompt_tokens for prompt in load(()).prompts[:8]]
DRAFTS = ("0.5B", "0.5B in Q2_K")
WAYS = list(product((1, 4, 6, 12), ((0.3, 0.4), (0.8, 0.9)), DRAFTS, (GREEDY, SAMPLED)))
"""(upper_tokens, thresholds, draft, sampling)"""

ASIDE = 40
"""A sequence of the engine that no gateway knows of."""

EVERY = os.environ.get("PIPESD_TEST_EVERY") == "1"
PLAYS = [(way, (at + shift) % len(PROMPTS)) for at, way in enumerate(WAYS) for shift in (0, 3)]
if EVERY:
    PLAYS = [(way, at) for way in WAYS for at in range(len(PROMPTS))]


class Door(ThreadCompute):
    """The only way into an engine; outlives connections, so that a late step of one meets no other step."""

    def __init__(self, engine: LlamaTarget | LlamaDraft) -> None:
        super().__init__("engine", engine.interrupt)

    def close(self) -> None:
        self.interrupt()


@dataclass(frozen=True)
class Target:
    engine: LlamaTarget
    door: Door


@dataclass(frozen=True)
class Drafter:
    engine: LlamaDraft
    door: Door


def target_of(model: Model, room: Room = ROOM) -> Target:
    engine = LlamaTarget(model, room)
    return Target(engine, Door(engine))


def drafter_of(model: Model, room: Room = ROOM) -> Drafter:
    engine = LlamaDraft(model, room)
    return Drafter(engine, Door(engine))


@pytest.fixture(scope="module")
def target(load_model: Callable[[str], Model]) -> Target:
    return target_of(load_model("qwen2.5-coder-1.5b"))


@pytest.fixture(scope="module")
def drafts(
    load_model: Callable[[str], Model],
    model_file: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Drafter]:
    small = tmp_path_factory.mktemp("models") / "small.gguf"
    quantize(model_file("qwen2.5-coder-0.5b"), small, "Q2_K", 2)
    models = (load_model("qwen2.5-coder-0.5b"), Model(small, "exact"))
    return {name: drafter_of(model) for name, model in zip(DRAFTS, models, strict=True)}


Alone = Callable[[int, Sampling], Awaitable[list[int]]]


@pytest.fixture(scope="module")
def alone(target: Target) -> Alone:
    """What the target alone says to a prompt."""
    known: dict[tuple[int, Sampling], list[int]] = {}

    async def answer(number: int, sampling: Sampling) -> list[int]:
        key = (number, sampling)
        if key not in known:
            known[key] = await said_alone(target, PROMPTS[number], sampling, SEED, TOKENS)
        return known[key]

    return answer


async def said_alone(
    target: Target, prompt: Sequence[int], sampling: Sampling, seed: int, tokens_max: int
) -> list[int]:
    work = partial(
        target_alone,
        target.engine,
        prompt,
        sampling=sampling,
        seed=seed,
        tokens_max=tokens_max,
        sequence=ASIDE,
    )
    return await target.door.run(lambda: list(work()), 0)


@asynccontextmanager
async def connected(
    target: Target, drafter: Drafter, config: EdgeConfig, observer: StatsObserver | None = None
) -> AsyncIterator[Edge]:
    """A cloud and an edge in this process, with a real connection between them."""
    hooks = Hooks(clock=monotonic)
    gateway = make_gateway(CloudConfig(), target.engine, target.door, hooks)
    async with gateway.running(), listening("127.0.0.1", 0, gateway.accept) as (host, port):
        link = await open_tcp_link(host, port, 5.0)
        hooks = Hooks(observers=(observer,) if observer else (), clock=monotonic)
        untuned = replace(config, tuner="off")
        async with connect_over(untuned, link, drafter.engine, drafter.door, hooks) as edge:
            yield edge


async def said(edge: Edge, prompt: Sequence[int], sampling: Sampling) -> tuple[list[int], Result]:
    async with edge.session() as session:
        answer = session.generate(prompt, sampling=sampling, seed=SEED, tokens_max=TOKENS)
        tokens = [token async for piece in answer for token in piece.tokens]
    assert answer.result is not None
    return tokens, answer.result


@pytest.mark.parametrize(("way", "number"), PLAYS, ids=str)
async def test_the_text_is_the_targets_in_every_way(
    way: tuple[int, tuple[float, float], str, Sampling],
    number: int,
    target: Target,
    drafts: dict[str, Drafter],
    alone: Alone,
) -> None:
    upper, (r1, r2), draft, sampling = way
    config = EdgeConfig(r1=r1, r2=r2, upper_tokens=upper, lower_tokens=min(2, upper))
    expected = await alone(number, sampling)
    async with connected(target, drafts[draft], config) as edge:
        tokens, result = await said(edge, PROMPTS[number], sampling)
    assert tokens == expected
    assert result.stats.accepted > 0


async def test_most_of_the_text_is_drafted_right_with_the_default_settings(
    target: Target, drafts: dict[str, Drafter], alone: Alone
) -> None:
    accepted = total = 0
    async with connected(target, drafts["0.5B"], EdgeConfig()) as edge:
        for number, prompt in enumerate(PROMPTS):
            tokens, result = await said(edge, prompt, GREEDY)
            assert tokens == await alone(number, GREEDY)
            accepted += result.stats.accepted
            total += result.stats.tokens
    assert total > 500
    assert accepted / total >= 0.6


async def test_a_step_is_aborted_on_a_correction_and_the_next_is_right(
    target: Target, drafts: dict[str, Drafter], alone: Alone
) -> None:
    """Drafting ahead with the worse draft: verdicts contradict it while its next step runs."""
    seen = StatsObserver()
    config = EdgeConfig(r1=0.0, r2=0.0, upper_tokens=2)
    async with connected(target, drafts["0.5B in Q2_K"], config, seen) as edge:
        for number in range(3):
            tokens, result = await said(edge, PROMPTS[number], SAMPLED)
            assert tokens == await alone(number, SAMPLED)
            assert result.stats.corrections > 0
    assert seen.counts["StepAborted"] > 0


@pytest.fixture(scope="module")
def twins(load_model: Callable[[str], Model]) -> tuple[Target, Drafter]:
    """smollm2 as its own draft."""
    model = load_model("smollm2-135m")
    room = replace(ROOM, chunk_tokens=128)
    return target_of(model, room), drafter_of(model, room)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.0)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("upper", [1, 5, 12])
async def test_a_model_that_drafts_for_itself_is_never_contradicted(
    twins: tuple[Target, Drafter], sampling: Sampling, upper: int
) -> None:
    """Exact numerics on both sides, over several turns and prompts of more than one chunk."""
    target, draft = twins
    config = EdgeConfig(r1=0.0, r2=0.0, upper_tokens=upper, lower_tokens=min(2, upper), prompts="raw")
    reference = TextAlone(target.engine, sequence=ASIDE)
    sentence = "The river ran past the old mill, and nobody had worked there for many years. "
    prompts = [sentence * 12, "And then? ", sentence]
    async with connected(target, draft, config) as edge, edge.session() as session:
        for prompt in prompts:
            base = session.length
            answer = session.generate(prompt, sampling=sampling, seed=SEED, tokens_max=40)
            tokens = [token async for piece in answer for token in piece.tokens]
            path = reference.answer(base, answer.prompt_ids, sampling=sampling, seed=SEED, tokens_max=40)
            assert tokens == await target.door.run(partial(list, path), 0)
            assert answer.result is not None
            assert answer.result.stats.corrections == 0
            assert answer.result.stats.accepted >= len(tokens) // 2
    reference.release()


async def test_several_texts_take_turns_at_fewer_places_in_the_cache(
    twins: tuple[Target, Drafter],
) -> None:
    target, draft = twins
    texts = ("One day a fox", "The answer is", "In the year 1900", "My favourite food")
    async with connected(target, draft, EdgeConfig(prompts="raw", tokens_max=12)) as edge:
        answers = []
        for text in (*texts, *texts):
            tokens = [token async for piece in edge.generate(text) for token in piece.tokens]
            answers.append(tokens)
    assert answers[:4] == answers[4:]
    for text, tokens in zip(texts, answers, strict=False):
        prompt = target.engine.tokenizer.encode(text)
        assert tokens == await said_alone(target, prompt, GREEDY, 0, 12)


class PassWatch:
    """How many sequences shared a pass at most."""

    def __init__(self) -> None:
        self.most = 0

    def observe(self, now: float, event: object, commands: Sequence[object]) -> None:
        for command in commands:
            if isinstance(command, RunPass):
                self.most = max(self.most, len({part.sequence for part in command.slices}))


async def test_four_edges_at_once_read_what_each_would_read_alone(
    load_model: Callable[[str], Model], alone: Alone
) -> None:
    expected = [await alone(number, GREEDY) for number in range(4)]
    target = target_of(load_model("qwen2.5-coder-1.5b"), replace(ROOM, slots=4))
    drafters = [drafter_of(load_model("qwen2.5-coder-0.5b")) for _ in range(4)]
    seen, edge_config = PassWatch(), EdgeConfig(tuner="off")
    hooks = Hooks(observers=(seen,), clock=monotonic)
    gateway = make_gateway(CloudConfig(kv_sequences=4), target.engine, target.door, hooks)

    async def one(number: int, host: str, port: int) -> list[int]:
        drafter, link = drafters[number], await open_tcp_link(host, port, 5.0)
        plain = Hooks(clock=monotonic)
        async with connect_over(edge_config, link, drafter.engine, drafter.door, plain) as edge:
            return (await said(edge, PROMPTS[number], GREEDY))[0]

    async with (
        gateway.running(),
        listening("127.0.0.1", 0, gateway.accept) as address,
        asyncio.TaskGroup() as group,
    ):
        texts = [group.create_task(one(number, *address)) for number in range(4)]
    assert [text.result() for text in texts] == expected
    assert seen.most >= 2
