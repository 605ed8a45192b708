"""The short run of CI, and what the fuzzer says of planted bugs."""

import platform
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.fuzz import run
from tests.fuzz.targets import TARGETS

HAS_WHEEL = sys.platform == "linux" and platform.machine() == "x86_64" and sys.version_info < (3, 14)
needs_atheris = pytest.mark.skipif(not HAS_WHEEL, reason="atheris has no wheel for this system")
"""Where there is one, the extra dev brings it, and its absence is a failure."""

RUNS = 100


def fuzz(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(run.main, ["--folder", str(folder), "--seed", "1", *arguments])


def row_of(result: Result, name: str) -> list[int]:
    """Executions, per second, edges, features, peak MB."""
    row = next(line for line in result.stdout.splitlines() if line.startswith(name + " "))
    return [int(figure.replace(",", "")) for figure in re.findall(r" ([\d,]+)", row)]


def input_named_in(result: Result, kind: str) -> Path:
    named = re.search(rf"failed for (\S+/{kind}-\w+);", result.stderr)
    assert named is not None, result.stderr
    return Path(named[1])


@needs_atheris
def test_every_target_bears_a_short_run(tmp_path: Path) -> None:
    result = fuzz(tmp_path, "--runs", str(RUNS), "--jobs", "2")
    assert result.exit_code == 0, result.stderr
    for name in TARGETS:
        executions, _, edges, features, _ = row_of(result, name)
        assert executions >= RUNS
        assert features > edges > 20


@needs_atheris
def test_a_planted_bug_is_reported_with_its_input(tmp_path: Path) -> None:
    result = fuzz(tmp_path, "--runs", "20000", "codec:empty_array")
    assert result.exit_code == 1
    assert "is not subscriptable" in result.stderr or "list index out of range" in result.stderr
    assert "FAILED" in result.stdout
    found = input_named_in(result, "crash")
    assert fuzz(tmp_path, "--input", str(found), "codec").exit_code == 0, "the bug is not planted here"


@needs_atheris
def test_a_cloud_that_accepts_a_wrong_draft_is_found_out(tmp_path: Path) -> None:
    result = fuzz(tmp_path, "--runs", "2000", "cloud_session:wrong_draft")
    assert result.exit_code == 1
    assert "the text is not the target's" in result.stderr
    assert input_named_in(result, "crash").exists()


@needs_atheris
def test_a_hang_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "INPUT_TIMEOUT_S", 1)
    result = fuzz(tmp_path, "--runs", "20000", "codec:endless_frame")
    assert result.exit_code == 1
    assert "in feed" in result.stderr
    assert input_named_in(result, "timeout").exists()


@needs_atheris
def test_growing_memory_is_reported(tmp_path: Path) -> None:
    result = fuzz(tmp_path, "--runs", "20000", "codec:hoard")
    assert result.exit_code == 1
    assert f"limit: {run.RSS_MB_MAX}Mb" in result.stderr
    assert input_named_in(result, "oom").exists()


def test_an_input_that_is_not_borne_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: bytes) -> None:
        raise AssertionError("planned")

    (tmp_path / "input").write_bytes(b"")
    monkeypatch.setattr(run, "play_of", lambda _: refuse)
    assert isinstance(fuzz(tmp_path, "--input", str(tmp_path / "input"), "codec").exception, AssertionError)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("nothing",), "'nothing' is no target; choose among codec"),
        (("--runs", "1", "--seconds", "1"), "exclude each other"),
        (("--input", __file__), "name it"),
    ],
)
def test_what_makes_no_sense_is_bad_usage(tmp_path: Path, arguments: tuple[str, ...], what: str) -> None:
    result = fuzz(tmp_path, *arguments)
    assert result.exit_code == 2
    assert what in result.stderr
