"""What the cloud holds of an answer that is being written, and of the session's share of the running pass."""

from dataclasses import dataclass

import msgspec

from pipesd.values import Sampling


@dataclass(frozen=True, slots=True)
class Answer:
    """One generation."""

    limit: int
    """Position at which ``tokens_max`` ends it."""

    sampling: Sampling
    seed: int


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
