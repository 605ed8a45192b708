"""The tables of what may arrive when: every phase meets every frame."""

from typing import get_args

import pytest

from pipesd.access import AccessToken, Limits
from pipesd.errors import PeerError
from pipesd.session import commands, events
from pipesd.session.cloud_side import CloudSide
from pipesd.session.edge_side import EdgeSide
from pipesd.session.phases import (
    LEGAL_AT_CLOUD,
    LEGAL_AT_EDGE,
    CloudPhase,
    EdgePhase,
    TextPhase,
    require_legal,
)
from pipesd.session.proof import SALT_BYTES, CloudProof, EdgeProof, Tokens, verifier_of
from pipesd.session.rules import CloudRules, EdgeRules, Patience
from pipesd.vocabulary import Vocabulary
from pipesd.wire import frames
from pipesd.wire.faults import FAULTS
from tests.session.helpers import GREEDY, HELLO, NOTHING, VOCABULARY, WELCOME

EXAMPLES: dict[type, frames.AnyFrame] = {
    type(frame): frame
    for frame in (
        HELLO,
        frames.Challenge(b"r=1,s=c2FsdA==,i=4096"),
        frames.Proof(b""),
        WELCOME,
        frames.Refuse("busy", "no"),
        frames.Open(1),
        frames.Opened(0),
        frames.Prompt(0, 1, 0, (1, 2), GREEDY, 0, 10),
        frames.Draft(0, 0, 0, (), 0),
        frames.Cancel(0, 9),
        frames.Close(0),
        frames.Verdict(0, 0, 0, 0, (1,)),
        frames.Resume(5, b"", 1, 1, 0),
        frames.Restore(0, 1, ((True, (1,)),), GREEDY, 0, 1, 1),
        frames.Resumed(0, need=True),
        frames.Telemetry("balanced", NOTHING),
        frames.Thresholds(0, 0.5, 0.5, 4, 1),
        frames.Fault(None, "engine", "broken"),
        frames.Ping(3),
        frames.Pong(3),
        frames.Bye("enough"),
        frames.BlockWanted(0),
        frames.Block(0, ()),
    )
}
STRANGER = Vocabulary([bytes([token]) for token in range(50, 150)])


TOKEN = AccessToken("ann", "a" * 43)
VERIFIERS = {"ann": verifier_of(TOKEN.secret, bytes(SALT_BYTES), Limits())}
FIRST = EdgeProof(TOKEN, "edge").first
CHALLENGE = CloudProof(VERIFIERS, "cloud", FIRST, b"fake").challenge


def edge_in(phase: EdgePhase) -> EdgeSide:
    token = TOKEN if phase is EdgePhase.PROVING else None
    rules = EdgeRules(token=token, patience=Patience(away_s=60.0 if phase is EdgePhase.AWAY else 0.0))
    side = EdgeSide(rules, STRANGER if phase is EdgePhase.COMPARING else VOCABULARY)
    if phase is EdgePhase.CONNECTING:
        return side
    side.handle(events.LinkOpened(nonce="edge"), 0.0)
    if phase is EdgePhase.PROVING:
        side.handle(events.FrameReceived(frames.Challenge(CHALLENGE)), 0.0)
    if phase in {EdgePhase.COMPARING, EdgePhase.READY, EdgePhase.AWAY}:
        side.handle(events.FrameReceived(WELCOME), 0.0)
    if phase in {EdgePhase.READY, EdgePhase.AWAY}:
        side.handle(events.SessionWanted(0), 0.0)
    if phase is EdgePhase.AWAY:
        side.handle(events.LinkClosed("gone"), 0.0)
    if phase is EdgePhase.CLOSED:
        side.handle(events.StopRequested(), 0.0)
    assert side.phase is phase
    return side


def cloud_in(phase: CloudPhase) -> CloudSide:
    side = CloudSide(CloudRules(tunes=True), WELCOME, VOCABULARY)
    side.handle(events.PeerConnected(0, nonce="cloud"), 0.0)
    if phase is CloudPhase.PROVING:
        side.handle(events.TokensRead(Tokens(VERIFIERS, b"fake")), 0.0)
        hello = frames.Hello(frames.PROTOCOL_VERSION, "me", 100, FIRST)
        (answer,) = side.handle(events.PeerFrame(0, hello), 0.0)
        assert answer == commands.SendToPeer(0, frames.Challenge(CHALLENGE))
    if phase is CloudPhase.OPEN:
        side.handle(events.PeerFrame(0, HELLO), 0.0)
        side.handle(events.PeerFrame(0, frames.Open(0)), 0.0)
    if phase is CloudPhase.CLOSED:
        side.handle(events.PeerClosed(0, "gone"), 0.0)
    return side


def test_every_frame_has_an_example() -> None:
    assert EXAMPLES.keys() == set(get_args(frames.AnyFrame))


def test_every_phase_has_a_row_of_frames_that_can_come_that_way() -> None:
    assert LEGAL_AT_EDGE.keys() == set(EdgePhase)
    assert LEGAL_AT_CLOUD.keys() == set(CloudPhase)
    assert frozenset().union(*LEGAL_AT_EDGE.values()) <= set(get_args(frames.CloudFrame))
    assert frozenset().union(*LEGAL_AT_CLOUD.values()) <= set(get_args(frames.EdgeFrame))


def test_every_frame_is_legal_somewhere() -> None:
    assert frozenset().union(*LEGAL_AT_EDGE.values(), *LEGAL_AT_CLOUD.values()) == EXAMPLES.keys()


def test_every_phase_says_what_it_means() -> None:
    for phase in (*EdgePhase, *CloudPhase, *TextPhase):
        assert phase.value
        assert not phase.value.endswith(".")


@pytest.mark.parametrize("phase", [*EdgePhase, *CloudPhase])
@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
def test_outside_its_row_a_frame_is_a_fault(phase: EdgePhase | CloudPhase, kind: type) -> None:
    row = LEGAL_AT_EDGE[phase] if isinstance(phase, EdgePhase) else LEGAL_AT_CLOUD[phase]
    if kind in row:
        require_legal(EXAMPLES[kind], phase)
        return
    with pytest.raises(PeerError, match=kind.__name__) as caught:
        require_legal(EXAMPLES[kind], phase)
    assert caught.value.code == "out_of_phase"
    assert caught.value.code in FAULTS


@pytest.mark.parametrize("phase", list(EdgePhase))
@pytest.mark.parametrize("kind", get_args(frames.CloudFrame), ids=lambda kind: kind.__name__)
def test_at_the_edge_every_phase_survives_every_frame(phase: EdgePhase, kind: type) -> None:
    """Nobody asked for ``Resumed``, and a connection that was lost says nothing any more."""
    side, frame = edge_in(phase), EXAMPLES[kind]
    answer = side.handle(events.FrameReceived(frame), 0.0)  # type: ignore[arg-type]
    faults = [
        command.frame.code
        for command in answer
        if isinstance(command, commands.SendFrame) and isinstance(command.frame, frames.Fault)
    ]
    if phase in {EdgePhase.CLOSED, EdgePhase.AWAY}:
        assert answer == []
        assert side.phase is phase
    elif kind in LEGAL_AT_EDGE[phase]:
        assert faults == (["protocol"] if kind is frames.Resumed else [])
    else:
        assert faults == ["out_of_phase"]
        assert isinstance(answer[-1], commands.CloseLink)
        assert side.phase is EdgePhase.CLOSED


@pytest.mark.parametrize("phase", list(CloudPhase))
@pytest.mark.parametrize("kind", get_args(frames.EdgeFrame), ids=lambda kind: kind.__name__)
def test_at_the_cloud_every_phase_survives_every_frame(phase: CloudPhase, kind: type) -> None:
    side, frame = cloud_in(phase), EXAMPLES[kind]
    answer = side.handle(events.PeerFrame(0, frame), 0.0)  # type: ignore[arg-type]
    if phase is CloudPhase.CLOSED:
        assert answer == []
    elif kind in LEGAL_AT_CLOUD[phase]:
        assert not any(
            isinstance(command, commands.SendToPeer) and isinstance(command.frame, frames.Fault)
            for command in answer
        )
    else:
        fault, close = answer
        assert isinstance(fault, commands.SendToPeer)
        assert isinstance(fault.frame, frames.Fault)
        assert (fault.frame.session, fault.frame.code) == (None, "out_of_phase")
        assert close == commands.ClosePeer(0)
        assert side.is_empty
