"""What drafting, sending and judging cost, estimated while it happens.

Every estimate is robust (medians, Theil-Sen lines) over a sliding window, so that a few odd measurements
move nothing, and states how uncertain it is. Occupancy of the link is read from the differences between the
cloud's arrival stamps; no two clocks are ever compared. All times are in seconds.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipesd.errors import UsageError
from pipesd.planner.batches import LinkCosts

WINDOW = 64
"""Samples that an estimate rests on."""

_REFIT = 16
"""A fit is renewed after so many new samples."""

_ONE_ERROR = 0.68
"""How often the truth lies within one standard error."""

_ERROR_MIN = 3
"""A line through two points fits them however wrong it is."""

_INFINITE = math.inf

_NORMAL = 1.4826
"""Standard deviations per median absolute deviation, for normal errors."""

_MEDIAN_EFFICIENCY = 1.2533
"""Standard error of a median, in standard errors of a mean, for normal errors."""

_USUAL_MIN = 8
_USUAL_FACTOR = 2.0
"""A batch took its time on the link, not on the way, if of so many a quarter at most took half of it."""

_QUEUED_SHARE = 0.2
"""Where fewer batches than this seem to have queued on the way, those may be odd ones."""

_STRETCHED = 2.0
_STRETCHED_S = 0.001
"""Batches whose distance grew by such a factor, and by so much, must have queued on the way."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, its standard error, and how many samples it rests on."""

    value: float
    error: float
    samples: int


class Median:
    """The median of the last ``WINDOW`` samples."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=WINDOW)
        self._new = 0
        self._value: float | None = None

    def add(self, sample: float) -> None:
        """Note a sample. Raises ``UsageError`` if it is no duration."""
        _check_time(sample)
        self._samples.append(sample)
        self._new += 1

    @property
    def value(self) -> float | None:
        """None before the first sample; renewed with every sample at first, later with every sixteenth."""
        if self._new and (self._new >= _REFIT or len(self._samples) < _REFIT):
            self._value = _middle(self._samples)
            self._new = 0
        return self._value

    @property
    def estimate(self) -> Estimate | None:
        """The same with its error."""
        value = self.value
        return None if value is None else _with_error(value, self._samples)


def _check_time(seconds: float) -> None:
    if not 0.0 <= seconds < _INFINITE:
        raise UsageError(f"a measured time must be finite and not negative, not {seconds}")


def _with_error(middle: float, samples: Sequence[float]) -> Estimate:
    if len(samples) < 2:
        return Estimate(middle, _INFINITE, len(samples))
    deviation = _NORMAL * _middle([abs(sample - middle) for sample in samples])
    return Estimate(middle, _MEDIAN_EFFICIENCY * deviation / math.sqrt(len(samples)), len(samples))


def _middle(samples: Sequence[float]) -> float:
    ordered, half = sorted(samples), len(samples) // 2
    return ordered[half] if len(samples) % 2 else (ordered[half - 1] + ordered[half]) / 2


@dataclass(frozen=True, slots=True)
class Line:
    """Time as fixed + slope · tokens."""

    fixed: Estimate
    slope: Estimate

    def at(self, tokens: float) -> float:
        """Seconds for ``tokens`` tokens."""
        return self.fixed.value + self.slope.value * tokens


class LineFit:
    """A Theil-Sen line through the last ``WINDOW`` points, with neither part below zero."""

    def __init__(self) -> None:
        # Imported here, before anything is timed: it takes most of a second.
        from scipy.stats import theilslopes  # noqa: PLC0415

        self._theilslopes = theilslopes
        self._points: deque[tuple[int, float]] = deque(maxlen=WINDOW)
        self._new = 0
        self._latest: Line | None = None

    def add(self, tokens: int, seconds: float) -> None:
        """Note a point. Raises ``UsageError`` if it is no duration."""
        _check_time(seconds)
        self._points.append((tokens, seconds))
        self._new += 1

    @property
    def line(self) -> Line | None:
        """None before two different sizes were seen; renewed as a ``Median`` is."""
        if self._new and (self._latest is None or self._new >= _REFIT or len(self._points) < _REFIT):
            self._latest = self._fit() or self._latest
            self._new = 0
        return self._latest

    def _fit(self) -> Line | None:
        tokens = [point[0] for point in self._points]
        seconds = [point[1] for point in self._points]
        slope = self._slope(tokens, seconds)
        if slope is None:
            return None
        if _middle([time - slope.value * size for size, time in zip(tokens, seconds, strict=True)]) < 0.0:
            through_zero = _middle([time / size for size, time in zip(tokens, seconds, strict=True)])
            slope = Estimate(through_zero, slope.error, slope.samples)
        rests = [time - slope.value * size for size, time in zip(tokens, seconds, strict=True)]
        fixed = _with_error(_middle(rests), rests)
        error = math.hypot(fixed.error, slope.error * sum(tokens) / len(tokens))
        return Line(Estimate(max(0.0, fixed.value), error, len(tokens)), slope)

    def _slope(self, tokens: Sequence[int], seconds: Sequence[float]) -> Estimate | None:
        """That of before while all sizes are the same: they say nothing of it."""
        if min(tokens) == max(tokens):
            return None if self._latest is None else self._latest.slope
        with np.errstate(invalid="ignore"):  # where the interval is undefined
            fitted, _, low, high = self._theilslopes(seconds, tokens, alpha=_ONE_ERROR)
        error = (float(high) - float(low)) / 2
        if len(tokens) < _ERROR_MIN:
            error = _INFINITE
        elif not math.isfinite(error):  # every pair has the same slope
            error = 0.0
        return Estimate(max(0.0, float(fitted)), error, len(tokens))


Gap = Literal["none", "some", "foreign"]
"""What lay between a batch and the one before it: nothing, if it left the moment that the other had; some
time; or another session's batches."""


@dataclass(slots=True)
class _Sent:
    """A batch on its way, or the last one that is known to have arrived."""

    tokens: int
    left_s: float
    """On the edge's clock."""

    gap: Gap


class Trip:
    """The batches of one session in one epoch, matched with the cloud's arrival stamps."""

    def __init__(self, occupancy: LineFit) -> None:
        self._occupancy = occupancy
        self._underway: deque[_Sent] = deque()
        self._last: tuple[_Sent, float] | None = None
        self._apart: deque[tuple[int, float, bool]] = deque(maxlen=WINDOW)
        """(tokens, how long after the batch before it, whether it seems to have queued) of the last arrivals.

        None took longer on the link than that.
        """

        self._disturbed = False
        """Whether something else has used the link since the last batch."""

    def sent(self, tokens: int, now: float, gap: Gap) -> None:
        """A batch has left."""
        self._underway.append(_Sent(tokens, now, "foreign" if self._disturbed else gap))
        self._disturbed = False

    def disturbed(self) -> None:
        """Something else used the link."""
        self._disturbed = True

    def arrived(self, arrivals: Sequence[tuple[int, int]]) -> None:
        """Stamps (tokens, µs on the cloud's clock) of the oldest batches underway, in order."""
        for tokens, stamp_us in arrivals:
            if not self._underway or self._underway[0].tokens != tokens:
                self.reset()
                return
            batch, at_s = self._underway.popleft(), stamp_us / 1e6
            if self._last is not None:
                self._compare(*self._last, batch, at_s)
            self._last = (batch, at_s)

    def _compare(self, before: _Sent, before_s: float, batch: _Sent, at_s: float) -> None:
        """Two batches that followed each other without a pause arrive as far apart as the second takes."""
        apart_s, sent_apart_s = at_s - before_s, batch.left_s - before.left_s
        if apart_s < 0.0 or batch.gap == "foreign":
            return
        queued = apart_s > max(_STRETCHED * sent_apart_s, sent_apart_s + _STRETCHED_S)
        if batch.gap == "none" or (queued and self._is_usual(batch.tokens, apart_s)):
            self._occupancy.add(batch.tokens, apart_s)
        self._apart.append((batch.tokens, apart_s, queued or batch.gap == "none"))

    def _is_usual(self, tokens: int, apart_s: float) -> bool:
        """Whether batches often queue here, and those of this size and more often come so soon.

        One that was held up on its way is rarer than the first, or later than the second.
        """
        others = sorted(apart for size, apart, _ in self._apart if size >= tokens)
        if len(others) < _USUAL_MIN or apart_s > _USUAL_FACTOR * others[len(others) // 4]:
            return False
        return sum(queued for _, _, queued in self._apart) >= _QUEUED_SHARE * len(self._apart)

    def reset(self) -> None:
        """A new epoch: what is underway will not be stamped."""
        self._underway.clear()
        self._last = None


class CostMeter:
    """Everything that the plan, the trigger and the tuner know of machine, link and cloud."""

    def __init__(self) -> None:
        self._draft = Median()
        self._abort = Median()
        self._answer = Median()
        self._link = Median()
        self._return = Median()
        self._pass = LineFit()
        self._occupancy = LineFit()
        self._pace: deque[tuple[float, int]] = deque()
        self._pace_s = 0.0
        self._pace_tokens = 0
        self._costs: LinkCosts | None = None

    # -- what is measured -------------------------------------------------------------------------------

    def drafted(self, seconds: float) -> None:
        """A draft step that evaluated one or two tokens."""
        self._draft.add(seconds)

    def aborted(self, seconds: float) -> None:
        """From the wish to stop a step to its end."""
        self._abort.add(seconds)

    def answered(self, waited_s: float, queue_s: float, pass_s: float) -> None:
        """A verdict came ``waited_s`` after its ask had left; the cloud spent the other two of it."""
        self._answer.add(waited_s)
        self._link.add(max(0.0, waited_s - queue_s - pass_s))

    def returned(self, seconds: float) -> None:
        """A verdict came so long after its ask had left the link."""
        self._return.add(seconds)

    def passed(self, tokens: int, seconds: float) -> None:
        """A pass of the target over ``tokens`` tokens of ours."""
        self._pass.add(tokens, seconds)

    def confirmed(self, tokens: int, seconds: float) -> None:
        """So many tokens were confirmed in so much time of a running generation."""
        _check_time(seconds)
        self._pace.append((seconds, tokens))
        self._pace_s += seconds
        self._pace_tokens += tokens
        if len(self._pace) > WINDOW:
            oldest_s, oldest_tokens = self._pace.popleft()
            self._pace_s -= oldest_s
            self._pace_tokens -= oldest_tokens

    def trip(self) -> Trip:
        """For one session's batches."""
        return Trip(self._occupancy)

    # -- what is known ----------------------------------------------------------------------------------

    @property
    def draft(self) -> Estimate | None:
        """gamma: one draft step."""
        return self._draft.estimate

    @property
    def draft_s(self) -> float | None:
        """gamma, without its error."""
        return self._draft.value

    @property
    def abort_s(self) -> float | None:
        """How long a step goes on that was told to stop."""
        return self._abort.value

    @property
    def answer(self) -> Estimate | None:
        """From the moment an ask leaves to its verdict."""
        return self._answer.estimate

    @property
    def answer_s(self) -> float | None:
        """The same without its error."""
        return self._answer.value

    @property
    def return_s(self) -> float | None:
        """From the moment at which an ask has left to its verdict."""
        return self._return.value

    @property
    def link(self) -> Estimate | None:
        """Both ways together: an answer without the cloud's own share."""
        return self._link.estimate

    @property
    def passes(self) -> Line | None:
        """V(n) = v0 + v1·n."""
        return self._pass.line

    @property
    def occupancy(self) -> Line | None:
        """alpha + beta·n; None while the link was never busy for long enough to tell."""
        return self._occupancy.line

    @property
    def token_s(self) -> float | None:
        """TPT of late: time per confirmed token, over the last verdicts."""
        return max(0.0, self._pace_s) / self._pace_tokens if self._pace_tokens else None

    def link_costs(self) -> LinkCosts | None:
        """For the plan: the same object while nothing has changed, None while not all is known."""
        draft_s, occupancy = self._draft.value, self._occupancy.line
        if draft_s is None or occupancy is None:
            return None
        costs = self._costs
        batch_s, token_s = occupancy.fixed.value, occupancy.slope.value
        if costs is None or (costs.draft_s, costs.batch_s, costs.token_s) != (draft_s, batch_s, token_s):
            self._costs = LinkCosts(draft_s, batch_s, token_s)
        return self._costs
