"""What a draft's confidence is worth."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.planner.calibration import Calibration

quick = settings(derandomize=True, deadline=None, max_examples=100)
shares = st.floats(0.0, 1.0)

PRIOR_DRAFTS = 8
"""As many drafts as a draft's own confidence counts for."""

NEARLY_ONE = math.nextafter(1.0, 0.0)
SURE = (0.0, 1e-300, 0.1, 0.29, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99, 0.999, 0.9999, NEARLY_ONE, 1.0)


def taught(confidence: float, *outcomes: bool) -> Calibration:
    calibration = Calibration()
    for accepted in outcomes:
        calibration.learn(confidence, accepted=accepted)
    return calibration


def learn_together(one: float, other: float) -> bool:
    """Whether what becomes of the one says something about the other: they are in one class."""
    return taught(one, *[False] * 50).survival(other) != Calibration().survival(other)


def test_sure_drafts_are_told_apart() -> None:
    told = (0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999)
    for number, one in enumerate(told):
        assert [learn_together(one, other) for other in told].index(True) == number
        assert sum(learn_together(one, other) for other in told) == 1


def test_classes_begin_where_doubt_has_shrunk_by_the_square_root_of_two() -> None:
    edges = [1.0 - 2.0 ** (-number / 2) for number in range(24)]
    for edge, next_edge in itertools.pairwise(edges):
        assert learn_together(edge + 1e-6, next_edge - 1e-6)
        assert not learn_together(next_edge - 1e-6, next_edge + 1e-6)
    assert learn_together(edges[-1] + 1e-6, 1.0)


@given(st.tuples(shares, shares, shares))
@quick
def test_a_class_is_a_range_of_confidences(sure: tuple[float, float, float]) -> None:
    low, middle, high = sorted(max(each, 1e-3) for each in sure)
    if learn_together(low, high):
        assert learn_together(low, middle)
        assert learn_together(middle, high)


@given(shares)
@quick
def test_at_first_a_draft_is_worth_its_confidence(confidence: float) -> None:
    assert Calibration().survival(confidence) == pytest.approx(confidence, rel=1e-12)


def test_at_first_no_draft_is_lifted_over_a_threshold_that_it_is_far_below() -> None:
    assert Calibration().survival(0.3) <= 0.4


@pytest.mark.parametrize("outcome", [True, False])
@given(st.integers(1, 23), st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.integers(0, 400))
@quick
def test_of_a_class_a_surer_draft_is_worth_more_whatever_was_learned(
    outcome: bool, number: int, one: float, other: float, count: int
) -> None:
    start, end = (1.0 - 2.0 ** (-edge / 2) for edge in (number - 1, number))
    low, high = sorted(start + (end - start) * place for place in (one, other))
    calibration = taught(low, *[outcome] * count)
    assert calibration.survival(low) <= calibration.survival(high)


def test_few_drafts_change_little() -> None:
    own = 0.9 * PRIOR_DRAFTS
    assert taught(0.9, False).survival(0.9) == pytest.approx(own / (PRIOR_DRAFTS + 1))
    assert taught(0.9, True, True).survival(0.9) == pytest.approx((own + 2) / (PRIOR_DRAFTS + 2))
    assert taught(0.9, True, False).survival(0.88) == pytest.approx(
        (0.88 * PRIOR_DRAFTS + 1) / (PRIOR_DRAFTS + 2)
    )


@pytest.mark.parametrize("confidence", SURE)
def test_what_is_learned_moves_the_worth_its_way(confidence: float) -> None:
    accepted, rejected = taught(confidence, True), taught(confidence, False)
    own = Calibration().survival(confidence)
    assert rejected.survival(confidence) < own or own == 0.0
    assert own < accepted.survival(confidence) or own >= NEARLY_ONE


def test_an_overconfident_draft_is_found_out() -> None:
    calibration = taught(0.95, *[True, False, True, False, True] * 60)
    assert calibration.survival(0.95) == pytest.approx(0.6, abs=0.03)


def test_a_draft_that_is_too_modest_is_found_out() -> None:
    calibration = taught(0.5, *[True] * 19, *[*[True] * 19, False] * 12)
    assert calibration.survival(0.5) == pytest.approx(0.95, abs=0.02)


def test_other_classes_learn_nothing() -> None:
    calibration = taught(0.9, *[False] * 50)
    for other in (0.3, 0.6, 0.8, 0.87, 0.88, 0.92, 0.99, 1.0):
        learned = calibration.survival(other) != Calibration().survival(other)
        assert learned == (other == 0.88)


def test_what_was_learned_is_forgotten() -> None:
    calibration = taught(0.9, *[True] * 5_000)
    assert calibration.survival(0.9) > 0.99
    for _ in range(100):
        calibration.learn(0.9, accepted=False)
    assert calibration.survival(0.9) < 0.67
    for _ in range(300):
        calibration.learn(0.9, accepted=False)
    assert calibration.survival(0.9) < 0.12
    assert calibration.acceptance < 0.12


def test_what_was_learned_is_not_forgotten_for_want_of_news() -> None:
    calibration = taught(0.9, *[False] * 40)
    before = calibration.survival(0.9)
    for _ in range(5_000):
        calibration.learn(0.2, accepted=True)
    assert calibration.survival(0.9) == before


def test_acceptance_is_the_share_of_all_drafts() -> None:
    calibration = Calibration()
    assert calibration.acceptance == pytest.approx(0.8)
    for at in range(400):
        calibration.learn(at % 24 / 23, accepted=at % 10 != 0)
    assert calibration.acceptance == pytest.approx(0.9, abs=0.01)


@given(st.lists(st.tuples(shares, st.booleans()), max_size=600), shares)
@quick
def test_whatever_is_learned_is_a_probability(outcomes: list[tuple[float, bool]], confidence: float) -> None:
    calibration = Calibration()
    for sure, accepted in outcomes:
        calibration.learn(sure, accepted=accepted)
    assert 0.0 <= calibration.survival(confidence) <= 1.0
    assert 0.0 <= calibration.acceptance <= 1.0


@given(st.floats(1e-6, 1.0 - 1e-6), st.booleans(), st.integers(190, 420))
@quick
def test_worth_never_leaves_the_bounds_while_it_forgets(
    confidence: float, accepted: bool, count: int
) -> None:
    calibration = Calibration()
    for _ in range(count):
        calibration.learn(confidence, accepted=accepted)
        assert 0.0 < calibration.survival(confidence) < 1.0
