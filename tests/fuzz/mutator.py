"""Changes to programs that keep them programs: records come, go and change places, or one is changed."""

from collections.abc import Callable

from tests.fuzz.tape import RECORD_BYTES_MAX, program, records

Mutate = Callable[[bytes, int], bytes]
"""Changes bytes somehow; the result has at most so many."""

_FRESH_BYTES_MAX = 6
_RUN_RECORDS_MAX = 8


class _Dice:
    """A few numbers out of a seed of 32 bits; ``random`` takes longer to begin than all else here."""

    def __init__(self, seed: int) -> None:
        self._left = (seed + 1) * 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio

    def below(self, count: int) -> int:
        self._left, number = divmod(self._left, count)
        return number


def mutated(data: bytes, size_max: int, seed: int, mutate: Mutate) -> bytes:
    """Another program of at most ``size_max`` bytes; ``seed`` says what is done to it."""
    dice = _Dice(seed)
    kind = dice.below(16)
    if kind == 0:
        return mutate(data, size_max)
    parts = list(records(data))
    at = dice.below(len(parts) + 1)
    end = at + 1 + dice.below(_RUN_RECORDS_MAX)
    if kind == 1:
        del parts[at:end]
    elif kind == 2:
        there = dice.below(len(parts) + 1)
        parts[there:there] = parts[at:end]
    elif kind == 3:
        parts[at:end] = reversed(parts[at:end])
    elif kind < 6 or at == len(parts):
        parts.insert(at, mutate(b"", 1 + dice.below(_FRESH_BYTES_MAX)))
    else:
        parts[at] = mutate(parts[at], RECORD_BYTES_MAX)
    return program(parts)[:size_max]


def crossed(one: bytes, other: bytes, size_max: int, seed: int) -> bytes:
    """The beginning of one program, and the end of another."""
    dice = _Dice(seed)
    begin, end = list(records(one)), list(records(other))
    parts = begin[: dice.below(len(begin) + 1)] + end[dice.below(len(end) + 1) :]
    return program(parts)[:size_max]
