"""What prompts took that were played one after another, however they were played: the raw record."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipesd.session.commands import GenerationStats

UPTIME_S = 86_400.0
"""The cloud's clock has run for a day: the stamps of a young one would be shorter on the wire."""

QUIET_S = 60.0
"""Pause behind each answer, so that what is still on its way does not slow the next one."""


@dataclass(slots=True)
class Answer:
    """One prompt's answer as it came."""

    begun_s: float
    """When the prompt was given."""

    tokens: list[int] = field(default_factory=list)
    moments: list[tuple[float, int]] = field(default_factory=list)
    """(when, how many tokens) each time some were confirmed."""

    stats: GenerationStats = field(default_factory=GenerationStats)

    def take(self, now: float, tokens: Sequence[int]) -> None:
        """Some tokens came."""
        self.tokens += tokens
        self.moments.append((now, len(tokens)))


@dataclass(slots=True)
class Record:
    """All answers, and what they cost on the way."""

    answers: list[Answer] = field(default_factory=list)
    passes: int = 0
    """All that the target ran: those that read the prompts too."""

    cloud_s: float = 0.0
    """How long the target was at work."""

    sent_bytes: int = 0
    """Edge to cloud, as charged by the wire, the greeting aside."""

    received_bytes: int = 0
    """Cloud to edge, the greeting aside."""
