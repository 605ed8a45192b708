"""One session at the edge: what it is told and what it answers."""

import dataclasses
from typing import get_args

import msgspec
import pytest

from pipesd.errors import LinkError, UsageError
from pipesd.planner.policies import POLICIES, Policy
from pipesd.planner.trigger import Thresholds
from pipesd.session import events
from pipesd.session.commands import (
    AbortStep,
    DraftNext,
    DropLink,
    EdgeCommand,
    FailGeneration,
    Failure,
    FinishGeneration,
    GenerationStats,
    NoteAway,
    SendFrame,
    ShowDrafts,
)
from pipesd.session.phases import EdgePhase, TextPhase
from pipesd.session.rules import ALONE_TOKENS, ASKS_MAX, EdgeRules, Patience
from pipesd.values import Ahead, Batching, Objective, Stretch
from pipesd.vocabulary import Vocabulary
from pipesd.wire import frames
from pipesd.wire.frames import PROMPT_TOKENS_MAX
from tests.session.helpers import (
    END,
    TOKENS,
    EdgeTable,
    always,
    draft,
    emit,
    grant,
    prompt,
    restore,
    resume,
    send,
    step,
    verdict,
    wish,
)

TWO_AT_MOST = Thresholds(0.0, 0.0, upper_tokens=2, lower_tokens=1)
EVERY_SECOND = EdgeRules(policy=always(TWO_AT_MOST))
WAITING = EdgeRules(policy=always(TWO_AT_MOST, ahead="never"))
TWO_AT_LEAST = always(Thresholds(0.0, 0.0, upper_tokens=10, lower_tokens=2))


def said(*tokens: int) -> Stretch:
    """A prompt, or a chunk of one, by itself."""
    return Stretch(tokens, prompt=True)


def answering(rules: EdgeRules | None = None, *drafted: int, most: int = 50) -> EdgeTable:
    """An edge behind the prompt 1, 2, 3 that has drafted this much; only the prompt's ask is open."""
    table = EdgeTable(rules)
    table.tell(wish(1, 2, 3, most=most))
    table.drafts(*drafted)
    return table


def test_prompt_and_drafts_leave_before_the_session_is_opened() -> None:
    table = EdgeTable(sessions=0)
    assert table.tell(events.SessionWanted(0)) == [send(frames.Open(0))]
    assert table.tell(wish(1, 2, 3)) == [send(prompt(1, 2, 3)), step(1, 0, 1, 2, 3)]
    assert table.asks() == [4]
    assert table.drafts(10) == [step(2, 3, 10), send(draft(3, 10))]
    assert table.drafts(11) == [step(3, 4, 11), send(draft(4, 11))]
    assert table.hears(frames.Opened(0)) == []
    assert table.phase() is TextPhase.AWAITING


def test_verdict_that_agrees_leaves_the_suffix_and_the_epoch_alone() -> None:
    table = answering(None, 10, 11, 12)
    assert table.hears(verdict(3, 0, 10)) == [emit(10)]
    assert table.ledger().suffix == [11, 12]
    assert table.drafts(13) == [step(5, 6, 13), send(draft(6, 13))]
    assert table.phase() is TextPhase.DRAFTING


def test_own_pick_may_be_the_token_drafted_ahead() -> None:
    table = answering(EVERY_SECOND, 10, 11, 12)
    assert len(table.asks()) == 2
    assert table.hears(verdict(3, 1, 11)) == [emit(10, 11)]
    assert (table.ledger().suffix, table.ledger().epoch) == ([12], 1)
    assert table.phase() is TextPhase.DRAFTING


def test_verdict_that_contradicts_discards_and_aborts() -> None:
    table = answering(EVERY_SECOND, 10, 11, 12)
    assert table.hears(verdict(3, 1, 50)) == [emit(10, 50), AbortStep(4)]
    assert (table.ledger().suffix, table.ledger().epoch, table.asks()) == ([], 2, [])
    assert table.aborts() == [step(5, 4, 50)]
    assert table.drafts(60) == [step(6, 5, 60), send(draft(5, 60, epoch=2))]
    assert table.phase() is TextPhase.DRAFTING


def test_guess_that_comes_after_all_is_dropped() -> None:
    table = answering(None, 10, 11)
    assert table.hears(verdict(3, 0, 50)) == [emit(50), AbortStep(3)]
    assert table.drafts(12) == [step(4, 3, 50)]
    assert table.ledger().suffix == []
    assert table.phase() is TextPhase.DRAFTING


def test_verdict_that_overtakes_the_drafter_keeps_its_cache() -> None:
    table = answering(None, 10)
    assert table.hears(verdict(3, 1, 11)) == [emit(10, 11), AbortStep(2)]
    assert table.ledger().epoch == 1
    assert table.drafts(77) == [step(3, 4, 11)]
    assert table.phase() is TextPhase.DRAFTING


def test_aborted_step_leaves_the_cache_as_it_was() -> None:
    table = answering(None)
    assert table.hears(verdict(3, 0, 10)) == [emit(10), AbortStep(1)]
    assert table.aborts() == [step(2, 0, 1, 2, 3, 10)]


def test_stale_verdict_is_passed_over() -> None:
    table = answering(None, 10)
    table.hears(verdict(3, 0, 50))
    table.drafts(0, 60)
    assert table.hears(verdict(3, 1, 11, epoch=1)) == []
    assert table.hears(verdict(9, 0, 11, epoch=0)) == []
    assert table.ledger().text == [1, 2, 3, 50]
    assert table.side.phase is EdgePhase.READY


def test_verdict_of_an_ended_generation_is_passed_over() -> None:
    table = answering(None, 10)
    table.tell(events.GenerationCancelled(0))
    assert table.hears(verdict(3, 1, 11, epoch=1)) == []
    assert table.hears(verdict(3, 1, 11, epoch=2)) == []
    assert table.phase() is TextPhase.IDLE


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (verdict(5, 0, 11, epoch=2), "epoch 2"),
        (verdict(4, 0, 11), "at 4"),
        (verdict(2, 0, 11), "at 2"),
        (verdict(3, 3, 12), "3 drafts accepted of 2"),
        (verdict(3, 1), "without a token"),
        (verdict(3, 0, *range(51)), "limit"),
        (verdict(3, 0, TOKENS), "not in the vocabulary"),
    ],
)
def test_verdict_that_contradicts_what_was_sent_is_a_fault(frame: frames.Verdict, complaint: str) -> None:
    table = answering(None, 10, 11)
    fault = table.hears(frame)[0]
    assert fault == send(frames.Fault(None, "protocol", fault.frame.message))  # type: ignore[union-attr]
    assert complaint in fault.frame.message  # type: ignore[union-attr]
    assert table.side.phase is EdgePhase.CLOSED


def test_verdict_that_ends_no_answer_at_its_limit_is_a_fault() -> None:
    """Nothing more could be asked for, so the answer would stand still for ever."""
    table = EdgeTable()
    table.tell(wish(1, 2, 3, most=2))
    table.hears(verdict(3, 0, 10, 11))
    assert table.side.phase is EdgePhase.CLOSED


def test_verdict_of_a_generation_that_never_was_is_a_fault() -> None:
    table = EdgeTable()
    assert table.hears(verdict(0, 0, 1, epoch=0)) == []
    table.hears(verdict(0, 0, 1, epoch=1))
    assert table.side.phase is EdgePhase.CLOSED


def test_text_that_ends_inside_accepted_drafts() -> None:
    table = answering(EVERY_SECOND, 10, 11, 12)
    stats = GenerationStats(tokens=2, drafted=3, accepted=2, corrections=0, verdicts=1)
    assert table.hears(verdict(3, 2, finish="length")) == [
        emit(10, 11),
        FinishGeneration(0, "length", stats),
        AbortStep(4),
    ]
    assert (table.ledger().text, table.ledger().epoch) == ([1, 2, 3, 10, 11], 2)
    assert table.phase() is TextPhase.IDLE


def test_finish_that_is_told_again_brings_no_text() -> None:
    table = answering(None, 10)
    stats = GenerationStats(drafted=1, verdicts=1)
    assert table.hears(verdict(3, 0, finish="context")) == [
        FinishGeneration(0, "context", stats),
        AbortStep(2),
    ]
    assert table.phase() is TextPhase.IDLE


def test_end_id_is_confirmed_text() -> None:
    table = answering(None)
    table.drafts(10)
    answer = table.hears(verdict(3, 1, END, finish="stop"))
    assert answer[0] == emit(10, END)
    assert answer[1] == FinishGeneration(0, "stop", GenerationStats(2, 1, 1, 0, 1))
    table.aborts()
    assert table.tell(wish(4, base=5)) == [send(prompt(4, epoch=3, base=5)), step(3, 3, 10, END, 4)]


def test_what_it_took_is_counted() -> None:
    table = answering(EVERY_SECOND, 10, 11)
    table.hears(verdict(3, 1, 50))
    table.drafts(0, 60)
    finish = table.hears(verdict(5, 0, 60, END, finish="stop", epoch=2))[1]
    assert finish == FinishGeneration(0, "stop", GenerationStats(4, 3, 2, 1, 2))


def test_drafter_stops_at_an_end_id_and_asks() -> None:
    table = answering(None, 10)
    table.hears(verdict(3, 0, 10))
    assert table.drafts(END) == [send(draft(4, END, ask=5))]
    assert table.phase() is TextPhase.AWAITING


def test_drafter_stops_at_the_limit_and_asks() -> None:
    table = EdgeTable()
    table.tell(wish(1, 2, 3, most=3))
    table.hears(verdict(3, 0, 10))
    table.aborts()
    assert table.drafts(11) == [step(3, 4, 11), send(draft(4, 11))]
    assert table.drafts(12) == [send(draft(5, 12, ask=6))]
    assert table.phase() is TextPhase.AWAITING


def test_drafter_stops_at_the_end_of_the_context() -> None:
    table = EdgeTable(welcome=grant(context_tokens=5))
    table.tell(wish(1, 2, 3))
    assert table.drafts(10) == [step(2, 3, 10), send(draft(3, 10))]
    assert table.drafts(11) == [send(draft(4, 11, ask=5))]
    assert table.phase() is TextPhase.AWAITING


def test_idle_drafter_asks_for_enough_drafts_only() -> None:
    table = answering(EdgeRules(policy=TWO_AT_LEAST), END)
    assert len(table.asks()) == 1
    table = answering(EdgeRules(policy=TWO_AT_LEAST), 10, END)
    assert len(table.asks()) == 2


def test_idle_drafter_asks_for_one_draft_when_nothing_is_pending() -> None:
    table = EdgeTable(EdgeRules(policy=TWO_AT_LEAST, window_tokens=1))
    table.tell(wish(1, 2, 3))
    assert table.drafts(10) == [send(draft(3, 10))]
    assert table.hears(verdict(3, 0, 10)) == [emit(10), step(2, 3, 10)]
    assert table.drafts(11) == [send(draft(4, 11, ask=5))]


@pytest.mark.parametrize(("own", "granted"), [(3, 16), (16, 3)])
def test_full_window_stops_the_drafter_and_asks(own: int, granted: int) -> None:
    table = EdgeTable(EdgeRules(policy=always(), window_tokens=own), grant(window_tokens=granted))
    table.tell(wish(1, 2, 3))
    table.drafts(10, 11)
    assert table.drafts(12) == [send(draft(5, 12, ask=6))]
    assert table.hears(verdict(3, 0, 10)) == [emit(10), step(4, 5, 12)]
    assert table.phase() is TextPhase.AWAITING


def test_trigger_asks_for_drafts_up_to_the_doubtful_one() -> None:
    table = EdgeTable(EdgeRules(policy=always(Thresholds(0.0, 0.4, 10, 1))))
    table.tell(wish(1, 2, 3))
    assert table.drafts(10, confidence=0.9) == [step(2, 3, 10), send(draft(3, 10))]
    assert table.drafts(11, confidence=0.3) == [step(3, 4, 11), send(draft(4, 11, ask=5))]
    assert table.phase() is TextPhase.AWAITING


def test_trigger_forgets_drafts_that_were_judged_unasked() -> None:
    table = answering(EdgeRules(policy=always(Thresholds(0.0, 0.0, 3, 1))), 10, 11)
    table.hears(verdict(3, 1, 11))
    assert table.drafts(12, 13)[-1] == send(draft(6, 13))
    assert table.drafts(14)[-1] == send(draft(7, 14, ask=8))
    assert table.phase() is TextPhase.AWAITING


def test_at_most_eight_asks() -> None:
    table = EdgeTable(EdgeRules(policy=always(Thresholds(0.0, 0.0, 1, 1))))
    table.tell(wish(1, 2, 3))
    answer = table.drafts(*range(10, 10 + ASKS_MAX - 1))
    assert len(table.asks()) == ASKS_MAX
    assert answer[-1] == send(draft(9, 16, ask=10))
    assert table.hears(verdict(3, 0, 10)) == [emit(10), step(8, 9, 16)]
    assert table.drafts(17) == [step(9, 10, 17), send(draft(10, 17, ask=11))]
    assert table.drafts(18) == [send(draft(11, 18, ask=12))]
    assert len(table.asks()) == ASKS_MAX


def test_waiting_edge_does_not_draft_while_a_verdict_is_owed() -> None:
    table = EdgeTable(WAITING)
    assert table.tell(wish(1, 2, 3)) == [send(prompt(1, 2, 3))]
    assert table.hears(verdict(3, 0, 10)) == [emit(10), step(1, 0, 1, 2, 3, 10)]
    assert table.drafts(11) == [step(2, 4, 11), send(draft(4, 11))]
    assert table.drafts(12) == [send(draft(5, 12, ask=6))]
    assert table.hears(verdict(4, 2, 13)) == [emit(11, 12, 13), step(3, 5, 12, 13)]
    assert table.phase() is TextPhase.DRAFTING


@pytest.mark.parametrize(("answer_s", "goes_ahead"), [(0.01, False), (0.5, True)])
def test_whether_to_draft_ahead_is_weighed_at_each_trigger(answer_s: float, goes_ahead: bool) -> None:
    """A step takes 0.05 s. Before an answer was timed, the edge drafts ahead to find out."""
    one = Thresholds(0.0, 0.0, upper_tokens=1, lower_tokens=1)
    table = EdgeTable(EdgeRules(policy=always(one, ahead="expected")))
    table.tell(wish(1, 2, 3))
    asked = table.tell(events.TokenDrafted(1, 10, 0.99), 0.05)
    assert asked == [step(2, 3, 10), send(draft(3, 10, ask=4))]
    table.hears(verdict(3, 1, 11), 0.2)
    assert table.tell(events.StepAborted(2), 0.6) == [step(3, 3, 10, 11)]
    asked = table.tell(events.TokenDrafted(3, 12, 0.99), 0.65)
    assert asked == [step(4, 5, 12), send(draft(5, 12, ask=6))]
    table.hears(verdict(5, 1, 13), 0.65 + answer_s)
    assert table.tell(events.StepAborted(4), 1.2) == [step(5, 5, 12, 13)]
    asked = table.tell(events.TokenDrafted(5, 14, 0.99), 1.25)
    assert asked == [*[step(6, 7, 14)] * goes_ahead, send(draft(7, 14, ask=8))]
    assert table.hears(verdict(7, 1, 15), 1.3)[0] == emit(14, 15)
    assert table.phase() is TextPhase.DRAFTING


def test_an_answer_that_waited_for_the_prompt_is_not_weighed() -> None:
    """A step takes 0.05 s and an answer 0.01 s, but the first one, behind a long prompt, takes 9 s."""
    one = Thresholds(0.0, 0.0, upper_tokens=1, lower_tokens=1)
    table = EdgeTable(EdgeRules(policy=always(one, ahead="expected")))
    table.tell(wish(1, 2, 3))
    table.tell(events.TokenDrafted(1, 10, 0.99), 0.05)
    table.tell(events.TokenDrafted(2, 11, 0.99), 0.10)
    table.tell(events.TokenDrafted(3, 12, 0.99), 0.15)
    table.hears(verdict(3, 1, 11), 9.0)
    table.hears(verdict(5, 1, 13), 9.1)
    assert table.tell(events.StepAborted(4), 9.2) == [step(5, 5, 12, 13)]
    asked = table.tell(events.TokenDrafted(5, 14, 0.99), 9.25)
    assert asked == [step(6, 7, 14), send(draft(7, 14, ask=8))]
    table.hears(verdict(7, 1, 15), 9.26)
    assert table.tell(events.StepAborted(6), 9.3) == [step(7, 7, 14, 15)]
    assert table.tell(events.TokenDrafted(7, 16, 0.99), 9.35) == [send(draft(9, 16, ask=10))]


def test_whether_to_draft_ahead_is_weighed_when_an_idle_drafter_asks_too() -> None:
    """A step takes 0.05 s and an answer 0.01 s; the window is full, and then has room again too early."""
    table = EdgeTable(EdgeRules(policy=always(ahead="expected"), window_tokens=2))
    table.tell(wish(1, 2, 3))
    table.tell(events.TokenDrafted(1, 10, 0.99), 0.05)
    assert table.tell(events.TokenDrafted(2, 11, 0.99), 0.10) == [send(draft(4, 11, ask=5))]
    table.hears(verdict(3, 2, 12), 0.11)
    assert table.tell(events.TokenDrafted(3, 13, 0.99), 0.16)[0] == step(4, 6, 13)
    assert table.tell(events.TokenDrafted(4, 14, 0.99), 0.21) == [send(draft(7, 14, ask=8))]
    assert table.hears(verdict(6, 2, 15), 0.22) == [emit(13, 14, 15), step(5, 7, 14, 15)]
    assert table.tell(events.TokenDrafted(5, 16, 0.99), 0.27)[0] == step(6, 9, 16)
    assert table.tell(events.TokenDrafted(6, 17, 0.99), 0.32) == [send(draft(10, 17, ask=11))]
    assert table.hears(verdict(9, 0, 16), 0.33) == [emit(16)]
    assert table.phase() is TextPhase.AWAITING
    assert table.hears(verdict(10, 1, 18), 0.34) == [emit(17, 18), step(7, 10, 17, 18)]


def test_trigger_that_finds_as_many_verdicts_pending_as_may_waits_for_the_next() -> None:
    table = answering(EdgeRules(policy=always(TWO_AT_MOST, asks_max=1)), 10, 11, 12)
    assert len(table.asks()) == 1
    assert table.hears(verdict(3, 0, 10)) == [emit(10), send(draft(6, ask=6))]
    assert table.drafts(13, 14)[-1] == send(draft(7, 14))
    assert table.hears(verdict(4, 2, 13)) == [emit(11, 12, 13)]
    assert table.drafts(15)[-1] == send(draft(8, 15, ask=9))


def test_drafts_ahead_that_may_not_be_uploaded_wait_for_the_pending_verdict() -> None:
    """HSL and EdgeLLM draft on, or not, but send rounds."""
    table = answering(EdgeRules(policy=always(TWO_AT_MOST, upload_ahead=False)))
    assert table.drafts(10, 11) == [step(2, 3, 10), step(3, 4, 11)]
    assert table.drafts(12) == [step(4, 5, 12)]
    assert table.hears(verdict(3, 0, 10)) == [emit(10), send(draft(4, 11, ask=5))]
    assert table.drafts(13) == [step(5, 6, 13)]
    assert table.hears(verdict(4, 1, 12)) == [emit(11, 12), send(draft(6, 13, ask=7))]


# -- a busy link ------------------------------------------------------------------------------------------


def held_up(policy: Policy, *drafted: int) -> EdgeTable:
    """An edge behind the prompt 1, 2, 3 whose link is busy with its first draft."""
    table = EdgeTable(EdgeRules(policy=policy), keeps_up=False)
    table.tell(wish(1, 2, 3))
    assert table.drafts(drafted[0])[-1] == send(draft(3, drafted[0]))
    for token in drafted[1:]:
        assert table.drafts(token) == [step(table.steps_started, table.ledger().end - 1, token)]
    return table


@pytest.mark.parametrize("batching", ["work_conserving", "planned"])
def test_what_waits_for_a_busy_link_leaves_together(batching: Batching) -> None:
    table = held_up(always(batching=batching), 10, 11, 12, 13)
    assert table.idles() == [send(draft(4, 11, 12, 13))]
    assert table.drafts(14) == [step(6, 7, 14)]
    assert table.idles() == [send(draft(7, 14))]
    assert table.idles() == []
    assert table.drafts(15) == [step(7, 8, 15), send(draft(8, 15))]


def test_drafts_that_leave_one_by_one_do_so_on_a_busy_link_too() -> None:
    table = held_up(always(batching="immediate"), 10, 11, 12)
    assert table.idles() == [send(draft(4, 11))]
    assert table.idles() == [send(draft(5, 12))]
    assert table.idles() == []


def test_trigger_flushes_the_drafts_up_to_it_and_no_further() -> None:
    table = held_up(always(TWO_AT_MOST), 10, 11, 12, 13, 14)
    assert len(table.asks()) == 1
    assert table.idles() == [send(draft(4, 11, ask=5))]
    assert table.idles() == [send(draft(5, 12, 13, ask=7))]
    assert table.idles() == [send(draft(7, 14))]
    assert len(table.asks()) == 3


def test_asks_that_wait_for_the_link_count_as_unanswered() -> None:
    one = Thresholds(0.0, 0.0, upper_tokens=1, lower_tokens=1)
    table = EdgeTable(EdgeRules(policy=always(one)), keeps_up=False)
    table.tell(wish(1, 2, 3))
    table.drafts(*range(10, 10 + ASKS_MAX - 1))
    assert table.steps_started == ASKS_MAX - 1
    assert len(table.asks()) == 2
    assert table.hears(verdict(3, 0, 10)) == [emit(10), step(ASKS_MAX, 9, 16)]


def test_trigger_counts_the_asks_that_wait_for_the_link() -> None:
    one = Thresholds(0.0, 0.0, upper_tokens=1, lower_tokens=1)
    table = EdgeTable(EdgeRules(policy=always(one, asks_max=3)), keeps_up=False)
    table.tell(wish(1, 2, 3))
    assert table.drafts(10)[-1] == send(draft(3, 10, ask=4))
    table.drafts(11, 12)
    assert table.idles() == [send(draft(4, 11, ask=5))]
    assert table.idles() == [send(draft(5, 12))]
    assert table.hears(verdict(3, 0, 10)) == [emit(10)]
    assert table.idles() == [send(draft(6, ask=6))]


def test_edge_that_waits_for_verdicts_waits_for_the_link_as_well() -> None:
    table = EdgeTable(WAITING, keeps_up=False)
    table.tell(wish(1, 2, 3))
    table.hears(verdict(3, 0, 10))
    table.drafts(11)
    assert table.drafts(12) == []
    assert table.phase() is TextPhase.AWAITING
    assert table.idles() == [send(draft(5, 12, ask=6))]
    assert table.steps_started == 2


def test_unsent_drafts_and_waiting_asks_die_with_a_correction() -> None:
    table = held_up(always(TWO_AT_MOST), 10, 11, 12)
    assert table.hears(verdict(3, 0, 50)) == [emit(50), AbortStep(4)]
    assert table.phase() is TextPhase.DRAFTING
    assert table.idles() == []
    assert table.aborts() == [step(5, 3, 50)]
    assert table.drafts(60) == [step(6, 4, 60), send(draft(4, 60, epoch=2))]


def test_unsent_drafts_and_waiting_asks_die_with_the_answer() -> None:
    table = held_up(always(TWO_AT_MOST), 10, 11, 12)
    assert table.tell(events.GenerationCancelled(0))[0] == send(frames.Cancel(0, 2))
    assert table.phase() is TextPhase.IDLE
    assert table.idles() == []
    table = held_up(always(TWO_AT_MOST), 10, 11, 12)
    assert table.tell(wish(4, base=3))[0] == send(prompt(4, epoch=2, base=3))
    assert table.idles() == []
    assert (table.asks(), table.ledger().suffix) == ([5], [])


def known_link(table: EdgeTable, batch_ms: int, token_ms: int, draft_s: float) -> None:
    """Nine batches have shown how long one takes."""
    costs = table.side._experience.costs
    trip, at_ms = costs.trip(), 0
    for tokens in (1, 2, 4) * 3:
        trip.sent(tokens, at_ms / 1e3, "none")
        at_ms += batch_ms + token_ms * tokens
        trip.arrived([(tokens, 1_000 * at_ms)])
        costs.drafted(draft_s)


def pending(policy: Policy) -> EdgeTable:
    """A link that takes 10 ms a token is busy with an ask, whose verdict comes 0.3 s after it has left."""
    table = EdgeTable(EdgeRules(policy=policy, window_tokens=60), grant(window_tokens=60), keeps_up=False)
    known_link(table, batch_ms=0, token_ms=10, draft_s=0.001)
    table.side._experience.costs.returned(0.3)
    table.tell(wish(1, 2, 3, most=90))
    table.hears(verdict(3, 0, 10))
    table.aborts()
    assert table.drafts(11, confidence=0.3)[-1] == send(draft(4, 11, ask=5))
    return table


WHEN_DOUBTFUL = Thresholds(0.0, 0.5, upper_tokens=100, lower_tokens=1)


@pytest.mark.parametrize(
    ("batching", "drafts", "leave"),
    [("immediate", 40, 1), ("work_conserving", 29, 29), ("work_conserving", 31, 0)],
)
def test_only_what_leaves_now_need_be_away_before_the_verdict(
    batching: Batching, drafts: int, leave: int
) -> None:
    table = pending(always(WHEN_DOUBTFUL, batching=batching))
    waiting = tuple(range(12, 12 + drafts))
    table.drafts(*waiting)
    assert table.idles(0.0) == [send(draft(5, *waiting[:leave]))] * (leave > 0)


@pytest.mark.parametrize("behind", [0, 40])
def test_a_flush_need_be_away_before_the_verdict_and_not_what_is_behind_it(behind: int) -> None:
    table = pending(always(WHEN_DOUBTFUL))
    table.drafts(12)
    table.drafts(13, confidence=0.3)
    table.drafts(*range(14, 14 + behind))
    assert table.idles(0.0) == [send(draft(5, 12, 13, ask=7))]


def test_a_flush_that_would_not_be_away_before_the_verdict_waits_for_it() -> None:
    table = pending(always(WHEN_DOUBTFUL))
    table.drafts(*range(12, 43))
    table.drafts(43, confidence=0.3)
    assert table.idles(0.0) == []
    assert send(draft(6, *range(13, 44), ask=37)) in table.hears(verdict(4, 1, 12), 0.3)


def following_a_plan() -> EdgeTable:
    """An edge behind its first token, whose plan for twenty drafts is (1, 1, 4, 14)."""
    rules = EdgeRules(policy=always(WHEN_DOUBTFUL, batching="planned"), window_tokens=60)
    table = EdgeTable(rules, grant(window_tokens=60))
    known_link(table, batch_ms=25, token_ms=116, draft_s=0.036)
    table.tell(wish(1, 2, 3, most=90))
    table.hears(verdict(3, 0, 10))
    table.aborts()
    return table


def sizes(answer: list[EdgeCommand]) -> list[int]:
    """Of the batches that leave."""
    sent = [command.frame for command in answer if isinstance(command, SendFrame)]
    return [len(frame.tokens) for frame in sent if isinstance(frame, frames.Draft)]


def test_drafts_leave_as_planned() -> None:
    assert sizes(following_a_plan().drafts(*range(11, 31))) == [1, 1, 4, 14]


def test_a_flush_is_no_part_of_the_plan_that_starts_anew_behind_it() -> None:
    table = following_a_plan()
    assert sizes(table.drafts(*range(11, 30))) == [1, 1, 4]
    assert sizes(table.drafts(30, confidence=0.3)) == [14]
    assert sizes(table.drafts(*range(31, 37))) == [1, 1, 4]


def test_ask_that_was_answered_while_it_waited_is_dropped() -> None:
    table = held_up(always(TWO_AT_MOST), 10, 11, 12)
    assert table.hears(verdict(3, 1, 11)) == [emit(10, 11)]
    assert table.phase() is TextPhase.DRAFTING
    assert table.idles() == [send(draft(5, 12))]


def test_ask_is_heard_of_behind_drafts_that_have_left_already() -> None:
    table = held_up(always(), 10)
    assert table.tell(events.DraftFailed(2, "out of memory")) == []
    assert table.idles() == [send(draft(4, ask=4))]


def test_only_drafts_wait_for_the_link() -> None:
    table = held_up(always(), 10, 11)
    assert table.hears(frames.Ping(5)) == [send(frames.Pong(5))]
    assert table.tell(events.SessionWanted(1)) == [send(frames.Open(1))]
    assert table.tell(wish(7, session=1)) == [send(prompt(7, session=1))]
    assert send(frames.Close(0)) in table.tell(events.SessionLeft(0))


# -- the cloud goes and comes back ------------------------------------------------------------------------

LEASE = b"sixteen bytes ok"
PATIENT = EdgeRules(policy=always(), patience=Patience(away_s=600.0))
SHOWING = dataclasses.replace(PATIENT, offline="draft")
STOPPING = dataclasses.replace(PATIENT, offline="stop")
WHOLE = (True, (1, 2, 3)), (False, (10,))
GONE = Failure("link", "cut")


def leased(rules: EdgeRules = PATIENT, *drafted: int, lease: bytes = LEASE, **changes: int) -> EdgeTable:
    """An edge whose cloud has confirmed 10 behind 1, 2, 3, with these drafts, which were sent."""
    table = EdgeTable(rules, grant(**changes))
    table.hears(frames.Opened(0, lease))
    table.tell(wish(1, 2, 3))
    table.hears(verdict(3, 0, 10))
    table.aborts()
    table.drafts(*drafted)
    return table


def away(rules: EdgeRules = PATIENT, *drafted: int, lease: bytes = LEASE, **changes: int) -> EdgeTable:
    """The same after its connection was cut."""
    table = leased(rules, *drafted, lease=lease, **changes)
    if AbortStep(table.steps_started) in table.cut():
        table.aborts()
    return table


def show(*tokens: int) -> ShowDrafts:
    return ShowDrafts(0, tokens)


def without_steps(answer: list[EdgeCommand]) -> list[EdgeCommand]:
    """What is done besides drafting."""
    return [command for command in answer if not isinstance(command, DraftNext | AbortStep)]


def test_a_cut_stops_nothing_but_what_is_said() -> None:
    table = leased(PATIENT, 11)
    drop, note, abort = table.cut()
    assert drop == DropLink()
    assert isinstance(note, NoteAway)
    assert (note.reason, abort) == ("cut", AbortStep(3))
    assert table.side.phase is EdgePhase.AWAY
    assert table.aborts() == [step(4, 4, 11)]
    assert table.drafts(12, 13) == [step(5, 5, 12), step(6, 6, 13)]
    assert table.ledger().suffix == [11, 12, 13]
    assert table.phase() is TextPhase.DRAFTING


def test_drafts_of_before_and_during_the_absence_are_judged_after_it() -> None:
    table = away(PATIENT, 11)
    table.drafts(12)
    assert table.meets() == [send(resume(LEASE, 4, epoch=3)), AbortStep(5)]
    assert table.hears(frames.Resumed(0, need=False)) == [send(draft(4, 11, 12, ask=6, epoch=3))]
    assert table.phase() is TextPhase.AWAITING
    assert table.hears(verdict(4, 2, 13, epoch=3))[0] == emit(11, 12, 13)
    assert table.aborts() == [step(6, 5, 12, 13)]
    assert table.phase() is TextPhase.DRAFTING


def test_without_drafts_the_next_token_is_asked_for() -> None:
    """Or the answer would stand still if the drafter cannot go on."""
    table = away(PATIENT)
    table.meets()
    assert table.hears(frames.Resumed(0, need=False)) == [send(draft(4, ask=5, epoch=3))]


def test_nothing_is_said_before_the_cloud_has_answered() -> None:
    table = away(PATIENT, 11)
    table.meets()
    table.aborts()
    assert table.drafts(12) == [step(6, 5, 12)]
    assert table.phase() is TextPhase.DRAFTING


def test_tokens_that_died_on_the_way_come_first_and_drafts_that_agree_stay() -> None:
    table = away(PATIENT, 11, 12, 13)
    table.meets()
    table.hears(frames.Resumed(0, need=False))
    assert table.hears(verdict(4, 0, 11, 12, epoch=3)) == [emit(11, 12)]
    assert (table.ledger().suffix, table.ledger().epoch) == ([13], 3)
    assert table.hears(verdict(6, 1, 14, epoch=3)) == [emit(13, 14)]


def test_drafts_that_contradict_them_are_dropped() -> None:
    table = away(PATIENT, 11, 12, 13)
    table.meets()
    table.hears(frames.Resumed(0, need=False))
    assert table.hears(verdict(4, 0, 11, 50, epoch=3))[0] == emit(11, 50)
    assert (table.ledger().suffix, table.ledger().epoch) == ([], 4)


def test_an_end_that_died_on_the_way_ends_the_answer() -> None:
    table = away(PATIENT, 11)
    table.meets()
    table.hears(frames.Resumed(0, need=False))
    answer = table.hears(verdict(4, 0, 11, END, finish="stop", epoch=3))
    stats = GenerationStats(tokens=3, drafted=1, accepted=1, verdicts=2)
    assert without_steps(answer) == [emit(11, END), FinishGeneration(0, "stop", stats)]
    assert table.phase() is TextPhase.IDLE


def test_an_end_that_is_known_and_said_again_is_passed_over() -> None:
    table = leased(PATIENT, 11)
    table.hears(verdict(4, 1, END, finish="stop"))
    table.aborts()
    table.cut()
    assert table.meets() == [send(resume(LEASE, 6, epoch=4))]
    assert table.hears(frames.Resumed(0, need=False)) == []
    assert table.hears(verdict(6, 0, finish="stop", epoch=4)) == []
    assert table.tell(wish(4, base=6))[0] == send(prompt(4, base=6, epoch=5))


def test_verdicts_of_the_old_connection_are_passed_over_on_the_new_one() -> None:
    table = away(PATIENT, 11)
    table.meets()
    assert table.hears(verdict(4, 1, 12, epoch=1)) == []
    assert table.hears(verdict(4, 1, 12, epoch=2)) == []
    assert table.ledger().confirmed == 4


def test_a_cloud_that_does_not_know_the_session_is_given_the_whole_text() -> None:
    table = away(PATIENT, 11)
    assert table.meets()[0] == send(resume(LEASE, 4, epoch=3))
    assert table.hears(frames.Opened(0, b"another lease")) == []
    assert table.hears(frames.Resumed(0, need=True)) == [
        send(restore(*WHOLE, epoch=3, start=3, most=50)),
        send(draft(4, 11, ask=5, epoch=3)),
    ]
    table.cut()
    assert table.meets()[0] == send(resume(b"another lease", 4, epoch=5, turn=3))


def test_a_cloud_that_keeps_nothing_is_given_the_whole_text_at_once() -> None:
    table = away(PATIENT, 11, lease=b"")
    assert without_steps(table.meets()) == [
        send(frames.Open(0)),
        send(restore(*WHOLE, epoch=3, start=3, most=50)),
        send(draft(4, 11, ask=5, epoch=3)),
    ]
    table.hears(frames.Opened(0))
    assert table.hears(verdict(4, 1, 12, epoch=3))[0] == emit(11, 12)


def test_a_session_that_was_never_prompted_has_nothing_to_restore() -> None:
    table = EdgeTable(PATIENT)
    table.cut()
    assert table.meets() == [send(frames.Open(0))]
    table.hears(frames.Opened(0, LEASE))
    table.cut()
    assert table.meets() == [send(resume(LEASE, 0, epoch=2, turn=0))]
    assert table.hears(frames.Resumed(0, need=False)) == []
    assert table.tell(wish(1, 2))[0] == send(prompt(1, 2, epoch=3))


def test_a_text_to_which_nothing_is_written_is_restored_alone() -> None:
    table = leased(PATIENT)
    table.hears(verdict(4, 0, END, finish="stop"))
    table.aborts()
    table.cut()
    table.meets()
    whole = (True, (1, 2, 3)), (False, (10, END))
    assert table.hears(frames.Resumed(0, need=True)) == [send(restore(*whole, epoch=4))]
    assert table.phase() is TextPhase.IDLE


# What the application wants meanwhile.


def test_a_prompt_that_is_given_while_away_is_restored() -> None:
    table = away(PATIENT, 11)
    assert without_steps(table.tell(wish(7, 8, base=4))) == []
    assert table.meets()[0] == send(resume(LEASE, 6, epoch=4, turn=3))
    assert table.hears(frames.Resumed(0, need=True)) == [
        send(restore(*WHOLE, (True, (7, 8)), epoch=4, start=6, most=50)),
        send(draft(6, ask=7, epoch=4)),
    ]
    assert table.hears(verdict(6, 0, 20, epoch=4))[0] == emit(20)


def test_so_is_one_that_is_given_before_the_cloud_has_answered_whatever_it_answers() -> None:
    table = away(PATIENT, 11)
    table.meets()
    assert without_steps(table.tell(wish(7, 8, base=4))) == []
    assert without_steps(table.hears(frames.Resumed(0, need=False))) == [
        send(restore(*WHOLE, (True, (7, 8)), epoch=4, start=6, most=50)),
        send(draft(6, ask=7, epoch=4)),
    ]


@pytest.mark.parametrize("has_called", [False, True])
def test_an_answer_that_is_cancelled_while_away_ends_at_the_cloud_too(has_called: bool) -> None:
    table = away(PATIENT, 11)
    if has_called:
        table.meets()
    (finish,) = without_steps(table.tell(events.GenerationCancelled(0)))
    assert finish == FinishGeneration(0, None, GenerationStats(tokens=1, drafted=1, verdicts=1))
    if not has_called:
        assert table.meets() == [send(resume(LEASE, 4, epoch=4, turn=3))]
    answer = table.hears(frames.Resumed(0, need=not has_called))
    assert answer == [send(restore(*WHOLE, epoch=4))]
    assert table.phase() is TextPhase.IDLE


def test_text_that_is_taken_back_while_away_is_not_restored() -> None:
    table = away(PATIENT, 11)
    table.tell(wish(7, base=2))
    table.meets()
    assert table.hears(frames.Resumed(0, need=True))[0] == send(
        restore((True, (1, 2)), (True, (7,)), epoch=4, start=3, most=50)
    )


def test_a_session_that_is_closed_while_away_says_nothing() -> None:
    table = away(PATIENT, 11)
    answer = table.tell(events.SessionLeft(0))
    assert not any(isinstance(command, SendFrame) for command in answer)
    assert table.meets() == []


def test_a_session_that_is_closed_before_the_cloud_has_answered_is_closed_there() -> None:
    table = away(PATIENT, 11)
    table.meets()
    assert send(frames.Close(0)) in table.tell(events.SessionLeft(0))
    assert table.hears(frames.Opened(0, LEASE)) == []
    assert table.hears(frames.Resumed(0, need=True)) == []
    assert table.side.phase is EdgePhase.READY


def test_a_reader_who_does_not_read_pauses_drafting_while_away_too() -> None:
    table = away(PATIENT, 11)
    table.tell(events.ReaderPaused(0))
    assert table.drafts(12) == []
    assert table.tell(events.ReaderResumed(0)) == [step(5, 5, 12)]


def test_a_session_that_has_failed_is_not_taken_up_again() -> None:
    table = leased()
    table.hears(frames.Fault(0, "engine", "broken"))
    table.aborts()
    table.cut()
    assert table.meets() == []
    assert table.phase() is TextPhase.FAILED


# Away again, and again.


def test_a_connection_that_is_cut_before_the_cloud_has_answered_changes_nothing() -> None:
    table = away(PATIENT, 11)
    for epoch in (3, 5, 7):
        assert table.meets()[0] == send(resume(LEASE, 4, epoch=epoch))
        table.aborts()
        table.cut()
        table.aborts()
    assert table.ledger().suffix == [11]
    table.meets()
    assert table.hears(frames.Resumed(0, need=False)) == [send(draft(4, 11, ask=5, epoch=9))]


def test_a_text_that_was_restored_is_resumed_from_there() -> None:
    table = away(PATIENT, 11)
    table.meets()
    table.hears(frames.Resumed(0, need=True))
    table.cut()
    assert table.meets()[0] == send(resume(LEASE, 4, epoch=5, turn=3))


# What the reader sees meanwhile.


def test_who_waits_is_shown_nothing() -> None:
    table = leased(PATIENT, 11)
    assert not any(isinstance(command, ShowDrafts) for command in [*table.cut(), *table.aborts()])
    assert table.drafts(12, 13) == [step(5, 5, 12), step(6, 6, 13)]


def test_who_waits_drafts_as_much_as_the_window() -> None:
    table = away(dataclasses.replace(PATIENT, window_tokens=4), 11)
    table.drafts(12, 13)
    assert table.drafts(14) == []
    assert table.ledger().suffix == [11, 12, 13, 14]


def test_who_wants_drafts_is_shown_those_that_are_there_and_each_that_follows() -> None:
    table = leased(SHOWING, 11, 12)
    assert show(11, 12) in table.cut()
    table.aborts()
    assert table.drafts(13) == [show(13), step(6, 6, 13)]
    assert table.drafts(14) == [show(14), step(7, 7, 14)]


def test_drafts_that_are_shown_have_a_limit_of_their_own() -> None:
    table = away(dataclasses.replace(SHOWING, window_tokens=4, offline_tokens=6), 11, 12)
    table.drafts(13, 14, 15)
    assert table.drafts(16) == [show(16)]
    assert len(table.ledger().suffix) == 6


def test_a_prompt_that_is_given_while_away_is_answered_with_drafts() -> None:
    table = away(SHOWING, 11)
    table.tell(wish(7, 8, base=4))
    table.aborts()
    assert table.drafts(20) == [show(20), step(6, 6, 20)]


@pytest.mark.parametrize("ahead", get_args(Ahead))
def test_so_is_one_by_who_waits_for_verdicts_that_were_asked_for(ahead: Ahead) -> None:
    """No cloud was asked for the token behind it."""
    table = EdgeTable(dataclasses.replace(SHOWING, policy=always(ahead=ahead)))
    table.cut()
    assert table.tell(wish(1, 2, 3)) == [step(1, 0, 1, 2, 3)]
    assert table.asks() == []
    assert table.drafts(20) == [show(20), step(2, 3, 20)]


def test_what_is_confirmed_replaces_what_was_shown_and_the_rest_is_shown_again() -> None:
    table = away(dataclasses.replace(SHOWING, window_tokens=2), 11, 12)
    table.drafts(13, 14, 15)
    table.meets()
    assert table.hears(frames.Resumed(0, need=False)) == [send(draft(4, 11, 12, ask=6, epoch=3))]
    assert without_steps(table.hears(verdict(4, 2, 13, epoch=3))) == [
        emit(11, 12, 13),
        show(14, 15),
        send(draft(7, 14, 15, ask=9, epoch=3)),
    ]
    assert without_steps(table.hears(verdict(7, 2, 16, epoch=3))) == [emit(14, 15, 16)]


def test_drafts_that_are_made_until_the_cloud_has_answered_are_judged_window_by_window_too() -> None:
    """However much the trigger would ask about the last of them: the cloud takes no more at once."""
    eager = dataclasses.replace(SHOWING, policy=always(TWO_AT_MOST), window_tokens=2, offline_tokens=9)
    table = away(eager, 11, 12)
    table.drafts(13, 14)
    table.meets()
    table.aborts()
    table.drafts(15, 16)
    assert table.hears(frames.Resumed(0, need=False)) == [send(draft(4, 11, 12, ask=6, epoch=3))]
    assert without_steps(table.drafts(17)) == []
    assert without_steps(table.hears(verdict(4, 2, 13, epoch=3))) == [
        emit(11, 12, 13),
        show(14, 15, 16),
        send(draft(7, 14, 15, ask=9, epoch=3)),
    ]
    assert without_steps(table.hears(verdict(7, 2, 16, epoch=3))) == [
        emit(14, 15, 16),
        send(draft(10, 17, epoch=3)),
    ]
    assert without_steps(table.drafts(18)) == [send(draft(11, 18, ask=12, epoch=3))]


def test_the_first_wrong_draft_and_what_follows_is_not_shown_any_more() -> None:
    table = away(SHOWING, 11, 12, 13)
    table.meets()
    table.hears(frames.Resumed(0, need=False))
    assert without_steps(table.hears(verdict(4, 1, 50, epoch=3))) == [emit(11, 50)]
    assert table.ledger().suffix == []


def test_what_was_shown_is_not_shown_again_when_the_next_connection_breaks_too() -> None:
    table = away(SHOWING, 11, 12)
    table.meets()
    table.aborts()
    table.hears(frames.Resumed(0, need=False))
    table.drafts(13)
    assert [command for command in table.cut() if isinstance(command, ShowDrafts)] == [show(13)]


def test_who_waits_at_the_door_of_a_busy_cloud_is_shown_no_more() -> None:
    table = away(SHOWING, 11)
    table.meets()
    table.hears(frames.Fault(0, "busy", "no room", 1_000))
    assert table.aborts() == []
    assert table.phase() is TextPhase.DRAFTING


# An answer that is to end there.


def test_who_wants_to_stop_is_told_that_the_answer_ends() -> None:
    table = leased(STOPPING, 11)
    assert FailGeneration(0, GONE) in table.cut()
    assert table.phase() is TextPhase.IDLE
    assert table.ledger().text == [1, 2, 3, 10]
    assert table.aborts() == []


def test_who_wants_to_stop_can_ask_for_nothing_until_the_cloud_is_back() -> None:
    table = away(STOPPING, 11)
    with pytest.raises(LinkError, match="cut"):
        table.tell(wish(7, base=4))
    assert table.ledger().text == [1, 2, 3, 10]
    assert table.meets() == [send(resume(LEASE, 4, epoch=4, turn=3))]
    assert table.hears(frames.Resumed(0, need=True)) == [send(restore(*WHOLE, epoch=4))]
    assert table.tell(wish(7, base=4))[0] == send(prompt(7, base=4, epoch=5))


# Another cloud, which grants less.


def test_drafts_beyond_the_window_are_judged_window_by_window() -> None:
    table = away(dataclasses.replace(PATIENT, window_tokens=8), *range(11, 19))
    table.meets(grant(window_tokens=3))
    assert table.hears(frames.Resumed(0, need=False)) == [send(draft(4, 11, 12, 13, ask=7, epoch=3))]
    assert without_steps(table.hears(verdict(4, 3, 14, epoch=3))) == [
        emit(11, 12, 13, 14),
        send(draft(8, 15, 16, 17, ask=11, epoch=3)),
    ]
    assert without_steps(table.hears(verdict(8, 3, 18, epoch=3))) == [emit(15, 16, 17, 18)]


def test_a_verdict_by_halves_is_followed_by_the_next_window_when_the_ask_is_answered() -> None:
    table = away(dataclasses.replace(PATIENT, window_tokens=8), *range(11, 19))
    table.meets(grant(window_tokens=3))
    table.hears(frames.Resumed(0, need=False))
    assert without_steps(table.hears(verdict(4, 1, 12, epoch=3))) == [
        emit(11, 12),
        send(draft(7, 14, 15, epoch=3)),
    ]
    assert without_steps(table.hears(verdict(6, 1, 14, epoch=3))) == [
        emit(13, 14),
        send(draft(9, 16, 17, ask=11, epoch=3)),
    ]


def test_a_window_that_grows_is_used() -> None:
    table = away(dataclasses.replace(PATIENT, window_tokens=8), 11, 12, 13, window_tokens=3)
    table.meets(grant(window_tokens=16))
    table.aborts()
    assert table.drafts(14, 15, 16) != []
    assert table.hears(frames.Resumed(0, need=False))[0] == send(draft(4, *range(11, 17), ask=10, epoch=3))


def test_an_answer_ends_where_the_context_of_the_new_cloud_does() -> None:
    table = away(PATIENT, 11, 12)
    table.meets(grant(context_tokens=6))
    assert table.aborts() == [], "there is no room for another draft"
    table.hears(frames.Resumed(0, need=True))
    finish = table.hears(verdict(4, 2, finish="context", epoch=3))
    assert without_steps(finish)[0] == emit(11, 12)
    assert table.phase() is TextPhase.IDLE


def test_a_text_that_does_not_fit_the_new_cloud_fails_and_another_session_goes_on() -> None:
    table = leased(PATIENT)
    table.tell(events.SessionWanted(1))
    table.hears(frames.Opened(1, LEASE))
    table.tell(wish(1, session=1))
    table.cut()
    table.meets(grant(context_tokens=4))
    table.hears(frames.Resumed(0, need=True))
    table.hears(frames.Resumed(1, need=True))
    no_room = Failure("context", "the prompt does not fit the context of 4 tokens")
    assert FailGeneration(0, no_room) in table.hears(frames.Fault(0, "context", no_room.message))
    assert (table.phase(0), table.phase(1)) == (TextPhase.FAILED, TextPhase.AWAITING)


def test_a_text_that_no_frame_can_hold_fails_where_it_would_have_to_be_said_again() -> None:
    table = EdgeTable(PATIENT, grant(context_tokens=2**20))
    table.hears(frames.Opened(0, LEASE))
    for _ in range(2):
        books = table.ledger()
        table.tell(wish(*[1] * (PROMPT_TOKENS_MAX // 2 + 10_000), base=books.confirmed))
        table.hears(verdict(books.confirmed, 0, 10, epoch=books.epoch))
    table.cut()
    table.meets(grant(context_tokens=2**20))
    too_long = Failure("context", "the text is too long to be sent to the cloud again")
    assert FailGeneration(0, too_long) in table.hears(frames.Resumed(0, need=True))


# -- the reader, and a drafter that cannot go on ----------------------------------------------------------


def test_paused_reader_pauses_the_drafter_until_the_text_is_read() -> None:
    table = answering(None, 10)
    assert table.tell(events.ReaderPaused(0)) == []
    assert table.drafts(11) == [send(draft(4, 11, ask=5))]
    assert table.hears(verdict(3, 2, 12)) == [emit(10, 11, 12)]
    assert table.phase() is TextPhase.DRAFTING
    assert table.tell(events.ReaderResumed(0)) == [step(3, 4, 11, 12)]


def test_new_prompt_begins_with_a_reader_who_reads() -> None:
    table = answering(None)
    table.tell(events.ReaderPaused(0))
    table.aborts()
    assert table.tell(wish(4, base=3)) == [send(prompt(4, epoch=2, base=3)), step(2, 0, 1, 2, 3, said(4))]


def test_draft_that_fails_leaves_the_target_alone() -> None:
    table = answering(None, 10, most=900)
    assert table.tell(events.DraftFailed(2, "out of memory")) == [send(draft(4, ask=4))]
    assert table.hears(verdict(3, 0, 50)) == [emit(50), send(draft(4, ask=4 + ALONE_TOKENS, epoch=2))]
    assert table.hears(verdict(4, 0, 51, epoch=2)) == [emit(51)]
    assert table.phase() is TextPhase.AWAITING


def test_target_alone_is_asked_to_the_limit_at_most() -> None:
    table = EdgeTable()
    table.tell(wish(1, 2, 3, most=4))
    assert table.tell(events.DraftFailed(1, "out of memory")) == [send(draft(3, ask=7))]
    assert table.hears(verdict(3, 0, 10)) == [emit(10)]
    table.hears(verdict(4, 0, 11, 12, 13, finish="length"))
    assert table.phase() is TextPhase.IDLE


def alone() -> EdgeTable:
    """An edge whose drafter has failed; the target was asked to run on to position 3 + ALONE_TOKENS."""
    table = answering(most=900)
    asked = send(draft(3, ask=3 + ALONE_TOKENS))
    assert table.tell(events.DraftFailed(1, "out of memory")) == [asked]
    return table


def test_ask_without_drafts_waits_for_no_verdict() -> None:
    table = answering(EdgeRules(policy=always(upload_ahead=False)), most=900)
    assert table.tell(events.DraftFailed(1, "out of memory")) == [send(draft(3, ask=3 + ALONE_TOKENS))]


def said_alone(count: int) -> tuple[int, ...]:
    return (10,) * count


def test_target_alone_is_asked_again_when_less_than_half_lies_ahead() -> None:
    table = alone()
    half = said_alone(ALONE_TOKENS // 2)
    assert table.hears(verdict(3, 0, *half)) == [emit(*half)]
    now = 3 + len(half) + 1
    assert table.hears(verdict(now - 1, 0, 11)) == [emit(11), send(draft(now, ask=now + ALONE_TOKENS))]
    assert table.hears(verdict(now, 0, 12)) == [emit(12)]
    assert len(table.asks()) == 2
    assert table.phase() is TextPhase.AWAITING


def test_target_alone_is_not_asked_again_beyond_the_limit() -> None:
    table = EdgeTable()
    most = ALONE_TOKENS + ALONE_TOKENS // 4
    table.tell(wish(1, 2, 3, most=most))
    table.tell(events.DraftFailed(1, "out of memory"))
    news, at = said_alone(ALONE_TOKENS * 3 // 4), 3 + ALONE_TOKENS * 3 // 4
    assert table.hears(verdict(3, 0, *news)) == [emit(*news), send(draft(at, ask=3 + most))]
    assert table.hears(verdict(at, 0, 11, 12)) == [emit(11, 12)]


def test_target_alone_is_not_asked_again_while_nobody_reads() -> None:
    table = alone()
    table.tell(events.ReaderPaused(0))
    news, at = said_alone(ALONE_TOKENS), 3 + ALONE_TOKENS
    assert table.hears(verdict(3, 0, *news)) == [emit(*news)]
    assert table.phase() is TextPhase.DRAFTING
    assert table.tell(events.ReaderResumed(0)) == [send(draft(at, ask=at + ALONE_TOKENS))]


def test_policy_of_the_target_alone_drafts_nothing() -> None:
    table = EdgeTable(EdgeRules(policy=POLICIES["cloud-only"]))
    assert table.tell(wish(1, 2, 3)) == [send(prompt(1, 2, 3)), send(draft(3, ask=53))]
    assert table.hears(verdict(3, 0, 10)) == [emit(10)]
    assert table.steps_started == 0


def test_draft_that_failed_is_tried_again_at_the_next_prompt() -> None:
    table = answering()
    table.tell(events.DraftFailed(1, "out of memory"))
    assert table.tell(wish(4, base=3)) == [send(prompt(4, epoch=2, base=3)), step(2, 0, 1, 2, 3, said(4))]


def test_draft_context_that_is_full_leaves_the_target_alone() -> None:
    table = EdgeTable(EdgeRules(policy=always(), draft_context_tokens=4))
    table.tell(wish(1, 2, 3, most=900))
    assert table.drafts(10) == [send(draft(3, 10, ask=4))]
    assert table.hears(verdict(3, 1, 11)) == [emit(10, 11), send(draft(5, ask=5 + ALONE_TOKENS))]
    assert table.phase() is TextPhase.AWAITING


def test_confirmed_id_that_the_draft_does_not_know_pauses_drafting_until_the_next_prompt() -> None:
    small = Vocabulary([bytes([token]) for token in range(60)])
    table = EdgeTable(vocabulary=small, welcome=grant(vocabulary_hashes=small.hashes))
    table.tell(wish(1, 2, 3, most=900))
    assert table.hears(verdict(3, 0, 70)) == [emit(70), AbortStep(1)]
    assert table.aborts() == [send(draft(4, ask=4 + ALONE_TOKENS))]
    table.hears(verdict(4, 0, 71, finish="stop"))
    assert table.tell(wish(4, base=5))[1] == step(2, 0, 1, 2, 3, Stretch((0, 0), prompt=False), 4)
    assert table.phase() is TextPhase.AWAITING


def test_drafted_id_that_the_target_does_not_know_pauses_drafting() -> None:
    large = Vocabulary([bytes([token]) for token in range(120)])
    table = EdgeTable(vocabulary=large, welcome=grant(vocabulary_hashes=large.hashes))
    table.tell(wish(1, 2, 3, most=900))
    assert table.drafts(TOKENS) == [send(draft(3, ask=3 + ALONE_TOKENS))]
    assert table.hears(verdict(3, 0, 10)) == [emit(10)]
    assert table.ledger().suffix == []


def test_prompt_takes_text_back() -> None:
    table = answering(None, 10, 11)
    table.hears(verdict(3, 2, END, finish="stop"))
    table.aborts()
    assert table.tell(wish(8, 9, base=4)) == [send(prompt(8, 9, epoch=3, base=4)), step(4, 4, 8, 9)]
    assert table.ledger().text == [1, 2, 3, 10, 8, 9]
    assert table.phase() is TextPhase.AWAITING


def test_prompt_replaces_a_running_answer() -> None:
    table = answering(None, 10)
    assert table.tell(wish(8, base=1)) == [send(prompt(8, epoch=2, base=1)), AbortStep(2)]
    assert table.drafts(11) == [step(3, 0, said(1), 8)]
    assert table.hears(verdict(3, 1, 11)) == []
    assert table.phase() is TextPhase.AWAITING


def test_cancel_ends_the_answer_and_keeps_the_text() -> None:
    table = answering(None, 10)
    table.hears(verdict(3, 0, 10))
    stats = GenerationStats(tokens=1, drafted=1, accepted=1, verdicts=1)
    cancel = send(frames.Cancel(0, 2))
    assert table.tell(events.GenerationCancelled(0)) == [
        cancel,
        FinishGeneration(0, None, stats),
        AbortStep(2),
    ]
    assert table.tell(events.GenerationCancelled(0)) == []
    assert table.ledger().text == [1, 2, 3, 10]
    assert table.phase() is TextPhase.IDLE


def test_faulted_session_fails_and_takes_no_prompt() -> None:
    table = answering(None, 10)
    failed, abort = table.hears(frames.Fault(0, "engine", "broken"))
    assert isinstance(failed, FailGeneration)
    assert failed.failure.code == "engine"
    assert abort == AbortStep(2)
    assert table.hears(frames.Fault(0, "engine", "again")) == []
    assert table.aborts() == []
    with pytest.raises(UsageError, match="failed"):
        table.tell(wish(4))
    assert table.phase() is TextPhase.FAILED


def test_prompt_that_just_fits_is_taken() -> None:
    table = EdgeTable(welcome=grant(context_tokens=6))
    assert table.tell(wish(1, 2, 3, 4, 5))[0] == send(prompt(1, 2, 3, 4, 5))


# -- the tuner --------------------------------------------------------------------------------------------


def r1_of(table: EdgeTable) -> float:
    return table.side.sessions[0]._tactics.trigger.r1


def test_r1_follows_the_closed_form_until_thresholds_are_proposed_and_after_they_are_withdrawn() -> None:
    """A step takes 100 ms; a token 200 ms, then 150 ms on average."""
    table = EdgeTable(EdgeRules(policy=POLICIES["pipesd"], tuner="edge", objective="latency"))
    begun = r1_of(table)
    table.tell(wish(1, 2, most=500))
    table.tell(events.TokenDrafted(1, 10, 1.0), 0.1)
    assert r1_of(table) == begun
    table.hears(verdict(2, 0, *[50] * 5), 0.5)
    epoch = table.ledger().epoch
    table.hears(verdict(7, 0, *[50] * 5, epoch=epoch), 1.5)
    assert r1_of(table) == pytest.approx(0.1 / 0.2)
    table.tell(events.ThresholdsProposed(1, Thresholds(0.125, 0.9, 8, 1)), 1.5)
    assert r1_of(table) == 0.125
    table.hears(verdict(12, 0, *[50] * 5, epoch=epoch), 2.0)
    assert r1_of(table) == 0.125
    table.tell(events.ThresholdsProposed(2, None), 2.0)
    assert r1_of(table) == pytest.approx(0.1 / 0.15)


@pytest.mark.parametrize(("objective", "expected"), [("latency", 0.5), ("balanced", 0.4), ("cost", 0.25)])
def test_the_closed_form_counts_what_the_tuner_counts(objective: Objective, expected: float) -> None:
    """100 ms a step, 200 ms and 50 ms of the cloud's work a token; a pass takes the same for any number."""
    table = EdgeTable(EdgeRules(policy=POLICIES["pipesd"], tuner="edge", objective=objective))
    table.tell(wish(1, 2, most=500))
    table.tell(events.TokenDrafted(1, 10, 1.0), 0.1)
    table.hears(verdict(2, 0, 50), 0.5)
    epoch = table.ledger().epoch
    for number in range(1, 5):
        news = verdict(2 + number, 0, 50, epoch=epoch)
        table.hears(msgspec.structs.replace(news, pass_us=50_000), 0.5 + 0.2 * number)
    assert r1_of(table) == pytest.approx(expected)


def test_without_a_tuner_the_closed_form_counts_time_alone() -> None:
    table = EdgeTable(EdgeRules(policy=POLICIES["pipesd"], objective="cost"))
    table.tell(wish(1, 2, most=500))
    table.tell(events.TokenDrafted(1, 10, 1.0), 0.1)
    table.hears(verdict(2, 0, 50), 0.5)
    for number in range(1, 5):
        news = verdict(2 + number, 0, 50, epoch=table.ledger().epoch)
        table.hears(msgspec.structs.replace(news, pass_us=50_000), 0.5 + 0.2 * number)
    assert r1_of(table) == pytest.approx(0.5)
