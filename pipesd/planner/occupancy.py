"""How long batches occupy the link, read from the differences between the cloud's arrival stamps.

Batches that followed each other without a pause arrive as far apart as the second takes. Whether there was a
pause the edge knows only if the link keeps it waiting; buffers on the way hide it, and then it shows in what
they do to the distances. No two clocks are ever compared. All times are in seconds.
"""

from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec

from pipesd.planner.estimates import WINDOW, LineFit

_USUAL_MIN = 8
_USUAL_FACTOR = 2.0
"""A batch took its time on the link, not on the way, if of so many a quarter at most took half of it."""

_QUEUED_SHARE = 0.2
"""Where fewer batches than this seem to have queued on the way, those may be odd ones."""

_STRETCHED = 2.0
_STRETCHED_S = 0.001
"""Batches whose distance grew by such a factor, and by so much, must have queued on the way."""

_TOGETHER_S = 0.001
"""Batches that were further apart than this when they left, and are not when they arrive, came as one."""

_SOONER_SHARE = 0.75
_SOONER_MAX = 8
"""What was learned is wrong after so many batches that took less than a share of it, and none that queued."""

Gap = Literal["none", "some", "foreign"]
"""What lay between a batch and the one before it: nothing, if it left the moment that the other had; some
time; or another session's batches."""


class _Batch(msgspec.Struct, gc=False):
    """On its way, or arrived; several of them if they came as one."""

    tokens: int
    left_s: float
    """On the edge's clock; the last of several."""

    gap: Gap
    arrived_s: float = 0.0
    """On the cloud's clock."""

    came_as_one: bool = False


class Occupancy:
    """What the arrivals of all sessions say of the link."""

    def __init__(self, fit: LineFit) -> None:
        """``fit`` is to be empty, and nobody else's."""
        self._fit = fit
        self._apart: deque[tuple[int, float, bool]] = deque(maxlen=WINDOW)
        """(tokens, how long after the batch before it, whether it seems to have queued) of the last arrivals.

        None took longer on the link than that.
        """

        self._sooner = 0

    def compare(self, before: _Batch | None, batch: _Batch | None) -> None:
        """Learn from a batch that arrived behind another of the same session, if there are two."""
        if before is None or batch is None:
            return
        apart_s, sent_apart_s = batch.arrived_s - before.arrived_s, batch.left_s - before.left_s
        if apart_s < 0.0 or batch.gap == "foreign":
            return
        is_stretched = apart_s > _STRETCHED * sent_apart_s and apart_s > sent_apart_s + _STRETCHED_S
        queued = batch.gap == "none" or batch.came_as_one or is_stretched
        if batch.gap == "none" or (queued and self._is_usual(batch.tokens, apart_s)):
            self._fit.add(batch.tokens, apart_s)
            self._sooner = 0
        else:
            self._doubt(batch.tokens, apart_s)
        self._apart.append((batch.tokens, apart_s, queued))

    def _doubt(self, tokens: int, apart_s: float) -> None:
        """On a link that has recovered, batches come sooner than they could, and none queues."""
        line = self._fit.line
        if line is not None and apart_s < _SOONER_SHARE * line.at(tokens):
            self._sooner += 1
            if self._sooner == _SOONER_MAX:
                self._fit.clear()
                self._sooner = 0

    def _is_usual(self, tokens: int, apart_s: float) -> bool:
        """Whether batches often queue here, and those of this size and more often come so soon.

        One that was held up on its way is rarer than the first, or later than the second.
        """
        others = sorted(apart for size, apart, _ in self._apart if size >= tokens)
        if len(others) < _USUAL_MIN or apart_s > _USUAL_FACTOR * others[len(others) // 4]:
            return False
        return sum(queued for _, _, queued in self._apart) >= _QUEUED_SHARE * len(self._apart)


class Trip:
    """The batches of one session in one epoch, matched with the cloud's arrival stamps."""

    def __init__(self, occupancy: Occupancy) -> None:
        self._occupancy = occupancy
        self._underway: deque[_Batch] = deque()
        self._last: _Batch | None = None
        """The last that is known to have arrived; later ones may still have come as one with it."""

        self._disturbed = False
        """Whether something else has used the link since the last batch."""

    def sent(self, tokens: int, now: float, gap: Gap) -> None:
        """A batch has left."""
        self._underway.append(_Batch(tokens, now, "foreign" if self._disturbed else gap))
        self._disturbed = False

    def disturbed(self) -> None:
        """Something else used the link."""
        self._disturbed = True

    def arrived(self, arrivals: Sequence[tuple[int, int]]) -> None:
        """Stamps (tokens, µs on the cloud's clock) of the oldest batches underway, in order."""
        underway, last, compare = self._underway, self._last, self._occupancy.compare
        before: _Batch | None = None  # which the last is not compared with yet: more may come as one with it
        for tokens, stamp_us in arrivals:
            if not underway or underway[0].tokens != tokens:
                compare(before, last)
                self.reset()
                return
            batch = underway.popleft()
            batch.arrived_s = stamp_us / 1e6
            if (
                last is not None
                and abs(batch.arrived_s - last.arrived_s) < _TOGETHER_S < batch.left_s - last.left_s
            ):  # they came as one
                last.tokens += batch.tokens
                last.left_s = batch.left_s
                last.came_as_one = True
            else:
                compare(before, last)
                before, last = last, batch
        compare(before, last)
        self._last = last

    def reset(self) -> None:
        """A new epoch: what is underway will not be stamped."""
        self._underway.clear()
        self._last = None
