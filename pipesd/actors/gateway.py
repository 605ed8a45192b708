"""The cloud with a lifetime: it takes links in, gives each a sender and a receiver, and owns the verifier."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pipesd.actors.compute import Compute
from pipesd.actors.connection import Connection, ConnectionLimits
from pipesd.actors.link import Link, fresh_nonce
from pipesd.actors.receiver import Reports
from pipesd.actors.runtime import Crew, Funnel, Hooks, crew, in_good_order
from pipesd.actors.tuner import Door, OwnProcess, Tuner
from pipesd.actors.verifier import Verifier
from pipesd.engines.base import TargetEngine
from pipesd.engines.energy import Meter
from pipesd.redact import log_fault
from pipesd.session import commands, events
from pipesd.session.cloud_side import CloudSide
from pipesd.session.rules import CloudRules
from pipesd.tokens import Verifiers
from pipesd.tuning import Proposal
from pipesd.tuning_worker import Order
from pipesd.wire.codec import GREETING_BYTES_MAX, Decoder
from pipesd.wire.frames import CloudFrame, EdgeFrame, Welcome

if TYPE_CHECKING:
    from pipesd.session.proof import Tokens

logger = logging.getLogger("pipesd.cloud")

INBOX_EVENTS = 64
TOKENS_READ_S = 2.0


def _proposed(peer: int, proposal: Proposal) -> events.CloudEvent:
    return events.PeerTuned(peer, proposal.trial, proposal.thresholds)


_Connection = Connection[events.CloudEvent, EdgeFrame]


class Gateway:
    """The cloud's actors around one funnel."""

    def __init__(  # noqa: PLR0913 - one for each actor
        self,
        rules: CloudRules,
        welcome: Welcome,
        engine: TargetEngine,
        compute: Compute,
        *,
        limits: ConnectionLimits,
        hooks: Hooks,
        tuning: Door | None = None,
        meter: Meter | None = None,
        verifiers: Verifiers | None = None,
    ) -> None:
        """``tuning`` is what stands behind the tuner: a process of its own by default.

        ``meter`` measures what passes take; without ``verifiers`` everybody is let in.
        """
        side = CloudSide(rules, welcome, engine.tokenizer.vocabulary)
        self._funnel: Funnel[events.CloudEvent, commands.CloudCommand] = Funnel(
            side,
            self._dispatch,
            events.DeadlineReached(),
            inbox_limit=INBOX_EVENTS,
            hooks=hooks,
        )
        self._limits = limits
        self._compute = compute
        self._verifier = Verifier(
            engine, compute, self._funnel.inbox, limit=rules.sessions_max + 2, meter=meter
        )
        self._tuner: Tuner[events.CloudEvent] = Tuner(
            tuning or OwnProcess(), self._funnel.inbox, _proposed, limit=3 * rules.connections_max
        )
        self._verifiers = verifiers
        self._tokens: Tokens | None = None
        self._hands: Crew | None = None
        self._peers: dict[int, _Connection] = {}
        self._peers_met = 0
        self._deserted = asyncio.Event()
        self._deserted.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the actors for the block. It is left in good order, or at once if it was cancelled."""
        async with crew() as hands:
            self._hands = hands
            hands.hire("pipesd cloud funnel", self._funnel.run())
            hands.hire("pipesd cloud verifier", self._verifier.run())
            hands.hire("pipesd cloud tuner", self._tuner.run())
            if self._verifiers is not None:
                hands.hire("pipesd cloud tokens", self._watch_tokens(self._verifiers))
            try:
                async with in_good_order(self._stop):
                    yield
            finally:
                self._hands = None
                for peer in self._peers.values():
                    peer.abort()
                self._funnel.close()
                self._compute.close()

    async def _watch_tokens(self, verifiers: Verifiers) -> None:
        """Have revoked ones thrown out also while nobody comes."""
        while True:
            self._read_tokens(verifiers)
            await asyncio.sleep(TOKENS_READ_S)

    def _read_tokens(self, verifiers: Verifiers) -> None:
        tokens = verifiers.current()
        if tokens is not self._tokens:
            self._tokens = tokens
            self._funnel.step(events.TokensRead(tokens))

    async def _stop(self) -> None:
        self._funnel.step(events.StopRequested())
        await self._deserted.wait()

    def accept(self, link: Link) -> None:
        """Serve a new connection; it is refused if there are too many."""
        if self._hands is None:
            link.abort("the cloud has stopped")
            return
        number = self._peers_met
        self._peers_met += 1
        peer = self._peers[number] = self._connection(number, link)
        self._deserted.clear()
        self._hands.hire(f"pipesd cloud peer {number}", self._serve(number, peer))
        if self._verifiers is not None:
            self._read_tokens(self._verifiers)
        self._funnel.step(events.PeerConnected(number, link.address, fresh_nonce()))

    def _connection(self, number: int, link: Link) -> _Connection:
        reports: Reports[events.CloudEvent, EdgeFrame] = Reports(
            frame=lambda frame: events.PeerFrame(number, frame),
            rejected=lambda code, message: events.PeerRejected(number, code, message),
            closed=lambda reason: events.PeerClosed(number, reason),
        )
        decoder = Decoder[EdgeFrame](EdgeFrame, GREETING_BYTES_MAX)
        return Connection(link, decoder, self._funnel.inbox, reports, self._limits)

    async def _serve(self, number: int, peer: _Connection) -> None:
        """Until the connection has ended. A fault of ours in here ends this connection and no other."""
        try:
            await peer.run()
        except* Exception:
            log_fault(logger, f"! peer {number}: its connection failed on a fault of pipesd")
            self._funnel.step(events.PeerClosed(number, "a fault of pipesd"))
        finally:
            del self._peers[number]
            if not self._peers:
                self._deserted.set()

    def _tell(self, peer: _Connection, frame: CloudFrame) -> None:
        if isinstance(frame, Welcome):
            peer.trust()
        peer.tell(frame)

    def _dispatch(self, command: commands.CloudCommand) -> None:
        match command:
            case commands.SendToPeer(number, frame):
                if number in self._peers:
                    self._tell(self._peers[number], frame)
            case commands.RunPass() | commands.ReleaseSequence():
                self._verifier.tell(command)
            case commands.TunePeer(number, trial):
                objective, report = trial or ("balanced", None)
                self._tuner.tell(Order(number, objective, report))
            case commands.ClosePeer(number):
                if number in self._peers:
                    self._peers[number].finish()
