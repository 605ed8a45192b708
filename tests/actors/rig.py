"""Both sides as real actors, with toy models and modelled links; made for virtual time."""

import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pipesd.actors.compute import ModelledCompute, Pace
from pipesd.actors.connection import ConnectionLimits
from pipesd.actors.edge_runtime import EdgeRuntime
from pipesd.actors.gateway import Gateway
from pipesd.actors.runtime import Hooks
from pipesd.actors.token_stream import TokenStream
from pipesd.actors.tuner import Door
from pipesd.engines.base import TargetIdentity
from pipesd.errors import EngineError
from pipesd.lab.link import LinkModel, MemoryLink, memory_link
from pipesd.observe import Observer
from pipesd.session.events import PromptGiven
from pipesd.session.rules import CloudRules, EdgeRules
from pipesd.values import Proposal, Sampling, Slice
from pipesd.vocabulary import Vocabulary
from tests.session.world import END, GREEDY, VOCABULARY, draft_next, roll, target_next, target_path, welcome

IDEAL = LinkModel()
STEADY = Pace(0.01)
LIMITS = ConnectionLimits(queued_frames=256, stall_s=20.0, stop_s=2.0)


class ToyTokenizer:
    """Letters are tokens."""

    vocabulary = VOCABULARY

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        return [ord(letter) - 97 for letter in text]


@dataclass
class ToyTarget:
    """The target of ``tests.session.world`` as an engine."""

    tokenizer = ToyTokenizer()
    identity = TargetIdentity(
        model="toy",
        engine="toy",
        numerics="exact",
        context_tokens=10_000,
        chunk_tokens=4,
        begin_ids=(),
        end_ids=(END,),
    )
    caches: dict[int, list[int]] = field(default_factory=dict)
    fails_after: float = math.inf
    """Passes until it fails once."""

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        self.fails_after -= 1
        if self.fails_after == 0:
            raise EngineError("planned")
        return [self._evaluate(part) for part in slices]

    def _evaluate(self, part: Slice) -> tuple[int, ...]:
        cache = self.caches.setdefault(part.sequence, [])
        assert part.base <= len(cache), "a slice beyond the cache"
        cache[part.base :] = part.tokens
        first = len(cache) - part.picks
        return tuple(self.pick(cache[: first + pick + 1]) for pick in range(part.picks))

    def pick(self, context: Sequence[int]) -> int:
        return target_next(context)

    def release(self, sequence: int) -> None:
        self.caches.pop(sequence, None)

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass
class ToyDraft:
    """The draft of ``tests.session.world`` as an engine; ``always_right`` agrees with the target."""

    always_right: bool = False
    tokenizer = ToyTokenizer()
    context_tokens = 10_000
    caches: dict[int, list[int]] = field(default_factory=dict)

    def truncate(self, sequence: int, length: int) -> None:
        del self.caches.setdefault(sequence, [])[length:]

    def extend(self, sequence: int, tokens: Sequence[int], *, prompt: bool = False) -> None:
        self.caches.setdefault(sequence, []).extend(tokens)

    def propose(self, sequence: int, sampling: Sampling, seed: int) -> Proposal:
        context = self.caches[sequence]
        if self.always_right:
            return Proposal(endless_next(context), 0.95)
        return Proposal(draft_next(context), 0.2 + 0.8 * (roll("sure", context) % 100) / 100)

    def release(self, sequence: int) -> None:
        self.caches.pop(sequence, None)

    def interrupt(self) -> None:
        return

    def close(self) -> None:
        return


def endless_next(context: Sequence[int]) -> int:
    """A target that never ends its text, cheap for long ones."""
    return (sum(context[-3:]) + len(context)) % END


class EndlessTarget(ToyTarget):
    def pick(self, context: Sequence[int]) -> int:
        return endless_next(context)


@dataclass(frozen=True, slots=True)
class JitteredPace(Pace):
    """Anything from nothing to three times the usual."""

    dice: random.Random = field(default_factory=random.Random)

    def cost_s(self, tokens: int) -> float:
        return Pace.cost_s(self, tokens) * self.dice.choice([0.0, 0.1, 1.0, 3.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class JitteredLink(LinkModel):
    dice: random.Random = field(default_factory=random.Random)

    def occupancy_s(self, message_bytes: int) -> float:
        return self.dice.choice([0.0, 0.001, 0.03])


@dataclass(kw_only=True)
class Plan:
    """Everything a rig is made of."""

    rules: EdgeRules = field(default_factory=EdgeRules)
    up: LinkModel = IDEAL
    down: LinkModel = IDEAL
    draft_pace: Pace = STEADY
    pass_pace: Pace = STEADY
    target: ToyTarget = field(default_factory=ToyTarget)
    always_right: bool = False
    cloud_rules: CloudRules = field(default_factory=CloudRules)
    limits: ConnectionLimits = LIMITS
    observers: Sequence[Observer] = ()
    edge_tuning: Door | None = None
    cloud_tuning: Door | None = None


@asynccontextmanager
async def gateway(plan: Plan) -> AsyncIterator[Gateway]:
    grant = welcome(context=plan.target.identity.context_tokens, tunes=plan.cloud_rules.tunes)
    compute = ModelledCompute(plan.pass_pace)
    served = Gateway(
        plan.cloud_rules,
        grant,
        plan.target,
        compute,
        limits=plan.limits,
        hooks=Hooks(observers=plan.observers),
        tuning=plan.cloud_tuning,
    )
    async with served.running():
        yield served


@asynccontextmanager
async def edge(plan: Plan, served: Gateway, draft: ToyDraft | None = None) -> AsyncIterator[EdgeRuntime]:
    ours, theirs = memory_link(plan.up, plan.down)
    served.accept(theirs)
    async with edge_over(plan, ours, draft) as runtime:
        await runtime.wait_ready()
        yield runtime


@asynccontextmanager
async def edge_over(
    plan: Plan, link: MemoryLink, draft: ToyDraft | None = None
) -> AsyncIterator[EdgeRuntime]:
    engine = draft or ToyDraft(always_right=plan.always_right)
    compute = ModelledCompute(plan.draft_pace)
    runtime = EdgeRuntime(
        plan.rules,
        link,
        engine,
        compute,
        stop_s=1.0,
        hooks=Hooks(observers=plan.observers),
        tuning=plan.edge_tuning,
    )
    async with runtime.running():
        yield runtime


@asynccontextmanager
async def pair(plan: Plan) -> AsyncIterator[EdgeRuntime]:
    async with gateway(plan) as served, edge(plan, served) as runtime:
        yield runtime


def prompt(session: int, tokens: Sequence[int], *, base: int = 0, tokens_max: int = 40) -> PromptGiven:
    return PromptGiven(session, base, tuple(tokens), GREEDY, 0, tokens_max)


async def read_all(stream: TokenStream) -> list[int]:
    output: list[int] = []
    while tokens := (await stream.next()).tokens:
        output += tokens
    return output


async def generate(runtime: EdgeRuntime, tokens: Sequence[int], *, tokens_max: int = 40) -> list[int]:
    session = runtime.open_session()
    output = await read_all(runtime.start(prompt(session, tokens, tokens_max=tokens_max)))
    runtime.close_session(session)
    return output


__all__ = ["END", "VOCABULARY", "Vocabulary", "target_path"]
