"""Inputs of the fuzzer as programs: records of up to 255 bytes, each with its length before it.

Any bytes are a program, and what a record's bytes mean is up to its reader. Behind their end there are only
zeros, which every reader takes for the plausible choice: a short record says much, and programs still make
sense when records are cut, repeated or exchanged.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

RECORD_BYTES_MAX = 255


def records(data: bytes) -> Iterator[bytes]:
    """The records of a program; the last may be cut short."""
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        yield data[at + 1 : end]
        at = end


def program(parts: Iterable[bytes]) -> bytes:
    """The program of these records."""
    return b"".join(bytes([len(part)]) + part for part in parts)


class Tape:
    """Reads a record."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """The next byte."""
        at = self._at
        if at >= len(self._data):
            return 0
        self._at = at + 1
        return self._data[at]

    def pick(self, choices: Sequence[T]) -> T:
        """One of at most 256; the first is the plausible one."""
        return choices[self.byte() % len(choices)]

    def chance(self, of_256: int) -> bool:
        """True for so many of 256 bytes; behind the end it is False."""
        return self.byte() >= 256 - of_256

    def number(self, low: int, high: int) -> int:
        """Within the bounds, which belong to it: mostly near ``low``, else near ``high``, or anywhere."""
        first = self.byte()
        if first < 224:
            return min(low + first, high)
        if first < 232:
            return max(low, high - (first & 7))
        return low + int.from_bytes(self.take(1 + (first & 7)), "big") % (high - low + 1)

    def take(self, count: int) -> bytes:
        """The next bytes; fewer at the end."""
        start = self._at
        self._at += count
        return self._data[start : self._at]

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))
