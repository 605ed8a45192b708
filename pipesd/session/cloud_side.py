"""The whole cloud: its peers, their sessions, and what goes into the next pass of the target model.

One door in, ``handle``; one list out; ``deadline`` names the moment it wants to be woken at. Pure. Whatever a
peer does ends at most that peer's own connection.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from pipesd.errors import PeerError
from pipesd.planner.trigger import Thresholds
from pipesd.session import events
from pipesd.session.cloud import CloudSession
from pipesd.session.commands import ClosePeer, CloudCommand, ReleaseSequence, RunPass, SendToPeer, TunePeer
from pipesd.session.energy import shared_uj, spent_j
from pipesd.session.passes import PassLimits, Share, collect
from pipesd.session.phases import CloudPhase, require_legal
from pipesd.session.places import Places
from pipesd.session.rules import CloudRules
from pipesd.session.watch import Watch
from pipesd.vocabulary import Vocabulary
from pipesd.wire import frames

_LOSSES_MAX = 5
"""In so many lost passes in a row a session may be before it fails."""


@dataclass(slots=True)
class _Peer:
    phase: CloudPhase = CloudPhase.GREETING
    is_tuned: bool = False
    sessions: dict[int, CloudSession | None] = field(default_factory=dict)
    """None marks a session that was refused or has failed: frames for it may still be on their way."""


class CloudSide:
    """Everything the cloud decides."""

    def __init__(self, rules: CloudRules, welcome: frames.Welcome, vocabulary: Vocabulary) -> None:
        self._rules = rules
        self._welcome = welcome
        self._vocabulary = vocabulary
        self._stopping = False
        self._peers: dict[int, _Peer] = {}
        self._greeting: dict[int, float] = {}
        self._watch = Watch(rules.patience)
        self._due: dict[CloudSession, int] = {}
        """Sessions that wait for a pass, the longest waiting first, and their peers."""

        self._riders: dict[CloudSession, int] = {}
        """Sessions that owe nothing but have drafts, and their peers; kept if the policy looks at them."""

        self._at_tuner: set[int] = set()
        """Peers whose report it has not answered yet; those that have gone meanwhile are among them."""

        self._pass: list[Share] | None = None
        self._pass_began = 0.0
        self._limits = PassLimits(
            tokens=rules.pass_tokens, prompt_tokens=welcome.chunk_tokens, sessions=rules.pass_sessions
        )
        self._alone_limits = replace(
            self._limits, prompt_tokens=max(rules.lone_prompt_tokens, welcome.chunk_tokens)
        )
        self._places = Places(rules.kv_sequences, welcome.chunk_tokens)
        self._open_sessions = 0

    # -- the door ---------------------------------------------------------------------------------------

    def handle(self, event: events.CloudEvent, now: float) -> list[CloudCommand]:
        """What is to be done about ``event``. Raises nothing, whatever the peers do."""
        commands = list(self._decide(event, now))
        if self._pass is None and not self._stopping:
            commands += self._start_pass(now)
        return commands

    def deadline(self) -> float | None:
        """When ``DeadlineReached`` is due at the latest."""
        earliest = min(next(iter(self._greeting.values()), math.inf), self._watch.deadline())
        if self._due and self._pass is None and not self._stopping:
            earliest = min(earliest, self._places.next_free())
        return None if math.isinf(earliest) else earliest

    @property
    def sessions(self) -> list[CloudSession]:
        """All that are open; to be read only."""
        return [session for peer in self._peers.values() for session in peer.sessions.values() if session]

    @property
    def is_empty(self) -> bool:
        """Whether no peer is connected."""
        return not self._peers

    def _decide(self, event: events.CloudEvent, now: float) -> Iterator[CloudCommand]:
        match event:
            case events.PeerFrame(peer, frame):
                yield from self._receive(peer, frame, now)
            case events.PassDone():
                yield from self._settle(event, now)
            case events.PassFailed(reason, lost=True):
                yield from self._begin_anew(reason)
            case events.PassFailed(reason):
                yield from self._fail_pass(reason)
            case events.PeerTuned():
                yield self._advise(event)
            case events.PeerConnected(peer):
                yield from self._meet(peer, now)
            case events.PeerClosed(peer, _):
                yield from self._part(peer)
            case events.PeerRejected(peer, code, message):
                yield from self._expel(peer, code, message)
            case events.DeadlineReached():
                yield from self._check_silence(now)
            case events.StopRequested():
                yield from self._stop()

    # -- connections ------------------------------------------------------------------------------------

    def _meet(self, peer: int, now: float) -> Iterator[CloudCommand]:
        crowded = len(self._peers) >= self._rules.connections_max
        if crowded or self._stopping:
            busy = frames.Refuse("busy", "no connection is free", self._retry_ms)
            stopping = frames.Refuse("stopping", "it is stopping")
            yield SendToPeer(peer, stopping if self._stopping else busy)
            yield ClosePeer(peer)
            return
        self._peers[peer] = _Peer()
        self._greeting[peer] = now + self._rules.patience.greeting_s

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
            yield from self._expel(number, error.code, str(error))

    def _answer(
        self, number: int, peer: _Peer, frame: frames.EdgeFrame, now: float
    ) -> Iterator[CloudCommand]:
        match frame:
            case frames.Draft() | frames.Prompt() | frames.Cancel():
                yield from self._text_frame(number, peer, frame, now)
            case frames.Telemetry():
                yield from self._tune(number, peer, frame)
            case frames.Hello():
                yield from self._greet(number, peer, frame, now)
            case frames.Open(session):
                yield from self._open(number, peer, session)
            case frames.Close(session) | frames.Fault(int(session)):
                yield from self._close(peer, session)
            case frames.BlockWanted(block):
                yield SendToPeer(number, frames.Block(block, self._vocabulary.block(block)))
            case frames.Ping(echo):
                yield SendToPeer(number, frames.Pong(echo))
            case frames.Bye() | frames.Fault():
                yield from self._part(number)
            case _:
                pass

    def _greet(self, number: int, peer: _Peer, hello: frames.Hello, now: float) -> Iterator[CloudCommand]:
        if hello.version != frames.PROTOCOL_VERSION:
            message = f"it speaks version {frames.PROTOCOL_VERSION} of the protocol, not {hello.version}"
            yield SendToPeer(number, frames.Refuse("version", message))
            yield from self._part(number)
            return
        peer.phase = CloudPhase.OPEN
        self._greeting.pop(number, None)
        self._watch.heard(number, now)
        yield SendToPeer(number, self._welcome)

    def _expel(self, number: int, code: str, message: str) -> Iterator[CloudCommand]:
        if number in self._peers:
            yield SendToPeer(number, frames.Fault(None, code, frames.as_line(message)))
            yield from self._part(number)

    def _part(self, number: int) -> Iterator[CloudCommand]:
        peer = self._peers.pop(number, None)
        self._greeting.pop(number, None)
        self._watch.forget(number)
        if peer is not None:
            for session in peer.sessions.values():
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

    def _check_silence(self, now: float) -> Iterator[CloudCommand]:
        patience = self._rules.patience
        for number in [peer for peer, ends in self._greeting.items() if ends <= now]:
            yield from self._expel(number, "silent", f"no greeting came within {patience.greeting_s:g} s")
        pings, lost = self._watch.due(now)
        for number in pings:
            yield SendToPeer(number, frames.Ping(round(now * 1e6)))
        for number in lost:
            yield from self._expel(number, "silent", f"nothing was heard for {patience.silent_after_s:g} s")

    def _stop(self) -> Iterator[CloudCommand]:
        self._stopping = True
        for number in list(self._peers):
            yield SendToPeer(number, frames.Bye("it is stopping"))
            yield from self._part(number)

    # -- sessions ---------------------------------------------------------------------------------------

    def _open(self, number: int, peer: _Peer, session: int) -> Iterator[CloudCommand]:
        if session in peer.sessions:
            raise PeerError("protocol", f"session {session} is open already")
        if len(peer.sessions) >= self._rules.edge_sessions_max:
            raise PeerError("busy", f"more than {self._rules.edge_sessions_max} sessions on one connection")
        if self._open_sessions >= self._rules.sessions_max:
            peer.sessions[session] = None
            message = f"all {self._rules.sessions_max} sessions are taken"
            yield SendToPeer(number, frames.Fault(session, "busy", message, self._retry_ms))
            return
        self._open_sessions += 1
        peer.sessions[session] = CloudSession(session, self._welcome)
        yield SendToPeer(number, frames.Opened(session))

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
            self._due.pop(session, None)
            self._riders.pop(session, None)
            self._open_sessions -= 1
            sequence = self._places.leave(session)
            if sequence is not None:
                yield ReleaseSequence(sequence)

    def _text_frame(
        self, number: int, peer: _Peer, frame: frames.Draft | frames.Prompt | frames.Cancel, now: float
    ) -> Iterator[CloudCommand]:
        session = self._session(peer, frame.session)
        if session is None:
            return
        match frame:
            case frames.Draft():
                for verdict in session.draft(frame, now):
                    yield SendToPeer(number, verdict)
            case frames.Prompt():
                yield from self._prompt(number, session, frame, now)
            case frames.Cancel():
                session.cancel(frame)
        self._note_due(number, session)

    def _prompt(
        self, number: int, session: CloudSession, frame: frames.Prompt, now: float
    ) -> Iterator[CloudCommand]:
        if self._welcome.greedy_only and not frame.sampling.greedy:
            yield from self._fail(number, frame.session, "sampling", "this model decodes greedily only")
        elif not session.fits(frame):
            message = f"the prompt does not fit the context of {self._welcome.context_tokens} tokens"
            yield from self._fail(number, frame.session, "context", message)
        else:
            session.prompt(frame, now)
            unread = session.unread_tokens + sum(other.unread_tokens for other in self._due)
            if unread > max(self._rules.prefill_tokens_max, session.unread_tokens):
                session.decline()
                message = f"prompts of {unread} tokens wait to be read"
                yield SendToPeer(number, frames.Fault(frame.session, "busy", message, self._retry_ms))

    @property
    def _retry_ms(self) -> int:
        return round(self._rules.busy_retry_s * 1e3)

    def _fail(self, number: int, session: int, code: str, message: str) -> Iterator[CloudCommand]:
        sessions = self._peers[number].sessions
        yield SendToPeer(number, frames.Fault(session, code, frames.as_line(message)))
        yield from self._release(sessions[session])
        sessions[session] = None

    def _note_due(self, peer: int, session: CloudSession) -> None:
        if not session.is_due:
            self._due.pop(session, None)
        elif session not in self._due:
            self._due[session] = peer
        if self._rules.verify != "on_request":
            if session.may_ride:
                self._riders.setdefault(session, peer)
            else:
                self._riders.pop(session, None)

    # -- passes -----------------------------------------------------------------------------------------

    def _start_pass(self, now: float) -> Iterator[CloudCommand]:
        if not self._due and not (self._riders and self._rules.verify == "eager"):
            return
        due = [*self._due.items(), *self._riders.items()]
        pairs = ((peer, session) for session, peer in due)
        limits = self._alone_limits if self._is_one_alone() else self._limits
        shares, evicted = collect(pairs, limits, self._places, now)
        if shares:
            self._pass, self._pass_began = shares, now
            for share in shares:
                self._due.pop(share.session, None)
                self._riders.pop(share.session, None)
            yield RunPass(tuple(part for share in shares for part in share.slices), evicted)

    def _is_one_alone(self) -> bool:
        """Whether a single session is written to, and waits: nobody minds how long a pass is."""
        if len(self._due) != 1 or self._riders:
            return False
        others = (session for session in self.sessions if session not in self._due)
        return all(session.is_idle for session in others)

    def _end_pass(self) -> list[Share]:
        shares, self._pass = self._pass, None
        assert shares is not None, "the result of a pass that nobody started"
        return shares

    def _settle(self, done: events.PassDone, now: float) -> Iterator[CloudCommand]:
        shares, last = self._end_pass(), -1
        spent = spent_j(done.energy_j, self._rules.busy_watts, now - self._pass_began)
        parts = shared_uj(spent, [sum(len(part.tokens) for part in share.slices) for share in shares])
        for share, energy_uj in zip(shares, parts, strict=True):
            last += len(share.slices)
            verdict = share.session.settle(done.picks[last], now, energy_uj)
            if verdict is not None:
                yield SendToPeer(share.peer, verdict)
            self._note_due(share.peer, share.session)

    def _begin_anew(self, reason: str) -> Iterator[CloudCommand]:
        """The engine was started anew and holds nothing: what is owed is read again from the transcripts.

        Only a session that time after time was in a pass that was lost may be what it is lost for.
        """
        shares = self._end_pass()
        self._places.spoil_all()
        for share in shares:
            share.session.lose()
            self._note_due(share.peer, share.session)
        suspects = {share.session for share in shares if share.session.losses >= _LOSSES_MAX}
        yield from self._fail_all(suspects, reason)

    def _fail_pass(self, reason: str) -> Iterator[CloudCommand]:
        shares = self._end_pass()
        involved = {share.session for share in shares}
        for share in shares:
            self._places.spoil(share.sequence)
            yield ReleaseSequence(share.sequence)
        yield from self._fail_all(involved, reason)

    def _fail_all(self, involved: set[CloudSession], reason: str) -> Iterator[CloudCommand]:
        for peer in list(self._peers):
            for number, session in list(self._peers[peer].sessions.items()):
                if session in involved:
                    yield from self._fail(peer, number, "engine", f"the target failed: {reason}")


def _proposed(trial: int, thresholds: Thresholds | None) -> frames.Thresholds:
    if thresholds is None:
        return frames.Thresholds(trial, None, 0.0, 1, 1)
    limits = thresholds.upper_tokens, thresholds.lower_tokens
    return frames.Thresholds(trial, thresholds.r1, thresholds.r2, *limits)
