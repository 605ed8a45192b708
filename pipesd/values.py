"""The few value types that more than one layer speaks. No behaviour but the check of their own bounds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from pipesd.errors import ConfigError, UsageError

TokenId = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
"""Index into a vocabulary."""

Position = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
"""Index into a session's text; 0 is the first prompt token."""

Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""Fixes the noise of a generation."""

PromptMode = Literal["auto", "chat", "raw"]
"""How prompts are taken: in the chat template, as they are, or in the template where there is one."""

Batching = Literal["at_trigger", "immediate", "planned", "work_conserving"]
"""When drafts leave before their trigger: never, each at once, as planned, or whenever the link is idle."""

Ahead = Literal["never", "always", "expected"]
"""Whether to draft on while a verdict is pending; ``expected`` weighs it at each trigger."""

Verify = Literal["on_request", "piggyback", "eager"]
"""Which drafts a pass judges: of sessions that asked; also those that have arrived of others, free of an
extra pass; or whatever has arrived, whenever the target would be idle."""

PolicyName = Literal[
    "pipesd",
    "vanilla",
    "hsl",
    "edgellm",
    "edgellm-full",
    "cloud-only",
    "edge-only",
    "pipesd-no-plan",
    "pipesd-immediate",
    "pipesd-work-conserving",
    "pipesd-fixed-trigger",
    "pipesd-token-only",
    "pipesd-sequence-only",
    "pipesd-never-ahead",
    "pipesd-always-ahead",
]
"""The presets of ``planner.policies``."""

Objective = Literal["latency", "balanced", "cost"]
"""What thresholds are tuned for: time per token, or with the cloud's work beside it, once or fourfold."""

COST_WEIGHTS: Mapping[Objective, float] = {"latency": 0.0, "balanced": 1.0, "cost": 4.0}
"""How much a millisecond of the cloud's work counts beside one of waiting."""

TunerPlace = Literal["auto", "edge", "cloud", "off"]
"""Where thresholds are tuned; ``auto`` is the cloud if it offers to, else the edge."""

Offline = Literal["wait", "draft", "stop"]
"""What an answer does while no cloud is there: wait; go on with drafts, marked as such; or end."""

Finish = Literal["stop", "length", "context"]
"""Why a generation ended: an end id, ``tokens_max``, or a full context."""


class Sampling(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """How the target picks a token. The filters apply in the order of the fields.

    The defaults are greedy decoding. Raises ``UsageError`` if a field is out of its range.
    """

    temperature: float = 0.0
    """0 is greedy (the filters then change nothing); 1 leaves the model's distribution as it is."""

    top_k: int = 0
    """Only the ``top_k`` likeliest tokens stay; 0 keeps all."""

    top_p: float = 1.0
    """Only the smallest set of likeliest tokens whose probability reaches ``top_p`` stays; 1 keeps all."""

    min_p: float = 0.0
    """Only tokens at least ``min_p`` times as likely as the likeliest stay; 0 keeps all."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and 0.0 <= self.temperature <= 100.0):
            raise UsageError(f"temperature: must be between 0 and 100, not {self.temperature}")
        if not 0 <= self.top_k < 2**31:
            raise UsageError(f"top_k: must be 0 (off) or a positive whole number, not {self.top_k}")
        if not 0.0 < self.top_p <= 1.0:
            raise UsageError(f"top_p: must be above 0 and at most 1, not {self.top_p}")
        if not 0.0 <= self.min_p <= 1.0:
            raise UsageError(f"min_p: must be between 0 and 1, not {self.min_p}")

    @property
    def greedy(self) -> bool:
        """Whether no noise is drawn."""
        return self.temperature == 0.0


Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, lt=2**53)]
Millijoules = Annotated[float, msgspec.Meta(ge=0, lt=2**53)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class TrialReport(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What a tuner is told about one trial of thresholds."""

    trial: Count
    verdicts: Annotated[
        tuple[tuple[Count, Milliseconds, Milliseconds, Millijoules], ...], msgspec.Meta(max_length=4_096)
    ]
    """(tokens confirmed, time since the one before, the target's work, energy) of each verdict; energy is 0
    throughout where it is not measured."""

    drafts: Annotated[tuple[tuple[Share, Share, bool], ...], msgspec.Meta(max_length=4_096)]
    """(confidence, probability of acceptance when it was made, accepted) of each judged draft since the last
    report, in order."""

    astray: Annotated[tuple[Share, ...], msgspec.Meta(max_length=4_096)]
    """Confidences of drafts behind a wrong one."""

    conditions_ms: Annotated[tuple[Milliseconds, ...], msgspec.Meta(max_length=16)]
    """The fields of ``planner.forecast.Conditions``; empty while they are not known."""

    upper_tokens: Count = 8
    lower_tokens: Count = 2
    """The edge's thresholds that are not tuned."""


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that a setting may be; both ends belong to it unless ``above``."""

    low: float
    high: float
    above: bool = False
    """Whether ``low`` itself is too low."""

    def check(self, name: str, value: float) -> None:
        """Raise ``ConfigError`` if ``value`` is outside."""
        if self.low < value <= self.high or (value == self.low and not self.above):
            return
        lowest = f"above {self.low}" if self.above else f"at least {self.low}"
        advice = "lower it" if value > self.high else "raise it"
        if value != value:  # noqa: PLR0124 - not a number; a whole one may be too large for math.isnan
            advice = "give a number"
        raise ConfigError(f"{name}: must be {lowest} and at most {self.high}, not {value}; {advice}")


class Proposal(msgspec.Struct, frozen=True, gc=False):
    """What the draft model would say next."""

    token: int
    confidence: float
    """The draft's probability of ``token`` after temperature and filters, 0..1; at temperature 0, of the
    unfiltered distribution."""


class Stretch(msgspec.Struct, frozen=True, gc=False):
    """Tokens that an engine evaluates in one go."""

    tokens: tuple[int, ...]
    prompt: bool
    """Whether this is a prompt chunk, not output tokens and drafts; exact engines keep the two apart."""


class Slice(msgspec.Struct, frozen=True, gc=False):
    """One session's share of a pass of the target model.

    The engine cuts ``sequence`` back to ``base`` tokens, evaluates ``tokens`` behind them, and gives its own
    token for each of the last ``picks`` places: pick k follows token ``len(tokens) - picks + k``.
    """

    sequence: int
    base: int
    tokens: tuple[int, ...]
    picks: int
    prompt: bool
    """Whether this is a prompt chunk, not output tokens and drafts; exact engines keep the two apart."""

    sampling: Sampling
    seed: int
    copy_of: int | None = None
    """The sequence whose first ``base`` tokens are copied before, in place of what this one held."""

    def pick_position(self, number: int) -> int:
        """Position in the text of the token that pick ``number`` is for."""
        return self.base + len(self.tokens) - self.picks + number + 1
