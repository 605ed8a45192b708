"""Ctrl-C while a command is still being imported: at every import, a copy of the process is interrupted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.processes import PATIENCE_S, ROOT, environment, expect_failure, run

PROGRAM = """
import json, os, signal, sys
from pipesd.launch import {side}

report = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
nowhere = os.open(os.devnull, os.O_WRONLY)
is_copy = False


def interrupt_a_copy(event, details):
    global is_copy
    if event != "import" or is_copy:
        return
    said, says = os.pipe()
    if not (copy := os.fork()):
        is_copy = True
        os.dup2(nowhere, 1)
        os.dup2(says, 2)
        os.kill(os.getpid(), signal.SIGINT)
        return
    os.close(says)
    text = b"".join(iter(lambda: os.read(said, 65_536), b""))
    os.close(said)
    code = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    os.write(report, (json.dumps([details[0], code, text.decode()]) + "\\n").encode())


sys.addaudithook(interrupt_a_copy)
{side}()
"""


@pytest.mark.parametrize("side", ["edge", "cloud", "lab"])
def test_an_interrupt_at_any_import_is_one_line_and_130(side: str, tmp_path: Path):
    report = tmp_path / "report"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(side=side), str(report), "--help"],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=ROOT,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: pipesd-{side} ")
    moments = [json.loads(line) for line in report.read_text().splitlines()]
    imported = {name for name, *_ in moments}
    assert {"click", "asyncio", "msgspec", f"pipesd.cli.{side}"} <= imported
    wrong = [each for each in moments if each[1:] != [130, f"pipesd-{side}: interrupted\n"]]
    assert wrong == []


@pytest.mark.parametrize("side", ["edge", "cloud", "lab"])
def test_a_command_without_a_word_of_what_to_do_is_bad_usage(side: str):
    done = run(side)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Usage: pipesd-{side} ")
    expect_failure(run(side, "nonsense"), 2, "nonsense")


@pytest.mark.parametrize("side", ["edge", "cloud", "lab"])
def test_a_command_says_its_version(side: str):
    done = run(side, "--version")
    assert done.returncode == 0
    assert done.stdout.startswith(f"pipesd-{side}, version ")
