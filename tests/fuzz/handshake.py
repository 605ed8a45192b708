"""The greeting, from the network: bytes to frames to a side that does not trust its peer yet.

The first record says which side, and whether a token has to be proved: then nobody is trusted who has not.
Nothing is raised whatever comes, and until the greeting is complete no more is kept than a small fixed amount
beside the one unfinished frame that a decoder may hold.
"""

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from pipesd.errors import PeerError
from pipesd.session import commands, events
from pipesd.session.cloud_side import CloudSide
from pipesd.session.edge_side import EdgeSide
from pipesd.session.rules import CloudRules, EdgeRules, Patience
from pipesd.wire.codec import FRAME_BYTES_MAX, Decoder, encode
from pipesd.wire.frames import CloudFrame, EdgeFrame, Welcome
from tests.fuzz import login
from tests.fuzz.plausible import GREETING
from tests.fuzz.stream import Stream
from tests.fuzz.tape import Tape, records
from tests.session.world import VOCABULARY, welcome

FRAME_BYTES_BEFORE_TRUST = FRAME_BYTES_MAX
"""The limit of the decoder that a connection has during its greeting."""

HELD_BYTES_MAX = 16 << 10
"""Most that is kept for a peer, its unfinished frame aside."""

LOOK_BYTES_MAX, LOOK_BYTES_FOR_A_BYTE_MAX = 64 << 10, 200
"""Most memory that is needed for a moment to look at what came: so much, and so much for each byte."""

HEAR, WAIT, CUT = 0, 14, 15
"""What a record may begin with; all else is as the first."""

_PATIENCE = Patience(greeting_s=5.0, ping_after_s=10.0, silent_after_s=30.0)
_WELCOME = welcome(tunes=True)
_HINTS = {**GREETING, **login.CREDENTIALS}
_COMMANDS = get_args(commands.EdgeCommand | commands.CloudCommand)


@dataclass(frozen=True)
class _Door:
    """How one side is spoken to."""

    stream: Stream
    accepted: object
    make: Callable[[], Any]
    proof: bytes
    """The message that proves the peer; empty if this side asks for none."""

    begun: Any
    closed: Any
    received: Callable[[Any], Any]
    rejected: Callable[[str, str], Any]


def _cloud(*, with_tokens: bool) -> _Door:
    def make() -> CloudSide:
        side = CloudSide(CloudRules(patience=_PATIENCE, tunes=True, kv_sequences=2), _WELCOME, VOCABULARY)
        if with_tokens:
            side.handle(events.TokensRead(login.TOKENS), 0.0)
        return side

    return _Door(
        stream=Stream(EdgeFrame, _HINTS),
        accepted=EdgeFrame,
        make=make,
        proof=login.LIAR.proof if with_tokens else b"",
        begun=events.PeerConnected(0, "", login.CLOUD_NONCE),
        closed=events.PeerClosed(0, "planned"),
        received=lambda frame: events.PeerFrame(0, frame),
        rejected=lambda code, message: events.PeerRejected(0, code, message),
    )


def _edge(*, with_token: bool) -> _Door:
    rules = EdgeRules(patience=_PATIENCE, token=login.LIAR.token if with_token else None)
    return _Door(
        stream=Stream(CloudFrame, _HINTS),
        accepted=CloudFrame,
        make=lambda: EdgeSide(rules, VOCABULARY),
        proof=login.LIAR.final if with_token else b"",
        begun=events.LinkOpened(0, login.EDGE_NONCE),
        closed=events.LinkClosed("planned"),
        received=events.FrameReceived,
        rejected=events.BytesRejected,
    )


DOORS = (
    _cloud(with_tokens=False),
    _edge(with_token=False),
    _cloud(with_tokens=True),
    _edge(with_token=True),
)


class _Greeting:
    """A side that was just connected, until it is done with its peer, for good or for bad."""

    def __init__(self, door: _Door) -> None:
        self._door = door
        self._side = door.make()
        self._decoder: Decoder[Any] = Decoder(door.accepted, FRAME_BYTES_BEFORE_TRUST)
        self._now = 0.0
        self.is_over = False
        self.unread = 0
        """Bytes of the unfinished frame."""

        self._credential = b""
        """What the peer has said last to prove itself."""

        self.answers: list[Any] = []
        self._tell(door.begun)

    def _tell(self, event: object) -> None:
        for command in self._side.handle(event, self._now):
            assert isinstance(command, _COMMANDS)
            match command:
                case commands.SendToPeer(_, Welcome()) | commands.AnnounceReady():
                    assert login.proves(self._credential, self._door.proof), "a stranger is trusted"
                    self.is_over = True
                case commands.SendFrame(frame) | commands.SendToPeer(_, frame):
                    self.answers.append(frame)
                case commands.ClosePeer() | commands.CloseLink():
                    self.is_over = True
                case _:
                    pass
        deadline = self._side.deadline()
        assert deadline is None or deadline > self._now, "a moment that has passed is waited for"

    def hear(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._credential = getattr(frame, "credential", b"")
                self._tell(self._door.received(frame))
                if self.is_over:
                    return
        except PeerError as error:
            self._tell(self._door.rejected(error.code, str(error)))
            assert self.is_over, "who sends what is no frame is not sent away"
        self.unread = len(self._decoder._buffer)

    def wait(self, seconds: int) -> None:
        self._now += seconds
        self._tell(events.DeadlineReached())

    def cut(self) -> None:
        self._tell(self._door.closed)
        self.is_over = True


class _HeavyError(AssertionError):
    """More memory was taken than a stranger is worth."""


def target(data: bytes) -> None:
    """Play one input, which is weighed if tracemalloc is on.

    What is imported or kept for good when something happens for the first time is no stranger's.
    """
    try:
        _play(data)
    except _HeavyError:
        _play(data)


def _play(data: bytes) -> None:
    parts = records(data)
    door = Tape(next(parts, b"")).pick(DOORS)
    greeting = _Greeting(door)
    before = tracemalloc.get_traced_memory()[0]
    for part in parts:
        tape = Tape(part)
        move = tape.byte() % 16
        if move == WAIT:
            greeting.wait(1 + tape.byte() % 8)
        elif move == CUT:
            greeting.cut()
        else:
            _hear(greeting, door.stream.segment(tape))
        while greeting.answers:
            encode(greeting.answers.pop())
        if greeting.is_over:
            return
        held = tracemalloc.get_traced_memory()[0] - before - 2 * greeting.unread
        if held > HELD_BYTES_MAX:
            raise _HeavyError(f"{held} bytes are kept for a stranger")


def _hear(greeting: _Greeting, segment: bytes) -> None:
    looked_at = greeting.unread + len(segment)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    greeting.hear(segment)
    taken = tracemalloc.get_traced_memory()[1] - before
    most = LOOK_BYTES_MAX + LOOK_BYTES_FOR_A_BYTE_MAX * looked_at
    if taken > most:
        raise _HeavyError(f"{taken} bytes of memory for {looked_at} of a stranger")


for _door in DOORS:
    _Greeting(_door)  # imports what is imported late, before anything is weighed: that takes long
