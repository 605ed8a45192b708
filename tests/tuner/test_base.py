"""Places and thresholds, windows, and the tuner that has made up its mind."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipesd.errors import UsageError
from pipesd.planner.trigger import Thresholds
from pipesd.tuner.base import AxisName, FixedTuner, Score, Space, Trial, Unit, Verdicted, Window
from tests.contracts.tuners import check_tuner

START = Thresholds(r1=0.7, r2=0.2, upper_tokens=5, lower_tokens=3)


@pytest.mark.parametrize(
    ("at", "r"),
    [(0.0, 0.0), (1.0, 1.0), (1 / 3, 0.9 / 0.999), (2 / 3, 0.99 / 0.999), (0.5, 0.9693465699682845)],
)
def test_the_axes_of_r1_and_r2_are_logarithmic_in_the_doubt_that_is_left(at: float, r: float) -> None:
    found = Space().thresholds((at, at), START)
    assert [found.r1, found.r2] == pytest.approx([r, r], abs=1e-12)


def test_the_ends_of_the_axes_are_exact() -> None:
    assert Space().thresholds((0.0, 1.0), START) == replace(START, r1=0.0, r2=1.0)
    assert Space().thresholds((1.0, 0.0), START) == replace(START, r1=1.0, r2=0.0)


def test_what_is_not_searched_stays() -> None:
    assert Space(("r2",)).thresholds((1.0,), START) == replace(START, r2=1.0)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_thresholds_have_their_place(r1: float, r2: float) -> None:
    found = Space().thresholds(Space().unit(Thresholds(r1, r2)), START)
    assert [found.r1, found.r2] == pytest.approx([r1, r2], abs=1e-9)


def test_a_grid_is_even_and_has_the_corners() -> None:
    assert Space().grid(3) == [(a, b) for a in (0.0, 0.5, 1.0) for b in (0.0, 0.5, 1.0)]
    assert Space(("r2",)).grid(2) == [(0.0,), (1.0,)]
    with pytest.raises(UsageError, match="per_axis: must be at least 2, not 1"):
        Space().grid(1)


@pytest.mark.parametrize("names", [(), ("r1", "r1"), ("r1", "r3")])
def test_a_space_of_nothing_known_is_refused(names: tuple[AxisName, ...]) -> None:
    with pytest.raises(UsageError, match="a tuner searches some of r1, r2, each once"):
        Space(names)


@pytest.mark.parametrize(
    "unit", [(), (0.5,), (0.5, 0.5, 0.5), (0.5, 1.01), (-0.01, 0.5), (float("nan"), 0.5)]
)
def test_what_is_no_place_is_refused(unit: Unit) -> None:
    with pytest.raises(UsageError, match="a number from 0 to 1 for each of r1, r2"):
        Space().thresholds(unit, START)


def test_a_window_sums_up_its_verdicts() -> None:
    window = Window((Verdicted(3, 0.25, 0.03, 1.0), Verdicted(1, 0.5, 0.0, 0.5)))
    assert (window.tokens, window.elapsed_s, window.cloud_s, window.energy_j) == (4, 0.75, 0.03, 1.5)


def test_energy_is_known_only_if_it_was_measured_throughout() -> None:
    assert Window((Verdicted(3, 0.25, 0.03, 1.0), Verdicted(1, 0.5, 0.0))).energy_j is None
    assert Window(()).energy_j is None


@pytest.mark.parametrize(
    ("value", "error"),
    [(float("nan"), 1.0), (0.0, 1.0), (-1.0, 1.0), (float("inf"), 1.0), (1.0, -1.0), (1.0, float("nan"))],
)
def test_an_impossible_score_is_refused(value: float, error: float) -> None:
    with pytest.raises(UsageError, match="a score is above 0 and finite"):
        Score(value, error)


def test_the_fixed_tuner_stays_where_it_is() -> None:
    tuner = FixedTuner((0.25, 0.75))
    check_tuner(lambda: FixedTuner((0.25, 0.75)), Space())
    tuner.tell(Trial(9, (0.5, 0.5)), Score(1.0, 0.1))
    assert tuner.ask() == Trial(1, (0.25, 0.75))
    assert tuner.best() == (0.25, 0.75)
