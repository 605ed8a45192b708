"""One session at the cloud: what the edge says, what the target picks, and what the edge is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipesd.session import events
from pipesd.session.cloud import CloudSession
from pipesd.session.commands import ClosePeer, RunPass, SendToPeer
from pipesd.session.phases import TextPhase
from pipesd.session.rules import ASKS_MAX, CloudRules
from pipesd.values import Slice
from pipesd.wire import frames
from tests.session.helpers import (
    END,
    TOKENS,
    CloudTable,
    draft,
    grant,
    part,
    prompt,
    reply,
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
    session = CloudSession(0, grant())
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


# -- faults -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code", "complaint"),
    [
        (draft(6, 12), "protocol", "not from 3 to 4"),
        (draft(5, ask=9), "protocol", "not from 3 to 4"),
        (draft(5, 12, epoch=2), "protocol", "ends at 4"),
        (draft(4, *range(17)), "window", "16"),
        (draft(4, TOKENS), "protocol", f"token {TOKENS}"),
        (prompt(1, TOKENS, epoch=2), "protocol", f"token {TOKENS}"),
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
