"""Which sessions share a pass of the target model.

Those that wait longest come first. Prompts of all sessions together get no more of a pass than one chunk, so
that a long prompt cannot hold up other sessions' verdicts by more than that; but for a session that is the
only one that is written to.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pipesd.session.cloud import CloudSession
from pipesd.session.places import Places
from pipesd.values import Slice


@dataclass(frozen=True, slots=True)
class Share:
    """One session's part of a pass."""

    session: CloudSession
    slices: tuple[Slice, ...]

    @property
    def sequence(self) -> int:
        """Its place in the model's cache."""
        return self.slices[0].sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class PassLimits:
    """How much goes into one pass."""

    tokens: int
    """Of output and drafts."""

    prompt_tokens: int
    """Of prompts, beside these; at least the size of a chunk."""

    sessions: int


def collect(
    due: Iterable[CloudSession], limits: PassLimits, places: Places, now: float
) -> tuple[list[Share], int]:
    """Fill a pass from sessions, oldest first; and how many sessions lost their place for it.

    Sessions left out stay due.
    """
    shares: list[Share] = []
    taken: set[int] = set()
    room, prompt_room, evicted = limits.tokens, limits.prompt_tokens, 0
    is_full = False
    for session in due:
        if room < 1 + bool(shares) or len(shares) == limits.sessions:
            break  # a last token alone would only judge a session's drafts by halves
        if session.sequence is None:
            if is_full or not session.is_due or session.first_chunk_tokens > prompt_room:
                continue
            lost = places.take(session, taken, now)
            if lost is None:
                is_full = True
                continue
            evicted += lost
        slices = session.take_slices(room, prompt_room, now)
        if not slices:
            continue
        share = Share(session, slices)
        shares.append(share)
        taken.add(share.sequence)
        places.used(share.sequence)
        room -= sum(len(part.tokens) for part in slices if not part.prompt)
        prompt_room -= sum(len(part.tokens) for part in slices if part.prompt)
    return shares, evicted
