"""Thresholds are tuned by processes of their own, beside the daemons; the text stays the target's."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil
import pytest

from pipesd.engines.traces import shipped_trace
from tests.end_to_end.processes import (
    PATIENCE_S,
    environment,
    expect_failure,
    finish,
    interrupt,
    run,
    serving,
    start,
)

RECORDED = ("--engine", "replay", "--trace", str(shipped_trace("chat")))
PROMPT = ("-p", "chat/2")
AT_ONCE = ("--draft-ms", "1")
AT_LEISURE = ("--draft-ms", "60")
"""The text then takes longer than a tuner takes to start."""

VERY_SLOWLY = ("--draft-ms", "200")
"""So that it takes longer than one takes on a machine that does much else; nobody waits for the end."""

DEBUG = ("--log-level", "debug")


@pytest.fixture(scope="module")
def reference() -> str:
    """What the recorded target says alone."""
    return run("cloud", "generate", *RECORDED, *PROMPT).stdout


@pytest.fixture
def state(tmp_path: Path) -> dict[str, str]:
    """An environment by which the processes of a test are known, tuners included."""
    return environment(XDG_STATE_HOME=str(tmp_path))


@pytest.fixture(scope="module")
def recorded() -> Iterator[str]:
    with serving(*RECORDED, "--tuner", "on", "--pass-ms", "5") as (_, address):
        yield address


def tuners(env: dict[str, str]) -> list[psutil.Process]:
    """The tuners that run for whoever was given this environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            mine = process.environ().get("XDG_STATE_HOME") == env["XDG_STATE_HOME"]
            if mine and "pipesd.tuning_worker" in process.cmdline():
                found.append(process)
    return found


def said(address: str, *flags: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = run("edge", "generate", "--cloud", address, *RECORDED, *PROMPT, *DEBUG, *flags, env=env)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "not tuned any more" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("place", "loop"),
    [("auto", "uvloop"), ("cloud", "uvloop"), ("edge", "uvloop"), ("edge", "asyncio"), ("off", "uvloop")],
)
def test_a_text_that_ends_before_the_tuner_is_ready_is_the_targets(
    recorded: str, reference: str, state: dict[str, str], place: str, loop: str
) -> None:
    done = said(recorded, *AT_ONCE, "--tuner", place, "--loop", loop, env=state)
    assert done.stdout == reference
    assert (" > TuneThresholds" in done.stderr) == (place == "edge")
    assert (" > Telemetry" in done.stderr) == (place in {"auto", "cloud"})
    assert tuners(state) == []


@pytest.mark.parametrize(("place", "news"), [("cloud", " < Thresholds\n"), ("edge", " < ThresholdsProposed")])
def test_a_text_during_which_thresholds_change_is_the_targets(
    recorded: str, reference: str, state: dict[str, str], place: str, news: str
) -> None:
    flags = ("generate", "--cloud", recorded, *RECORDED, *PROMPT, *DEBUG, *VERY_SLOWLY, "--tuner", place)
    with start("edge", *flags, env=state) as edge:
        assert edge.stderr is not None
        read = read_until(edge.stderr, news)
        for _ in range(2):
            read += read_until(edge.stderr, " > EmitTokens")
        interrupt(edge)
        code, text, words = finish(edge)
    assert code == 130
    assert reference.startswith(text)
    assert len(text) > 20
    assert "Traceback" not in read + words
    assert tuners(state) == []


def read_until(lines: IO[str], end: str) -> str:
    read = ""
    for line in lines:
        read += line
        if end in line:
            return read
    raise AssertionError(f"it ended without {end!r}: {read}")


def test_a_cloud_ends_its_tuner(reference: str, state: dict[str, str]) -> None:
    flags = ("serve", "--listen", "127.0.0.1:0", *RECORDED, "--tuner", "on")
    with start("cloud", *flags, env=state) as cloud:
        assert cloud.stderr is not None
        address = cloud.stderr.readline().split()[-1]
        assert said(address, *AT_ONCE, "--tuner", "cloud", env=environment()).stdout == reference
        (tuner,) = tuners(state)
        cloud.send_signal(signal.SIGTERM)
        assert finish(cloud) == (0, "", "")
        assert not tuner.is_running()


def test_a_tuner_that_is_killed_is_missed_by_nobody(
    recorded: str, reference: str, state: dict[str, str]
) -> None:
    flags = ("generate", "--cloud", recorded, *RECORDED, *PROMPT, *AT_LEISURE, "--tuner", "edge")
    with start("edge", *flags, "--log-level", "info", env=state) as edge:
        while not (found := tuners(state)):
            assert edge.poll() is None, "it ended without a tuner"
        found[0].kill()
        code, text, words = finish(edge)
    assert (code, text) == (0, reference)
    # Not at all if the text ends before there is another trial to report.
    assert words.count("thresholds are not tuned any more, and stay as they are") <= 1
    assert "Traceback" not in words


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_tuner_does_not_outlive_its_edge(
    recorded: str, state: dict[str, str], sign: signal.Signals
) -> None:
    flags = ("generate", "--cloud", recorded, *RECORDED, *PROMPT, *AT_LEISURE, "--tuner", "edge")
    with start("edge", *flags, env=state) as edge:
        while not (found := tuners(state)):
            assert edge.poll() is None, "it ended without a tuner"
        edge.send_signal(sign)
        assert "Traceback" not in finish(edge)[2]
    found[0].wait(PATIENCE_S)


def test_a_cloud_that_does_not_tune_is_named(state: dict[str, str]) -> None:
    with serving(*RECORDED, "--tuner", "off") as (_, address):
        done = run("edge", "generate", "--cloud", address, *RECORDED, *PROMPT, "--tuner", "cloud", env=state)
    expect_failure(done, 2, "tuner", "this cloud does not tune", "edge or off")


def test_thresholds_that_are_given_cannot_be_tuned(recorded: str, state: dict[str, str]) -> None:
    flags = ("generate", "--cloud", recorded, *RECORDED, *PROMPT, "--tuner", "edge", "--r2", "0.5")
    expect_failure(run("edge", *flags, env=state), 2, "tuner", "r2 is given")
