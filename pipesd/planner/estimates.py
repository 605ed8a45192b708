"""Robust estimates over a sliding window, and how uncertain they are: medians, and Theil-Sen lines.

A few odd measurements move nothing. All times are in seconds.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipesd.errors import UsageError

WINDOW = 64
"""Samples that an estimate rests on."""

_REFIT = 16
"""A fit is renewed after so many new samples."""

_ONE_ERROR = 0.68
"""How often the truth lies within one standard error."""

_ERROR_MIN = 3
"""A line through two points fits them however wrong it is."""

_ALIKE_MIN = 3
"""So many samples of one size, and no other, are taken to say that the size does not count."""

_RUN = 6
_RUN_FACTOR = 1.25
"""So many samples in a row that are all above what was expected by such a factor, or all below, are a change:
what came before them is forgotten."""

_INFINITE = math.inf

_NORMAL = 1.4826
"""Standard deviations per median absolute deviation, for normal errors."""

_MEDIAN_EFFICIENCY = 1.2533
"""Standard error of a median, in standard errors of a mean, for normal errors."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, its standard error, and how many samples it rests on."""

    value: float
    error: float
    samples: int


class _Run:
    """Counts how many samples in a row are off on the same side."""

    def __init__(self) -> None:
        self._is_above = False
        self._count = 0

    def goes_on(self, sample: float, expected: float) -> bool:
        """Whether it is now long enough to be a change; it ends then."""
        if sample <= _RUN_FACTOR * expected and expected <= _RUN_FACTOR * sample:
            self._count = 0
            return False
        is_above = sample > expected
        self._count = self._count + 1 if is_above == self._is_above else 1
        self._is_above = is_above
        if self._count < _RUN:
            return False
        self._count = 0
        return True


class Median:
    """The median of the last ``WINDOW`` samples; of those since the last change, if that was later."""

    def __init__(self) -> None:
        self._run = _Run()
        self._samples: deque[float] = deque(maxlen=WINDOW)
        self._due = 1
        """After how many samples more the median is renewed."""

        self.value: float | None = None
        """None before the first sample; renewed with every sample at first, later with every sixteenth."""

    def add(self, sample: float) -> None:
        """Note a sample. Raises ``UsageError`` if it is no duration."""
        if not 0.0 <= sample < _INFINITE:
            raise no_time(sample)
        self._samples.append(sample)
        self._due -= 1
        if self.value is not None and self._run.goes_on(sample, self.value):
            _keep_last(self._samples)
            self._renew()
        elif not self._due:
            self._renew()

    def _renew(self) -> None:
        self.value = _middle(self._samples)
        self._due = _REFIT if len(self._samples) + 1 >= _REFIT else 1

    @property
    def estimate(self) -> Estimate | None:
        """The same with its error."""
        value = self.value
        return None if value is None else _with_error(value, self._samples)


def _keep_last(samples: deque[Any]) -> None:
    """Drop all but the run."""
    for _ in range(len(samples) - _RUN):
        samples.popleft()


def no_time(seconds: float) -> UsageError:
    """The error that says why this is no duration."""
    return UsageError(f"a measured time must be finite and not negative, not {seconds}")


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


def prepare() -> None:
    """Load what a ``LineFit`` needs, which takes most of a second, before anybody waits for it."""
    import scipy.stats  # noqa: F401, PLC0415 - slow to load


class LineFit:
    """A Theil-Sen line through the last ``WINDOW`` points, with neither part below zero.

    As a ``Median``, it forgets what lies before a change.
    """

    def __init__(self) -> None:
        from scipy.stats import theilslopes  # noqa: PLC0415 - see ``prepare``

        self._theilslopes = theilslopes
        self._run = _Run()
        self._points: deque[tuple[int, float]] = deque(maxlen=WINDOW)
        self._new = 0
        self._latest: Line | None = None

    def add(self, tokens: int, seconds: float) -> None:
        """Note a point. Raises ``UsageError`` if it is no duration."""
        if not 0.0 <= seconds < _INFINITE:
            raise no_time(seconds)
        self._points.append((tokens, seconds))
        self._new += 1
        if self._latest is not None and self._run.goes_on(seconds, self._latest.at(tokens)):
            _keep_last(self._points)
            self._new = _REFIT

    def clear(self) -> None:
        """Forget everything."""
        self._points.clear()
        self._run = _Run()
        self._new = 0
        self._latest = None

    @property
    def line(self) -> Line | None:
        """None before two different sizes were seen, or three samples of one; renewed as a ``Median`` is.

        The first different size counts at once.
        """
        if not self._new:
            return self._latest
        is_flat = self._latest is None or math.isinf(self._latest.slope.error)
        if is_flat or self._new >= _REFIT or len(self._points) < _REFIT:
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
        """That of before while all sizes are the same: they say nothing of it. Without one, none."""
        if min(tokens) == max(tokens):
            if self._latest is not None:
                return self._latest.slope
            return Estimate(0.0, _INFINITE, len(tokens)) if len(tokens) >= _ALIKE_MIN else None
        with np.errstate(invalid="ignore"):  # where the interval is undefined
            fitted, _, low, high = self._theilslopes(seconds, tokens, alpha=_ONE_ERROR)
        error = (float(high) - float(low)) / 2
        if len(tokens) < _ERROR_MIN:
            error = _INFINITE
        elif not math.isfinite(error):  # every pair has the same slope
            error = 0.0
        return Estimate(max(0.0, float(fitted)), error, len(tokens))
