"""The edge with a lifetime: its actors around one funnel, and the streams the application reads."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipesd.actors.compute import Compute
from pipesd.actors.connection import ConnectionLimits, LinkStatistics
from pipesd.actors.drafter import Drafter
from pipesd.actors.lines import Dial, Lines, no_dial
from pipesd.actors.link import Link
from pipesd.actors.runtime import Crew, Funnel, Hooks, crew, in_good_order
from pipesd.actors.token_stream import TokenStream
from pipesd.actors.tuner import Door, OwnProcess, Tuner
from pipesd.engines.base import DraftEngine
from pipesd.errors import LinkError
from pipesd.redact import log_text
from pipesd.session import commands, events
from pipesd.session.checks import unlike
from pipesd.session.edge_side import EdgeSide
from pipesd.session.rules import EdgeRules
from pipesd.tuning import Proposal
from pipesd.tuning_worker import Order
from pipesd.wire.frames import Welcome

logger = logging.getLogger("pipesd.edge")

INBOX_EVENTS = 64
DRAFTER_ORDERS = 4_096
TUNER_ORDERS = 2
QUEUED_FRAMES = 1_024

_TAKEN_OVER = commands.Failure("usage", "a newer prompt took the session over; read one answer at a time")

_OURSELVES = 0
"""The tuner's only client at an edge."""


def _proposed(_: int, proposal: Proposal) -> events.EdgeEvent:
    return events.ThresholdsProposed(proposal.trial, proposal.thresholds)


class EdgeRuntime:
    """The line to a cloud, and the draft engine behind it."""

    def __init__(  # noqa: PLR0913 - one for each actor
        self,
        rules: EdgeRules,
        link: Link,
        engine: DraftEngine,
        compute: Compute,
        *,
        stop_s: float,
        hooks: Hooks,
        dial: Dial = no_dial,
        tuning: Door | None = None,
    ) -> None:
        """``dial`` makes further links, when ``link`` is lost.

        ``tuning`` is what stands behind the tuner: a process of its own by default.
        """
        side = EdgeSide(rules, engine.tokenizer.vocabulary)
        self.tuned = side.tuned
        """What the tuner was told and has proposed."""

        self._funnel: Funnel[events.EdgeEvent, commands.EdgeCommand] = Funnel(
            side, self._dispatch, events.DeadlineReached(), inbox_limit=INBOX_EVENTS, hooks=hooks
        )
        inbox = self._funnel.inbox
        self._compute = compute
        self._drafter = Drafter(engine, compute, inbox, limit=DRAFTER_ORDERS)
        self._objective = rules.objective
        self._pieces = engine.tokenizer.vocabulary.pieces
        self._tuner: Tuner[events.EdgeEvent] = Tuner(
            tuning or OwnProcess(), inbox, _proposed, limit=TUNER_ORDERS
        )
        silent_after_s = rules.patience.silent_after_s
        stall_s = None if math.isinf(silent_after_s) else silent_after_s
        limits = ConnectionLimits(queued_frames=QUEUED_FRAMES, stall_s=stall_s, stop_s=stop_s)
        self._lines = Lines(dial, inbox, limits)
        self._link: Link | None = link
        """The first one, until it is in use."""

        self._streams: dict[int, TokenStream] = {}
        self._sessions = 0
        self._welcome: Welcome | None = None
        self.foreign_pieces: dict[int, bytes] = {}
        """The bytes of the target's tokens that lie behind the draft's last one, once it is ready."""

        self._failure: commands.Failure | None = None
        self._settled = asyncio.Event()
        self._hands: Crew | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the actors for the block. It is left in good order, or at once if it was cancelled."""
        async with crew() as hands:
            self._hands = hands
            link, self._link = self._link, None
            assert link is not None, "an edge runs once"
            opened = self._lines.adopt(link, 0)
            self._hire(hands)
            self._funnel.step(opened)
            try:
                async with in_good_order(self._stop):
                    yield
            finally:
                self._hands = None
                self._lines.abort()
                self._funnel.close()
                self._compute.close()

    def _hire(self, hands: Crew) -> None:
        hands.hire("pipesd edge funnel", self._funnel.run())
        hands.hire("pipesd edge connection", self._lines.run())
        hands.hire("pipesd edge drafter", self._drafter.run())
        hands.hire("pipesd edge tuner", self._tuner.run())

    async def _stop(self) -> None:
        self._funnel.step(events.StopRequested())
        await self._lines.wait_closed()

    async def wait_ready(self) -> Welcome:
        """The cloud's grant, once the handshake is over.

        Raises ``LinkError``, ``PeerError`` or ``RefusedError`` if it failed.
        """
        await self._settled.wait()
        self._require_link()
        assert self._welcome is not None, "ready without a welcome"
        return self._welcome

    def statistics(self) -> LinkStatistics:
        """What crossed the link so far."""
        return self._lines.statistics()

    def open_session(self) -> int:
        """The number of a new session. Raises ``LinkError`` or ``UsageError`` if there cannot be one."""
        self._require_link()
        self._funnel.step(events.SessionWanted(self._sessions))
        self._sessions += 1
        return self._sessions - 1

    def start(self, wish: events.PromptGiven) -> TokenStream:
        """Begin a generation; one that runs in the session ends. Raises ``UsageError`` or ``LinkError``."""
        self._require_link()
        self._funnel.step(wish)
        session = wish.session
        log_text(f"given to session {session}", wish.tokens, self._pieces)
        self._end_stream(session, _TAKEN_OVER)
        stream = self._streams[session] = TokenStream()
        stream.on_pause = lambda paused: self._pause(session, stream, paused=paused)
        return stream

    def _pause(self, session: int, stream: TokenStream, *, paused: bool) -> None:
        if self._streams.get(session) is stream:
            self._funnel.step(events.ReaderPaused(session) if paused else events.ReaderResumed(session))

    def cancel(self, session: int, stream: TokenStream) -> None:
        """End the generation if it still runs; what was confirmed stays in the session's text."""
        if self._streams.get(session) is stream:
            self._funnel.step(events.GenerationCancelled(session))

    def take_over(self, session: int) -> None:
        """End the answer that is read in the session, for one that needs no cloud.

        Raises ``LinkError`` if all is over.
        """
        if self._hands is None:
            raise LinkError("this side of the connection was closed; connect again")
        if session in self._streams:
            self._end_stream(session, _TAKEN_OVER)
            self._funnel.step(events.GenerationCancelled(session))

    def release(self, sequence: int) -> None:
        """The draft engine may forget it, behind all that it was asked before."""
        self._drafter.tell(commands.ReleaseDraft(sequence))

    def close_session(self, session: int) -> None:
        """The session is not needed any more."""
        self._funnel.step(events.SessionLeft(session))

    def _require_link(self) -> None:
        if self._failure is not None:
            raise self._failure.error()

    def _end_stream(self, session: int, how: commands.FinishGeneration | commands.Failure) -> None:
        stream = self._streams.pop(session, None)
        if stream is not None:
            stream.end(how)

    def _dispatch(self, command: commands.EdgeCommand) -> None:
        match command:
            case commands.SendFrame(frame):
                self._lines.tell(frame)
            case commands.DraftNext() | commands.ReleaseDraft():
                self._drafter.tell(command)
            case commands.TuneThresholds(report):
                self._tuner.tell(Order(_OURSELVES, self._objective, report))
            case commands.AbortStep():
                self._drafter.abort(command)
            case commands.EmitTokens(session, tokens):
                log_text(f"confirmed in session {session}", tokens, self._pieces)
                if session in self._streams:
                    self._streams[session].push(tokens)
            case commands.ShowDrafts(session, tokens):
                if session in self._streams:
                    self._streams[session].show(tokens)
            case commands.FinishGeneration(session):
                self._end_stream(session, command)
            case commands.FailGeneration(session, failure):
                self._end_stream(session, failure)
            case commands.NoteWait(_, reason, wait_s):
                logger.warning("the cloud is busy (%s); trying again in %.1f s", reason, wait_s)
            case _:
                self._change_line(command)

    def _change_line(
        self,
        command: commands.AnnounceReady
        | commands.NoteAway
        | commands.OpenLink
        | commands.DropLink
        | commands.CloseLink,
    ) -> None:
        match command:
            case commands.AnnounceReady(welcome, foreign):
                self._announce(welcome, dict(foreign))
            case commands.NoteAway(reason, wait_s):
                logger.warning("the cloud is away (%s); trying again in %.1f s", reason, wait_s)
            case commands.OpenLink():
                if self._hands is not None:
                    self._hands.hire("pipesd edge connection", self._lines.open(command))
            case commands.DropLink():
                self._lines.finish()
            case commands.CloseLink(failure):
                self._failure = failure
                self._settled.set()
                self._lines.finish()

    def _announce(self, welcome: Welcome, foreign: dict[int, bytes]) -> None:
        if self._welcome is None:
            self._welcome, self.foreign_pieces = welcome, foreign
            self._settled.set()
            return
        logger.warning("the cloud is back")
        changes = unlike(self._welcome, welcome)
        if changes:
            logger.warning("! it is another cloud (%s): from here on the text may differ", ", ".join(changes))
