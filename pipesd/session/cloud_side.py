"""The whole cloud: its peers, their sessions, and what goes into the next pass of the target model.

One door in, ``handle``; one list out; ``deadline`` names the moment it wants to be woken at. Pure. Whatever a
peer does ends at most that peer's own connection.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pipesd.errors import PeerError
from pipesd.planner.trigger import Thresholds
from pipesd.session import events
from pipesd.session.admission import Admission
from pipesd.session.budgets import Budgets
from pipesd.session.cloud import CloudSession
from pipesd.session.commands import ClosePeer, CloudCommand, ReleaseSequence, SendToPeer, TunePeer
from pipesd.session.leases import Leases
from pipesd.session.phases import CloudPhase, require_legal
from pipesd.session.rules import CloudRules
from pipesd.session.watch import Watch
from pipesd.session.work import Work
from pipesd.values import Sampling
from pipesd.vocabulary import Vocabulary
from pipesd.wire import frames


@dataclass(slots=True)
class _Peer:
    phase: CloudPhase = CloudPhase.GREETING
    owner: str = ""
    grant: frames.Welcome | None = None
    is_tuned: bool = False
    sessions: dict[int, CloudSession | None] = field(default_factory=dict)
    """None marks one that was refused, has failed, or was taken over: frames for it may still come."""


class CloudSide:
    """Everything the cloud decides."""

    def __init__(self, rules: CloudRules, welcome: frames.Welcome, vocabulary: Vocabulary) -> None:
        self._rules = rules
        self._welcome = welcome
        self._vocabulary = vocabulary
        self._stops_at: float | None = None
        """When the last connection is ended, once the end was asked for."""

        self._peers: dict[int, _Peer] = {}
        self._admission = Admission(rules, welcome)
        self._watch = Watch(rules.patience)
        self._sessions: dict[CloudSession, None] = {}
        """All that are open, also those whose edges are away."""

        self._leases = Leases(rules.secret, rules.lease_s)
        self._budgets = Budgets()
        self._work = Work(rules, welcome.chunk_tokens, self._budgets)
        self._at_tuner: set[int] = set()
        """Peers whose report it has not answered yet; those that have gone meanwhile are among them."""

    # -- the door ---------------------------------------------------------------------------------------

    def handle(self, event: events.CloudEvent, now: float) -> list[CloudCommand]:
        """What is to be done about ``event``. Raises nothing, whatever the peers do."""
        commands = list(self._decide(event, now))
        if self._stops_at is not None:
            commands += self._let_go(now)
        order = self._work.start(self._sessions, now)
        if order is not None:
            commands.append(order)
        return commands

    def deadline(self) -> float | None:
        """When ``DeadlineReached`` is due at the latest."""
        parts = self._admission, self._watch, self._leases
        earliest = min(self._work.deadline(), *(part.deadline() for part in parts))
        if self._stops_at is not None and self._peers:
            earliest = min(earliest, self._stops_at)
        return None if math.isinf(earliest) else earliest

    @property
    def sessions(self) -> list[CloudSession]:
        """All that are open; to be read only."""
        return list(self._sessions)

    @property
    def is_empty(self) -> bool:
        """Whether no peer is connected."""
        return not self._peers

    def _decide(self, event: events.CloudEvent, now: float) -> Iterator[CloudCommand]:
        match event:
            case events.PeerFrame(peer, frame):
                yield from self._receive(peer, frame, now)
            case events.PassDone() | events.PassFailed():
                yield from self._end_pass(event, now)
            case events.PeerTuned():
                yield self._advise(event)
            case events.PeerConnected():
                yield from self._meet(event, now)
            case events.TokensRead(tokens):
                self._budgets.learn(tokens)
                for peer in self._admission.learn(tokens):
                    yield from self._expel(peer, "auth", "the access token has been revoked", now)
            case events.PeerClosed(peer, _):
                yield from self._part(peer, now)
            case events.PeerRejected(peer, code, message):
                yield from self._expel(peer, code, message, now)
            case events.DeadlineReached():
                yield from self._keep_time(now)
            case events.StopRequested():
                self._stops_at = now + self._rules.drain_s

    def _end_pass(self, event: events.PassDone | events.PassFailed, now: float) -> Iterator[CloudCommand]:
        match event:
            case events.PassDone():
                for session, verdict in self._work.settle(event, now):
                    yield SendToPeer(session.peer, verdict)
            case events.PassFailed(reason, lost=True):
                yield from self._fail_all(self._work.begin_anew(), reason)
            case events.PassFailed(reason):
                involved, sequences = self._work.fail()
                for sequence in sequences:
                    yield ReleaseSequence(sequence)
                yield from self._fail_all(involved, reason)

    # -- connections ------------------------------------------------------------------------------------

    def _meet(self, met: events.PeerConnected, now: float) -> Iterator[CloudCommand]:
        number, is_stopping = met.peer, self._stops_at is not None
        refusal = self._admission.meet(number, met.address, met.nonce, now, is_stopping=is_stopping)
        if refusal is None:
            self._peers[number] = _Peer()
            return
        yield SendToPeer(number, refusal)
        yield ClosePeer(number)

    def _receive(self, number: int, frame: frames.EdgeFrame, now: float) -> Iterator[CloudCommand]:
        peer = self._peers.get(number)
        if peer is None:
            return
        try:
            require_legal(frame, peer.phase)
            if peer.phase is CloudPhase.OPEN:
                self._watch.heard(number, now)
            yield from self._answer(number, peer, frame, now)
        except PeerError as error:
            yield from self._expel(number, error.code, str(error), now)

    def _answer(
        self, number: int, peer: _Peer, frame: frames.EdgeFrame, now: float
    ) -> Iterator[CloudCommand]:
        match frame:
            case frames.Draft() | frames.Prompt() | frames.Cancel() | frames.Restore():
                yield from self._text_frame(number, peer, frame, now)
            case frames.Telemetry():
                yield from self._tune(number, peer, frame)
            case frames.Hello() | frames.Proof():
                yield from self._greet(number, peer, frame, now)
            case frames.Open(session):
                yield from self._open(number, peer, session)
            case frames.Resume():
                yield from self._resume(number, peer, frame)
            case frames.Close(session) | frames.Fault(int(session)):
                yield from self._close(peer, session)
            case frames.BlockWanted(block):
                yield SendToPeer(number, frames.Block(block, self._vocabulary.block(block)))
            case frames.Ping(echo):
                yield SendToPeer(number, frames.Pong(echo))
            case frames.Fault():
                yield from self._part(number, now)
            case frames.Bye():
                yield from self._part(number, now, for_good=True)
            case _:
                pass

    def _greet(
        self, number: int, peer: _Peer, said: frames.Hello | frames.Proof, now: float
    ) -> Iterator[CloudCommand]:
        answer = self._admission.hear(number, said)
        yield SendToPeer(number, answer)
        match answer:
            case frames.Refuse():
                yield from self._part(number, now)
            case frames.Challenge():
                peer.phase = CloudPhase.PROVING
            case frames.Welcome():
                peer.phase, peer.grant = CloudPhase.OPEN, answer
                peer.owner = self._admission.admit(number)
                self._watch.heard(number, now)

    def _expel(self, number: int, code: str, message: str, now: float) -> Iterator[CloudCommand]:
        if number in self._peers:
            yield SendToPeer(number, frames.Fault(None, code, frames.as_line(message)))
            yield from self._part(number, now)

    def _part(self, number: int, now: float, *, for_good: bool = False) -> Iterator[CloudCommand]:
        """The connection is over; its sessions are kept for a while unless its edge has left ``for_good``."""
        peer = self._peers.pop(number, None)
        self._admission.forget(number)
        self._watch.forget(number)
        if peer is not None:
            for session in peer.sessions.values():
                if session is not None and not for_good and self._leases.park(session, now):
                    session.park()
                    self._work.note(session)
                else:
                    yield from self._release(session)
            if peer.is_tuned and number not in self._at_tuner:
                yield TunePeer(number, None)
            yield ClosePeer(number)

    def _tune(self, number: int, peer: _Peer, told: frames.Telemetry) -> Iterator[CloudCommand]:
        """A report before the answer to the last, or one too many for the tuner, is passed over."""
        if not self._rules.tunes:
            raise PeerError("unsupported", "this cloud does not tune")
        if number not in self._at_tuner and len(self._at_tuner) < self._rules.connections_max:
            self._at_tuner.add(number)
            peer.is_tuned = True
            yield TunePeer(number, (told.objective, told.report))

    def _advise(self, tuned: events.PeerTuned) -> CloudCommand:
        self._at_tuner.discard(tuned.peer)
        if tuned.peer not in self._peers:
            return TunePeer(tuned.peer, None)
        return SendToPeer(tuned.peer, _proposed(tuned.trial, tuned.thresholds))

    def _keep_time(self, now: float) -> Iterator[CloudCommand]:
        patience = self._rules.patience
        for number in self._admission.late(now):
            message = f"no greeting came within {patience.greeting_s:g} s"
            yield from self._expel(number, "silent", message, now)
        pings, lost = self._watch.due(now)
        for number in pings:
            yield SendToPeer(number, frames.Ping(round(now * 1e6)))
        for number in lost:
            message = f"nothing was heard for {patience.silent_after_s:g} s"
            yield from self._expel(number, "silent", message, now)
        for session in self._leases.expired(now):
            yield from self._release(session)

    def _let_go(self, now: float) -> Iterator[CloudCommand]:
        """The cloud is stopping: who is owed nothing is asked to move, and in the end everybody."""
        is_over = self._stops_at is not None and now >= self._stops_at
        for number, peer in list(self._peers.items()):
            sessions = (session for session in peer.sessions.values() if session is not None)
            if is_over or not any(self._work.is_at_work_for(session) for session in sessions):
                yield SendToPeer(number, frames.Bye("it is stopping"))
                yield from self._part(number, now, for_good=True)

    # -- sessions ---------------------------------------------------------------------------------------

    def _open(self, number: int, peer: _Peer, session: int) -> Iterator[CloudCommand]:
        self._require_new(peer, session)
        lack = "it is stopping" if self._stops_at is not None else ""
        for whose in (peer.owner, None):
            if not lack and self._lacks_room(whose):  # who has been away longest makes room
                yield from self._release(self._leases.oldest(whose))
                lack = self._lacks_room(whose)
        if lack:
            peer.sessions[session] = None
            yield SendToPeer(number, frames.Fault(session, "busy", lack, self._rules.retry_ms))
            return
        assert peer.grant is not None, "a session before the greeting is over"
        opened = peer.sessions[session] = CloudSession(number, session, peer.grant)
        opened.owner = peer.owner
        self._sessions[opened] = None
        self._budgets.sessions[peer.owner] += 1
        yield SendToPeer(number, frames.Opened(session, self._leases.grant(opened)))

    def _lacks_room(self, owner: str | None) -> str:
        """Why there is no room for a session of this token, or of anybody; empty if there is."""
        most = self._rules.sessions_max
        if owner is None:
            return f"all {most} sessions are taken" if len(self._sessions) >= most else ""
        own = self._budgets.limits(owner).sessions_max
        is_full = own is not None and self._budgets.sessions[owner] >= own
        return f"all {own} sessions of this token are open" if is_full else ""

    def _require_new(self, peer: _Peer, session: int) -> None:
        if session in peer.sessions:
            raise PeerError("protocol", f"session {session} is open already")
        if len(peer.sessions) >= self._rules.edge_sessions_max:
            raise PeerError("busy", f"more than {self._rules.edge_sessions_max} sessions on one connection")

    def _resume(self, number: int, peer: _Peer, frame: frames.Resume) -> Iterator[CloudCommand]:
        """Whoever shows the lease takes the session over, also from a connection not known to be gone.

        Where there is no such session, a new one is opened.
        """
        session = self._leases.find(frame.lease, peer.owner)
        if session is None:
            yield from self._open(number, peer, frame.session)
            if peer.sessions[frame.session] is not None:
                yield SendToPeer(number, frames.Resumed(frame.session, need=True))
            return
        self._require_new(peer, frame.session)
        if not self._leases.is_parked(session):
            self._peers[session.peer].sessions[session.number] = None
        self._leases.unpark(session)
        session.peer, session.number = number, frame.session
        peer.sessions[frame.session] = session
        again = session.resume(frame)
        self._work.note(session)
        yield SendToPeer(number, frames.Resumed(frame.session, need=again is None))
        for verdict in again or ():
            yield SendToPeer(number, verdict)

    def _close(self, peer: _Peer, number: int) -> Iterator[CloudCommand]:
        session = self._session(peer, number)
        del peer.sessions[number]
        yield from self._release(session)

    def _session(self, peer: _Peer, number: int) -> CloudSession | None:
        if number not in peer.sessions:
            raise PeerError("protocol", f"session {number} is not open")
        return peer.sessions[number]

    def _release(self, session: CloudSession | None) -> Iterator[CloudCommand]:
        if session is not None:
            session.abandon()
            del self._sessions[session]
            self._budgets.sessions -= Counter({session.owner: 1})
            self._leases.forget(session)
            sequence = self._work.drop(session)
            if sequence is not None:
                yield ReleaseSequence(sequence)

    def _text_frame(
        self,
        number: int,
        peer: _Peer,
        frame: frames.Draft | frames.Prompt | frames.Cancel | frames.Restore,
        now: float,
    ) -> Iterator[CloudCommand]:
        session = self._session(peer, frame.session)
        if session is None:
            return
        match frame:
            case frames.Draft():
                for verdict in session.draft(frame, now):
                    yield SendToPeer(number, verdict)
            case frames.Prompt(base=base, tokens=tokens, sampling=sampling):
                length = base + len(tokens)
                yield from self._take(session, length, sampling, lambda: session.prompt(frame, now))
            case frames.Restore(sampling=sampling):
                length = frame.length if frame.tokens_max else frame.length - 1
                yield from self._take(session, length, sampling, lambda: session.restore(frame))
            case frames.Cancel():
                session.cancel(frame)
        self._work.note(session)

    def _take(
        self, session: CloudSession, length: int, sampling: Sampling, take: Callable[[], None]
    ) -> Iterator[CloudCommand]:
        """Let an answer to a text of ``length`` tokens begin, or go on."""
        if self._welcome.greedy_only and not sampling.greedy:
            yield from self._fail(session, "sampling", "this model decodes greedily only")
        elif not session.fits(length):
            message = f"the prompt does not fit the context of {self._welcome.context_tokens} tokens"
            yield from self._fail(session, "context", message)
        else:
            take()
            if session.is_idle:
                return
            unread = session.unread_tokens + self._work.unread_tokens
            if unread > max(self._rules.prefill_tokens_max, session.unread_tokens):
                session.decline()
                message = f"prompts of {unread} tokens wait to be read"
                fault = frames.Fault(session.number, "busy", message, self._rules.retry_ms)
                yield SendToPeer(session.peer, fault)

    def _fail(self, session: CloudSession, code: str, message: str) -> Iterator[CloudCommand]:
        peer = self._peers.get(session.peer)
        if peer is not None and peer.sessions.get(session.number) is session:
            yield SendToPeer(session.peer, frames.Fault(session.number, code, frames.as_line(message)))
            peer.sessions[session.number] = None
        yield from self._release(session)

    def _fail_all(self, involved: list[CloudSession], reason: str) -> Iterator[CloudCommand]:
        for session in involved:
            if session in self._sessions:
                yield from self._fail(session, "engine", f"the target failed: {reason}")


def _proposed(trial: int, thresholds: Thresholds | None) -> frames.Thresholds:
    if thresholds is None:
        return frames.Thresholds(trial, None, 0.0, 1, 1)
    limits = thresholds.upper_tokens, thresholds.lower_tokens
    return frames.Thresholds(trial, thresholds.r1, thresholds.r2, *limits)
