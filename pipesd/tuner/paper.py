"""The tuner of the PipeSD paper (arXiv 2605.13319), for comparison.

A Gaussian process over R1 and R2 themselves, linear between 0 and 1; one random start, then expected
improvement, 16 evaluations of 20 tokens in all; what it found best when it ran, it goes on with.
"""

import numpy as np

from pipesd.planner.trigger import Thresholds
from pipesd.tuner import gp
from pipesd.tuner.base import Floats, Prior, Space, Trial, Unit
from pipesd.tuner.baseline import Observing

EVALUATIONS = 16
WINDOW_TOKENS = 20
"""Of each evaluation."""

XI = 0.1
"""In standard deviations of the scores so far; the paper does not say of what."""

_CANDIDATES = 1024
"""Places, drawn anew each time, among which the expected improvement is compared."""


class PaperTuner(Observing):
    """Needs torch: raises ``UsageError`` if it is missing."""

    def __init__(self, space: Space, seed: int) -> None:
        gp.prepare()
        super().__init__()
        self._space = space
        self._luck = np.random.default_rng(seed)
        self._asked = 0

    def ask(self, prior: Prior | None = None) -> Trial:
        """The next evaluation; the best one behind the last."""
        self._asked += 1
        unit = self.best() if self._asked > EVALUATIONS else self._next()
        return Trial(next(self._numbers), unit)

    def forget(self) -> None:
        """Begin with a random start again."""
        super().forget()
        self._asked = 0

    def _next(self) -> Unit:
        candidates = self._luck.random((_CANDIDATES, len(self._space.names)))
        seed = int(self._luck.integers(2**31))
        means = self._observed.means()
        if not means:
            return self._unit(candidates[0])
        tried = np.array([self._linear(unit) for unit in means])
        merit = gp.fitted_merit(tried, np.array(list(means.values())), candidates, XI, seed)
        return self._unit(candidates[0 if merit is None else int(np.argmax(merit))])

    def _unit(self, linear: Floats) -> Unit:
        given = dict(zip(self._space.names, linear.tolist(), strict=True))
        return self._space.unit(Thresholds(r1=given.get("r1", 0.0), r2=given.get("r2", 0.0)))

    def _linear(self, unit: Unit) -> list[float]:
        thresholds = self._space.thresholds(unit, Thresholds())
        return [getattr(thresholds, name) for name in self._space.names]
