"""The dual-threshold trigger: after which draft a verdict is asked for.

PipeSD (arXiv 2605.13319): ask when the cumulative confidence C since the last trigger is at most R1, or the
token's own confidence P at most R2. Beside them an upper bound forces an ask and a lower bound keeps an idle
drafter from asking for too little. A fixed length, HSL and EdgeLLM are the same rule with other numbers;
EdgeLLM also moves R1 after each verdict.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

from pipesd.errors import UsageError

R1Rule = Literal["fixed", "edgellm", "edgellm_full", "closed_form"]
"""What becomes of R1: it stays; EdgeLLM's rule moves it with each verdict, or only with rounds that are
accepted as a whole; or whoever owns the trigger sets it to gamma / TPT."""

_EDGELLM_FACTOR = 0.5
"""EdgeLLM: what a fully accepted round multiplies R1 with."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a verdict is asked for. Raises ``UsageError`` if a field is out of its range."""

    r1: float = 0.9
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


@dataclass(frozen=True, slots=True)
class _Round:
    """What a trigger asked about, for EdgeLLM's rule."""

    end: int
    """Position behind its last draft."""

    tokens: int
    survival: float
    """C at the trigger."""


class Trigger:
    """Remembers the confidences since the last trigger."""

    def __init__(self, thresholds: Thresholds, rule: R1Rule = "fixed") -> None:
        self._thresholds = thresholds
        self._rule = rule
        self._confidences: list[float] = []
        self._survival = 1.0
        self._is_doubtful = False
        self._rounds: deque[_Round] = deque()
        self.drafted_tokens = 0
        """Drafts since the last trigger or discard, those included that were verified meanwhile."""

        self.r1 = thresholds.r1
        """As it stands now."""

    def adopt(self, thresholds: Thresholds, rule: R1Rule) -> None:
        """Go by other thresholds, from the next draft on."""
        self._thresholds = thresholds
        self._rule = rule
        self.r1 = thresholds.r1

    @property
    def unasked_tokens(self) -> int:
        """Drafts since the last trigger that are still unverified."""
        return len(self._confidences)

    def note(self, confidence: float) -> None:
        """A draft was made."""
        self._confidences.append(confidence)
        self.drafted_tokens += 1
        self._survival *= confidence
        if confidence <= self._thresholds.r2:
            self._is_doubtful = True

    def fires(self, end: int = 0) -> bool:
        """Whether a verdict is to be asked for now, up to position ``end``; starts anew if so."""
        count = len(self._confidences)
        if count and (
            self._survival <= self.r1 or self._is_doubtful or count >= self._thresholds.upper_tokens
        ):
            self._fire(end)
            return True
        return False

    def idle(self, *, awaiting: bool, end: int = 0) -> bool:
        """Whether a drafter with nothing to do is to ask for what is unasked; starts anew if so.

        Without a pending verdict even one draft is worth it, or the session would stand still.
        """
        fires = len(self._confidences) >= (self._thresholds.lower_tokens if awaiting else 1)
        if fires:
            self._fire(end)
        return fires

    def _fire(self, end: int) -> None:
        if self._rule in {"edgellm", "edgellm_full"}:
            self._rounds.append(_Round(end, len(self._confidences), self._survival))
        self._start_anew()

    def judged(self, confirmed: int) -> None:
        """All drafts below position ``confirmed`` were right: rounds that end there are won (EdgeLLM)."""
        while self._rounds and self._rounds[0].end <= confirmed:
            self._rounds.popleft()
            self.r1 *= _EDGELLM_FACTOR

    def contradicted(self, at: int) -> None:
        """The draft at position ``at`` was wrong, and all behind it are discarded.

        EdgeLLM then divides R1 by C^((N - accepted) / N) of the round that it was in.
        """
        self.judged(at)
        if self._rule == "edgellm" and self._rounds and self._rounds[0].survival > 0.0:
            lost = self._rounds[0]
            rejected = min(lost.tokens, lost.end - at)
            self.r1 = min(1.0, self.r1 / lost.survival ** (rejected / lost.tokens))
        self.reset()

    def keep_last(self, unverified_tokens: int) -> None:
        """Forget drafts that were verified though not asked for."""
        verified = len(self._confidences) - unverified_tokens
        if verified > 0:
            del self._confidences[:verified]
            self._survival = math.prod(self._confidences)
            self._is_doubtful = any(left <= self._thresholds.r2 for left in self._confidences)

    def reset(self) -> None:
        """Start anew: the drafts were discarded."""
        self._rounds.clear()
        self._start_anew()

    def _start_anew(self) -> None:
        self._confidences.clear()
        self.drafted_tokens = 0
        self._survival = 1.0
        self._is_doubtful = False
