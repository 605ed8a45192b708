"""Which sessions have a place in the model's cache, and what is left in it of those that had.

A place is one sequence of the engine. A session that has none is given one when its turn at the model comes,
and is read anew from its transcript; one that begins as another began, such as with the same system prompt,
begins with a copy of that. Copies end at a border of prompt chunks, which exact numerics need.
"""

import math
from collections.abc import Container
from dataclasses import dataclass, field

from pipesd.session.cloud import CloudSession

TENURE_S = 1.0
"""How long a session keeps its place at least while it is written to, however many wait for one; and until it
has got a verdict out of it, for otherwise long texts that push each other out would be read for ever."""


@dataclass(slots=True, eq=False)
class _Place:
    sequence: int
    session: CloudSession | None = None
    since: float = 0.0
    rest: list[int] = field(default_factory=list)
    """Whole chunks that a session which has left began with, and which are in the cache still."""

    @property
    def prefix(self) -> tuple[list[int], int]:
        """A text, and how many of its first tokens, whole chunks of a prompt, can be copied from here."""
        if self.session is None:
            return self.rest, len(self.rest)
        return self.session.tokens, self.session.cached_prefix_tokens


class Places:
    """As many places as the engine has sequences; the one used longest ago comes first."""

    def __init__(self, count: int, chunk_tokens: int) -> None:
        self._chunk_tokens = chunk_tokens
        self._places = {sequence: _Place(sequence) for sequence in range(count)}

    def take(self, session: CloudSession, taken: Container[int], now: float) -> bool | None:
        """Give ``session`` a place, but none of ``taken``; whether another session lost it.

        None if there is no place for it now; ``next_free`` says when there may be one.
        """
        place = self._free_place(session) or self._taken_away(taken, now)
        if place is None:
            return None
        source, shared = self._best_copy(session, place)
        evicted = place.session
        if evicted is not None:
            evicted.stand()
        copy_of = source.sequence if shared and source is not place else None
        place.session, place.since, place.rest = session, now, []
        session.sit(place.sequence, shared, copy_of)
        self.used(place.sequence)
        return evicted is not None

    def used(self, sequence: int) -> None:
        """It takes part in a pass."""
        self._places[sequence] = self._places.pop(sequence)

    def leave(self, session: CloudSession) -> int | None:
        """The session is over; the sequence that the engine may forget, if nothing in it is worth keeping."""
        if session.sequence is None:
            return None
        place = self._places[session.sequence]
        place.rest, place.session = session.tokens[: session.cached_prefix_tokens], None
        session.stand()
        return None if place.rest else place.sequence

    def spoil(self, sequence: int) -> None:
        """Nothing is known any more about what the cache holds there."""
        place = self._places[sequence]
        place.rest = []
        if place.session is not None:
            place.session.stand()
            place.session = None

    def spoil_all(self) -> None:
        """The engine was started anew."""
        for sequence in tuple(self._places):
            self.spoil(sequence)

    def next_free(self) -> float:
        """When the next session may lose its place; infinite if a pass must come first."""
        there = ((place.session, place.since) for place in self._places.values())
        return min(
            (since + TENURE_S for session, since in there if session is not None and session.made_use),
            default=math.inf,
        )

    def _free_place(self, session: CloudSession) -> _Place | None:
        free = [place for place in self._places.values() if place.session is None]
        if not free:
            return None
        return max(free, key=lambda place: (self._shared(session, place), -len(place.rest)))

    def _taken_away(self, taken: Container[int], now: float) -> _Place | None:
        """That of a session which is not written to, or else has been there for long enough."""
        there = [
            (place, place.session)
            for place in self._places.values()
            if place.session is not None and place.sequence not in taken
        ]
        for place, session in there:
            if session.is_idle or not (session.is_due or session.made_use):
                return place
        ripe = [pair for pair in there if pair[1].made_use and now >= pair[0].since + TENURE_S]
        for place, session in ripe:
            if not session.is_due:
                return place
        return ripe[0][0] if ripe else None

    def _best_copy(self, session: CloudSession, place: _Place) -> tuple[_Place, int]:
        """Where most of the beginning of ``session`` is, and how many tokens; ``place`` if in doubt."""
        candidates = [place, *(other for other in self._places.values() if other is not place)]
        best = max(candidates, key=lambda candidate: self._shared(session, candidate))
        return best, self._shared(session, best)

    def _shared(self, session: CloudSession, place: _Place) -> int:
        """How many tokens of whole chunks both begin with."""
        ours, (theirs, most), size = session.tokens, place.prefix, self._chunk_tokens
        shared, most = 0, min(most, session.prefix_tokens)
        while shared < most and ours[shared : shared + size] == theirs[shared : shared + size]:
            shared += size
        return shared
