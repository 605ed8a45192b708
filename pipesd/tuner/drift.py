"""Notices that the world has changed for good: draft steps, link, target, or how often drafts are right.

Each stream of measurements is split into its past and its newest samples, in every way that is possible, and
the split under which the two differ most is looked at: a test of the likelihood ratio. One odd sample, or
two, change nothing.
"""

import math
from collections import deque
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from pipesd.errors import UsageError
from pipesd.tuner.base import Floats

Stream = Literal["draft", "link", "occupancy", "pass", "acceptance"]
STREAMS: tuple[Stream, ...] = get_args(Stream)

_LIMIT = 4.8
"""Standard errors by which times past and present must differ. Many splits are looked at with every sample,
and deviations are only estimated; see the tests for how often it is wrong."""

_RATIO_LIMIT = 10.0
"""Logarithm of the likelihood ratio of two rates of acceptance to one."""

_CHANGE_MIN = 0.1
"""A smaller change does not count, however sure it is: in logarithms of times, or in shares."""

_PAST_MIN, _PAST_MAX = 16, 96
_NEW_MIN, _NEW_MAX = 5, 32
"""Times that are compared."""

_PAST_DRAFTS_MIN = 32
_NEW_DRAFTS_MIN = 12
_DRAFTS_MAX = 384

_TIME_MIN = 1e-4
"""Seconds; what takes less counts as this much."""

_NOISE_MIN = 0.05
"""Relative deviation of times, at least."""

_FEW = 6.0
_CLIP = 3.0
"""Deviations; an odd time counts as this far off at most."""

_NORMAL = 1.4826
"""Standard deviations per median absolute deviation, for normal errors."""

_RATE_MIN = 1e-9


class Drift:
    """All streams of one edge."""

    def __init__(self) -> None:
        self._streams: dict[str, _Changes] = {}
        self.reset()

    def note(self, name: str, value: float) -> bool:
        """Note a time in seconds, or for ``acceptance`` 1 if a draft was accepted, else 0.

        True when that stream has changed for good; it then begins anew with what came since. What is no
        possible value says nothing. Raises ``UsageError`` if there is no such stream.
        """
        if name not in self._streams:
            raise UsageError(f"there is no stream {name!r}; choose one of {', '.join(STREAMS)}")
        most = 1.0 if name == "acceptance" else math.inf
        return math.isfinite(value) and 0.0 <= value <= most and self._streams[name].add(value)

    def reset(self) -> None:
        """Forget all that was noted."""
        self._streams = {name: _Shares() if name == "acceptance" else _Times() for name in STREAMS}


class _Changes(Protocol):
    def add(self, value: float) -> bool: ...


class _Times:
    """Logarithms of times, with heavy tails: deviations are robust, and clipped."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=_PAST_MAX + _NEW_MAX)

    def add(self, value: float) -> bool:
        self._samples.append(math.log(max(value, _TIME_MIN)))
        samples, total = np.array(self._samples), len(self._samples)
        known = max(_PAST_MIN, total - _NEW_MAX)
        if total < known + _NEW_MIN:
            return False
        middle = _median(samples[:known])
        # Few samples may happen to lie close together: their deviation is taken to be more.
        spread = _NORMAL * _median(np.abs(samples[:known] - middle)) * (1.0 + _FEW / known)
        off = np.clip((samples - middle) / max(spread, _NOISE_MIN), -_CLIP, _CLIP)
        past = np.arange(known, total - _NEW_MIN + 1)
        sums = np.cumsum(off)
        apart = (sums[-1] - sums[past - 1]) / (total - past) - sums[past - 1] / past
        error = max(1.0, float(off[:known].std())) * np.sqrt(1.0 / (total - past) + 1.0 / past)
        best = int(np.argmax(np.abs(apart) / error))
        change = abs(_median(samples[past[best] :]) - middle)
        if abs(apart[best]) < _LIMIT * error[best] or change < _CHANGE_MIN:
            return False
        _keep(self._samples, total - int(past[best]))
        return True


class _Shares:
    """Whether drafts were accepted: the likelihood of two rates against that of one."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=_DRAFTS_MAX)

    def add(self, value: float) -> bool:
        self._samples.append(value)
        total = len(self._samples)
        if total < _PAST_DRAFTS_MIN + _NEW_DRAFTS_MIN:
            return False
        sums = np.cumsum(np.array(self._samples))
        past = np.arange(_PAST_DRAFTS_MIN, total - _NEW_DRAFTS_MIN + 1)
        right, new = sums[past - 1], total - past
        two_rates = _likelihood(right, past) + _likelihood(sums[-1] - right, new)
        ratio = two_rates - _likelihood(sums[-1:], np.array([total]))
        best = int(np.argmax(ratio))
        change = abs((sums[-1] - right[best]) / new[best] - right[best] / past[best])
        if ratio[best] < _RATIO_LIMIT or change < _CHANGE_MIN:
            return False
        _keep(self._samples, int(new[best]))
        return True


def _median(values: Floats) -> float:
    return float(np.sort(values)[len(values) // 2])


def _keep(samples: deque[float], newest: int) -> None:
    """Begin anew with what came since the change."""
    while len(samples) > newest:
        samples.popleft()


def _likelihood(right: Floats, counts: NDArray[np.int_]) -> Floats:
    """The logarithm of the greatest likelihood of so many right ones of so many."""
    rate = np.clip(right / counts, _RATE_MIN, 1.0 - _RATE_MIN)
    total: Floats = right * np.log(rate) + (counts - right) * np.log(1.0 - rate)
    return total
