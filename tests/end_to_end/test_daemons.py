"""Two processes over real sockets: what a user sees when all is well, and when it is not."""

import json
import os
import shlex
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from pipesd.wire.codec import encode
from pipesd.wire.frames import Bye, Refuse
from tests.end_to_end.processes import (
    IMPATIENT,
    command,
    environment,
    expect_failure,
    finish,
    generate,
    interrupt,
    read_some,
    run,
    serving,
    start,
)

LONG = ("-p", "Once upon a time", "--tokens-max", "120")
LASTING = (*LONG, "--tokens-max", "260", "--draft-ms", "50")
"""Some thirteen seconds, of which nobody waits for the end: a slow machine is in time to cut it short."""


@pytest.fixture(scope="module")
def scripted():
    with serving("--pass-ms", "3") as (_, address):
        yield address


@pytest.fixture(scope="module")
def alone() -> str:
    done = run("cloud", "generate", *LONG)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--ahead", "never"),
        ("--ahead", "always", "--batching", "immediate"),
        ("--policy", "hsl"),
        ("--upper-tokens", "1", "--lower-tokens", "1"),
        ("--agreement", "0.1", "--loop", "asyncio"),
        ("--window-tokens", "8", "--r1", "0", "--r2", "0"),
    ],
)
def test_the_text_is_the_targets_whatever_the_edge_is_told(scripted, alone, flags):
    done = generate(scripted, *LONG, *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout == alone
    assert "ms per token" in done.stderr


def test_a_sampled_text_is_the_targets_too(scripted):
    sampled = (*LONG, "--temperature", "0.9", "--top-p", "0.9", "--seed", "5")
    reference = run("cloud", "generate", *sampled)
    assert generate(scripted, *sampled).stdout == reference.stdout
    other = run("cloud", "generate", *LONG, "--temperature", "0.9", "--top-p", "0.9", "--seed", "6")
    assert other.stdout != reference.stdout


def ids_of(done: subprocess.CompletedProcess[str]) -> dict[str, list[int]]:
    """The ids of each turn, from standard error."""
    found = [line.split(" ids: ") for line in done.stderr.splitlines() if " ids: " in line]
    return {name: [int(each) for each in ids.split()] for name, ids in found}


def test_ids_are_shown_on_standard_error_and_are_those_of_the_target(scripted, alone):
    edge = generate(scripted, *LONG, "--show-ids")
    reference = run("cloud", "generate", *LONG, "--show-ids")
    assert edge.stdout == reference.stdout == alone
    assert ids_of(edge) == ids_of(reference)
    assert ids_of(edge)["prompt"] == list(b"Once upon a time")
    assert f"{len(ids_of(edge)['answer'])} tokens (" in edge.stderr.splitlines()[-1]


def test_ids_behind_a_stop_string_are_not_shown(scripted, alone):
    words = alone.split(" ")
    stop = words[12]
    edge = generate(scripted, *LONG, "--show-ids", "--stop", stop)
    reference = run("cloud", "generate", *LONG, "--show-ids", "--stop", stop)
    assert edge.stdout == reference.stdout == alone.partition(stop)[0]
    assert ids_of(edge) == ids_of(reference)
    assert len(ids_of(edge)["answer"]) == edge.stdout.count(" ") - 1  # the blank before it is a part of it


def test_json_is_the_output_and_holds_the_figures(scripted, alone):
    done = generate(scripted, *LONG, "--json")
    answer = json.loads(done.stdout)
    assert answer["text"] == alone
    assert done.stderr == ""
    assert answer["tokens"] == len(answer["token_ids"])
    assert answer["prompt_ids"] == list(b"Once upon a time")
    assert answer["acceptance"] == answer["accepted"] / answer["judged"]
    assert 0.5 < answer["acceptance"] <= 1
    assert 0 < answer["passes_per_100"] < 100
    assert answer["sent_bytes_per_100"] > 100


def test_json_has_no_ids_from_behind_a_stop_string(scripted, alone):
    stop = alone.split(" ")[12]
    edge = json.loads(generate(scripted, *LONG, "--json", "--stop", stop).stdout)
    reference = json.loads(run("cloud", "generate", *LONG, "--json", "--stop", stop).stdout)
    assert edge["text"] == reference["text"] == alone.partition(stop)[0]
    assert edge["token_ids"] == reference["token_ids"]
    assert edge["prompt_ids"] == reference["prompt_ids"] == list(b"Once upon a time")
    assert edge["finish"] == reference["finish"] == "stop"
    assert len(reference["token_ids"]) < reference["tokens"], "the stop string is confirmed, but not kept"


def test_a_stop_string_ends_the_text_before_it(scripted, alone):
    words = alone.split(" ")
    stop = " ".join(words[9:11])
    expected = alone[: alone.index(stop)]
    assert generate(scripted, *LONG, "--stop", stop).stdout == expected
    assert run("cloud", "generate", *LONG, "--stop", stop).stdout == expected


def test_a_recorded_pair_is_replayed():
    with serving("--engine", "replay") as (_, address):
        edge = generate(address, "--engine", "replay", "-p", "HumanEval/11")
        reference = run("cloud", "generate", "--engine", "replay", "-p", "HumanEval/11")
        assert edge.stdout == reference.stdout != ""
        assert "(modelled)" in edge.stderr
        unknown = generate(address, "--engine", "replay", "-p", "Hello")
        expect_failure(unknown, 2, "HumanEval/0")
        sampled = generate(address, "--engine", "replay", "-p", "chat/1", "--temperature", "1")
        expect_failure(sampled, 2, "temperature", "greedily")
    for alone in (("cloud", "generate"), ("edge", "generate", "--policy", "edge-only")):
        sampled = run(*alone, "--engine", "replay", "-p", "chat/1", "--temperature", "1")
        expect_failure(sampled, 2, "temperature", "greedily")


@pytest.mark.parametrize(
    "command",
    [
        ("edge", "generate", "-p", "x", "--draft"),
        ("edge", "generate", "-p", "x", "--policy", "edge-only", "--draft"),
        ("cloud", "generate", "-p", "x", "--model"),
        ("cloud", "serve", "--model"),
    ],
    ids=" ".join,
)
def test_a_model_file_that_is_not_there_is_bad_usage(command: tuple[str, ...]):
    side, name, *more = command
    expect_failure(run(side, name, "--engine", "llama", *more, "none.gguf"), 2, "there is no file none.gguf")


def test_an_edge_killed_in_mid_answer_does_not_touch_another(alone):
    with serving("--pass-ms", "5") as (_, address):
        with (
            start("edge", "generate", "--cloud", address, *LASTING) as victim,
            start("edge", "generate", "--cloud", address, *LONG, "--draft-ms", "5") as other,
        ):
            assert alone.startswith(read_some(victim, 20))
            assert alone.startswith(begun := read_some(other, 20))
            victim.send_signal(signal.SIGKILL)
            code, rest, errors = finish(other)
            assert victim.wait() == -signal.SIGKILL
        assert code == 0, errors
        assert begun + rest == alone
        assert generate(address, *LONG).stdout == alone


def test_a_cloud_killed_in_mid_answer_is_one_sentence():
    with (
        serving("--pass-ms", "20") as (cloud, address),
        start("edge", "generate", "--cloud", address, *LASTING, *IMPATIENT) as edge,
    ):
        read_some(edge, 10)
        cloud.send_signal(signal.SIGKILL)
        code, _, errors = finish(edge)
    assert code == 1
    assert errors.startswith("pipesd-edge: ")
    assert "connection" in errors
    assert "Traceback" not in errors


def test_a_cloud_told_to_stop_says_goodbye_and_ends_well():
    with (
        serving("--pass-ms", "20") as (cloud, address),
        start("edge", "generate", "--cloud", address, *LASTING, *IMPATIENT) as edge,
    ):
        read_some(edge, 10)
        cloud.send_signal(signal.SIGTERM)
        assert cloud.wait(10) == 0
        code, _, errors = finish(edge)
        assert code == 1
        assert "stopping" in errors
        assert cloud.stderr is not None
        assert cloud.stderr.read() == ""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_interrupts_end_both_sides_with_130(loop):
    with (
        serving("--pass-ms", "20", "--loop", loop) as (cloud, address),
        start("edge", "generate", "--cloud", address, *LASTING, "--loop", loop) as edge,
    ):
        read_some(edge, 10)
        interrupt(edge)
        code, _, errors = finish(edge)
        assert (code, errors) == (130, "pipesd-edge: interrupted\n")
        interrupt(cloud)
        assert finish(cloud) == (130, "", "pipesd-cloud: interrupted\n")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_output_that_nobody_takes_stops_neither_the_heartbeat_nor_an_interrupt(loop):
    """A pipe that is full already: the first word blocks."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 65_536)
    os.set_blocking(writer, True)
    brief = ("--ping-after-s", "0.2", "--silent-after-s", "0.6")
    with serving(*brief) as (_, address):
        edge = subprocess.Popen(
            command("edge", "generate", "--cloud", address, *LONG, "--loop", loop, *brief),
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        with edge:
            with pytest.raises(subprocess.TimeoutExpired):
                edge.wait(2.5)
            interrupt(edge)
            assert edge.wait(10) == 130
            assert edge.stderr is not None
            assert edge.stderr.read() == "pipesd-edge: interrupted\n"
    os.close(reader)
    os.close(writer)


def test_a_reader_that_goes_away_is_no_traceback(scripted):
    with start("edge", "generate", "--cloud", scripted, *LONG, "--draft-ms", "5") as edge:
        read_some(edge, 5)
        assert edge.stdout is not None
        edge.stdout.close()
        assert edge.wait(60) == 1
        assert edge.stderr is not None
        assert "Traceback" not in edge.stderr.read()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_output_that_cannot_be_written_is_one_sentence(flags):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("cloud", "generate", "-p", "x", *flags),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "pipesd-cloud: cannot write the output (No space left on device)\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_break_nothing(closed):
    program = " ".join(shlex.quote(part) for part in command("cloud", "generate", "-p", "x"))
    done = subprocess.run(
        f"{program} {closed}", shell=True, capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert bool(done.stdout) == (">&-" not in closed.split() or closed == "2>&-")


@pytest.mark.parametrize(
    ("side", "arguments", "words"),
    [
        ("edge", ("generate", "-p", ""), ("prompt is empty",)),
        ("cloud", ("generate", "-p", ""), ("prompt is empty",)),
        ("edge", ("generate", "-p", "x", "--r1", "2"), ("r1", "at most 1", "command line")),
        ("edge", ("generate", "-p", "x", "--cloud", "nowhere"), ("cloud: must be HOST:PORT",)),
        ("edge", ("generate", "-p", "x", "--upper", "3"), ("--upper",)),
        ("edge", ("generate",), ("--prompt",)),
        ("edge", ("generate", "-p", "x", "--engine", "llama", "--draft-ms", "1"), ("draft_ms", "engine")),
        ("edge", ("generate", "-p", "x", "--chat"), ("no chat template", "--raw")),
        ("cloud", ("generate", "-p", "x", "--chat"), ("no chat template", "--raw")),
        ("edge", ("generate", "-p", "x", "--system", "Be brief."), ("system: ", "leave it out")),
        ("cloud", ("chat", "--system", "Be brief."), ("system: ", "leave it out")),
        ("edge", ("generate", "-p", "x", "--stop", ""), ("stop: ",)),
        ("cloud", ("serve", "--engine", "magic"), ("--engine",)),
        ("cloud", ("serve", "--engine", "replay", "--trace", "/no/such/file"), ("/no/such/file",)),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_code_2(scripted, side, arguments, words):
    if side == "edge" and "--cloud" not in arguments:
        arguments = (*arguments, "--cloud", scripted)
    expect_failure(run(side, *arguments), 2, *words)


def test_an_unknown_setting_in_the_environment_is_named(scripted):
    env = environment(PIPESD_EDGE_UPER_TOKENS="3")
    done = run("edge", "generate", "-p", "x", "--cloud", scripted, env=env)
    expect_failure(done, 2, "PIPESD_EDGE_UPER_TOKENS", "PIPESD_EDGE_UPPER_TOKENS")


def test_a_taken_port_is_named(scripted):
    expect_failure(run("cloud", "serve", "--listen", scripted), 2, scripted, "in use")


def test_a_cloud_that_is_not_there_is_named():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        expect_failure(generate(address, "-p", "x"), 1, address, "pipesd-cloud")


def test_different_tokenizers_are_refused_naming_the_first_ids(scripted):
    done = generate(scripted, "--engine", "replay", "-p", "HumanEval/11")
    expect_failure(done, 1, "tokenizer differs", "token 0 is")


class FakeCloud:
    """Answers the first bytes of the first caller with its own, then closes or keeps still."""

    def __init__(self, answer: bytes, *, closes: bool) -> None:
        self._answer = answer
        self._closes = closes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        caller, _ = self._listener.accept()
        with caller:
            caller.recv(1_000)
            caller.sendall(self._answer)
            while not self._closes and caller.recv(1_000):
                pass

    def __enter__(self) -> str:
        self._thread.start()
        return self.address

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()


@pytest.mark.parametrize(
    ("answer", "closes", "words"),
    [
        (encode(Refuse("version", "it speaks version 9 of the protocol, not 1")), True, ("version 9",)),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False, ("broke the protocol",)),
        (b"\xff\xff\xff\xff", False, ("broke the protocol", "4294967295 bytes")),
        (encode(Bye("maintenance")), True, ("maintenance",)),
        (b"", True, ("closed the connection",)),
        (b"", False, ("greeting",)),
    ],
)
def test_a_stranger_instead_of_a_cloud_is_one_sentence(answer, closes, words):
    with FakeCloud(answer, closes=closes) as address:
        done = generate(address, "-p", "x", "--connect-timeout-s", "1")
    expect_failure(done, 1, *words)


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("serve", "--seed"),
        ("serve", "--prompts"),
        ("serve", "--system"),
        ("generate", "--listen"),
        ("generate", "--prompts"),
        ("chat", "--kv-sequences"),
        ("chat", "--prompts"),
        ("chat", "--json"),
    ],
)
def test_a_command_takes_no_flag_that_would_do_nothing(name, flag):
    prompt = ("-p", "x") if name == "generate" else ()
    expect_failure(run("cloud", name, *prompt, flag, "1"), 2, "No such option", flag)


def test_help_names_every_command():
    every = {
        "edge": ["generate", "chat", "pull", "quantize"],
        "cloud": ["serve", "generate", "chat", "pull"],
        "lab": ["run"],
    }
    for side, commands in every.items():
        done = run(side, "--help")
        assert done.returncode == 0
        assert all(name in done.stdout for name in commands)
