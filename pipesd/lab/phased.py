"""A modelled machine whose pace depends on the moment, behind the door to blocking work."""

from collections.abc import Callable
from typing import TypeVar

from pipesd.actors.compute import ModelledCompute, Pace
from pipesd.lab.cycle import Cycle

T = TypeVar("T")


class PhasedCompute:
    """As ``ModelledCompute``; what work costs is what holds when it begins."""

    def __init__(self, pace: Cycle[Pace], clock: Callable[[], float]) -> None:
        self._pace = pace
        self._clock = clock
        self._machine = ModelledCompute(pace.at(clock()))

    async def run(self, work: Callable[[], T], tokens: int) -> T:
        """Wait for as long as the modelled machine would take, then do the work at once."""
        self._machine.pace = self._pace.at(self._clock())
        return await self._machine.run(work, tokens)

    def interrupt(self) -> None:
        """End the waiting."""
        self._machine.interrupt()

    def close(self) -> None:
        """Nothing is held."""
