"""A target model in a process of its own, which is started anew when it has ended.

The law of this file: once a process is lost, no slice reaches another before ``forward`` has raised
``EngineLostError``. So nobody believes that a sequence still holds what it held.
"""

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec

from pipesd.config import CloudConfig
from pipesd.engines.base import TargetIdentity, Tokenizer
from pipesd.engines.worker import (
    ERRORS,
    Answer,
    Encode,
    Failed,
    Forward,
    Interrupt,
    Load,
    Order,
    Picks,
    Ready,
    Release,
    Released,
    Tokens,
    messages,
    pack,
)
from pipesd.errors import EngineError, EngineLostError, InterruptedStepError, UsageError
from pipesd.redact import CONTENT
from pipesd.values import Slice
from pipesd.vocabulary import Vocabulary

PROGRAM = ("-m", "pipesd.engines.worker")
"""What Python is to run."""

STOP_S = 2.0
"""How long a process may take to end with its input, and after that to be killed."""

CALLED_OFF = "the pass was interrupted while its engine was to be started anew"

logger = logging.getLogger("pipesd.cloud")

A = TypeVar("A", Ready, Picks, Released, Tokens)


@dataclass(frozen=True, slots=True)
class Restarts:
    """How often, and how soon, a process that ended is started anew."""

    limit: int = 5
    """After so many losses in a row, without a pass between, a further one fails its pass."""

    pause_s: float = 0.5
    """Before the second start in a row; before each further one twice as long."""

    pause_max_s: float = 30.0

    def pause_after_s(self, losses: int) -> float:
        """How long to wait before the start that follows so many losses in a row."""
        return 0.0 if losses < 2 else min(self.pause_max_s, self.pause_s * 2.0 ** min(losses - 2, 60))


class ProcessTarget:
    """A target engine. ``interrupt`` and ``close`` may be called from any thread, and at any time."""

    def __init__(
        self, config: CloudConfig, restarts: Restarts | None = None, program: Sequence[str] = PROGRAM
    ) -> None:
        """No process yet: ``start`` comes before everything else."""
        self._config = config
        self._restarts = restarts or Restarts()
        self._program = program
        self._ready: Ready | None = None
        self._tokenizer: Tokenizer | None = None
        self._turn = threading.Lock()
        """Held for a whole call: the process is asked one thing at a time."""

        self._losses = 0
        """In a row, without a pass between."""

        self._lock = threading.Lock()
        """Guards what follows, for ``interrupt`` and ``close``."""

        self._child: _Child | None = None
        """The process; also one that has ended, until ``forward`` has told it."""

        self._stage: Literal["idle", "starting", "sending", "passing"] = "idle"
        self._call = 0
        self._unwanted = threading.Event()
        """Whether the pass in flight, or everything, was called off."""

        self._is_closed = False

    def start(self) -> None:
        """Start the process, and load the model in it. Raises as ``choose.open_target`` does."""
        with self._turn:
            _, self._ready = self._load()
            self._tokenizer = _Tokenizer(Vocabulary(self._ready.pieces, self._ready.cutting), self._encode)

    @property
    def identity(self) -> TargetIdentity:
        """What decides the target path."""
        assert self._ready is not None, "asked before the model was there"
        return self._ready.identity

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own; it works between two passes."""
        assert self._tokenizer is not None, "asked before the model was there"
        return self._tokenizer

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        """The picks of each slice; see ``TargetEngine``. Starts a process if there is none.

        Raises ``EngineLostError`` if it has ended or cannot be started, ``EngineError`` if that comes too
        often in a row, and whatever the engine raises.
        """
        with self._turn, self._in_flight():
            child = self._running()
            order = Forward(self._call, tuple(slices))
            with _Deadline(self._config.pass_timeout_s, child.kill) as deadline:
                try:
                    answer = child.ask(order, lambda: self._has_sent(child))
                except _EndedError:
                    raise self._loss(f"the process of the target model {child.end()}{deadline}") from None
            picks = _expected(Picks, answer).picks
            self._losses = 0
        return list(picks)

    def release(self, sequence: int) -> None:
        """Forget the sequence; a process that has ended holds none."""
        with self._turn:
            if self._child is not None:
                with suppress(_EndedError):
                    _expected(Released, self._child.ask(Release(sequence)))

    def interrupt(self) -> None:
        """Make the pass in flight fail soon, or the start that it waits for; without one, nothing happens."""
        with self._lock:
            if self._stage == "idle":
                return
            self._unwanted.set()
            if self._child is not None and self._stage == "starting":
                self._child.kill()
            elif self._child is not None and self._stage == "passing":
                self._child.say(Interrupt(self._call))

    def close(self) -> None:
        """End the process, whatever it does; nothing is left of it when this is over."""
        with self._lock:
            self._is_closed = True
            self._unwanted.set()
            child = self._child
        if child is not None:
            child.end()

    # -- one call ---------------------------------------------------------------------------------------

    def _encode(self, text: str, special: bool) -> list[int]:
        with self._turn:
            try:
                return list(_expected(Tokens, self._running().ask(Encode.of(text, special=special))).ids)
            except _EndedError:
                raise EngineLostError("the process of the target model has ended") from None

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        with self._lock:
            self._call += 1
            self._stage = "sending"
        try:
            yield
        finally:
            with self._lock:
                self._stage = "idle"
                if not self._is_closed:
                    self._unwanted.clear()

    def _has_sent(self, child: "_Child") -> None:
        with self._lock:
            self._stage = "passing"
            if self._unwanted.is_set() and not self._is_closed:  # what is closed ends without an answer
                child.say(Interrupt(self._call))

    # -- one process after another ----------------------------------------------------------------------

    def _running(self) -> "_Child":
        """The process, or a new one if the end of the last was told."""
        if self._child is not None:
            return self._child
        if self._unwanted.wait(self._restarts.pause_after_s(self._losses)):
            raise InterruptedStepError(CALLED_OFF)
        try:
            child, ready = self._load()
        except (EngineError, UsageError) as error:
            loss = self._loss(f"the target model cannot be loaded again: {error}")
            if self._unwanted.is_set():
                raise InterruptedStepError(CALLED_OFF) from None
            raise loss from None
        if ready != self._ready:
            child.end()
            reason = "the target model is not the one any more that is served; start the cloud anew"
            self._loss(reason)
            raise EngineError(reason)
        logger.warning("the target model is loaded again")
        return child

    def _load(self) -> tuple["_Child", Ready]:
        with self._lock:
            if self._is_closed:
                raise EngineError("the target model was closed")
            child = self._child = _started(self._program)
            stage, self._stage = self._stage, "starting"
        try:
            load = Load(self._config, logger.getEffectiveLevel(), CONTENT.isEnabledFor(logging.CRITICAL))
            return child, _expected(Ready, child.ask(load))
        except _EndedError:
            raise EngineError(
                f"the process of the target model {child.end()} while it loaded; "
                "if memory ran out, free some, or choose a smaller model"
            ) from None
        except BaseException:
            child.end()
            raise
        finally:
            with self._lock:
                self._stage = stage

    def _loss(self, reason: str) -> EngineError:
        """There is no process; what is to be raised about it."""
        with self._lock:
            self._child = None
            if self._is_closed:
                return EngineError("the target model was closed")
        self._losses += 1
        if self._losses > self._restarts.limit:
            pause_s = self._restarts.pause_after_s(self._losses)
            reason = f"{reason} ({self._losses} times in a row; tried again after {pause_s:g} s)"
        logger.warning("! %s", reason)
        return EngineError(reason) if self._losses > self._restarts.limit else EngineLostError(reason)


class _Tokenizer:
    """Knows the vocabulary; asks the process how a text is cut."""

    def __init__(self, vocabulary: Vocabulary, encode: Callable[[str, bool], list[int]]) -> None:
        self._vocabulary = vocabulary
        self._encode = encode

    @property
    def vocabulary(self) -> Vocabulary:
        """The bytes of every token."""
        return self._vocabulary

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of ``text``; see ``Tokenizer``. Waits while a pass is at work."""
        return self._encode(text, special)


def _expected(kind: type[A], answer: Answer) -> A:
    if isinstance(answer, Failed):
        raise ERRORS[answer.kind](answer.message)
    assert isinstance(answer, kind), "an answer to something else"
    return answer


# -- one process --------------------------------------------------------------------------------------------


class _Deadline:
    """Kills what takes too long, and says so."""

    def __init__(self, limit_s: float, kill: Callable[[], None]) -> None:
        self._limit_s = limit_s
        self._kill = kill
        self._is_over = False
        self._timer = threading.Timer(limit_s, self._pass)
        self._timer.daemon = True

    def _pass(self) -> None:
        self._is_over = True
        self._kill()

    def __enter__(self) -> "_Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()

    def __str__(self) -> str:
        return f", since a pass took longer than {self._limit_s:g} s" if self._is_over else ""


class _EndedError(Exception):
    """There will be no answer."""


class _Child:
    """Its pipes, and its end. All but ``ask`` may be called from any thread."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None, "a process without pipes"
        assert process.stdout is not None, "a process without pipes"
        self._process = process
        self._orders, self._pipe = process.stdin, process.stdout
        decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
        self._answers: Iterator[Answer] = messages(self._pipe, decoder)
        self._writing = threading.Lock()
        self._ending = threading.Lock()

    def ask(self, order: Order, then: Callable[[], None] = lambda: None) -> Answer:
        """What it answers; ``then`` is called when it has the order. Raises ``_EndedError``."""
        packed = pack(order)
        try:
            self._write(packed)
            then()
            return next(self._answers)
        except (StopIteration, OSError, ValueError):
            raise _EndedError from None
        except BaseException:
            self.kill()
            self._answers = iter(())  # what it may have said yet would be taken for the next answer
            raise

    def say(self, order: Order) -> None:
        """Hand over an order; if it has ended, that shows as soon as it is asked something."""
        self._write(pack(order))

    def _write(self, packed: bytes) -> None:
        with self._writing, suppress(OSError, ValueError):
            self._orders.write(packed)
            self._orders.flush()

    def kill(self) -> None:
        """End it at once, without waiting for that."""
        self._process.kill()

    def end(self) -> str:
        """End it, if it has not ended, and say how it did."""
        with self._ending:
            if not (self._hang_up() and self._has_ended()):
                self.kill()
                self._hang_up()
            if self._has_ended():
                self._pipe.close()
        code = self._process.returncode
        if code is None:
            return "cannot be ended"
        names = {which.value: which.name for which in signal.Signals}
        return f"ended with code {code}" if code >= 0 else f"was ended by {names.get(-code, -code)}"

    def _hang_up(self) -> bool:
        """Close its input, unless it does not read what is being written to it."""
        if not self._writing.acquire(timeout=STOP_S):
            return False
        with suppress(OSError):
            self._orders.close()
        self._writing.release()
        return True

    def _has_ended(self) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        return self._process.returncode is not None


def _started(program: Sequence[str]) -> _Child:
    command = [sys.executable, *program]
    try:
        return _Child(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        )
    except OSError as error:
        reason = error.strerror or error
        raise EngineError(f"the process of the target model cannot be started: {reason}") from None
