"""How long a session waits whom a busy cloud has turned away, before it says the same again.

How long grows with every try, and differs from edge to edge, so that those turned away together do not come
back together.
"""

import math

from pipesd.session.luck import share_of
from pipesd.session.rules import EdgeRules

_DOUBLINGS_MAX = 3


class Doorstep:
    """When a session is to try again."""

    def __init__(self, number: int, rules: EdgeRules) -> None:
        self._number = number
        self._rules = rules
        self._tries = 0
        self._waiting_since = 0.0
        self.until = math.inf
        """When to say it again; infinite while the session was not turned away."""

    @property
    def is_waiting(self) -> bool:
        """Whether the session was turned away, and has not tried again yet."""
        return self.until < math.inf

    def answered(self) -> None:
        """The cloud has taken it in."""
        self._tries = 0

    def leave(self) -> None:
        """It tries again, or the cloud is gone."""
        self.until = math.inf

    def turn_away(self, retry_ms: int, now: float) -> float | None:
        """How long to wait, in seconds; None if that would be longer than the rules have patience for."""
        if self._tries == 0:
            self._waiting_since = now
        longer = 1 << min(self._tries, _DOUBLINGS_MAX)
        wait_s = retry_ms / 1e3 * longer * (0.5 + share_of(self._rules.luck, self._number, self._tries))
        self._tries += 1
        if now + wait_s > self._waiting_since + self._rules.patience.busy_s:
            return None
        self.until = now + wait_s
        return wait_s
