"""The cloud behind the greeting: liars say what they like, passes end well or badly, and time goes by.

Meanwhile an honest edge asks a question. Nothing may be raised, the sessions' books must hold, every word of
the cloud must fit the wire, and the honest edge must get the target's own text once the liars are gone.
"""

from dataclasses import replace
from typing import Any, get_args

from pipesd.errors import PeerError
from pipesd.session import commands, events
from pipesd.session.cloud_side import CloudSide
from pipesd.session.rules import CloudRules, Patience
from pipesd.values import Slice, Verify
from pipesd.wire.codec import Decoder, encode
from pipesd.wire.frames import CloudFrame, EdgeFrame, Hello, Open, Proof
from tests.fuzz import login
from tests.fuzz.customer import Customer
from tests.fuzz.liar import Book, Liar
from tests.fuzz.stream import Stream
from tests.fuzz.tape import Tape, records
from tests.session.world import VOCABULARY, target_next, welcome

_RULES = CloudRules(
    sessions_max=5,
    edge_sessions_max=3,
    pass_tokens=12,
    kv_sequences=2,
    prefill_tokens_max=40,
    tunes=True,
    lease_s=20.0,
    drain_s=1.0,
    secret=b"planned",
    patience=Patience(greeting_s=5.0, ping_after_s=10.0, silent_after_s=30.0),
)
_COMMANDS = get_args(commands.CloudCommand)
_HONEST, _LIARS = 0, 2
_STEPS_TO_REST_MAX = 400

SAY, PASS, LISTEN, WAIT, ODD = 0, 8, 11, 14, 15
"""A record begins with one of these, or a number up to the next: a liar speaks, a pass is done, and so on."""


class Engine:
    """The toy target behind a cache, which must hold what it is thought to hold."""

    def __init__(self) -> None:
        self.sequences: dict[int, list[int]] = {}

    def picks(self, part: Slice) -> tuple[int, ...]:
        if part.copy_of is not None:
            self.sequences[part.sequence] = list(self.sequences[part.copy_of])
        cache = self.sequences.setdefault(part.sequence, [])
        assert part.base <= len(cache), "a slice beyond the cache"
        del cache[part.base :]
        cache += part.tokens
        first = len(cache) - part.picks
        return tuple(target_next(cache[: first + pick + 1]) for pick in range(part.picks))


class _Wire:
    """The connection of one liar."""

    def __init__(self, peer: int, leases: dict[bytes, Book]) -> None:
        self.peer = peer
        self.liar = Liar(leases)
        self.stream = Stream(EdgeFrame, self.liar.hints)
        self.decoder: Decoder[Any] = Decoder(EdgeFrame)


class Table:
    """One cloud, an honest edge, and liars who come back whenever they were sent away."""

    def __init__(self, tape: Tape) -> None:
        rules = replace(_RULES, verify=tape.pick(get_args(Verify)))
        self._grant = welcome(chunk=tape.pick((4, 1, 9)), context=tape.pick((200, 40)), tunes=True)
        self._side = CloudSide(rules, self._grant, VOCABULARY)
        self._engine = Engine()
        self._now = 0.0
        self._running: tuple[Slice, ...] | None = None
        self._released: list[int] = []
        self._reports: list[int] = []
        self._is_stopping = False
        self._wires: dict[int, _Wire] = {}
        self._leases: dict[bytes, Book] = {}
        self._newest = _HONEST
        self.customer = Customer(tape.byte(), self._grant.context_tokens, login.HONEST)
        self._has_tokens, self._is_revoked = tape.pick((False, True)), False
        if self._has_tokens:
            self._tell(events.TokensRead(login.TOKENS))
        self._tell(events.PeerConnected(_HONEST, "", login.CLOUD_NONCE))
        for _ in range(1 + self._has_tokens):
            self._listen()

    def play(self, part: bytes) -> None:
        """Do what one record says."""
        tape = Tape(part)
        move = tape.byte() % 16
        if move < PASS:
            self._say(tape)
        elif move < LISTEN:
            self._end_pass()
        elif move < WAIT:
            self._listen()
        elif move == WAIT:
            self._wait(tape.pick((0.001, 0.5, 3.0, 12.0)))
        else:
            disturbances = (
                self._lose,
                self._fail,
                self._leave,
                self._reject,
                self._answer_report,
                self._stop,
                self._revoke,
            )
            tape.pick(disturbances)()

    # -- what may happen --------------------------------------------------------------------------------

    def _say(self, tape: Tape) -> None:
        wires = list(self._wires.values())
        place = tape.byte() % _LIARS
        wire = wires[place] if place < len(wires) else self._connect()
        self._hear(wire, wire.stream.segment(tape))

    def _connect(self) -> _Wire:
        self._newest += 1
        wire = self._wires[self._newest] = _Wire(self._newest, self._leases)
        self._tell(events.PeerConnected(wire.peer, "somewhere", login.CLOUD_NONCE))
        for kind in (Hello, Proof, Open) if self._has_tokens else (Hello, Open):
            if wire.peer in self._wires:
                self._hear(wire, wire.stream.framed_of(kind))
        return wire

    def _hear(self, wire: _Wire, data: bytes) -> None:
        try:
            for frame in wire.decoder.feed(data):
                wire.liar.note_said(frame)
                self._tell(events.PeerFrame(wire.peer, frame))
                if wire.peer not in self._wires:
                    return
        except PeerError as error:
            self._tell(events.PeerRejected(wire.peer, error.code, str(error)))
            assert wire.peer not in self._wires, "who sends what is no frame is not sent away"

    def _listen(self) -> None:
        if self.customer.up and not self._is_stopping:
            self._tell(events.PeerFrame(_HONEST, self.customer.up.popleft()))

    def _end_pass(self) -> None:
        if self._running is not None:
            slices, self._running = self._running, None
            self._tell(events.PassDone(tuple(map(self._engine.picks, slices))))

    def _lose(self) -> None:
        if self._running is not None:
            self._running = None
            self._engine.sequences.clear()
            self._tell(events.PassFailed("planned", lost=True))

    def _fail(self) -> None:
        if self._running is not None:
            self._running = None
            self._tell(events.PassFailed("planned"))

    def _leave(self) -> None:
        for peer in list(self._wires)[:1]:
            del self._wires[peer]
            self._tell(events.PeerClosed(peer, "planned"))

    def _reject(self) -> None:
        for peer in list(self._wires)[-1:]:
            self._tell(events.PeerRejected(peer, "malformed", "planned"))

    def _answer_report(self) -> None:
        if self._reports:
            self._tell(events.PeerTuned(self._reports.pop(), 1, None))

    def _revoke(self) -> None:
        """The liars' token is revoked, or good again."""
        if self._has_tokens:
            self._is_revoked = not self._is_revoked
            self._tell(events.TokensRead(login.LIAR_IS_REVOKED if self._is_revoked else login.TOKENS))
            assert not (self._is_revoked and self._wires), "somebody stays whose token is revoked"

    def _stop(self) -> None:
        self._is_stopping = True
        self._tell(events.StopRequested())

    def _wait(self, seconds: float) -> None:
        """Nothing happens for so long, but what is due by then."""
        until = self._now + seconds
        while self.customer.up and not self._is_stopping:
            self._listen()
        while (due := self._side.deadline()) is not None and due <= until:
            self._now = max(due, self._now)
            self._tell(events.DeadlineReached())
            assert (self._side.deadline() or self._now + 1) > self._now, "what is due stays due"
            self._listen()
        self._now = until
        if self.customer.is_turned_away:
            self.customer.ask_again()

    # -- what is done about it --------------------------------------------------------------------------

    def _tell(self, event: events.CloudEvent) -> None:
        self._now += 0.001
        for command in self._side.handle(event, self._now):
            assert isinstance(command, _COMMANDS)
            self._obey(command)
        for session in self._side.sessions:
            session.validate()

    def _obey(self, command: commands.CloudCommand) -> None:
        match command:
            case commands.SendToPeer(peer, frame):
                encode(frame)
                if peer == _HONEST:
                    self._hear_as_customer(frame)
                else:
                    self._wires[peer].liar.note_heard(frame)
            case commands.ClosePeer(peer):
                assert peer != _HONEST or self._is_stopping, "the honest edge was sent away"
                self._wires.pop(peer, None)
            case commands.RunPass(slices):
                assert self._running is None, "two passes at once"
                for sequence in self._released:
                    self._engine.sequences.pop(sequence, None)
                self._released.clear()
                self._running = slices
            case commands.ReleaseSequence(sequence):
                self._released.append(sequence)
            case commands.TunePeer(peer, trial) if trial is not None:
                assert peer not in self._reports, "a report before the answer to the last"
                self._reports.append(peer)
            case _:
                pass

    def _hear_as_customer(self, frame: CloudFrame) -> None:
        if not self._is_stopping:
            self.customer.hear(frame)

    def come_to_rest(self) -> None:
        """The liars go; then the honest edge must get its answer."""
        for _ in range(_LIARS):
            self._leave()
        for step in range(_STEPS_TO_REST_MAX):
            if self.customer.is_done or self._is_stopping:
                return
            if self._running is not None:
                self._end_pass()
            elif self.customer.up:
                self._listen()
            else:
                self._wait(0.1 * step)
        raise AssertionError("the honest edge is not answered")


def target(data: bytes) -> None:
    """Play one input."""
    parts = records(data)
    table = Table(Tape(next(parts, b"")))
    for part in parts:
        table.play(part)
    table.come_to_rest()
