"""What drafting, sending and judging cost."""

import math
import random

import pytest

from pipesd.errors import UsageError
from pipesd.planner.costs import CostMeter
from pipesd.planner.estimates import WINDOW, Line


def same(seconds: float) -> object:
    return pytest.approx(seconds, rel=1e-9, abs=1e-12)


def parts(line: Line | None) -> tuple[float, float]:
    assert line is not None
    return line.fixed.value, line.slope.value


def test_each_measurement_is_kept_apart() -> None:
    meter = CostMeter()
    assert (meter.draft_s, meter.abort_s, meter.answer_s, meter.return_s, meter.travel) == (None,) * 5
    assert (meter.travel_s, meter.passes, meter.occupancy, meter.token_s, meter.link_costs()) == (None,) * 5
    for factor in (1, 2, 30):
        meter.drafted(0.03 * factor)
        meter.aborted(0.002 * factor)
        meter.answered(0.1 * factor)
        meter.returned(0.08 * factor)
        meter.travelled(0.03 * factor)
    assert (meter.draft_s, meter.abort_s) == (same(0.06), same(0.004))
    assert (meter.answer_s, meter.return_s, meter.travel_s) == (same(0.2), same(0.16), same(0.06))
    assert meter.travel is not None
    assert (meter.travel.value, meter.travel.samples) == (same(0.06), 3)


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


def test_the_clouds_work_per_token_is_counted_over_the_same_verdicts() -> None:
    meter = CostMeter()
    assert meter.cloud_token_s == 0.0
    meter.confirmed(4, 0.3, 0.12)
    meter.confirmed(1, 0.2, 0.03)
    assert meter.cloud_token_s == same(0.03)
    for _ in range(WINDOW):
        meter.confirmed(5, 0.5, 0.05)
    assert (meter.token_s, meter.cloud_token_s) == (same(0.1), same(0.01))
    for _ in range(WINDOW):
        meter.confirmed(1, 0.5)
    assert meter.cloud_token_s == same(0.0)


def test_a_way_that_seems_to_take_less_than_nothing_takes_nothing() -> None:
    meter = CostMeter()
    meter.travelled(-1e-6)
    assert meter.travel_s == 0.0


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("drafted", ()),
        ("aborted", ()),
        ("returned", ()),
        ("answered", ()),
        ("passed", (3,)),
        ("confirmed", (3,)),
    ],
)
def test_what_is_no_duration_is_refused_and_leaves_no_trace(name: str, before: tuple[int, ...]) -> None:
    meter = CostMeter()
    for wrong in (math.nan, math.inf, -math.inf, -1e-9):
        with pytest.raises(UsageError, match="a measured time must be finite and not negative"):
            getattr(meter, name)(*before, wrong)
    known = (meter.draft_s, meter.abort_s, meter.answer_s, meter.return_s, meter.travel, meter.token_s)
    assert known == (None,) * 6


def busy(meter: CostMeter, slower: int = 1) -> None:
    trip = meter.trip()
    for tokens in (1, 2, 4, 3):
        trip.sent(tokens, 0.0, "none")
    trip.arrived([(1, 0), (2, 20_000 * slower), (4, 60_000 * slower), (3, 90_000 * slower)])


def test_the_plan_gets_the_same_costs_while_nothing_has_changed() -> None:
    meter = CostMeter()
    busy(meter)
    assert meter.link_costs() is None
    meter.drafted(0.04)
    costs = meter.link_costs()
    assert costs is not None
    assert (costs.draft_s, costs.batch_s, costs.token_s) == (0.04, same(0.0), same(0.01))
    busy(meter)
    meter.answered(0.1)
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
