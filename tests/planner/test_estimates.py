"""Robust estimates and their errors."""

import math
import random
import statistics
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.planner.estimates import WINDOW, Estimate, Line, LineFit, Median

quick = settings(derandomize=True, deadline=None, max_examples=60)


def same(seconds: float) -> object:
    return pytest.approx(seconds, rel=1e-9, abs=1e-12)


def median_of(samples: Sequence[float]) -> Estimate:
    median = Median()
    for sample in samples:
        median.add(sample)
    assert median.estimate is not None
    return median.estimate


def fit_of(points: Sequence[tuple[int, float]]) -> LineFit:
    fit = LineFit()
    for tokens, seconds in points:
        fit.add(tokens, seconds)
    return fit


def line_of(points: Sequence[tuple[int, float]]) -> Line:
    line = fit_of(points).line
    assert line is not None
    return line


def parts(line: Line | None) -> tuple[float, float]:
    assert line is not None
    return line.fixed.value, line.slope.value


# --- the median ---


def test_median_and_its_error() -> None:
    assert Median().estimate is None
    error = 1.2533 * 1.4826 * 0.01 / math.sqrt(3)
    assert median_of([0.01, 0.02, 0.09]) == Estimate(0.02, same(error), 3)  # type: ignore[arg-type]
    assert median_of([0.09, 0.01, 0.03, 0.02]).value == same(0.025)
    assert median_of([0.01] * 200 + [0.05] * WINDOW) == Estimate(0.05, 0.0, WINDOW)


def test_median_follows_each_sample_at_first_and_later_within_sixteen() -> None:
    followed = Median()
    for count in range(1, 200):
        followed.add(1_000 + count)
        assert followed.value is not None
        lag = median_of(range(1_001, 1_001 + count)).value - followed.value
        assert lag == 0.0 if count < 16 else 0.0 <= lag < 16


@given(st.lists(st.floats(1.0, 1.24), min_size=1, max_size=15))
@quick
def test_median_is_that_of_all_samples_at_first(samples: list[float]) -> None:
    estimate, window = median_of(samples), samples[-WINDOW:]
    assert estimate.value == same(statistics.median(window))
    spread = max(window) - min(window) if len(window) > 1 else math.inf
    assert 0.0 <= estimate.error <= 1.3 * spread
    assert estimate.samples == len(window)


# --- changes ---


def after(samples: Sequence[float]) -> float | None:
    """The median after a long time at 40 ms, and these."""
    median = Median()
    for sample in (*[0.04] * 100, *samples):
        median.add(sample)
    return median.value


@pytest.mark.parametrize("now_s", [0.08, 0.051, 0.031, 0.001])
def test_six_samples_in_a_row_that_are_off_on_one_side_are_a_change(now_s: float) -> None:
    assert after([now_s] * 5) == same(0.04)
    assert after([now_s] * 6) == same(now_s)
    line = fit_of([(1 + at % 4, 0.01 * (1 + at % 4)) for at in range(100)])
    assert parts(line.line) == (same(0.0), same(0.01))
    for at in range(6):
        line.add(1 + at % 3, now_s / 4 * (1 + at % 3))
    assert line.line is not None
    assert line.line.at(2) == same(now_s / 2)


@pytest.mark.parametrize(
    "samples",
    [[0.05] * 6, [0.032] * 6, [0.08] * 5, [0.08, 0.02] * 10, ([0.4] * 5 + [0.04]) * 4],
    ids=["little", "little less", "few", "by turns", "odd ones"],
)
def test_what_is_no_change_moves_nothing_for_now(samples: list[float]) -> None:
    assert after(samples) == same(0.04)


def test_noise_is_rarely_taken_for_a_change() -> None:
    luck, median, forgotten = random.Random(1), Median(), 0
    for _ in range(5_000):
        median.add(luck.gauss(0.04, 0.006))
        estimate = median.estimate
        forgotten += estimate is not None and estimate.samples == 6
    assert forgotten <= 2


# --- the line ---


def test_a_line_takes_two_sizes_or_three_samples_of_one() -> None:
    assert fit_of([(3, 0.04), (3, 0.06)]).line is None
    flat = line_of([(3, 0.04), (3, 0.06), (3, 0.05)])
    assert parts(flat) == (same(0.05), 0.0)
    assert flat.fixed.error == flat.slope.error == math.inf
    assert parts(line_of([(3, 0.04), (3, 0.06), (3, 0.05), (5, 0.06)])) == (same(0.035), same(0.005))
    assert line_of([(1, 0.05), (2, 0.06)]).at(7) == same(0.11)


@pytest.mark.parametrize("alike", [1, 15, 16, 20, 2 * WINDOW])
def test_a_second_size_gives_a_line_at_once(alike: int) -> None:
    fit = LineFit()
    for _ in range(alike):
        fit.add(1, 0.05)
        assert fit.line is None or parts(fit.line) == (same(0.05), 0.0)
    fit.add(3, 0.07)
    assert fit.line is not None
    assert fit.line.slope.value == same(0.01)


def test_neither_part_is_below_zero() -> None:
    assert parts(line_of([(1, 0.05), (2, 0.04), (3, 0.03)])) == (same(0.04), 0.0)
    lowered = parts(line_of([(2, 0.01), (3, 0.03), (4, 0.05)]))  # to the median of time over size
    assert lowered == (same(0.0), same(0.01))


def test_a_line_that_is_cleared_begins_anew() -> None:
    fit = fit_of([(1 + at % 4, 1.0) for at in range(100)])
    fit.clear()
    assert fit.line is None
    fit.add(1, 0.02)
    fit.add(3, 0.04)
    assert parts(fit.line) == (same(0.01), same(0.01))


def test_a_line_forgets() -> None:
    fit = fit_of([(1 + at % 4, 1.0 + at % 3) for at in range(100)])
    for at in range(WINDOW):
        fit.add(1 + at % 5, 0.01 + 0.002 * (1 + at % 5))
    assert parts(fit.line) == (same(0.01), same(0.002))


@pytest.mark.parametrize(("tokens", "seconds"), [(1, 0.112), (4, 0.004)])
def test_a_line_forgets_even_if_only_one_size_is_left(tokens: int, seconds: float) -> None:
    fit = fit_of([(1 + at % 4, 0.01 + 0.002 * (1 + at % 4)) for at in range(WINDOW)])
    assert fit.line is not None
    for _ in range(2 * WINDOW):
        fit.add(tokens, seconds)
    assert fit.line.at(tokens) == same(seconds)


def test_while_all_sizes_are_the_same_the_slope_stands_and_the_rest_moves() -> None:
    fit = fit_of([(1 + at % 4, 0.01 + 0.002 * (1 + at % 4)) for at in range(WINDOW)])
    before = fit.line
    assert before is not None
    for _ in range(WINDOW):
        fit.add(4, 0.05)
    assert parts(fit.line) == (same(0.042), same(0.002))
    assert fit.line is not None
    assert fit.line.slope == before.slope
    for at in range(WINDOW):
        fit.add(3 + at % 2, 0.01 * (3 + at % 2))
    assert parts(fit.line) == (same(0.0), same(0.01))


def test_a_line_follows_each_sample_at_first_and_later_within_sixteen() -> None:
    fit, points = LineFit(), list[tuple[int, float]]()
    for count in range(1, 3 * WINDOW):
        size = 1 + count % 2
        points.append((size, 1_000 + count + 5.0 * size))
        fit.add(*points[-1])
        if count > 1:
            now, followed = line_of(points), fit.line
            assert followed is not None
            assert followed == now if count < 16 else 0.0 <= now.at(2) - followed.at(2) < 16.0


def test_a_fit_costs_nothing_between_two_renewals() -> None:
    fit, median, seen = LineFit(), Median(), list[tuple[Line | None, float | None]]()
    for count in range(48):
        fit.add(1 + count % 3, 1_000.0 + count)
        median.add(1_000.0 + count)
        seen.append((fit.line, median.value))
    renewed = [count for count in range(15, 48) if seen[count] != seen[count - 1]]
    assert renewed == [30, 46]


def test_equal_times_are_a_flat_line() -> None:
    for count in (5, WINDOW):
        assert parts(line_of([(1 + at % 8, 0.05) for at in range(count)])) == (same(0.05), 0.0)


# --- errors ---


def rough(part: str, luck: random.Random, samples: int) -> tuple[float, Estimate]:
    """The truth, and what is estimated from measurements that scatter around it by 2 ms."""
    sizes = [luck.randint(1, 8) for _ in range(samples)]
    points = [(size, 0.05 + 0.003 * size + luck.gauss(0.0, 0.002)) for size in sizes]
    if part == "median":
        return 0.05, median_of([seconds - 0.003 * size for size, seconds in points])
    line = line_of(points)
    return (0.05, line.fixed) if part == "fixed" else (0.003, line.slope)


@pytest.mark.parametrize("part", ["median", "slope", "fixed"])
def test_errors_cover_the_truth_about_as_often_as_they_should(part: str) -> None:
    tries = [rough(part, random.Random(seed), 32) for seed in range(80)]
    covered = sum(abs(estimate.value - truth) <= estimate.error for truth, estimate in tries) / len(tries)
    assert 0.55 < covered < 0.81


@pytest.mark.parametrize("part", ["median", "slope", "fixed"])
def test_errors_shrink_with_the_samples(part: str) -> None:
    few, many = (
        statistics.fmean(rough(part, random.Random(seed), samples)[1].error for seed in range(20))
        for samples in (8, WINDOW)
    )
    assert few > 2.0 * many > 0.0


def test_equal_times_are_no_uncertainty() -> None:
    assert line_of([(1 + at % 8, 0.05) for at in range(WINDOW)]).slope.error < 0.001


@pytest.mark.parametrize(
    "estimate",
    [
        lambda: median_of([0.01]),
        lambda: line_of([(1, 0.05), (2, 0.055)]).slope,
        lambda: line_of([(1, 0.05), (2, 0.055)]).fixed,
    ],
)
def test_a_single_measurement_is_no_certainty(estimate: Callable[[], Estimate]) -> None:
    assert estimate().error == math.inf
    assert max(part.error for part in (median_of([0.01, 0.02]), *three_points())) < 1.0


def three_points() -> tuple[Estimate, Estimate]:
    line = line_of([(1, 0.05), (2, 0.055), (3, 0.062)])
    return line.fixed, line.slope


def test_the_more_the_slope_is_in_doubt_the_more_is_what_lies_far_from_the_sizes_seen() -> None:
    luck = random.Random(3)
    noise_s = [luck.gauss(0.0, 0.002) for _ in range(WINDOW)]
    near, far = (
        line_of([(start + at % 4, 0.05 + 0.003 * (start + at % 4) + noise_s[at]) for at in range(WINDOW)])
        for start in (1, 101)
    )
    assert near.slope.error == same(far.slope.error)
    assert far.fixed.error == pytest.approx(102.5 * far.slope.error, rel=0.01)
    assert near.fixed.error < far.fixed.error / 20
