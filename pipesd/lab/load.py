"""Many edges on one cloud: the production actors, in virtual time.

Every edge plays all prompts of a recording, from another one on, over a link of its own and with a draft
device of its own; gateway, passes and verifier are shared. The law of this file: edges share no prompt, so
that nothing is gained from what another has asked. What it comes to is in ``load_metrics``.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, Protocol, get_args

import msgspec

from pipesd.actors.gateway import Gateway
from pipesd.actors.runtime import Hooks
from pipesd.cloud import make_gateway
from pipesd.config import CloudConfig
from pipesd.edge import Edge, connect_over
from pipesd.engines.replay import ReplayTarget
from pipesd.engines.traces import Trace, TracePrompt
from pipesd.errors import EngineError, UsageError
from pipesd.lab.answers import UPTIME_S, Answer
from pipesd.lab.clock import run_virtually
from pipesd.lab.heap import play_on_heap
from pipesd.lab.link import memory_link
from pipesd.lab.phased import PhasedCompute
from pipesd.lab.run import Experiment
from pipesd.lab.scenarios import Scenario
from pipesd.lab.stages import PassMeter, Play, written
from pipesd.observe import Observer

System = Literal["batched", "one-lock", "cloud-only"]
"""Drafting edges whose drafts share passes; the same, but one session at a time; edges that draft nothing,
whose sessions share passes."""

Arrivals = Literal["closed", "poisson"]
"""An edge's next prompt comes some time after its answer, or whenever it comes."""

SYSTEMS: tuple[System, ...] = get_args(System)
EDGES_MAX = 256
"""As many places as the cache of a model may have."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is played. Raises ``UsageError`` or ``ConfigError`` if something in it is impossible."""

    trace: Trace
    scenario: Scenario
    edges: int = 1
    system: System = "batched"
    arrivals: Arrivals = "closed"
    think_s: float = 0.0
    """Mean time between an answer and the next prompt, if arrivals are closed; exponentially distributed."""

    rate: float = 1.0
    """Prompts per second of all edges together, if they come by Poisson."""

    changed: Mapping[str, object] = field(default_factory=dict)
    """Settings against the policy, as in ``run.Experiment``."""

    pass_tokens: int | None = None
    """Most tokens in a pass; None: the cloud's default."""

    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.edges <= EDGES_MAX:
            raise UsageError(f"edges: must be between 1 and {EDGES_MAX}, not {self.edges}")
        for name, known in (("system", System), ("arrivals", Arrivals)):
            if getattr(self, name) not in get_args(known):
                choices = ", ".join(get_args(known))
                raise UsageError(f"{name}: must be one of {choices}, not {getattr(self, name)!r}")
        if not 0.0 <= self.think_s <= 86_400.0:
            raise UsageError(f"think: must be between 0 and 86400 seconds, not {self.think_s:g}")
        if not 0.0 < self.rate <= 1e6:
            raise UsageError(f"rate: must be above 0 and at most 1e6 prompts per second, not {self.rate:g}")

    def prompts_of(self, edge: int) -> tuple[TracePrompt, ...]:
        """Its prompts in its order: as recorded, but for a first token that no other edge's begin with."""
        mark = sorted(self.trace.header.pieces)[-1 - edge]
        prompts = tuple(
            msgspec.structs.replace(prompt, prompt_tokens=(mark, *prompt.prompt_tokens[1:]))
            for prompt in self.trace.prompts
        )
        first = edge % len(prompts)
        return prompts[first:] + prompts[:first]

    def play_of(self, edge: int) -> Play:
        """What this edge plays: its order of the prompts, and the luck of its link."""
        trace = replace(self.trace, prompts=self.prompts_of(edge))
        policy = "cloud-only" if self.system == "cloud-only" else "pipesd"
        return Experiment(
            trace=trace,
            scenario=self.scenario,
            policy=policy,
            changed=self.changed,
            seed=self.seed + edge,
        ).play

    @cached_property
    def cloud(self) -> CloudConfig:
        """The cloud's settings: room for all edges, also in the model's cache."""
        config = self.play_of(0).cloud_config
        return replace(
            config,
            kv_sequences=self.edges,
            sessions_max=2 * self.edges,
            connections_max=self.edges,
            pass_sessions=1 if self.system == "one-lock" else config.pass_sessions,
            pass_tokens=self.pass_tokens or config.pass_tokens,
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt of an edge, and what came of it."""

    prompt: TracePrompt
    wanted_s: float
    """When its user wanted it; the edge began with it then, or as soon as the answer before was complete."""

    answer: Answer


@dataclass(slots=True)
class LoadRecord:
    """What all edges got, and what it cost the cloud."""

    edges: list[list[Asked]]
    passes: int
    pass_tokens: int
    """Evaluated in all passes together."""

    busy_s: float
    """How long the target was at work."""


class Wishes(Protocol):
    """When a user wants the next prompt."""

    def next(self, now: float) -> float:
        """The moment, if the answer before was complete at ``now``; may lie before it."""


class ClosedLoop:
    """A user who thinks about each answer."""

    def __init__(self, think_s: float, dice: random.Random) -> None:
        self._think_s = think_s
        self._dice = dice

    def next(self, now: float) -> float:
        """After some time to think."""
        return now + (self._dice.expovariate(1 / self._think_s) if self._think_s else 0.0)


class Poisson:
    """A user to whom prompts occur at random, whatever the cloud does."""

    def __init__(self, rate: float, dice: random.Random, begun_s: float) -> None:
        self._rate = rate
        self._dice = dice
        self._latest_s = begun_s

    def next(self, now: float) -> float:
        """Some time after the wish before."""
        self._latest_s += self._dice.expovariate(self._rate)
        return self._latest_s


def wishes_of(load: Load, edge: int, begun_s: float) -> Wishes:
    """The wishes of this edge's user."""
    dice = random.Random(f"wishes {load.seed} {edge}")
    if load.arrivals == "closed":
        return ClosedLoop(load.think_s, dice)
    return Poisson(load.rate / load.edges, dice, begun_s)


def play_load(load: Load, observers: Sequence[Observer] = ()) -> LoadRecord:
    """Play it in virtual time; ``observers`` watch the cloud. Raises ``EngineError`` if a text is wrong."""
    record = run_virtually(_played(load, observers))
    for asked in record.edges:
        _check_texts(asked)
    return record


async def _played(load: Load, observers: Sequence[Observer]) -> LoadRecord:
    now = asyncio.get_running_loop().time
    meter = PassMeter()
    gateway = make_gateway(
        load.cloud,
        _target(load),
        PhasedCompute(load.scenario.pass_pace, now),
        Hooks(observers=(meter, *observers), clock=lambda: UPTIME_S + now()),
    )
    async with gateway.running(), AsyncExitStack() as stack:
        plays = [load.play_of(number) for number in range(load.edges)]
        edges = [await stack.enter_async_context(_connected(play, gateway)) for play in plays]
        begun_s = now()
        async with asyncio.TaskGroup() as users:
            tasks = [
                users.create_task(asked_by(edge, play.trace.prompts, wishes_of(load, number, begun_s)))
                for number, (edge, play) in enumerate(zip(edges, plays, strict=True))
            ]
    return LoadRecord([task.result() for task in tasks], meter.passes, meter.tokens, meter.busy_s)


def _target(load: Load) -> ReplayTarget:
    every = tuple(prompt for edge in range(load.edges) for prompt in load.prompts_of(edge))
    return replace(load.play_of(0), trace=replace(load.trace, prompts=every)).target()


@asynccontextmanager
async def _connected(play: Play, gateway: Gateway) -> AsyncIterator[Edge]:
    ours, theirs = memory_link(play.scenario.uplink, play.scenario.downlink, seed=play.seed)
    gateway.accept(theirs)
    drafting = PhasedCompute(play.scenario.draft_pace, asyncio.get_running_loop().time)
    async with connect_over(play.edge_config, ours, play.draft(), drafting, Hooks()) as edge:
        yield edge


async def asked_by(edge: Edge, prompts: Sequence[TracePrompt], wishes: Wishes) -> list[Asked]:
    """The prompts, one after another, as its user wants them."""
    now = asyncio.get_running_loop().time
    asked = []
    for prompt in prompts:
        wanted_s = wishes.next(now())
        await asyncio.sleep(max(0.0, wanted_s - now()))
        asked.append(Asked(prompt, wanted_s, await written(edge, prompt)))
    return asked


def alone(load: Load, edge: int) -> list[Asked]:
    """What this edge would get if the cloud were its own: the same prompts, one at a time."""
    play = load.play_of(edge)
    answers = play_on_heap(play).answers
    asked = [
        Asked(prompt, answer.begun_s, answer)
        for prompt, answer in zip(play.trace.prompts, answers, strict=True)
    ]
    _check_texts(asked)
    return asked


def _check_texts(asked: Sequence[Asked]) -> None:
    for each in asked:
        if tuple(each.answer.tokens) != each.prompt.target:
            raise EngineError(
                f"the text of {each.prompt.id} is not the recorded target's, so its figures mean nothing; "
                "this is a fault of pipesd, or two prompts of the trace cannot be told apart"
            )
