"""Which sessions share a pass of the target model.

Those that wait longest come first. A pass holds at most one prompt chunk, so that a long prompt cannot hold
up other sessions' verdicts by more than that.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pipesd.session.cloud import CloudSession
from pipesd.values import Slice


@dataclass(frozen=True, slots=True)
class Share:
    """One session's part of a pass."""

    peer: int
    session: CloudSession
    slices: tuple[Slice, ...]


def collect(due: Iterable[tuple[int, CloudSession]], pass_tokens: int, now: float) -> list[Share]:
    """Fill a pass of about ``pass_tokens`` tokens from (peer, session) pairs, oldest first.

    Sessions left out stay due. The budget may be passed by one prompt chunk, and by text that must be
    evaluated before anything can be judged.
    """
    shares: list[Share] = []
    room, chunk_allowed = pass_tokens, True
    for peer, session in due:
        if room < 1:
            break
        slices = session.take_slices(room, chunk_allowed=chunk_allowed, now=now)
        if not slices:
            continue
        shares.append(Share(peer, session, slices))
        chunk_allowed = chunk_allowed and not slices[-1].prompt
        room -= sum(len(part.tokens) for part in slices if not part.prompt)
    return shares
