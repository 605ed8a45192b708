"""``pipesd-lab faults``, run as a command in this process on few answers."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipesd.cli.faults import faults
from pipesd.cli.lab import lab_commands
from pipesd.errors import EngineError, UsageError
from tests.lab.tiny_storm import believe_a_draft

FEW = ("--generations", "3", "--every-s", "0.8", "--jobs", "1")


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(faults, [*FEW, *arguments], standalone_mode=False)


def test_a_line_says_what_came_of_it():
    done = ask()
    assert done.exception is None
    assert done.stdout.startswith("3 of 3 texts equal the target's; ")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_json_gives_all_figures_by_name():
    done = ask("--json", "--seed", "5", "--scenario", "fast")
    assert done.exception is None
    figures = json.loads(done.stdout)
    assert (figures["generations"], figures["seed"], figures["scenario"]) == (3, 5, "fast")
    assert (figures["right"], figures["problems"]) == (3, [])


def test_the_page_is_the_same_each_time_and_says_how_it_was_made(tmp_path: Path):
    pages = []
    for name in ("one", "other"):
        done = ask("--seed", "5", "-o", str(tmp_path / name))
        assert done.exception is None
        assert done.stderr == f"the page is {tmp_path / name / 'faults.md'}\n"
        pages.append((tmp_path / name / "faults.md").read_bytes())
    assert pages[0] == pages[1]
    assert b"`pipesd-lab faults --generations 3 --every-s 0.8 --seed 5 -o DIR`" in pages[0]


def test_a_text_that_is_not_the_targets_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    believe_a_draft(monkeypatch)
    done = ask("-o", str(tmp_path))
    assert type(done.exception) is EngineError
    assert "in the storm" in str(done.exception)
    assert "**" in (tmp_path / "faults.md").read_text()


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "faults.md").mkdir()
    done = ask("-o", str(tmp_path))
    assert type(done.exception) is UsageError
    assert "faults.md cannot be written" in str(done.exception)
    (tmp_path / "file").touch()
    assert str(ask("-o", str(tmp_path / "file" / "out")).exception).startswith("output: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--generations", "0"), "generations: "),
        (("--every-s", "0"), "every-s: "),
        (("--scenario", "s9"), "s9"),
    ],
)
def test_what_cannot_be_played_is_said(arguments: tuple[str, ...], words: str):
    done = ask(*arguments)
    assert isinstance(done.exception, UsageError)
    assert words in str(done.exception)


def test_it_is_a_command_of_the_lab():
    assert lab_commands.commands["faults"] is faults
