"""The life of a command: its streams, signals, event loop, and the exit code of whatever happens in it."""

import asyncio
import contextlib
import importlib
import importlib.util
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn, TypeVar

import click

from pipesd.errors import PipeSDError, TraceError, UsageError
from pipesd.observe import LogObserver
from pipesd.page import give_up, remark
from pipesd.redact import CONTENT, log_fault, log_to

DONE, FAILED, BAD_USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


class _Interrupted(Exception):
    """Ctrl-C, on its way out of click."""


@contextlib.contextmanager
def _kept_from_click() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise _Interrupted from None


class Commands(click.Group):
    """Leaves Ctrl-C to ``run``: click would say an empty line first."""

    def make_context(self, *given: Any, **named: Any) -> click.Context:  # noqa: ANN401 - passed on
        """Take the command line apart."""
        with _kept_from_click():
            return super().make_context(*given, **named)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was named."""
        with _kept_from_click():
            return super().invoke(ctx)


def run(commands: click.Group, name: str) -> NoReturn:
    """Run the command line, and leave with its exit code. What goes wrong is said in one sentence."""
    code = FAILED
    try:
        _ensure_streams()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, terminate)
        code = _code_of(commands, name)
    except KeyboardInterrupt:  # while something else was being said
        code = INTERRUPTED
    except SystemExit as leaving:  # terminated; or click's way of saying that the reader went away
        code = leaving.code if isinstance(leaving.code, int) else FAILED
    finally:
        # Not sys.exit: threads in a model's step, or at a blocked stream, would hold the process up.
        os._exit(code)


def terminate(*_: object) -> NoReturn:
    """End the command as SIGTERM does, but leave nothing half done behind."""
    raise SystemExit(TERMINATED)


def _code_of(commands: click.Group, name: str) -> int:
    try:
        code = commands.main(prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (_Interrupted, KeyboardInterrupt, click.Abort):
        if sys.stderr.isatty():
            say("")  # behind the ^C that the terminal shows
        say(f"{name}: interrupted")
        return INTERRUPTED
    except PipeSDError as error:
        say(f"{name}: {error}")
        return BAD_USAGE if isinstance(error, UsageError | TraceError) else FAILED
    except OSError as error:
        give_up(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # a reader that went away needs no message
            say(f"{name}: the system refuses what is needed ({error.strerror or error})")
        return FAILED
    except Exception as error:  # a user is shown a sentence; a developer asks for the trace
        log_fault(logging.getLogger("pipesd"), "! fault", logging.DEBUG)
        kind, message = type(error).__name__, f": {error}" if CONTENT.isEnabledFor(logging.ERROR) else ""
        say(f"{name}: a fault of pipesd ({kind}{message}); --log-level debug and --log-content show more")
        return FAILED
    return code if isinstance(code, int) else DONE


def _ensure_streams() -> None:
    """Closed standard streams lead nowhere; left closed, a socket would get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or os.fdopen(0, "r", encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")


def say(line: str) -> None:
    """Tell the user, on standard error."""
    remark(sys.stderr, line)


def run_loop(main: Coroutine[Any, Any, T], loop: str) -> T:
    """Run on the chosen event loop; interrupts cancel ``main`` and come out as ``KeyboardInterrupt``."""
    factory = importlib.import_module("uvloop").new_event_loop if loop == "uvloop" else None
    with contextlib.closing(main), asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


@contextlib.contextmanager
def signals(handle: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Have ``handle`` called, in the event loop, for SIGINT and SIGTERM; what was before is put back."""
    loop = asyncio.get_running_loop()

    def wake(which: int, _: object) -> None:
        loop.call_soon_threadsafe(handle, signal.Signals(which))

    before = {which: signal.signal(which, wake) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def process_options(command: Command) -> Command:
    """Decorate a command with ``--loop`` and ``--log-level``."""
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning"]),
        default="warning",
        show_default=True,
        help="What is logged to standard error; debug shows each event, without its content.",
    )(command)
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    click.option(
        "--loop",
        type=click.Choice(["uvloop", "asyncio"]),
        default="uvloop" if has_uvloop else "asyncio",
        show_default=True,
        help="The event loop to run on.",
    )(command)
    return command


def observers(log_level: str, name: str) -> tuple[LogObserver, ...]:
    """Set logging up as ``--log-level`` says; what shows the events of a side."""
    log_to(sys.stderr, log_level.upper())
    return (LogObserver(logging.getLogger(name)),)
