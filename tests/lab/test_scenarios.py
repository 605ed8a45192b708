import math
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any

import pytest

from pipesd.errors import UsageError
from pipesd.lab.emulator import LinkEmulator, LinkModel
from pipesd.lab.scenarios import COMPARED, SCENARIOS, Phase, Scenario, scenario_named

S1 = {
    "name": "s1",
    "draft_ms": 43.0,
    "up_bits_per_s": 20e6,
    "down_bits_per_s": 200e6,
    "delay_ms": 15.0,
    "alpha_ms": 0.2,
    "pass_ms": 25.0,
    "pass_token_ms": 1.0,
    "jitter_ms": 0.0,
    "loss": 0.0,
    "loss_delay_ms": 200.0,
    "outages_s": (),
    "changes_every_s": 0.0,
    "up_range_bits_per_s": None,
    "down_range_bits_per_s": None,
    "phases": (),
}
S4_CHANGES = {
    "changes_every_s": 20.0,
    "up_range_bits_per_s": (10e6, 80e6),
    "down_range_bits_per_s": (150e6, 280e6),
}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("s1", {}),
        ("s2", {"draft_ms": 70.0}),
        ("s3", {"draft_ms": 140.0}),
        ("s4", S4_CHANGES),
        ("far", {"delay_ms": 60.0}),
        ("fast", {"draft_ms": 15.0}),
    ],
)
def test_the_named_ones_are_s1_but_for_what_they_are_named_for(name: str, change: dict[str, object]):
    assert asdict(scenario_named(name)) == {**S1, "name": name, **change}


def test_each_is_found_by_its_own_name_and_there_are_no_others():
    assert list(SCENARIOS) == [*COMPARED, "wifi-4g", "throttled"]
    assert COMPARED == ("s1", "s2", "s3", "s4", "far", "fast")
    assert all(scenario_named(name).name == name for name in SCENARIOS)


@pytest.mark.parametrize("name", ["s5", "S1", "", "s1 ", "s1.toml"])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str):
    with pytest.raises(UsageError) as caught:
        scenario_named(name)
    known = "s1, s2, s3, s4, far, fast, wifi-4g, throttled"
    assert str(caught.value) == f"scenario: {name!r} is not known; choose one of {known}"


def test_a_draft_step_costs_gamma_and_a_pass_is_a_straight_line():
    scenario = scenario_named("s1")
    assert scenario.draft_pace.at(0.0).cost_s(1) == 0.043
    assert [scenario.pass_pace.at(0.0).cost_s(tokens) for tokens in (1, 9)] == pytest.approx([0.026, 0.034])


def test_each_direction_of_the_link_has_its_own_bandwidth_and_the_same_delay():
    scenario = scenario_named("s1")
    assert scenario.uplink.occupancy_s(250) == pytest.approx(0.0002 + 0.0001)
    assert scenario.downlink.occupancy_s(250) == pytest.approx(0.0002 + 0.00001)
    assert scenario.uplink.delay_s == scenario.downlink.delay_s == 0.015


def test_a_scenario_may_cost_nothing_at_all():
    nothing: dict[str, Any] = dict.fromkeys(
        ("draft_ms", "delay_ms", "alpha_ms", "pass_ms", "pass_token_ms"), 0.0
    )
    free = Scenario(name="free", up_bits_per_s=math.inf, down_bits_per_s=math.inf, **nothing)
    assert free.uplink.occupancy_s(1_000) == free.downlink.occupancy_s(1_000) == 0.0
    assert free.draft_pace.at(0.0).cost_s(1) == free.pass_pace.at(0.0).cost_s(100) == 0.0


@pytest.mark.parametrize(
    "key",
    ["draft_ms", "delay_ms", "alpha_ms", "pass_ms", "pass_token_ms", "jitter_ms", "loss_delay_ms"],
)
@pytest.mark.parametrize("value", [-0.1, 60_000.1, math.inf, math.nan])
def test_an_impossible_time_is_named(key: str, value: float):
    with pytest.raises(UsageError, match=f"^{key}: must be at least 0 and at most 60000, not {value}$"):
        replace(scenario_named("s1"), **{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["up_bits_per_s", "down_bits_per_s"])
@pytest.mark.parametrize("value", [-1.0, 0.0, 999.0, math.nan])
def test_an_impossible_bandwidth_is_named(key: str, value: float):
    with pytest.raises(UsageError, match=f"^{key}: must be at least 1000, not {value}$"):
        replace(scenario_named("s1"), **{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "name: must not be empty"),
        ({"loss": 1.5}, "loss: must be at least 0 and at most 1, not 1.5"),
        ({"outages_s": ((3.0, 2.0),)}, "outages_s: "),
        ({"changes_every_s": -1.0}, "changes_every_s: must be at least 0.001"),
        ({"changes_every_s": 5.0}, "changes_every_s: needs up_range_bits_per_s or down_range_bits_per_s"),
        ({"up_range_bits_per_s": (1e6, 2e6)}, "up_range_bits_per_s: is drawn from every changes_every_s"),
        ({**S4_CHANGES, "down_range_bits_per_s": (2e6, 1e6)}, "down_range_bits_per_s: must be the lowest"),
        ({**S4_CHANGES, "up_range_bits_per_s": (999.0, 1e6)}, "up_range_bits_per_s: .* at least 1000"),
    ],
    ids=str,
)
def test_what_no_link_can_be_is_named(changes: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=f"^{words}"):
        replace(scenario_named("s1"), **changes)


def test_everything_that_happens_on_a_link_is_handed_to_it():
    scenario = replace(
        scenario_named("s1"), jitter_ms=5.0, loss=0.01, loss_delay_ms=300.0, outages_s=((1.0, 2.0),)
    )
    for link, bytes_per_s in ((scenario.uplink, 2.5e6), (scenario.downlink, 25e6)):
        assert link == LinkModel(
            delay_s=0.015,
            message_s=0.0002,
            bytes_per_s=bytes_per_s,
            jitter_s=0.005,
            loss=0.01,
            loss_delay_s=0.3,
            outages=((1.0, 2.0),),
        )


def test_s1_and_its_like_have_plain_links():
    assert {name for name in SCENARIOS if not scenario_named(name).uplink.is_plain} == {
        "s4",
        "wifi-4g",
        "throttled",
    }


def test_the_link_of_s4_changes_every_20_s_within_its_ranges():
    scenario = scenario_named("s4")
    for link, lowest, highest in ((scenario.uplink, 10e6, 80e6), (scenario.downlink, 150e6, 280e6)):
        rates = set()
        for number in range(50):
            moment = 20.0 * number + 3.0
            free_at, _ = LinkEmulator(link, 1).send(moment, 1_000_000)
            rates.add(round(8e6 / (free_at - moment - 0.0002)))
        assert all(lowest <= rate <= highest for rate in rates)
        assert len(rates) == 50


def test_one_direction_may_change_while_the_other_does_not():
    scenario = replace(scenario_named("s4"), down_range_bits_per_s=None)
    assert scenario.uplink.drawn_bytes_per_s == (1.25e6, 10e6)
    assert scenario.downlink == scenario_named("s1").downlink


@pytest.mark.parametrize(
    ("name", "agreement", "expected_ms"),
    [("s1", 1.0, 43.0), ("s1", 0.0, 15.2 + 27.0 + 15.2), ("s3", 0.9, 0.9 * 140.0 + 5.74), ("far", 0.5, 95.2)],
)
def test_the_pace_of_a_drafter_that_is_never_held_up(name: str, agreement: float, expected_ms: float):
    """A wrong draft costs two ways of alpha and delay, and a pass over two tokens."""
    assert scenario_named(name).draft_pace_ms(agreement) == pytest.approx(expected_ms)


@pytest.mark.parametrize("agreement", [-0.1, 1.1, math.nan])
def test_an_impossible_agreement_is_named(agreement: float):
    with pytest.raises(UsageError, match=r"^agreement: must be at least 0 and at most 1"):
        scenario_named("s1").draft_pace_ms(agreement)


# -- phases -------------------------------------------------------------------------------------------------


def test_a_hot_machine_takes_twice_as_long_by_turns():
    pace = scenario_named("throttled").draft_pace
    steps_ms = [1e3 * pace.at(moment).cost_s(1) for moment in (0.0, 29.9, 30.0, 59.9, 60.0, 95.0)]
    assert steps_ms == [43.0, 43.0, 86.0, 86.0, 43.0, 86.0]


def test_between_wifi_and_4g_the_whole_link_changes_and_nothing_else():
    wifi, mobile = scenario_named("wifi-4g").course.values
    assert wifi == replace(
        scenario_named("s1"), name="wifi-4g", up_bits_per_s=40e6, down_bits_per_s=100e6, delay_ms=5.0
    )
    assert mobile == replace(wifi, up_bits_per_s=10e6, down_bits_per_s=30e6, delay_ms=35.0, alpha_ms=2.0)
    for link, rates in ((SCENARIOS["wifi-4g"].uplink, (5e6, 1.25e6)), (SCENARIOS["wifi-4g"].downlink, None)):
        assert [phase.duration_s for phase in link.phases] == [30.0, 30.0]
        assert [phase.delay_s for phase in link.phases] == [0.005, 0.035]
        assert [phase.message_s for phase in link.phases] == [0.0002, 0.002]
        assert rates is None or tuple(phase.bytes_per_s for phase in link.phases) == rates


def test_without_phases_a_scenario_is_itself_for_good():
    assert scenario_named("s4").course.values == [scenario_named("s4")]
    assert scenario_named("s1").uplink.phases == ()


def test_a_pass_may_change_as_well_and_the_yardstick_is_the_mean_over_time():
    scenario = replace(
        scenario_named("s1"), phases=(Phase(duration_s=1.0), Phase(duration_s=3.0, pass_ms=65.0))
    )
    assert [scenario.pass_pace.at(moment).cost_s(2) for moment in (0.5, 1.5)] == pytest.approx([0.027, 0.067])
    assert scenario.draft_pace_ms(0.0) == pytest.approx(57.4 + 0.75 * 40.0)


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (Phase(duration_s=0.0), "phases: duration_s: must be at least 0.001"),
        (Phase(duration_s=-1.0), "phases: duration_s: .* not -1.0"),
        (Phase(duration_s=math.nan), "phases: duration_s: "),
        (Phase(duration_s=1.0, draft_ms=-1.0), "phases: draft_ms: must be at least 0 and at most 60000"),
        (Phase(duration_s=1.0, up_bits_per_s=0.0), "phases: up_bits_per_s: must be at least 1000"),
        (
            Phase(duration_s=1.0, up_bits_per_s=1e6),
            "phases: up_bits_per_s counts for nothing beside up_range",
        ),
    ],
)
def test_what_no_phase_can_be_is_named(phase: Phase, words: str):
    with pytest.raises(UsageError, match=f"^{words}"):
        replace(scenario_named("s4"), phases=(Phase(duration_s=1.0), phase))


def test_a_scenario_stays_as_it_is():
    with pytest.raises(FrozenInstanceError):
        scenario_named("s1").draft_ms = 1.0  # type: ignore[misc]
