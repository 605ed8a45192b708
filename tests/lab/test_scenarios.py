import math
from dataclasses import FrozenInstanceError, asdict, replace

import pytest

from pipesd.errors import UsageError
from pipesd.lab.scenarios import SCENARIOS, Scenario, scenario_named

S1 = {
    "name": "s1",
    "draft_ms": 43.0,
    "up_bits_per_s": 20e6,
    "down_bits_per_s": 200e6,
    "delay_ms": 15.0,
    "alpha_ms": 0.2,
    "pass_ms": 25.0,
    "pass_token_ms": 1.0,
}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("s1", {}),
        ("s2", {"draft_ms": 70.0}),
        ("s3", {"draft_ms": 140.0}),
        ("far", {"delay_ms": 60.0}),
        ("fast", {"draft_ms": 15.0}),
    ],
)
def test_the_named_ones_are_s1_but_for_what_they_are_named_for(name: str, change: dict[str, float]):
    assert asdict(scenario_named(name)) == {**S1, "name": name, **change}


def test_each_is_found_by_its_own_name_and_there_are_no_others():
    assert list(SCENARIOS) == ["s1", "s2", "s3", "far", "fast"]
    assert all(scenario_named(name).name == name for name in SCENARIOS)


@pytest.mark.parametrize("name", ["s4", "S1", "", "s1 "])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str):
    with pytest.raises(UsageError) as caught:
        scenario_named(name)
    assert str(caught.value) == (f"scenario: {name!r} is not known; choose one of s1, s2, s3, far, fast")


def test_a_draft_step_costs_gamma_and_a_pass_is_a_straight_line():
    scenario = scenario_named("s1")
    assert scenario.draft_pace.cost_s(1) == 0.043
    assert [scenario.pass_pace.cost_s(tokens) for tokens in (1, 9)] == pytest.approx([0.026, 0.034])


def test_each_direction_of_the_link_has_its_own_bandwidth_and_the_same_delay():
    scenario = scenario_named("s1")
    assert scenario.uplink.occupancy_s(250) == pytest.approx(0.0002 + 0.0001)
    assert scenario.downlink.occupancy_s(250) == pytest.approx(0.0002 + 0.00001)
    assert scenario.uplink.delay_s == scenario.downlink.delay_s == 0.015


def test_a_scenario_may_cost_nothing_at_all():
    nothing = dict.fromkeys(("draft_ms", "delay_ms", "alpha_ms", "pass_ms", "pass_token_ms"), 0.0)
    free = Scenario(name="free", up_bits_per_s=math.inf, down_bits_per_s=math.inf, **nothing)
    assert free.uplink.occupancy_s(1_000) == free.downlink.occupancy_s(1_000) == 0.0
    assert free.draft_pace.cost_s(1) == free.pass_pace.cost_s(100) == 0.0


@pytest.mark.parametrize("key", ["draft_ms", "delay_ms", "alpha_ms", "pass_ms", "pass_token_ms"])
@pytest.mark.parametrize("value", [-0.1, 60_000.1, math.inf, math.nan])
def test_an_impossible_time_is_named(key: str, value: float):
    with pytest.raises(UsageError, match=f"^{key}: must be at least 0 and at most 60000, not {value}$"):
        replace(scenario_named("s1"), **{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["up_bits_per_s", "down_bits_per_s"])
@pytest.mark.parametrize("value", [-1.0, 0.0, 999.0, math.nan])
def test_an_impossible_bandwidth_is_named(key: str, value: float):
    with pytest.raises(UsageError, match=f"^{key}: must be at least 1000, not {value}$"):
        replace(scenario_named("s1"), **{key: value})  # type: ignore[arg-type]


def test_a_scenario_stays_as_it_is():
    with pytest.raises(FrozenInstanceError):
        scenario_named("s1").draft_ms = 1.0  # type: ignore[misc]
