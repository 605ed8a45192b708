"""Which verdicts the cloud owes a session, and since when one has been due."""

from collections import deque

from pipesd.errors import PeerError
from pipesd.session.rules import ASKS_MAX


class Owed:
    """The asks that are not answered."""

    def __init__(self) -> None:
        self.asks: deque[tuple[int, float]] = deque()
        """(position, when it came) of each, in order; to be read only."""

        self.since = 0.0
        """When the next verdict became due, while there is one."""

    def ask(self, position: int, now: float) -> None:
        """Verdicts are owed until the text is ``position`` long. Raises ``PeerError`` if that is too much."""
        if not self.asks:
            self.since = now
        elif len(self.asks) == ASKS_MAX:
            raise PeerError("protocol", f"more than {ASKS_MAX} unanswered asks")
        else:
            position = max(position, self.asks[-1][0])
        self.asks.append((position, now))

    def clear(self) -> None:
        """Nothing is owed any more."""
        self.asks.clear()

    def answered(self, length: int, began: float, now: float) -> None:
        """The text is ``length`` long, after a pass that ``began`` then.

        What came during the pass has been due since then; what the pass served is due anew.
        """
        while self.asks and self.asks[0][0] <= length:
            self.asks.popleft()
        came = self.asks[0][1] if self.asks else now
        self.since = came if came > began else now

    def validate(self, length: int) -> None:
        """Assert what must hold between any two events."""
        assert all(ask > length for ask, _ in self.asks), "an answered ask is still owed"
        assert len(self.asks) <= ASKS_MAX, "too many asks"
