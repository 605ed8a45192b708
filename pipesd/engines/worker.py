"""The process in which a target model works: orders in, answers out, over its standard streams.

It is a process of its own so that a crash of the model's libraries ends no connection. ``ProcessTarget`` runs
it as ``python -m pipesd.engines.worker``; it ends with its input, even in the middle of a pass.
"""

import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO, NoReturn, Self, TypeVar

import msgspec

from pipesd.config import CloudConfig
from pipesd.engines.base import TargetEngine, TargetIdentity
from pipesd.engines.choose import open_target
from pipesd.errors import (
    ConfigError,
    EngineError,
    InterruptedStepError,
    PipeSDError,
    TraceError,
    UsageError,
)
from pipesd.redact import log_fault, log_to, show_content
from pipesd.values import Slice

LENGTH_BYTES = 4

logger = logging.getLogger("pipesd.worker")

# -- what is said over the pipes ----------------------------------------------------------------------------


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Is known by its name."""


class Load(Message, frozen=True):
    """The first order."""

    config: CloudConfig
    log_level: int
    log_content: bool = False


class Forward(Message, frozen=True):
    """One pass; ``call`` is above that of the pass before."""

    call: int
    slices: tuple[Slice, ...]


class Interrupt(Message, frozen=True):
    """That pass is of no use any more. Has no answer of its own."""

    call: int


class Release(Message, frozen=True):
    """Forget a sequence."""

    sequence: int


class Encode(Message, frozen=True):
    """Cut a text into tokens."""

    text: bytes
    """As UTF-8, in which half a surrogate pair is let pass: to refuse it is the engine's."""

    special: bool

    @classmethod
    def of(cls, text: str, *, special: bool) -> Self:
        """The order for ``text``."""
        return cls(text.encode("utf-8", "surrogatepass"), special)


class Ready(Message, frozen=True):
    """Answers ``Load``: who the model is."""

    identity: TargetIdentity
    pieces: tuple[bytes, ...]
    cutting: bytes


class Picks(Message, frozen=True):
    """Answers ``Forward``."""

    picks: tuple[tuple[int, ...], ...]


class Released(Message, frozen=True):
    """Answers ``Release``."""


class Tokens(Message, frozen=True):
    """Answers ``Encode``."""

    ids: tuple[int, ...]


class Failed(Message, frozen=True):
    """Answers any order: what was raised instead."""

    kind: str
    """A key of ``ERRORS``."""

    message: str


Call = Forward | Release | Encode
Order = Load | Interrupt | Call
Answer = Ready | Picks | Released | Tokens | Failed

ERRORS: dict[str, type[PipeSDError]] = {
    kind.__name__: kind for kind in (EngineError, TraceError, UsageError, ConfigError, InterruptedStepError)
}
"""What an engine may raise, by the name that stands for it."""

M = TypeVar("M")


def pack(message: Order | Answer) -> bytes:
    """A message for the other side of the pipe."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def messages(pipe: IO[bytes], decoder: msgspec.msgpack.Decoder[M]) -> Iterator[M]:
    """What comes out of a pipe until it ends; what is cut off by the end does not count."""
    while len(length := pipe.read(LENGTH_BYTES)) == LENGTH_BYTES:
        size = int.from_bytes(length, "big")
        if len(body := pipe.read(size)) < size:
            return
        yield decoder.decode(body)


# -- what is done about it ----------------------------------------------------------------------------------


class Worker:
    """Reads in one thread, so that an interrupt is heard while the engine works in another."""

    def __init__(self, orders: IO[bytes], answers: IO[bytes]) -> None:
        self._pipe = orders
        self._answers = answers
        self._orders: queue.SimpleQueue[Load | Call] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._engine: TargetEngine | None = None
        self._at_work: int | None = None
        """The pass in which the engine is, if it is in one."""

        self._unwanted = -1
        """The latest pass that was interrupted."""

    def read(self) -> None:
        """Take orders until the input ends."""
        decoder: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
        for order in messages(self._pipe, decoder):
            if isinstance(order, Interrupt):
                self._interrupt(order.call)
            else:
                self._orders.put(order)

    def serve(self) -> None:
        """Obey one order after another; raises ``BrokenPipeError`` if nobody is left to be answered."""
        while True:
            self._answers.write(pack(self._answer(self._orders.get())))
            self._answers.flush()

    def _answer(self, order: Load | Call) -> Answer:
        try:
            return self._obey(order)
        except tuple(ERRORS.values()) as error:
            return Failed(_kind_of(error), str(error))
        except Exception:  # what stands behind an engine may raise anything
            log_fault(logger, "! the target model failed on a fault of its engine")
            return Failed(EngineError.__name__, "its engine broke down; the cloud's log says more")

    def _obey(self, order: Load | Call) -> Answer:
        if isinstance(order, Load):
            return self._load(order)
        engine = self._engine
        assert engine is not None, "an order before the model is there"
        match order:
            case Forward():
                return self._forward(engine, order)
            case Release(sequence):
                engine.release(sequence)
                return Released()
            case Encode(text, special):
                letters = text.decode("utf-8", "surrogatepass")
                return Tokens(tuple(engine.tokenizer.encode(letters, special=special)))

    def _load(self, order: Load) -> Ready:
        log_to(sys.stderr, order.log_level)
        if order.log_content:
            show_content()
        self._engine = open_target(order.config)
        vocabulary = self._engine.tokenizer.vocabulary
        return Ready(self._engine.identity, tuple(vocabulary.pieces), vocabulary.cutting)

    def _forward(self, engine: TargetEngine, order: Forward) -> Picks:
        with self._lock:
            if self._unwanted == order.call:
                raise InterruptedStepError("the pass was interrupted before it began")
            self._at_work = order.call
        try:
            return Picks(tuple(engine.forward(order.slices)))
        finally:
            with self._lock:
                self._at_work = None

    def _interrupt(self, call: int) -> None:
        with self._lock:
            self._unwanted = call
            if self._at_work == call and self._engine is not None:
                self._engine.interrupt()


def _kind_of(error: Exception) -> str:
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in ERRORS)


def main() -> None:
    """Serve until the input ends. A library finds nothing to read, and what it prints goes to the log.

    Signals that are meant for the cloud may reach all of its processes, and would end this one too early.
    """
    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, signal.SIG_IGN)
    orders = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker = Worker(orders, answers)
    threading.Thread(target=_end_after, args=(worker.read,), name="orders").start()
    _end_after(worker.serve)


def _end_after(work: Callable[[], None]) -> NoReturn:
    """End the process at once with ``work``, whatever else is being done in it."""
    code = 1
    try:
        work()
        code = 0
    except BrokenPipeError:  # nobody is left to be answered
        code = 0
    except Exception:
        log_fault(logger, "! the process of the target model ends on a fault of pipesd")
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
