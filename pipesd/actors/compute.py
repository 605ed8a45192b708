"""The door to blocking work. No other actor knows threads. Tests and the lab swap the door alone.

One piece of work at a time: a model is never entered twice.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pipesd.actors.pause import Pause
from pipesd.errors import InterruptedStepError

T = TypeVar("T")


class Compute(Protocol):
    """Runs work for its one actor."""

    async def run(self, work: Callable[[], T], tokens: int) -> T:
        """The result of ``work``, which evaluates ``tokens`` tokens. Whatever it raises is raised here."""

    def interrupt(self) -> None:
        """Ask the work in flight to end early with ``InterruptedStepError``; it may be too late for that."""

    def close(self) -> None:
        """No more work will come."""


def _nothing() -> None:
    pass


class ThreadCompute:
    """One thread per engine."""

    def __init__(
        self, name: str, interrupt: Callable[[], None] = _nothing, last: Callable[[], None] = _nothing
    ) -> None:
        """``interrupt`` may be called from any thread while work runs; ``last`` is done when all is over."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._interrupt = interrupt
        self._last: Callable[[], None] | None = last
        self._orders: set[Future[Any]] = set()

    async def run(self, work: Callable[[], T], tokens: int) -> T:
        """Run in the thread."""
        order = self._thread.submit(_without_stop, work)
        self._orders.add(order)
        order.add_done_callback(self._orders.discard)
        try:
            return await _result_of(order)
        except asyncio.CancelledError:
            order.cancel()
            raise

    def interrupt(self) -> None:
        """Pass it on to the engine."""
        self._interrupt()

    def close(self) -> None:
        """Let the thread end after what it does now."""
        self._interrupt()
        for order in tuple(self._orders):
            order.cancel()
        if self._last is not None:
            self._thread.submit(self._last)
            self._last = None
        self._thread.shutdown(wait=False)


async def _result_of(order: Future[T]) -> T:
    """What another thread's work comes to.

    As ``asyncio.wrap_future``, but a signal may come in the very moment at which the result is passed on, and
    cancel who waits for it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        with suppress(asyncio.InvalidStateError):
            done.set_result(None)

    def tell(_: Future[T]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(wake)

    order.add_done_callback(tell)
    await done
    if order.cancelled():
        raise asyncio.CancelledError
    return order.result()


def _without_stop(work: Callable[[], T]) -> T:
    """A StopIteration cannot be passed on by a future; it would never be told."""
    try:
        return work()
    except StopIteration as stop:
        raise RuntimeError("the work raised StopIteration") from stop


async def run_once(name: str, work: Callable[[], T]) -> T:
    """The result of one piece of blocking work, such as loading a model."""
    compute = ThreadCompute(name)
    try:
        return await compute.run(work, 0)
    finally:
        compute.close()


@dataclass(frozen=True, slots=True)
class Pace:
    """What work costs on a modelled machine: ``fixed_s + token_s * tokens``."""

    fixed_s: float
    token_s: float = 0.0

    def cost_s(self, tokens: int) -> float:
        """Seconds that work on ``tokens`` tokens takes; releasing a cache (0 tokens) is free."""
        return self.fixed_s + self.token_s * tokens if tokens else 0.0


@dataclass(frozen=True, slots=True)
class LentCompute:
    """Somebody else's door, who will close it himself."""

    door: Compute

    async def run(self, work: Callable[[], T], tokens: int) -> T:
        """Pass it on."""
        return await self.door.run(work, tokens)

    def interrupt(self) -> None:
        """Pass it on."""
        self.door.interrupt()

    def close(self) -> None:
        """Nothing: it is only lent."""


class ModelledCompute:
    """The same answers, paid for in seconds of the event loop's clock, real or virtual."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._machine = asyncio.Lock()
        self._pause = Pause()

    @property
    def pace(self) -> Pace:
        """What work costs that begins now."""
        return self._pace

    async def run(self, work: Callable[[], T], tokens: int) -> T:
        """Wait for as long as the modelled machine would take, then do the work at once."""
        async with self._machine:
            ends_at = asyncio.get_running_loop().time() + self.pace.cost_s(tokens)
            if await self._pause.until(ends_at):
                return work()
        raise InterruptedStepError("the step was interrupted")

    def interrupt(self) -> None:
        """End the waiting."""
        self._pause.interrupt()

    def close(self) -> None:
        """Nothing is held."""
