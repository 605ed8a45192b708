"""The settings the pure parts decide by. Built by ``edge.py`` and ``cloud.py`` from the configuration."""

import math
from dataclasses import dataclass, field

from pipesd.access import AccessToken
from pipesd.planner.policies import ASKS_MAX, POLICIES, Policy
from pipesd.values import Objective, Offline, TunerPlace, Verify

__all__ = ["ALONE_TOKENS", "ASKS_MAX", "CloudRules", "EdgeRules", "Patience"]

ALONE_TOKENS = 256
"""How far ahead an edge that cannot draft asks the target to run alone; half of it always lies ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long silence is borne. Infinite values switch a timer off."""

    greeting_s: float = math.inf
    """Until the handshake must be complete."""

    ping_after_s: float = math.inf
    """Silence after which the other side is asked for a sign of life."""

    silent_after_s: float = math.inf
    """Silence after which the other side is given up."""

    busy_s: float = math.inf
    """How long the edge waits, over several tries, for a cloud that has no room."""

    away_s: float = 0.0
    """How long the edge tries to get its lost connection back; with 0 its end is the end of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeRules:
    """How the edge drafts and asks."""

    policy: Policy = POLICIES["pipesd"]
    window_tokens: int = 32
    """Most unverified drafts of a session; the cloud may grant less."""

    draft_context_tokens: int = 2**31
    """Most tokens the draft model can hold."""

    offline: Offline = "wait"
    offline_tokens: int = 256
    """Most drafts of a session while no cloud is there, if its drafts are shown then."""

    clouds: int = 1
    """How many clouds there are to connect to."""

    tuner: TunerPlace = "off"
    objective: Objective = "balanced"
    patience: Patience = field(default_factory=Patience)
    luck: int = 0
    """Makes the waits of this edge differ from those of others."""

    client: str = "pipesd"
    """Name told to the cloud."""

    token: AccessToken | None = None
    """Proves to the cloud who calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudRules:
    """How many the cloud serves, and how."""

    sessions_max: int = 64
    """Of all edges together."""

    edge_sessions_max: int = 16
    """Of one edge."""

    connections_max: int = 256
    address_connections_max: int = 256
    """Most connections from one address."""

    pass_tokens: int = 256
    """Most tokens of output and drafts in one pass; prompts get a chunk's worth beside them."""

    lone_prompt_tokens: int = 0
    """Most prompt tokens in one pass, if more than a chunk, while only one session is written to."""

    pass_sessions: int = 64
    """Most sessions in one pass."""

    kv_sequences: int = 64
    """How many sessions have a place in the model's cache at once."""

    prefill_tokens_max: int = 2**31
    """Most tokens that may wait to be read at once; further prompts are turned away."""

    busy_retry_s: float = 2.0
    """When an edge that was turned away is told to try again."""

    lease_s: float = 0.0
    """How long a session is kept for an edge whose connection is gone."""

    drain_s: float = 0.0
    """How long edges that are owed verdicts still get them when the cloud is to stop."""

    secret: bytes = b""
    """What leases and challenges are made from; another one in every process."""

    verify: Verify = "piggyback"
    tunes: bool = False
    """Whether it answers ``Telemetry``."""

    busy_watts: float | None = None
    """What the target's machine is declared to take during a pass, for passes that were not measured."""

    patience: Patience = field(default_factory=Patience)

    @property
    def retry_ms(self) -> int:
        """``busy_retry_s``, as it is said."""
        return round(self.busy_retry_s * 1e3)
