"""What arrival stamps say of the link."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pipesd.planner.costs import CostMeter
from pipesd.planner.estimates import LineFit
from pipesd.planner.occupancy import Gap, Occupancy, Trip

# --- trips ---


class Points(LineFit):
    """What is noted of trips over one link, beside a line through it."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[int, float]] = []
        self.link = Occupancy(self)

    def add(self, tokens: int, seconds: float) -> None:
        super().add(tokens, seconds)
        self.noted.append((tokens, round(seconds, 6)))

    def clear(self) -> None:
        super().clear()
        self.noted.clear()


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
    trip = Trip(points.link)
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
    return Way(Trip(points.link))


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
    others = Points()
    unknown, known = Way(Trip(others.link)), Way(Trip(points.link)).idle(20)
    for _ in range(20):
        unknown.batch(10, 40, gap="foreign")
        known.batch(10, 40, gap="foreign")
    for _ in range(8):
        unknown.batch(10, 40)
    assert others.noted == points.noted == []
    known.batch(10, 30, tokens=3, gap="none")
    assert points.noted == [(3, 0.03)]


def test_what_is_usual_is_so_for_all_sessions(points: Points, way: Way) -> None:
    way.idle(12)
    other = Way(Trip(points.link))
    for _ in range(6):
        other.batch(10, 40)
    assert points.noted == [(2, 0.04)] * 2


@pytest.mark.parametrize("end", [lambda trip: trip.reset(), lambda trip: arrive(trip, (9, 510))])
def test_what_is_usual_outlasts_an_epoch(points: Points, way: Way, end: Callable[[Trip], None]) -> None:
    end(way.idle(12).trip)
    for _ in range(5):
        way.batch(10, 40)
    assert points.noted == [(2, 0.04)]


def test_a_clock_that_goes_back_says_nothing(points: Points) -> None:
    trip = Trip(points.link)
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
    trip = Trip(points.link)
    send(trip, *SENT)
    arrive(trip, *stamps)
    arrive(trip, (4, 700), (3, 800))
    assert len(points.noted) == noted
    send(trip, *SENT)
    arrive(trip, *ARRIVED)
    assert points.noted[noted:] == NOTED


def test_a_new_epoch_is_not_compared_with_the_old(points: Points) -> None:
    trip = Trip(points.link)
    send(trip, (1, 0), (2, 10), (4, 20))
    arrive(trip, (1, 500))
    trip.reset()
    send(trip, (2, 30), (4, 40))
    arrive(trip, (2, 600), (4, 640))
    assert points.noted == [(4, 0.04)]


def test_sessions_share_what_they_learn_but_not_their_batches(points: Points) -> None:
    ours, theirs = Trip(points.link), Trip(points.link)
    for trip, left_ms in ((ours, 0), (theirs, 20), (ours, 40), (theirs, 60)):
        send(trip, (2, left_ms), gap="foreign")
    send(theirs, (4, 80))
    arrive(theirs, (2, 520), (2, 560), (4, 600))
    arrive(ours, (2, 500), (2, 540))
    assert points.noted == [(4, 0.04)]


def test_a_batch_of_another_session_in_between_is_no_part_of_ours(points: Points) -> None:
    ours = Trip(points.link)
    send(ours, (1, 0), gap="some")
    send(Trip(points.link), (10, 10), gap="foreign")
    send(ours, (16, 110), gap="foreign")
    arrive(ours, (1, 510), (16, 770))
    assert points.noted == []


# --- batches that arrive as one ---


def together(trip: Trip, groups: int, size: int, *, left_ms: float = 40, apart_ms: float = 60) -> None:
    """Groups of single drafts that were ``left_ms`` apart; each group arrives at once."""
    for group in range(groups):
        for at in range(size):
            send(trip, (1, (group * size + at) * left_ms), gap="some")
        arrive(trip, *[(1, 500 + group * size * apart_ms + at / 100) for at in range(size)])


@pytest.mark.parametrize("size", [2, 3, 5])
def test_batches_that_come_as_one_are_one(points: Points, size: int) -> None:
    together(Trip(points.link), 20, size)
    assert points.noted == [(size, 0.06 * size)] * 11


def test_batches_that_left_at_once_are_several_though_they_come_at_once(points: Points) -> None:
    together(Trip(points.link), 20, 2, left_ms=0)
    assert {tokens for tokens, _ in points.noted} <= {1}


def test_what_comes_as_one_with_a_batch_of_an_earlier_verdict_says_nothing_itself(points: Points) -> None:
    trip = Trip(points.link)
    for at in range(60):
        send(trip, (1, 40 * at), gap="some")
        arrive(trip, (1, 500 + 100 * (at // 2)))
    assert len(points.noted) < 30
    assert set(points.noted) == {(1, 0.1)}


# --- a link that recovers ---


def test_what_was_learned_is_forgotten_once_batches_come_sooner_and_none_queues(
    points: Points, way: Way
) -> None:
    for _ in range(10):
        way.batch(1, 90, gap="none")
    way.idle(100, apart_ms=68)
    way.idle(7)
    assert len(points.noted) == 9
    way.idle(1)
    assert points.noted == []


def test_a_batch_that_queues_now_and_then_keeps_it(points: Points, way: Way) -> None:
    for _ in range(10):
        way.batch(1, 90, gap="none")
    for _ in range(5):
        way.idle(7).batch(0, 90, gap="none")
    assert len(points.noted) == 14


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
