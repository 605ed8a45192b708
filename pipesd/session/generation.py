"""What the edge counts of an answer that is being written, and the draft step in flight for it."""

from dataclasses import dataclass

import msgspec

from pipesd.session.commands import GenerationStats
from pipesd.session.energy import useful_uj
from pipesd.values import Sampling
from pipesd.wire.frames import Verdict


@dataclass(slots=True)
class Generation:
    """One answer, as far as it is."""

    start: int
    """Position at which it begins."""

    tokens_max: int
    limit: int
    """Position at which it ends at the latest."""

    sampling: Sampling
    seed: int
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    corrections: int = 0
    verdicts: int = 0
    energy_uj: int = 0
    useful_uj: int = 0

    @property
    def stats(self) -> GenerationStats:
        """What it took so far."""
        return GenerationStats(
            self.tokens,
            self.drafted,
            self.accepted,
            self.corrections,
            self.verdicts,
            self.energy_uj,
            self.useful_uj,
        )

    def count(self, verdict: Verdict, agreed: int, *, corrected: bool) -> None:
        """A verdict came, with which the first ``agreed`` drafts agree."""
        self.tokens += verdict.accepted + len(verdict.tokens)
        self.accepted += agreed
        self.corrections += corrected
        self.verdicts += 1
        if verdict.energy_uj:
            self.energy_uj += verdict.energy_uj
            self.useful_uj += useful_uj(verdict.energy_uj, verdict.accepted, verdict.judged)


class Step(msgspec.Struct, frozen=True, gc=False):
    """The draft step in flight: what it guesses, and what of the cache it leaves alone."""

    epoch: int
    position: int
    keep: int
    started_s: float
