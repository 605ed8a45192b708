"""When a verdict is asked for."""

import math
from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipesd.errors import UsageError
from pipesd.planner.trigger import R1Rule, Thresholds, Trigger

confidences = st.lists(st.floats(0, 1), max_size=40)
thresholds = st.builds(
    lambda r1, r2, upper, lower: Thresholds(r1, r2, upper, min(upper, lower)),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(1, 12),
    st.integers(1, 12),
)


def drafted(trigger: Trigger, confidence: float) -> bool:
    """One more draft; whether a verdict is to be asked for."""
    trigger.note(confidence)
    return trigger.fires()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"r1": -0.1}, "r1"),
        ({"r1": 1.1}, "r1"),
        ({"r1": math.nan}, "r1"),
        ({"r2": 2.0}, "r2"),
        ({"upper_tokens": 0}, "upper_tokens"),
        ({"lower_tokens": 0}, "lower_tokens"),
        ({"lower_tokens": 9, "upper_tokens": 8}, "lower_tokens"),
    ],
)
def test_an_impossible_threshold_is_named(fields: dict[str, float], named: str) -> None:
    with pytest.raises(UsageError, match=f"^{named}: "):
        Thresholds(**fields)  # type: ignore[arg-type]


def test_bounds_are_allowed() -> None:
    assert Thresholds(0.0, 0.0, 1, 1) != Thresholds(1.0, 1.0, 1, 1)


def test_a_doubtful_token_fires_at_once() -> None:
    trigger = Trigger(Thresholds(r1=0.0, r2=0.4))
    assert not drafted(trigger, 0.41)
    assert drafted(trigger, 0.4)
    assert trigger.unasked_tokens == 0


def test_doubts_add_up() -> None:
    trigger = Trigger(Thresholds(r1=0.5, r2=0.0))
    assert [drafted(trigger, 0.8) for _ in range(4)] == [False, False, False, True]


def test_doubts_count_from_the_last_trigger_on() -> None:
    trigger = Trigger(Thresholds(r1=0.5, r2=0.0))
    assert [drafted(trigger, 0.7) for _ in range(6)] == [False, True] * 3


def test_upper_bound_fires_however_sure_the_draft_is() -> None:
    trigger = Trigger(Thresholds(r1=0.0, r2=0.0, upper_tokens=3))
    assert [drafted(trigger, 1.0) for _ in range(6)] == [False, False, True] * 2


def test_confidence_zero_fires_even_with_thresholds_of_zero() -> None:
    assert drafted(Trigger(Thresholds(0.0, 0.0)), 0.0)


def test_idle_drafter_asks_for_one_draft_when_nothing_is_pending() -> None:
    trigger = Trigger(Thresholds(0.0, 0.0, lower_tokens=3))
    assert not trigger.idle(awaiting=False)
    drafted(trigger, 1.0)
    assert not trigger.idle(awaiting=True)
    assert trigger.unasked_tokens == 1
    assert trigger.idle(awaiting=False)
    assert not trigger.idle(awaiting=False)


def test_idle_drafter_asks_for_enough_drafts_even_when_a_verdict_is_pending() -> None:
    trigger = Trigger(Thresholds(0.0, 0.0, lower_tokens=2))
    drafted(trigger, 1.0)
    assert not trigger.idle(awaiting=True)
    drafted(trigger, 1.0)
    assert trigger.idle(awaiting=True)
    assert trigger.unasked_tokens == 0


def test_verified_drafts_are_forgotten_oldest_first() -> None:
    trigger = Trigger(Thresholds(r1=0.5, r2=0.0))
    drafted(trigger, 0.6)
    drafted(trigger, 0.9)
    trigger.keep_last(1)
    assert trigger.unasked_tokens == 1
    assert not drafted(trigger, 0.6)
    assert drafted(trigger, 0.9)


def test_keeping_more_than_there_is_changes_nothing() -> None:
    trigger = Trigger(Thresholds(0.0, 0.0))
    drafted(trigger, 1.0)
    trigger.keep_last(5)
    assert trigger.unasked_tokens == 1
    trigger.keep_last(0)
    assert trigger.unasked_tokens == 0


def test_reset_starts_anew() -> None:
    trigger = Trigger(Thresholds(r1=0.5, r2=0.0))
    drafted(trigger, 0.6)
    trigger.reset()
    assert not drafted(trigger, 0.6)


def test_without_drafts_nothing_fires() -> None:
    trigger = Trigger(Thresholds(r1=1.0, r2=1.0))
    assert not trigger.fires()
    assert drafted(trigger, 1.0)
    assert not trigger.fires()


def test_trigger_that_is_not_asked_at_once_remembers_the_doubt() -> None:
    """It happens while as many verdicts are pending as may."""
    trigger = Trigger(Thresholds(r1=0.0, r2=0.4))
    trigger.note(0.3)
    trigger.note(1.0)
    assert trigger.fires()
    assert not drafted(trigger, 1.0)


def test_doubtful_draft_that_was_verified_casts_no_doubt_on_the_rest() -> None:
    trigger = Trigger(Thresholds(r1=0.0, r2=0.4))
    trigger.note(0.3)
    trigger.note(1.0)
    trigger.keep_last(1)
    assert not trigger.fires()
    trigger.note(0.3)
    trigger.reset()
    assert not drafted(trigger, 1.0)


def test_it_tells_how_many_drafts_were_made_since_the_last_trigger() -> None:
    trigger = Trigger(Thresholds(r1=0.0, r2=0.4))
    counts = []
    for confidence in (1.0, 1.0, 0.4, 1.0):
        trigger.note(confidence)
        counts.append(trigger.drafted_tokens)
        trigger.fires()
    assert counts == [1, 2, 3, 1]
    assert trigger.idle(awaiting=False)
    assert trigger.drafted_tokens == 0


def test_drafts_that_were_verified_meanwhile_were_made_all_the_same() -> None:
    trigger = Trigger(Thresholds(r1=0.0, r2=0.0, upper_tokens=4))
    for left in (1, 0, 2):
        assert not drafted(trigger, 1.0)
        assert not drafted(trigger, 1.0)
        trigger.keep_last(left)
    assert not drafted(trigger, 1.0)
    assert (trigger.unasked_tokens, trigger.drafted_tokens) == (3, 7)
    assert drafted(trigger, 1.0)
    assert (trigger.unasked_tokens, trigger.drafted_tokens) == (0, 0)


@pytest.mark.parametrize("discard", [Trigger.reset, lambda trigger: trigger.contradicted(1)])
def test_drafts_that_were_discarded_do_not_count(discard: Callable[[Trigger], None]) -> None:
    trigger = Trigger(Thresholds(r1=0.0, r2=0.0))
    trigger.note(1.0)
    trigger.note(1.0)
    discard(trigger)
    trigger.note(1.0)
    assert trigger.drafted_tokens == 1


# -- EdgeLLM's moving R1 ----------------------------------------------------------------------------------

NEARLY = 0.9


def asked(rule: R1Rule = "edgellm") -> Trigger:
    """R1 of 0.8 was reached by three drafts of 0.9, of positions 3, 4 and 5."""
    trigger = Trigger(Thresholds(r1=0.8, r2=0.0), rule)
    for end in (4, 5):
        trigger.note(NEARLY)
        assert not trigger.fires(end)
    trigger.note(NEARLY)
    assert trigger.fires(6)
    return trigger


@pytest.mark.parametrize("rule", ["edgellm", "edgellm_full"])
def test_round_that_is_accepted_as_a_whole_halves_r1(rule: R1Rule) -> None:
    trigger = asked(rule)
    trigger.judged(5)
    assert trigger.r1 == 0.8
    trigger.judged(6)
    assert trigger.r1 == 0.4
    trigger.judged(9)
    assert trigger.r1 == 0.4


def test_halved_r1_is_what_fires_next() -> None:
    trigger = asked()
    trigger.judged(6)
    assert [drafted(trigger, 0.7) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(("at", "rejected"), [(5, 1), (4, 2)])
def test_rejected_share_of_a_round_raises_r1(at: int, rejected: int) -> None:
    trigger = asked()
    trigger.contradicted(at)
    assert trigger.r1 == pytest.approx(0.8 / (NEARLY**3) ** (rejected / 3))
    assert trigger.unasked_tokens == 0


def test_r1_never_exceeds_one() -> None:
    trigger = asked()
    trigger.contradicted(3)
    assert trigger.r1 == 1.0


def test_rounds_behind_a_rejected_one_are_discarded_with_it() -> None:
    trigger = asked()
    trigger.note(0.5)
    assert trigger.fires(7)
    trigger.contradicted(5)
    raised = trigger.r1
    trigger.judged(9)
    assert trigger.r1 == raised == pytest.approx(0.8 / NEARLY)


def test_wrong_draft_behind_the_last_round_says_nothing_against_that_round() -> None:
    trigger = asked()
    trigger.note(NEARLY)
    trigger.contradicted(6)
    assert trigger.r1 == 0.4


def test_round_of_an_idle_drafter_counts() -> None:
    trigger = Trigger(Thresholds(r1=0.8, r2=0.0), "edgellm")
    trigger.note(NEARLY)
    assert trigger.idle(awaiting=False, end=4)
    trigger.judged(4)
    assert trigger.r1 == 0.4


def test_impossible_draft_that_was_rejected_leaves_r1_alone() -> None:
    trigger = Trigger(Thresholds(r1=0.8, r2=0.0), "edgellm")
    trigger.note(0.0)
    assert trigger.fires(4)
    trigger.contradicted(3)
    assert trigger.r1 == 0.8


def test_reset_forgets_what_was_asked_about() -> None:
    trigger = asked()
    trigger.reset()
    trigger.judged(9)
    assert trigger.r1 == 0.8


def test_other_rules_leave_r1_where_it_is() -> None:
    rejecting = asked("edgellm_full")
    rejecting.contradicted(4)
    assert rejecting.r1 == 0.8
    for rule in get_args(R1Rule):
        if not rule.startswith("edgellm"):
            trigger = asked(rule)
            trigger.judged(6)
            trigger.contradicted(7)
            assert trigger.r1 == 0.8


def test_r1_may_be_set_from_outside() -> None:
    trigger = Trigger(Thresholds(r1=0.9, r2=0.0), "closed_form")
    trigger.r1 = 0.5
    assert [drafted(trigger, 0.8) for _ in range(4)] == [False, False, False, True]


@given(thresholds, confidences)
def test_it_fires_exactly_where_the_paper_says(rule: Thresholds, sureness: list[float]) -> None:
    trigger, since = Trigger(rule), list[float]()
    for confidence in sureness:
        since.append(confidence)
        product = 1.0
        for factor in since:
            product *= factor
        fires = confidence <= rule.r2 or product <= rule.r1 or len(since) == rule.upper_tokens
        assert drafted(trigger, confidence) == fires
        if fires:
            since.clear()
        assert trigger.unasked_tokens == trigger.drafted_tokens == len(since) < rule.upper_tokens


@pytest.mark.parametrize("rule", get_args(R1Rule))
def test_other_thresholds_hold_from_the_next_draft_on(rule: R1Rule) -> None:
    trigger = Trigger(Thresholds(r1=0.0, r2=0.0, upper_tokens=100))
    assert [drafted(trigger, 0.4) for _ in range(3)] == [False, False, False]
    trigger.adopt(Thresholds(r1=0.0, r2=0.5, upper_tokens=100), rule)
    assert trigger.unasked_tokens == 3
    assert not drafted(trigger, 0.6)
    assert drafted(trigger, 0.5)


def test_thresholds_that_are_adopted_bring_their_own_r1() -> None:
    trigger = Trigger(Thresholds(r1=0.9, r2=0.0), "closed_form")
    trigger.r1 = 0.3
    trigger.adopt(Thresholds(r1=0.6, r2=0.0), "fixed")
    assert trigger.r1 == 0.6
    assert [drafted(trigger, 0.8) for _ in range(3)] == [False, False, True]


def test_drafts_before_a_change_count_towards_the_number_of_tokens() -> None:
    trigger = Trigger(Thresholds(r1=0.0, r2=0.0, upper_tokens=100))
    drafted(trigger, 1.0)
    drafted(trigger, 1.0)
    trigger.adopt(Thresholds(r1=0.0, r2=0.0, upper_tokens=3), "fixed")
    assert drafted(trigger, 1.0)
