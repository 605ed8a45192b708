"""The whole edge: the handshake, its sessions, and whose turn it is at the draft engine.

One door in, ``handle``; one list out; ``deadline`` names the moment it wants to be woken at. Pure.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipesd.errors import LinkError, PeerError, UsageError, one_line
from pipesd.session import events
from pipesd.session.commands import (
    AbortStep,
    AnnounceReady,
    CloseLink,
    EdgeCommand,
    Failure,
    ReleaseDraft,
    SendFrame,
)
from pipesd.session.edge import EdgeSession
from pipesd.session.experience import Experience
from pipesd.session.greeting import Greeting
from pipesd.session.phases import EdgePhase, require_legal
from pipesd.session.rules import EdgeRules
from pipesd.session.tuned import Tuned
from pipesd.session.watch import Watch
from pipesd.vocabulary import Vocabulary
from pipesd.wire import frames

if TYPE_CHECKING:
    from pipesd.planner.occupancy import Gap

_CLOUD = 0
"""The only peer the edge watches."""


class EdgeSide:
    """Everything the edge decides."""

    def __init__(self, rules: EdgeRules, vocabulary: Vocabulary) -> None:
        self._rules = rules
        self._vocabulary = vocabulary
        self._phase = EdgePhase.CONNECTING
        self._watch = Watch(rules.patience)
        self._greeting_ends = math.inf
        self._greeting = Greeting(vocabulary)
        self._sessions: dict[int, EdgeSession] = {}
        self._newest_session = -1
        self._step_number = 0
        self._drafting: tuple[int, int] | None = None
        """(step, session) of the draft step in flight."""

        self._abort_told_s: float | None = None
        """When it was told to abort, if it was."""

        self.tuned = Tuned(rules)
        """What the tuner is told and has proposed; others may read it."""

        self._experience = Experience(self.tuned.trials)
        self._told_frames = 0
        """How many frames the sender was told."""

        self._drafts_told = 0
        """Which of them was the last one with drafts."""

        self._link_idle = True
        """Whether the sender holds no drafts of ours."""

        self._turns: dict[int, None] = {}
        """The sessions in the order of their turns at the link; the one that sent last comes last."""

        self._sent_last: int | None = None

    # -- the door ---------------------------------------------------------------------------------------

    @property
    def phase(self) -> EdgePhase:
        """Where the connection stands."""
        return self._phase

    @property
    def _is_over(self) -> bool:
        return self._phase is EdgePhase.CLOSED

    @property
    def sessions(self) -> dict[int, EdgeSession]:
        """The sessions by number; to be read only."""
        return self._sessions

    def handle(self, event: events.EdgeEvent, now: float) -> list[EdgeCommand]:
        """What is to be done about ``event``.

        Raises ``UsageError`` or ``LinkError`` for an impossible wish of the application; nothing has changed
        then. What the peer does wrong raises nothing, it closes the link.
        """
        try:
            commands = list(self._decide(event, now))
        except PeerError as error:
            commands = list(self._expel(error))
        commands += self._keep_busy(
            now, just_idle=isinstance(event, events.LinkIdle) and event.frames == self._drafts_told
        )
        for command in commands:
            if isinstance(command, SendFrame):
                self._told_frames += 1
                if isinstance(command.frame, frames.Draft):
                    self._drafts_told = self._told_frames
        return commands

    def deadline(self) -> float | None:
        """When ``DeadlineReached`` is due at the latest."""
        if self._phase is EdgePhase.CLOSED:
            return None
        tries = (session.door.until for session in self._sessions.values())
        earliest = min(self._greeting_ends, self._watch.deadline(), *tries)
        return None if math.isinf(earliest) else earliest

    def _decide(self, event: events.EdgeEvent, now: float) -> Iterator[EdgeCommand]:
        match event:
            case events.TokenDrafted() | events.StepAborted() | events.DraftFailed():
                self._end_step(event, now)
            case events.LinkIdle(sent):
                self._note_idle(sent, now)
            case events.ThresholdsProposed(trial, thresholds):
                self._adopt(changed=self.tuned.begin(trial, thresholds))
            case events.FrameReceived() | events.BytesRejected() | events.DeadlineReached() if self._is_over:
                pass
            case events.FrameReceived(frame):
                yield from self._receive(frame, now)
            case events.LinkOpened():
                if self._phase is EdgePhase.CONNECTING:
                    yield self._greet(now)
            case events.LinkClosed(reason):
                hint = "; if it speaks TLS, give tls_ca" if self._phase is EdgePhase.GREETING else ""
                yield from self._end(Failure("link", reason + hint))
            case events.BytesRejected(code, message):
                raise PeerError(code, message)
            case events.DeadlineReached():
                yield from self._keep_time(now)
            case events.StopRequested():
                yield from self._part(Failure("link", "this side of the connection was closed"))
            case _:
                yield from self._obey(event)

    # -- the application --------------------------------------------------------------------------------

    def _obey(
        self,
        wish: events.SessionWanted
        | events.SessionLeft
        | events.PromptGiven
        | events.GenerationCancelled
        | events.ReaderPaused
        | events.ReaderResumed,
    ) -> Iterator[EdgeCommand]:
        if isinstance(wish, events.SessionWanted):
            return self._open_session(wish.session)
        session = self._sessions.get(wish.session)
        match wish:
            case events.PromptGiven():
                return self._prompt(session, wish)
            case _ if session is None:
                return iter(())
            case events.GenerationCancelled():
                return session.cancel()
            case events.SessionLeft(number):
                return self._close_session(number)
            case events.ReaderPaused() | events.ReaderResumed():
                session.pause(paused=isinstance(wish, events.ReaderPaused))
                return iter(())

    def _open_session(self, number: int) -> Iterator[EdgeCommand]:
        welcome = self._greeting.welcome
        if self._phase is not EdgePhase.READY or welcome is None:
            raise LinkError(f"no session can be opened while {self._phase.value}")
        if number <= self._newest_session:
            raise UsageError(f"session {number} was opened before; numbers are not used twice")
        if len(self._sessions) >= welcome.sessions_max:
            raise UsageError(f"all {welcome.sessions_max} sessions are open; close one first")
        self._newest_session = number
        session = EdgeSession(number, self._rules, welcome, len(self._vocabulary), self._experience)
        if self.tuned.thresholds is not None:
            session.adopt(self.tuned.thresholds)
        self._sessions[number] = session
        self._turns[number] = None
        return session.open()

    def _prompt(self, session: EdgeSession | None, wish: events.PromptGiven) -> Iterator[EdgeCommand]:
        if session is None and self._phase is EdgePhase.READY:
            raise UsageError("the session is closed; open a new one")
        if session is None:
            raise LinkError("the connection is over; connect again and open a new session")
        session.check(wish)
        return session.prompt(wish)

    def _close_session(self, number: int) -> Iterator[EdgeCommand]:
        session = self._sessions.pop(number)
        del self._turns[number]
        yield from session.close()
        if session.was_drafted:
            yield ReleaseDraft(number)

    # -- the draft engine and the link ------------------------------------------------------------------

    def _keep_busy(self, now: float, *, just_idle: bool) -> Iterator[EdgeCommand]:
        """Give engine and link their next work, sessions taking turns; and let no session stand still."""
        if self._drafting is None:
            yield from self._start_step(now)
        elif self._abort_told_s is None:
            yield from self._abort_useless(*self._drafting, now)
        for session in self._sessions.values():
            session.ask_if_idle()
        if self._link_idle:
            yield from self._send_drafts(now, just_idle=just_idle)

    def _start_step(self, now: float) -> Iterator[EdgeCommand]:
        turn = next((number for number, session in self._sessions.items() if session.wants_draft), None)
        if turn is None:
            return
        session = self._sessions[turn] = self._sessions.pop(turn)
        self._step_number += 1
        self._drafting = (self._step_number, turn)
        session.start_step(now)
        yield session.draft_order(self._step_number)

    def _abort_useless(self, step: int, number: int, now: float) -> Iterator[EdgeCommand]:
        session = self._sessions.get(number)
        if session is None or session.step_is_useless:
            self._abort_told_s = now
            yield AbortStep(step)

    def _end_step(
        self, event: events.TokenDrafted | events.StepAborted | events.DraftFailed, now: float
    ) -> None:
        assert self._drafting is not None, "a draft step ended that was never started"
        number, self._drafting = self._drafting[1], None
        told_s, self._abort_told_s = self._abort_told_s, None
        if told_s is not None and isinstance(event, events.StepAborted):
            self._experience.costs.aborted(now - told_s)
        session = self._sessions.get(number)
        if session is None:
            return
        if isinstance(event, events.TokenDrafted):
            session.finish_step(event.token, event.confidence, now)
        else:
            session.lose_step(blocked=isinstance(event, events.DraftFailed))

    def _note_idle(self, sent_frames: int, now: float) -> None:
        """The report on frames before the last drafts may come late, and says nothing of these."""
        if sent_frames >= self._drafts_told:
            self._link_idle = True
            if self._sent_last in self._sessions:
                self._sessions[self._sent_last].link_idle(now)

    def _send_drafts(self, now: float, *, just_idle: bool) -> Iterator[EdgeCommand]:
        """The next batch for the idle link; the session that sent last comes last."""
        for number in self._turns:
            gap: Gap = "foreign" if number != self._sent_last else "none" if just_idle else "some"
            frame = self._sessions[number].next_frame(now, gap)
            if frame is not None:
                self._link_idle = False
                self._sent_last = number
                self._turns[number] = self._turns.pop(number)
                yield SendFrame(frame)
                return

    # -- the cloud --------------------------------------------------------------------------------------

    def _greet(self, now: float) -> EdgeCommand:
        self._phase = EdgePhase.GREETING
        self._greeting_ends = now + self._rules.patience.greeting_s
        return SendFrame(frames.Hello(frames.PROTOCOL_VERSION, self._rules.client, len(self._vocabulary)))

    def _receive(self, frame: frames.CloudFrame, now: float) -> Iterator[EdgeCommand]:
        require_legal(frame, self._phase)
        if self._phase is EdgePhase.READY:
            self._watch.heard(_CLOUD, now)
        match frame:
            case frames.Verdict():
                yield from self._verdict(frame, now)
            case frames.Thresholds():
                self._adopt(changed=self.tuned.hear(frame))
            case frames.Welcome():
                yield from self._greeted(self._greeting.hear(frame), now)
            case frames.Block():
                yield from self._greeted(self._greeting.compare(frame), now)
            case frames.Refuse(code, message, retry_ms):
                why = f"the cloud refused the connection: {one_line(message)}"
                yield from self._end(Failure(code, why, retry_ms))
            case frames.Opened(session):
                self._opened(session)
            case frames.Fault(session, code, message, retry_ms):
                yield from self._fault(session, Failure(code, one_line(message)), retry_ms, now)
            case frames.Bye(reason):
                yield from self._end(Failure("link", f"the cloud closed the connection: {one_line(reason)}"))
            case frames.Ping(number):
                yield SendFrame(frames.Pong(number))
            case _:
                pass

    def _greeted(self, answer: frames.BlockWanted | Failure | None, now: float) -> Iterator[EdgeCommand]:
        if isinstance(answer, frames.BlockWanted):
            self._phase = EdgePhase.COMPARING
            yield SendFrame(answer)
            return
        end = answer or self._ready(now)
        if isinstance(end, Failure):
            yield from self._part(end)
        else:
            yield end

    def _ready(self, now: float) -> AnnounceReady | Failure:
        welcome = self._greeting.welcome
        assert welcome is not None, "ready without a welcome"
        try:
            self.tuned.meet(tunes=welcome.tunes, energy=welcome.energy)
        except UsageError as error:
            return Failure("usage", str(error))
        self._phase = EdgePhase.READY
        self._greeting_ends = math.inf
        self._watch.heard(_CLOUD, now)
        return AnnounceReady(welcome, tuple(self._greeting.foreign))

    def _verdict(self, frame: frames.Verdict, now: float) -> Iterator[EdgeCommand]:
        session = self._known_session(frame.session)
        if session is not None:
            yield from session.verdict(frame, now)
            report = self.tuned.report(self._experience.conditions_ms)
            if report is not None:
                yield report

    def _adopt(self, *, changed: bool) -> None:
        for session in self._sessions.values() if changed else ():
            session.adopt(self.tuned.thresholds)

    def _known_session(self, number: int) -> EdgeSession | None:
        """None if we closed it; its last frames may still be on their way."""
        if number > self._newest_session:
            raise PeerError("protocol", f"session {number} was never opened")
        return self._sessions.get(number)

    def _opened(self, number: int) -> None:
        session = self._known_session(number)
        if session is not None:
            session.door.opened()

    def _fault(
        self, number: int | None, failure: Failure, retry_ms: int, now: float
    ) -> Iterator[EdgeCommand]:
        if number is None:
            yield from self._end(failure)
            return
        session = self._known_session(number)
        if session is not None and retry_ms:
            yield from session.turn_away(failure, retry_ms, now)
        elif session is not None:
            yield from session.fail(failure)

    def _keep_time(self, now: float) -> Iterator[EdgeCommand]:
        for session in self._sessions.values():
            if session.door.until <= now:
                yield from session.say_again()
        yield from self._check_silence(now)

    def _check_silence(self, now: float) -> Iterator[EdgeCommand]:
        if now >= self._greeting_ends:
            patience = self._rules.patience.greeting_s
            yield from self._part(
                Failure("silent", f"the cloud did not complete the greeting in {patience:g} s")
            )
            return
        pings, lost = self._watch.due(now)
        if lost:
            patience = self._rules.patience.silent_after_s
            yield from self._part(Failure("silent", f"nothing was heard from the cloud for {patience:g} s"))
        elif pings:
            yield SendFrame(frames.Ping(round(now * 1e6)))

    # -- the end ----------------------------------------------------------------------------------------

    def _expel(self, error: PeerError) -> Iterator[EdgeCommand]:
        yield SendFrame(frames.Fault(None, error.code, frames.as_line(str(error))))
        yield from self._end(Failure("peer", f"the cloud broke the protocol: {error}"))

    def _part(self, failure: Failure) -> Iterator[EdgeCommand]:
        if self._phase not in {EdgePhase.CONNECTING, EdgePhase.CLOSED}:
            yield SendFrame(frames.Bye(frames.as_line(failure.message)))
        yield from self._end(failure)

    def _end(self, failure: Failure) -> Iterator[EdgeCommand]:
        if self._phase is EdgePhase.CLOSED:
            return
        self._phase = EdgePhase.CLOSED
        for session in self._sessions.values():
            yield from session.fail(failure)
        self._sessions.clear()
        self._turns.clear()
        yield CloseLink(failure)
