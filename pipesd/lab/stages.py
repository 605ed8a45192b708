"""Where recorded prompts are played: the production actors, in virtual time or in wall time.

Text and guesses are those that were recorded, the pace of the machines and of the link is modelled; sessions,
frames and decisions are the real ones. In wall time the bytes cross real sockets, through a relay.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from pipesd.actors.link import Link, listening, open_tcp_link
from pipesd.actors.runtime import Hooks
from pipesd.cloud import make_gateway
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import Edge, connect_over
from pipesd.engines.alone import target_alone
from pipesd.engines.replay import ReplayDraft, ReplayTarget
from pipesd.engines.solo import replay_solo
from pipesd.engines.traces import Trace, TracePrompt
from pipesd.lab.answers import QUIET_S, UPTIME_S, Answer, Record
from pipesd.lab.clock import run_virtually
from pipesd.lab.laden import LadenLink, unladen
from pipesd.lab.link import memory_link
from pipesd.lab.phased import PhasedCompute
from pipesd.lab.relay import precise_loop, relaying
from pipesd.lab.scenarios import Scenario
from pipesd.lab.wires import charge_of, draft_bytes, uplink_of
from pipesd.observe import Observer
from pipesd.session.commands import GenerationStats, RunPass, SendFrame
from pipesd.session.events import PassDone, PassFailed
from pipesd.values import Sampling, Verify
from pipesd.wire.frames import Draft

_PING_S, _PATIENT_S = 80_000.0, 86_400.0
"""No timer of a live connection is to disturb a scenario, however slow."""

_WALL_QUIET_S = 0.5
_CONNECT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Play:
    """What is played. The edge's engine, pace and patience do not count."""

    trace: Trace
    scenario: Scenario
    edge: EdgeConfig
    verify: Verify
    wire: str = "ids"
    seed: int = 0
    observers: tuple[Sequence[Observer], Sequence[Observer]] = ((), ())
    """At the edge and at the cloud."""

    @cached_property
    def context_tokens(self) -> int:
        """As many as the longest text has."""
        return max(len(prompt.prompt_tokens) + len(prompt.target) for prompt in self.trace.prompts)

    @cached_property
    def edge_config(self) -> EdgeConfig:
        """The edge's settings, with patience for any scenario."""
        return replace(
            self.edge,
            engine="replay",
            connect_timeout_s=_PATIENT_S,
            ping_after_s=_PING_S,
            silent_after_s=_PATIENT_S,
            stop_timeout_s=_PATIENT_S,
        )

    @cached_property
    def cloud_config(self) -> CloudConfig:
        """The cloud's."""
        return CloudConfig(
            engine="replay",
            verify=self.verify,
            tuner="off",
            handshake_timeout_s=_PATIENT_S,
            ping_after_s=_PING_S,
            silent_after_s=_PATIENT_S,
            send_stall_s=_PATIENT_S,
            stop_timeout_s=_PATIENT_S,
        )

    def target(self) -> ReplayTarget:
        """The recorded target."""
        chunk_tokens = self.cloud_config.chunk_tokens
        return ReplayTarget(self.trace, context_tokens=self.context_tokens, chunk_tokens=chunk_tokens)

    def draft(self) -> ReplayDraft:
        """The recorded draft."""
        return ReplayDraft(self.trace, context_tokens=self.context_tokens)


class PassMeter:
    """Counts passes of the target, what was in them, and how long it was at work."""

    def __init__(self) -> None:
        self.passes = 0
        self.tokens = 0
        self.busy_s = 0.0
        self._began = 0.0

    def observe(self, now: float, event: object, commands: Sequence[object]) -> None:
        """Look for the ends and beginnings of passes."""
        if isinstance(event, PassDone | PassFailed):
            self.busy_s += now - self._began
        for command in commands:
            if isinstance(command, RunPass):
                self.passes += 1
                self.tokens += command.tokens
                self._began = now


class _DraftMeter:
    """Counts draft tokens sent."""

    def __init__(self) -> None:
        self.tokens = 0

    def observe(self, now: float, event: object, commands: Sequence[object]) -> None:
        """Look for Draft frames."""
        for command in commands:
            if isinstance(command, SendFrame) and isinstance(command.frame, Draft):
                self.tokens += len(command.frame.tokens)


Accept = Callable[[Link], None]
Connect = Callable[[Play, Accept], AbstractAsyncContextManager[Link]]
"""Gives the edge's end of a link whose other end the cloud has accepted."""


async def _played(play: Play, connect: Connect, *, quiet_s: float, uptime_s: float) -> Record:
    """Play all prompts, one after another, ``quiet_s`` apart."""
    now = asyncio.get_running_loop().time
    began = now()
    passes, drafts, record = PassMeter(), _DraftMeter(), Record()
    at_edge, at_cloud = play.observers

    def elapsed() -> float:
        return now() - began

    gateway = make_gateway(
        play.cloud_config,
        play.target(),
        PhasedCompute(play.scenario.pass_pace, elapsed),
        Hooks(observers=(passes, *at_cloud), clock=lambda: uptime_s + now()),
    )
    drafting, seen = PhasedCompute(play.scenario.draft_pace, elapsed), Hooks(observers=(drafts, *at_edge))
    async with (
        gateway.running(),
        connect(play, gateway.accept) as link,
        connect_over(play.edge_config, link, play.draft(), drafting, seen) as edge,
    ):
        greeting = edge.statistics()
        for prompt in play.trace.prompts:
            record.answers.append(await written(edge, prompt))
            await asyncio.sleep(quiet_s)
        crossed = edge.statistics()
    charged = draft_bytes(play.wire, drafts.tokens)
    record.sent_bytes = crossed.sent_bytes - greeting.sent_bytes + charged
    record.received_bytes = crossed.received_bytes - greeting.received_bytes
    record.passes, record.cloud_s = passes.passes, passes.busy_s
    return record


async def written(edge: Edge, prompt: TracePrompt) -> Answer:
    """The edge's answer to a prompt, in a session of its own."""
    now = asyncio.get_running_loop().time
    answer = Answer(now())
    async with edge.session() as session:
        generation = session.generate(prompt.prompt_tokens, tokens_max=len(prompt.target))
        async for piece in generation:
            if piece.tokens:
                answer.take(now(), piece.tokens)
    assert generation.result is not None, "an answer without a result"
    answer.stats = generation.result.stats
    return answer


@asynccontextmanager
async def _in_memory(play: Play, accept: Accept) -> AsyncIterator[Link]:
    up = uplink_of(play.scenario.uplink, play.wire)
    ours, theirs = memory_link(up, play.scenario.downlink, seed=play.seed, up_bytes=charge_of(play.wire))
    accept(theirs)
    yield ours


@asynccontextmanager
async def _through_relay(play: Play, accept: Accept) -> AsyncIterator[Link]:
    up, down = uplink_of(play.scenario.uplink, play.wire), play.scenario.downlink
    is_laden = draft_bytes(play.wire, 1) > 0
    relayed = unladen(up) if is_laden else up
    async with (
        listening("127.0.0.1", 0, accept) as cloud,
        relaying(("127.0.0.1", 0), cloud, relayed, down, seed=play.seed) as (host, port),
    ):
        link = await open_tcp_link(host, port, _CONNECT_S)
        yield LadenLink(link, up, charge_of(play.wire), play.seed) if is_laden else link


def play_virtually(play: Play) -> Record:
    """In virtual time, over a link in memory: the same call gives the same record."""
    return run_virtually(_played(play, _in_memory, quiet_s=QUIET_S, uptime_s=UPTIME_S))


def play_in_wall_time(play: Play) -> Record:
    """In wall time, over loopback TCP and a relay."""
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        return runner.run(_played(play, _through_relay, quiet_s=_WALL_QUIET_S, uptime_s=0.0))


def play_draft_alone(play: Play) -> Record:
    """The draft writes by itself, a token a step, with no link and no cloud, as far as it was recorded."""
    solo = replay_solo(play.trace, context_tokens=play.context_tokens, chunk_tokens=play.context_tokens)
    record, now, pace = Record(), 0.0, play.scenario.draft_pace
    for prompt in play.trace.prompts:
        answer = Answer(now)
        record.answers.append(answer)
        limit = len(prompt.target)
        for token in target_alone(solo, prompt.prompt_tokens, sampling=Sampling(), seed=0, tokens_max=limit):
            now += pace.at(now).cost_s(1)
            answer.take(now, (token,))
        answer.stats = GenerationStats(tokens=len(answer.tokens), drafted=len(answer.tokens))
    return record
