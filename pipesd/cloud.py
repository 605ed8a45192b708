"""The cloud for applications: serve a target model to many edges.

Runs inside the caller's event loop; several may exist in one process. Nothing here is global.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from pipesd import tls
from pipesd.actors.compute import Compute, ModelledCompute, Pace, ThreadCompute, run_once
from pipesd.actors.connection import ConnectionLimits
from pipesd.actors.gateway import Gateway
from pipesd.actors.link import Tls, listening
from pipesd.actors.listener import Bounds
from pipesd.actors.runtime import Hooks
from pipesd.address import host_port
from pipesd.config import CloudConfig
from pipesd.engines.base import TargetEngine
from pipesd.engines.choose import open_target
from pipesd.engines.energy import Energy, declared, open_energy
from pipesd.engines.process import ProcessTarget
from pipesd.errors import ConfigError
from pipesd.observe import Observer
from pipesd.redact import let_log
from pipesd.session.rules import CloudRules, Patience
from pipesd.tokens import Verifiers
from pipesd.wire.codec import encode
from pipesd.wire.frames import PROTOCOL_VERSION, Refuse, Welcome, as_line

if TYPE_CHECKING:
    from pipesd.metrics import CloudMetrics

__all__ = ["Cloud", "cloud_rules", "compute_for", "make_gateway", "serve", "welcome_of"]


SECRET_BYTES = 32
LEAVING_MAX = 32
"""Connections beside those that are let in: they are told why not, or have not closed their end yet."""

REPLY_FRAMES = 128
"""When more replies wait for one edge, it is not read."""


class Cloud:
    """A cloud that serves."""

    def __init__(self, host: str, port: int, metrics_address: tuple[str, int] | None = None) -> None:
        self.address = (host, port)
        """Where it listens; a port 0 of the configuration is resolved."""

        self.metrics_address = metrics_address
        """Where its figures are, if they are offered."""

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
    let_log(config)
    host, port = host_port(config.listen, name="listen")
    context = tls.of_cloud(config)
    secured = None if context is None else Tls(context, config.handshake_timeout_s, config.stop_timeout_s)
    with closing(await run_once("pipesd-energy", lambda: open_energy(config))) as energy:
        async with _metrics(config, energy) as (metrics, metrics_address), _opened(config) as engine:
            if metrics is not None:
                metrics.introduce(engine.identity)
                observers = (*observers, metrics)
            hooks = Hooks(observers=observers, clock=monotonic)
            gateway = make_gateway(config, engine, compute_for(config, engine), hooks, energy)
            listener = listening(host, port, gateway.accept, secured, bounds_of(config))
            async with gateway.running(), listener as address:
                yield Cloud(*address, metrics_address)


@asynccontextmanager
async def _metrics(
    config: CloudConfig, energy: Energy
) -> AsyncIterator[tuple["CloudMetrics | None", tuple[str, int] | None]]:
    """What counts, if figures are wanted, and where they are offered."""
    if not config.metrics:
        yield None, None
        return
    try:
        from pipesd.metrics import CloudMetrics, offering  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(
            "metrics: prometheus-client is not installed; run pip install 'pipesd[metrics]', or leave it out"
        ) from None
    metrics = CloudMetrics(energy)
    host, port = host_port(config.metrics, name="metrics")
    async with offering(metrics, host, port) as address:
        yield metrics, address


@asynccontextmanager
async def _opened(config: CloudConfig) -> AsyncIterator[TargetEngine]:
    """The target model, loaded; in a process of its own it is gone with the block, also while it loads."""
    if not config.is_apart:
        yield await run_once("pipesd-target", lambda: open_target(config))
        return
    with closing(ProcessTarget(config)) as engine:
        await run_once("pipesd-target", engine.start)
        yield engine


def make_gateway(
    config: CloudConfig,
    engine: TargetEngine,
    compute: Compute,
    hooks: Hooks,
    energy: Energy | None = None,
) -> Gateway:
    """The cloud's actors, for whoever brings links of another kind.

    Without ``energy``, figures are those of the power that the settings declare, if they do.
    """
    energy = energy or declared(config)
    limits = ConnectionLimits(
        queued_frames=REPLY_FRAMES, stall_s=config.send_stall_s, stop_s=config.stop_timeout_s
    )
    return Gateway(
        cloud_rules(config, energy),
        welcome_of(config, engine, energy),
        engine,
        compute,
        limits=limits,
        hooks=hooks,
        meter=energy.meter,
        verifiers=Verifiers(Path(config.tokens)) if config.tokens else None,
    )


def compute_for(config: CloudConfig, engine: TargetEngine) -> Compute:
    """The door to the target model."""
    if config.is_paced:
        return ModelledCompute(Pace(config.pass_ms / 1e3, config.pass_token_ms / 1e3))
    return ThreadCompute("pipesd-target", engine.interrupt, engine.close)


def bounds_of(config: CloudConfig) -> Bounds:
    """How many sockets there may be, those included who are only told that they cannot stay."""
    busy = encode(Refuse("busy", "too many connections wait here", cloud_rules(config).retry_ms))
    return Bounds(
        connections_max=config.connections_max + LEAVING_MAX,
        address_connections_max=config.address_connections_max + LEAVING_MAX,
        last_word=b"" if config.tls_cert else busy,
    )


def cloud_rules(config: CloudConfig, energy: Energy | None = None) -> CloudRules:
    """What the cloud decides by; ``energy`` as in ``make_gateway``."""
    return CloudRules(
        sessions_max=config.sessions_max,
        edge_sessions_max=config.edge_sessions_max,
        connections_max=config.connections_max,
        pass_tokens=config.pass_tokens,
        lone_prompt_tokens=config.pass_tokens,
        pass_sessions=config.pass_sessions,
        kv_sequences=config.kv_sequences,
        prefill_tokens_max=config.prefill_tokens_max,
        busy_retry_s=config.busy_retry_s,
        address_connections_max=config.address_connections_max,
        lease_s=config.lease_s,
        drain_s=config.drain_s,
        secret=secrets.token_bytes(SECRET_BYTES),
        verify=config.verify,
        tunes=config.tuner == "on",
        busy_watts=(energy or declared(config)).busy_watts,
        patience=Patience(
            greeting_s=config.handshake_timeout_s,
            ping_after_s=config.ping_after_s,
            silent_after_s=config.silent_after_s,
        ),
    )


def welcome_of(config: CloudConfig, engine: TargetEngine, energy: Energy | None = None) -> Welcome:
    """What edges are told about this cloud; ``energy`` as in ``make_gateway``."""
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
        energy=as_line((energy or declared(config)).source),
    )
