"""Virtual time: an event loop whose clock jumps to the next moment anything is due.

The actors run on it unchanged. Time is counted in whole nanoseconds, so that the same run gives the same
figures. If every task waits and nothing is scheduled, nothing can ever happen again: ``StuckError`` at once.
"""

import asyncio
import heapq
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, NoReturn, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_NS_PER_S = 1_000_000_000
_EXACT_NS = 100 * 86_400 * _NS_PER_S
"""Beyond about 194 days a float of seconds no longer tells nanoseconds apart."""


class StuckError(RuntimeError):
    """Every task waits and no timer is set."""


class _JumpingSelector(selectors.DefaultSelector):
    """Polls real descriptors without waiting, and only before it lets time pass."""

    now_ns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0:
            return []
        ready = super().select(0)
        if not ready and timeout is None:
            raise StuckError("all tasks are waiting and nothing is scheduled")
        if not ready and timeout is not None:
            self.now_ns += round(timeout * _NS_PER_S)
            if self.now_ns > _EXACT_NS:
                raise OverflowError("virtual time is exact for 100 days, and they are over")
        return ready


class _Timer(asyncio.TimerHandle):
    """Of two timers of one moment the one that was set first comes first; asyncio itself takes either."""

    order = 0.0, 0
    """When, and as which of all timers it was set."""

    def __lt__(self, other: object) -> bool:
        assert isinstance(other, _Timer), "a timer that was not set by call_at"
        return self.order < other.order


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time. Threads have no place in it."""

    def __init__(self) -> None:
        self._jumper = _JumpingSelector()
        super().__init__(self._jumper)
        self._clock_resolution = 0.5 / _NS_PER_S
        self._timers = 0

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._jumper.now_ns / _NS_PER_S

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Set a timer to the whole nanosecond."""
        when = round(when * _NS_PER_S) / _NS_PER_S
        timer = _Timer(when, callback, args, self, context)
        self._timers += 1
        timer.order = when, self._timers
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def run_in_executor(self, *_: object) -> NoReturn:
        """Refuse: a thread takes real time."""
        raise RuntimeError("no threads in virtual time; use ModelledCompute")


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end in virtual time. Raises ``StuckError`` if it can never end."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
