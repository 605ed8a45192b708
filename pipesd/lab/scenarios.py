"""Named machines and links: what a draft step, a pass and a message cost there.

The names s1 to s3 are those of PipeSD (arXiv 2605.13319); the numbers are models, not measurements.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipesd.actors.compute import Pace
from pipesd.errors import UsageError
from pipesd.lab.link import LinkModel

_MS_MAX = 60_000.0
_BITS_PER_S_MIN = 1_000.0
_BITS_PER_BYTE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """An edge, a cloud and the link between them. Raises ``UsageError`` if a field is impossible."""

    name: str
    draft_ms: float
    """One step of the draft model (gamma)."""

    up_bits_per_s: float
    """Edge to cloud; may be infinite."""

    down_bits_per_s: float
    """Cloud to edge; may be infinite."""

    delay_ms: float
    """What a message travels, each way, while the next one may follow."""

    alpha_ms: float
    """How long a message occupies the link, its bytes aside (alpha)."""

    pass_ms: float
    """One pass of the target model, its tokens aside (v0)."""

    pass_token_ms: float
    """Each token in a pass (v1)."""

    def __post_init__(self) -> None:
        for name in ("draft_ms", "delay_ms", "alpha_ms", "pass_ms", "pass_token_ms"):
            _check(name, getattr(self, name), 0.0, _MS_MAX)
        for name in ("up_bits_per_s", "down_bits_per_s"):
            _check(name, getattr(self, name), _BITS_PER_S_MIN, math.inf)

    @property
    def draft_pace(self) -> Pace:
        """What a draft step costs."""
        return Pace(self.draft_ms / 1e3)

    @property
    def pass_pace(self) -> Pace:
        """What a pass costs: V(n) = v0 + v1·n."""
        return Pace(self.pass_ms / 1e3, self.pass_token_ms / 1e3)

    @property
    def uplink(self) -> LinkModel:
        """Edge to cloud."""
        return self._link(self.up_bits_per_s)

    @property
    def downlink(self) -> LinkModel:
        """Cloud to edge."""
        return self._link(self.down_bits_per_s)

    def _link(self, bits_per_s: float) -> LinkModel:
        return LinkModel(
            delay_s=self.delay_ms / 1e3,
            message_s=self.alpha_ms / 1e3,
            bytes_per_s=bits_per_s / _BITS_PER_BYTE,
        )


def scenario_named(name: str) -> Scenario:
    """The scenario of this name. Raises ``UsageError``, which lists those there are."""
    if name not in SCENARIOS:
        raise UsageError(f"scenario: {name!r} is not known; choose one of {', '.join(SCENARIOS)}")
    return SCENARIOS[name]


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        bounds = f"at least {low:g}" + (f" and at most {high:g}" if math.isfinite(high) else "")
        raise UsageError(f"{name}: must be {bounds}, not {value}")


_S1 = Scenario(
    name="s1",
    draft_ms=43.0,
    up_bits_per_s=20e6,
    down_bits_per_s=200e6,
    delay_ms=15.0,
    alpha_ms=0.2,
    pass_ms=25.0,
    pass_token_ms=1.0,
)

SCENARIOS: Mapping[str, Scenario] = {
    each.name: each
    for each in (
        _S1,
        replace(_S1, name="s2", draft_ms=70.0),
        replace(_S1, name="s3", draft_ms=140.0),
        replace(_S1, name="far", delay_ms=60.0),
        replace(_S1, name="fast", draft_ms=15.0),
    )
}
"""Those that stay as they are while one plays: a laptop, a phone, a small board, a far cloud, a fast edge."""
