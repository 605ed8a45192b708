"""What a cloud does, in figures for Prometheus: an observer of its funnel, and the server that offers them.

Each cloud has figures of its own; no prompt and no token is in them. Passes per 100 tokens are
``100 * rate(pipesd_passes_total[5m]) / rate(pipesd_confirmed_tokens_total[5m])``.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from time import monotonic
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, start_http_server
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from pipesd.actors.compute import run_once
from pipesd.engines.base import TargetIdentity
from pipesd.engines.energy import Energy
from pipesd.errors import ConfigError
from pipesd.session.commands import ClosePeer, RunPass, SendToPeer
from pipesd.session.energy import MICRO, spent_j, useful_uj
from pipesd.session.events import PassDone, PassFailed, PeerConnected, PeerFrame
from pipesd.wire import frames

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SESSIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class EnergyFigures:
    """Joules by what they were for; a collector, since those between passes grow without any event."""

    def __init__(self, energy: Energy, clock: Callable[[], float]) -> None:
        self._energy = energy
        self._clock = clock
        self._idle: tuple[float, float | None] = (0.0, clock())
        """Seconds between passes, and since when it has been idle; one value, as another thread reads it."""

        self._began = 0.0
        self._passes_j = 0.0
        self._useful_uj = 0
        self._rejected_uj = 0

    def pass_begins(self, now: float) -> None:
        """The machine is busy from now on."""
        self._began = now
        self._idle = (self._idle_s(now), None)

    def pass_ends(self, now: float, measured_j: float | None = None, *, done: bool) -> None:
        """It is idle from now on. Only a pass that was done is known to have taken something."""
        if done:
            self._passes_j += spent_j(measured_j, self._energy.busy_watts, now - self._began)
        self._idle = (self._idle[0], now)

    def verdict(self, verdict: frames.Verdict) -> None:
        """An edge was told its share."""
        useful = useful_uj(verdict.energy_uj, verdict.accepted, verdict.judged)
        self._useful_uj += useful
        self._rejected_uj += verdict.energy_uj - useful

    def collect(self) -> Iterable[Metric]:
        """The figures of this moment; none if nothing is known."""
        source = self._energy.source
        if not source:
            return
        kinds = CounterMetricFamily(
            "pipesd_energy_joules",
            "Energy of verdicts by whether the text stands, and of the whole machine between passes.",
            labels=("kind", "source"),
        )
        for kind, joules in self._kinds():
            kinds.add_metric((kind, source), joules)
        yield kinds
        passes = CounterMetricFamily(
            "pipesd_pass_energy_joules",
            "Energy of all passes, also of what no verdict told of: prompts being read, answers given up.",
            labels=("source",),
        )
        passes.add_metric((source,), self._passes_j)
        yield passes

    def _kinds(self) -> Iterable[tuple[str, float]]:
        yield "useful", self._useful_uj / MICRO
        yield "rejected", self._rejected_uj / MICRO
        if self._energy.meter is not None:
            yield "idle", self._energy.meter.idle_j()
        elif self._energy.idle_watts is not None:
            yield "idle", self._energy.idle_watts * self._idle_s(self._clock())

    def _idle_s(self, now: float) -> float:
        seconds, since = self._idle
        return seconds if since is None else seconds + max(0.0, now - since)


class _Instruments:
    """The figures of one cloud, by name."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.build = Info("pipesd_build", "What serves.", registry=self.registry)
        self.connections = Gauge("pipesd_connections", "Connections of edges.", registry=self.registry)
        self.sessions = Gauge("pipesd_sessions", "Sessions of edges that are there.", registry=self.registry)
        self.resumed = self._counter("resumed", "Sessions that went on, from cache or text.", "from")
        self.passes = self._counter("passes", "Passes of the target.")
        self.failures = self._counter("pass_failures", "Passes in which the target failed.")
        self.restarts = self._counter("engine_restarts", "Times the target's engine was started anew.")
        self.evictions = self._counter("evictions", "Sessions that lost their place in the model's cache.")
        self.confirmed = self._counter("confirmed_tokens", "Tokens of text that edges were told.")
        self.verified = self._counter("drafts_verified", "Drafts that passes judged.")
        self.accepted = self._counter("drafts_accepted", "Drafts that stand.")
        self.rejected = self._counter("drafts_rejected", "Drafts that were judged and do not stand.")
        self.evaluated = self._counter("evaluated_tokens", "Tokens in passes.", "kind")
        self.refusals = self._counter("refusals", "Edges turned away, or told to come later.", "code")
        self.faults = self._counter("faults", "Sessions and connections that were ended.", "code")
        self.queue_s = self._histogram("queue_seconds", "How long verdicts were due before a pass.", SECONDS)
        self.pass_s = self._histogram("pass_seconds", "How long passes took.", SECONDS)
        self.pass_tokens = self._histogram("pass_tokens", "Tokens in a pass.", TOKENS)
        self.pass_sessions = self._histogram("pass_sessions", "Sessions in a pass.", SESSIONS)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"pipesd_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"pipesd_{name}", meaning, buckets=buckets, registry=self.registry)


class CloudMetrics:
    """Counts what passes through a cloud's funnel: an observer. Another thread may read ``registry``."""

    def __init__(self, energy: Energy, clock: Callable[[], float] = monotonic) -> None:
        """``clock`` is the funnel's."""
        self._figures = figures = _Instruments()
        self.registry = figures.registry
        self._energy = EnergyFigures(energy, clock)
        self.registry.register(self._energy)
        self._prompt_tokens = figures.evaluated.labels("prompt")
        self._text_tokens = figures.evaluated.labels("text")
        self._peers: dict[int, set[int]] = {}
        """The open sessions of every connection."""

        self._pass_began = 0.0

    def introduce(self, identity: TargetIdentity) -> None:
        """Say who serves."""
        self._figures.build.info(
            {
                "version": _version(),
                "protocol": str(frames.PROTOCOL_VERSION),
                "model": identity.model,
                "engine": identity.engine,
                "numerics": identity.numerics,
            }
        )

    def observe(self, now: float, event: object, commands: Sequence[object]) -> None:
        """Count it."""
        match event:
            case PassDone():
                self._pass_done(event, now)
            case PassFailed():
                self._pass_failed(event, now)
            case PeerConnected(peer):
                self._peers[peer] = set()
                self._figures.connections.inc()
            case PeerFrame(peer, frames.Close(session) | frames.Fault(int(session))):
                self._session_ended(peer, session)
            case _:
                pass
        for command in commands:
            match command:
                case SendToPeer(peer, frame):
                    self._told(peer, frame, judged=isinstance(event, PassDone))
                case RunPass():
                    self._pass_begins(command, now)
                case ClosePeer(peer):
                    self._peer_ended(peer)
                case _:
                    pass

    # -- passes -----------------------------------------------------------------------------------------

    def _pass_begins(self, order: RunPass, now: float) -> None:
        figures = self._figures
        prompt = sum(len(part.tokens) for part in order.slices if part.prompt)
        self._prompt_tokens.inc(prompt)
        self._text_tokens.inc(order.tokens - prompt)
        figures.pass_tokens.observe(order.tokens)
        figures.pass_sessions.observe(len({part.sequence for part in order.slices}))
        figures.evictions.inc(order.evicted)
        self._energy.pass_begins(now)
        self._pass_began = now

    def _pass_done(self, done: PassDone, now: float) -> None:
        self._figures.passes.inc()
        self._figures.pass_s.observe(now - self._pass_began)
        self._energy.pass_ends(now, done.energy_j, done=True)

    def _pass_failed(self, failed: PassFailed, now: float) -> None:
        self._figures.failures.inc()
        self._figures.restarts.inc(failed.lost)
        self._energy.pass_ends(now, done=False)

    # -- what edges are told ----------------------------------------------------------------------------

    def _told(self, peer: int, frame: frames.CloudFrame, *, judged: bool) -> None:
        match frame:
            case frames.Verdict() if judged:
                self._verdict(frame)
            case frames.Opened(session):
                self._session_began(peer, session)
            case frames.Resumed(session, need):
                self._figures.resumed.labels("text" if need else "cache").inc()
                self._session_began(peer, session)
            case frames.Refuse(code):
                self._figures.refusals.labels(code).inc()
            case frames.Fault(_, code) if frame.retry_ms:
                self._figures.refusals.labels(code).inc()
            case frames.Fault(session, code):
                self._figures.faults.labels(code).inc()
                if session is not None:
                    self._session_ended(peer, session)
            case _:
                pass

    def _verdict(self, verdict: frames.Verdict) -> None:
        """A verdict that a pass gave; one that is told again is not."""
        figures = self._figures
        figures.queue_s.observe(verdict.queue_us / MICRO)
        figures.verified.inc(verdict.judged)
        figures.accepted.inc(verdict.accepted)
        figures.rejected.inc(verdict.judged - verdict.accepted)
        figures.confirmed.inc(verdict.accepted + len(verdict.tokens))
        self._energy.verdict(verdict)

    def _session_began(self, peer: int, session: int) -> None:
        if session not in self._peers.get(peer, {session}):
            self._peers[peer].add(session)
            self._figures.sessions.inc()

    def _session_ended(self, peer: int, session: int) -> None:
        sessions = self._peers.get(peer, set())
        if session in sessions:
            sessions.remove(session)
            self._figures.sessions.dec()

    def _peer_ended(self, peer: int) -> None:
        if peer in self._peers:
            self._figures.sessions.dec(len(self._peers.pop(peer)))
            self._figures.connections.dec()


def _version() -> str:
    try:
        return version("pipesd")
    except PackageNotFoundError:  # run from a folder that was not installed
        return "unknown"


@asynccontextmanager
async def offering(metrics: CloudMetrics, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
    """Answer Prometheus in a thread while the block lasts; gives the address, port 0 resolved.

    Raises ``ConfigError`` if the address cannot be used.
    """
    try:
        server = await run_once("pipesd-metrics", partial(_started, metrics.registry, host, port))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such host name can exist"
        raise ConfigError(
            f"metrics: cannot listen on {host}:{port} ({reason}); choose another address or port"
        ) from error
    try:
        bound = server.socket.getsockname()
        yield bound[0], bound[1]
    finally:
        await run_once("pipesd-metrics", partial(_stopped, server))


def _started(registry: CollectorRegistry, host: str, port: int) -> WSGIServer:
    return start_http_server(port, host, registry)[0]


def _stopped(server: WSGIServer) -> None:
    server.shutdown()
    server.server_close()
