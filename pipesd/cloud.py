"""The cloud for applications: serve a target model to many edges.

Runs inside the caller's event loop; several may exist in one process. Nothing here is global.
"""

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic

from pipesd.actors.compute import Compute, ModelledCompute, Pace, ThreadCompute, run_once
from pipesd.actors.connection import ConnectionLimits
from pipesd.actors.gateway import Gateway
from pipesd.actors.link import listening
from pipesd.actors.runtime import Hooks
from pipesd.config import CloudConfig, host_port
from pipesd.engines.alone import target_alone
from pipesd.engines.base import TargetEngine
from pipesd.engines.choose import open_target
from pipesd.observe import Observer
from pipesd.session.rules import CloudRules, Patience
from pipesd.text import Piece, TextStream
from pipesd.values import Finish
from pipesd.wire.frames import PROTOCOL_VERSION, Welcome

__all__ = ["Alone", "Cloud", "make_gateway", "serve"]


REPLY_FRAMES = 128
"""When more replies wait for one edge, it is not read."""


class Cloud:
    """A cloud that serves."""

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        """Where it listens; a port 0 of the configuration is resolved."""

        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Let ``wait_stopped`` return; the connections close when the ``serve`` block is left."""
        self._stopped.set()

    async def wait_stopped(self) -> None:
        """Wait for ``stop``."""
        await self._stopped.wait()


@asynccontextmanager
async def serve(config: CloudConfig, *, observers: Sequence[Observer] = ()) -> AsyncIterator[Cloud]:
    """Load the target model, listen, and serve while the block lasts.

    Raises ``ConfigError`` or ``EngineError``, each with one sentence that says what to do.
    """
    host, port = host_port(config.listen, name="listen")
    engine = await run_once("pipesd-target", lambda: _load(config))
    hooks = Hooks(observers=observers, clock=monotonic)
    gateway = make_gateway(config, engine, _compute(config), hooks)
    async with gateway.running(), listening(host, port, gateway.accept) as address:
        yield Cloud(*address)


def _load(config: CloudConfig) -> TargetEngine:
    """The target model that the configuration names. Blocks while it loads."""
    return open_target(
        config.engine,
        traces=config.traces,
        script_seed=config.script_seed,
        context_tokens=config.context_tokens,
        chunk_tokens=config.chunk_tokens,
    )


class Alone:
    """The target by itself, without an edge: the reference that every other way must equal.

    Iterate over it to read the answer to ``prompt``; the attributes are there as it goes. Raises
    ``EngineError`` or ``UsageError``, each with one sentence that says what to do.
    """

    def __init__(self, config: CloudConfig, prompt: str, *, stop: Sequence[str] = ()) -> None:
        self._config = config
        self._prompt = prompt
        self._stop = stop
        self.tokens = 0
        """Tokens said so far; each took one pass."""

        self.finish: Finish | None = None
        """Why it ended; ``stop`` also if a stop string was found."""

        self._engine: TargetEngine | None = None

    async def load(self) -> TargetEngine:
        """Load the model, if that was not done before; a reader that measures time does it first."""
        if self._engine is None:
            self._engine = await run_once("pipesd-target", lambda: _load(self._config))
        return self._engine

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Read the answer token by token."""
        config, engine = self._config, await self.load()
        identity, tokenizer = engine.identity, engine.tokenizer
        pieces, silent_ids = tokenizer.vocabulary.pieces, frozenset(identity.end_ids)
        text = TextStream(pieces, stop=self._stop, silent_ids=silent_ids)
        prompt = [*identity.begin_ids, *tokenizer.encode(self._prompt)]
        path = target_alone(
            engine, prompt, sampling=config.sampling, seed=config.seed, tokens_max=config.tokens_max
        )
        compute = _compute(config)
        step = partial(self._step, path)
        try:
            token = await compute.run(step, len(prompt))
            while token >= 0:
                yield Piece(text.feed([token]), (token,))
                if text.stopped:
                    break
                token = await compute.run(step, 1)
            if rest := text.finish():
                yield Piece(rest, ())
            if text.stopped or self.finish is None:
                self.finish = "stop"
        finally:
            compute.close()

    def _step(self, path: Generator[int, None, Finish]) -> int:
        """The next token, or -1 at the end."""
        try:
            token = next(path)
        except StopIteration as end:
            self.finish = end.value
            return -1
        self.tokens += 1
        return token


def make_gateway(config: CloudConfig, engine: TargetEngine, compute: Compute, hooks: Hooks) -> Gateway:
    """The cloud's actors, for whoever brings links of another kind."""
    rules = CloudRules(
        sessions_max=config.sessions_max,
        edge_sessions_max=config.edge_sessions_max,
        connections_max=config.connections_max,
        pass_tokens=config.pass_tokens,
        patience=Patience(
            greeting_s=config.handshake_timeout_s,
            ping_after_s=config.ping_after_s,
            silent_after_s=config.silent_after_s,
        ),
    )
    limits = ConnectionLimits(
        queued_frames=REPLY_FRAMES, stall_s=config.send_stall_s, stop_s=config.stop_timeout_s
    )
    return Gateway(rules, _welcome(config, engine), engine, compute, limits=limits, hooks=hooks)


def _compute(config: CloudConfig) -> Compute:
    if config.pass_ms > 0 or config.pass_token_ms > 0:
        return ModelledCompute(Pace(config.pass_ms / 1e3, config.pass_token_ms / 1e3))
    return ThreadCompute("pipesd-target")


def _welcome(config: CloudConfig, engine: TargetEngine) -> Welcome:
    identity, vocabulary = engine.identity, engine.tokenizer.vocabulary
    return Welcome(
        version=PROTOCOL_VERSION,
        model=identity.model,
        engine=identity.engine,
        numerics=identity.numerics,
        vocabulary_size=len(vocabulary),
        vocabulary_hashes=vocabulary.hashes,
        end_ids=identity.end_ids,
        begin_ids=identity.begin_ids,
        template=identity.template,
        context_tokens=identity.context_tokens,
        window_tokens=config.window_tokens,
        chunk_tokens=identity.chunk_tokens,
        sessions_max=min(config.edge_sessions_max, config.sessions_max),
        greedy_only=identity.greedy_only,
        control_ids=identity.control_ids,
    )
