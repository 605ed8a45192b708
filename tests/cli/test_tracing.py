"""``--trace-out``, as a command has it."""

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from pipesd.cli.tracing import trace_option, tracing
from pipesd.errors import ConfigError, LinkError
from pipesd.session.events import PeerConnected


def ask(work: Callable[[], object], *arguments: str) -> Result:
    """The outcome of a command that is seen, and then does its work."""

    @click.command()
    @trace_option
    def command(trace_out: Path | None) -> int:
        with tracing(trace_out, "cloud") as seen:
            for observer in seen:
                observer.observe(1.0, PeerConnected(0), [])
            work()
        return len(seen)

    return CliRunner().invoke(command, arguments, standalone_mode=False)


def fail() -> None:
    raise LinkError("planned")


def interrupt() -> None:
    raise SystemExit(143)


def test_without_the_option_nobody_looks_on():
    assert ask(lambda: None).return_value == 0


def test_with_it_a_timeline_of_the_side_is_written(tmp_path: Path):
    path = tmp_path / "cloud.json"
    assert ask(lambda: None, "--trace-out", str(path)).return_value == 1
    names = [line["args"].get("name") for line in json.loads(path.read_bytes())]
    assert names[0] == "pipesd cloud"
    assert "verifying" in names


@pytest.mark.parametrize(("end", "error"), [(fail, LinkError), (interrupt, SystemExit)])
def test_it_is_complete_however_the_command_ends(
    tmp_path: Path, end: Callable[[], None], error: type[BaseException]
):
    path = tmp_path / "cloud.json"
    done = ask(end, "--trace-out", str(path))
    assert type(done.exception) is error
    assert len(json.loads(path.read_bytes())) > 3


def test_a_place_where_nothing_can_be_written_is_said_before_the_work_begins(tmp_path: Path):
    begun: list[None] = []
    done = ask(lambda: begun.append(None), "--trace-out", str(tmp_path))
    assert type(done.exception) is ConfigError
    assert str(done.exception).startswith("trace_out: ")
    assert begun == []


def test_the_help_says_that_content_is_left_out():
    assert "without its content" in " ".join(ask(lambda: None, "--help").stdout.split())
