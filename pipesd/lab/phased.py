"""A modelled machine whose pace depends on the moment, behind the door to blocking work."""

from collections.abc import Callable

from pipesd.actors.compute import ModelledCompute, Pace
from pipesd.lab.cycle import Cycle


class PhasedCompute(ModelledCompute):
    """As ``ModelledCompute``; what work costs is what holds when it begins."""

    def __init__(self, paces: Cycle[Pace], clock: Callable[[], float]) -> None:
        super().__init__(paces.at(clock()))
        self._paces = paces
        self._clock = clock

    @property
    def pace(self) -> Pace:
        """What holds now."""
        return self._paces.at(self._clock())
