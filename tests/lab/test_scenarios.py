import math
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipesd.errors import UsageError
from pipesd.lab.emulator import LinkEmulator, LinkModel
from pipesd.lab.scenarios import SCENARIOS, Scenario, scenario_from, scenario_named

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
    assert list(SCENARIOS) == ["s1", "s2", "s3", "s4", "far", "fast"]
    assert all(scenario_named(name).name == name for name in SCENARIOS)


@pytest.mark.parametrize("name", ["s5", "S1", "", "s1 ", "s1.toml"])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str):
    with pytest.raises(UsageError) as caught:
        scenario_named(name)
    assert str(caught.value) == (f"scenario: {name!r} is not known; choose one of s1, s2, s3, s4, far, fast")


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
    nothing: dict[str, Any] = dict.fromkeys(
        ("draft_ms", "delay_ms", "alpha_ms", "pass_ms", "pass_token_ms"), 0.0
    )
    free = Scenario(name="free", up_bits_per_s=math.inf, down_bits_per_s=math.inf, **nothing)
    assert free.uplink.occupancy_s(1_000) == free.downlink.occupancy_s(1_000) == 0.0
    assert free.draft_pace.cost_s(1) == free.pass_pace.cost_s(100) == 0.0


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
    assert {name for name in SCENARIOS if not scenario_named(name).uplink.is_plain} == {"s4"}


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


def test_a_scenario_stays_as_it_is():
    with pytest.raises(FrozenInstanceError):
        scenario_named("s1").draft_ms = 1.0  # type: ignore[misc]


# -- files --------------------------------------------------------------------------------------------------

ALL = """
# a link of one's own
name = "mine"
draft_ms = 20
up_bits_per_s = 8e6
down_bits_per_s = inf
delay_ms = 5.5
alpha_ms = 0
pass_ms = 30
pass_token_ms = 1
jitter_ms = 2
loss = 0.01
loss_delay_ms = 250
outages_s = [[10, 12.5], [20, 21]]
"""


@pytest.fixture
def in_file(tmp_path: Path) -> Callable[[str | bytes], str]:
    """The path of a file with this text."""

    def write(text: str | bytes) -> str:
        path = tmp_path / "my link.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


InFile = Callable[[str | bytes], str]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_may_be_given_by_its_name(name: str):
    assert scenario_from(name) is SCENARIOS[name]


def test_a_file_may_say_everything(in_file: InFile):
    assert scenario_from(in_file(ALL)) == Scenario(
        name="mine",
        draft_ms=20.0,
        up_bits_per_s=8e6,
        down_bits_per_s=math.inf,
        delay_ms=5.5,
        alpha_ms=0.0,
        pass_ms=30.0,
        pass_token_ms=1.0,
        jitter_ms=2.0,
        loss=0.01,
        loss_delay_ms=250.0,
        outages_s=((10.0, 12.5), (20.0, 21.0)),
    )


def test_a_file_may_say_what_it_changes_and_is_named_after_itself(in_file: InFile):
    assert scenario_from(in_file('like = "s4"\ndelay_ms = 60\n')) == replace(
        scenario_named("s4"), name="my link", delay_ms=60.0
    )
    assert scenario_from(in_file('like = "s2"\nname = "phone"')) == replace(
        scenario_named("s2"), name="phone"
    )


def test_a_range_stands_in_for_the_rate_that_it_replaces(in_file: InFile):
    text = ALL.replace("up_bits_per_s = 8e6", "changes_every_s = 5\nup_range_bits_per_s = [1e6, 2_000_000]")
    scenario = scenario_from(in_file(text))
    assert scenario.uplink.drawn_bytes_per_s == (125e3, 250e3)
    assert scenario.downlink.drawn_bytes_per_s is None


def test_a_byte_order_mark_is_no_fault(in_file: InFile):
    assert scenario_from(in_file(b'\xef\xbb\xbflike = "s1"')).name == "my link"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("like = 's1'\njiter_ms = 3", ", line 2: jiter_ms: unknown key; the closest known one is jitter_ms"),
        ("like = 's1'\n\n[link]\ndelay_ms = 3", ", line 3: link: unknown key; .* is like"),
        ("like = 's1'\nlink.delay_ms = 3\nlink.jitter_ms = 4", ": link: unknown key; .* is like"),
        ('like = "s1"\n"a\\nb" = 3', ": a.nb: unknown key"),
        ("like = 's0'", ", line 1: like: 's0' is not known; choose one of s1, s2, s3, s4, far, fast"),
        ("like = 1", ", line 1: like: must be text, not 1"),
        ("delay_ms = 5\nname = 3", ", line 2: name: must be text, not 3"),
        ("like = 's1'\nname = ''", ", line 2: name: must not be empty"),
        ("delay_ms = 5", ': draft_ms: is missing; give it, or say like = "s1"'),
        ("like = 's1'\n# delay_ms\ndelay_ms = 'far'", ", line 3: delay_ms: must be a number, not 'far'"),
        ("like = 's1'\nloss = true", ", line 2: loss: must be a number, not True"),
        ("like = 's1'\ndelay_ms.low = 1", ", line 2: delay_ms: must be a number, not {'low': 1}"),
        (
            "like = 's1'\n  delay_ms = -1",
            ", line 2: delay_ms: must be at least 0 and at most 60000, not -1.0",
        ),
        ("like = 's1'\nloss = nan", ", line 2: loss: must be at least 0 and at most 1, not nan"),
        (f"like = 's1'\nloss = 1{'0' * 400}", ", line 2: loss: must be "),
        ("like = 's1'\nup_bits_per_s = 10", ", line 2: up_bits_per_s: must be at least 1000, not 10.0"),
        ("like = 's1'\noutages_s = [1, 2]", ", line 2: outages_s: must be a list of pairs, such as"),
        ("like = 's1'\noutages_s = [[1, 2, 3]]", ", line 2: outages_s: must be a list of pairs, such as"),
        ("like = 's1'\noutages_s = [[2, 1]]", ", line 2: outages_s: must each begin at 0 or later"),
        ("like = 's1'\nup_range_bits_per_s = 5", ", line 2: up_range_bits_per_s: must be a pair of numbers"),
        (
            "like = 's1'\nup_range_bits_per_s = [1e6, 2e6]",
            ", line 2: up_range_bits_per_s: is drawn from every",
        ),
        ("like = 's1'\nchanges_every_s = 3", ", line 2: changes_every_s: needs up_range_bits_per_s or"),
        (
            "like = 's4'\nup_bits_per_s = 3e6",
            ", line 2: up_bits_per_s: counts for nothing beside the up_range_bits_per_s of s4; give that",
        ),
        ("like = 's1", " is not valid TOML: .*line 1, "),
        ("like = 's1'\nloss = 0\nloss = 0", " is not valid TOML: .*line 3, "),
        (f"a = {'[' * 5_000}", " is not valid TOML: "),
        (b"like = 's1'\n# \xff", " is not UTF-8 text .at line 2."),
    ],
    ids=lambda case: None if len(case) > 60 else str(case),
)
def test_what_is_wrong_with_a_file_is_one_sentence(in_file: InFile, text: str | bytes, words: str):
    path = in_file(text)
    with pytest.raises(UsageError, match=f"^scenario: {re.escape(path)}{words}") as caught:
        scenario_from(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no such file.toml", "^scenario: cannot read no such file.toml: No such file or directory$"),
        ("nul\0byte.toml", "^scenario: cannot read nul"),
        ("s5", "^scenario: 's5' is not known; choose one of s1, .*, fast, or give the path of a .toml file$"),
        ("link.yaml", "^scenario: 'link.yaml' is not known; "),
        ("", "^scenario: '' is not known; "),
    ],
)
def test_a_file_that_cannot_be_read_is_said(path: str, words: str):
    with pytest.raises(UsageError, match=words):
        scenario_from(path)


def test_a_folder_is_no_scenario(tmp_path: Path):
    (tmp_path / "s.toml").mkdir()
    with pytest.raises(UsageError, match=r"cannot read .*s\.toml: Is a directory"):
        scenario_from(str(tmp_path / "s.toml"))
