"""When a verdict is asked for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipesd.errors import UsageError
from pipesd.planner.trigger import Thresholds, Trigger

confidences = st.lists(st.floats(0, 1), max_size=40)
thresholds = st.builds(
    lambda r1, r2, upper, lower: Thresholds(r1, r2, upper, min(upper, lower)),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(1, 12),
    st.integers(1, 12),
)


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
    assert not trigger.drafted(0.41)
    assert trigger.drafted(0.4)
    assert trigger.unasked_tokens == 0


def test_doubts_add_up() -> None:
    trigger = Trigger(Thresholds(r1=0.5, r2=0.0))
    assert [trigger.drafted(0.8) for _ in range(4)] == [False, False, False, True]


def test_doubts_count_from_the_last_trigger_on() -> None:
    trigger = Trigger(Thresholds(r1=0.5, r2=0.0))
    assert [trigger.drafted(0.7) for _ in range(6)] == [False, True] * 3


def test_upper_bound_fires_however_sure_the_draft_is() -> None:
    trigger = Trigger(Thresholds(r1=0.0, r2=0.0, upper_tokens=3))
    assert [trigger.drafted(1.0) for _ in range(6)] == [False, False, True] * 2


def test_confidence_zero_fires_even_with_thresholds_of_zero() -> None:
    assert Trigger(Thresholds(0.0, 0.0)).drafted(0.0)


def test_idle_drafter_asks_for_one_draft_when_nothing_is_pending() -> None:
    trigger = Trigger(Thresholds(0.0, 0.0, lower_tokens=3))
    assert not trigger.idle(awaiting=False)
    trigger.drafted(1.0)
    assert not trigger.idle(awaiting=True)
    assert trigger.unasked_tokens == 1
    assert trigger.idle(awaiting=False)
    assert not trigger.idle(awaiting=False)


def test_idle_drafter_asks_for_enough_drafts_even_when_a_verdict_is_pending() -> None:
    trigger = Trigger(Thresholds(0.0, 0.0, lower_tokens=2))
    trigger.drafted(1.0)
    assert not trigger.idle(awaiting=True)
    trigger.drafted(1.0)
    assert trigger.idle(awaiting=True)
    assert trigger.unasked_tokens == 0


def test_verified_drafts_are_forgotten_oldest_first() -> None:
    trigger = Trigger(Thresholds(r1=0.5, r2=0.0))
    trigger.drafted(0.6)
    trigger.drafted(0.9)
    trigger.keep_last(1)
    assert trigger.unasked_tokens == 1
    assert not trigger.drafted(0.6)
    assert trigger.drafted(0.9)


def test_keeping_more_than_there_is_changes_nothing() -> None:
    trigger = Trigger(Thresholds(0.0, 0.0))
    trigger.drafted(1.0)
    trigger.keep_last(5)
    assert trigger.unasked_tokens == 1
    trigger.keep_last(0)
    assert trigger.unasked_tokens == 0


def test_reset_starts_anew() -> None:
    trigger = Trigger(Thresholds(r1=0.5, r2=0.0))
    trigger.drafted(0.6)
    trigger.reset()
    assert not trigger.drafted(0.6)


@given(thresholds, confidences)
def test_it_fires_exactly_where_the_paper_says(rule: Thresholds, sureness: list[float]) -> None:
    trigger, since = Trigger(rule), list[float]()
    for confidence in sureness:
        since.append(confidence)
        product = 1.0
        for factor in since:
            product *= factor
        fires = confidence <= rule.r2 or product <= rule.r1 or len(since) == rule.upper_tokens
        assert trigger.drafted(confidence) == fires
        if fires:
            since.clear()
        assert trigger.unasked_tokens == len(since) < rule.upper_tokens
