"""Which frame is legal in which phase, as data. A frame outside its row is the sender's fault.

The README prints the same tables; a test walks every phase with every frame.
"""

import enum
from collections.abc import Mapping

from pipesd.errors import PeerError
from pipesd.wire import frames


class EdgePhase(enum.Enum):
    """Where the edge's connection stands; members are documented by their value."""

    CONNECTING = "there is no connection yet"
    AWAY = "the connection is lost, and the next try comes after a while"
    GREETING = "Hello is sent"
    PROVING = "the proof of who calls is sent"
    COMPARING = "the vocabularies differ; the first differing block was asked for"
    READY = "sessions may be opened"
    CLOSED = "the connection is over"


class CloudPhase(enum.Enum):
    """Where one edge's connection stands at the cloud; members are documented by their value."""

    GREETING = "waiting for Hello"
    PROVING = "waiting for the proof of who calls"
    OPEN = "sessions may be opened"
    CLOSED = "the connection is over; what still arrives is passed over"


class TextPhase(enum.Enum):
    """Where one session stands, on either side; members are documented by their value."""

    IDLE = "no generation is running"
    DRAFTING = "a generation is running and no verdict is owed"
    AWAITING = "a generation is running and a verdict is owed"
    FAILED = "the session cannot go on; known at the edge only"


LEGAL_AT_EDGE: Mapping[EdgePhase, frozenset[type]] = {
    EdgePhase.CONNECTING: frozenset(),
    EdgePhase.AWAY: frozenset(),
    EdgePhase.GREETING: frozenset(
        {frames.Challenge, frames.Welcome, frames.Refuse, frames.Fault, frames.Bye}
    ),
    EdgePhase.PROVING: frozenset({frames.Welcome, frames.Refuse, frames.Fault, frames.Bye}),
    EdgePhase.COMPARING: frozenset({frames.Block, frames.Fault, frames.Bye, frames.Ping, frames.Pong}),
    EdgePhase.READY: frozenset(
        {
            frames.Opened,
            frames.Resumed,
            frames.Verdict,
            frames.Thresholds,
            frames.Fault,
            frames.Bye,
            frames.Ping,
            frames.Pong,
        }
    ),
    EdgePhase.CLOSED: frozenset(),
}

LEGAL_AT_CLOUD: Mapping[CloudPhase, frozenset[type]] = {
    CloudPhase.GREETING: frozenset({frames.Hello, frames.Fault, frames.Bye}),
    CloudPhase.PROVING: frozenset({frames.Proof, frames.Fault, frames.Bye}),
    CloudPhase.OPEN: frozenset(
        {
            frames.Open,
            frames.Resume,
            frames.Restore,
            frames.Prompt,
            frames.Draft,
            frames.Cancel,
            frames.Close,
            frames.BlockWanted,
            frames.Telemetry,
            frames.Fault,
            frames.Bye,
            frames.Ping,
            frames.Pong,
        }
    ),
    CloudPhase.CLOSED: frozenset(),
}

assert LEGAL_AT_EDGE.keys() == set(EdgePhase), "a phase of the edge without a row"
assert LEGAL_AT_CLOUD.keys() == set(CloudPhase), "a phase of the cloud without a row"


def require_legal(frame: object, phase: EdgePhase | CloudPhase) -> None:
    """Raise ``PeerError`` if ``frame`` may not arrive in ``phase``."""
    row = LEGAL_AT_EDGE[phase] if isinstance(phase, EdgePhase) else LEGAL_AT_CLOUD[phase]
    if type(frame) not in row:
        raise PeerError("out_of_phase", f"{type(frame).__name__} is not allowed while {phase.value}")
