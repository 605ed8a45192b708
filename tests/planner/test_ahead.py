"""Ahead or wait."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pipesd.planner.ahead import Outlook, gain_s

quick = settings(derandomize=True, deadline=None, max_examples=150)
times = st.floats(0.0, 10.0)
shares = st.floats(0.0, 1.0)
outlooks = st.builds(Outlook, times, times, times, shares, shares)

FAST_EDGE = Outlook(answer_s=0.200, draft_s=0.050, abort_s=0.010, survival=0.8, agreement=0.9)


def same(seconds: float) -> object:
    return pytest.approx(seconds, rel=1e-9, abs=1e-12)


def played_s(outlook: Outlook) -> float:
    """By how much earlier, on average, the token behind the target's own is drafted if one drafts ahead.

    Whoever waits drafts it from the verdict on. Whoever is right drafts it as the second step ahead. Whoever
    is wrong, or drafts what the verdict says anyway, has a step to abort first.
    """
    waiting = outlook.answer_s + outlook.draft_s
    right = 2 * outlook.draft_s
    late = outlook.answer_s + outlook.abort_s + outlook.draft_s
    in_time = outlook.draft_s < outlook.answer_s
    odds = outlook.survival * outlook.agreement if in_time else 0.0
    return waiting - (odds * right + (1 - odds) * late)


@given(outlooks)
@quick
def test_gain_is_what_playing_it_through_gives(outlook: Outlook) -> None:
    assert gain_s(outlook) == pytest.approx(played_s(outlook), abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "gain"),
    [
        ({}, 0.72 * 0.15 - 0.28 * 0.01),
        ({"survival": 1.0, "agreement": 1.0}, 0.15),
        ({"survival": 0.0}, -0.01),
        ({"agreement": 0.0}, -0.01),
        ({"survival": 0.05, "agreement": 0.5, "abort_s": 0.1}, 0.025 * 0.15 - 0.975 * 0.1),
        ({"draft_s": 0.199}, 0.72 * 0.001 - 0.28 * 0.01),
        ({"draft_s": 0.200}, -0.01),
        ({"draft_s": 0.300, "survival": 1.0, "agreement": 1.0}, -0.01),
        ({"draft_s": 0.300, "abort_s": 0.0}, 0.0),
    ],
)
def test_known_gains(changes: dict[str, float], gain: float) -> None:
    assert gain_s(replace(FAST_EDGE, **changes)) == same(gain)


def test_a_far_cloud_is_worth_drafting_ahead_and_a_slow_edge_is_not() -> None:
    fast_edge = Outlook(answer_s=0.057, draft_s=0.02, abort_s=0.005, survival=0.75, agreement=0.83)
    slow_edge = replace(fast_edge, draft_s=0.12)
    assert gain_s(fast_edge) > 0.0 > gain_s(slow_edge)


@given(outlooks)
@quick
def test_a_step_that_outlasts_the_answer_is_never_worth_it(outlook: Outlook) -> None:
    assume(outlook.draft_s >= outlook.answer_s)
    assert gain_s(outlook) <= 0.0


@given(outlooks)
@quick
def test_gain_lies_between_the_cost_of_aborting_and_the_time_that_is_saved(outlook: Outlook) -> None:
    saved_s = max(0.0, outlook.answer_s - outlook.draft_s)
    assert -outlook.abort_s - 1e-12 <= gain_s(outlook) <= saved_s + 1e-12


@given(outlooks, shares, st.sampled_from(["survival", "agreement"]))
@quick
def test_the_surer_the_drafts_the_more_is_gained(outlook: Outlook, other: float, share: str) -> None:
    low, high = sorted((other, getattr(outlook, share)))
    surer, less_sure = replace(outlook, **{share: high}), replace(outlook, **{share: low})
    assert gain_s(surer) >= gain_s(less_sure) - 1e-12


@given(outlooks, times)
@quick
def test_the_longer_an_abort_takes_the_less_is_gained(outlook: Outlook, more_s: float) -> None:
    longer = replace(outlook, abort_s=outlook.abort_s + more_s)
    assert gain_s(longer) <= gain_s(outlook) + 1e-12


@given(outlooks, times)
@quick
def test_the_longer_an_answer_takes_the_more_is_gained(outlook: Outlook, more_s: float) -> None:
    later = replace(outlook, answer_s=outlook.answer_s + more_s)
    assert gain_s(later) >= gain_s(outlook) - 1e-9
