"""The default: a model says what all places would give, and trials correct it where it is wrong.

The model, handed in with every question, speaks of conditions as they are now. It is off by a few percent,
and by something that all places share. A window of 20 tokens is off by far more: so the model leads, and no
trial goes where it is known to be expensive.
"""

import itertools
import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipesd.errors import UsageError
from pipesd.tuner import gp
from pipesd.tuner.base import Floats, Prior, Score, Space, Trial, Unit

PER_AXIS = 20
TRIALS_MAX = 64
"""The oldest is forgotten first."""

MODEL_ERROR = 0.025
"""Standard deviation of the model's error from place to place, relative to J."""

_FREE = 0.03
"""Nothing is tried that is expected to cost so much more than the best, relative to J."""

_SMOOTHING = 0.07
"""Standard deviation, in the unit cube, of the bell that averages neighbours: what the model says of
a single place hangs on a few drafts of its record."""

_ALIKE = 1e-9
"""Candidates that differ by no more cannot be told apart."""


@dataclass(frozen=True, slots=True)
class _View:
    """What is believed of the candidates that the model knows."""

    places: NDArray[np.intp]
    posterior: gp.Posterior
    least_ms: float
    """J of the best candidate, as the model has it."""

    closed_ms: float
    """J of the closed form, as the model has it; infinite if it does not say."""

    @property
    def is_worth_it(self) -> bool:
        """Whether the best candidate is expected to gain something over the closed form."""
        return float(self.posterior.mean_ms.min()) < self.closed_ms - _ALIKE


class GuidedTuner:
    """Candidates are the points of a grid. Without torch the model is believed as it is."""

    def __init__(self, space: Space, per_axis: int = PER_AXIS) -> None:
        self._per_axis = per_axis
        self._candidates = space.grid(per_axis)
        self._places = np.array(self._candidates)
        self._numbers = itertools.count(1)
        self._told: deque[tuple[Unit, Score]] = deque(maxlen=TRIALS_MAX)
        self._last: Unit | None = None
        """Used last: where it does not matter, thresholds stay."""

        self.learns = _can_learn()
        """Whether trials teach it anything; they do not if torch is missing."""

    def ask(self, prior: Prior | None = None) -> Trial:
        """Where most is to be gained, of what costs next to nothing to try."""
        number = next(self._numbers)
        view = self._view(prior)
        if view is None or not view.is_worth_it:
            return Trial(number, None)
        mean_ms = view.posterior.mean_ms
        is_free = mean_ms <= mean_ms.min() + _FREE * view.least_ms
        merit = np.where(is_free, view.posterior.merit, -np.inf)
        return Trial(number, self._nearest(view.places[merit >= merit.max() - _ALIKE]))

    def tell(self, trial: Trial, score: Score) -> None:
        """Remember the score, unless it is the closed form's, which is no place."""
        if trial.unit is not None:
            self._told.append((trial.unit, score))

    def best(self, prior: Prior | None = None) -> Unit | None:
        """Where the least is expected."""
        view = self._view(prior)
        if view is None or not view.is_worth_it:
            return None
        mean_ms = view.posterior.mean_ms
        return self._nearest(view.places[mean_ms <= mean_ms.min() + _ALIKE])

    def forget(self) -> None:
        """Only the model is left."""
        self._told.clear()

    def _view(self, prior: Prior | None) -> _View | None:
        """None if nothing is known of any candidate."""
        tried = [unit for unit, _ in self._told] if self.learns else []
        asked: list[Unit | None] = [*dict.fromkeys([*self._candidates, *tried]), None]
        said = prior(asked) if prior is not None else None
        if said is None:
            return None
        is_known = np.isfinite(said) & (said > 0.0)
        said = self._smoothed(said, is_known)
        places = np.flatnonzero(is_known[: len(self._candidates)])
        if not len(places):
            return None
        model_ms, least_ms = said[places], float(said[places].min())
        known = {asked[place]: float(said[place]) for place in np.flatnonzero(is_known)}
        closed_ms = known.get(None, math.inf)
        seen = self._compare(known)
        if seen is None:
            return _View(places, gp.by_model(model_ms), least_ms, closed_ms)
        posterior = gp.posterior(seen, self._places[places], model_ms, MODEL_ERROR * least_ms)
        return _View(places, posterior, least_ms, closed_ms)

    def _smoothed(self, said: Floats, is_known: NDArray[np.bool_]) -> Floats:
        """The candidates' share of it averaged with their neighbours, where all of these are known."""
        count, per_axis = len(self._candidates), self._per_axis
        if not is_known[:count].all():
            return said
        table = said[:count].reshape((per_axis,) * self._places.shape[1])
        return np.concatenate([smoothed(table).ravel(), said[count:]])

    def _compare(self, said_ms: dict[Unit | None, float]) -> gp.Tried | None:
        """The trials beside what the model says of their places now; None if there are none."""
        known = [(unit, score) for unit, score in self._told if unit in said_ms]
        if not known or not self.learns:
            return None
        return gp.Tried(
            units=np.array([unit for unit, _ in known]),
            residuals_ms=np.array([score.value_ms - said_ms[unit] for unit, score in known]),
            errors_ms=np.array([score.error_ms for _, score in known]),
        )

    def _nearest(self, alike: NDArray[np.intp]) -> Unit:
        """Of candidates that are as good as each other, the one that changes least; at first a middle one."""
        places: Floats = self._places[alike]
        start = places.mean(axis=0) if self._last is None else np.array(self._last)
        self._last = self._candidates[alike[np.argmin(np.sum((places - start) ** 2, axis=1))]]
        return self._last


def _can_learn() -> bool:
    try:
        gp.prepare()
    except UsageError:
        return False
    return True


def smoothed(table: Floats) -> Floats:
    """What is said of evenly spread places, averaged with their neighbours; each axis of ``table`` alike.

    Beyond the borders of the cube the outermost values go on.
    """
    # Imported here: it takes a third of a second, and memory, and most who import this do not tune.
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415

    smooth: Floats = gaussian_filter(table, _SMOOTHING * (len(table) - 1), mode="nearest")
    return smooth
