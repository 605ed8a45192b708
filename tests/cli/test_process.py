"""The life of a command; ``tests/end_to_end`` has what only a process of its own can show."""

import asyncio
import inspect
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import uvloop
from click.testing import CliRunner

from pipesd.cli import process
from pipesd.cli.process import Commands, observers, process_options, run, run_loop, say, signals
from pipesd.errors import (
    ConfigError,
    EngineError,
    LinkError,
    PeerError,
    PipeSDError,
    RefusedError,
    TraceError,
    UsageError,
)
from pipesd.observe import LogObserver
from pipesd.redact import CONTENT


@pytest.fixture
def sigint() -> Iterator[None]:
    """Puts back what answers Ctrl-C; a command decides that for its whole process."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def code_of(sigint: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """The exit code of a command line ``pipesd-test do`` whose command is the given function."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(sys, "argv", ["pipesd-test", "do"])

    def code_of(work: Callable[[], object]) -> int:
        group = Commands("group")
        group.add_command(click.Command("do", callback=work))
        run(group, "pipesd-test")
        return codes.pop()  # type: ignore[unreachable]

    return code_of


def raiser(error: BaseException) -> Callable[[], object]:
    def work() -> None:
        raise error

    return work


# --- exit codes ---


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3), ("text", 0)])
def test_a_command_that_returns_is_done(code_of, result: object, code: int, capsys):
    assert code_of(lambda: result) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("the prompt is empty"), 2),
        (ConfigError("r1: must be a number"), 2),
        (TraceError("no trace"), 2),
        (EngineError("out of memory"), 1),
        (LinkError("lost"), 1),
        (PeerError("frame", "broken"), 1),
        (RefusedError("version", "no", retryable=False), 1),
        (PipeSDError("something"), 1),
    ],
    ids=lambda case: type(case).__name__,
)
def test_what_pipesd_raises_is_one_sentence(code_of, error: PipeSDError, code: int, capsys):
    assert code_of(raiser(error)) == code
    assert capsys.readouterr() == ("", f"pipesd-test: {error}\n")


def test_a_sentence_stays_on_one_line(code_of, capsys):
    assert code_of(raiser(LinkError("he said\n\x1b[31mno"))) == 1
    assert capsys.readouterr().err == "pipesd-test: he said\\n\\x1b[31mno\n"


@pytest.mark.parametrize("content", [False, True])
def test_a_fault_of_ours_is_named_and_its_trace_is_for_those_who_ask(code_of, capsys, caplog, content: bool):
    with caplog.at_level(logging.DEBUG, "pipesd"):
        if content:
            caplog.set_level(logging.NOTSET, CONTENT.name)
        assert code_of(raiser(ZeroDivisionError("by zero"))) == 1
    shown = "ZeroDivisionError: by zero" if content else "ZeroDivisionError"
    assert capsys.readouterr() == (
        "",
        f"pipesd-test: a fault of pipesd ({shown}); --log-level debug and --log-content show more\n",
    )
    assert "Traceback" in caplog.text
    assert ("by zero" in caplog.text) == content


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_one_line(code_of, error: BaseException, capsys):
    assert code_of(raiser(error)) == 130
    assert capsys.readouterr() == ("", "pipesd-test: interrupted\n")


def test_at_a_terminal_an_interrupt_has_a_line_of_its_own(code_of, monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    assert code_of(raiser(KeyboardInterrupt())) == 130
    assert screen.getvalue() == "\npipesd-test: interrupted\n"


def test_an_interrupt_while_something_else_is_said_is_an_interrupt(code_of, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process, "say", lambda _: raiser(KeyboardInterrupt())())
    assert code_of(raiser(UsageError("the prompt is empty"))) == 130


@pytest.mark.parametrize("arguments", [["nonsense"], ["do", "--nonsense"], ["do", "nonsense"]])
def test_bad_usage_is_shown_by_click(code_of, monkeypatch: pytest.MonkeyPatch, arguments: list[str], capsys):
    monkeypatch.setattr(sys, "argv", ["pipesd-test", *arguments])
    assert code_of(lambda: None) == 2
    shown, error = capsys.readouterr()
    assert shown == ""
    assert "nonsense" in error.splitlines()[-1]


def test_help_is_no_failure(code_of, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pipesd-test", "--help"])
    assert code_of(lambda: None) == 0
    assert capsys.readouterr().out.startswith("Usage: pipesd-test ")


def test_a_system_that_refuses_is_one_sentence_and_a_reader_that_went_away_none(
    code_of, monkeypatch: pytest.MonkeyPatch, capsys
):
    given_up: list[object] = []
    monkeypatch.setattr(process, "give_up", given_up.append)
    assert code_of(raiser(OSError(28, "No space left on device"))) == 1
    assert capsys.readouterr().err == (
        "pipesd-test: the system refuses what is needed (No space left on device)\n"
    )
    assert code_of(raiser(BrokenPipeError())) == 1
    assert capsys.readouterr() == ("", "")
    assert given_up == [sys.stdout] * 2


def test_once_a_command_runs_python_answers_an_interrupt_again(code_of):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    seen: list[object] = []
    assert code_of(lambda: seen.append(signal.getsignal(signal.SIGINT))) == 0
    assert seen == [signal.default_int_handler]


def test_whatever_happens_the_process_ends(monkeypatch: pytest.MonkeyPatch, sigint: None):
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(process, "_code_of", lambda *_: raiser(SystemError("broken"))())
    with pytest.raises(SystemError, match="broken"):
        run(Commands("group"), "pipesd-test")
    assert codes == [1]


# --- streams ---


def test_a_line_for_the_user_goes_to_standard_error(capsys):
    say("ready\n")
    assert capsys.readouterr() == ("", "ready\\n\n")


def test_text_goes_out_as_utf_8_whatever_the_locale_says(
    code_of, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with open(tmp_path / "out", "w", encoding="ascii") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert code_of(lambda: print("é\n🌍", file=output, flush=True)) == 0
    assert (tmp_path / "out").read_bytes() == "é\n🌍\n".encode()


# --- the event loop ---


@pytest.mark.parametrize(("name", "kind"), [("uvloop", uvloop.Loop), ("asyncio", asyncio.AbstractEventLoop)])
def test_the_chosen_loop_runs(name: str, kind: type[asyncio.AbstractEventLoop]):
    async def main() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    loop = run_loop(main(), name)
    assert isinstance(loop, kind)
    assert isinstance(loop, uvloop.Loop) == (name == "uvloop")


@pytest.mark.parametrize("name", ["uvloop", "asyncio"])
def test_an_interrupt_cancels_what_runs(name: str, sigint: None):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cancelled: list[bool] = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(KeyboardInterrupt):
        run_loop(main(), name)
    assert cancelled == [True]


def test_what_cannot_even_begin_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch):
    no_loop = SimpleNamespace(new_event_loop=raiser(OSError(24, "Too many open files")))
    monkeypatch.setitem(sys.modules, "uvloop", no_loop)

    async def main() -> None:
        raise AssertionError("it ran")

    work = main()
    with pytest.raises(OSError, match="Too many open files"):
        run_loop(work, "uvloop")
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED


@pytest.mark.parametrize("name", ["uvloop", "asyncio"])
def test_signals_are_told_in_the_loop_and_put_back(name: str, sigint: None):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGTERM)

    async def main() -> list[signal.Signals]:
        told: asyncio.Queue[signal.Signals] = asyncio.Queue()
        with signals(told.put_nowait):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            return [await told.get(), await told.get()]

    assert run_loop(main(), name) == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- options ---


def test_every_command_may_be_told_its_loop_and_what_to_log():
    taken: list[dict[str, object]] = []

    @click.command()
    @process_options
    def command(**given: object) -> None:
        taken.append(given)

    runner = CliRunner()
    runner.invoke(command, [], standalone_mode=False)
    runner.invoke(command, ["--loop", "asyncio", "--log-level", "debug"], standalone_mode=False)
    assert taken == [
        {"loop": "uvloop", "log_level": "warning"},
        {"loop": "asyncio", "log_level": "debug"},
    ]
    assert runner.invoke(command, ["--loop", "trio"]).exit_code == 2


def test_without_uvloop_the_default_is_asyncio(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    command = process_options(click.Command("do"))
    defaults = {option.name: option.default for option in command.params}
    assert defaults["loop"] == "asyncio"


def test_events_are_logged_under_the_name_of_the_side():
    (observer,) = observers("warning", "pipesd.edge")
    assert isinstance(observer, LogObserver)
