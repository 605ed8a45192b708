"""What any cleverer tuner must beat: random places, and a coarse grid."""

import itertools

import numpy as np

from pipesd.tuner.base import Prior, Score, Space, Trial, Unit


class Observed:
    """The mean score of each place that was tried."""

    def __init__(self) -> None:
        self._scores: dict[Unit, list[float]] = {}

    def add(self, trial: Trial, score: Score) -> None:
        """Note a score, unless it is the closed form's, which is no place."""
        if trial.unit is not None:
            self._scores.setdefault(trial.unit, []).append(score.value_ms)

    def means(self) -> dict[Unit, float]:
        """In the order in which places were first told."""
        return {unit: sum(values) / len(values) for unit, values in self._scores.items()}

    def best(self) -> Unit | None:
        """The place with the lowest mean; None if there is none."""
        means = self.means()
        return min(means, key=means.__getitem__, default=None)

    def clear(self) -> None:
        """Forget all scores."""
        self._scores.clear()


class Observing:
    """Of a tuner that goes on with the best place it has seen."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._observed = Observed()

    def tell(self, trial: Trial, score: Score) -> None:
        """Remember the score."""
        self._observed.add(trial, score)

    def best(self, prior: Prior | None = None) -> Unit | None:
        """The best of what was seen."""
        return self._observed.best()

    def forget(self) -> None:
        """Forget all scores."""
        self._observed.clear()


class RandomTuner(Observing):
    """Places drawn evenly from the unit cube, for ever."""

    def __init__(self, space: Space, seed: int) -> None:
        self._axes = len(space.names)
        super().__init__()
        self._luck = np.random.default_rng(seed)

    def ask(self, prior: Prior | None = None) -> Trial:
        """Somewhere."""
        return Trial(next(self._numbers), tuple(self._luck.random(self._axes).tolist()))


class GridTuner(Observing):
    """Evenly spread places, one after the other; then the best of them."""

    def __init__(self, space: Space, per_axis: int = 4) -> None:
        self._places = space.grid(per_axis)
        super().__init__()
        self._next = iter(self._places)

    def ask(self, prior: Prior | None = None) -> Trial:
        """The next place; the best one behind the last."""
        return Trial(next(self._numbers), next(self._next, None) or self.best(prior))

    def forget(self) -> None:
        """Begin with the first place again."""
        super().forget()
        self._next = iter(self._places)
