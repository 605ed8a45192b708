"""Where one direction of a link ends, as faults have it: what arrives passes at once, late, changed or never.

It runs on any loop, in virtual time and in wall time.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pipesd.lab.faults import LinkFault, spoilt


class Sink(Protocol):
    """What takes the messages of one direction."""

    def write(self, data: bytes) -> None:
        """Take a message; it is not empty."""

    def write_end(self) -> None:
        """Nothing more will come."""


class Gate:
    """A sink in front of a sink. At most one fault waits in it for a message."""

    def __init__(self, sink: Sink, met: Callable[[LinkFault], None]) -> None:
        """``met`` hears of each fault that has met its message, once what is left of that has passed."""
        self._sink = sink
        self._met = met
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes] = deque()
        self._armed: LinkFault | None = None
        self._opening: asyncio.TimerHandle | None = None
        self._is_over = False

        self.on_shut: Callable[[bool], None] = _nobody_asks
        """Hears whether the gate is shut; who sends to it can wait meanwhile."""

    def write(self, data: bytes) -> None:
        """A message arrives."""
        if not self._is_over:
            self._waiting.append(data)
            self._pass_on()

    def write_end(self) -> None:
        """The end arrives."""
        self.end()

    def end(self) -> bool:
        """End behind what has arrived, and swallow all that still comes. False if it has ended already."""
        if self._is_over:
            return False
        self._is_over = True
        self._waiting.append(b"")
        self._pass_on()
        return True

    def arm(self, fault: LinkFault) -> bool:
        """Let the fault meet the next message that passes. False if another one waits, or none will pass."""
        if self._is_over or self._armed is not None:
            return False
        self._armed = fault
        return True

    def disarm(self) -> None:
        """Let the next message pass unharmed."""
        self._armed = None

    def shut(self, until: float) -> None:
        """Let nothing pass before ``until``, on the loop's clock."""
        if self._opening is None:
            self.on_shut(True)
        elif self._opening.when() >= until:
            return
        else:
            self._opening.cancel()
        self._opening = self._loop.call_at(until, self._open)

    def close(self) -> None:
        """Let nothing pass any more, not even an end."""
        self._is_over = True
        self._waiting.clear()
        if self._opening is not None:
            self._opening.cancel()

    def _open(self) -> None:
        self._opening = None
        self.on_shut(False)
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting and self._opening is None:
            data = self._waiting.popleft()
            if data:
                self._pass(data)
            else:
                self._sink.write_end()

    def _pass(self, data: bytes) -> None:
        fault, self._armed = self._armed, None
        if fault is None:
            self._sink.write(data)
            return
        if fault.kind == "delay":
            self._waiting.appendleft(data)
            self.shut(self._loop.time() + fault.lasts_s)
        elif left := spoilt(fault, data):
            self._sink.write(left)
        self._met(fault)


def _nobody_asks(is_shut: bool) -> None:
    """There is no sender to wait."""
