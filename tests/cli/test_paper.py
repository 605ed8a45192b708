"""``pipesd-lab paper``, run as a command in this process on a grid of a few short experiments."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipesd.cli.paper import paper, paper_command
from pipesd.errors import UsageError
from pipesd.lab.paper import GRID
from tests.lab.tiny import TINY

SMALLEST = replace(TINY, scenarios=("s1",), r1=(0.9,), sweeps=TINY.sweeps[:1])


def ask(folder: Path, *arguments: str) -> Result:
    command = paper_command(SMALLEST, processes=1)
    return CliRunner().invoke(command, ["-o", str(folder), *arguments], standalone_mode=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_runs_give_the_same_bytes(tmp_path: Path):
    first, second = tmp_path / "first" / "of" / "two", tmp_path / "second"
    done = ask(first)
    assert done.exception is None
    assert (done.stdout, done.stderr) == ("", f"the report is {first / 'report.md'}\n")
    assert ask(second, "--seed", "0").exception is None
    assert contents(first) == contents(second)
    page = (first / "report.md").read_text()
    shown = {name for name in contents(first) if f"({name})" in page}
    assert shown == set(contents(first)) - {"report.md"}


def test_seed_and_haste_are_said_in_the_report(tmp_path: Path):
    assert ask(tmp_path, "--seed", "5", "--quick").exception is None
    page = (tmp_path / "report.md").read_text()
    assert "`pipesd-lab paper --seed 5 --quick`" in page
    assert "only the first 4 prompts" in page


def test_without_matplotlib_nothing_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = ask(tmp_path / "out")
    assert type(done.exception) is UsageError
    assert "pipesd[plots]" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    done = ask(tmp_path / "file" / "out")
    assert type(done.exception) is UsageError
    assert str(done.exception).startswith("output: ")
    assert "name another folder" in str(done.exception)


def test_a_report_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "report.md").mkdir()
    done = ask(tmp_path)
    assert type(done.exception) is UsageError
    assert "report.md cannot be written" in str(done.exception)


def test_the_command_itself_plays_everything():
    assert paper.name == "paper"
    assert GRID.prompts_max is None
    defaults = {option.name: option.default for option in paper.params}
    assert defaults["folder"] == Path("docs", "results")
    assert defaults["seed"] == 0
