"""Tuners by name."""

from typing import Literal, get_args

from pipesd.errors import UsageError
from pipesd.tuner.base import FixedTuner, Space, Tuner, Unit
from pipesd.tuner.baseline import GridTuner, RandomTuner
from pipesd.tuner.closed_form import ClosedFormTuner
from pipesd.tuner.guided import GuidedTuner
from pipesd.tuner.paper import PaperTuner

TunerKind = Literal["model-guided", "closed-form", "paper", "grid", "random", "fixed"]
TUNERS: tuple[TunerKind, ...] = get_args(TunerKind)


def make_tuner(kind: str, space: Space, seed: int, *, unit: Unit | None = None) -> Tuner:
    """A new tuner; ``unit`` is where ``fixed`` stays, and means nothing to the others.

    Raises ``UsageError`` if there is no such kind, if ``fixed`` has no place in ``space``, or if a kind
    that needs the extra ``tuner`` does not find it.
    """
    match kind:
        case "model-guided":
            return GuidedTuner(space)
        case "closed-form":
            return ClosedFormTuner()
        case "paper":
            return PaperTuner(space, seed)
        case "grid":
            return GridTuner(space)
        case "random":
            return RandomTuner(space, seed)
        case "fixed":
            if unit is None:
                raise UsageError("the tuner 'fixed' needs a place to stay at; give it one")
            space.check(unit)
            return FixedTuner(unit)
        case _:
            raise UsageError(f"there is no tuner {kind!r}; choose one of {', '.join(TUNERS)}")
