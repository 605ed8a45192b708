"""The edge for applications: connect to a cloud, and read the target's text as it is confirmed.

Runs inside the caller's event loop; several connections may exist in one process. Nothing here is global.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from time import monotonic

from pipesd import learned, tls
from pipesd.actors.compute import Compute, LentCompute, ModelledCompute, Pace, ThreadCompute, run_once
from pipesd.actors.connection import LinkStatistics
from pipesd.actors.edge_runtime import EdgeRuntime
from pipesd.actors.lines import Dial, no_dial
from pipesd.actors.link import Link
from pipesd.actors.runtime import Hooks
from pipesd.address import host_ports
from pipesd.clouds import Clouds
from pipesd.config import EdgeConfig
from pipesd.dialogue import Dialogue
from pipesd.edge_rules import edge_rules, policy_of, token_of, tuner_place
from pipesd.edge_session import Means, Session
from pipesd.engines.base import DraftEngine
from pipesd.engines.choose import open_draft
from pipesd.errors import ConfigError, RefusedError, UsageError
from pipesd.observe import Observer
from pipesd.planner import estimates
from pipesd.redact import let_log
from pipesd.session.tuned import Tuned
from pipesd.text import Piece
from pipesd.values import Sampling
from pipesd.wire.frames import Welcome

__all__ = [
    "Edge",
    "connect",
    "connect_over",
]


logger = logging.getLogger("pipesd.edge")

_LONGER_MAX = 8


class Edge:
    """A connection to a cloud."""

    def __init__(self, means: Means) -> None:
        self.config = means.config
        self.welcome = means.welcome
        """What the cloud granted: its model, numerics, limits."""

        self._means = means

    def encode(self, text: str, *, first: bool = True) -> list[int]:
        """Token ids of a raw prompt as the target wants them; ``first`` if nothing stands before it."""
        begin = list(self.welcome.begin_ids) if first else []
        return begin + self._means.engine.tokenizer.encode(text)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A conversation. Its caches are given back at the end of the block."""
        session = Session(self._means)
        try:
            yield session
        finally:
            session._close()

    async def generate(
        self,
        prompt: str | Sequence[int],
        *,
        sampling: Sampling | None = None,
        seed: int | None = None,
        tokens_max: int | None = None,
        stop: Sequence[str] = (),
        private: bool = False,
    ) -> AsyncIterator[Piece]:
        """One answer in a session of its own; see ``Session.generate``."""
        async with self.session() as session:
            answer = session.generate(
                prompt, sampling=sampling, seed=seed, tokens_max=tokens_max, stop=stop, private=private
            )
            async for piece in answer:
                yield piece

    def statistics(self) -> LinkStatistics:
        """What crossed the link so far."""
        return self._means.runtime.statistics()

    @property
    def tuned(self) -> Tuned:
        """What the tuner of thresholds was told, and has proposed; to be read only."""
        return self._means.runtime.tuned


@asynccontextmanager
async def connect(config: EdgeConfig, *, observers: Sequence[Observer] = ()) -> AsyncIterator[Edge]:
    """Load the draft model, connect, and be ready.

    Raises ``ConfigError``, ``EngineError``, ``LinkError``, ``PeerError`` or ``RefusedError``, each with one
    sentence that says what to do.
    """
    let_log(config)
    policy = policy_of(config)
    tuner_place(config, policy)  # raises for a tuner that would have nothing to do
    if policy.writers == "edge":
        raise ConfigError("policy: edge-only needs no cloud; use pipesd.alone.edge_alone instead of connect")
    context = tls.of_edge(config)
    token_of(config)  # raises before the model is loaded
    clouds = Clouds(host_ports(config.cloud, name="cloud"), config.connect_timeout_s, context)
    engine = await run_once("pipesd-draft", partial(_loaded, config))
    compute = _compute(config, engine)
    hooks = Hooks(observers=observers, clock=monotonic)

    async def enter(stack: AsyncExitStack) -> Edge:
        link = await clouds.dial(0)
        return await stack.enter_async_context(
            connect_over(config, link, engine, LentCompute(compute), hooks, clouds.dial)
        )

    try:
        async with AsyncExitStack() as stack:
            edge = await _when_there_is_room(
                lambda: clouds.one_of(lambda: enter(stack)), config.busy_timeout_s
            )
            await stack.enter_async_context(_remembering(edge, clouds.host))
            yield edge
    finally:
        compute.close()


def _loaded(config: EdgeConfig) -> DraftEngine:
    """The draft model, and whatever else takes its time to be loaded."""
    estimates.prepare()
    return open_draft(config)


async def _when_there_is_room(connecting: Callable[[], Awaitable[Edge]], patience_s: float) -> Edge:
    """Try again, after the time that a busy cloud names, more or less, and longer each time."""
    now = asyncio.get_running_loop().time
    until, longer = now() + patience_s, 1
    while True:
        try:
            return await connecting()
        except RefusedError as error:
            wait_s = error.retry_s * longer * random.uniform(0.5, 1.5)
            if error.code != "busy" or not wait_s or now() + wait_s > until:
                raise
            logger.warning("%s; trying again in %.1f s", error, wait_s)
        await asyncio.sleep(wait_s)
        longer = min(2 * longer, _LONGER_MAX)


@asynccontextmanager
async def _remembering(edge: Edge, host: str) -> AsyncIterator[None]:
    """Begin with what was learned of these models and this host, and keep what is learned in the block."""
    if edge.tuned.trial is None:
        yield
        return
    place = learned.place_of((edge.config.draft, edge.welcome.model, host))
    if (known := learned.load(place)) is not None:
        edge.tuned.remember(known)
    try:
        yield
    finally:
        if (news := edge.tuned.learned) is not None:
            learned.save(place, news)


@asynccontextmanager
async def connect_over(
    config: EdgeConfig,
    link: Link,
    engine: DraftEngine,
    compute: Compute,
    hooks: Hooks,
    dial: Dial | None = None,
) -> AsyncIterator[Edge]:
    """Like ``connect``, over a link and an engine that are there already; both are given up at the end.

    ``dial`` makes another link when that one is lost; without it, the loss is the end.
    """
    rules = edge_rules(config, engine.context_tokens)
    if dial is None:
        rules = replace(rules, patience=replace(rules.patience, away_s=0.0))
    stop_s = config.stop_timeout_s
    runtime = EdgeRuntime(rules, link, engine, compute, stop_s=stop_s, hooks=hooks, dial=dial or no_dial)
    async with runtime.running():
        welcome = await runtime.wait_ready()
        dialogue = await _dialogue(config, engine, compute, welcome)
        yield Edge(Means(config, engine, compute, runtime, welcome, dialogue))


async def _dialogue(config: EdgeConfig, engine: DraftEngine, compute: Compute, welcome: Welcome) -> Dialogue:
    """Render the cloud's template, but not for ever: it is somebody else's program."""
    make = partial(Dialogue, engine.tokenizer, welcome, mode=config.prompts, system=config.system)
    try:
        async with asyncio.timeout(config.connect_timeout_s):
            return await compute.run(make, 0)
    except TimeoutError:
        raise UsageError(
            f"the target's chat template takes more than {config.connect_timeout_s:g} s; "
            "give prompts as they are, with --raw"
        ) from None


def _compute(config: EdgeConfig, engine: DraftEngine) -> Compute:
    if config.draft_ms > 0:
        return ModelledCompute(Pace(config.draft_ms / 1e3))
    return ThreadCompute("pipesd-draft", engine.interrupt, engine.close)
