"""``chat`` as a process: as a script through pipes, and as a person at a terminal."""

import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipesd.engines.alone import answer_alone
from pipesd.engines.scripted import ScriptedTarget
from pipesd.values import Sampling
from tests.end_to_end.processes import (
    IMPATIENT,
    PATIENCE_S,
    ROOT,
    command,
    environment,
    expect_failure,
    finish,
    interrupt,
    read_some,
    run,
    serving,
    start,
)

SCRIPT = "Tell me of the water.\nAnd then? üñ 🌍\n\nSo?\n"


@pytest.fixture(scope="module")
def scripted() -> Iterator[str]:
    with serving("--pass-ms", "1") as (_, address):
        yield address


def path_behind(text: Sequence[int], tokens_max: int = 256) -> list[int]:
    """What the scripted target says behind ``text``."""
    return answer_alone(ScriptedTarget(), text, sampling=Sampling(), seed=0, tokens_max=tokens_max)[0]


def as_text(tokens: Sequence[int]) -> str:
    pieces = ScriptedTarget().tokenizer.vocabulary.pieces
    return b"".join(pieces[token] for token in tokens).decode()


def chatted(side: str, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = run(side, "chat", *arguments, script=script)
    assert done.returncode == 0, done.stderr
    return done


def ids_in(done: subprocess.CompletedProcess[str]) -> list[tuple[str, list[int]]]:
    found = re.findall(r"^(prompt|answer) ids:(.*)$", done.stderr, re.MULTILINE)
    return [(name, [int(each) for each in ids.split()]) for name, ids in found]


# --- a script ---


@pytest.mark.parametrize("sampling", [(), ("--temperature", "0.9", "--seed", "4")], ids=["greedy", "sampled"])
def test_a_script_gets_the_same_bytes_from_the_edge_and_from_the_target_alone(scripted, sampling):
    flags = ("--tokens-max", "30", *sampling)
    together = chatted("edge", SCRIPT, "--cloud", scripted, *flags)
    alone = chatted("cloud", SCRIPT, *flags)
    assert together.stdout == alone.stdout
    assert together.stderr == alone.stderr == ""
    assert together.stdout.count("\n") == SCRIPT.count("\n")


def test_every_answer_continues_the_conversation(scripted):
    text: list[int] = []
    expected = ""
    for line in SCRIPT.splitlines():
        if line:
            text += line.encode()
            said = path_behind(text, 30)
            text += said
            expected += as_text(said)
        expected += "\n"
    assert chatted("edge", SCRIPT, "--cloud", scripted, "--tokens-max", "30").stdout == expected


def test_a_turn_sends_what_is_new_only(scripted):
    """The ids of each prompt are those of its line alone: the rest is in the caches."""
    done = chatted("edge", "Tell me\nGo on\n", "--cloud", scripted, "--show-ids", "--tokens-max", "9")
    prompts = [ids for name, ids in ids_in(done) if name == "prompt"]
    assert prompts == [list(b"Tell me"), list(b"Go on")]


def test_the_ids_that_are_shown_are_the_targets_own(scripted):
    flags = ("--show-ids", "--tokens-max", "20", "--stop", "water", "--stop", " on")
    together, alone = chatted("edge", SCRIPT, "--cloud", scripted, *flags), chatted("cloud", SCRIPT, *flags)
    assert together.stdout == alone.stdout
    assert ids_in(together) == ids_in(alone)
    assert [name for name, _ in ids_in(alone)] == ["prompt", "answer"] * 3
    answers = [as_text(ids) for name, ids in ids_in(alone) if name == "answer"]
    shown = [line for line in alone.stdout.split("\n") if line]
    assert all(line.startswith(answer) for line, answer in zip(shown, answers, strict=True))


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_a_stop_string_ends_each_answer_and_the_next_turn_follows_the_cut(scripted, side):
    first = path_behind(list(b"Tell me"))
    stop = as_text(first[6:7])
    kept = first[: first.index(first[6])]
    second = as_text(path_behind([*b"Tell me", *kept, *b"Go on"])).partition(stop)[0]
    where = ("--cloud", scripted) if side == "edge" else ()
    done = chatted(side, "Tell me\nGo on\n", *where, "--stop", stop)
    assert done.stdout == f"{as_text(kept)}\n{second}\n"


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_a_reset_forgets_the_conversation(scripted, side):
    where = ("--cloud", scripted) if side == "edge" else ()
    script = "Tell me\nGo on\n/reset\nTell me\n/stats\n/exit\nnever asked\n"
    done = chatted(side, script, *where, "--tokens-max", "12")
    first, second, again, end = done.stdout.split("\n")
    assert again == first == as_text(path_behind(list(b"Tell me"), 12))
    assert second != first
    assert end == ""
    assert "text of 19 tokens" in done.stderr
    assert "1 complete: 12 tokens (length)" in done.stderr


def test_a_script_may_ask_for_help_and_figures(scripted):
    done = chatted(
        "edge", "/help\n/stats\nTell me\nGo on\n/stats\n", "--cloud", scripted, "--tokens-max", "9"
    )
    assert done.stdout.count("\n") == 2
    assert "/reset" in done.stderr
    assert "no answer is complete yet" in done.stderr
    assert "target scripted, seed 0, ends every 200, exact numerics; text of 0 tokens" in done.stderr
    assert "2 complete: 18 tokens (length)" in done.stderr
    assert "acceptance" in done.stderr


def test_an_empty_script_is_an_empty_chat(scripted):
    for side, where in (("edge", ("--cloud", scripted)), ("cloud", ())):
        done = chatted(side, "", *where)
        assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_the_first_mistake_of_a_script_ends_it_and_names_its_line(scripted, side):
    where = ("--cloud", scripted) if side == "edge" else ()
    done = run(side, "chat", *where, "--tokens-max", "5", script=f"Tell me\n{'x' * 9_000}\nGo on\n")
    assert done.returncode == 2
    assert done.stdout == as_text(path_behind(list(b"Tell me"), 5)) + "\n"
    assert done.stderr.startswith(f"pipesd-{side}: line 2: the prompt has 9000 tokens")
    assert done.stderr.count("\n") == 1
    expect_failure(run(side, "chat", *where, "--stop", "", script="Tell me\n"), 2, "line 1: stop: ")


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_a_line_that_is_no_text_is_bad_usage(scripted, side):
    where = ("--cloud", scripted) if side == "edge" else ()
    done = subprocess.run(
        command(side, "chat", *where),
        input=b"\xff\n",
        capture_output=True,
        env=environment(),
        cwd=ROOT,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(f"pipesd-{side}: line 1: the line is not valid UTF-8".encode())


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_a_prompt_that_is_no_text_is_bad_usage(scripted, side):
    where = ("--cloud", scripted) if side == "edge" else ()
    done = subprocess.run(
        [*map(os.fsencode, command(side, "generate", *where, "-p")), b"a\xff"],
        capture_output=True,
        env=environment(),
        cwd=ROOT,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr
    assert done.stderr.startswith(f"pipesd-{side}: the text ".encode())
    assert done.stderr.count(b"\n") == 1


def say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_an_interrupt_in_mid_answer_ends_the_chat_with_130(side, loop):
    with serving("--pass-ms", "30") as (_, address):
        pace = ("--cloud", address) if side == "edge" else ("--pass-ms", "30")
        with start(side, "chat", *pace, "--loop", loop) as chat:
            say(chat, "Tell me\n")
            said = read_some(chat, 10)
            interrupt(chat)
            code, rest, errors = finish(chat)
        assert (code, errors) == (130, f"pipesd-{side}: interrupted\n")
        assert as_text(path_behind(list(b"Tell me"))).startswith(said + rest)


@pytest.mark.parametrize(
    ("which", "code", "says"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "")]
)
@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_a_chat_that_waits_for_its_next_line_can_be_ended(scripted, side, which, code, says):
    where = ("--cloud", scripted) if side == "edge" else ()
    with start(side, "chat", *where, "--tokens-max", "4") as chat:
        say(chat, "Tell me\n")
        expected = as_text(path_behind(list(b"Tell me"), 4)) + "\n"
        assert read_some(chat, len(expected)) == expected
        chat.send_signal(which)
        assert finish(chat) == (code, "", f"pipesd-{side}: {says}" if says else "")


def test_a_cloud_that_goes_away_for_good_ends_the_chat_with_one_sentence():
    with (
        serving("--pass-ms", "100") as (cloud, address),
        start("edge", "chat", "--cloud", address, *IMPATIENT) as chat,
    ):
        say(chat, "Tell me\n")
        read_some(chat, 10)
        cloud.kill()
        code, _, errors = finish(chat)
    assert code == 1
    assert errors.startswith("pipesd-edge: ")
    assert errors.count("\n") == 1
    assert "connection" in errors


def test_a_reader_that_goes_away_is_no_traceback(scripted):
    with start("edge", "chat", "--cloud", scripted) as chat:
        assert chat.stdout is not None
        chat.stdout.close()
        say(chat, "Tell me\n")
        assert chat.wait(PATIENCE_S) == 1
        assert chat.stderr is not None
        assert chat.stderr.read() == ""


# --- a person ---


CTRL_C, CTRL_D = "\x03", "\x04"

AN_EDITOR = r"\x1b\[\?2004h"
"""What the terminal is told when a line begins to be edited."""


class Person:
    """Sits at the other end of a pseudo-terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._unseen = ""
        self.seen = ""

    def press(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def enter(self, line: str) -> None:
        self.wait_for(AN_EDITOR)
        self.press(f"{line}\r")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read until that is on the screen, behind what was waited for before."""
        while not (found := re.search(pattern, self._unseen)):
            waits = select.select([self._terminal], [], [], PATIENCE_S)[0]
            assert waits, f"no {pattern!r} in {self._unseen!r}"
            self._unseen += self._read()
        self.seen += self._unseen[: found.end()]
        self._unseen = self._unseen[found.end() :]
        return found

    def wait_for_end(self) -> None:
        try:
            while select.select([self._terminal], [], [], PATIENCE_S)[0]:
                if not (text := self._read()):
                    return
                self.seen += text
        except OSError:  # how Linux says that the other end is closed
            return
        raise AssertionError("it does not end")

    def _read(self) -> str:
        return os.read(self._terminal, 4_096).decode(errors="replace")


@contextmanager
def at_a_terminal(side: str, *arguments: str, home: Path) -> Iterator[tuple[Person, subprocess.Popen[bytes]]]:
    """A command whose controlling terminal is a pseudo-terminal, so that Ctrl-C is a signal to it."""
    ours, theirs = os.openpty()
    program = command(side, *arguments)
    program[2] = f"import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); {program[2]}"
    places = {"HOME": str(home), "XDG_STATE_HOME": str(home), "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"}
    with subprocess.Popen(
        program,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(**places),
        cwd=ROOT,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            yield Person(ours), process
        finally:
            process.kill()
            os.close(ours)


SLOW = ("--pass-ms", "200")
"""So slow that an answer lasts for many seconds, of which two words are waited for."""


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_a_person_stops_an_answer_and_goes_on(side, tmp_path):
    said = path_behind(list(b"Tell me"))
    with serving(*SLOW) as (_, address):
        one_by_one = ("--upper-tokens", "1", "--lower-tokens", "1", "--ahead", "never")
        pace = ("--cloud", address, *one_by_one) if side == "edge" else SLOW
        with at_a_terminal(side, "chat", *pace, home=tmp_path) as (person, process):
            person.enter("Tell me")
            person.wait_for(as_text(said[:2]))
            assert as_text(said) not in person.seen, "it was not streamed"
            person.press(CTRL_C)
            person.wait_for("stopped; the conversation goes on")

            person.enter("/stats")
            length = int(person.wait_for(r"text of (\d+) tokens")[1])
            assert 7 + 2 <= length < 7 + len(said)
            person.enter("Go on")
            following = path_behind([*b"Tell me", *said[: length - 7], *b"Go on"])
            person.wait_for(as_text(following[:2]))
            person.press(CTRL_C)
            person.wait_for("stopped")

            person.wait_for(AN_EDITOR)
            person.press(CTRL_C)
            person.wait_for("/exit or Ctrl-D ends the chat")
            person.enter("/nothing")
            person.wait_for("there is no command /nothing")
            person.enter("/exit")
            person.wait_for_end()
            assert process.wait(PATIENCE_S) == 0
    assert "Traceback" not in person.seen
    history = next(tmp_path.rglob("chat-history"))
    assert [line for line in history.read_text().splitlines() if line.startswith("+")] == [
        "+Tell me",
        "+/stats",
        "+Go on",
        "+/nothing",
        "+/exit",
    ]


def test_a_person_is_told_of_a_mistake_and_goes_on(tmp_path):
    with at_a_terminal("cloud", "chat", "--context-tokens", "200", home=tmp_path) as (person, process):
        person.enter("x" * 300)
        person.wait_for("shorten it")
        person.enter("Tell me")
        person.wait_for(as_text(path_behind(list(b"Tell me"))[:3]))
        person.wait_for(AN_EDITOR)
        person.press(CTRL_D)
        person.wait_for_end()
        assert process.wait(PATIENCE_S) == 0


def test_an_answer_at_a_terminal_ends_its_line_and_an_interrupt_has_one_of_its_own(tmp_path):
    said = path_behind(list(b"Tell me"))
    generate = ("generate", *SLOW, "-p", "Tell me")
    with at_a_terminal("cloud", *generate, "--tokens-max", "2", home=tmp_path) as (person, process):
        person.wait_for(re.escape(as_text(said[:2])) + r"\r\n2 tokens \(length\)")
        assert process.wait(PATIENCE_S) == 0
    with at_a_terminal("cloud", *generate, home=tmp_path) as (person, process):
        person.wait_for(as_text(said[:2]))
        person.press(CTRL_C)
        person.wait_for(r"\^C\r\npipesd-cloud: interrupted\r\n")
        assert process.wait(PATIENCE_S) == 130


def test_a_person_sees_that_a_turn_is_private_and_that_nobody_confirmed_its_answer(scripted, tmp_path):
    flags = ("chat", "--cloud", scripted, "--agreement", "1", "--tokens-max", "2")
    answer = as_text(path_behind(list(b"Tell me"), 2))
    with at_a_terminal("edge", *flags, home=tmp_path) as (person, process):
        person.enter("/private on")
        person.wait_for("nothing leaves this device")
        person.wait_for(AN_EDITOR + ".*private >")
        person.press("Tell me\r")
        first, second = (re.escape(as_text([token])) for token in path_behind(list(b"Tell me"), 2))
        person.wait_for(rf"\x1b\[2m{first}\x1b\[22m\x1b\[2m{second}\x1b\[22m")
        person.enter("/private off")
        person.wait_for("knows nothing of 9 tokens")
        person.enter("Tell me")
        person.wait_for(answer)
        person.wait_for(AN_EDITOR)
        person.press(CTRL_D)
        assert process.wait(PATIENCE_S) == 0
