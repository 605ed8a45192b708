import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipesd.cli.lab import lab_commands
from pipesd.errors import EngineError, TraceError, UsageError
from pipesd.lab.run import play, play_alone
from pipesd.lab.scenarios import SCENARIOS
from tests.lab.recordings import SMALL, recorded, trace_of, written


@pytest.fixture
def small(tmp_path: Path) -> str:
    return written(SMALL, tmp_path / "small.jsonl")


def lab(*arguments: str) -> Result:
    return CliRunner().invoke(lab_commands, arguments, standalone_mode=False)


def test_a_line_is_printed_for_each_way(small: str):
    done = lab("run", "--trace", small)
    together, alone = done.stdout.splitlines()
    assert together == play(SMALL, [], SCENARIOS["s1"]).line()
    assert alone == play_alone(SMALL, [], SCENARIOS["s1"]).line()
    assert (done.return_value, done.stderr) == (None, "")


def test_all_figures_are_given_as_json(small: str):
    chosen = ("--prompt", "ended", "--prompt", "right")
    done = lab("run", "--scenario", "far", "--trace", small, *chosen, "--json")
    answer = json.loads(done.stdout)
    far, ids = SCENARIOS["far"], ["ended", "right"]
    assert done.stderr == ""
    assert answer["scenario"]["delay_ms"] == 60.0
    assert answer["together"] == play(SMALL, ids, far).figures()
    assert answer["target_alone"] == play_alone(SMALL, ids, far).figures()


def test_several_recordings_are_played_as_one(small: str, tmp_path: Path):
    more = trace_of(recorded("more", [9, 9], [10, 12]))
    done = lab("run", "--trace", small, "--trace", written(more, tmp_path / "more.jsonl"), "--json")
    assert json.loads(done.stdout)["together"]["prompts"] == 4


@pytest.mark.parametrize(
    ("arguments", "failure", "words"),
    [
        (("--scenario", "s4"), UsageError, "s1, s2, s3, far, fast"),
        (("--prompt", "left"), UsageError, "'left' is none of the 3"),
        (("--trace", "no such file"), TraceError, "cannot be read"),
        (("--trace", __file__), TraceError, "line 1"),
    ],
)
def test_what_cannot_be_played_is_said(
    small: str, arguments: tuple[str, ...], failure: type[Exception], words: str
):
    traces = () if "--trace" in arguments else ("--trace", small)
    done = lab("run", *traces, *arguments)
    assert type(done.exception) is failure
    assert words in str(done.exception)
    assert "\n" not in str(done.exception)
    assert done.stdout == ""


def test_a_text_that_is_not_the_targets_is_a_failure(tmp_path: Path):
    twins = trace_of(recorded("one", [5, 6], [7, 11]), recorded("other", [5, 6, 7], [21]))
    done = lab("run", "--trace", written(twins, tmp_path / "twins.jsonl"))
    assert type(done.exception) is EngineError
    assert done.stdout == ""


def test_the_help_names_the_scenarios():
    assert ", ".join(SCENARIOS) in " ".join(lab("run", "--help").stdout.split())
