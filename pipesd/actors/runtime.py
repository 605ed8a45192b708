"""The funnel through which every event of a side goes, and the crew of tasks around it.

One funnel per side: whatever happens is handled here, one event at a time, and nothing here waits.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pipesd.actors.mailbox import Mailbox
from pipesd.observe import Observer

E = TypeVar("E")
C = TypeVar("C")
E_contra = TypeVar("E_contra", contravariant=True)
C_co = TypeVar("C_co", covariant=True)

TIMER_TOLERANCE_S = 0.002
"""uvloop's timers count whole milliseconds."""

Clock = Callable[[], float]
"""Seconds; only differences mean something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the outside may attach to a funnel."""

    observers: Sequence[Observer] = ()
    clock: Clock | None = None
    """The event loop's by default; a finer one may be given if it runs at the same pace."""


class Side(Protocol[E_contra, C_co]):
    """The brain behind a funnel: ``EdgeSide`` or ``CloudSide``."""

    def handle(self, event: E_contra, now: float) -> Sequence[C_co]:
        """Decide."""

    def deadline(self) -> float | None:
        """When to be woken at the latest."""


class Funnel(Generic[E, C]):
    """Hands events to the side, shows the step to the observers, and dispatches the commands."""

    def __init__(
        self,
        side: Side[E, C],
        dispatch: Callable[[C], None],
        wake: E,
        *,
        inbox_limit: int,
        hooks: Hooks,
    ) -> None:
        self._side = side
        self._dispatch = dispatch
        self._wake = wake
        self._observers = hooks.observers
        self._clock = hooks.clock or asyncio.get_running_loop().time
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._task: asyncio.Task[Any] | None = None
        self._fault: BaseException | None = None
        self._closed = False
        self._now = -math.inf
        self._waiting: deque[E] = deque()
        self._stepping = False
        self.inbox: Mailbox[E] = Mailbox("funnel", inbox_limit)
        """Where actors report."""

    def step(self, event: E) -> None:
        """Handle one event now; the application's wishes enter here. Raises what the side raises.

        An event that a dispatched command leads to is handled right after the step that led to it.
        """
        self._step(event, -math.inf)

    def _step(self, event: E, not_before: float) -> None:
        self._waiting.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._waiting:
                # Moments never go back, and a side is not woken before the moment it asked for.
                self._now = max(self._now, not_before, self._clock())
                self._handle(self._waiting.popleft(), self._now)
        finally:
            self._stepping = False
        self._arm()

    async def run(self) -> None:
        """Serve the inbox and the deadline until cancelled."""
        self._task = asyncio.current_task()
        try:
            while True:
                self.step(await self.inbox.next())
        except asyncio.CancelledError:
            if self._fault is not None:
                raise self._fault from None
            raise
        finally:
            self._task = None
            self.close()

    def close(self) -> None:
        """Wake the side no more."""
        self._closed = True
        self._disarm()

    def _handle(self, event: E, now: float) -> None:
        commands = self._side.handle(event, now)
        for observer in self._observers:
            observer.observe(now, event, commands)
        for command in commands:
            self._dispatch(command)

    def _arm(self) -> None:
        """Have a timer that fires at the deadline or before: then it is set again, which is seldom."""
        due = self._side.deadline()
        if due is None or self._closed:
            self._disarm()
        elif self._timer is None or due < self._timer_due:
            self._disarm()
            self._timer_due = due
            delay = max(0.0, due - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        """A timer may fire a little early by our clock, and too early anyway if the deadline has moved."""
        self._timer = None
        try:
            due, now = self._side.deadline(), self._clock()
            if due is not None and due <= max(self._timer_due, now) and due - now < TIMER_TOLERANCE_S:
                self._step(self._wake, due)
            else:
                self._arm()
        except BaseException as fault:  # raised again from ``run``, where the crew sees it
            self._fault = fault
            if self._task is not None:
                self._task.cancel()


class Crew:
    """The tasks of one side. They live as long as the ``with`` block that they were hired in."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()

    def hire(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start a task. If it fails, the whole crew ends, and the failure is raised from the block."""
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def dismiss(self) -> None:
        """Cancel all who still work."""
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def crew() -> AsyncIterator[Crew]:
    """A crew for the block; none outlives it. What the block raises is raised as it is, not in a group."""
    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            hands = Crew(group)
            try:
                yield hands
            except BaseException as error:  # raised again below, outside the group
                failure = error
            finally:
                hands.dismiss()
    except BaseExceptionGroup as failures:
        raise _only(failures) from failure
    if failure is not None:
        raise failure


@asynccontextmanager
async def in_good_order(stop: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Await ``stop`` after the block, also if it fails; a cancellation waits for nothing."""
    try:
        yield
    except Exception:
        await stop()
        raise
    else:
        await stop()


def _only(failure: BaseException) -> BaseException:
    """The single failure in a group of one, however deep."""
    while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    return failure
