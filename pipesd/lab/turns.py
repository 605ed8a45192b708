"""Moments of a simulated play, told apart as the actors' event loop tells them apart, and links between them.

What happens at one nanosecond happens in turns of the loop: who is told something does it in the next, and
what a timer wakes is reported to a funnel two turns later. So what coincides comes in the actors' order too.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import Any, TypeVar

from pipesd.lab.emulator import LinkEmulator
from pipesd.wire import frames

T = TypeVar("T")

_NS = 1e9  # a float, as times a float is quicker then

TOLD = 1
"""Turns from telling somebody something until it is done."""

WOKEN = 1
"""Turns from a timer to the task that waits for it."""

REPORTED = 2
"""Turns from a timer, or from telling a task to stop, to the funnel that hears of it."""


class Heap:
    """What is to come: by nanoseconds, by turns of the loop within one, and as it was set.

    What is done is called with one thing, which is quicker than with as many as come.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.now_ns = 0
        self._turn = 0
        self._due: list[tuple[int, int, int, Callable[[Any], object], Any]] = []
        self._set = 0
        self._number = 0

    def at(self, ns: int, turns: int, what: Callable[[T], object], given: T) -> None:
        """Have ``what`` done with ``given`` so many turns after a timer that is set to ``ns``."""
        self._set += 1
        if ns <= self.now_ns:
            ns, turns = self.now_ns, self._turn + 1 + turns
        heappush(self._due, (ns, turns, self._set, what, given))

    def soon(self, turns: int, what: Callable[[T], object], given: T) -> None:
        """The same so many turns from now."""
        self._set += 1
        heappush(self._due, (self.now_ns, self._turn + turns, self._set, what, given))

    def next(self, what: Callable[[T], object], given: T) -> None:
        """Have ``what`` done in the next turn: at once if nothing lies in between. Ask last of all."""
        self._set += 1
        if self._due and self._due[0][0] == self.now_ns:
            heappush(self._due, (self.now_ns, self._turn + TOLD, self._set, what, given))
        else:  # nothing comes in between
            self._turn += TOLD
            self._number = self._set
            what(given)

    def hold(self) -> None:
        """Something comes in between from here on, if only a nothing."""
        self.soon(TOLD, _nothing, None)

    def follow(self, turns: int, what: Callable[[T], object], given: T) -> None:
        """The same behind all else that is done now; what comes of it stands where that stood."""
        if self._due and self._due[0][0] == self.now_ns:
            heappush(self._due, (self.now_ns, self._turn + turns, self._number, what, given))
        else:  # nothing comes in between
            what(given)

    def after(self, cost_s: float, what: Callable[[T], object], given: T) -> tuple[int, int]:
        """Have ``what`` done when work is reported that an actor is told to do now; gives that moment."""
        self._set += 1
        ns, turn = self.now_ns + round(cost_s * _NS), REPORTED
        if ns <= self.now_ns:
            ns, turn = self.now_ns, self._turn + 2 * TOLD + REPORTED
        heappush(self._due, (ns, turn, self._set, what, given))
        return ns, turn

    def number(self) -> int:
        """That of something which is set now, and perhaps put on the heap later."""
        self._set += 1
        return self._set

    def put(self, ns: int, turn: int, number: int, what: Callable[[T], object], given: T) -> None:
        """Have ``what`` done in the very place that was kept for it."""
        heappush(self._due, (ns, turn, number, what, given))

    def is_behind(self, ns: int, turn: int, number: int) -> bool:
        """Whether that place is passed."""
        return (self.now_ns, self._turn, self._number) > (ns, turn, number)

    def can_stop(self, ends: tuple[int, int]) -> bool:
        """Whether work that ends then can be stopped now: neither its timer nor its turn has come."""
        ns, turn = ends
        return ns > self.now_ns or turn == self._turn + 2 * TOLD + REPORTED

    def run(self) -> None:
        """Until nothing is to come."""
        due = self._due
        with _not_collecting():
            while due:
                ns, self._turn, self._number, what, given = heappop(due)
                if ns != self.now_ns:
                    self.now_ns, self.now = ns, ns / _NS
                what(given)


class Pipe:
    """A sender and its direction of the link: what is told while the link is busy leaves together.

    Nothing is put on the heap for a link that gets free and finds nobody who waits for it, as most do.
    """

    def __init__(
        self,
        heap: Heap,
        emulator: LinkEmulator,
        arrived: Callable[[list[frames.AnyFrame]], None],
        charged: Callable[[frames.AnyFrame], int],
        idle: Callable[[int], None] | None = None,
    ) -> None:
        """``idle`` is told, with how many frames have left, when the link is idle after ``want_idle``."""
        self._heap = heap
        self._emulator = emulator
        self._arrived = arrived
        self._charged = charged
        self._idle = idle
        self._queue: list[frames.AnyFrame] = []
        self._arriving: list[frames.AnyFrame] | None = None
        """What arrives last of all that is on its way; None if nothing is."""

        self._arrives_ns = 0
        self._busy = False
        self._is_wanted = False
        """Whether somebody waits for the link."""

        self._gets_free: tuple[int, int] | None = None
        """When the busy link is free again, and its number among what was set; None if the heap knows."""

        self.told_frames = 0
        """How many frames it was ever told to send."""

        self.sent_bytes = 0

    def tell(self, frame: frames.AnyFrame, *, last: bool = False, wants_idle: bool = False) -> None:
        """Send this as soon as the link is free, and have ``idle`` called behind it if that is wanted.

        ``last``: who tells has nothing else to do in this turn.
        """
        self._queue.append(frame)
        self.told_frames += 1
        if self._busy and not self._was_freed(WOKEN):
            self.want_idle()
            return
        self._busy, self._is_wanted = True, wants_idle
        if last:
            self._heap.next(self._send, self._queue)
        else:
            self._heap.soon(TOLD, self._send, self._queue)

    def want_idle(self) -> None:
        """Have ``idle`` called when the link, which is not idle now, is so."""
        if self._gets_free is None:
            self._is_wanted = True
        else:
            self._heap.put(self._gets_free[0], WOKEN, self._gets_free[1], self._free, self._queue)
            self._gets_free = None

    def idle_since(self) -> float | None:
        """Since when the link is idle without anybody having been told; None if it is not."""
        gets_free = self._gets_free
        return gets_free[0] / _NS if gets_free is not None and self._was_freed(REPORTED) else None

    def greet(self, ns: int, frame: frames.AnyFrame) -> int:
        """When a frame of the greeting arrives that is sent at ``ns``; it does not count."""
        return round(self._emulator.send(ns / _NS, self._charged(frame))[1] * _NS)

    def _was_freed(self, turn: int) -> bool:
        """Whether the link got free in silence, and this turn of that moment is over."""
        gets_free, heap = self._gets_free, self._heap
        if gets_free is None:
            return False
        if heap.now_ns <= gets_free[0] and not heap.is_behind(gets_free[0], turn, gets_free[1]):
            return False
        self._busy, self._gets_free = False, None
        return True

    def _send(self, portion: list[frames.AnyFrame]) -> None:
        """Send the whole queue."""
        heap, self._queue = self._heap, []
        size = 0
        for frame in portion:
            size += self._charged(frame)
        self.sent_bytes += size
        free_s, arrival_s = self._emulator.send(heap.now, size)
        free_ns, arrival_ns = round(free_s * _NS), round(arrival_s * _NS)
        if self._arriving is not None and arrival_ns == self._arrives_ns:
            self._arriving += portion
        else:
            self._arriving, self._arrives_ns = portion, arrival_ns
            heap.at(arrival_ns, REPORTED, self._arrive, portion)
        if free_ns <= heap.now_ns:
            self._free(self._queue)
            return
        self._gets_free = free_ns, heap.number()
        if self._is_wanted:
            self.want_idle()

    def _arrive(self, portion: list[frames.AnyFrame]) -> None:
        """What arrives at one moment is read at once."""
        if portion is self._arriving:
            self._arriving = None
        self._arrived(portion)

    def _free(self, queue: list[frames.AnyFrame]) -> None:
        """The link is free for what was told meanwhile."""
        if queue:
            self._send(queue)
        else:
            self._busy = self._is_wanted = False
            if self._idle is not None:
                self._heap.follow(REPORTED - WOKEN, self._idle, self.told_frames)


def _nothing(_: None) -> None:
    pass


@contextmanager
def _not_collecting() -> Iterator[None]:
    """Keep the collector of cycles from looking for some in a play, which makes none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
