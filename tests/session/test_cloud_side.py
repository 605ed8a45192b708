"""The whole cloud: its peers, their sessions, what shares a pass, and peers that lie."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.planner.policies import Policy
from pipesd.planner.trigger import Thresholds
from pipesd.session import events
from pipesd.session.cloud_side import CloudSide
from pipesd.session.commands import ClosePeer, CloudCommand, ReleaseSequence, SendToPeer, TunePeer
from pipesd.session.phases import TextPhase
from pipesd.session.places import TENURE_S
from pipesd.session.rules import CloudRules, EdgeRules, Patience
from pipesd.values import Objective, Sampling, TrialReport, Verify
from pipesd.vocabulary import BLOCK_TOKENS
from pipesd.wire import frames
from tests.session.helpers import (
    HELLO,
    NOTHING,
    SEED,
    VOCABULARY,
    WELCOME,
    CloudTable,
    HostileWorld,
    Move,
    draft,
    faults,
    grant,
    part,
    policies,
    prompt,
    reply,
    run,
    verdict,
)
from tests.session.world import WORDS, Turn, welcome

PATIENT = CloudRules(patience=Patience(greeting_s=5.0, ping_after_s=10.0, silent_after_s=30.0))


# -- connections ------------------------------------------------------------------------------------------


def test_hello_is_welcomed() -> None:
    table = CloudTable(peers=0)
    assert table.side.is_empty
    assert table.tell(events.PeerConnected(3)) == []
    assert table.hears(HELLO, 3) == [reply(WELCOME, 3)]
    assert table.hears(frames.Open(9), 3) == [reply(frames.Opened(9), 3)]
    assert not table.side.is_empty


def test_another_version_is_refused() -> None:
    table = CloudTable(peers=0)
    table.tell(events.PeerConnected(0))
    refuse, close = table.hears(frames.Hello(frames.PROTOCOL_VERSION + 1, "newer", 10))
    assert isinstance(refuse, SendToPeer)
    assert isinstance(refuse.frame, frames.Refuse)
    assert refuse.frame.code == "version"
    assert close == ClosePeer(0)
    assert table.side.is_empty


def test_too_many_connections_are_refused() -> None:
    table = CloudTable(CloudRules(connections_max=1))
    refuse, close = table.tell(events.PeerConnected(1))
    assert refuse == reply(frames.Refuse("busy", "no connection is free", 2_000), 1)
    assert close == ClosePeer(1)
    assert table.hears(HELLO, 1) == []
    table.tell(events.PeerClosed(0, "gone"))
    assert table.meets(2) == [reply(WELCOME, 2)]


def test_frames_of_a_peer_that_is_gone_are_passed_over() -> None:
    table = CloudTable()
    assert table.tell(events.PeerClosed(0, "gone")) == [ClosePeer(0)]
    assert table.hears(prompt(1, 2)) == []
    assert table.tell(events.PeerClosed(0, "gone")) == []
    assert table.tell(events.PeerRejected(0, "malformed", "no frame")) == []


def test_peer_that_cannot_be_understood_is_sent_away() -> None:
    table = CloudTable()
    answer = table.tell(events.PeerRejected(0, "malformed", "no frame"))
    assert answer == [reply(frames.Fault(None, "malformed", "no frame")), ClosePeer(0)]


@pytest.mark.parametrize(
    "frame",
    [
        frames.Resume(0, b"", 1, 1, 0),
        frames.Restore(0, 1, (), Sampling(), 0, 0, 1),
        frames.Telemetry("balanced", NOTHING),
    ],
)
def test_what_this_version_does_not_offer_is_answered_with_unsupported(frame: frames.EdgeFrame) -> None:
    table = CloudTable()
    assert faults(table.hears(frame)) == [(0, None, "unsupported")]
    assert table.side.is_empty


def test_ping_and_block_are_answered() -> None:
    table = CloudTable()
    assert table.hears(frames.Ping(5)) == [reply(frames.Pong(5))]
    assert table.hears(frames.BlockWanted(0)) == [reply(frames.Block(0, VOCABULARY.block(0)))]
    nothing = (b"",) * BLOCK_TOKENS
    assert table.hears(frames.BlockWanted(2**53 - 1)) == [reply(frames.Block(2**53 - 1, nothing))]


@pytest.mark.parametrize("frame", [frames.Bye("enough"), frames.Fault(None, "protocol", "you lie")])
def test_peer_that_leaves_is_let_go(frame: frames.EdgeFrame) -> None:
    table = CloudTable(peers=2)
    table.hears(prompt(1, 2))
    table.picks((10,))
    assert table.hears(frame) == [ReleaseSequence(0), ClosePeer(0)]
    assert table.hears(prompt(1, 2), 1) != []


def test_fault_of_one_session_ends_no_other() -> None:
    table = CloudTable(sessions=2)
    table.hears(frames.Fault(0, "protocol", "this text is lost"))
    assert table.hears(prompt(1, 2, session=1)) == [run(part(0, (1, 2), 1, chunk=True))]


# -- time -------------------------------------------------------------------------------------------------


def test_greeting_that_never_comes_is_given_up() -> None:
    side = CloudSide(PATIENT, WELCOME, VOCABULARY)
    assert side.deadline() is None
    side.handle(events.PeerConnected(0), 1.0)
    side.handle(events.PeerConnected(1), 2.0)
    side.handle(events.PeerFrame(1, HELLO), 3.0)
    assert side.deadline() == 6.0
    assert side.handle(events.DeadlineReached(), 5.9) == []
    answer = side.handle(events.DeadlineReached(), 6.0)
    assert faults(answer) == [(0, None, "silent")]
    assert answer[-1] == ClosePeer(0)
    assert side.deadline() == 13.0


def test_silent_peer_is_asked_and_then_given_up() -> None:
    table = CloudTable(PATIENT, peers=2)
    assert table.side.deadline() == 10.0
    table.hears(frames.Pong(0), 1, now=4.0)
    assert table.tell(events.DeadlineReached(), 10.0) == [reply(frames.Ping(10_000_000))]
    assert table.tell(events.DeadlineReached(), 14.0) == [reply(frames.Ping(14_000_000), 1)]
    table.hears(frames.Pong(14_000_000), 1, now=15.0)
    answer = table.tell(events.DeadlineReached(), 30.0)
    assert faults(answer) == [(0, None, "silent")]
    assert table.hears(frames.Ping(1), 0, now=31.0) == []
    assert table.hears(frames.Ping(1), 1, now=31.0) == [reply(frames.Pong(1), 1)]
    table.tell(events.PeerClosed(1, "gone"), 32.0)
    assert table.side.deadline() is None


def test_stop_says_goodbye_and_starts_no_pass() -> None:
    table = CloudTable(peers=2)
    table.hears(prompt(1, 2))
    table.hears(prompt(3, 4), 1)
    assert table.tell(events.StopRequested()) == [
        reply(frames.Bye("it is stopping")),
        ReleaseSequence(0),
        ClosePeer(0),
        reply(frames.Bye("it is stopping"), 1),
        ClosePeer(1),
    ]
    assert table.picks((10,)) == []
    refuse, close = table.tell(events.PeerConnected(2))
    assert refuse == reply(frames.Refuse("stopping", "it is stopping"), 2)
    assert close == ClosePeer(2)
    assert table.side.is_empty


# -- sessions ---------------------------------------------------------------------------------------------


def test_when_all_sessions_are_taken_the_next_is_told_and_passed_over() -> None:
    table = CloudTable(CloudRules(sessions_max=2), peers=2, sessions=1)
    assert faults(table.hears(frames.Open(5), 1)) == [(1, 5, "busy")]
    for frame in (prompt(1, 2, session=5), draft(2, 3, session=5), frames.Cancel(5, 0)):
        assert table.hears(frame, 1) == []
    assert table.hears(frames.Close(5), 1) == []
    assert table.hears(frames.Close(0)) == []
    assert table.hears(frames.Open(5), 1) == [reply(frames.Opened(5), 1)]
    assert table.hears(prompt(1, 2, session=5), 1) == [run(part(0, (1, 2), 1, chunk=True))]


def test_sessions_of_one_peer_are_bounded() -> None:
    table = CloudTable(CloudRules(edge_sessions_max=2), peers=2, sessions=0)
    table.hears(frames.Open(0))
    table.hears(frames.Open(1))
    assert faults(table.hears(frames.Open(2))) == [(0, None, "busy")]
    assert table.hears(frames.Open(0), 1) == [reply(frames.Opened(0), 1)]


@pytest.mark.parametrize(
    "frame",
    [frames.Open(0), prompt(1, session=1), draft(0, session=1), frames.Cancel(1, 1), frames.Close(1)],
)
def test_number_that_is_open_already_or_not_open_is_a_fault(frame: frames.EdgeFrame) -> None:
    assert faults(CloudTable().hears(frame)) == [(0, None, "protocol")]


def test_session_closed_during_its_pass_is_told_nothing_and_its_sequence_is_used_again() -> None:
    table = CloudTable(CloudRules(sessions_max=1, kv_sequences=1), peers=2, sessions=0)
    table.hears(frames.Open(0))
    table.hears(prompt(1, 2))
    assert table.hears(frames.Close(0)) == [ReleaseSequence(0)]
    assert table.hears(frames.Open(0), 1) == [reply(frames.Opened(0), 1)]
    assert table.hears(prompt(3, 4), 1) == []
    assert table.picks((10,)) == [run(part(0, (3, 4), 1, chunk=True))]
    assert table.picks((20,)) == [reply(verdict(2, 0, 20), 1)]


def test_peer_gone_during_its_pass_leaves_the_others_share_alone() -> None:
    table = CloudTable(peers=2)
    table.hears(prompt(1, 2))
    table.hears(prompt(3, 4), 1)
    assert table.tell(events.PeerClosed(0, "gone")) == [ReleaseSequence(0), ClosePeer(0)]
    assert table.picks((10,)) == [run(part(0, (3, 4), 1, chunk=True, sequence=1))]


def test_engine_that_fails_ends_the_sessions_of_that_pass_only() -> None:
    table = CloudTable(peers=3)
    for peer in range(3):
        table.hears(prompt(1, 2), peer)
        table.picks((10,))
    table.hears(draft(3, 11, ask=4))
    table.hears(draft(3, 11, ask=4), 1)
    table.picks((11, 12))
    table.hears(draft(5, 13, ask=6))
    table.hears(draft(3, 11, ask=4), 2)
    answer = table.tell(events.PassFailed("out of memory"))
    assert faults(answer) == [(1, 0, "engine")]
    assert answer[:2] == [
        ReleaseSequence(1),
        reply(frames.Fault(0, "engine", "the target failed: out of memory"), 1),
    ]
    assert answer[2:] == [
        run(part(4, (12, 13), 2), part(2, (10, 11), 2, sequence=2)),
    ]
    assert table.hears(draft(4, 12, ask=5), 1) == []
    assert table.hears(frames.Ping(1), 1) == [reply(frames.Pong(1), 1)]


def test_engine_that_fails_in_a_cancelled_sessions_pass_ends_that_session() -> None:
    table = CloudTable()
    table.hears(prompt(1, 2))
    table.hears(frames.Cancel(0, 2))
    assert faults(table.tell(events.PassFailed("broken"))) == [(0, 0, "engine")]
    assert table.side.sessions == []


def test_prompt_that_does_not_fit_ends_its_session_only() -> None:
    table = CloudTable(welcome=grant(context_tokens=5), sessions=2)
    assert faults(table.hears(prompt(1, 2, 3, 4, 5))) == [(0, 0, "context")]
    assert table.hears(draft(5, 1, ask=6)) == []
    assert table.hears(prompt(1, 2, 3, 4, session=1)) != []


def test_sampling_that_is_not_offered_ends_its_session_only() -> None:
    table = CloudTable(welcome=grant(greedy_only=True), sessions=2)
    warm = frames.Prompt(0, 1, 0, (1, 2), Sampling(temperature=0.7), SEED, 10)
    assert faults(table.hears(warm)) == [(0, 0, "sampling")]
    assert table.hears(prompt(1, 2, session=1)) != []


def test_sampling_reaches_the_target() -> None:
    warm = frames.Prompt(0, 1, 0, (1, 2), Sampling(temperature=0.7), 8, 10)
    (order,) = CloudTable().hears(warm)
    wanted = part(0, (1, 2), 1, chunk=True)
    assert order != run(wanted)
    assert getattr(order, "slices")[0].seed == 8  # noqa: B009 - a union of commands
    assert getattr(order, "slices")[0].sampling == warm.sampling  # noqa: B009 - a union of commands


# -- passes -----------------------------------------------------------------------------------------------


def test_sessions_that_wait_share_the_next_pass() -> None:
    table = CloudTable(peers=3)
    for peer in range(3):
        table.hears(prompt(1, 2), peer)
        table.picks((10,))
    table.hears(draft(3, 11, ask=4))
    table.hears(draft(3, 12, ask=4), 2)
    table.hears(draft(3, 13, ask=4), 1)
    assert table.picks((11, 20)) == [
        reply(verdict(3, 1, 20)),
        run(part(2, (10, 12), 2, sequence=2), part(2, (10, 13), 2, sequence=1)),
    ]
    assert table.picks((12, 21), (50, 0)) == [
        reply(verdict(3, 1, 21), 2),
        reply(verdict(3, 0, 50), 1),
    ]


def test_sessions_take_turns_when_passes_are_small() -> None:
    table = CloudTable(CloudRules(pass_tokens=1), peers=3)
    for peer in range(3):
        table.hears(prompt(1, 2), peer)
        table.picks((10,))
    for peer in range(3):
        table.hears(draft(3, ask=6), peer)
    order = []
    for _ in range(9):
        answer = table.picks((20,))
        order += [command.peer for command in answer if isinstance(command, SendToPeer)]
    assert order == [0, 1, 2] * 3


def test_long_prompts_take_turns_and_let_verdicts_through() -> None:
    table = CloudTable(welcome=grant(chunk_tokens=2), peers=3)
    table.hears(prompt(8, 2), 2)
    table.picks((10,))
    table.hears(prompt(1, 2, 3, 4))
    table.hears(prompt(5, 6, 7, 8), 1)
    table.hears(draft(3, 11, ask=4), 2)
    judged, first = part(2, (10, 11), 2), part(0, (5, 6), 0, chunk=True, sequence=2)
    assert table.picks(()) == [run(first, judged)]
    second = run(part(2, (3, 4), 1, chunk=True, sequence=1))
    assert table.picks((), (11, 12)) == [reply(verdict(3, 1, 12), 2), second]
    assert table.picks((20,))[-1] == run(part(2, (7, 8), 1, chunk=True, sequence=2))
    assert table.side.sessions[1].phase is TextPhase.AWAITING


def test_chunks_of_one_session_share_a_pass_while_nobody_else_is_written_to() -> None:
    table = CloudTable(CloudRules(lone_prompt_tokens=5), grant(chunk_tokens=2), peers=2)
    chunks = part(0, (1, 2), 0, chunk=True), part(2, (3, 4), 0, chunk=True)
    assert table.hears(prompt(1, 2, 3, 4, 5, 6)) == [run(*chunks)]
    table.hears(prompt(7, 8, 9, 10), 1)
    assert table.picks((), ()) == [run(part(0, (7, 8), 0, chunk=True, sequence=1))]
    assert table.picks(()) == [run(part(4, (5, 6), 1, chunk=True))]
    table.hears(frames.Cancel(0, 2))
    table.hears(prompt(*range(20, 30), base=4, epoch=2), 1)
    chunks = part(2, (9, 10), 0, chunk=True, sequence=1), part(4, (20, 21), 0, chunk=True, sequence=1)
    assert table.picks((20,)) == [run(*chunks)]


def test_a_beginning_that_was_read_before_is_copied() -> None:
    table = CloudTable(welcome=grant(chunk_tokens=2), peers=2)
    table.hears(prompt(1, 2, 3))
    table.picks(())
    table.picks((10,))
    assert table.hears(prompt(1, 2, 4), 1) == [run(part(2, (4,), 1, chunk=True, sequence=1, copy_of=0))]


def test_prompts_beyond_what_may_wait_are_told_to_come_later() -> None:
    table = CloudTable(CloudRules(prefill_tokens_max=4, busy_retry_s=1.5), peers=3)
    table.hears(prompt(1, 2, 3, 4, 5, 6))
    assert table.hears(prompt(1, 2), 1) == []
    message = "prompts of 5 tokens wait to be read"
    assert table.hears(prompt(1, 2, 3), 2) == [reply(frames.Fault(0, "busy", message, 1_500), 2)]
    assert table.hears(draft(3, 4, ask=4), 2) == []
    assert table.picks((10,))[1:] == [run(part(0, (1, 2), 1, chunk=True, sequence=1))]
    assert table.hears(prompt(1, 2, 3, epoch=2), 2) == []
    assert table.picks((10,))[1:] == [run(part(0, (1, 2, 3), 1, chunk=True, sequence=2))]


def test_a_prompt_that_was_turned_away_may_be_cancelled_and_followed_by_another() -> None:
    table = CloudTable(CloudRules(prefill_tokens_max=1), peers=3)
    table.hears(prompt(1, 2))
    table.hears(prompt(1, 2), 1)
    assert faults(table.hears(prompt(1, 2), 2)) == [(2, 0, "busy")]
    assert table.hears(frames.Cancel(0, 2), 2) == []
    table.picks((10,))
    table.picks((10,))
    assert table.hears(prompt(3, base=2, epoch=3), 2) == [
        run(part(0, (1, 2), 0, chunk=True, sequence=2), part(2, (3,), 1, chunk=True, sequence=2))
    ]


def test_what_an_engine_owed_that_was_lost_is_read_again() -> None:
    table = CloudTable(welcome=grant(chunk_tokens=2), peers=2)
    table.hears(prompt(1, 2, 3))
    table.picks(())
    table.picks((10,))
    table.hears(prompt(5, 6), 1)
    table.picks((20,))
    table.hears(draft(4, 11, 12, ask=6))
    answer = table.tell(events.PassFailed("it was killed", lost=True))
    assert answer == [run(part(0, (1, 2), 0, chunk=True, sequence=2))]
    rest = part(2, (3,), 0, chunk=True, sequence=2), part(3, (10, 11, 12), 3, sequence=2)
    assert table.picks(()) == [run(*rest)]
    assert table.picks((), (11, 12, 13)) == [reply(verdict(4, 2, 13))]
    again = part(0, (5, 6), 0, chunk=True, sequence=3), part(2, (20, 21), 2, sequence=3)
    assert table.hears(draft(3, 21, ask=4), 1) == [run(*again)]


def test_a_session_that_every_engine_dies_of_fails_and_the_others_go_on() -> None:
    table = CloudTable(peers=2)
    table.hears(prompt(1, 2))
    for sequence in (1, 2, 3, 4):
        assert table.tell(lost()) == [run(part(0, (1, 2), 1, chunk=True, sequence=sequence))]
    table.hears(prompt(3, 4), 1)
    assert table.tell(lost()) == [
        reply(frames.Fault(0, "engine", "the target failed: it died")),
        run(part(0, (3, 4), 1, chunk=True, sequence=5)),
    ]
    table.picks((10,))
    assert table.phase() is TextPhase.DRAFTING


def lost() -> events.PassFailed:
    return events.PassFailed("it died", lost=True)


def test_who_waits_for_a_place_is_served_when_one_may_be_taken_away() -> None:
    table = CloudTable(CloudRules(kv_sequences=1), peers=2)
    table.hears(prompt(1, 2), now=1.0)
    table.picks((10,), now=1.0)
    assert table.hears(prompt(3, 4), 1, now=1.5) == []
    assert table.side.deadline() == 1.0 + TENURE_S
    assert table.tell(events.DeadlineReached(), 1.0 + TENURE_S) == [
        run(part(0, (3, 4), 1, chunk=True), evicted=1)
    ]


# -- drafts that nobody asked about -----------------------------------------------------------------------


def with_drafts(verify: Verify, pass_tokens: int = 256) -> CloudTable:
    """Three peers behind 1, 2 and 10: the first has asked about 11; drafts of the third and second wait."""
    table = CloudTable(CloudRules(verify=verify, pass_tokens=pass_tokens), peers=3)
    for peer in range(3):
        table.hears(prompt(1, 2), peer)
        table.picks((10,))
    assert table.hears(draft(3, 11, ask=4), now=1.0) == [run(part(2, (10, 11), 2))]
    assert table.hears(draft(3, 13), 2, now=1.5) == []
    assert table.hears(draft(3, 12), 1, now=1.5) == []
    return table


SECOND = part(2, (10, 12), 2, sequence=1)
THIRD = part(2, (10, 13), 2, sequence=2)


@pytest.mark.parametrize("verify", ["on_request", "piggyback"])
def test_drafts_that_nobody_asked_about_start_no_pass(verify: Verify) -> None:
    table = with_drafts(verify)
    assert table.picks((11, 20)) == [reply(verdict(3, 1, 20))]
    assert table.hears(draft(4, 14), 1) == []


def test_on_request_a_pass_judges_only_sessions_that_asked() -> None:
    table = with_drafts("on_request")
    table.picks((11, 20))
    assert table.hears(draft(5, 21, ask=6)) == [run(part(4, (20, 21), 2))]
    assert table.picks((21, 22)) == [reply(verdict(5, 1, 22))]
    assert table.hears(draft(4, ask=4), 1) == [run(SECOND)]


def test_drafts_ride_along_behind_those_that_were_asked_about() -> None:
    table = with_drafts("piggyback")
    table.picks((11, 20))
    assert table.hears(draft(5, 21, ask=6)) == [run(part(4, (20, 21), 2), THIRD, SECOND)]
    assert table.picks((21, 22), (13, 14), (50, 0)) == [
        reply(verdict(5, 1, 22)),
        reply(verdict(3, 1, 14), 2),
        reply(verdict(3, 0, 50), 1),
    ]
    assert table.phase(1) is TextPhase.DRAFTING
    assert table.hears(draft(7, 23, ask=8)) == [run(part(6, (22, 23), 2))]


def test_drafts_that_find_no_room_ride_in_the_next_pass() -> None:
    table = with_drafts("piggyback", pass_tokens=4)
    table.picks((11, 20))
    assert table.hears(draft(5, 21, ask=6)) == [run(part(4, (20, 21), 2), THIRD)]
    assert table.picks((50, 0), (13, 14)) == [reply(verdict(5, 0, 50)), reply(verdict(3, 1, 14), 2)]
    assert table.hears(draft(6, 22, ask=7, epoch=2)) == [run(part(5, (50, 22), 2), SECOND)]


def test_drafts_of_a_session_that_asks_after_all_are_judged_once() -> None:
    table = with_drafts("piggyback")
    assert table.hears(draft(4, ask=4), 1) == []
    assert table.picks((11, 20)) == [reply(verdict(3, 1, 20)), run(SECOND, THIRD)]
    assert table.picks((12, 30), (13, 31)) == [reply(verdict(3, 1, 30), 1), reply(verdict(3, 1, 31), 2)]


def test_drafts_that_died_ride_nowhere() -> None:
    table = with_drafts("piggyback")
    table.hears(frames.Cancel(0, 2), 1)
    table.tell(events.PeerClosed(2, "gone"))
    table.picks((11, 20))
    assert table.hears(draft(5, 21, ask=6)) == [run(part(4, (20, 21), 2))]


def test_an_eager_target_judges_whatever_has_arrived_whenever_it_is_idle() -> None:
    table = with_drafts("eager")
    assert table.picks((11, 20)) == [reply(verdict(3, 1, 20)), run(THIRD, SECOND)]
    assert table.hears(draft(5, 21)) == []
    assert table.picks((13, 30), (12, 31)) == [
        reply(verdict(3, 1, 30), 2),
        reply(verdict(3, 1, 31), 1),
        run(part(4, (20, 21), 2)),
    ]
    assert table.picks((21, 22)) == [reply(verdict(5, 1, 22))]
    assert table.hears(draft(5, 32), 1) == [run(part(4, (31, 32), 2, sequence=1))]


def test_an_eager_target_serves_first_who_asked() -> None:
    table = with_drafts("eager", pass_tokens=2)
    assert table.hears(draft(4, ask=4), 1) == []
    assert table.picks((11, 20)) == [reply(verdict(3, 1, 20)), run(SECOND)]
    assert table.picks((12, 30)) == [reply(verdict(3, 1, 30), 1), run(THIRD)]


def test_drafts_for_which_a_pass_has_no_room_wait_for_one_that_has() -> None:
    """There is room for the token before them, but for no draft."""
    table = with_drafts("eager", pass_tokens=3)
    assert table.picks((11, 20)) == [reply(verdict(3, 1, 20)), run(THIRD)]
    assert table.picks((13, 30)) == [reply(verdict(3, 1, 30), 2), run(SECOND)]
    table = with_drafts("piggyback", pass_tokens=3)
    table.picks((11, 20))
    assert table.hears(draft(5, 21, ask=6)) == [run(part(4, (20, 21), 2))]
    assert table.picks((21, 22)) == [reply(verdict(5, 1, 22))]
    assert table.hears(draft(4, ask=4), 1) == [run(SECOND)]


def test_an_eager_target_whose_passes_have_no_room_for_a_draft_starts_none() -> None:
    table = CloudTable(CloudRules(verify="eager", pass_tokens=1))
    table.hears(prompt(1, 2))
    assert table.picks((10,)) == [reply(verdict(2, 0, 10))]
    assert table.hears(draft(3, 11, 12)) == []
    assert table.hears(draft(5, ask=5)) == [run(part(2, (10,), 1))]
    assert table.picks((11,)) == [reply(verdict(3, 0, 11)), run(part(3, (11,), 1))]
    assert table.picks((12,)) == [reply(verdict(4, 0, 12))]
    assert table.phase() is TextPhase.DRAFTING


def waits_us(table: CloudTable, *picks: tuple[int, ...], now: float) -> dict[int, int]:
    """How long each peer's verdict was due before the pass that is done now."""
    answer = table.side.handle(events.PassDone(picks), now)
    told = [(said.peer, said.frame) for said in answer if isinstance(said, SendToPeer)]
    return {peer: frame.queue_us for peer, frame in told if isinstance(frame, frames.Verdict)}


def test_who_did_not_ask_did_not_wait() -> None:
    table = with_drafts("piggyback")
    table.hears(draft(4, ask=4), 1, now=2.0)
    assert table.picks((11, 20), now=3.0)[-1] == run(SECOND, THIRD)
    assert waits_us(table, (12, 30), (13, 31), now=4.0) == {1: 1_000_000, 2: 0}


def test_who_asks_while_its_drafts_ride_waits_from_then_on() -> None:
    table = with_drafts("piggyback")
    table.hears(draft(4, ask=4), 1, now=2.0)
    table.picks((11, 20), now=3.0)
    table.hears(draft(4, 14, ask=6), 2, now=3.2)
    assert waits_us(table, (12, 30), (13, 14), now=4.0) == {1: 1_000_000, 2: 0}
    assert waits_us(table, (15,), now=5.0) == {2: 800_000}


# -- the tuner --------------------------------------------------------------------------------------------

TUNING = CloudRules(tunes=True)
REPORT = TrialReport(3, ((20, 900.0, 300.0, 0.0),), (), (), ())
TELEMETRY = frames.Telemetry("cost", REPORT)
ORDER: tuple[Objective, TrialReport] = ("cost", REPORT)


def proposes(table: CloudTable, peer: int = 0) -> list[CloudCommand]:
    return table.tell(events.PeerTuned(peer, 4, Thresholds(0.5, 0.25, 8, 2)))


PROPOSED = frames.Thresholds(4, 0.5, 0.25, 8, 2)


def test_a_peers_trial_goes_to_the_tuner_and_its_proposal_to_that_peer() -> None:
    table = CloudTable(TUNING, peers=2)
    assert table.hears(TELEMETRY, 1) == [TunePeer(1, ORDER)]
    assert proposes(table, 1) == [reply(PROPOSED, 1)]
    assert table.hears(TELEMETRY, 1) == [TunePeer(1, ORDER)]


def test_no_thresholds_are_a_proposal_too() -> None:
    table = CloudTable(TUNING)
    table.hears(TELEMETRY)
    assert table.tell(events.PeerTuned(0, 5, None)) == [reply(frames.Thresholds(5, None, 0.0, 1, 1))]


def test_a_cloud_that_does_not_tune_says_so() -> None:
    table = CloudTable(peers=2)
    assert faults(table.hears(TELEMETRY)) == [(0, None, "unsupported")]
    assert table.meets(0) == [reply(WELCOME)]


def test_reports_before_the_answer_to_the_last_are_passed_over() -> None:
    table = CloudTable(TUNING, peers=2)
    table.hears(TELEMETRY)
    assert [table.hears(TELEMETRY) for _ in range(3)] == [[]] * 3
    assert table.hears(TELEMETRY, 1) == [TunePeer(1, ORDER)]
    proposes(table)
    assert table.hears(TELEMETRY) == [TunePeer(0, ORDER)]


@pytest.mark.parametrize("end", [events.PeerClosed(0, "gone"), events.PeerFrame(0, frames.Bye("enough"))])
def test_the_tuner_forgets_a_peer_that_leaves(end: events.CloudEvent) -> None:
    table = CloudTable(TUNING)
    table.hears(TELEMETRY)
    proposes(table)
    assert table.tell(end) == [TunePeer(0, None), ClosePeer(0)]
    assert table.tell(end) == []


def test_the_tuner_never_hears_of_a_peer_that_told_it_nothing() -> None:
    assert CloudTable(TUNING).tell(events.PeerClosed(0, "gone")) == [ClosePeer(0)]


def test_a_proposal_for_a_peer_that_has_gone_is_dropped_and_the_tuner_told_then() -> None:
    table = CloudTable(TUNING)
    table.hears(TELEMETRY)
    assert table.tell(events.PeerClosed(0, "gone")) == [ClosePeer(0)]
    assert proposes(table) == [TunePeer(0, None)]


def test_peers_that_come_and_go_never_ask_more_of_the_tuner_than_may_be_connected() -> None:
    table = CloudTable(CloudRules(tunes=True, connections_max=2), peers=0)
    answers = []
    for peer in range(5):
        table.meets(peer)
        answers += table.hears(TELEMETRY, peer)
        assert table.tell(events.PeerClosed(peer, "gone")) == [ClosePeer(peer)]
    assert answers == [TunePeer(0, ORDER), TunePeer(1, ORDER)]
    assert [proposes(table, peer) for peer in (0, 1)] == [[TunePeer(0, None)], [TunePeer(1, None)]]
    table.meets(5)
    assert table.hears(TELEMETRY, 5) == [TunePeer(5, ORDER)]


# -- peers that lie ---------------------------------------------------------------------------------------


turns = st.builds(
    Turn,
    back=st.integers(0, 9),
    prompt=st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=9).map(tuple),
    tokens_max=st.integers(1, 30),
    cancel=st.booleans(),
)

digits = st.integers(0, 99)


@given(
    st.lists(turns, min_size=2, max_size=4),
    policies,
    st.sampled_from(get_args(Verify)),
    st.lists(st.tuples(st.integers(0, 19), digits, digits), min_size=20, max_size=60),
    st.lists(st.integers(0, 99), min_size=50, max_size=200),
)
@settings(max_examples=100, deadline=None)
def test_whatever_one_peer_says_the_other_gets_the_targets_text(
    wishes: list[Turn], policy: Policy, verify: Verify, moves: list[Move], choices: list[int]
) -> None:
    rules = EdgeRules(policy=policy, window_tokens=8, tuner="cloud")
    world = HostileWorld(rules, wishes, welcome(window=8, context=60, tunes=True), moves, verify)
    world.proposals = [None, Thresholds(0.5, 0.5, 3, 1)]
    world.play(choices)
    assert not world.moves
