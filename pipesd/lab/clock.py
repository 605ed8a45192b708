"""Virtual time: an event loop whose clock jumps to the next moment anything is due.

The actors run on it unchanged. Time is counted in whole nanoseconds, so that the same run gives the same
figures. If every task waits and nothing is scheduled, nothing can ever happen again: ``StuckError`` at once.
"""

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from heapq import heapify, heappop, heappush
from typing import Any, NoReturn, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_NS_PER_S = 1_000_000_000
_EXACT_NS = 100 * 86_400 * _NS_PER_S
"""Beyond about 194 days a float of seconds no longer tells nanoseconds apart."""

_CANCELS_MIN = 1_000
"""It takes so many to look for cancelled timers among all."""


class StuckError(RuntimeError):
    """Every task waits and no timer is set."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time. Threads have no place in it.

    Of two timers of one moment the one that was set first comes first; asyncio itself takes either.
    """

    _ready: deque[asyncio.Handle]
    _stopping: bool
    _process_events: Callable[[list[tuple[selectors.SelectorKey, int]]], None]

    def __init__(self) -> None:
        self._poller = selectors.DefaultSelector()
        super().__init__(self._poller)
        self._now_ns = 0
        self._timers: list[tuple[int, int, asyncio.TimerHandle]] = []
        """(when, as which of all it was set, it) in nanoseconds; a heap."""

        self._timers_set = 0
        self._cancels = 0
        """How many timers were cancelled since all that wait were looked through."""

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._now_ns / _NS_PER_S

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Set a timer to the whole nanosecond."""
        ns = round(when * _NS_PER_S)
        timer = asyncio.TimerHandle(ns / _NS_PER_S, callback, args, self, context)
        self._timers_set += 1
        heappush(self._timers, (ns, self._timers_set, timer))
        return timer

    def _timer_handle_cancelled(self, _: asyncio.TimerHandle) -> None:
        """One was; throw away those that wait for nothing, if they may be many."""
        self._cancels += 1
        if self._cancels > max(_CANCELS_MIN, len(self._timers) // 2):
            self._timers = [entry for entry in self._timers if not entry[2].cancelled()]
            heapify(self._timers)
            self._cancels = 0

    def _run_once(self) -> None:
        """What asyncio does in a turn, but for waiting: whatever it waits for has come."""
        ready = self._ready
        if not (ready or self._stopping):
            self._process_events(self._poller.select(0))
            if not ready:
                self._jump()
        timers, now_ns = self._timers, self._now_ns
        while timers and timers[0][0] <= now_ns:
            ready.append(heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _jump(self) -> None:
        """To the moment of the next timer."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heappop(timers)
        if not timers:
            raise StuckError("all tasks are waiting and nothing is scheduled")
        self._now_ns = max(self._now_ns, timers[0][0])
        if self._now_ns > _EXACT_NS:
            raise OverflowError("virtual time is exact for 100 days, and they are over")

    def close(self) -> None:
        """Also forget the timers that are left, and what they hold."""
        super().close()
        self._timers.clear()

    def run_in_executor(self, *_: object) -> NoReturn:
        """Refuse: a thread takes real time."""
        raise RuntimeError("no threads in virtual time; use ModelledCompute")


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end in virtual time. Raises ``StuckError`` if it can never end."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
