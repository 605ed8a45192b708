"""What a session does whom a busy cloud has turned away: it waits a while, and says the same again.

How long grows with every try, and differs from edge to edge, so that those turned away together do not come
back together.
"""

import math
from collections.abc import Iterator
from hashlib import blake2b

from msgspec import structs

from pipesd.session.rules import EdgeRules
from pipesd.wire.frames import Cancel, Close, Open, Prompt

_DOUBLINGS_MAX = 3


class Doorstep:
    """The prompts that the cloud has not answered yet, and when they are to be said again."""

    def __init__(self, number: int, rules: EdgeRules) -> None:
        self._number = number
        self._rules = rules
        self._is_open = False
        self._said: list[Prompt | Cancel] = []
        """All that was said, until the session is open; then the prompt that is not answered."""

        self._tries = 0
        self._waiting_since = 0.0
        self.until = math.inf
        """When to say it again; infinite while the session was not turned away."""

    @property
    def is_waiting(self) -> bool:
        """Whether the session was turned away, and has not tried again yet."""
        return self.until < math.inf

    def say(self, frame: Prompt | Cancel) -> bool:
        """Note what is to be said; whether it may be said now."""
        if not self._is_open:
            self._said.append(frame)
            return not self.is_waiting
        self._said = [frame] if isinstance(frame, Prompt) else []
        self.until = math.inf
        return True

    def opened(self) -> None:
        """The cloud has the session."""
        self._is_open = True
        self._said = [frame for frame in self._said[-1:] if isinstance(frame, Prompt)]

    def answered(self) -> None:
        """The cloud has taken the prompt."""
        self._said.clear()
        self._tries = 0

    def turn_away(self, retry_ms: int, now: float) -> float | None:
        """How long to wait, in seconds; None if that would be longer than the rules have patience for."""
        if self._tries == 0:
            self._waiting_since = now
        longer = 1 << min(self._tries, _DOUBLINGS_MAX)
        wait_s = retry_ms / 1e3 * longer * (0.5 + self._luck())
        self._tries += 1
        if now + wait_s > self._waiting_since + self._rules.patience.busy_s:
            return None
        self.until = now + wait_s
        return wait_s

    def _luck(self) -> float:
        """Between 0 and 1, and another one for every edge, session and try."""
        text = f"{self._rules.luck} {self._number} {self._tries}"
        return int.from_bytes(blake2b(text.encode(), digest_size=7).digest(), "big") / 2**56

    def again(self, epoch: int) -> Iterator[Close | Open | Prompt | Cancel]:
        """What is to be said, the last prompt as of ``epoch``."""
        self.until = math.inf
        if not self._is_open:
            yield Close(self._number)
            yield Open(self._number)
        last = self._said[-1] if self._said else None
        if isinstance(last, Prompt):
            self._said[-1] = structs.replace(last, epoch=epoch)
        yield from self._said
