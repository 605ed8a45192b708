"""What a generation cost, in figures a person can compare: per token and per 100 tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import fsum
from statistics import fmean
from typing import TypeVar

Amount = TypeVar("Amount", int, float)

UNVERIFIED = "unverified: the draft model alone"
"""What stands beside a text that no target confirmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One answer in figures. A figure that was not measured is None."""

    tokens: int
    """Tokens of the text, end id included."""

    finish: str
    elapsed_ms: float
    """From the prompt to the last token."""

    first_token_ms: float
    accepted: int | None = None
    """Tokens that the drafter had guessed right."""

    judged: int | None = None
    """Drafts that the target agreed with or contradicted."""

    drafted: int | None = None
    """Drafts made, those that were never judged included."""

    passes: int
    """Passes of the target that gave text; none if the draft model wrote alone."""

    sent_bytes: int | None = None
    """Edge to cloud, greeting not included."""

    received_bytes: int | None = None
    """Cloud to edge, greeting not included."""

    useful_j: float | None = None
    """What the target's passes took for text that stands, in joules; this answer's share of them."""

    rejected_j: float | None = None
    """What they took for drafts that were rejected."""

    energy_source: str = ""
    """What measured it, or ``modelled: …``; several, if answers of several clouds are told as one."""

    modelled: bool = False
    """Whether the machines' pace is modelled or the models replayed."""

    verified: bool = True
    """Whether the text is the target's own."""

    @property
    def acceptance(self) -> float | None:
        """Share of judged drafts that the target agreed with, 0..1; None if none was judged."""
        return self.accepted / self.judged if self.judged and self.accepted is not None else None

    @property
    def draft_share(self) -> float | None:
        """Share of the tokens that the drafter had guessed right, 0..1."""
        return None if self.accepted is None else self.accepted / max(1, self.tokens)

    @property
    def energy_j(self) -> float | None:
        """What the passes took for this answer, in joules."""
        if self.useful_j is None or self.rejected_j is None:
            return None
        return self.useful_j + self.rejected_j

    def per_100(self, amount: float) -> float:
        """``amount`` per 100 tokens."""
        return 100 * amount / max(1, self.tokens)

    def _known_per_100(self, amount: float | None) -> float | None:
        return None if amount is None else self.per_100(amount)

    def figures(self) -> dict[str, object]:
        """All figures by name, for machines."""
        derived = {
            "acceptance": self.acceptance,
            "draft_share": self.draft_share,
            "ms_per_token": self.elapsed_ms / max(1, self.tokens),
            "passes_per_100": self.per_100(self.passes),
            "sent_bytes_per_100": self._known_per_100(self.sent_bytes),
            "received_bytes_per_100": self._known_per_100(self.received_bytes),
            "energy_j": self.energy_j,
            "energy_j_per_100": self._known_per_100(self.energy_j),
            "useful_j_per_100": self._known_per_100(self.useful_j),
            "rejected_j_per_100": self._known_per_100(self.rejected_j),
        }
        return {**asdict(self), **derived}

    def line(self) -> str:
        """One line for a person."""
        parts = [
            f"{self.tokens} tokens ({self.finish})",
            f"{self.elapsed_ms / max(1, self.tokens):.1f} ms per token",
            f"first after {self.first_token_ms:.0f} ms",
        ]
        if self.acceptance is not None:
            parts.append(f"acceptance {self.acceptance:.1%}")
        parts.append(
            f"{self.per_100(self.passes):.1f} passes per 100 tokens" if self.verified else UNVERIFIED
        )
        if self.sent_bytes is not None and self.received_bytes is not None:
            up, down = self.per_100(self.sent_bytes), self.per_100(self.received_bytes)
            parts.append(f"{up:.0f} bytes up and {down:.0f} down per 100 tokens")
        parts += self._energy_line()
        return ", ".join(parts) + (" (modelled)" if self.modelled else "")

    def _energy_line(self) -> list[str]:
        if self.energy_j is None or self.useful_j is None or self.rejected_j is None:
            return []
        whole, useful, rejected = map(self.per_100, (self.energy_j, self.useful_j, self.rejected_j))
        split = f"{useful:.3g} useful, {rejected:.3g} rejected"
        return [f"{whole:.3g} J per 100 tokens ({split}; {self.energy_source})"]


def total(summaries: Sequence[Summary]) -> Summary:
    """Several answers as one: sums, the mean of the first tokens, and how the last one ended."""
    sources = dict.fromkeys(each.energy_source for each in summaries)
    return Summary(
        tokens=sum(each.tokens for each in summaries),
        finish=summaries[-1].finish,
        elapsed_ms=fsum(each.elapsed_ms for each in summaries),
        first_token_ms=fmean(each.first_token_ms for each in summaries),
        accepted=_sum(each.accepted for each in summaries),
        judged=_sum(each.judged for each in summaries),
        drafted=_sum(each.drafted for each in summaries),
        passes=sum(each.passes for each in summaries),
        sent_bytes=_sum(each.sent_bytes for each in summaries),
        received_bytes=_sum(each.received_bytes for each in summaries),
        useful_j=_sum(each.useful_j for each in summaries),
        rejected_j=_sum(each.rejected_j for each in summaries),
        energy_source=" + ".join(source for source in sources if source),
        modelled=any(each.modelled for each in summaries),
        verified=all(each.verified for each in summaries),
    )


def _sum(amounts: Iterable[Amount | None]) -> Amount | None:
    """None if one of them was not measured."""
    known = list(amounts)
    return None if None in known else sum((amount for amount in known if amount is not None), start=0)
