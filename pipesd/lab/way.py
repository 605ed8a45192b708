"""One direction of a connection between real sockets, as ``lab.emulator`` has it.

What one read returns is a message. While it occupies the link nothing more is read, so that its sender feels
it; it is written when it arrives.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pipesd.lab.emulator import LinkEmulator
from pipesd.lab.gate import Sink

Charge = Callable[[bytes], int]

TRAVELLING_BYTES_MAX = 1 << 24
"""More than this does not travel at once, each way: a window of TCP has its end as well."""

LATE_MAX_S = 0.001
"""So much of a timer's lateness is made up for, that a busy link keeps its rate."""


class Source(Protocol):
    """What a way reads from."""

    def read_on(self, is_wanted: bool) -> None:
        """Read the next message, or none for now."""


class Way:
    """One direction of a connection: messages that were read at one end and travel to the other."""

    def __init__(
        self, emulator: LinkEmulator, source: Source, sink: Sink, *, began: float, charge: Charge = len
    ) -> None:
        """``began`` is when the emulator's time was 0, on the clock of the loop."""
        self._loop = asyncio.get_running_loop()
        self._emulator = emulator
        self._source = source
        self._sink = sink
        self._began = began
        self._charge = charge
        self._travelling: deque[tuple[float, bytes]] = deque()
        self._travelling_bytes = 0
        self._reads = self._occupied = self._held = self._shut = self._ended = self._closed = False
        self._just_freed = False
        self._freeing: asyncio.TimerHandle | None = None
        self._arriving: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Read the first message."""
        self._steer()

    def take(self, data: bytes) -> None:
        """A message was read."""
        now = self._now()
        if self._just_freed:
            now = max(self._emulator.free_at, now - LATE_MAX_S)
        free_at, arrival = self._emulator.send(now, self._charge(data))
        self._occupied = True
        self._freeing = self._loop.call_at(self._began + free_at, self._free)
        self._travel(arrival, data)

    def take_end(self) -> None:
        """The source will send no more."""
        self._ended = True
        self._travel(self._emulator.end(self._now()), b"")

    def hold(self, is_held: bool) -> None:
        """Whether the sink is slow to take what it was given; then nothing more is read."""
        self._held = is_held
        self._steer()

    def shut(self, is_shut: bool) -> None:
        """Whether a fault keeps everything from passing; then nothing more is read."""
        self._shut = is_shut
        self._steer()

    def close(self) -> None:
        """Let nothing more happen."""
        self._closed = True
        for timer in (self._freeing, self._arriving):
            if timer is not None:
                timer.cancel()

    def _now(self) -> float:
        return self._loop.time() - self._began

    def _travel(self, arrival: float, data: bytes) -> None:
        self._travelling.append((arrival, data))
        self._travelling_bytes += len(data)
        if len(self._travelling) == 1:
            self._await_next()
        self._steer()

    def _await_next(self) -> None:
        self._arriving = self._loop.call_at(self._began + self._travelling[0][0], self._arrive)

    def _free(self) -> None:
        """Let the next message in. If it is read in the next turn of the loop, it has waited for the link.

        It then begins when the link was free, not when a timer said so, which is a little later.
        """
        self._occupied = False
        self._just_freed = True
        self._loop.call_soon(self._loop.call_soon, self._forget)
        self._steer()

    def _forget(self) -> None:
        self._just_freed = False

    def _arrive(self) -> None:
        _, data = self._travelling.popleft()
        self._travelling_bytes -= len(data)
        if self._travelling:
            self._await_next()
        if data:
            self._sink.write(data)
        else:
            self._sink.write_end()
        self._steer()

    def _steer(self) -> None:
        """Read exactly while a message could leave at once."""
        is_full = self._travelling_bytes > TRAVELLING_BYTES_MAX
        reads = not (self._occupied or self._held or self._shut or self._ended or is_full)
        if reads != self._reads and not self._closed:
            self._reads = reads
            self._source.read_on(reads)
