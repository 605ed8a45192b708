"""Recorded prompts played in virtual time through the production actors: what a pair gives in a scenario.

``pipesd-lab run --scenario s1`` is the command. Text and guesses are those that were recorded, the
pace of the machines and of the link is modelled; sessions, frames and decisions are the real ones. Nothing
draws luck, so the same call gives the same figures.
"""

import asyncio
import hashlib
import math
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Literal

from pipesd.actors.compute import ModelledCompute
from pipesd.actors.runtime import Hooks
from pipesd.cloud import make_gateway
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import Edge, connect_over
from pipesd.engines.replay import ReplayDraft, ReplayTarget
from pipesd.engines.traces import Trace, TracePrompt
from pipesd.errors import EngineError, UsageError
from pipesd.lab.clock import run_virtually
from pipesd.lab.link import MemoryLink, memory_link
from pipesd.lab.scenarios import Scenario
from pipesd.observe import StatsObserver
from pipesd.session.commands import GenerationStats
from pipesd.values import Sampling
from pipesd.wire.codec import Decoder, encode
from pipesd.wire.frames import (
    PROTOCOL_VERSION,
    AnyFrame,
    Close,
    CloudFrame,
    Draft,
    Hello,
    Open,
    Prompt,
    Verdict,
)

BASIS = "replayed and modelled"
"""What every figure of this file rests on."""

Way = Literal["together", "target alone"]

_CLIENT = "pipesd-lab"
_PING_S, _PATIENT_S = 80_000.0, 86_400.0
"""No timer of a live connection is to disturb a scenario, however slow."""

_UPTIME_S = 86_400.0
"""The cloud's clock has run for a day: the stamps of a young one would be shorter on the wire."""

_QUIET_S = 60.0
"""Pause behind each answer, so that what is still on its way does not slow the next one."""

_IDS_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What some prompts took; times are virtual, and bytes leave the greeting out."""

    way: Way
    scenario: str
    prompts: int
    tokens: int
    """Delivered at the edge, end ids included."""

    elapsed_ms: float
    """From each prompt to its last token, all prompts together."""

    first_token_ms: float
    """From a prompt to its first token, mean over the prompts."""

    passes: int
    """All that the target ran: those that read the prompts too."""

    drafted: int
    """Drafts made; those that were never judged included, aborted steps not."""

    acceptance: float | None
    """Share of judged drafts that the target agreed with, 0..1; None if there were none."""

    sent_bytes: int
    """Edge to cloud."""

    received_bytes: int
    """Cloud to edge."""

    text_sha256: str
    """Over the ids delivered, in decimal: a space between two, a line break behind each prompt's."""

    @property
    def ms_per_token(self) -> float:
        """Waiting for the first token included."""
        return self.elapsed_ms / self.tokens

    @property
    def passes_per_100(self) -> float:
        """Passes per 100 tokens."""
        return 100 * self.passes / self.tokens

    def figures(self) -> dict[str, object]:
        """All figures by name, for machines."""
        derived = {
            "ms_per_token": self.ms_per_token,
            "passes_per_100": self.passes_per_100,
            "drafted_per_token": self.drafted / self.tokens,
            "sent_bytes_per_token": self.sent_bytes / self.tokens,
            "received_bytes_per_token": self.received_bytes / self.tokens,
            "basis": BASIS,
        }
        return {**asdict(self), **derived}

    def line(self) -> str:
        """One line for a person."""
        parts = [
            f"{self.way} at {self.scenario}: {self.ms_per_token:.1f} ms per token",
            f"first after {self.first_token_ms:.0f} ms",
            f"{self.passes_per_100:.1f} passes per 100 tokens",
        ]
        if self.acceptance is not None:
            parts.append(f"{self.drafted / self.tokens:.2f} drafts per token")
            parts.append(f"acceptance {self.acceptance:.1%}")
        up, down = self.sent_bytes / self.tokens, self.received_bytes / self.tokens
        parts.append(f"{up:.1f} bytes up and {down:.1f} down per token")
        parts.append(f"{self.tokens} tokens of {self.prompts} prompt{'s' * (self.prompts != 1)}")
        return ", ".join(parts) + f" ({BASIS})"


def play(
    trace: Trace, prompts: Sequence[str], scenario: Scenario, *, edge: EdgeConfig | None = None
) -> Played:
    """An edge and a cloud write the answers to ``prompts`` (ids; all without any), one after another.

    How ``edge`` drafts and asks counts, its engine, pace and patience do not. Each answer goes as far as it
    was recorded. Raises ``UsageError`` for an unknown prompt, ``EngineError`` if a text is not the target's.
    """
    stage = _Stage(trace, _chosen(trace, prompts), scenario)
    return run_virtually(stage.together(_patient(edge or EdgeConfig(engine="replay"))))


def play_alone(trace: Trace, prompts: Sequence[str], scenario: Scenario) -> Played:
    """As ``play``, but the target writes alone, and each token is sent to the edge as it comes.

    The cloud is the real one, its reader an edge that asks for the whole answer at once. Behind the pass that
    reads the prompt, a token takes v0 + v1; the link adds the two trips of the first token.
    """
    return run_virtually(_Stage(trace, _chosen(trace, prompts), scenario).alone())


def _chosen(trace: Trace, ids: Sequence[str]) -> list[TracePrompt]:
    known = {prompt.id: prompt for prompt in trace.prompts}
    for each in ids:
        if each not in known:
            some = ", ".join(list(known)[:_IDS_NAMED])
            raise UsageError(
                f"prompt: {each!r} is none of the {len(known)} that were recorded; "
                f"give the id of one, such as {some}"
            )
    return [known[each] for each in ids] or list(trace.prompts)


def _patient(edge: EdgeConfig) -> EdgeConfig:
    return replace(
        edge,
        engine="replay",
        connect_timeout_s=_PATIENT_S,
        ping_after_s=_PING_S,
        silent_after_s=_PATIENT_S,
        stop_timeout_s=_PATIENT_S,
    )


# -- the actors ---------------------------------------------------------------------------------------------


class _Tally:
    """What the answers took, one after another."""

    def __init__(self) -> None:
        self._now = asyncio.get_running_loop().time
        self._begun = 0.0
        self._tokens: list[int] = []
        self._moments: list[float] = []
        self.elapsed_s: list[float] = []
        self.first_s: list[float] = []
        self.stats: list[GenerationStats] = []
        self.tokens = 0
        self.text = ""

    def begin(self) -> None:
        """The prompt goes out."""
        self._begun, self._tokens, self._moments = self._now(), [], []

    def take(self, tokens: Sequence[int]) -> None:
        """Some tokens come in."""
        if tokens:
            self._tokens += tokens
            self._moments.append(self._now() - self._begun)

    async def end(self, prompt: TracePrompt, stats: GenerationStats) -> None:
        """That was the answer. Raises ``EngineError`` if it is not what the target says."""
        if tuple(self._tokens) != prompt.target:
            raise EngineError(
                f"the text of {prompt.id} is not the recorded target's, so its figures mean nothing; "
                "this is a fault of pipesd, or two prompts of the trace cannot be told apart"
            )
        self.first_s.append(self._moments[0])
        self.elapsed_s.append(self._moments[-1])
        self.stats.append(stats)
        self.tokens += len(self._tokens)
        self.text += " ".join(map(str, self._tokens)) + "\n"
        await asyncio.sleep(_QUIET_S)


class _Stage:
    """A scenario, and the prompts that are played in it."""

    def __init__(self, trace: Trace, prompts: Sequence[TracePrompt], scenario: Scenario) -> None:
        self._trace = trace
        self._prompts = prompts
        self._scenario = scenario
        self._seen = StatsObserver()
        self._context_tokens = max(len(each.prompt_tokens) + len(each.target) for each in prompts)

    async def together(self, config: EdgeConfig) -> Played:
        """Edge and cloud."""
        draft = ReplayDraft(self._trace, context_tokens=self._context_tokens)
        compute, tally = ModelledCompute(self._scenario.draft_pace), _Tally()
        async with self._cloud() as link, connect_over(config, link, draft, compute, Hooks()) as edge:
            greeting = edge.statistics()
            for prompt in self._prompts:
                await _write(edge, prompt, tally)
            crossed = edge.statistics()
        sent_bytes = crossed.sent_bytes - greeting.sent_bytes
        return self._played("together", tally, sent_bytes, crossed.received_bytes - greeting.received_bytes)

    async def alone(self) -> Played:
        """The cloud, and somebody who only reads."""
        async with self._cloud() as link:
            reader, tally = _Reader(link), _Tally()
            await reader.greet(self._trace.header.vocabulary)
            greeting = reader.sent_bytes, reader.received_bytes
            for session, prompt in enumerate(self._prompts):
                await reader.read(session, prompt, tally)
            await link.end()
        sent_bytes = reader.sent_bytes - greeting[0]
        return self._played("target alone", tally, sent_bytes, reader.received_bytes - greeting[1])

    @asynccontextmanager
    async def _cloud(self) -> AsyncIterator[MemoryLink]:
        """The edge's end of a link to a cloud that runs for the block."""
        config = CloudConfig(
            engine="replay",
            handshake_timeout_s=_PATIENT_S,
            ping_after_s=_PING_S,
            silent_after_s=_PATIENT_S,
            send_stall_s=_PATIENT_S,
            stop_timeout_s=_PATIENT_S,
        )
        target = ReplayTarget(
            self._trace, context_tokens=self._context_tokens, chunk_tokens=config.chunk_tokens
        )
        compute = ModelledCompute(self._scenario.pass_pace)
        now = asyncio.get_running_loop().time
        hooks = Hooks(observers=(self._seen,), clock=lambda: _UPTIME_S + now())
        gateway = make_gateway(config, target, compute, hooks)
        async with gateway.running():
            ours, theirs = memory_link(self._scenario.uplink, self._scenario.downlink)
            gateway.accept(theirs)
            yield ours

    def _played(self, way: Way, tally: _Tally, sent_bytes: int, received_bytes: int) -> Played:
        accepted = sum(stats.accepted for stats in tally.stats)
        judged = accepted + sum(stats.corrections for stats in tally.stats)
        return Played(
            way=way,
            scenario=self._scenario.name,
            prompts=len(tally.stats),
            tokens=tally.tokens,
            elapsed_ms=1e3 * math.fsum(tally.elapsed_s),
            first_token_ms=1e3 * statistics.fmean(tally.first_s),
            passes=self._seen.counts["RunPass"],
            drafted=sum(stats.drafted for stats in tally.stats),
            acceptance=accepted / judged if judged else None,
            sent_bytes=sent_bytes,
            received_bytes=received_bytes,
            text_sha256=hashlib.sha256(tally.text.encode()).hexdigest(),
        )


async def _write(edge: Edge, prompt: TracePrompt, tally: _Tally) -> None:
    tally.begin()
    async with edge.session() as session:
        answer = session.generate(prompt.prompt_tokens, tokens_max=len(prompt.target))
        async for piece in answer:
            tally.take(piece.tokens)
    assert answer.result is not None, "an answer without a result"
    await tally.end(prompt, answer.result.stats)


class _Reader:
    """An edge that drafts nothing: it has the target run alone to the end of the answer."""

    def __init__(self, link: MemoryLink) -> None:
        self._link = link
        self._frames = self._receive()
        self.sent_bytes = 0
        self.received_bytes = 0

    async def greet(self, vocabulary: int) -> None:
        """Be welcomed."""
        await self._send(Hello(PROTOCOL_VERSION, _CLIENT, vocabulary))
        await anext(self._frames)

    async def read(self, session: int, prompt: TracePrompt, tally: _Tally) -> None:
        """Prompt, and take the answer in."""
        tally.begin()
        base, tokens_max = len(prompt.prompt_tokens), len(prompt.target)
        await self._send(
            Open(session),
            Prompt(session, 1, 0, prompt.prompt_tokens, Sampling(), 0, tokens_max),
            Draft(session, 1, base, (), ask=base + tokens_max),
        )
        async for frame in self._frames:
            if isinstance(frame, Verdict):
                tally.take(frame.tokens)
                if frame.finish is not None:
                    break
        await self._send(Close(session))
        await tally.end(prompt, GenerationStats())

    async def _send(self, *frames: AnyFrame) -> None:
        data = b"".join(encode(frame) for frame in frames)
        self.sent_bytes += len(data)
        await self._link.send(data)

    async def _receive(self) -> AsyncIterator[CloudFrame]:
        decoder = Decoder[CloudFrame](CloudFrame)
        while data := await self._link.receive():
            self.received_bytes += len(data)
            for frame in decoder.feed(data):
                yield frame
