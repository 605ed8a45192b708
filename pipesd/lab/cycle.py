"""What holds by turns, each for so long, and then from the first again."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, TypeVar

T = TypeVar("T")


class Cycle(Generic[T]):
    """Values for spans of time; one alone holds for good. It begins at 0."""

    def __init__(self, spans: Sequence[tuple[float, T]]) -> None:
        """``spans`` are (seconds, value), one at least; seconds are above 0."""
        self._values = [value for _, value in spans]
        self._ends = list(accumulate(seconds for seconds, _ in spans))

    @property
    def values(self) -> Sequence[T]:
        """All that hold at some time, in order."""
        return self._values

    def at(self, moment: float) -> T:
        """What holds then."""
        return self._values[self._place(moment)[0]]

    def until(self, moment: float) -> float:
        """When something else holds, after ``moment``."""
        return self._place(moment)[1]

    def _place(self, moment: float) -> tuple[int, float]:
        if len(self._values) == 1:
            return 0, math.inf
        whole_s = self._ends[-1]
        rounds = int(moment // whole_s)
        while True:
            for place, end in enumerate(self._ends):
                until = rounds * whole_s + end
                if moment < until:
                    return place, until
            rounds += 1  # the division was rounded down
