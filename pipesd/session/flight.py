"""What the cloud holds of an answer that is being written, and of the session's share of the running pass."""

from dataclasses import dataclass

import msgspec

from pipesd.session.ledger import first_of
from pipesd.values import Finish, Sampling


@dataclass(frozen=True, slots=True)
class Answer:
    """One generation."""

    limit: int
    """Position at which ``tokens_max`` ends it."""

    sampling: Sampling
    seed: int

    def cut(
        self, news: list[int], length: int, context_tokens: int, end_ids: frozenset[int]
    ) -> tuple[list[int], Finish | None]:
        """What of ``news`` the text of ``length`` tokens still takes, up to the first end id and the limits.

        And why the generation ends with it, if it does.
        """
        room = (self.limit if self.limit < context_tokens else context_tokens) - length
        count, ends = len(news), first_of(end_ids, news)
        if ends < count and ends < room:
            return news[: ends + 1], "stop"
        if count < room:
            return news, None
        return news[:room], "length" if self.limit <= context_tokens else "context"


class Flight(msgspec.Struct, gc=False):
    """The session's share of the pass that is running."""

    end: int
    """Tokens that will be in the cache after it, drafts included."""

    drafts: int
    picks: int
    started: float
    queued_s: float
    """How long a verdict was due before; 0 for drafts that nobody asked about."""

    stale: bool = False
    """Whether its result is of no use any more."""


class Losses:
    """The passes that a session was in and that were lost, as far as it may be to blame for them.

    Whoever ends the engine with what is at a certain position was always in a pass that went beyond it. So a
    pass that was done, and went as far as the shortest one that was lost, clears the session.
    """

    def __init__(self) -> None:
        self.count = 0
        self._shortest_end = 2**63

    def lost(self, end: int) -> None:
        """A pass up to ``end`` was lost."""
        self.count += 1
        self._shortest_end = min(self._shortest_end, end)

    def done(self, end: int) -> None:
        """A pass up to ``end`` was done."""
        if end >= self._shortest_end:
            self.count, self._shortest_end = 0, 2**63
