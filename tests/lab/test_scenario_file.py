import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipesd.errors import UsageError
from pipesd.lab.scenario_file import scenario_from
from pipesd.lab.scenarios import SCENARIOS, Phase, Scenario, scenario_named

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


PHASES = """
like = "s1"
[[phases]]
duration_s = 30
[[phases]]
duration_s = 20
draft_ms = 86
"""


def test_a_file_may_have_phases(in_file: InFile):
    assert scenario_from(in_file(PHASES)) == replace(
        scenario_named("s1"),
        name="my link",
        phases=(Phase(duration_s=30.0), Phase(duration_s=20.0, draft_ms=86.0)),
    )


def test_a_file_may_take_over_phases_or_have_none(in_file: InFile):
    hot = scenario_named("throttled")
    assert scenario_from(in_file('like = "throttled"\npass_ms = 30')).phases == hot.phases
    assert scenario_from(in_file('like = "throttled"\nphases = []')).phases == ()


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
        (PHASES.replace("draft_ms", "drat_ms"), ", line 7: phases: drat_ms: unknown key; .* is draft_ms"),
        (
            PHASES.replace("20", "0"),
            ": phases: duration_s: must be at least 0.001 and at most 86400, not 0.0",
        ),
        (PHASES.replace("20", "-5"), ": phases: duration_s: .* not -5.0"),
        (PHASES.replace("86", "-1"), ": phases: draft_ms: must be at least 0 and at most 60000, not -1.0"),
        (PHASES.replace("duration_s = 20", ""), ": phases: must be a list of tables, .* with a duration_s"),
        (PHASES.replace("86", "true"), ": phases: must be a list of tables"),
        ("like = 's1'\nphases = 3", ", line 2: phases: must be a list of tables"),
        ("like = 's1'\nphases = [3]", ", line 2: phases: must be a list of tables"),
        (
            "like = 'wifi-4g'\ndelay_ms = 3",
            ", line 2: delay_ms: counts for nothing beside the phases of wifi-4g; give those instead",
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
        (
            "s5",
            "^scenario: 's5' is not known; choose one of s1, .*, throttled, or give the path of a .toml",
        ),
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
