"""What drafting, sending and judging cost."""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.errors import UsageError
from pipesd.planner.costs import WINDOW, CostMeter, Estimate, Gap, Line, LineFit, Median, Trip

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
        followed.add(count)
        assert followed.value is not None
        lag = median_of(range(1, count + 1)).value - followed.value
        assert lag == 0.0 if count < 16 else 0.0 <= lag < 16


@given(st.lists(st.floats(0.0, 1e3), min_size=1, max_size=2 * WINDOW))
@quick
def test_median_is_that_of_the_window(samples: list[float]) -> None:
    estimate, window = median_of(samples), samples[-WINDOW:]
    assert estimate.value == same(statistics.median(window))
    spread = max(window) - min(window) if len(window) > 1 else math.inf
    assert 0.0 <= estimate.error <= 1.3 * spread
    assert estimate.samples == len(window)


# --- the line ---


def test_a_line_takes_two_sizes() -> None:
    fit = fit_of([(3, 0.04), (3, 0.05), (3, 0.06)])
    assert fit.line is None
    fit.add(5, 0.06)
    assert parts(fit.line) == (same(0.035), same(0.005))
    assert line_of([(1, 0.05), (2, 0.06)]).at(7) == same(0.11)


@pytest.mark.parametrize("alike", [1, 15, 16, 20, 2 * WINDOW])
def test_a_second_size_gives_a_line_at_once(alike: int) -> None:
    fit = LineFit()
    for _ in range(alike):
        fit.add(1, 0.05)
        assert fit.line is None
    fit.add(3, 0.07)
    assert fit.line is not None
    assert fit.line.slope.value == same(0.01)


def test_neither_part_is_below_zero() -> None:
    assert parts(line_of([(1, 0.05), (2, 0.04), (3, 0.03)])) == (same(0.04), 0.0)
    lowered = parts(line_of([(2, 0.01), (3, 0.03), (4, 0.05)]))  # to the median of time over size
    assert lowered == (same(0.0), same(0.01))


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
        points.append((size, count + 5.0 * size))
        fit.add(*points[-1])
        if count > 1:
            now, followed = line_of(points), fit.line
            assert followed is not None
            assert followed == now if count < 16 else 0.0 <= now.at(2) - followed.at(2) < 16.0


def test_a_fit_costs_nothing_between_two_renewals() -> None:
    fit, median, seen = LineFit(), Median(), list[tuple[Line | None, float | None]]()
    for count in range(48):
        fit.add(1 + count % 3, float(count))
        median.add(float(count))
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


# --- trips ---


class Points(LineFit):
    """What a trip notes, instead of a line through it."""

    def __init__(self) -> None:
        self.noted: list[tuple[int, float]] = []

    def add(self, tokens: int, seconds: float) -> None:
        self.noted.append((tokens, round(seconds, 6)))


def send(trip: Trip, *batches: tuple[int, float], gap: Gap = "none") -> None:
    """(tokens, ms at which it left) of each batch."""
    for tokens, left_ms in batches:
        trip.sent(tokens, left_ms / 1e3, gap)


def arrive(trip: Trip, *stamps: tuple[int, float]) -> None:
    """(tokens, ms on the cloud's clock) of each batch."""
    trip.arrived([(tokens, round(stamp_ms * 1_000)) for tokens, stamp_ms in stamps])


SENT = ((1, 0), (2, 10), (4, 30), (3, 70))
ARRIVED = ((1, 500), (2, 520), (4, 560), (3, 590))
NOTED = [(2, 0.02), (4, 0.04), (3, 0.03)]
"""Ten milliseconds for each token."""


@pytest.fixture
def points() -> Points:
    return Points()


@pytest.mark.parametrize("portion", [1, 2, 3, 4])
def test_batches_without_a_gap_are_as_far_apart_as_the_second_takes(points: Points, portion: int) -> None:
    trip = Trip(points)
    for start in range(0, 4, portion):
        send(trip, *SENT[start : start + portion])
        arrive(trip, *ARRIVED[start : start + portion])
    assert points.noted == NOTED


@dataclass
class Way:
    """Batches of one session that leave and arrive so many ms behind each other."""

    trip: Trip
    left_ms: float = 0.0
    arrived_ms: float = 500.0

    def batch(self, left_ms: float, arrived_ms: float, tokens: int = 2, gap: Gap = "some") -> None:
        self.left_ms += left_ms
        self.arrived_ms += arrived_ms
        send(self.trip, (tokens, self.left_ms), gap=gap)
        arrive(self.trip, (tokens, self.arrived_ms))

    def idle(self, arrivals: int, apart_ms: float = 40, tokens: int = 2, gap: Gap = "some") -> "Way":
        """So many batches for which the link was idle, behind a first one."""
        for _ in range(arrivals + (self.left_ms == 0.0)):
            self.batch(apart_ms, apart_ms, tokens, gap)
        return self


@pytest.fixture
def way(points: Points) -> Way:
    return Way(Trip(points))


@pytest.mark.parametrize(
    ("left_ms", "arrived_ms", "counts"),
    [
        (20, 35, False),
        (20, 41, True),
        (20, -20, False),
        (0, 0.9, False),
        (0, 2, True),
        (20, 79, True),
        (20, 81, False),
    ],
)
def test_batches_with_a_gap_count_if_they_queued_for_a_usual_time(
    points: Points, way: Way, left_ms: float, arrived_ms: float, counts: bool
) -> None:
    way.idle(12)
    for _ in range(8):
        way.batch(left_ms, arrived_ms)
    assert points.noted == [(2, arrived_ms / 1e3)] * 5 * counts


@pytest.mark.parametrize(
    ("left_ms", "arrived_ms", "counts"), [(70, 79, True), (20, 2, True), (70, 810, True), (70, -20, False)]
)
def test_batches_without_a_gap_are_trusted_but_for_clocks_that_go_back(
    points: Points, way: Way, left_ms: float, arrived_ms: float, counts: bool
) -> None:
    way.idle(12).batch(left_ms, arrived_ms, gap="none")
    assert points.noted == [(2, arrived_ms / 1e3)] * counts


def test_what_else_used_the_link_is_no_part_of_the_next_batch_but_of_no_other(
    points: Points, way: Way
) -> None:
    way.batch(0, 0, gap="none")
    way.trip.disturbed()
    way.trip.disturbed()
    way.batch(10, 80, gap="none")
    way.batch(20, 30, gap="none")
    assert points.noted == [(2, 0.03)]


@pytest.mark.parametrize(("without_gap", "counts"), [(2, True), (1, False)])
def test_batches_without_a_gap_show_that_batches_queue_here(
    points: Points, way: Way, without_gap: int, counts: bool
) -> None:
    way.idle(10 - without_gap)
    for _ in range(without_gap):
        way.batch(40, 40, gap="none")
    way.batch(10, 41)
    assert points.noted == [(2, 0.04)] * without_gap + [(2, 0.041)] * counts


def test_a_link_that_gets_slower_is_believed_at_once(points: Points, way: Way) -> None:
    for apart_ms in (*[30] * 20, *[90] * 20):
        way.batch(0, apart_ms, gap="none")
    assert points.noted == [(2, 0.03)] * 19 + [(2, 0.09)] * 20


def test_batches_that_seem_to_have_queued_may_be_odd_ones_while_they_are_few(
    points: Points, way: Way
) -> None:
    way.idle(12)
    for arrived_ms in (39, 40, 41, 42, 43, 44, 45, 46):
        way.batch(10, arrived_ms)
    assert points.noted == [(2, ms / 1e3) for ms in range(42, 47)]


def test_few_odd_ones_never_add_up(points: Points, way: Way) -> None:
    for _ in range(200):
        way.idle(9).batch(10, 60)
    assert points.noted == []


@pytest.mark.parametrize(
    ("arrivals", "tokens", "first"), [(7, 2, 3), (60, 2, 14), (6, 2, 3), (5, 2, 4), (7, 5, 3), (60, 1, 14)]
)
def test_what_is_usual_is_known_from_eight_batches_that_are_no_smaller(
    points: Points, way: Way, arrivals: int, tokens: int, first: int
) -> None:
    way.idle(arrivals, tokens=tokens)
    for _ in range(first - 1):
        way.batch(10, 40)
    assert points.noted == []
    way.batch(10, 40)
    assert points.noted == [(2, 0.04)]


def test_smaller_batches_do_not_show_what_is_usual_for_larger_ones(points: Points, way: Way) -> None:
    way.idle(20, tokens=1, gap="none")
    points.noted.clear()
    for _ in range(8):
        way.batch(10, 40)
    assert points.noted == []
    way.batch(10, 41)
    assert points.noted == [(2, 0.041)]


def test_a_quarter_of_the_batches_decides_what_is_usual(points: Points, way: Way) -> None:
    way.idle(20, apart_ms=400)
    for _ in range(8):
        way.batch(10, 40)
    for _ in range(4):
        way.batch(10, 81)
    assert points.noted == [(2, 0.04)] * 3


def test_batches_behind_those_of_another_session_say_nothing_and_make_nothing_usual(points: Points) -> None:
    unknown, known = Way(Trip(points)), Way(Trip(points)).idle(20)
    for _ in range(20):
        unknown.batch(10, 40, gap="foreign")
        known.batch(10, 40, gap="foreign")
    for _ in range(8):
        unknown.batch(10, 40)
    assert points.noted == []
    known.batch(10, 30, tokens=3, gap="none")
    assert points.noted == [(3, 0.03)]


@pytest.mark.parametrize("end", [lambda trip: trip.reset(), lambda trip: arrive(trip, (9, 510))])
def test_what_is_usual_outlasts_an_epoch(points: Points, way: Way, end: Callable[[Trip], None]) -> None:
    end(way.idle(12).trip)
    for _ in range(5):
        way.batch(10, 40)
    assert points.noted == [(2, 0.04)]


def test_a_clock_that_goes_back_says_nothing(points: Points) -> None:
    trip = Trip(points)
    send(trip, *SENT)
    arrive(trip, (1, 500), (2, 499), (4, 498), (3, 540))
    assert points.noted == [(3, 0.042)]


@pytest.mark.parametrize(
    ("stamps", "noted"),
    [([(5, 0)], 0), ([(2, 0), (4, 0)], 0), ([(1, 0), (2, 9), (7, 9)], 1), ([*ARRIVED, (1, 600)], 3)],
)
def test_stamps_of_other_batches_end_the_matching(
    points: Points, stamps: list[tuple[int, int]], noted: int
) -> None:
    trip = Trip(points)
    send(trip, *SENT)
    arrive(trip, *stamps)
    arrive(trip, (4, 700), (3, 800))
    assert len(points.noted) == noted
    send(trip, *SENT)
    arrive(trip, *ARRIVED)
    assert points.noted[noted:] == NOTED


def test_a_new_epoch_is_not_compared_with_the_old(points: Points) -> None:
    trip = Trip(points)
    send(trip, (1, 0), (2, 10), (4, 20))
    arrive(trip, (1, 500))
    trip.reset()
    send(trip, (2, 30), (4, 40))
    arrive(trip, (2, 600), (4, 640))
    assert points.noted == [(4, 0.04)]


def test_sessions_share_what_they_learn_but_not_their_batches(points: Points) -> None:
    ours, theirs = Trip(points), Trip(points)
    for trip, left_ms in ((ours, 0), (theirs, 20), (ours, 40), (theirs, 60)):
        send(trip, (2, left_ms), gap="foreign")
    send(theirs, (4, 80))
    arrive(theirs, (2, 520), (2, 560), (4, 600))
    arrive(ours, (2, 500), (2, 540))
    assert points.noted == [(4, 0.04)]


def test_a_batch_of_another_session_in_between_is_no_part_of_ours(points: Points) -> None:
    ours = Trip(points)
    send(ours, (1, 0), gap="some")
    send(Trip(points), (10, 10), gap="foreign")
    send(ours, (16, 110), gap="foreign")
    arrive(ours, (1, 510), (16, 770))
    assert points.noted == []


# --- a link over which drafts travel ---


@dataclass(frozen=True)
class Link:
    """It carries one batch at a time, in order. Batches wait for it at the edge or, ``hidden``, inside it."""

    batch_s: float
    token_s: float
    draft_s: float = 0.036
    jitter_s: float = 0.0
    odd: float = 0.0
    """Share of the batches that are held up for up to half a second more."""

    hidden: bool = False
    cloud_ahead_s: float = 86_400.125

    def occupancy(self, seed: int = 1, batches: int = 120) -> tuple[float, float] | None:
        """(fixed, per token) in milliseconds, as estimated from batches of any size."""
        luck, meter, stamps = random.Random(seed), CostMeter(), list[tuple[int, int]]()
        trip = meter.trip()
        drafted_s = free_s = arrived_s = 0.0
        for _ in range(batches):
            tokens = luck.randint(1, 8)
            drafted_s += tokens * self.draft_s
            waited = free_s >= drafted_s
            left_s = drafted_s if self.hidden else max(drafted_s, free_s)
            trip.sent(tokens, left_s, "none" if waited and not self.hidden else "some")
            free_s = max(drafted_s, free_s) + self.batch_s + self.token_s * tokens
            late_s = luck.gauss(0.03, self.jitter_s) + luck.uniform(0.0, 0.5) * (luck.random() < self.odd)
            arrived_s = max(arrived_s, free_s + late_s)
            stamps.append((tokens, round((arrived_s + self.cloud_ahead_s) * 1e6)))
            if luck.random() < 0.3:
                trip.arrived(stamps)
                stamps.clear()
        line = meter.occupancy
        return None if line is None else (line.fixed.value * 1e3, line.slope.value * 1e3)


@pytest.mark.parametrize("cloud_ahead_s", [-3600.0, 0.0, 1e7])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(("batch_ms", "token_ms"), [(25.0, 60.0), (150.0, 0.5), (0.0, 80.0)])
def test_a_busy_link_shows_its_occupancy(
    batch_ms: float, token_ms: float, hidden: bool, cloud_ahead_s: float
) -> None:
    link = Link(batch_ms / 1e3, token_ms / 1e3, draft_s=0.01, hidden=hidden, cloud_ahead_s=cloud_ahead_s)
    assert link.occupancy() == pytest.approx((batch_ms, token_ms), abs=0.01)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("token_ms", "odd", "off_ms"), [(60.0, 0.0, 2.5), (60.0, 0.1, 4.0), (12.0, 0.0, 2.0)]
)
def test_neither_jitter_nor_pauses_nor_odd_delays_move_it_much(
    token_ms: float, odd: float, off_ms: float, seed: int
) -> None:
    link = Link(0.025, token_ms / 1e3, jitter_s=0.0015, odd=odd)
    assert link.occupancy(seed) == pytest.approx((25.0, token_ms), abs=off_ms)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("jitter_s", [0.0, 0.003])
def test_an_idle_link_shows_nothing(jitter_s: float, hidden: bool) -> None:
    link = Link(0.002, 0.001, jitter_s=jitter_s, hidden=hidden)
    assert [link.occupancy(seed) for seed in range(3)] == [None] * 3


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("odd", "batches"), [(0.1, 120), (0.05, 3_000)])
def test_odd_delays_on_an_idle_link_are_no_occupancy(odd: float, batches: int, seed: int) -> None:
    found = Link(0.002, 0.001, jitter_s=0.001, odd=odd).occupancy(seed, batches)
    assert found is None or found[0] < 36.0


def test_a_busy_link_that_gets_slower_is_noticed_within_sixty_batches() -> None:
    meter = CostMeter()
    way = Way(meter.trip())
    for number in range(160):
        tokens = 1 + number % 4
        apart_ms = (10 if number < 100 else 30) * tokens
        way.batch(apart_ms, apart_ms, tokens, gap="none")
    assert meter.occupancy is not None
    assert 0.08 < meter.occupancy.at(4) <= 0.12


# --- the meter ---


def test_each_measurement_is_kept_apart() -> None:
    meter = CostMeter()
    assert (meter.draft_s, meter.abort_s, meter.answer_s, meter.return_s, meter.link) == (None,) * 5
    assert (meter.passes, meter.occupancy, meter.token_s, meter.link_costs()) == (None,) * 4
    for factor in (1, 2, 30):
        meter.drafted(0.03 * factor)
        meter.aborted(0.002 * factor)
        meter.answered(0.1 * factor, 0.01 * factor, 0.04 * factor)
        meter.returned(0.08 * factor)
    assert (meter.draft_s, meter.abort_s) == (same(0.06), same(0.004))
    assert (meter.answer_s, meter.return_s) == (same(0.2), same(0.16))
    assert meter.link is not None
    assert meter.link.value == same(0.1)
    for _ in range(4):
        meter.answered(0.1, 0.08, 0.04)
    assert meter.link.value == 0.0


def test_gamma_and_passes_are_recovered_from_rough_measurements() -> None:
    luck, meter = random.Random(7), CostMeter()
    for _ in range(150):
        odd_s = 0.4 if luck.random() < 0.1 else 0.0
        tokens = luck.randint(1, 9)
        meter.drafted(luck.gauss(0.043, 0.002) + odd_s)
        meter.passed(tokens, round(0.035 + 0.0015 * tokens + luck.gauss(0.0, 0.0008) + odd_s, 6))
    assert meter.draft_s == pytest.approx(0.043, rel=0.03)
    fixed, slope = parts(meter.passes)
    assert fixed == pytest.approx(0.035, abs=0.0015)
    assert slope == pytest.approx(0.0015, abs=0.0003)


def test_pace_is_time_per_confirmed_token_over_the_last_verdicts() -> None:
    meter = CostMeter()
    meter.confirmed(0, 0.5)
    assert meter.token_s is None
    meter.confirmed(4, 0.3)
    meter.confirmed(1, 0.2)
    assert meter.token_s == same(0.2)
    for _ in range(WINDOW):
        meter.confirmed(5, 0.5)
    assert meter.token_s == same(0.1)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("drafted", (), ()),
        ("aborted", (), ()),
        ("returned", (), ()),
        ("answered", (), (0.0, 0.0)),
        ("passed", (3,), ()),
        ("confirmed", (3,), ()),
    ],
)
def test_what_is_no_duration_is_refused_and_leaves_no_trace(
    name: str, before: tuple[int, ...], after: tuple[float, ...]
) -> None:
    meter = CostMeter()
    for wrong in (math.nan, math.inf, -math.inf, -1e-9):
        with pytest.raises(UsageError, match="a measured time must be finite and not negative"):
            getattr(meter, name)(*before, wrong, *after)
    known = (meter.draft_s, meter.abort_s, meter.answer_s, meter.return_s, meter.link, meter.token_s)
    assert known == (None,) * 6


def busy(meter: CostMeter, slower: int = 1) -> None:
    trip = meter.trip()
    send(trip, *SENT)
    arrive(trip, *((tokens, stamp_ms * slower) for tokens, stamp_ms in ARRIVED))


def test_the_plan_gets_the_same_costs_while_nothing_has_changed() -> None:
    meter = CostMeter()
    busy(meter)
    assert meter.link_costs() is None
    meter.drafted(0.04)
    costs = meter.link_costs()
    assert costs is not None
    assert (costs.draft_s, costs.batch_s, costs.token_s) == (0.04, same(0.0), same(0.01))
    busy(meter)
    meter.answered(0.1, 0.0, 0.04)
    meter.drafted(0.04)
    assert meter.link_costs() is costs


def test_the_plan_gets_new_costs_once_something_has_changed() -> None:
    meter = CostMeter()
    busy(meter)
    for draft_s in (0.04, 0.05, 0.05, 0.05):
        meter.drafted(draft_s)
        costs = meter.link_costs()
    assert costs is not None
    assert costs.draft_s == 0.05
    for _ in range(3):
        busy(meter, slower=3)
    slower = meter.link_costs()
    assert slower is meter.link_costs() is not costs
    assert slower is not None
    assert (slower.draft_s, slower.token_s) == (0.05, same(0.03))
