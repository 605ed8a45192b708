"""The dual-threshold trigger: after which draft a verdict is asked for.

PipeSD (arXiv 2605.13319): ask when the cumulative confidence C since the last trigger is at most R1, or the
token's own confidence P at most R2. Beside them an upper bound forces an ask and a lower bound keeps an idle
drafter from asking for too little.
"""

import math
from dataclasses import dataclass

from pipesd.errors import UsageError


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a verdict is asked for. Raises ``UsageError`` if a field is out of its range."""

    r1: float = 0.3
    """Ask when the product of the confidences since the last trigger is at most this, 0..1."""

    r2: float = 0.4
    """Ask when a token's confidence is at most this, 0..1."""

    upper_tokens: int = 8
    """Most drafts between two triggers; the window bounds all that is unverified."""

    lower_tokens: int = 2
    """Fewest drafts worth a verdict once the drafter has nothing to do and another verdict is pending."""

    def __post_init__(self) -> None:
        for name in ("r1", "r2"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"{name}: must be between 0 and 1, not {getattr(self, name)}")
        if self.upper_tokens < 1:
            raise UsageError(f"upper_tokens: must be at least 1, not {self.upper_tokens}")
        if not 1 <= self.lower_tokens <= self.upper_tokens:
            bounds = f"between 1 and upper_tokens ({self.upper_tokens})"
            raise UsageError(f"lower_tokens: must be {bounds}, not {self.lower_tokens}")


class Trigger:
    """Remembers the confidences since the last trigger."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._confidences: list[float] = []

    @property
    def unasked_tokens(self) -> int:
        """Drafts since the last trigger that are still unverified."""
        return len(self._confidences)

    def drafted(self, confidence: float) -> bool:
        """Note a draft; whether a verdict is to be asked for up to and including it."""
        self._confidences.append(confidence)
        rule = self._thresholds
        fires = (
            len(self._confidences) >= rule.upper_tokens
            or confidence <= rule.r2
            or math.prod(self._confidences) <= rule.r1
        )
        if fires:
            self.reset()
        return fires

    def idle(self, *, awaiting: bool) -> bool:
        """Whether a drafter with nothing to do is to ask for what is unasked; resets if so.

        Without a pending verdict even one draft is worth it, or the session would stand still.
        """
        fires = len(self._confidences) >= (self._thresholds.lower_tokens if awaiting else 1)
        if fires:
            self.reset()
        return fires

    def keep_last(self, unverified_tokens: int) -> None:
        """Forget drafts that were verified though not asked for."""
        del self._confidences[: max(0, len(self._confidences) - unverified_tokens)]

    def reset(self) -> None:
        """Start anew: a trigger fired, or the drafts were discarded."""
        self._confidences.clear()
