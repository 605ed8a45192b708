"""Notices that the world has changed for good: draft steps, link, or target.

Each stream of measurements is split into its past and its newest samples, in every way that is possible, and
the split under which the two differ most is looked at: a test of the likelihood ratio. One odd sample, or
two, change nothing.

How often drafts are right is no such stream: it differs from text to text, and the model's record follows.
"""

import math
from collections import deque
from typing import Literal, get_args

import numpy as np

from pipesd.errors import UsageError
from pipesd.tuner.base import Floats

Stream = Literal["draft", "link", "pass"]
STREAMS: tuple[Stream, ...] = get_args(Stream)

_LIMIT = 4.8
"""Standard errors by which times past and present must differ. Many splits are looked at with every sample,
and deviations are only estimated; see the tests for how often it is wrong."""

_CHANGE_MIN = 0.1
"""A smaller change does not count, however sure it is: in logarithms of times."""

_PAST_MIN, _PAST_MAX = 16, 96
_NEW_MIN, _NEW_MAX = 5, 32
"""Times that are compared."""

_TIME_MIN = 1e-4
"""Seconds; what takes less counts as this much."""

_NOISE_MIN = 0.05
"""Relative deviation of times, at least."""

_FEW = 6.0
_CLIP = 3.0
"""Deviations; an odd time counts as this far off at most."""

_NORMAL = 1.4826
"""Standard deviations per median absolute deviation, for normal errors."""


class Drift:
    """All streams of one edge."""

    def __init__(self) -> None:
        self._streams: dict[str, _Times] = {name: _Times() for name in STREAMS}

    def note(self, name: str, value: float) -> bool:
        """Note a time in seconds.

        True when that stream has changed for good; it then begins anew with what came since. What is no
        possible time says nothing. Raises ``UsageError`` if there is no such stream.
        """
        if name not in self._streams:
            raise UsageError(f"there is no stream {name!r}; choose one of {', '.join(STREAMS)}")
        return 0.0 <= value < math.inf and self._streams[name].add(value)


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
        for _ in range(int(past[best])):  # begin anew with what came since the change
            self._samples.popleft()
        return True


def _median(values: Floats) -> float:
    return float(np.sort(values)[len(values) // 2])
