"""The daemons as processes, the way a user starts them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 60
"""After this a process counts as hung; never waited for when all is well."""

IMPATIENT = ("--offline-timeout-s", "0.000001")
"""An edge that does not try to get a lost connection back."""

READY = "pipesd-cloud: ready on "


def command(side: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"from pipesd.launch import {side}; {side}()", *arguments]


ROOT = Path(__file__).resolve().parents[2]

SETTINGS = {
    "PIPESD_CONFIG": os.devnull,
    "PIPESD_EDGE_ENGINE": "scripted",
    "PIPESD_CLOUD_ENGINE": "scripted",
    "PIPESD_EDGE_TUNER": "off",
    "PYTHONUNBUFFERED": "1",
}
"""No file of the user's, and neither a model nor a tuner unless a flag asks for one."""


def environment(**extra: str) -> dict[str, str]:
    """Ours without the user's settings, but with the user's models."""
    is_ours = {name: not name.startswith("PIPESD_") or name == "PIPESD_HOME" for name in os.environ}
    kept = {name: value for name, value in os.environ.items() if is_ours[name]}
    return {**kept, **SETTINGS, **extra}


def run(
    side: str, *arguments: str, env: dict[str, str] | None = None, script: str = ""
) -> subprocess.CompletedProcess[str]:
    """A command to its end; ``script`` is its standard input."""
    return subprocess.run(
        command(side, *arguments),
        input=script,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        env=env or environment(),
        cwd=ROOT,
        check=False,
    )


def start(side: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(side, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=env or environment(),
        cwd=ROOT,
    )


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A cloud on a free port, and its HOST:PORT."""
    with start("cloud", "serve", "--listen", "127.0.0.1:0", *arguments) as cloud:
        try:
            assert cloud.stderr is not None
            line = cloud.stderr.readline()
            assert line.startswith(READY), line + cloud.stderr.read()
            yield cloud, line.removeprefix(READY).strip()
        finally:
            cloud.kill()


def generate(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("edge", "generate", "--cloud", address, *arguments)


def expect_failure(done: subprocess.CompletedProcess[str], code: int, *words: str) -> str:
    """One clear sentence, the right exit code, nothing on standard output, and no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    sentence = done.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in sentence, sentence
    return sentence


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


def read_some(process: subprocess.Popen[str], characters: int) -> str:
    assert process.stdout is not None
    return process.stdout.read(characters)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.read(), process.stderr.read()
    return process.wait(PATIENCE_S), out, err


__all__: Sequence[str] = (
    "expect_failure",
    "finish",
    "generate",
    "interrupt",
    "read_some",
    "run",
    "serving",
    "start",
)
