"""What every tuner is: asked for trials, told how they went, asked what to go on with.

Places of the searched space are points of the unit cube, one coordinate for each searched field of
``Thresholds``. The closed form of R1 moves with every measurement, so it is no place: None stands for it.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from pipesd.errors import UsageError
from pipesd.planner.trigger import Thresholds

Floats = NDArray[np.float64]

Unit = tuple[float, ...]
"""A place: a number from 0 to 1 for each name of the space."""

Prior = Callable[[Sequence[Unit | None]], Floats | None]
"""What a model says that J would be at some places, or (None) by the closed form, in ms per token; None while
it knows too little."""

AxisName = Literal["r1", "r2"]
AXES: tuple[AxisName, ...] = get_args(AxisName)

_LEAST_DOUBT = 1e-3
"""Axes are logarithmic in 1 - R down to this, and stretched a little to reach 1."""

_SPAN = 1.0 - _LEAST_DOUBT


@dataclass(frozen=True, slots=True)
class Space:
    """Which fields of ``Thresholds`` are searched. Raises ``UsageError`` if a name is unknown or repeated."""

    names: tuple[AxisName, ...] = ("r1", "r2")

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names) or not set(self.names) <= set(AXES):
            given = ", ".join(self.names) or "nothing"
            raise UsageError(f"a tuner searches some of {', '.join(AXES)}, each once, not {given}")

    def thresholds(self, unit: Unit, start: Thresholds) -> Thresholds:
        """What ``unit`` stands for; fields that are not searched are those of ``start``.

        Raises ``UsageError`` if ``unit`` is no place of this space.
        """
        self.check(unit)
        found = {name: _value_at(at) for name, at in zip(self.names, unit, strict=True)}
        return replace(start, r1=found.get("r1", start.r1), r2=found.get("r2", start.r2))

    def unit(self, thresholds: Thresholds) -> Unit:
        """Where ``thresholds`` are."""
        return tuple(_place_of(getattr(thresholds, name)) for name in self.names)

    def grid(self, per_axis: int) -> list[Unit]:
        """Evenly spread places, the corners included. Raises ``UsageError`` if ``per_axis`` is below 2."""
        if per_axis < 2:
            raise UsageError(f"per_axis: must be at least 2, not {per_axis}")
        axis = [number / (per_axis - 1) for number in range(per_axis)]
        return list(itertools.product(axis, repeat=len(self.names)))

    def check(self, unit: Unit) -> None:
        """Raise ``UsageError`` if ``unit`` is no place of this space."""
        if len(unit) != len(self.names) or not all(0.0 <= at <= 1.0 for at in unit):
            raise UsageError(f"a place has a number from 0 to 1 for each of {', '.join(self.names)}: {unit}")


def _value_at(at: float) -> float:
    return min(1.0, (1.0 - math.exp(at * math.log(_LEAST_DOUBT))) / _SPAN)


def _place_of(value: float) -> float:
    return min(1.0, max(0.0, math.log(1.0 - value * _SPAN) / math.log(_LEAST_DOUBT)))


@dataclass(frozen=True, slots=True)
class Trial:
    """Thresholds to be used for a while."""

    number: int
    """From 1; a tuner gives no number twice."""

    unit: Unit | None
    """None: leave R1 to the closed form, and the rest as it was."""


@dataclass(frozen=True, slots=True)
class Verdicted:
    """What was confirmed by one verdict, and what it took since the one before."""

    tokens: int
    elapsed_s: float
    """0 if it came together with the one before."""

    cloud_s: float
    """How long the target worked for it; 0 if it was answered without a pass of its own."""

    energy_j: float | None = None
    """None where it is not measured."""


@dataclass(frozen=True, slots=True)
class Window:
    """The verdicts of one trial, in order; fewer if the text ended."""

    verdicts: tuple[Verdicted, ...]

    @property
    def tokens(self) -> int:
        """Confirmed in all."""
        return sum(verdict.tokens for verdict in self.verdicts)

    @property
    def elapsed_s(self) -> float:
        """From before the first verdict to the last."""
        return sum(verdict.elapsed_s for verdict in self.verdicts)

    @property
    def cloud_s(self) -> float:
        """How long the target worked in all."""
        return sum(verdict.cloud_s for verdict in self.verdicts)

    @property
    def energy_j(self) -> float | None:
        """In all; None unless it was measured throughout."""
        known = [verdict.energy_j for verdict in self.verdicts if verdict.energy_j is not None]
        return sum(known) if known and len(known) == len(self.verdicts) else None


@dataclass(frozen=True, slots=True)
class Score:
    """What thresholds gave; the less the better. Raises ``UsageError`` if it is no possible cost."""

    value_ms: float
    """J, per confirmed token."""

    error_ms: float
    """Its standard error."""

    def __post_init__(self) -> None:
        if not (0.0 < self.value_ms < math.inf and 0.0 <= self.error_ms < math.inf):
            raise UsageError(f"a score is above 0 and finite, not {self.value_ms} ms ± {self.error_ms} ms")


class Tuner(Protocol):
    """Searches thresholds. All are deterministic: the same calls give the same trials."""

    def ask(self, prior: Prior | None = None) -> Trial:
        """What to try next. ``prior`` speaks of conditions as they are now."""
        ...

    def tell(self, trial: Trial, score: Score) -> None:
        """How a trial went; any trial, in any order, also one that was told before."""
        ...

    def best(self, prior: Prior | None = None) -> Unit | None:
        """What to go on with after the trials; None: the closed form."""
        ...

    def forget(self) -> None:
        """Conditions have changed: the trials so far no longer hold."""
        ...


class FixedTuner:
    """Has made up its mind."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._numbers = itertools.count(1)

    def ask(self, prior: Prior | None = None) -> Trial:
        """Always the same place."""
        return Trial(next(self._numbers), self._unit)

    def tell(self, trial: Trial, score: Score) -> None:
        """Learn nothing."""

    def best(self, prior: Prior | None = None) -> Unit | None:
        """Always the same place."""
        return self._unit

    def forget(self) -> None:
        """There is nothing to forget."""
