"""One session at the cloud: what the edge says, what the target picks, and what the edge is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipesd.session import events
from pipesd.session.cloud import CloudSession
from pipesd.session.commands import ClosePeer, RunPass, SendToPeer
from pipesd.session.phases import TextPhase
from pipesd.session.rules import ASKS_MAX, CloudRules
from pipesd.values import Finish, Slice
from pipesd.wire import frames
from tests.session.helpers import (
    END,
    LEASING,
    TOKENS,
    CloudTable,
    draft,
    faults,
    grant,
    part,
    prompt,
    reply,
    restore,
    resume,
    run,
    verdict,
)


def begun(most: int = 50, **changes: int) -> CloudTable:
    """A cloud that has confirmed 10 behind the prompt 1, 2, 3."""
    table = CloudTable(welcome=grant(**changes))
    assert table.hears(prompt(1, 2, 3, most=most)) == [run(part(0, (1, 2, 3), 1, chunk=True))]
    assert table.picks((10,)) == [reply(verdict(3, 0, 10))]
    assert table.phase() is TextPhase.DRAFTING
    return table


def expelled(table: CloudTable, frame: frames.EdgeFrame) -> frames.Fault:
    fault, *_, close = table.hears(frame)
    assert isinstance(fault, SendToPeer)
    assert isinstance(fault.frame, frames.Fault)
    assert close == ClosePeer(0)
    assert table.side.is_empty
    return fault.frame


# -- drafts and verdicts ----------------------------------------------------------------------------------


def test_prompt_and_drafts_may_come_before_opened_is_heard() -> None:
    table = CloudTable(sessions=0)
    assert table.hears(frames.Open(0)) == [reply(frames.Opened(0))]
    assert table.hears(prompt(1, 2, 3)) == [run(part(0, (1, 2, 3), 1, chunk=True))]
    assert table.hears(draft(3, 10)) == []
    assert table.hears(draft(4, 11, ask=5)) == []
    assert table.picks((10,)) == [reply(verdict(3, 0, 10)), run(part(3, (10, 11), 2))]
    assert table.picks((11, 12)) == [reply(verdict(4, 1, 12))]
    assert table.text() == (1, 2, 3, 10, 11, 12)
    assert table.phase() is TextPhase.DRAFTING


def test_pass_takes_every_draft_that_has_arrived() -> None:
    table = begun()
    assert table.hears(draft(4, 11, 12, ask=0)) == []
    assert table.hears(draft(6, 13, ask=7)) == [run(part(3, (10, 11, 12, 13), 4))]
    assert table.hears(draft(7, 14, 15, ask=8)) == []
    assert table.picks((11, 12, 13, 14)) == [reply(verdict(4, 3, 14))]
    assert table.phase() is TextPhase.DRAFTING


def test_own_pick_that_equals_the_draft_ahead_keeps_the_rest() -> None:
    table = begun()
    table.hears(draft(4, 11, ask=5))
    table.hears(draft(5, 12, 13, ask=7))
    assert table.picks((11, 12)) == [reply(verdict(4, 1, 12)), run(part(5, (12, 13), 2))]
    assert table.picks((13, 14)) == [reply(verdict(6, 1, 14))]
    assert table.phase() is TextPhase.DRAFTING


def test_contradiction_kills_the_epoch() -> None:
    table = begun()
    table.hears(draft(4, 11, 12, ask=6))
    assert table.picks((11, 50, 13)) == [reply(verdict(4, 1, 50))]
    assert table.hears(draft(6, 13, 14, ask=8)) == []
    assert table.phase() is TextPhase.DRAFTING
    assert table.hears(draft(6, 60, ask=7, epoch=2)) == [run(part(5, (50, 60), 2))]
    assert table.phase() is TextPhase.AWAITING


def test_drafts_ahead_of_a_contradicting_own_pick_die_too() -> None:
    table = begun()
    table.hears(draft(4, 11, ask=5))
    table.hears(draft(5, 12, ask=6))
    assert table.picks((11, 50)) == [reply(verdict(4, 1, 50))]
    assert table.phase() is TextPhase.DRAFTING


def test_drafts_below_the_text_are_compared_with_it() -> None:
    table = begun()
    assert table.hears(draft(3, 10, 11, ask=5)) == [run(part(3, (10, 11), 2))]
    table = begun()
    assert table.hears(draft(3, 70, 11, ask=5)) == []
    assert table.hears(draft(5, 12, ask=6)) == []
    assert table.phase() is TextPhase.DRAFTING


def test_ask_for_the_text_that_is_known_is_answered_already() -> None:
    table = begun()
    assert table.hears(draft(3, 10, ask=4)) == []
    assert table.phase() is TextPhase.DRAFTING


def test_ask_for_one_more_token_than_drafted() -> None:
    table = begun()
    assert table.hears(draft(4, 11, ask=6)) == [run(part(3, (10, 11), 2))]
    assert table.picks((50, 0)) == [reply(verdict(4, 0, 50))]
    table = begun()
    table.hears(draft(4, 11, ask=7))
    assert table.picks((11, 12)) == [reply(verdict(4, 1, 12)), run(part(5, (12,), 1))]
    assert table.phase() is TextPhase.AWAITING


def test_target_runs_alone_for_as_long_as_asked() -> None:
    table = begun()
    assert table.hears(draft(4, ask=6)) == [run(part(3, (10,), 1))]
    assert table.picks((11,)) == [reply(verdict(4, 0, 11)), run(part(4, (11,), 1))]
    assert table.picks((12,)) == [reply(verdict(5, 0, 12))]
    assert table.phase() is TextPhase.DRAFTING


def test_lower_epochs_are_ignored() -> None:
    table = begun()
    table.hears(draft(4, 11, epoch=3))
    assert table.hears(draft(4, 50, ask=9, epoch=2)) == []
    assert table.hears(draft(5, 12, ask=6, epoch=3)) == [run(part(3, (10, 11, 12), 3))]


def test_higher_epoch_forgets_unjudged_drafts_and_asks() -> None:
    table = begun()
    table.hears(draft(4, 11, 12))
    assert table.hears(draft(4, 13, ask=5, epoch=2)) == [run(part(3, (10, 13), 2))]
    assert table.picks((13, 14)) == [reply(verdict(4, 1, 14, epoch=2))]


def test_new_epoch_during_a_pass_drops_its_result() -> None:
    table = begun()
    table.hears(draft(4, 11, ask=5))
    assert table.hears(draft(4, 12, ask=5, epoch=2)) == []
    assert table.picks((11, 12)) == [run(part(3, (10, 12), 2))]
    assert table.phase() is TextPhase.AWAITING


def test_verdict_tells_when_drafts_came_and_how_long_it_took() -> None:
    table = begun()
    table.hears(draft(4, 11, 12), now=1.0)
    table.hears(draft(6, 13, ask=7), now=1.5)
    (answer,) = table.side.handle(events.PassDone(((11, 12, 13, 14),)), 1.75)
    assert isinstance(answer, SendToPeer)
    assert answer.frame == frames.Verdict(
        0, 1, 4, 3, (14,), arrivals=((2, 1_000_000), (1, 1_500_000)), queue_us=0, pass_us=250_000, judged=3
    )


def told(table: CloudTable, *picks: tuple[int, ...], now: float = 0.0) -> frames.Verdict:
    """The only verdict of the pass that is done, with what it says about that pass."""
    answer = table.side.handle(events.PassDone(picks), now)
    (frame,) = (command.frame for command in answer if isinstance(command, SendToPeer))
    assert isinstance(frame, frames.Verdict)
    return frame


def test_an_ask_that_came_during_a_pass_was_due_from_then_on() -> None:
    table = begun()
    table.hears(draft(4, 11, ask=5), now=1.0)
    table.hears(draft(5, 12, 13, ask=7), now=1.25)
    assert told(table, (11, 12), now=2.0).queue_us == 0
    said = told(table, (13, 14), now=3.0)
    assert (said.queue_us, said.pass_us) == (750_000, 1_000_000)


def test_an_ask_that_one_pass_has_served_is_due_anew_behind_it() -> None:
    table = begun()
    table.hears(draft(4, ask=7), now=1.0)
    table.hears(draft(4, ask=8), now=1.25)
    waits = [told(table, (token,), now=2.0 + at).queue_us for at, token in enumerate((11, 12, 13, 14))]
    assert waits == [0, 0, 0, 0]
    assert table.phase() is TextPhase.DRAFTING


def test_an_ask_of_a_new_epoch_waits_for_the_pass_whose_result_it_drops() -> None:
    table = begun()
    table.hears(draft(4, 11, ask=5), now=1.0)
    table.hears(draft(4, 12, ask=5, epoch=2), now=1.4)
    table.hears(draft(5, 13, ask=7, epoch=2), now=1.6)
    assert table.picks((11, 12), now=2.0) == [run(part(3, (10, 12, 13), 3))]
    assert told(table, (12, 13, 14), now=3.0).queue_us == 600_000


def test_an_ask_that_the_pass_answers_leaves_no_wait_behind() -> None:
    table = begun()
    table.hears(draft(4, 11, ask=5), now=1.0)
    table.hears(draft(5, ask=6), now=1.25)
    assert told(table, (11, 12), now=2.0).queue_us == 0
    assert table.hears(draft(6, 13, ask=7), now=5.0) == [run(part(5, (12, 13), 2))]
    assert told(table, (13, 14), now=6.0).queue_us == 0


def test_drafts_that_were_known_already_are_stamped_too() -> None:
    table = begun()
    table.hears(draft(3, 10), now=1.0)
    table.hears(draft(4, ask=5), now=1.5)
    table.hears(draft(4, 11, 12, ask=6), now=2.0)
    assert told(table, (11,), now=3.0).arrivals == ((1, 1_000_000), (2, 2_000_000))
    assert told(table, (12, 13), now=3.0).arrivals == ()


def test_drafts_of_a_dead_epoch_are_not_stamped() -> None:
    table = begun()
    table.hears(draft(3, 10), now=1.0)
    table.hears(draft(4, 11, ask=5, epoch=2), now=2.0)
    table.hears(draft(4, 12, ask=5), now=2.5)
    assert told(table, (11, 12), now=3.0).arrivals == ((1, 2_000_000),)
    table.hears(draft(6, 50, ask=7, epoch=2), now=3.0)
    assert told(table, (13, 14), now=3.0).arrivals == ((1, 3_000_000),)
    table.hears(draft(7, 15, epoch=2), now=4.0)
    table.hears(draft(7, 16, ask=8, epoch=3), now=5.0)
    assert told(table, (16, 17), now=6.0).arrivals == ((1, 5_000_000),)


def test_stamps_are_no_more_than_the_window() -> None:
    """Of drafts that are known already there may be any number between two verdicts."""
    table = begun(window_tokens=4)
    known = tuple(range(11, 21))
    table.hears(draft(4, ask=4 + len(known)))
    for token in known:
        table.picks((token,))
    for at, token in enumerate(known):
        assert table.hears(draft(4 + at, token)) == []
    table.hears(draft(14, 21, ask=15))
    assert len(told(table, (21, 22)).arrivals) == 4


def test_verdict_says_how_many_drafts_were_judged_whatever_became_of_them() -> None:
    table = begun(most=4)
    table.hears(draft(4, 11, 12, 13, 14, ask=8))
    assert (told(table, (50, 0, 0, 0)).judged, table.text()[4:]) == (3, (50,))
    table.hears(draft(5, ask=6, epoch=2))
    assert told(table, (12,)).judged == 0


def riding() -> CloudSession:
    """It has confirmed 10 behind 1, 2, 3 and owes nothing, but has drafts; 10 is not evaluated yet."""
    session = CloudSession(0, 0, grant())
    session.sit(0, 0, None)
    session.prompt(prompt(1, 2, 3), 0.0)
    session.take_slices(9, 9, 0.0)
    session.settle((10,), 0.0)
    assert session.draft(draft(4, 11, 12), 0.0) == ()
    assert session.may_ride
    return session


@pytest.mark.parametrize(
    ("room", "slices"), [(1, ()), (2, (part(3, (10, 11), 2),)), (3, (part(3, (10, 11, 12), 3),))]
)
def test_drafts_that_nobody_asked_about_need_room_for_one_of_them(
    room: int, slices: tuple[Slice, ...]
) -> None:
    session = riding()
    assert session.take_slices(room, 9, 0.0) == slices
    assert session.may_ride == (not slices)


def test_who_is_owed_a_verdict_needs_no_room_for_a_draft() -> None:
    session = riding()
    assert session.draft(draft(6, ask=6), 0.0) == ()
    assert session.take_slices(1, 9, 0.0) == (part(3, (10,), 1),)


def test_drafts_count_though_nobody_looks_at_what_is_answered() -> None:
    session = riding()
    session.draft(draft(6, 13, ask=7), 0.0)
    assert session.is_due
    session.draft(draft(4, 50, ask=5, epoch=2), 0.0)
    assert session.take_slices(9, 9, 0.0) == (part(3, (10, 50), 2),)
    session.settle((50, 51), 0.0)
    again = session.draft(draft(5, 60, ask=7, epoch=3), 0.0)
    assert again == (verdict(5, 0, 51, epoch=3),)


# -- verdicts that were lost ------------------------------------------------------------------------------


def ran_ahead() -> CloudTable:
    """An edge asked for three tokens and heard the first only; the text is 1, 2, 3, 10, 11, 12, 13."""
    table = begun()
    table.hears(draft(4, ask=7))
    table.picks((11,))
    table.picks((12,))
    assert table.picks((13,)) == [reply(verdict(6, 0, 13))]
    return table


def test_new_epoch_below_the_text_is_told_the_lost_tokens_again() -> None:
    table = ran_ahead()
    assert table.hears(draft(5, 12, 13, 14, ask=8, epoch=2)) == [
        reply(verdict(5, 0, 12, 13, epoch=2)),
        run(part(6, (13, 14), 2)),
    ]
    assert table.picks((14, 15)) == [reply(verdict(7, 1, 15, epoch=2))]
    assert table.phase() is TextPhase.DRAFTING


def test_new_epoch_that_contradicts_the_lost_tokens_is_told_them_and_dies() -> None:
    table = ran_ahead()
    assert table.hears(draft(5, 70, ask=6, epoch=2)) == [reply(verdict(5, 0, 12, 13, epoch=2))]
    assert table.hears(draft(6, 71, ask=7, epoch=2)) == []
    assert table.hears(draft(7, 14, ask=8, epoch=3)) == [run(part(6, (13, 14), 2))]


def test_ask_of_a_new_epoch_that_the_lost_tokens_answer_is_answered_by_them() -> None:
    table = ran_ahead()
    assert table.hears(draft(5, ask=7, epoch=2)) == [reply(verdict(5, 0, 12, 13, epoch=2))]
    assert table.phase() is TextPhase.DRAFTING


def test_lost_end_is_told_again() -> None:
    table = begun()
    table.hears(draft(4, ask=9))
    assert table.picks((END,)) == [reply(verdict(4, 0, END, finish="stop"))]
    assert table.hears(draft(4, 11, ask=5, epoch=2)) == [
        reply(verdict(4, 0, END, finish="stop", epoch=2)),
    ]
    assert table.hears(draft(5, 12, ask=6, epoch=2)) == []
    assert table.hears(draft(5, ask=6, epoch=3)) == [reply(verdict(5, 0, finish="stop", epoch=3))]
    assert table.phase() is TextPhase.IDLE


# -- ends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "context", "judged", "picks", "told"),
    [
        (50, 100, (11, END, 12), (11, END, 13, 14), verdict(4, 2, finish="stop")),
        (50, 100, (11, 12), (11, END, 13), verdict(4, 1, END, finish="stop")),
        (50, 100, (11, 12), (11, 12, END), verdict(4, 2, END, finish="stop")),
        (3, 100, (11, 12), (11, 12, 13), verdict(4, 2, finish="length")),
        (3, 100, (11, 12), (11, 50, 13), verdict(4, 1, 50, finish="length")),
        (4, 100, (11, 12), (11, 12, 13), verdict(4, 2, 13, finish="length")),
        (3, 100, (11, END), (11, END, 13), verdict(4, 2, finish="stop")),
        (3, 100, (11, 12), (11, 12, END), verdict(4, 2, finish="length")),
        (50, 6, (11, 12), (11, 12, 13), verdict(4, 2, finish="context")),
        (50, 7, (11, 12), (11, 12, 13), verdict(4, 2, 13, finish="context")),
        (4, 7, (11, 12), (11, 12, 13), verdict(4, 2, 13, finish="length")),
    ],
)
def test_pass_is_cut_where_the_text_ends(
    most: int, context: int, judged: tuple[int, ...], picks: tuple[int, ...], told: frames.Verdict
) -> None:
    table = begun(most, context_tokens=context)
    assert table.hears(draft(4, *judged, ask=9)) == [run(part(3, (10, *judged), len(judged) + 1))]
    assert table.picks(picks) == [reply(told)]
    assert table.text() == (1, 2, 3, 10, *judged[: told.accepted], *told.tokens)
    assert table.phase() is TextPhase.IDLE


def test_drafts_beyond_the_limit_are_not_evaluated() -> None:
    table = begun(3)
    assert table.hears(draft(4, 11, 12, 13, 14, ask=8)) == [run(part(3, (10, 11, 12), 3))]
    assert table.picks((11, 12, 13)) == [reply(verdict(4, 2, finish="length"))]


def test_one_token_is_the_shortest_answer() -> None:
    table = CloudTable()
    table.hears(prompt(1, most=1))
    assert table.picks((10,)) == [reply(verdict(1, 0, 10, finish="length"))]
    assert table.phase() is TextPhase.IDLE


# -- prompts ----------------------------------------------------------------------------------------------


def test_long_prompt_is_evaluated_chunk_by_chunk() -> None:
    table = CloudTable(welcome=grant(chunk_tokens=2))
    assert table.hears(prompt(1, 2, 3, 4, 5)) == [run(part(0, (1, 2), 0, chunk=True))]
    assert table.picks(()) == [run(part(2, (3, 4), 0, chunk=True))]
    assert table.picks(()) == [run(part(4, (5,), 1, chunk=True))]
    assert table.picks((10,)) == [reply(verdict(5, 0, 10))]


def test_next_prompt_evaluates_what_the_cache_lacks() -> None:
    table = begun()
    assert table.hears(prompt(7, 8, epoch=2, base=4)) == [
        run(part(3, (10,), 0), part(4, (7, 8), 1, chunk=True))
    ]
    assert table.picks((), (20,)) == [reply(verdict(6, 0, 20, epoch=2))]
    assert table.text() == (1, 2, 3, 10, 7, 8, 20)


@pytest.mark.parametrize(
    ("base", "slices"),
    [
        (6, [part(5, (10,), 0), part(6, (7,), 1, chunk=True)]),
        (5, [part(5, (7,), 1, chunk=True)]),
        (4, [part(4, (7,), 1, chunk=True)]),
        (2, [part(2, (7,), 1, chunk=True)]),
        (0, [part(0, (7,), 1, chunk=True)]),
    ],
)
def test_prompt_that_takes_text_back_on_a_border(base: int, slices: list[object]) -> None:
    table = CloudTable(welcome=grant(chunk_tokens=2))
    table.hears(prompt(1, 2, 3, 4, 5, most=1))
    for picks in ((), (), (10,)):
        table.picks(picks)
    assert table.hears(prompt(7, epoch=2, base=base)) == [run(*slices)]  # type: ignore[arg-type]
    assert table.text() == (*(1, 2, 3, 4, 5, 10)[:base], 7)


def test_prompt_that_takes_text_back_inside_a_chunk_recomputes_that_chunk() -> None:
    table = CloudTable(welcome=grant(chunk_tokens=2))
    table.hears(prompt(1, 2, 3, 4, 5, most=1))
    for picks in ((), (), (10,)):
        table.picks(picks)
    again = part(2, (3,), 0, chunk=True), part(3, (7,), 1, chunk=True)
    assert table.hears(prompt(7, epoch=2, base=3)) == [run(*again)]
    assert table.phase() is TextPhase.AWAITING


def test_prompt_replaces_a_running_answer_and_drops_its_pass() -> None:
    table = begun()
    table.hears(draft(4, 11, ask=5))
    assert table.hears(prompt(7, epoch=2, base=2)) == []
    again = part(0, (1, 2), 0, chunk=True), part(2, (7,), 1, chunk=True)
    assert table.picks((11, 12)) == [run(*again)]
    assert table.picks((), (20,)) == [reply(verdict(3, 0, 20, epoch=2))]
    assert table.text() == (1, 2, 7, 20)


def test_cancel_during_a_pass_drops_its_result() -> None:
    table = begun()
    table.hears(draft(4, 11, ask=5))
    assert table.hears(frames.Cancel(0, 2)) == []
    assert table.picks((11, 12)) == []
    assert table.text() == (1, 2, 3, 10)
    assert table.phase() is TextPhase.IDLE
    assert table.hears(prompt(7, epoch=3, base=4)) == [run(part(3, (10,), 0), part(4, (7,), 1, chunk=True))]


def test_cancel_while_a_long_prompt_is_evaluated_keeps_what_is_done() -> None:
    table = CloudTable(welcome=grant(chunk_tokens=2))
    table.hears(prompt(1, 2, 3, 4, 5))
    table.picks(())
    table.hears(frames.Cancel(0, 2))
    assert table.picks(()) == []
    assert table.hears(prompt(6, epoch=3, base=5)) == [run(part(2, (3, 4), 0, chunk=True))]


# -- edges that come back ---------------------------------------------------------------------------------


def away(table: CloudTable) -> bytes:
    """The edge of session 0 is gone, and somebody calls as peer 1; the lease."""
    assert ClosePeer(0) in table.tell(events.PeerClosed(0, "gone"))
    table.meets(1)
    return table.leases[0, 0]


def leased(most: int = 50, **changes: int) -> CloudTable:
    """As ``begun``, with a lease."""
    table = CloudTable(LEASING, grant(**changes))
    table.hears(prompt(1, 2, 3, most=most))
    table.picks((10,))
    return table


def told_back(frame: frames.CloudFrame) -> SendToPeer:
    return reply(frame, 1)


def test_with_a_good_lease_it_goes_on_from_the_cache() -> None:
    table = leased()
    lease = away(table)
    assert table.hears(resume(lease, 4, session=7), 1) == [told_back(frames.Resumed(7, need=False))]
    assert table.phase() is TextPhase.DRAFTING
    assert table.hears(draft(4, 11, ask=5, epoch=2, session=7), 1) == [run(part(3, (10, 11), 2))]
    assert table.picks((11, 12)) == [told_back(verdict(4, 1, 12, epoch=2, session=7))]
    assert table.text() == (1, 2, 3, 10, 11, 12)


def test_tokens_that_died_on_the_way_are_said_again() -> None:
    table = leased()
    table.hears(draft(4, 11, 12, ask=6))
    table.picks((11, 12, 13))
    lease = away(table)
    assert table.hears(resume(lease, 3), 1) == [
        told_back(frames.Resumed(0, need=False)),
        told_back(verdict(3, 0, 10, 11, 12, 13, epoch=2)),
    ]
    assert table.phase() is TextPhase.DRAFTING


@pytest.mark.parametrize(("confirmed", "news"), [(3, (10, 11, END)), (5, (END,)), (6, ())])
def test_so_is_the_end_of_the_answer(confirmed: int, news: tuple[int, ...]) -> None:
    table = leased()
    table.hears(draft(4, 11, ask=5))
    table.picks((11, END))
    lease = away(table)
    assert table.hears(resume(lease, confirmed), 1) == [
        told_back(frames.Resumed(0, need=False)),
        told_back(verdict(confirmed, 0, *news, finish="stop", epoch=2)),
    ]
    assert table.phase() is TextPhase.IDLE


def test_an_answer_that_was_cancelled_goes_on_with_no_word() -> None:
    """The edge may know less of the text: its next prompt says where it goes on."""
    table = leased()
    table.hears(frames.Cancel(0, 2))
    lease = away(table)
    assert table.hears(resume(lease, 3, epoch=3, turn=2), 1) == [told_back(frames.Resumed(0, need=False))]
    assert table.hears(prompt(7, base=3, epoch=4), 1) == [run(part(3, (7,), 1, chunk=True))]


def test_who_is_away_is_owed_nothing_and_its_drafts_are_forgotten() -> None:
    table = leased()
    table.hears(draft(4, 11, 12, ask=6))
    lease = away(table)
    assert table.picks((11, 12, 13)) == []
    assert table.text() == (1, 2, 3, 10)
    table.hears(resume(lease, 4), 1)
    assert table.hears(draft(4, 14, ask=5, epoch=2), 1) == [run(part(3, (10, 14), 2))]


def test_nothing_is_written_to_the_text_of_who_is_away() -> None:
    table = leased()
    table.hears(draft(4, ask=5))
    (session,) = table.side.sessions
    lease = away(table)
    idle = [session.is_idle]
    table.picks((11,))
    idle.append(session.is_idle)
    table.hears(resume(lease, 4), 1)
    idle.append(session.is_idle)
    assert idle == [False, True, False], "during its last pass, behind it, and when the edge is back"


def test_who_is_back_before_its_pass_is_done_waits_for_its_end() -> None:
    table = leased()
    table.hears(draft(4, 11, ask=5))
    lease = away(table)
    assert table.hears(resume(lease, 4), 1) == [told_back(frames.Resumed(0, need=False))]
    assert table.hears(draft(4, 12, ask=5, epoch=2), 1) == []
    assert table.picks((11, 13)) == [run(part(3, (10, 12), 2))]
    assert table.picks((12, 14)) == [told_back(verdict(4, 1, 14, epoch=2))]


def test_drafts_of_before_the_cut_are_judged_when_they_come_again() -> None:
    table = leased()
    table.hears(draft(4, 11, 12))
    lease = away(table)
    table.hears(resume(lease, 4), 1)
    assert table.hears(draft(4, 11, 12, 13, ask=7, epoch=2), 1) == [run(part(3, (10, 11, 12, 13), 4))]
    assert table.picks((11, 12, 13, 14)) == [told_back(verdict(4, 3, 14, epoch=2))]


def test_a_prompt_that_is_half_read_is_read_on_but_for_the_chunk_that_was_being_read() -> None:
    table = CloudTable(LEASING, grant(chunk_tokens=2))
    table.hears(prompt(1, 2, 3, 4, 5))
    assert table.picks(()) == [run(part(2, (3, 4), 0, chunk=True))]
    lease = away(table)
    assert table.picks(()) == []
    table.hears(resume(lease, 5), 1)
    assert table.hears(draft(5, ask=6, epoch=2), 1) == [run(part(2, (3, 4), 0, chunk=True))]
    assert table.picks(()) == [run(part(4, (5,), 1, chunk=True))]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"turn": 0}, id="a turn that was before ours"),
        pytest.param({"turn": 2, "epoch": 3}, id="a turn that we never heard of"),
        pytest.param({"confirmed": 2}, id="a text that ends before the answer"),
        pytest.param({"confirmed": 5}, id="a text that is longer than ours"),
        pytest.param({"epoch": 1}, id="an epoch that is ours already"),
        pytest.param({"epoch": 0, "turn": 1}, id="an epoch that was before ours"),
    ],
)
def test_what_does_not_fit_needs_the_whole_text(changes: dict[str, int]) -> None:
    table = leased()
    lease = away(table)
    frame = resume(lease, **{"confirmed": 4, **changes})
    assert table.hears(frame, 1) == [told_back(frames.Resumed(0, need=True))]
    assert table.text() == (1, 2, 3, 10)


def test_a_prompt_that_was_turned_away_needs_the_whole_text() -> None:
    table = CloudTable(CloudRules(prefill_tokens_max=1, lease_s=9.0), peers=3)
    table.hears(prompt(1, 2), 1)
    table.hears(prompt(1, 2), 2)
    table.hears(prompt(3, 4))
    table.tell(events.PeerClosed(0, "gone"))
    table.meets(3)
    assert table.hears(resume(table.leases[0, 0], 2), 3) == [reply(frames.Resumed(0, need=True), 3)]


def test_a_session_that_said_nothing_yet_is_taken_up_as_it_is() -> None:
    table = CloudTable(LEASING)
    lease = away(table)
    assert table.hears(resume(lease, 0, epoch=1, turn=0), 1) == [told_back(frames.Resumed(0, need=False))]
    assert table.hears(prompt(1, 2, epoch=2), 1) == [run(part(0, (1, 2), 1, chunk=True))]


# -- texts that edges bring along -------------------------------------------------------------------------

ASKED = (True, (1, 2, 3, 4, 5))


def read(table: CloudTable) -> None:
    """Behind 1 to 5 in chunks of two, 10, 11 and 12 are confirmed, and all but the last is in the cache."""
    table.hears(prompt(1, 2, 3, 4, 5))
    for picks in ((), (), (10,)):
        table.picks(picks)
    table.hears(draft(6, 11, ask=7))
    table.picks((11, 12))


def chunks(*slices: tuple[int, tuple[int, ...]]) -> list[Slice]:
    """(position, tokens) of prompt chunks, of which the last one is picked from."""
    last = len(slices) - 1
    return [part(at, tokens, int(one == last), chunk=True) for one, (at, tokens) in enumerate(slices)]


@pytest.mark.parametrize(
    ("segments", "slices"),
    [
        pytest.param([ASKED, (False, (10, 11, 12))], [part(7, (12,), 1)], id="the same text"),
        pytest.param([ASKED, (False, (10, 11, 12, 13))], [part(7, (12, 13), 1)], id="more of it"),
        pytest.param([ASKED, (False, (10, 50, 12))], [part(6, (50, 12), 1)], id="another answer"),
        pytest.param([ASKED, (False, (10, 11))], [part(6, (11,), 1)], id="less of the answer"),
        pytest.param([ASKED], chunks((4, (5,))), id="the same prompt again"),
        pytest.param(
            [ASKED, (False, (10, 11)), (True, (7,))], chunks((7, (7,))), id="a prompt behind what was read"
        ),
        pytest.param([(True, (1, 2, 3, 4, 6))], chunks((4, (6,))), id="another last chunk"),
        pytest.param([(True, (1, 2, 3, 4, 5, 6))], chunks((4, (5, 6))), id="a last chunk that is longer"),
        pytest.param([(True, (1, 2, 3))], chunks((2, (3,))), id="a chunk that is shorter"),
        pytest.param([(True, (1, 2)), (True, (3, 4))], chunks((2, (3, 4))), id="a prompt from a border on"),
    ],
)
def test_of_a_text_that_is_brought_along_only_what_differs_is_read(
    segments: list[tuple[bool, tuple[int, ...]]], slices: list[Slice]
) -> None:
    table = CloudTable(LEASING, grant(chunk_tokens=2))
    read(table)
    lease = away(table)
    length = sum(len(tokens) for _, tokens in segments)
    table.hears(resume(lease, length, turn=9, epoch=9), 1)
    assert table.hears(restore(*segments, epoch=9, start=1, most=50), 1) == []
    assert table.text() == tuple(token for _, tokens in segments for token in tokens)
    assert table.hears(draft(length, ask=length + 1, epoch=9), 1) == [run(*slices)]
    assert table.picks((20,))[-1] == told_back(verdict(length, 0, 20, epoch=9))


@pytest.mark.parametrize(
    ("segments", "first"),
    [
        pytest.param(
            [(True, (1, 2, 3, 6, 5)), (False, (10,))], (2, (3, 6)), id="another chunk in the middle"
        ),
        pytest.param([(True, (9, 2, 3, 4, 5)), (False, (10,))], (0, (9, 2)), id="another first token"),
        pytest.param([(True, (1, 2, 3)), (True, (4, 5))], (2, (3,)), id="two prompts in place of one"),
    ],
)
def test_and_it_is_read_from_the_chunk_on_that_differs(
    segments: list[tuple[bool, tuple[int, ...]]], first: tuple[int, tuple[int, ...]]
) -> None:
    table = CloudTable(LEASING, grant(chunk_tokens=2))
    read(table)
    lease = away(table)
    length = sum(len(tokens) for _, tokens in segments)
    table.hears(resume(lease, length, turn=9, epoch=9), 1)
    table.hears(restore(*segments, epoch=9, start=1, most=50), 1)
    assert table.hears(draft(length, ask=length + 1, epoch=9), 1) == [run(part(*first, 0, chunk=True))]


def test_a_text_that_is_all_new_is_read_in_the_chunks_of_its_own_prompts() -> None:
    table = CloudTable(welcome=grant(chunk_tokens=2))
    segments = (True, (1, 2, 3)), (False, (10, 11)), (True, (4, 5, 6))
    assert table.hears(restore(*segments, epoch=1, start=8, most=50)) == []
    assert table.hears(draft(8, 20, ask=9)) == [run(part(0, (1, 2), 0, chunk=True))]
    assert table.picks(()) == [run(part(2, (3,), 0, chunk=True), part(3, (10, 11), 0))]
    assert table.picks((), ()) == [run(part(5, (4, 5), 0, chunk=True))]
    assert table.picks(()) == [run(part(7, (6,), 1, chunk=True))]
    assert table.picks((20,)) == [
        reply(verdict(8, 0, 20)),
    ]


def test_a_text_that_is_brought_along_replaces_a_pass_that_runs() -> None:
    table = leased()
    table.hears(draft(4, 11, ask=5))
    lease = away(table)
    table.hears(resume(lease, 4, turn=2, epoch=2), 1)
    table.hears(restore((True, (1, 2, 3)), (False, (50,)), start=3, most=50), 1)
    assert table.hears(draft(4, ask=5, epoch=2), 1) == []
    assert table.picks((11, 12)) == [run(part(3, (50,), 1))]
    assert table.picks((51,)) == [told_back(verdict(4, 0, 51, epoch=2))]


@pytest.mark.parametrize(("most", "finish"), [(2, "length"), (3, None)])
def test_an_answer_that_was_begun_elsewhere_ends_where_it_was_to(most: int, finish: Finish | None) -> None:
    table = CloudTable()
    table.hears(restore((True, (1, 2, 3)), (False, (10,)), start=3, most=most))
    table.hears(draft(4, ask=5, epoch=2))
    assert table.picks((), (11,)) == [reply(verdict(4, 0, 11, finish=finish, epoch=2))]


def test_drafts_behind_a_text_that_was_brought_along_start_at_its_end() -> None:
    table = CloudTable()
    table.hears(restore((True, (1, 2, 3)), (False, (10,)), start=3, most=50))
    fault = expelled(table, draft(3, 10, epoch=2))
    assert "from 3" not in fault.message
    assert "not from 4 to 4" in fault.message


def test_a_new_epoch_may_start_anywhere_in_the_answer_that_was_brought_along() -> None:
    table = CloudTable()
    table.hears(restore((True, (1, 2, 3)), (False, (10, 11)), start=3, most=50))
    assert table.hears(draft(3, 10, epoch=3)) == [reply(verdict(3, 0, 10, 11, epoch=3))]
    assert "ends at 5" in expelled(table, draft(2, 3, epoch=4)).message


def test_a_text_alone_waits_for_a_prompt() -> None:
    table = CloudTable()
    assert table.hears(restore((True, (1, 2, 3)), (False, (10,)))) == []
    assert table.phase() is TextPhase.IDLE
    assert table.hears(draft(4, 11, ask=5, epoch=2)) == []
    whole = part(0, (1, 2, 3), 0, chunk=True), part(3, (10,), 0), part(4, (7,), 1, chunk=True)
    assert table.hears(prompt(7, base=4, epoch=3)) == [run(*whole)]


def test_a_text_alone_makes_an_end_of_an_answer() -> None:
    table = begun()
    table.hears(draft(4, ask=6))
    table.hears(restore((True, (1, 2, 3)), (False, (10,))))
    assert table.phase() is TextPhase.IDLE
    assert table.picks((11,)) == []
    assert "without a generation" in expelled(table, draft(4, 11, epoch=3)).message


def test_an_empty_text_is_a_text() -> None:
    table = begun()
    assert table.hears(restore()) == []
    assert table.text() == ()
    assert table.hears(prompt(1, 2, 4, epoch=3)) == [run(part(0, (1, 2, 4), 1, chunk=True))]


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (restore((True, (1, 2)), epoch=1, most=50), "epoch 1"),
        (restore((True, ())), "empty part"),
        (restore((True, ()), (False, (3,)), start=1, most=50), "empty part"),
        (restore((True, (1, 2)), (False, ()), start=2, most=50), "empty part"),
        (restore((True, (1, 2)), start=3, most=50), "limits"),
        (restore((True, (1, 2)), start=0, most=50), "limits"),
        (restore(most=50), "limits"),
        (restore((True, (1, 2)), (False, (3, 4)), start=2, most=2), "limits"),
        (restore((True, (1, 2)), (False, (3, 4)), start=2, most=1), "limits"),
        (restore((True, (1, TOKENS)), start=2, most=50), "not in the vocabulary"),
        (restore((True, (1, 2)), (False, (TOKENS,)), start=2, most=50), "not in the vocabulary"),
        (restore((True, (1, TOKENS))), "not in the vocabulary"),
    ],
)
def test_text_that_cannot_be_is_a_fault(frame: frames.Restore, complaint: str) -> None:
    fault = expelled(begun(), frame)
    assert fault.code == "protocol"
    assert complaint in fault.message


def test_the_longest_text_that_nothing_is_written_to_fills_the_context() -> None:
    table = begun(context_tokens=8)
    assert table.hears(restore((True, (1,) * 8))) == []
    assert faults(table.hears(restore((True, (1,) * 9), epoch=3))) == [(0, 0, "context")]
    assert table.hears(frames.Ping(1)) == [reply(frames.Pong(1))]


# -- faults -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code", "complaint"),
    [
        (draft(6, 12), "protocol", "not from 3 to 4"),
        (draft(5, ask=9), "protocol", "not from 3 to 4"),
        (draft(5, 12, epoch=2), "protocol", "ends at 4"),
        (draft(4, *range(17)), "window", "16"),
        (draft(4, TOKENS), "protocol", "not in the vocabulary"),
        (prompt(1, TOKENS, epoch=2), "protocol", "not in the vocabulary"),
        (prompt(1, epoch=1), "protocol", "epoch 1"),
        (prompt(epoch=2), "protocol", "empty"),
        (prompt(1, epoch=2, base=5), "protocol", "beyond"),
        (prompt(1, epoch=2, most=0), "protocol", "no token"),
        (frames.Cancel(0, 1), "protocol", "epoch 1"),
    ],
)
def test_frame_that_contradicts_what_was_said_is_a_fault(
    frame: frames.EdgeFrame, code: str, complaint: str
) -> None:
    fault = expelled(begun(), frame)
    assert (fault.session, fault.code) == (None, code)
    assert complaint in fault.message


def test_window_counts_what_is_unverified_together() -> None:
    table = begun()
    assert table.hears(draft(4, *range(16))) == []
    assert expelled(table, draft(20, 1)).code == "window"


def test_more_than_eight_asks_are_a_fault() -> None:
    table = begun()
    for _ in range(ASKS_MAX):
        table.hears(draft(4, ask=9))
    assert table.phase() is TextPhase.AWAITING
    assert "8 unanswered asks" in expelled(table, draft(4, ask=9)).message


def test_drafts_without_a_generation_are_a_fault() -> None:
    assert "without a generation" in expelled(CloudTable(), draft(0, 1, epoch=1)).message
    table = begun()
    table.hears(frames.Cancel(0, 2))
    assert table.hears(draft(4, 11, ask=5, epoch=2)) == []
    assert "without a generation" in expelled(table, draft(4, 11, ask=5, epoch=3)).message


@given(st.lists(st.integers(10, 12), min_size=1, max_size=8), st.integers(1, 9), st.integers(1, 4))
def test_text_is_the_targets_however_drafts_and_passes_are_cut(
    drafted: list[int], room: int, ask: int
) -> None:
    """The target says 10, 11, 12, 10, …; each pass has room for some tokens only."""
    table = CloudTable(CloudRules(sessions_max=1, pass_tokens=room))
    answer = table.hears(prompt(1, 2, 3))
    answer += table.hears(draft(3, *drafted, ask=3 + ask))
    while table.phase() is TextPhase.AWAITING:
        (order,) = (command for command in answer if isinstance(command, RunPass))
        first = len(table.text()) - 3
        answer = table.picks(tuple(10 + (first + at) % 3 for at in range(order.slices[0].picks)))
    said = table.text()[3:]
    assert said == tuple(10 + at % 3 for at in range(len(said)))
    path = [10 + at % 3 for at in range(len(drafted))]
    assert len(said) >= ask or drafted[: len(said)] != path[: len(said)]
