"""``pipesd-lab tune``, run as a command in this process on a small study."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipesd.cli.tune import tune, tune_command
from pipesd.errors import TraceError, UsageError
from tests.lab.tiny_tune import TINY_DRIFT, TINY_STUDY

SMALL_STUDY = replace(
    TINY_STUDY, tuners=("closed-form", "grid"), per_axis=2, scenarios=TINY_STUDY.scenarios[:1], trials=2
)
SMALL_DRIFT = replace(TINY_DRIFT, worlds=TINY_DRIFT.worlds[:1], tokens=60)


def ask(*arguments: str) -> Result:
    command = tune_command(SMALL_STUDY, SMALL_DRIFT)
    return CliRunner().invoke(command, ["--jobs", "1", *arguments], standalone_mode=False)


def test_a_line_for_each_tuner_says_what_came_of_it():
    done = ask()
    assert done.exception is None
    closed, grid = done.stdout.splitlines()
    assert closed.startswith("closed-form: ")
    assert "after 2 trials" in grid
    assert done.stderr == ""


def test_options_choose_what_is_compared():
    done = ask("--scenario", "s3", "--scenario", "throttled", "--objective", "cost", "--seeds", "1", "--json")
    assert done.exception is None
    answer = json.loads(done.stdout)
    assert (answer["scenarios"], answer["objective"], answer["seeds"]) == (["s3", "throttled"], "cost", 1)
    assert set(answer["tuners"]) == {"closed-form", "grid"}
    assert "drift" not in answer


def test_drift_comes_with_the_rest():
    done = ask("--drift", "--json", "--seeds", "1")
    assert done.exception is None
    drift = json.loads(done.stdout)["drift"]
    assert (drift["seeds"], [case["scenario"] for case in drift["cases"]]) == (1, ["wifi-4g"])
    assert (
        ask("--drift", "--seeds", "1").stdout.splitlines()[-1].startswith("wifi-4g, ids, chat: tuned takes")
    )


def test_two_runs_write_the_same_bytes_and_say_how(tmp_path: Path):
    written = []
    for name in ("one", "other"):
        done = ask("-o", str(tmp_path / name))
        assert done.exception is None
        assert (done.stdout, done.stderr) == ("", f"the page is {tmp_path / name / 'tuning.md'}\n")
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"tuning.md", "tuning.png"}
    said = "`pipesd-lab tune --trace chat --scenario s1 --wire ids --objective balanced --seeds 2 --trials 2`"
    assert said in written[0]["tuning.md"].decode()


def test_without_matplotlib_nothing_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = ask("-o", str(tmp_path / "out"))
    assert type(done.exception) is UsageError
    assert "pipesd[plots]" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "tuning.md").mkdir()
    done = ask("-o", str(tmp_path))
    assert type(done.exception) is UsageError
    assert "tuning.md cannot be written" in str(done.exception)
    (tmp_path / "file").touch()
    assert str(ask("-o", str(tmp_path / "file" / "out")).exception).startswith("output: ")


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [(("--scenario", "s9"), UsageError), (("--trace", "no such recording"), TraceError)],
)
def test_what_cannot_be_played_is_said_first(arguments: tuple[str, str], kind: type[Exception]):
    done = ask(*arguments)
    assert type(done.exception) is kind
    assert arguments[1] in str(done.exception)


def test_the_command_itself_compares_everything():
    defaults = {option.name: option.default for option in tune.params}
    assert (defaults["seeds"], defaults["trials"], defaults["objective"]) == (20, 16, "balanced")
    said = " ".join(CliRunner().invoke(tune, ["--help"]).stdout.split())
    assert "wifi-4g, throttled" in said
    assert "[default: s1, s2, s3, s4, far, fast]" in said
