"""``pipesd-lab load``, run as a command in this process on few prompts."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipesd.cli.load import load
from pipesd.errors import TraceError, UsageError

FEW = ("--trace", "chat", "--prompts-max", "1", "--seed", "3")


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(load, [*FEW, *arguments], standalone_mode=False)


def test_a_line_says_what_so_many_edges_get():
    done = ask("--edges", "2")
    assert done.exception is None
    assert done.stdout.startswith("2 edges at s1, batched: ")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_json_gives_all_figures_by_name():
    options = ("--arrivals", "poisson", "--rate", "0.5", "--scenario", "far", "--busy-watts", "100")
    done = ask("--edges", "3", "--system", "cloud-only", "--json", *options)
    assert done.exception is None
    figures = json.loads(done.stdout)
    assert (figures["edges"], figures["system"], figures["arrivals"]) == (3, "cloud-only", "poisson")
    assert figures["scenario"] == "far"
    assert figures["energy_is"].startswith("modelled, 100 W")
    needed = {"tokens_per_s", "jain", "tpt_ms_p50", "tpt_ms_p95", "ttft_ms_p95", "passes_per_100"}
    assert needed | {"energy_j_per_100"} <= set(figures)


def test_the_policy_and_the_pass_can_be_changed():
    plain, changed = (json.loads(ask("--edges", "2", "--json", *options).stdout) for options in ((), CHANGED))
    assert plain["passes_per_100"] != changed["passes_per_100"]


CHANGED = ("--set", "verify=on_request", "--set", "n=2", "--pass-tokens", "4")


def test_wall_time_is_named():
    done = ask("--edges", "1", "--wall", "replay")
    assert done.exception is None
    assert "in wall time, on this machine, replay engine" in done.stdout


def test_two_comparisons_write_the_same_bytes_and_say_how(tmp_path: Path):
    written = []
    for name in ("one", "other"):
        done = ask("--edges", "2", "--jobs", "1", "--think", "0.5", "-o", str(tmp_path / name))
        assert done.exception is None
        assert (done.stdout, done.stderr) == ("", f"the page is {tmp_path / name / 'load.md'}\n")
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"load.md", "load.png"}
    said = "`pipesd-lab load --trace chat --prompts-max 1 --edges 2 --think 0.5 --seed 3 -o DIR`"
    assert said in written[0]["load.md"].decode()


def test_a_comparison_can_be_read_by_machines_too(tmp_path: Path):
    done = ask("--edges", "1", "--jobs", "1", "--json", "-o", str(tmp_path))
    assert done.exception is None
    assert [len(each) for each in json.loads(done.stdout).values()] == [1, 1, 1]


def test_without_matplotlib_nothing_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = ask("-o", str(tmp_path / "out"))
    assert type(done.exception) is UsageError
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "load.md").mkdir()
    done = ask("--edges", "1", "--jobs", "1", "-o", str(tmp_path))
    assert type(done.exception) is UsageError
    assert "load.md cannot be written" in str(done.exception)
    (tmp_path / "file").touch()
    assert str(ask("-o", str(tmp_path / "file" / "out")).exception).startswith("output: ")


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (("--scenario", "s9"), UsageError, "s9"),
        (("--trace", "no such recording"), TraceError, "no such recording"),
        (("--rate", "0"), UsageError, "rate: "),
        (("--set", "r1=0.5", "--system", "cloud-only"), Exception, "cloud-only"),
        (("--wall", "replay", "-o", "anywhere"), UsageError, "output: "),
    ],
)
def test_what_cannot_be_played_is_said(arguments: tuple[str, ...], kind: type[Exception], said: str):
    done = ask(*arguments)
    assert isinstance(done.exception, kind)
    assert said in str(done.exception)
