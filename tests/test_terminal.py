"""Both consoles with real pipes and a real pseudo-terminal; no model, no process, no signal."""

import asyncio
import fcntl
import io
import os
import re
import stat
import struct
import termios
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.output import DummyOutput, Output
from prompt_toolkit.output.plain_text import PlainTextOutput
from prompt_toolkit.output.vt100 import Vt100_Output

from pipesd import terminal as consoles
from pipesd.chat import chat
from pipesd.errors import PipeSDError, UsageError
from pipesd.terminal import LINE_BYTES_MAX, PipeConsole, TerminalConsole
from pipesd.text import Piece
from tests.actors.helpers import PATIENCE_S, LoopFactory, both_loops, run_on
from tests.screens import pipe_to_read, terminal

ENTER, CTRL_C, CTRL_D, UP = "\r", "\x03", "\x04", "\x1b[A"


@pytest.fixture(autouse=True)
def capable_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests run, terminals can take back what they show."""
    monkeypatch.setenv("TERM", "xterm")


class Echo:
    """Answers with the line itself, then waits for ever if told to."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.waiting = asyncio.Event()

    async def answer(self, line: str) -> AsyncGenerator[Piece, None]:
        self.told.append(line)
        for word in re.findall(r"\S+\s*", line):
            yield Piece(word, ())
        if line.endswith("..."):
            self.waiting.set()
            await asyncio.Event().wait()

    async def reset(self) -> None:
        self.told.clear()

    def set_private(self, on: bool) -> str:
        return f"private: {on}"

    def stats(self) -> str:
        return f"{len(self.told)} told"


# --- writing --------------------------------------------------------------------------------------------


@both_loops
def test_a_slow_reader_does_not_hold_up_the_loop(loop_factory: LoopFactory) -> None:
    text = "x" * 300_000  # more than a pipe takes
    alive = threading.Event()

    async def main(far: int, console: PipeConsole) -> tuple[bool, int]:
        seen = [False, 0]

        def drain() -> None:
            seen[0] = alive.wait(1)
            while seen[1] < len(text):
                seen[1] += len(os.read(far, 1 << 16))

        reader = threading.Thread(target=drain)
        reader.start()
        asyncio.get_running_loop().call_soon(alive.set)
        await console.write(text)
        reader.join()
        return bool(seen[0]), seen[1]

    with pipe_to_read() as (far, output), closing(PipeConsole(source=-1, answers=output)) as console:
        assert run_on(loop_factory, main(far, console)) == (True, len(text))


# --- a pipe ---------------------------------------------------------------------------------------------


@dataclass
class Script:
    """A pipe console and the far ends of its pipes."""

    console: PipeConsole
    lines: io.FileIO
    source: int
    answers: io.StringIO
    remarks: io.StringIO

    def send(self, data: bytes, *, ends: bool = False) -> None:
        self.lines.write(data)
        if ends:
            self.lines.close()

    async def read_all(self) -> list[str]:
        found = []
        try:
            while True:
                found.append(await self.console.read_line())
        except EOFError:
            return found


@pytest.fixture
def script() -> Iterator[Script]:
    source, far = os.pipe()
    answers, remarks = io.StringIO(), io.StringIO()
    with (
        io.FileIO(far, "w") as lines,
        closing(PipeConsole(source=source, answers=answers, remarks=remarks)) as console,
    ):
        yield Script(console, lines, source, answers, remarks)
    os.close(source)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\n\r\n\n two \n", ["one", "", "", " two "]),
        (b"no\rend\r\r\nlast", ["no\rend\r", "last"]),
        (b"last\r", ["last\r"]),
        ("é🙂\n\u2028\n".encode(), ["é🙂", "\u2028"]),
    ],
)
async def test_lines_end_with_a_line_feed(script: Script, data: bytes, expected: list[str]) -> None:
    script.send(data, ends=True)
    assert await script.read_all() == expected


@both_loops
def test_a_line_may_come_in_parts_and_while_it_is_waited_for(
    script: Script, loop_factory: LoopFactory
) -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        text = "né\nmore\n".encode()
        script.send(text[:2])  # half of the second letter
        loop.call_soon(script.send, text[2:])
        first = await script.console.read_line()
        script.lines.close()
        return [first, *await script.read_all()]

    assert run_on(loop_factory, main()) == ["né", "more"]


async def test_a_line_that_is_not_utf_8_is_a_mistake_and_the_next_one_is_read(script: Script) -> None:
    script.send(b"caf\xe9\nnext\n", ends=True)
    with pytest.raises(UsageError, match=r"^the line is not valid UTF-8; "):
        await script.console.read_line()
    assert await script.read_all() == ["next"]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
async def test_the_longest_line(script: Script, monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    monkeypatch.setattr(consoles, "LINE_BYTES_MAX", 1000)
    script.send(b"x" * 1000 + end, ends=True)
    assert await script.read_all() == ["x" * 1000]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"x" * 30_000])
async def test_a_line_too_long(script: Script, monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    monkeypatch.setattr(consoles, "LINE_BYTES_MAX", 1000)
    script.send(b"x" * 1001 + end)
    with pytest.raises(UsageError, match=r"^the line is longer than 1000 bytes; make it shorter$"):
        await script.console.read_line()


def unread(descriptor: int) -> int:
    """Bytes that wait in a pipe."""
    (count,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))
    assert isinstance(count, int)
    return count


async def test_nothing_is_read_before_it_is_asked_for(script: Script) -> None:
    at_once = consoles._READ_BYTES
    line = "x" * 127
    script.send(f"{line}\n".encode() * (2 * at_once // 128))
    assert unread(script.source) == 2 * at_once
    for _ in range(at_once // 128):
        assert await script.console.read_line() == line
        assert unread(script.source) == at_once
    assert await script.console.read_line() == line
    assert unread(script.source) == 0


async def test_a_line_is_not_lost_with_whoever_waited_for_it(script: Script) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await script.console.read_line()
    script.send(b"one\ntwo\n", ends=True)
    assert await script.read_all() == ["one", "two"]


async def test_what_the_system_refuses_to_read_is_named(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    refused = pytest.raises(PipeSDError, match=r"^cannot read the input \(Is a directory\)$")
    with closing(PipeConsole(source=folder)) as console, refused:
        await console.read_line()
    os.close(folder)


def test_a_thread_that_waits_for_input_ends_with_the_process(script: Script) -> None:
    async def main() -> threading.Thread:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await script.console.read_line()
        return next(thread for thread in threading.enumerate() if thread.name == "pipesd-input")

    reader = run_on(asyncio.SelectorEventLoop, main())
    assert reader.daemon
    script.send(b"too late\n")  # the loop is closed: the thread must bear it
    script.console.close()
    reader.join(PATIENCE_S)
    assert not reader.is_alive()


async def test_a_script_never_sees_drafts(script: Script) -> None:
    await script.console.write("Once upon")
    await script.console.preview(" a tame")
    await script.console.write(" a time")
    assert (script.answers.getvalue(), script.remarks.getvalue()) == ("Once upon a time", "")


@both_loops
def test_a_script(script: Script, loop_factory: LoopFactory) -> None:
    script.send(b"one two\n\n/stats\n/reset\n/stats\nthree", ends=True)
    script.console.on_interrupt(None)

    async def main() -> None:
        await chat(Echo(), script.console)

    run_on(loop_factory, main())
    assert script.answers.getvalue() == "one two\n\nthree\n"
    assert script.remarks.getvalue() == "1 told\n0 told\n"


async def test_a_script_that_is_not_utf_8(script: Script) -> None:
    script.send(b"one\n\xff\ntwo\n", ends=True)
    with pytest.raises(UsageError, match=r"^line 2: the line is not valid UTF-8; "):
        await chat(Echo(), script.console)
    assert script.answers.getvalue() == "one\n"


# --- a terminal -----------------------------------------------------------------------------------------


@dataclass
class Desk:
    """A terminal console whose keys are pressed by the test."""

    console: TerminalConsole
    keys: PipeInput
    answers: io.StringIO
    remarks: io.StringIO

    def press(self, keys: str) -> None:
        self.keys.send_text(keys)


@contextmanager
def desk_at(history: Path) -> Iterator[Desk]:
    answers, remarks = io.StringIO(), io.StringIO()
    with create_pipe_input() as keys:
        console = TerminalConsole(history, answers=answers, remarks=remarks, keys=keys, screen=DummyOutput())
        with closing(console):
            yield Desk(console, keys, answers, remarks)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return tmp_path / "state" / "pipesd" / "history"


@pytest.fixture
def desk(history: Path) -> Iterator[Desk]:
    with desk_at(history) as found:
        yield found


@both_loops
def test_lines_are_edited(desk: Desk, loop_factory: LoopFactory) -> None:
    async def main() -> str:
        desk.press("Help\x7flo é" + ENTER)
        return await desk.console.read_line()

    assert run_on(loop_factory, main()) == "Hello é"


async def test_ctrl_d_ends_and_ctrl_c_gives_up_the_line(desk: Desk) -> None:
    desk.press("half" + CTRL_C)
    with pytest.raises(KeyboardInterrupt):
        await desk.console.read_line()
    desk.press(CTRL_D)
    with pytest.raises(EOFError):
        await desk.console.read_line()


async def test_a_pasted_text_of_several_lines_is_one_line(desk: Desk) -> None:
    desk.press("\x1b[200~one\r\ntwo\n\x1b[201~" + ENTER)
    assert await desk.console.read_line() == "one\ntwo\n"


@both_loops
def test_a_chat(desk: Desk, loop_factory: LoopFactory) -> None:
    desk.press("one two" + ENTER + ENTER + "/stats" + ENTER + "half" + CTRL_C + "three" + ENTER + CTRL_D)

    async def main() -> None:
        await chat(Echo(), desk.console)

    run_on(loop_factory, main())
    assert desk.answers.getvalue() == "one two\nthree\n"
    assert desk.remarks.getvalue() == "1 told\n/exit or Ctrl-D ends the chat\n"


# --- drafts and notes -----------------------------------------------------------------------------------


async def test_drafts_are_dim_at_a_terminal_until_the_text_takes_their_place(history: Path) -> None:
    with terminal() as seen, create_pipe_input() as keys:
        console = TerminalConsole(history, answers=seen.device, keys=keys, screen=DummyOutput())
        with closing(console):
            await console.write("Once upon")
            await console.preview(" a tame")
            assert seen.look().dim_text == " a tame"
            console.note("the cloud is back")
            await console.write(" a time")
            assert seen.look().text == "Once upon\nthe cloud is back\n a time"
            await console.write("\n")
            keys.send_text("next" + ENTER)
            await console.read_line()
            await console.preview("There")
            await console.write("Here")
            assert seen.look().text.splitlines()[-1] == "Here"


async def test_where_answers_are_redirected_drafts_are_nowhere_and_notes_are_remarks(desk: Desk) -> None:
    await desk.console.write("Once upon")
    await desk.console.preview(" a tame")
    desk.console.note("the cloud is away")
    await desk.console.write(" a time")
    assert (desk.answers.getvalue(), desk.remarks.getvalue()) == ("Once upon a time", "the cloud is away\n")


# --- interrupts -----------------------------------------------------------------------------------------


@both_loops
def test_an_interrupt_stops_the_answer(desk: Desk, loop_factory: LoopFactory) -> None:
    desk.press("well ..." + ENTER + "next" + ENTER + CTRL_D)

    async def main() -> None:
        echo = Echo()
        async with asyncio.TaskGroup() as group:
            group.create_task(chat(echo, desk.console))
            await echo.waiting.wait()
            assert desk.console.interrupt()
            assert not desk.console.interrupt(), "the first one still works"

    run_on(loop_factory, main())
    assert desk.answers.getvalue() == "well ...\nnext\n"
    assert desk.remarks.getvalue() == "stopped; the conversation goes on\n"


class Called:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def test_an_answer_is_interrupted_once(desk: Desk) -> None:
    stop = Called()
    desk.console.on_interrupt(stop)
    assert [desk.console.interrupt(), desk.console.interrupt()] == [True, False]
    assert stop.times == 1
    desk.console.on_interrupt(None)
    desk.console.on_interrupt(stop)
    assert stop.times == 1
    assert desk.console.interrupt()
    assert stop.times == 2


def test_an_interrupt_just_before_an_answer_stops_it(desk: Desk) -> None:
    stop = Called()
    assert desk.console.interrupt()
    desk.console.on_interrupt(stop)
    assert stop.times == 1


async def test_an_interrupt_between_answers_counts_at_the_prompt(desk: Desk) -> None:
    assert [desk.console.interrupt(), desk.console.interrupt()] == [True, False]
    with pytest.raises(KeyboardInterrupt):
        await desk.console.read_line()
    desk.press("one" + ENTER)
    assert await desk.console.read_line() == "one"


@both_loops
def test_a_signal_at_the_prompt_gives_up_the_line(desk: Desk, loop_factory: LoopFactory) -> None:
    def interrupt(_: object) -> None:
        assert desk.console.interrupt()

    async def main() -> None:
        desk.console._prompt.default_buffer.on_text_changed += interrupt
        desk.press("x")
        with pytest.raises(KeyboardInterrupt):
            await desk.console.read_line()
        assert not desk.console._interrupted, "the interrupt has had its effect"

    run_on(loop_factory, main())


# --- the history ----------------------------------------------------------------------------------------


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def ask(desk: Desk, keys: str) -> str:
    desk.press(keys + ENTER)
    return await desk.console.read_line()


async def test_the_history_outlives_the_console_and_is_private(history: Path) -> None:
    with desk_at(history) as desk:
        assert await ask(desk, "first") == "first"
        assert await ask(desk, "second é") == "second é"
    assert mode_of(history) == 0o600
    assert mode_of(history.parent) == 0o700
    with desk_at(history) as desk:
        assert await ask(desk, UP + UP) == "first"


def old(history: Path) -> None:
    history.parent.mkdir(parents=True)
    history.write_text("\n# long ago\n+known\n")
    history.chmod(0o644)


async def test_a_history_that_others_could_read_is_made_private(history: Path) -> None:
    old(history)
    with desk_at(history) as desk:
        assert mode_of(history) == 0o600
        assert await ask(desk, UP) == "known"


def no_folder(history: Path) -> None:
    history.parent.parent.mkdir(parents=True)
    history.parent.write_text("a file stands where the folder should be")


def a_folder(history: Path) -> None:
    history.mkdir(parents=True)


def a_device(history: Path) -> None:
    history.parent.mkdir(parents=True)
    history.symlink_to(os.devnull)


@pytest.mark.parametrize("spoil", [no_folder, a_folder, a_device])
async def test_a_history_that_cannot_be_kept_lives_in_memory(
    history: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(history)
    device_mode = mode_of(Path(os.devnull))
    with desk_at(history) as desk:
        assert await ask(desk, "first") == "first"
        assert await ask(desk, UP) == "first"
    assert mode_of(Path(os.devnull)) == device_mode


def lose(history: Path) -> None:
    history.unlink()


async def test_a_history_that_is_lost_on_the_way_lives_in_memory(history: Path) -> None:
    with desk_at(history) as desk:
        assert await ask(desk, "first") == "first"
        lose(history)
        a_folder(history)
        assert await ask(desk, "second") == "second"
        assert await ask(desk, UP + UP) == "first"


async def test_a_history_that_was_deleted_begins_anew_and_private(history: Path) -> None:
    with desk_at(history) as desk:
        assert await ask(desk, "first") == "first"
        lose(history)
        assert await ask(desk, "second") == "second"
    assert mode_of(history) == 0o600
    with desk_at(history) as desk:
        assert await ask(desk, UP) == "second"


# --- a pseudo-terminal ----------------------------------------------------------------------------------

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b.")


class Pty:
    """A person at a real terminal device."""

    def __init__(self, history: Path) -> None:
        self._person, self.device = os.openpty()
        self.files = [os.fdopen(os.dup(self.device), mode, encoding="utf-8") for mode in ("r", "w")]
        keys, screen = self.files
        self.console = TerminalConsole(
            history, answers=screen, keys=Vt100Input(keys), screen=Vt100_Output.from_pty(screen, term="xterm")
        )
        self._shown = ""
        self._more = asyncio.Event()

    def watch(self) -> None:
        asyncio.get_running_loop().add_reader(self._person, self._see)

    def _see(self) -> None:
        self._shown += os.read(self._person, 4096).decode()
        self._more.set()

    def type(self, keys: str) -> None:
        os.write(self._person, keys.encode())

    async def wait_for(self, text: str) -> None:
        """Wait until ``text`` is shown, and look only at what follows it from then on."""
        while text not in (shown := _ESCAPE.sub("", self._shown)):
            self._more.clear()
            await self._more.wait()
        self._shown = shown.partition(text)[2]

    def close(self) -> None:
        self.console.close()
        for file in self.files:
            file.close()
        os.close(self.device)
        os.close(self._person)


@both_loops
def test_a_person_at_a_real_terminal(
    history: Path, loop_factory: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPT_TOOLKIT_NO_CPR", "1")  # nobody answers where the cursor is

    async def main(pty: Pty) -> None:
        pty.watch()
        before = termios.tcgetattr(pty.device)
        echo = Echo()
        async with asyncio.TaskGroup() as group:
            group.create_task(chat(echo, pty.console))
            await pty.wait_for(">")
            pty.type("one two" + ENTER)
            await pty.wait_for("one two\r\n>")
            pty.type("half" + CTRL_C)
            await pty.wait_for("/exit or Ctrl-D ends the chat\r\n>")
            pty.type("well ..." + ENTER)
            await echo.waiting.wait()
            assert termios.tcgetattr(pty.device) == before, "Ctrl-C must come as a signal now"
            pty.console.interrupt()
            await pty.wait_for("well ...\r\nstopped; the conversation goes on\r\n>")
            pty.type(CTRL_D)
        assert termios.tcgetattr(pty.device) == before
        assert echo.told == ["one two", "well ..."]

    with closing(Pty(history)) as pty:
        run_on(loop_factory, main(pty))


@pytest.mark.parametrize("by_thread", [False, True])
@both_loops
def test_a_note_stands_above_the_line_that_is_edited(
    history: Path, loop_factory: LoopFactory, monkeypatch: pytest.MonkeyPatch, by_thread: bool
) -> None:
    monkeypatch.setenv("PROMPT_TOOLKIT_NO_CPR", "1")

    async def main(pty: Pty) -> None:
        pty.watch()
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(pty.console.read_line())
            await pty.wait_for(">")
            pty.type("half")
            await pty.wait_for("half")
            thread = threading.Thread(target=pty.console.note, args=("the cloud is away",))
            if by_thread:
                thread.start()
                thread.join()
            else:
                thread.run()
            await pty.wait_for("the cloud is away\r\n")
            await pty.wait_for("> half")
            pty.type(" and half" + ENTER)
        assert reading.result() == "half and half"

    with closing(Pty(history)) as pty:
        run_on(loop_factory, main(pty))


def test_prompts_and_remarks_leave_redirected_answers_alone(
    history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, remarks = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stderr", remarks)
    with (
        create_pipe_input() as keys,
        closing(TerminalConsole(history, answers=answers, keys=keys)) as console,
    ):
        screen: Output = console._prompt.app.output
        assert isinstance(screen, PlainTextOutput)
        keys.send_text("one" + ENTER + CTRL_D)

        async def main() -> None:
            await chat(Echo(), console)

        run_on(asyncio.SelectorEventLoop, main())
    assert answers.getvalue() == "one\n"
    assert "> one" in remarks.getvalue()


def test_the_longest_line_is_a_megabyte() -> None:
    assert LINE_BYTES_MAX == 1024 * 1024
