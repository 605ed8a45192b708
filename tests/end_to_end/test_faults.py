"""Clouds that die, links that break: real processes over real sockets, and the text is the target's own.

Nothing timed is asserted. The edge is a process too, or in this one where its pieces are looked at.
"""

import asyncio
import itertools
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipesd.actors.compute import run_once
from pipesd.config import EdgeConfig
from pipesd.edge import Edge, connect
from pipesd.lab.faults import HONEST, FaultModel
from pipesd.lab.storm import Storm
from pipesd.observe import Recorder
from pipesd.session.events import FrameReceived
from pipesd.values import Offline
from pipesd.wire.frames import Resumed
from tests.end_to_end.outages import Reader, Weather, weather
from tests.end_to_end.processes import (
    PATIENCE_S,
    ROOT,
    command,
    environment,
    finish,
    generate,
    read_some,
    run,
    serving,
    start,
)
from tests.end_to_end.test_chats import AN_EDITOR, CTRL_D, as_text, at_a_terminal, path_behind
from tests.screens import terminal

PROMPT, TOKENS = "The sea", 200
LONG = ("-p", PROMPT, "--tokens-max", str(TOKENS))
SLOW = ("--pass-ms", "20")
PACED = ("--draft-ms", "10")

ONGOING: tuple[Offline, ...] = ("wait", "draft")
"""What an answer may do while no cloud is there, and still come to its end."""


@pytest.fixture(scope="module")
def path() -> list[int]:
    """The target's own answer."""
    return path_behind(PROMPT.encode(), TOKENS)


@pytest.fixture(scope="module")
def text(path: list[int]) -> str:
    return as_text(path)


@pytest.fixture(scope="module")
def lasting() -> Iterator[str]:
    """A cloud that nothing happens to."""
    with serving(*SLOW) as (_, address):
        yield address


@contextmanager
def answering(*clouds: str, arguments: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    with start("edge", "generate", "--cloud", ",".join(clouds), *LONG, *PACED, *arguments) as edge:
        try:
            yield edge
        finally:
            edge.kill()


def unused_address() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{unused.getsockname()[1]}"


def notices(errors: str) -> list[str]:
    """What the edge said of its cloud's comings and goings."""
    return re.findall(r"^pipesd\.edge the cloud is (away|back)", errors, re.MULTILINE)


# --- a cloud that is killed ------------------------------------------------------------------------------


@pytest.mark.parametrize("offline", ONGOING)
def test_a_cloud_is_killed_in_mid_answer_and_started_again(text: str, offline: Offline) -> None:
    with serving(*SLOW) as (cloud, address), answering(address, arguments=("--offline", offline)) as edge:
        begun = read_some(edge, 100)
        cloud.kill()
        cloud.wait()
        with serving(*SLOW, "--listen", address):
            code, rest, errors = finish(edge)
    assert code == 0, errors
    assert begun + rest == text
    assert notices(errors)[0] == "away"
    assert notices(errors)[-1] == "back"
    assert "Traceback" not in errors


def test_with_offline_stop_the_text_ends_where_the_cloud_was_killed(text: str) -> None:
    with serving(*SLOW) as (cloud, address), answering(address, arguments=("--offline", "stop")) as edge:
        begun = read_some(edge, 100)
        cloud.kill()
        code, rest, errors = finish(edge)
    assert code == 1
    assert text.startswith(begun + rest)
    assert len(begun + rest) < len(text)
    assert re.fullmatch(r"pipesd-edge: .*connection.*", errors.splitlines()[-1])
    assert "Traceback" not in errors


def test_a_cloud_that_does_not_come_back_is_given_up() -> None:
    brief = ("--offline-timeout-s", "1")
    with serving(*SLOW) as (cloud, address), answering(address, arguments=brief) as edge:
        read_some(edge, 100)
        cloud.kill()
        code, _, errors = finish(edge)
    assert code == 1
    assert re.fullmatch(rf"pipesd-edge: .*{address}.*", errors.splitlines()[-1])
    assert "Traceback" not in errors


SCRIPT = "Tell me of the water.\nAnd then? üñ 🌍\n\n/reset\nSo?\n"


def test_a_chat_by_a_script_goes_on_over_restarts() -> None:
    """Once in the middle of an answer, and once while the next line is waited for."""
    flags = ("--tokens-max", "60")
    alone = run("cloud", "chat", *flags, script=SCRIPT)
    first, *others = SCRIPT.splitlines(keepends=True)
    with (
        serving(*SLOW) as (cloud, address),
        start("edge", "chat", "--cloud", address, *flags, *PACED, "--offline", "draft") as chat,
    ):
        assert chat.stdin is not None
        assert chat.stdout is not None
        chat.stdin.write(first)
        chat.stdin.flush()
        shown = read_some(chat, 50)
        cloud.kill()
        cloud.wait()
        with serving(*SLOW, "--listen", address) as (second, _):
            shown += chat.stdout.readline()
            second.kill()
            second.wait()
        with serving(*SLOW, "--listen", address):
            chat.stdin.write("".join(others))
            chat.stdin.close()
            shown += chat.stdout.read()
            assert chat.stderr is not None
            errors = chat.stderr.read()
            assert chat.wait(PATIENCE_S) == 0, errors
    assert shown == alone.stdout
    assert "Traceback" not in errors


# --- several clouds --------------------------------------------------------------------------------------


def test_a_cloud_that_is_told_to_stop_sends_its_edges_to_the_next(text: str, lasting: str) -> None:
    with serving(*SLOW) as (first, address), answering(address, lasting) as edge:
        begun = read_some(edge, 100)
        first.terminate()
        assert first.wait(PATIENCE_S) == 0
        code, rest, errors = finish(edge)
        assert first.stderr is not None
        assert first.stderr.read() == ""
    assert code == 0, errors
    assert begun + rest == text
    assert notices(errors) == ["away", "back"]
    assert "the cloud closed the connection: it is stopping" in errors
    assert "another cloud" not in errors, "both have the same model"


def test_the_first_cloud_that_answers_is_used(text: str, lasting: str) -> None:
    done = generate(f"{unused_address()}, {lasting}", *LONG)
    assert done.returncode == 0, done.stderr
    assert done.stdout == text


def test_without_any_cloud_the_last_one_is_named() -> None:
    first, second = unused_address(), unused_address()
    done = generate(f"{first},{second}", *LONG)
    assert (done.returncode, done.stdout) == (1, "")
    passed_over, sentence = done.stderr.splitlines()
    assert passed_over.startswith(f"pipesd.edge {first}: cannot connect")
    assert sentence.startswith(f"pipesd-edge: cannot connect to {second} ")


# --- a link that breaks, and the edge's pieces -----------------------------------------------------------


@asynccontextmanager
async def edge_behind(
    weather: Weather, recorder: Recorder | None = None, **settings: Any
) -> AsyncIterator[Edge]:
    usual = {"engine": "scripted", "tuner": "off", "tokens_max": TOKENS, "draft_ms": 5.0}
    config = EdgeConfig(cloud="{}:{}".format(*weather.address), **{**usual, **settings})
    async with asyncio.timeout(PATIENCE_S), connect(config, observers=[recorder or Recorder()]) as edge:
        yield edge


def needs_of(recorder: Recorder) -> list[bool]:
    """Of each time that a session was taken up again, whether its text was gone."""
    events = (step.event for step in recorder.steps)
    frames = (event.frame for event in events if isinstance(event, FrameReceived))
    return [frame.need for frame in frames if isinstance(frame, Resumed)]


@pytest.mark.parametrize("offline", ONGOING)
async def test_a_connection_that_is_cut_twenty_times_in_one_answer(
    lasting: str, path: list[int], offline: Offline
) -> None:
    got: list[int] = []
    async with weather(lasting) as sky, edge_behind(sky, recorder := Recorder(), offline=offline) as edge:
        cuts = sky.storm.injected
        async for piece in edge.generate(PROMPT):
            got += piece.tokens if piece.verified else ()
            if cuts.total() < 20 and len(got) >= 5 + cuts.total() * 8:
                sky.storm.strike("cut")  # which it may not be when it is away already
        assert cuts == {"cut": 20}
    assert got == path
    needs = needs_of(recorder)
    assert 10 < len(needs) <= 20, "a connection may be cut before it is greeted"
    assert not any(needs), "the cache was kept"


@pytest.mark.parametrize("offline", ONGOING)
async def test_every_fault_that_an_honest_link_may_have_comes_several_times(
    lasting: str, path: list[int], offline: Offline
) -> None:
    got: list[int] = []
    kinds, due = itertools.cycle(HONEST), 5
    brief: dict[str, Any] = {"ping_after_s": 0.2, "silent_after_s": 0.6}
    stormy = Storm(FaultModel(every_s=86_400.0))
    async with weather(lasting, stormy) as sky, edge_behind(sky, offline=offline, **brief) as edge:
        async for piece in edge.generate(PROMPT):
            got += piece.tokens if piece.verified else ()
            if len(got) >= due:
                sky.storm.strike(next(kinds))
                due = len(got) + 5
    assert got == path
    assert set(stormy.injected) == set(HONEST)
    assert stormy.injected.total() > 10


async def test_what_is_drafted_during_an_outage_is_unverified_and_then_judged(
    lasting: str, path: list[int]
) -> None:
    """Four outages, each until 60 tokens are shown that nobody has confirmed: some 600 ms."""
    reader, outages = Reader(), [20, 50, 80, 110]
    async with weather(lasting) as sky, edge_behind(sky, offline="draft", draft_ms=10.0) as edge:
        async for piece in edge.generate(PROMPT):
            reader.take(piece)
            assert reader.got == path[: len(reader.got)], "what is confirmed is never taken back"
            if sky.is_clear and outages and len(reader.got) >= outages[0]:
                outages.pop(0)
                await sky.break_off()
            elif reader.has_guessed(60) and not sky.is_clear:
                await sky.clear()
    assert reader.got == path
    assert len(reader.guesses) >= 4
    right, wrong = reader.right(path)
    assert right > 0
    assert wrong > 0


async def test_a_lease_that_has_run_out_has_the_text_sent_again(path: list[int]) -> None:
    async with AsyncExitStack() as stack:
        cloud, address = await run_once(
            "cloud", lambda: stack.enter_context(serving(*SLOW, "--lease-s", "0.1"))
        )
        sky = await stack.enter_async_context(weather(address))
        recorder, reader = Recorder(), Reader()
        edge = await stack.enter_async_context(edge_behind(sky, recorder, offline="draft", draft_ms=20.0))
        async for piece in edge.generate(PROMPT):
            reader.take(piece)
            if len(reader.guesses) == 0 and len(reader.got) > 40 and sky.is_clear:
                await sky.break_off()
            elif reader.has_guessed(40) and not sky.is_clear:  # after 800 ms, as a rule
                await sky.clear()
        cloud.terminate()
    assert reader.got == path
    assert needs_of(recorder) == [True]


async def test_a_connection_that_is_half_open_is_noticed(lasting: str, path: list[int]) -> None:
    """For an hour nothing passes, nor does anybody say so: the edge is back before the cloud notices."""
    got: list[int] = []
    async with weather(lasting) as sky:
        async with edge_behind(sky, recorder := Recorder(), ping_after_s=0.2, silent_after_s=0.6) as edge:
            async for piece in edge.generate(PROMPT):
                got += piece.tokens
                if len(got) > 60 and not sky.storm.injected:
                    sky.storm.strike("stall")
        assert sky.storm.injected == {"stall": 1}
    assert got == path
    assert needs_of(recorder) == [False]


# --- at a terminal ---------------------------------------------------------------------------------------


def test_a_person_sees_drafts_dim_and_then_the_text_in_their_place(text: str) -> None:
    with terminal(200, 30) as seen, serving(*SLOW) as (cloud, address):
        edge = subprocess.Popen(
            command("edge", "generate", "--cloud", address, *LONG, *PACED, "--offline", "draft"),
            stdin=subprocess.DEVNULL,
            stdout=seen.device,
            stderr=seen.device,
            env=environment(TERM="xterm"),
            cwd=ROOT,
        )
        with edge:
            seen.wait_for(lambda screen: len(screen.text) > 100)
            cloud.kill()
            cloud.wait()
            seen.wait_for(lambda screen: screen.dim_text.count(" ") > 20)
            with serving(*SLOW, "--listen", address):
                assert edge.wait(PATIENCE_S) == 0
        screen = seen.look()
    assert screen.dim_text == ""
    *lines, summary = screen.text.split("\n")
    assert f"{TOKENS} tokens (length)" in summary
    notices = [line for line in lines if line.startswith("pipesd.edge the cloud is ")]
    assert len(notices) >= 2
    shown = "".join(line for line in lines if line not in notices)
    assert shown.replace(" ", "") == text.replace(" ", ""), "rows end in blanks that do not show"


def test_a_person_who_types_is_told_above_the_line_and_goes_on(tmp_path: Path) -> None:
    said = as_text(path_behind(b"Tell me")[:3])
    with (
        serving(*SLOW) as (cloud, address),
        at_a_terminal("edge", "chat", "--cloud", address, home=tmp_path) as (person, process),
    ):
        person.wait_for(AN_EDITOR)
        person.press("Tell")
        person.wait_for("Tell")
        cloud.kill()
        cloud.wait()
        person.wait_for("the cloud is away")
        person.wait_for("> .*Tell")
        with serving(*SLOW, "--listen", address):
            person.wait_for("the cloud is back")
            person.press(" me\r")
            person.wait_for(said)
            person.wait_for(AN_EDITOR)
            person.press(CTRL_D)
            person.wait_for_end()
            assert process.wait(PATIENCE_S) == 0
    assert "Traceback" not in person.seen
