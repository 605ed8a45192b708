"""The whole edge: the handshake, its sessions, and whose turn it is at the draft engine.

One door in, ``handle``; one list out; ``deadline`` names the moment it wants to be woken at. Pure.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipesd.errors import LinkError, PeerError, UsageError, one_line
from pipesd.session import events
from pipesd.session.commands import AbortStep, EdgeCommand, Failure, OpenLink, ReleaseDraft, SendFrame
from pipesd.session.edge import EdgeSession
from pipesd.session.experience import Experience
from pipesd.session.line import Line
from pipesd.session.phases import EdgePhase, require_legal
from pipesd.session.rules import EdgeRules
from pipesd.session.tuned import Tuned
from pipesd.vocabulary import Vocabulary
from pipesd.wire import frames

if TYPE_CHECKING:
    from pipesd.planner.occupancy import Gap


class EdgeSide:
    """Everything the edge decides."""

    def __init__(self, rules: EdgeRules, vocabulary: Vocabulary) -> None:
        self._rules = rules
        self._vocabulary = vocabulary
        self._sessions: dict[int, EdgeSession] = {}
        self._newest_session = -1
        self._step_number = 0
        self._drafting: tuple[int, int] | None = None
        """(step, session) of the draft step in flight."""

        self._abort_told_s: float | None = None
        """When it was told to abort, if it was."""

        self.tuned = Tuned(rules)
        """What the tuner is told and has proposed; others may read it."""

        self._line = Line(rules, vocabulary, self.tuned)
        self._experience = Experience(self.tuned.trials)
        self._told_frames = 0
        """How many frames the sender of this connection was told."""

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
        return self._line.phase

    @property
    def sessions(self) -> dict[int, EdgeSession]:
        """The sessions by number; to be read only."""
        return self._sessions

    def handle(self, event: events.EdgeEvent, now: float) -> list[EdgeCommand]:
        """What is to be done about ``event``.

        Raises ``UsageError`` or ``LinkError`` for an impossible wish of the application; nothing has changed
        then. What the peer does wrong raises nothing, it closes the link.
        """
        commands = list(self._decide(event, now))
        commands += self._keep_busy(
            now, just_idle=isinstance(event, events.LinkIdle) and event.frames == self._drafts_told
        )
        for command in commands:
            match command:
                case SendFrame(frame):
                    self._told_frames += 1
                    if isinstance(frame, frames.Draft):
                        self._drafts_told = self._told_frames
                case OpenLink():
                    self._told_frames = self._drafts_told = 0
                case _:
                    pass
        return commands

    def deadline(self) -> float | None:
        """When ``DeadlineReached`` is due at the latest."""
        if self._line.is_over:
            return None
        earliest = self._line.deadline()
        for session in self._sessions.values():
            earliest = min(earliest, session.door.until)
        return None if earliest == math.inf else earliest

    def _decide(self, event: events.EdgeEvent, now: float) -> Iterator[EdgeCommand]:
        match event:
            case events.TokenDrafted() | events.StepAborted() | events.DraftFailed():
                yield from self._end_step(event, now)
            case events.ThresholdsProposed(trial, thresholds):
                self._adopt(changed=self.tuned.begin(trial, thresholds))
            case (
                events.LinkOpened(link, _)
                | events.LinkIdle(_, link)
                | events.LinkClosed(_, link)
                | events.FrameReceived(_, link)
                | events.BytesRejected(_, _, link)
            ):
                if link == self._line.number and not self._line.is_over:
                    yield from self._follow(self._hear(event, now), now)
            case events.DeadlineReached():
                if not self._line.is_over:
                    yield from self._follow(self._keep_time(now), now)
            case events.StopRequested():
                failure = Failure("link", "this side of the connection was closed")
                yield from self._follow(self._close(failure, now), now)
            case _:
                yield from self._obey(event)

    def _follow(self, commands: Iterator[EdgeCommand], now: float) -> Iterator[EdgeCommand]:
        """What the line does; and what it means to the sessions that it came, or is gone."""
        was = self._line.phase
        try:
            yield from commands
        except PeerError as error:
            yield from self._line.expel(error, now)
        match self._line.phase:
            case phase if phase is was:
                pass
            case EdgePhase.READY:
                yield from self._come_back()
            case EdgePhase.AWAY if was is EdgePhase.READY:
                yield from self._go_away()
            case EdgePhase.CLOSED:
                yield from self._end()
            case _:
                pass

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
        welcome = self._line.welcome
        if welcome is None or self._line.is_over:
            raise LinkError(f"no session can be opened while {self.phase.value}")
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
        return session.open(welcome) if self.phase is EdgePhase.READY else iter(())

    def _prompt(self, session: EdgeSession | None, wish: events.PromptGiven) -> Iterator[EdgeCommand]:
        if session is None and not self._line.is_over:
            raise UsageError("the session is closed; open a new one")
        if session is None:
            raise LinkError("the connection is over; connect again and open a new session")
        session.check(wish)
        if self._line.failure is not None and self._rules.offline == "stop":
            raise self._line.failure.error()
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
    ) -> Iterator[EdgeCommand]:
        assert self._drafting is not None, "a draft step ended that was never started"
        number, self._drafting = self._drafting[1], None
        told_s, self._abort_told_s = self._abort_told_s, None
        if told_s is not None and isinstance(event, events.StepAborted):
            self._experience.costs.aborted(now - told_s)
        session = self._sessions.get(number)
        if session is None:
            return
        if isinstance(event, events.TokenDrafted):
            yield from session.finish_step(event.token, event.confidence, now)
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

    def _hear(
        self,
        event: events.LinkOpened
        | events.LinkIdle
        | events.LinkClosed
        | events.FrameReceived
        | events.BytesRejected,
        now: float,
    ) -> Iterator[EdgeCommand]:
        """Something happened to the connection that there is."""
        match event:
            case events.FrameReceived(frame):
                yield from self._receive(frame, now)
            case events.LinkIdle(sent):
                self._note_idle(sent, now)
            case events.LinkOpened(_, nonce):
                self._link_idle = True
                yield from self._line.opened(nonce, now)
            case events.LinkClosed(reason):
                is_first = self.phase is EdgePhase.GREETING and self._line.welcome is None
                hint = "; if it speaks TLS, give tls_ca" if is_first else ""
                yield from self._line.lose(Failure("link", reason + hint), now)
            case events.BytesRejected(code, message):
                raise PeerError(code, message)

    def _receive(self, frame: frames.CloudFrame, now: float) -> Iterator[EdgeCommand]:
        require_legal(frame, self.phase)
        self._line.heard(now)
        match frame:
            case frames.Verdict():
                yield from self._verdict(frame, now)
            case frames.Thresholds():
                self._adopt(changed=self.tuned.hear(frame))
            case frames.Challenge() | frames.Welcome() | frames.Block():
                yield from self._line.greet(frame, now)
            case frames.Refuse():
                yield from self._line.refused(frame, now)
            case frames.Opened(session, lease):
                if (known := self._known_session(session)) is not None:
                    known.opened(lease)
            case frames.Resumed(session, need):
                if (known := self._known_session(session)) is not None:
                    yield from known.resumed(need=need)
            case frames.Fault():
                yield from self._fault(frame, now)
            case frames.Bye(reason):
                message = f"the cloud closed the connection: {one_line(reason)}"
                yield from self._line.lose(Failure("link", message), now, moves=True)
            case frames.Ping(number):
                yield SendFrame(frames.Pong(number))
            case _:
                pass

    def _verdict(self, frame: frames.Verdict, now: float) -> Iterator[EdgeCommand]:
        session = self._known_session(frame.session)
        if session is not None:
            yield from session.verdict(frame, now)
            self._line.advanced()
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

    def _fault(self, fault: frames.Fault, now: float) -> Iterator[EdgeCommand]:
        failure = Failure(fault.code, one_line(fault.message))
        if fault.session is None:
            yield from self._line.lose(failure, now)
            return
        session = self._known_session(fault.session)
        if session is not None and fault.retry_ms:
            yield from session.turn_away(failure, fault.retry_ms, now)
        elif session is not None:
            yield from session.fail(failure)

    def _keep_time(self, now: float) -> Iterator[EdgeCommand]:
        for session in self._sessions.values():
            if session.door.until <= now:
                yield from session.say_again()
        yield from self._line.keep_time(now)

    # -- the line comes and goes ------------------------------------------------------------------------

    def _come_back(self) -> Iterator[EdgeCommand]:
        """There is a connection: the first one, or again."""
        welcome = self._line.welcome
        assert welcome is not None, "ready without a welcome"
        self.tuned.reconnected()
        for session in self._sessions.values():
            yield from session.open(welcome)

    def _go_away(self) -> Iterator[EdgeCommand]:
        failure = self._line.failure
        assert failure is not None, "no reason for being away"
        for session in self._sessions.values():
            yield from session.go_away(failure)

    def _close(self, failure: Failure, now: float) -> Iterator[EdgeCommand]:
        """In good order, and for good."""
        if self.phase not in {EdgePhase.CONNECTING, EdgePhase.AWAY, EdgePhase.CLOSED}:
            yield SendFrame(frames.Bye(frames.as_line(failure.message)))
        yield from self._line.end(failure)

    def _end(self) -> Iterator[EdgeCommand]:
        failure = self._line.failure
        assert failure is not None, "no reason for the end"
        for session in self._sessions.values():
            yield from session.fail(failure)
        self._sessions.clear()
        self._turns.clear()
