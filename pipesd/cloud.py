"""The cloud for applications: serve a target model to many edges.

Runs inside the caller's event loop; several may exist in one process. Nothing here is global.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic

from pipesd.actors.compute import Compute, ModelledCompute, Pace, ThreadCompute, run_once
from pipesd.actors.connection import ConnectionLimits
from pipesd.actors.gateway import Gateway
from pipesd.actors.link import listening
from pipesd.actors.runtime import Hooks
from pipesd.address import host_port
from pipesd.config import CloudConfig
from pipesd.engines.base import TargetEngine
from pipesd.engines.choose import open_target
from pipesd.observe import Observer
from pipesd.session.rules import CloudRules, Patience
from pipesd.wire.frames import PROTOCOL_VERSION, Welcome

__all__ = ["Cloud", "cloud_rules", "compute_for", "make_gateway", "serve", "welcome_of"]


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
    engine = await run_once("pipesd-target", lambda: open_target(config))
    hooks = Hooks(observers=observers, clock=monotonic)
    gateway = make_gateway(config, engine, compute_for(config, engine), hooks)
    async with gateway.running(), listening(host, port, gateway.accept) as address:
        yield Cloud(*address)


def make_gateway(config: CloudConfig, engine: TargetEngine, compute: Compute, hooks: Hooks) -> Gateway:
    """The cloud's actors, for whoever brings links of another kind."""
    limits = ConnectionLimits(
        queued_frames=REPLY_FRAMES, stall_s=config.send_stall_s, stop_s=config.stop_timeout_s
    )
    return Gateway(
        cloud_rules(config), welcome_of(config, engine), engine, compute, limits=limits, hooks=hooks
    )


def compute_for(config: CloudConfig, engine: TargetEngine) -> Compute:
    """The door to the target model."""
    if config.is_paced:
        return ModelledCompute(Pace(config.pass_ms / 1e3, config.pass_token_ms / 1e3))
    return ThreadCompute("pipesd-target", engine.interrupt, engine.close)


def cloud_rules(config: CloudConfig) -> CloudRules:
    """What the cloud decides by."""
    return CloudRules(
        sessions_max=config.sessions_max,
        edge_sessions_max=config.edge_sessions_max,
        connections_max=config.connections_max,
        pass_tokens=config.pass_tokens,
        verify=config.verify,
        tunes=config.tuner == "on",
        patience=Patience(
            greeting_s=config.handshake_timeout_s,
            ping_after_s=config.ping_after_s,
            silent_after_s=config.silent_after_s,
        ),
    )


def welcome_of(config: CloudConfig, engine: TargetEngine) -> Welcome:
    """What edges are told about this cloud."""
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
        cutting=vocabulary.cutting,
        tunes=config.tuner == "on",
    )
