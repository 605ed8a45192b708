"""The first moments of a command; ``tests/end_to_end/test_interrupts.py`` interrupts them."""

import importlib
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipesd import launch

ROOT = Path(__file__).resolve().parents[1]
SIDES = ("edge", "cloud", "lab")
each_side = pytest.mark.parametrize("side", SIDES)


def test_the_entry_points_of_the_package_are_those_of_this_file():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {f"pipesd-{side}": f"pipesd.launch:{side}" for side in SIDES}
    assert all(callable(getattr(launch, side)) for side in SIDES)


def test_next_to_nothing_is_imported_before_an_interrupt_can_be_answered():
    """Whatever comes before that, an interrupt meets with a traceback."""
    program = (
        "import sys, json; before = set(sys.modules); import pipesd.launch; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True)
    loaded = json.loads(done.stdout)
    assert [name for name in loaded if name.startswith("pipesd")] == ["pipesd", "pipesd.launch"]
    assert {name.partition(".")[0] for name in loaded} - {"pipesd"} <= sys.stdlib_module_names
    assert "asyncio" not in loaded
    assert "importlib.metadata" not in loaded
    assert len(loaded) < 25


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> dict[int, Callable[..., None]]:
    """What would answer which signal; nothing is installed."""
    installed: dict[int, Callable[..., None]] = {}
    monkeypatch.setattr(signal, "signal", installed.__setitem__)
    return installed


@pytest.fixture
def codes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """With which exit codes the process would have ended; it does not."""
    seen: list[int] = []
    monkeypatch.setattr(os, "_exit", seen.append)
    return seen


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """What would have been written to which descriptor."""
    seen: list[tuple[int, bytes]] = []
    monkeypatch.setattr(os, "write", lambda *given: seen.append(given))
    return seen


@each_side
def test_until_the_rest_is_there_an_interrupt_ends_the_process_with_one_line(
    side: str,
    handlers: dict[int, Callable[..., None]],
    codes: list[int],
    written: list[tuple[int, bytes]],
    monkeypatch: pytest.MonkeyPatch,
):
    commands = getattr(importlib.import_module(f"pipesd.cli.{side}"), f"{side}_commands")
    runs: list[tuple[object, str]] = []
    monkeypatch.setattr("pipesd.cli.process.run", lambda *given: runs.append(given))
    getattr(launch, side)()
    assert runs == [(commands, f"pipesd-{side}")]
    assert (codes, written) == ([], [])
    handlers[signal.SIGINT](signal.SIGINT, None)
    assert codes == [launch.INTERRUPTED] == [130]
    assert written == [(2, f"pipesd-{side}: interrupted\n".encode())]


def test_an_interrupt_that_nobody_can_be_told_of_ends_the_process_too(
    handlers: dict[int, Callable[..., None]], codes: list[int], monkeypatch: pytest.MonkeyPatch
):
    def write(*_: object) -> int:
        raise OSError("closed")

    monkeypatch.setattr(os, "write", write)
    launch._guard("pipesd-edge")
    with pytest.raises(OSError, match="closed"):
        handlers[signal.SIGINT](signal.SIGINT, None)
    assert codes == [130]
