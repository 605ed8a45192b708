"""The commands ``pipesd-edge`` and ``pipesd-cloud``. The only file that touches the process.

Standard output carries the text (or, with ``--json``, one JSON object) and nothing else. Exit codes: 0 done,
1 failed, 2 bad usage, 130 interrupted.
"""

import asyncio
import contextlib
import importlib
import importlib.util
import io
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from time import monotonic
from typing import Any, NoReturn, TypeVar

import click

import pipesd
from pipesd import cloud as cloud_face
from pipesd import edge as edge_face
from pipesd.actors.compute import ThreadCompute
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.errors import PipeSDError, UsageError, one_line
from pipesd.flags import settings_of, take
from pipesd.observe import LogObserver
from pipesd.summary import Summary
from pipesd.text import Piece

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


def edge() -> NoReturn:
    """Entry point of ``pipesd-edge``."""
    _main(edge_commands, "pipesd-edge")


def cloud() -> NoReturn:
    """Entry point of ``pipesd-cloud``."""
    _main(cloud_commands, "pipesd-cloud")


# -- what every command has ---------------------------------------------------------------------------------


def _main(commands: click.Group, name: str) -> NoReturn:
    _ensure_streams()
    try:
        code = commands.main(prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say(f"{name}: interrupted")
        code = INTERRUPTED
    except PipeSDError as error:
        _say(f"{name}: {error}")
        code = BAD_USAGE if isinstance(error, UsageError) else FAILED
    except OSError as error:
        _give_up_output()
        if not isinstance(error, BrokenPipeError):  # a reader that went away needs no message
            _say(f"{name}: the system refuses what is needed ({error.strerror or error})")
        code = FAILED
    except Exception as error:  # a user is shown a sentence; a developer asks for the trace
        logging.getLogger("pipesd").debug("! fault", exc_info=True)
        _say(f"{name}: a fault of pipesd ({type(error).__name__}: {error}); --log-level debug shows more")
        code = FAILED
    if code == INTERRUPTED:
        os._exit(code)  # a thread that waits for a reader of the output would keep the process
    sys.exit(code if isinstance(code, int) else DONE)


def _ensure_streams() -> None:
    """Closed standard streams lead nowhere; left closed, a socket would get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")


def _give_up_output() -> None:
    """Nothing more can be written; what is still buffered must not fail once more at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody can be told
        print(one_line(line), file=sys.stderr, flush=True)


def _run(main: Coroutine[Any, Any, T], loop: str) -> T:
    """Run on the chosen event loop; interrupts cancel ``main`` and come out as ``KeyboardInterrupt``."""
    factory = importlib.import_module("uvloop").new_event_loop if loop == "uvloop" else None
    with contextlib.closing(main), asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def _has_uvloop() -> bool:
    return importlib.util.find_spec("uvloop") is not None


def _process_options(command: Command) -> Command:
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning"]),
        default="warning",
        show_default=True,
        help="What is logged to standard error; debug shows every event, without its content.",
    )(command)
    click.option(
        "--loop",
        type=click.Choice(["uvloop", "asyncio"]),
        default="uvloop" if _has_uvloop() else "asyncio",
        show_default=True,
        help="The event loop to run on.",
    )(command)
    return command


def _answer_options(command: Command) -> Command:
    click.option("--json", "as_json", is_flag=True, help="Give one JSON object instead of the text.")(command)
    click.option("--stop", multiple=True, help="End the answer before this text; may be repeated.")(command)
    click.option("-p", "--prompt", required=True, help="What the text begins with.")(command)
    return command


def _observers(log_level: str, name: str) -> tuple[LogObserver, ...]:
    logging.basicConfig(level=log_level.upper(), format="%(name)s %(message)s", stream=sys.stderr)
    return (LogObserver(logging.getLogger(name)),)


# -- pipesd-edge --------------------------------------------------------------------------------------------


@click.group()
@click.version_option(pipesd.__version__, prog_name="pipesd-edge")
def edge_commands() -> None:
    """The edge: a draft model here guesses, a target model in the cloud decides what the text is."""


@edge_commands.command("generate")
@_answer_options
@settings_of(EdgeConfig)
@_process_options
def edge_generate(prompt: str, stop: Sequence[str], as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Continue a prompt with the target's own text."""
    observers = _observers(given["log_level"], "pipesd.edge")
    config = take(EdgeConfig, given, dict(os.environ))
    writer = _Writer(shown=not as_json)
    summary = _run(_edge_answer(config, observers, prompt, stop, writer), given["loop"])
    writer.conclude(summary)


async def _edge_answer(
    config: EdgeConfig, observers: Sequence[LogObserver], prompt: str, stop: Sequence[str], writer: "_Writer"
) -> Summary:
    async with edge_face.connect(config, observers=observers) as connection, connection.session() as session:
        answer = session.generate(prompt, stop=stop)
        greeting = connection.statistics()
        timing = await writer.write_all(aiter(answer))
        assert answer.result is not None, "an answer without a result"
        crossed = connection.statistics()
        stats = answer.result.stats
        judged = stats.accepted + stats.corrections
        return Summary(
            tokens=stats.tokens,
            finish=answer.result.finish,
            elapsed_ms=timing.elapsed_ms,
            first_token_ms=timing.first_token_ms,
            acceptance=stats.accepted / judged if judged else None,
            draft_share=stats.accepted / max(1, stats.tokens),
            passes=stats.verdicts,
            drafted=stats.drafted,
            sent_bytes=crossed.sent_bytes - greeting.sent_bytes,
            received_bytes=crossed.received_bytes - greeting.received_bytes,
            modelled=config.engine == "replay" or config.draft_ms > 0,
        )


# -- pipesd-cloud -------------------------------------------------------------------------------------------


_OF_AN_ANSWER = frozenset({"temperature", "top_k", "top_p", "min_p", "seed", "tokens_max"})
"""Settings that mean something to ``generate`` only: to a server, each edge says its own."""

_OF_A_SERVER = frozenset(
    {
        "listen",
        "window_tokens",
        "pass_tokens",
        "sessions_max",
        "edge_sessions_max",
        "connections_max",
        "handshake_timeout_s",
        "ping_after_s",
        "silent_after_s",
        "send_stall_s",
        "stop_timeout_s",
    }
)
"""Settings that mean something to ``serve`` only."""


@click.group()
@click.version_option(pipesd.__version__, prog_name="pipesd-cloud")
def cloud_commands() -> None:
    """The cloud: a target model that confirms or corrects what edges guess."""


@cloud_commands.command("serve")
@settings_of(CloudConfig, but=_OF_AN_ANSWER)
@_process_options
def cloud_serve(**given: Any) -> None:  # noqa: ANN401 - one per setting
    """Serve edges until interrupted or terminated."""
    observers = _observers(given["log_level"], "pipesd.cloud")
    config = take(CloudConfig, given, dict(os.environ))
    if _run(_serve(config, observers), given["loop"]) == signal.SIGINT:
        raise KeyboardInterrupt


async def _serve(config: CloudConfig, observers: Sequence[LogObserver]) -> signal.Signals | None:
    received: list[signal.Signals] = []
    async with cloud_face.serve(config, observers=observers) as server:

        def stop(which: signal.Signals) -> None:
            received.append(which)
            server.stop()

        with _signals(stop):
            host, port = server.address
            _say(f"pipesd-cloud: ready on {f'[{host}]' if ':' in host else host}:{port}")
            await server.wait_stopped()
    return received[0] if received else None


@contextlib.contextmanager
def _signals(stop: Callable[[signal.Signals], None]) -> Any:  # noqa: ANN401
    """Have ``stop`` called for SIGINT and SIGTERM; the handlers before are put back at the end."""
    loop = asyncio.get_running_loop()

    def wake(which: int, _: object) -> None:
        loop.call_soon_threadsafe(stop, signal.Signals(which))

    before = {which: signal.signal(which, wake) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


@cloud_commands.command("generate")
@_answer_options
@settings_of(CloudConfig, but=_OF_A_SERVER)
@_process_options
def cloud_generate(prompt: str, stop: Sequence[str], as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Continue a prompt with the target alone: the reference for every other way."""
    _observers(given["log_level"], "pipesd.cloud")
    config = take(CloudConfig, given, dict(os.environ))
    writer = _Writer(shown=not as_json)
    summary = _run(_cloud_answer(config, prompt, stop, writer), given["loop"])
    writer.conclude(summary)


async def _cloud_answer(config: CloudConfig, prompt: str, stop: Sequence[str], writer: "_Writer") -> Summary:
    answer = cloud_face.Alone(config, prompt, stop=stop)
    await answer.load()
    timing = await writer.write_all(aiter(answer))
    return Summary(
        tokens=answer.tokens,
        finish=answer.finish or "stop",
        elapsed_ms=timing.elapsed_ms,
        first_token_ms=timing.first_token_ms,
        passes=answer.tokens,
        modelled=config.engine == "replay" or config.pass_ms > 0 or config.pass_token_ms > 0,
    )


# -- output -------------------------------------------------------------------------------------------------


class _Timing:
    def __init__(self) -> None:
        self._started = monotonic()
        self.first_token_ms = 0.0
        self.elapsed_ms = 0.0

    def note(self) -> None:
        self.elapsed_ms = 1e3 * (monotonic() - self._started)
        self.first_token_ms = self.first_token_ms or self.elapsed_ms


class _Writer:
    """Puts an answer on standard output as it comes, or keeps it for the JSON object."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._output = ThreadCompute("pipesd-output")
        self._text: list[str] = []
        self._tokens: list[int] = []

    async def write_all(self, pieces: AsyncIterator[Piece]) -> _Timing:
        timing = _Timing()
        async for piece in pieces:
            timing.note()
            self._text.append(piece.text)
            self._tokens += piece.tokens
            if self._shown and piece.text:
                await self._output.run(partial(_put, piece.text), 0)
        return timing

    def conclude(self, summary: Summary) -> None:
        text = "".join(self._text)
        if not self._shown:
            answer = {"text": text, "token_ids": self._tokens, **summary.figures()}
            _put(json.dumps(answer, ensure_ascii=False) + "\n")
            return
        if sys.stdout.isatty() and not text.endswith("\n"):
            _put("\n")
        _say(summary.line())


def _put(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _give_up_output()
        raise PipeSDError(f"cannot write the output ({error.strerror or error})") from error
