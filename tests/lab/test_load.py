"""Many edges on one cloud, in virtual time: what they get, and what becomes of the cloud under load."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import pytest

from pipesd.actors.gateway import Gateway
from pipesd.actors.runtime import Hooks
from pipesd.cloud import make_gateway
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import connect_over
from pipesd.engines.alone import target_alone
from pipesd.engines.scripted import ScriptedDraft, ScriptedTarget
from pipesd.errors import EngineError, UsageError
from pipesd.lab.clock import run_virtually
from pipesd.lab.link import LinkModel, memory_link
from pipesd.lab.load import (
    EDGES_MAX,
    ClosedLoop,
    Load,
    LoadRecord,
    Poisson,
    System,
    alone,
    play_load,
    wishes_of,
)
from pipesd.lab.load_metrics import slowdowns
from pipesd.lab.phased import PhasedCompute
from pipesd.lab.scenarios import SCENARIOS
from pipesd.observe import Observer, Recorder, StatsObserver
from pipesd.session import commands, events
from pipesd.values import Sampling
from pipesd.wire import frames
from tests.actors.helpers import Talker, turns
from tests.lab.recordings import DISTANT, TWINS, shipped

S1 = SCENARIOS["s1"]
FEW = shipped("chat/6", "HumanEval/7", "HumanEval/12")


def load_of(edges: int, system: System = "batched", **changed: Any) -> Load:
    return replace(Load(trace=FEW, scenario=S1, edges=edges, system=system), **changed)


@cache
def played(edges: int, system: System = "batched") -> LoadRecord:
    return play_load(load_of(edges, system))


# -- what is played -----------------------------------------------------------------------------------------


def test_every_edge_plays_all_prompts_in_rotated_order():
    record = played(4)
    ids = [[asked.prompt.id for asked in edge] for edge in record.edges]
    first = [prompt.id for prompt in FEW.prompts]
    assert ids == [first, [*first[1:], first[0]], [*first[2:], *first[:2]], first]
    assert all(tuple(asked.answer.tokens) == asked.prompt.target for edge in record.edges for asked in edge)


def test_no_two_edges_share_a_prompt_and_nothing_else_is_changed():
    load = load_of(4)
    prompts = [prompt for edge in range(4) for prompt in load.prompts_of(edge)]
    assert len({prompt.prompt_tokens[0] for prompt in prompts}) == 4
    by_id = {prompt.id: prompt for prompt in FEW.prompts}
    assert all(prompt.prompt_tokens[1:] == by_id[prompt.id].prompt_tokens[1:] for prompt in prompts)


@pytest.mark.parametrize("system", ["batched", "cloud-only"])
def test_one_edge_under_load_is_the_edge_alone(system: System):
    """So the heap, by which edges are played alone, is a fair measure of what load adds."""
    slower = slowdowns(played(1, system).edges, [alone(load_of(1, system), 0)])
    assert slower == pytest.approx([1.0] * 3, rel=1e-3)


def test_the_same_load_gives_the_same_record():
    jittery = replace(S1, jitter_ms=10.0)
    load = load_of(2, scenario=jittery, think_s=0.5)
    assert play_load(load) == play_load(load)
    assert play_load(load) != play_load(replace(load, seed=1))


def test_links_have_luck_of_their_own():
    record = play_load(
        load_of(2, trace=replace(FEW, prompts=FEW.prompts[:1]), scenario=replace(S1, jitter_ms=40.0))
    )
    one, other = (edge[0].answer.moments for edge in record.edges)
    assert one != other


def test_one_lock_puts_one_session_into_a_pass_and_batched_puts_more():
    widest = {}
    for system in ("batched", "one-lock", "cloud-only"):
        seen = Recorder()
        play_load(load_of(3, system), observers=(seen,))
        passes = [
            {part.sequence for part in command.slices}
            for step in seen.steps
            for command in step.commands
            if isinstance(command, commands.RunPass)
        ]
        widest[system] = max(map(len, passes))
    assert widest == {"batched": 3, "one-lock": 1, "cloud-only": 3}


def test_passes_and_their_tokens_are_counted():
    seen = Recorder()
    record = play_load(load_of(2), observers=(seen,))
    passes = [each for step in seen.steps for each in step.commands if isinstance(each, commands.RunPass)]
    assert record.passes == len(passes) == sum(isinstance(step.event, events.PassDone) for step in seen.steps)
    assert record.pass_tokens == sum(each.tokens for each in passes)
    cost_s = sum(S1.pass_pace.at(0.0).cost_s(each.tokens) for each in passes)
    assert record.busy_s == pytest.approx(cost_s)


def test_a_pass_holds_no_more_than_it_may():
    seen = Recorder()
    play_load(load_of(3, pass_tokens=2), observers=(seen,))
    drafts = [
        sum(len(part.tokens) for part in each.slices if not part.prompt)
        for step in seen.steps
        for each in step.commands
        if isinstance(each, commands.RunPass)
    ]
    assert max(drafts) <= 2


# -- users --------------------------------------------------------------------------------------------------


def test_a_user_without_thoughts_asks_at_once():
    [edge] = played(1).edges
    for before, after in pairwise(edge):
        assert after.wanted_s == after.answer.begun_s == pytest.approx(before.answer.moments[-1][0])


def test_a_user_thinks_for_so_long_on_average():
    wishes = wishes_of(load_of(1, think_s=2.0), 0, 0.0)
    assert isinstance(wishes, ClosedLoop)
    assert sum(wishes.next(0.0) for _ in range(2_000)) / 2_000 == pytest.approx(2.0, rel=0.1)


def test_prompts_come_by_poisson_whatever_the_cloud_does():
    load = load_of(4, arrivals="poisson", rate=2.0)
    wishes = wishes_of(load, 0, 10.0)
    assert isinstance(wishes, Poisson)
    moments = [wishes.next(1e6) for _ in range(2_000)]
    assert (moments[-1] - 10.0) / 2_000 == pytest.approx(4 / 2.0, rel=0.1)
    hurried = play_load(replace(load, edges=1, rate=100.0)).edges[0]
    assert hurried[-1].wanted_s < hurried[-1].answer.begun_s
    assert hurried[-1].answer.begun_s == pytest.approx(hurried[-2].answer.moments[-1][0])


# -- what cannot be played ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("edges", 0),
        ("edges", EDGES_MAX + 1),
        ("system", "two locks"),
        ("arrivals", "at night"),
        ("think_s", -1.0),
        ("think_s", float("nan")),
        ("rate", 0.0),
    ],
)
def test_an_impossible_load_is_named(name: str, value: Any):
    with pytest.raises(UsageError, match=rf"^{name.removesuffix('_s')}: "):
        replace(load_of(1), **{name: value})


def test_a_wrong_text_is_found_out():
    """The answer to the first of them begins as the second goes on, but only if both begin alike."""
    with pytest.raises(EngineError, match="is not the recorded target's"):
        play_load(Load(trace=TWINS, scenario=DISTANT))


# -- a long prompt in the middle ----------------------------------------------------------------------------

CHUNK = CloudConfig().chunk_tokens
CONTEXT = 6_000
LONG = 4_000
STEADY, ROUNDS, PERIOD_S, DRAFTS = 5, 20, 0.5, 4
LONG_AT_S = 2.05


@asynccontextmanager
async def cloud(*observers: Observer) -> AsyncIterator[Gateway]:
    """The production gateway over a scripted target at the pace of s1."""
    now = asyncio.get_running_loop().time
    config = CloudConfig(engine="scripted", context_tokens=CONTEXT, kv_sequences=256, tuner="off")
    target = ScriptedTarget(context_tokens=CONTEXT, chunk_tokens=CHUNK, ends_every=0)
    served = make_gateway(config, target, PhasedCompute(S1.pass_pace, now), Hooks(observers=observers))
    async with served.running():
        yield served


async def greeted(served: Gateway) -> Talker[frames.CloudFrame]:
    ours, theirs = memory_link(LinkModel(), LinkModel())
    served.accept(theirs)
    talker: Talker[frames.CloudFrame] = Talker(ours, frames.CloudFrame)
    await talker.say(frames.Hello(frames.PROTOCOL_VERSION, "a test", 1), frames.Open(0))
    assert isinstance(await talker.hear(), frames.Welcome)
    assert isinstance(await talker.hear(), frames.Opened)
    return talker


def asked(tokens: tuple[int, ...], tokens_max: int) -> frames.Prompt:
    return frames.Prompt(0, 1, 0, tokens, Sampling(), 0, tokens_max)


async def verdict_of(talker: Talker[frames.CloudFrame]) -> frames.Verdict:
    verdict = await talker.hear()
    assert isinstance(verdict, frames.Verdict)
    return verdict


async def steady(served: Gateway, number: int) -> list[float]:
    """When verdicts come to a session that asks by the clock, come what may, and always guesses right."""
    now = asyncio.get_running_loop().time
    talker, prompt = await greeted(served), (65 + number, 66)
    target = ScriptedTarget(context_tokens=CONTEXT, ends_every=0)
    length = 1 + ROUNDS * (DRAFTS + 1)
    path = list(target_alone(target, prompt, sampling=Sampling(), seed=0, tokens_max=length))
    await talker.say(asked(prompt, length + 1))
    await verdict_of(talker)
    moments = []
    for turn in range(ROUNDS):
        await asyncio.sleep(1.0 + number * 0.093 + turn * PERIOD_S - now())
        done = 1 + turn * (DRAFTS + 1)
        base, drafts = len(prompt) + done, tuple(path[done : done + DRAFTS])
        await talker.say(frames.Draft(0, 1, base, drafts, base + DRAFTS))
        assert (await verdict_of(talker)).accepted == DRAFTS
        moments.append(now())
    await talker.link.end()
    return moments


async def long_prompt(served: Gateway) -> float:
    """When it was read."""
    now = asyncio.get_running_loop().time
    talker = await greeted(served)
    await asyncio.sleep(LONG_AT_S - now())
    await talker.say(asked((67,) * LONG, 1))
    await verdict_of(talker)
    await talker.link.end()
    return now()


async def disturbed(*, is_long: bool, seen: Recorder) -> tuple[list[float], float]:
    async with cloud(seen) as served, asyncio.TaskGroup() as group:
        tasks = [group.create_task(steady(served, number)) for number in range(STEADY)]
        reading = group.create_task(long_prompt(served)) if is_long else None
    return [moment for task in tasks for moment in task.result()], reading.result() if reading else 0.0


def longest_pass_s(seen: Recorder) -> float:
    tokens = [
        each.tokens for step in seen.steps for each in step.commands if isinstance(each, commands.RunPass)
    ]
    return S1.pass_pace.at(0.0).cost_s(max(tokens))


def test_a_long_prompt_delays_nobodys_verdict_by_more_than_a_pass_and_a_chunk():
    pace, calm, busy = S1.pass_pace.at(0.0), Recorder(), Recorder()
    before, _ = run_virtually(disturbed(is_long=False, seen=calm))
    after, read_s = run_virtually(disturbed(is_long=True, seen=busy))
    delays_s = [late - early for early, late in zip(before, after, strict=True)]
    chunk_s = pace.token_s * CHUNK
    assert pace.cost_s(CHUNK) <= 0.100
    assert longest_pass_s(busy) <= longest_pass_s(calm) + chunk_s
    assert max(delays_s) <= longest_pass_s(busy) + chunk_s
    hit = [late for late, delay in zip(after, delays_s, strict=True) if delay > chunk_s / 2]
    assert len(hit) > 2 * STEADY, "the long prompt was hardly felt, so this says little"
    assert LONG_AT_S + LONG * pace.token_s < read_s < LONG_AT_S + LONG / CHUNK * longest_pass_s(busy)


# -- many who come and go -----------------------------------------------------------------------------------

MANY = 200


def test_no_task_is_left_of_many_edges_that_left():
    async def main() -> None:
        counted = StatsObserver()
        async with cloud(counted) as served:
            before = asyncio.all_tasks()
            async with AsyncExitStack() as stack:
                for number in range(MANY):
                    await stack.enter_async_context(one_answer(served, rude=number % 2 == 1))
                assert len(asyncio.all_tasks()) > MANY
            await turns(50)
            assert asyncio.all_tasks() == before
        assert counted.counts["PeerConnected"] == MANY
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(main())


@asynccontextmanager
async def one_answer(served: Gateway, *, rude: bool) -> AsyncIterator[None]:
    """An edge that writes a little, and leaves with the block; a rude one in mid-answer, without a word."""
    ours, theirs = memory_link(LinkModel(), LinkModel())
    served.accept(theirs)
    if rude:
        talker: Talker[frames.CloudFrame] = Talker(ours, frames.CloudFrame)
        await talker.say(frames.Hello(frames.PROTOCOL_VERSION, "a test", 1), frames.Open(0), asked((65,), 9))
        yield
        ours.abort()
        return
    config = EdgeConfig(engine="scripted", tuner="off", ping_after_s=1e4, silent_after_s=2e4)
    drafting = PhasedCompute(S1.draft_pace, asyncio.get_running_loop().time)
    async with connect_over(config, ours, ScriptedDraft(), drafting, Hooks()) as edge:
        async for _ in edge.generate([65], tokens_max=2):
            pass
        yield
