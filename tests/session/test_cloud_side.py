"""The whole cloud: its peers, their sessions, what shares a pass, and peers that lie."""

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from pipesd.access import AccessToken, Limits
from pipesd.planner.policies import Policy
from pipesd.planner.trigger import Thresholds
from pipesd.session import events
from pipesd.session.cloud_side import CloudSide
from pipesd.session.commands import ClosePeer, CloudCommand, ReleaseSequence, SendToPeer, TunePeer
from pipesd.session.phases import TextPhase
from pipesd.session.places import TENURE_S
from pipesd.session.proof import SALT_BYTES, EdgeProof, Tokens, verifier_of
from pipesd.session.rules import CloudRules, EdgeRules, Patience
from pipesd.values import Objective, Sampling, TrialReport, Verify
from pipesd.vocabulary import BLOCK_TOKENS
from pipesd.wire import frames
from tests.session.helpers import (
    HELLO,
    LEASE_S,
    LEASING,
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
    restore,
    resume,
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


def test_a_report_to_a_cloud_that_does_not_tune_is_answered_with_unsupported() -> None:
    table = CloudTable()
    assert faults(table.hears(frames.Telemetry("balanced", NOTHING))) == [(0, None, "unsupported")]
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


DRAINING = CloudRules(drain_s=5.0, lease_s=LEASE_S)
BYE = frames.Bye("it is stopping")


def drained() -> CloudTable:
    """A cloud that stops at moment 6: of its peers one is in the pass, one waits for it, and one is idle."""
    table = CloudTable(DRAINING, peers=3)
    for peer in range(3):
        table.hears(prompt(1, 2), peer)
        table.picks((10,))
    table.hears(draft(3, 11, ask=4))
    table.hears(draft(3, 12, ask=4), 1)
    assert table.tell(events.StopRequested(), 1.0) == [reply(BYE, 2), ReleaseSequence(2), ClosePeer(2)]
    return table


def test_who_is_owed_a_verdict_when_the_cloud_stops_gets_it_and_is_asked_to_move_then() -> None:
    table = drained()
    assert table.side.deadline() == 6.0
    waiting = run(part(2, (10, 12), 2, sequence=1))
    assert table.picks((11, 20), now=2.0) == [
        reply(verdict(3, 1, 20)),
        reply(BYE),
        ReleaseSequence(0),
        ClosePeer(0),
        waiting,
    ]
    assert table.picks((12, 30), now=3.0) == [
        reply(verdict(3, 1, 30), 1),
        reply(BYE, 1),
        ReleaseSequence(1),
        ClosePeer(1),
    ]
    assert table.side.is_empty
    assert table.side.deadline() is None


def test_when_the_time_is_up_everybody_is_asked_to_move() -> None:
    table = drained()
    assert table.tell(events.DeadlineReached(), 5.9) == []
    assert table.tell(events.DeadlineReached(), 6.0) == [
        reply(BYE),
        ReleaseSequence(0),
        ClosePeer(0),
        reply(BYE, 1),
        ReleaseSequence(1),
        ClosePeer(1),
    ]
    assert table.picks((11, 20), now=7.0) == []
    assert table.side.sessions == []


def test_a_cloud_that_stops_goes_on_with_what_its_last_peers_ask_for_until_then() -> None:
    """A session that asks for more before its verdict is there is owed that too."""
    table = drained()
    table.hears(draft(4, ask=6), now=1.5)
    assert table.picks((11, 20), now=2.0) == [
        reply(verdict(3, 1, 20)),
        run(part(2, (10, 12), 2, sequence=1), part(4, (20,), 1)),
    ]
    table.picks((12, 30), (21,), now=3.0)
    assert table.side.is_empty


def test_nobody_new_is_let_in_while_the_cloud_stops() -> None:
    table = drained()
    refusal = reply(frames.Refuse("stopping", "it is stopping"), 9)
    assert table.tell(events.PeerConnected(9), 2.0) == [refusal, ClosePeer(9)]
    assert not table.side.is_empty


@pytest.mark.parametrize("frame", [frames.Open(1), resume(b"sixteen bytes ok", 3, session=1)])
def test_nor_is_a_session_opened_by_those_who_are_there(frame: frames.EdgeFrame) -> None:
    table = drained()
    busy = frames.Fault(1, "busy", "it is stopping", 2_000)
    assert table.hears(frame, now=2.0) == [reply(busy)]
    assert len(table.side.sessions) == 2


def test_who_has_not_greeted_yet_is_asked_to_move_at_once() -> None:
    table = CloudTable(DRAINING, peers=0)
    table.tell(events.PeerConnected(0))
    assert table.tell(events.StopRequested(), 1.0) == [reply(BYE), ClosePeer(0)]


def test_whose_connection_is_gone_before_the_cloud_stops_is_waited_for_no_longer() -> None:
    table = drained()
    table.tell(events.PeerClosed(0, "gone"), 1.5)
    assert table.picks((11, 20), now=2.0) == [run(part(2, (10, 12), 2, sequence=1))]


# -- edges that come back ---------------------------------------------------------------------------------


def away(table: CloudTable, now: float = 0.0, peer: int = 0) -> bytes:
    """The edge of that peer's session 0 is gone; its lease."""
    assert ClosePeer(peer) in table.tell(events.PeerClosed(peer, "gone"), now)
    return table.leases[peer, 0]


def confirmed(rules: CloudRules = LEASING, peers: int = 1) -> CloudTable:
    """Each peer's session is behind 1, 2 and 10."""
    table = CloudTable(rules, peers=peers)
    for peer in range(peers):
        table.hears(prompt(1, 2), peer)
        table.picks((10,))
    return table


def texts(table: CloudTable) -> list[tuple[int, ...]]:
    return [tuple(session.tokens) for session in table.side.sessions]


def resumed(session: int = 0, *, need: bool, peer: int) -> SendToPeer:
    return reply(frames.Resumed(session, need), peer)


@pytest.mark.parametrize(
    "end",
    [
        events.PeerClosed(0, "gone"),
        events.PeerRejected(0, "malformed", "no frame"),
        events.PeerFrame(0, frames.Fault(None, "protocol", "you lie")),
        events.PeerFrame(0, HELLO),
    ],
)
def test_a_connection_that_ends_badly_leaves_its_sessions_for_a_while(end: events.CloudEvent) -> None:
    table = confirmed()
    assert table.tell(end, 1.0)[-1] == ClosePeer(0)
    assert texts(table) == [(1, 2, 10)]
    assert table.side.is_empty
    assert table.side.deadline() == 1.0 + LEASE_S
    table.meets(1, now=2.0)
    assert table.hears(resume(table.leases[0, 0], 3), 1, now=2.0) == [resumed(need=False, peer=1)]
    assert table.side.deadline() is None


def test_silence_that_was_borne_long_enough_leaves_them_too() -> None:
    rules = replace(LEASING, patience=Patience(ping_after_s=10.0, silent_after_s=20.0))
    table = confirmed(rules)
    table.tell(events.DeadlineReached(), 10.0)
    assert faults(table.tell(events.DeadlineReached(), 20.0)) == [(0, None, "silent")]
    assert texts(table) == [(1, 2, 10)]


def test_who_leaves_in_good_order_leaves_nothing() -> None:
    table = confirmed()
    assert table.hears(frames.Bye("enough")) == [ReleaseSequence(0), ClosePeer(0)]
    assert table.side.sessions == []
    table.meets(1)
    assert table.hears(resume(table.leases[0, 0], 3), 1)[-1] == resumed(need=True, peer=1)


def test_nor_does_a_session_that_was_closed() -> None:
    table = confirmed()
    table.hears(frames.Close(0))
    table.meets(1)
    assert table.hears(resume(table.leases[0, 0], 3), 1)[-1] == resumed(need=True, peer=1)


def test_a_cloud_that_keeps_nothing_grants_no_lease() -> None:
    table = CloudTable(peers=0)
    table.meets(0)
    assert table.hears(frames.Open(0)) == [reply(frames.Opened(0, b""))]
    table.hears(prompt(1, 2))
    assert table.tell(events.PeerClosed(0, "gone")) == [ReleaseSequence(0), ClosePeer(0)]


def test_a_session_is_given_up_when_its_lease_ends() -> None:
    table = confirmed()
    lease = away(table, 1.0)
    assert table.tell(events.DeadlineReached(), 1.0 + LEASE_S - 0.1) == []
    assert table.tell(events.DeadlineReached(), 1.0 + LEASE_S) == [ReleaseSequence(0)]
    assert (table.side.sessions, table.side.deadline()) == ([], None)
    table.meets(1, now=50.0)
    opened, answer = table.hears(resume(lease, 3), 1, now=50.0)
    assert answer == resumed(need=True, peer=1)
    assert opened == reply(frames.Opened(0, table.leases[1, 0]), 1)
    assert table.leases[1, 0] != lease


def test_a_pass_that_ends_after_the_lease_of_who_was_in_it_hurts_nobody() -> None:
    table = confirmed(peers=2)
    table.hears(draft(3, 11, ask=4))
    away(table, 1.0)
    table.tell(events.DeadlineReached(), 1.0 + LEASE_S)
    assert table.hears(draft(3, 12, ask=4), 1) == []
    assert table.picks((11, 20)) == [run(part(2, (10, 12), 2, sequence=1))]


def test_a_lease_that_nobody_granted_opens_a_new_session() -> None:
    table = confirmed(peers=2)
    away(table)
    answer = table.hears(resume(b"sixteen bytes ok", 3, session=5), 1)
    assert answer == [reply(frames.Opened(5, table.leases[1, 5]), 1), resumed(5, need=True, peer=1)]
    assert texts(table) == [(1, 2, 10), (1, 2, 10), ()]
    table.hears(restore((True, (1, 2)), (False, (10,)), start=2, most=50, session=5), 1)
    assert table.hears(draft(3, ask=4, epoch=2, session=5), 1) != []


def test_a_lease_is_good_for_one_session_at_a_time() -> None:
    """Whoever shows it later has it."""
    table = confirmed()
    lease = away(table)
    table.meets(1)
    table.meets(2)
    assert table.hears(resume(lease, 3), 1) == [resumed(need=False, peer=1)]
    assert table.hears(resume(lease, 3, epoch=3), 2) == [resumed(need=False, peer=2)]
    assert len(table.side.sessions) == 1


def test_a_lease_that_is_shown_again_on_the_same_connection_moves_the_session_to_its_new_number() -> None:
    table = confirmed()
    lease = table.leases[0, 0]
    assert table.hears(resume(lease, 3, session=8)) == [resumed(8, need=False, peer=0)]
    assert table.hears(draft(3, 11, ask=4)) == []
    assert table.hears(draft(3, 11, ask=4, epoch=2, session=8)) == [run(part(2, (10, 11), 2))]


def test_what_its_old_connection_still_says_of_a_session_that_was_taken_over_is_passed_over() -> None:
    table = confirmed()
    lease = table.leases[0, 0]
    table.hears(draft(3, 11, ask=4))
    table.meets(1)
    assert table.hears(resume(lease, 3), 1) == [resumed(need=False, peer=1)]
    late = draft(4, 12, ask=5), prompt(7, base=2, epoch=9), frames.Cancel(0, 9), restore(epoch=9)
    for frame in late:
        assert table.hears(frame) == []
    assert table.picks((11, 20)) == [], "the pass was the old connection's"
    assert table.hears(frames.Close(0)) == []
    assert table.tell(events.PeerClosed(0, "gone")) == [ClosePeer(0)]
    assert texts(table) == [(1, 2, 10)]
    assert table.hears(draft(3, 13, ask=4, epoch=2), 1) == [run(part(2, (10, 13), 2))]
    assert table.picks((13, 14)) == [reply(verdict(3, 1, 14, epoch=2), 1)]


def test_who_takes_over_and_needs_the_whole_text_is_told_nothing_of_the_old_answer() -> None:
    table = confirmed()
    table.hears(draft(3, 11, ask=4))
    table.meets(1)
    assert table.hears(resume(table.leases[0, 0], 3, turn=5, epoch=6), 1) == [resumed(need=True, peer=1)]
    table.hears(restore((True, (1, 2)), (False, (10,)), epoch=6, start=2, most=50), 1)
    assert table.picks((11, 20)) == []
    assert table.hears(draft(3, 12, ask=4, epoch=6), 1) == [run(part(2, (10, 12), 2))]


@pytest.mark.parametrize("is_open", [True, False])
def test_a_session_is_taken_up_under_a_number_that_is_free(is_open: bool) -> None:
    table = confirmed()
    lease = away(table)
    table.meets(1)
    if is_open:
        table.hears(frames.Open(4), 1)
    answer = table.hears(resume(lease, 3, session=4), 1)
    assert (faults(answer) == [(1, None, "protocol")]) == is_open
    assert (1, 2, 10) in texts(table)


def test_sessions_that_are_taken_up_are_sessions_of_that_connection() -> None:
    table = confirmed(replace(LEASING, edge_sessions_max=1))
    lease = away(table)
    table.meets(1)
    table.hears(frames.Open(4), 1)
    assert faults(table.hears(resume(lease, 3), 1)) == [(1, None, "busy")]
    assert (1, 2, 10) in texts(table)


def test_where_all_sessions_are_taken_the_one_that_is_away_longest_makes_room() -> None:
    table = confirmed(replace(LEASING, sessions_max=3), peers=3)
    first, second = away(table, 1.0, peer=1), away(table, 2.0, peer=0)
    table.meets(3)
    assert table.hears(frames.Open(0), 3) == [
        ReleaseSequence(1),
        reply(frames.Opened(0, table.leases[3, 0]), 3),
    ]
    table.meets(4)
    assert table.hears(resume(second, 3), 4) == [resumed(need=False, peer=4)]
    assert faults(table.hears(resume(first, 3, session=1), 4)) == [(4, 1, "busy")]
    assert len(table.side.sessions) == 3


def test_who_finds_no_room_with_its_lease_may_open_and_bring_the_text_along_later() -> None:
    table = confirmed(replace(LEASING, sessions_max=1))
    table.meets(1)
    assert faults(table.hears(resume(b"unknown to us", 3), 1)) == [(1, 0, "busy")]
    table.hears(frames.Close(0))
    assert table.hears(frames.Close(0), 1) == []
    assert table.hears(frames.Open(0), 1) == [reply(frames.Opened(0, table.leases[1, 0]), 1)]
    table.hears(restore((True, (1, 2)), start=2, most=50), 1)
    assert table.hears(draft(2, ask=3, epoch=2), 1) == [run(part(0, (1, 2), 1, chunk=True, sequence=1))]


def test_a_text_that_is_brought_along_is_held_to_what_prompts_are() -> None:
    table = CloudTable(welcome=grant(context_tokens=5, greedy_only=True), sessions=3)
    assert faults(table.hears(restore((True, (1,) * 5), start=2, most=50))) == [(0, 0, "context")]
    warm = structs.replace(
        restore((True, (1, 2)), start=2, most=50, session=1), sampling=Sampling(temperature=0.5)
    )
    assert faults(table.hears(warm)) == [(0, 1, "sampling")]
    assert table.hears(restore((True, (1,) * 4), start=2, most=50, session=2)) == []
    assert len(table.side.sessions) == 1


def test_texts_beyond_what_may_wait_are_told_to_come_later() -> None:
    table = CloudTable(CloudRules(prefill_tokens_max=4, busy_retry_s=1.5), peers=3)
    table.hears(prompt(1, 2, 3, 4, 5, 6))
    table.hears(prompt(1, 2), 1)
    whole = (True, (1, 2)), (False, (3,))
    busy = frames.Fault(0, "busy", "prompts of 5 tokens wait to be read", 1_500)
    assert table.hears(restore(*whole, start=2, most=50), 2) == [reply(busy, 2)]
    assert table.hears(draft(3, ask=4, epoch=2), 2) == []
    table.picks((10,))
    assert table.hears(restore(*whole, epoch=3, start=2, most=50), 2) == []
    table.hears(draft(3, ask=4, epoch=3), 2)
    whole_slices = part(0, (1, 2), 0, chunk=True, sequence=2), part(2, (3,), 1, sequence=2)
    assert table.picks((10,))[-1] == run(*whole_slices)


def test_an_engine_that_is_lost_while_an_edge_is_away_costs_the_cache_only() -> None:
    table = confirmed()
    table.hears(draft(3, 11, ask=4))
    lease = away(table)
    assert table.tell(lost()) == []
    table.meets(1)
    assert table.hears(resume(lease, 3), 1) == [resumed(need=False, peer=1)]
    again = part(0, (1, 2), 0, chunk=True, sequence=1), part(2, (10, 11), 2, sequence=1)
    assert table.hears(draft(3, 11, ask=4, epoch=2), 1) == [run(*again)]


def test_an_engine_that_fails_in_the_pass_of_who_is_away_ends_that_session() -> None:
    table = confirmed()
    table.hears(draft(3, 11, ask=4))
    lease = away(table)
    assert faults(table.tell(events.PassFailed("broken"))) == []
    assert table.side.sessions == []
    table.meets(1)
    assert table.hears(resume(lease, 3), 1)[-1] == resumed(need=True, peer=1)


def test_who_is_away_loses_its_place_to_who_waits() -> None:
    table = CloudTable(replace(LEASING, kv_sequences=1), peers=2)
    table.hears(prompt(1, 2), now=1.0)
    table.picks((10,), now=1.0)
    lease = away(table, 1.0)
    table.hears(prompt(3, 4), 1, now=1.0 + TENURE_S)
    table.picks((20,), now=5.0)
    table.meets(2, now=5.0)
    table.hears(resume(lease, 3), 2, now=5.0)
    again = part(0, (1, 2), 0, chunk=True), part(2, (10, 11), 2)
    assert table.hears(draft(3, 11, ask=4, epoch=2), 2, now=6.0) == [run(*again, evicted=1)]


def test_so_does_who_left_in_the_middle_of_its_prompt() -> None:
    table = CloudTable(replace(LEASING, kv_sequences=1), grant(chunk_tokens=2), peers=2)
    table.hears(prompt(1, 2, 3, 4))
    away(table)
    assert table.hears(prompt(5, 6), 1) == []
    assert table.picks(()) == [run(part(0, (5, 6), 1, chunk=True), evicted=1)]


# -- whose sessions they are ------------------------------------------------------------------------------

ANN, BOB = AccessToken("ann", "a" * 43), AccessToken("bob", "b" * 43)


def guarded(rules: CloudRules = LEASING, **limits: Limits) -> CloudTable:
    """A cloud that knows these two tokens; ann is there as peer 0 with a text of 1, 2 and 10."""
    table = CloudTable(rules, peers=0)
    verifiers = {
        token.name: verifier_of(token.secret, bytes(SALT_BYTES), limits.get(token.name, Limits()))
        for token in (ANN, BOB)
    }
    table.tell(events.TokensRead(Tokens(verifiers, b"fake")))
    enters(table, 0, ANN)
    table.hears(frames.Open(0))
    table.hears(prompt(1, 2))
    table.picks((10,))
    return table


def enters(table: CloudTable, peer: int, token: AccessToken) -> frames.Welcome:
    proof = EdgeProof(token, f"edge{peer}")
    table.tell(events.PeerConnected(peer, nonce=f"cloud{peer}"))
    (challenge,) = table.hears(frames.Hello(frames.PROTOCOL_VERSION, "toy", 100, proof.first), peer)
    assert isinstance(challenge, SendToPeer)
    assert isinstance(challenge.frame, frames.Challenge)
    (said,) = table.hears(frames.Proof(proof.answer(challenge.frame.credential)), peer)
    assert isinstance(said, SendToPeer)
    assert isinstance(said.frame, frames.Welcome)
    proof.check(said.frame.credential)
    return said.frame


def test_a_lease_is_good_for_the_token_that_opened_the_session() -> None:
    table = guarded()
    lease = away(table)
    enters(table, 1, ANN)
    assert table.hears(resume(lease, 3), 1) == [resumed(need=False, peer=1)]


@pytest.mark.parametrize("is_away", [True, False])
def test_anothers_lease_is_as_good_as_none(is_away: bool) -> None:
    """Nothing tells who shows it that there is such a session."""
    table = guarded()
    lease = away(table) if is_away else table.leases[0, 0]
    enters(table, 1, BOB)
    answer = table.hears(resume(lease, 3), 1)
    assert answer == [reply(frames.Opened(0, table.leases[1, 0]), 1), resumed(need=True, peer=1)]
    assert texts(table) == [(1, 2, 10), ()]
    assert table.leases[1, 0] != lease
    enters(table, 2, ANN)
    assert table.hears(resume(lease, 3, epoch=3), 2) == [resumed(need=False, peer=2)]


def test_whose_token_is_revoked_is_sent_away_and_another_stays() -> None:
    table = guarded()
    enters(table, 1, BOB)
    bob = verifier_of(BOB.secret, bytes(SALT_BYTES), Limits())
    answer = table.tell(events.TokensRead(Tokens({"bob": bob}, b"fake")))
    assert (faults(answer), answer[-1]) == ([(0, None, "auth")], ClosePeer(0))
    assert table.hears(frames.Ping(1), 1) == [reply(frames.Pong(1), 1)]


def test_all_who_hold_a_token_have_so_many_sessions_together() -> None:
    table = guarded(ann=Limits(sessions_max=2))
    enters(table, 1, ANN)
    enters(table, 2, BOB)
    table.hears(frames.Open(0), 1)
    full = frames.Fault(1, "busy", "all 2 sessions of this token are open", 2_000)
    assert table.hears(frames.Open(1), 1) == [reply(full, 1)]
    for session in range(3):
        assert table.hears(frames.Open(session), 2) != []
    assert len(table.side.sessions) == 4
    table.hears(frames.Close(0))
    table.hears(frames.Close(1), 1)
    assert table.hears(frames.Open(1), 1) == [reply(frames.Opened(1, table.leases[1, 1]), 1)]


def test_of_a_holder_who_has_no_session_left_the_one_that_is_away_longest_makes_room() -> None:
    table = guarded(ann=Limits(sessions_max=1))
    enters(table, 1, BOB)
    table.hears(frames.Open(0), 1)
    away(table, 1.0, peer=1)
    lease = away(table, 2.0)
    enters(table, 2, ANN)
    assert table.hears(frames.Open(5), 2) == [
        ReleaseSequence(0),
        reply(frames.Opened(5, table.leases[2, 5]), 2),
    ]
    assert table.hears(resume(lease, 3), 2) != [resumed(need=False, peer=2)]
    assert len(table.side.sessions) == 2


def test_a_token_may_grant_less_context() -> None:
    table = guarded(ann=Limits(context_tokens=8))
    assert enters(table, 1, ANN).context_tokens == 8
    assert enters(table, 2, BOB).context_tokens == WELCOME.context_tokens
    table.hears(frames.Open(0), 1)
    assert faults(table.hears(prompt(*[1] * 8), 1)) == [(1, 0, "context")]
    table.hears(frames.Open(0), 2)
    assert faults(table.hears(prompt(*[1] * 8), 2)) == []


def test_who_has_used_up_what_a_token_may_waits_and_is_served_then() -> None:
    table = guarded(ann=Limits(tokens_per_minute=2))
    table.hears(draft(3, ask=5), now=1.0)
    table.picks((11,), now=1.0)
    assert table.text() == (1, 2, 10, 11)
    assert table.tell(events.DeadlineReached(), 29.9) == []
    assert table.tell(events.DeadlineReached(), 30.1) == [run(part(3, (11,), 1))]


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
