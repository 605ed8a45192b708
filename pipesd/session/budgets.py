"""How much the holders of each access token may still use."""

from collections import Counter
from typing import TYPE_CHECKING

from pipesd.access import Limits
from pipesd.session.proof import Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

_MINUTE_S = 60.0
_NO_LIMITS = Limits()


class Budgets:
    """Per token: a bucket of confirmed tokens that a minute fills, and how many sessions are open."""

    def __init__(self) -> None:
        self._limits: Mapping[str, Limits] = {}
        self._levels: dict[str, tuple[float, float]] = {}
        """What was left in the bucket, and when."""

        self.sessions: Counter[str] = Counter()
        """How many are open; to be counted by whoever opens them."""

    def learn(self, tokens: Tokens) -> None:
        """These are the tokens from now on."""
        self._limits = {name: verifier.limits for name, verifier in tokens.verifiers.items()}

    def limits(self, owner: str) -> Limits:
        """What the holders of this token are limited to."""
        return self._limits.get(owner, _NO_LIMITS)

    def spend(self, owner: str, tokens: int, now: float) -> None:
        """So many tokens were confirmed. More than there is may be spent, and is waited for afterwards."""
        if self.limits(owner).tokens_per_minute is not None:
            self._levels[owner] = self._level(owner, now) - tokens, now

    def ready_at(self, owner: str, now: float) -> float:
        """When the bucket has something in it again; ``now`` if it has, or if there is no limit."""
        per_minute = self.limits(owner).tokens_per_minute
        if per_minute is None:
            return now
        return now + max(0.0, 1.0 - self._level(owner, now)) * _MINUTE_S / per_minute

    def _level(self, owner: str, now: float) -> float:
        per_minute = self.limits(owner).tokens_per_minute or 0
        level, since = self._levels.get(owner, (float(per_minute), now))
        return min(float(per_minute), level + (now - since) * per_minute / _MINUTE_S)
