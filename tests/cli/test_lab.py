import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from pipesd.cli.lab import lab_commands
from pipesd.errors import ConfigError, EngineError, TraceError, UsageError
from pipesd.lab.run import KEYS, Experiment, chosen, run
from pipesd.lab.scenario_file import scenario_from
from pipesd.lab.scenarios import SCENARIOS
from pipesd.lab.wires import WIRES
from pipesd.planner.policies import POLICIES
from tests.lab.recordings import SMALL, TWINS, recorded, trace_of, written


@pytest.fixture
def small(tmp_path: Path) -> str:
    return written(SMALL, tmp_path / "small.jsonl")


def lab(*arguments: str) -> Result:
    return CliRunner().invoke(lab_commands, arguments, standalone_mode=False)


def answer_of(*arguments: str) -> dict[str, object]:
    done = lab("run", *arguments, "--json")
    assert (done.exception, done.stderr) == (None, "")
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_one_line_says_what_came_of_it(small: str):
    done = lab("run", "--trace", small)
    assert done.stdout == run(Experiment(trace=SMALL, scenario=SCENARIOS["s1"])).line() + "\n"
    assert (done.return_value, done.stderr) == (None, "")


def test_all_figures_are_given_as_one_flat_object(small: str):
    answer = answer_of("--trace", small)
    assert answer == run(Experiment(trace=SMALL, scenario=SCENARIOS["s1"])).as_json()
    assert answer["policy"] == "pipesd"
    assert [name for name, value in answer.items() if isinstance(value, dict | list)] == ["changed"]


def test_everything_can_be_chosen(small: str, tmp_path: Path):
    where = tmp_path / "desk.toml"
    where.write_text('like = "far"\njitter_ms = 20.0\n')
    chosen_ids = ["ended", "right"]
    played = Experiment(
        trace=chosen(SMALL, chosen_ids),
        scenario=scenario_from(str(where)),
        policy="vanilla",
        changed={"n": 3, "ahead": "always"},
        wire="full-distribution",
        seed=7,
    )
    prompts = (word for each in chosen_ids for word in ("--prompt", each))
    policy = ("--policy", "vanilla", "--set", "n=3", "--set", "ahead=always")
    answer = answer_of(
        *("--trace", small, *prompts, "--scenario", str(where), *policy),
        *("--wire", "full-distribution", "--seed", "7"),
    )
    assert answer == run(played).as_json()
    assert (answer["scenario"], answer["seed"], answer["prompts"]) == ("desk", 7, 2)
    assert answer["changed"] == {"n": 3, "ahead": "always"}


def test_the_same_command_gives_the_same_words(small: str):
    command = ("run", "--trace", small, "--scenario", "s4", "--seed", "5", "--json")
    assert lab(*command).stdout == lab(*command).stdout


def test_it_can_be_played_in_wall_time(tmp_path: Path):
    where = tmp_path / "quick.toml"
    where.write_text('like = "s1"\ndraft_ms = 1\ndelay_ms = 0.5\npass_ms = 1\npass_token_ms = 0.1\n')
    short = written(trace_of(recorded("short", [5], [10, 11, 12])), tmp_path / "short.jsonl")
    answer = answer_of("--trace", short, "--scenario", str(where), "--clock", "wall")
    assert (answer["clock"], answer["tokens"]) == ("wall", 3)
    assert answer["basis"] == "replayed and modelled; in wall time"


def test_a_text_that_nobody_verified_is_said_to_be_so(small: str):
    done = lab("run", "--trace", small, "--policy", "edge-only")
    assert done.stdout.endswith("; unverified, the draft model alone)\n")


def test_several_recordings_are_played_as_one(small: str, tmp_path: Path):
    more = written(trace_of(recorded("more", [9, 9], [10, 12])), tmp_path / "more.jsonl")
    assert answer_of("--trace", small, "--trace", more)["prompts"] == 4


@pytest.mark.parametrize(
    ("arguments", "failure", "words"),
    [
        (("--scenario", "s5"), UsageError, "s1, s2, s3, s4, far, fast"),
        (("--scenario", "missing.toml"), UsageError, "cannot read missing.toml"),
        (("--prompt", "left"), UsageError, "'left' is none of the 3"),
        (("--trace", "no such file"), TraceError, "cannot be read"),
        (("--trace", __file__), TraceError, "line 1"),
        (("--set", "pace=3"), UsageError, "set: 'pace=3' must be KEY=VALUE with one of the keys r1, "),
        (("--set", "n"), UsageError, "set: 'n' must be KEY=VALUE"),
        (("--set", "r1=1,5"), UsageError, "set: '1,5' is no value for r1"),
        (("--set", "n=0"), ConfigError, "upper_tokens: must be at least 1"),
        (("--set", "ahead=maybe"), ConfigError, "ahead: must be never or always or expected"),
        (("--set", "verify=never"), UsageError, "verify: must be one of on_request, piggyback, eager"),
        (("--policy", "psd"), click.UsageError, "'psd' is not one of 'pipesd', 'vanilla'"),
        (("--wire", "letters"), click.UsageError, "'letters' is not one of 'ids', 'full-distribution'"),
        (("--clock", "sand"), click.UsageError, "'sand' is not one of 'virtual', 'wall'"),
        (("--seed", "-1"), click.UsageError, "-1 is not in the range"),
        (("--seed", "1.5"), click.UsageError, "'1.5' is not a valid integer"),
    ],
)
def test_what_cannot_be_played_is_said(
    small: str, arguments: tuple[str, ...], failure: type[Exception], words: str
):
    traces = () if "--trace" in arguments else ("--trace", small)
    done = lab("run", *traces, *arguments)
    assert isinstance(done.exception, failure)
    assert words in str(done.exception)
    assert "\n" not in str(done.exception)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("line", "before", "after", "words"),
    [
        (1, b'"pipesd-trace/1"', b'"pipesd-trace/9"', "format: pipesd-trace/9 is not known"),
        (2, b'"target":[10,', b'"target":["ten",', "target[0]: Expected `int`, got `str`"),
        (3, b'"target_p":[0.9,', b'"target_p":[', "target_p: has 5 entries, but target has 6"),
        (3, b'"rollouts":{"1":[]}', b'"rollouts":{}', "rollouts: 1 is missing"),
        (
            4,
            b'"prompt_tokens":[5,',
            b'"prompt_tokens":[99,',
            "prompt_tokens: id 99 is outside the vocabulary",
        ),
    ],
)
def test_a_broken_trace_is_named_with_line_and_key(
    small: str, line: int, before: bytes, after: bytes, words: str
):
    lines = Path(small).read_bytes().split(b"\n")
    assert lines[line - 1].count(before) == 1
    lines[line - 1] = lines[line - 1].replace(before, after)
    Path(small).write_bytes(b"\n".join(lines))
    done = lab("run", "--trace", small)
    assert isinstance(done.exception, TraceError)
    assert str(done.exception).startswith(f"{small}, line {line}: {words}")
    assert done.stdout == ""


def test_a_text_that_is_not_the_targets_is_a_failure(tmp_path: Path):
    done = lab("run", "--trace", written(TWINS, tmp_path / "twins.jsonl"))
    assert type(done.exception) is EngineError
    assert "the text of one is not the recorded target's" in str(done.exception)
    assert done.stdout == ""


def test_the_help_names_what_can_be_chosen():
    words = " ".join(lab("run", "--help").stdout.split())
    assert ", ".join(SCENARIOS) in words
    assert ", ".join(KEYS) in words
    assert all(name in words for name in (*POLICIES, *WIRES, "virtual", "wall"))
