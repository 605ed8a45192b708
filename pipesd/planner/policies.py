"""Policies: how the runtime drafts, sends and asks, as data. All presets are one runtime with other data.

The settings of the baselines are those of the PipeSD paper (arXiv 2605.13319) for code.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from pipesd.errors import ConfigError, UsageError
from pipesd.planner.trigger import R1Rule, Thresholds
from pipesd.values import Ahead, Batching, PolicyName, Verify

Writers = Literal["both", "cloud", "edge"]
"""Who writes: draft and target together, the target alone, or the draft alone, unverified."""

ASKS_MAX = 8
"""Most unanswered asks of a session that the protocol allows."""

NEVER = 2**31 - 1
"""More tokens than any text has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a text is written."""

    name: str = "custom"
    thresholds: Thresholds = field(default_factory=Thresholds)
    r1_rule: R1Rule = "fixed"
    batching: Batching = "planned"
    ahead: Ahead = "expected"
    upload_ahead: bool = True
    """Whether drafts may leave while a verdict is pending, if they will have left by the time it comes.

    Otherwise, and without this, they stay until it is there; also those that the next ask is about.
    """

    asks_max: int = ASKS_MAX
    """Most verdicts pending; a trigger that finds so many waits for the next of them."""

    verify: Verify = "piggyback"
    writers: Writers = "both"

    def __post_init__(self) -> None:
        if not 1 <= self.asks_max <= ASKS_MAX:
            raise UsageError(f"asks_max: must be between 1 and {ASKS_MAX}, not {self.asks_max}")

    @property
    def goes_by_measurements(self) -> bool:
        """Whether it decides anything by what steps, link and passes cost, or how often drafts are right."""
        is_planned = self.batching == "planned" or self.r1_rule == "closed_form"
        return self.writers == "both" and (is_planned or self.ahead == "expected" or self.upload_ahead)


_PIPESD = Policy(name="pipesd", r1_rule="closed_form")
_ROUNDS = Policy(batching="at_trigger", ahead="never", upload_ahead=False, asks_max=1, verify="on_request")


def _only(r1: float = 0.0, r2: float = 0.0, upper_tokens: int = NEVER) -> Thresholds:
    return Thresholds(r1, r2, upper_tokens, lower_tokens=1)


POLICIES: Mapping[str, Policy] = {
    policy.name: policy
    for policy in (
        _PIPESD,
        replace(_ROUNDS, name="vanilla", thresholds=_only(upper_tokens=6)),
        replace(_ROUNDS, name="hsl", thresholds=_only(r2=0.99)),
        replace(_ROUNDS, name="edgellm", thresholds=_only(r1=0.92), r1_rule="edgellm", ahead="always"),
        replace(
            _ROUNDS, name="edgellm-full", thresholds=_only(r1=0.92), r1_rule="edgellm_full", ahead="always"
        ),
        Policy(name="cloud-only", writers="cloud"),
        Policy(name="edge-only", writers="edge"),
        replace(_PIPESD, name="pipesd-no-plan", batching="at_trigger"),
        replace(_PIPESD, name="pipesd-immediate", batching="immediate"),
        replace(_PIPESD, name="pipesd-work-conserving", batching="work_conserving"),
        replace(_PIPESD, name="pipesd-fixed-trigger", thresholds=_only(upper_tokens=6), r1_rule="fixed"),
        replace(_PIPESD, name="pipesd-token-only", thresholds=_only(r2=0.9), r1_rule="fixed"),
        replace(_PIPESD, name="pipesd-sequence-only", thresholds=_only(r1=0.9), r1_rule="fixed"),
        replace(_PIPESD, name="pipesd-never-ahead", ahead="never"),
        replace(_PIPESD, name="pipesd-always-ahead", ahead="always"),
    )
}
"""By name; those that begin with ``pipesd-`` leave one thing out of it or do it otherwise. ``edgellm-full``
is EdgeLLM whose R1 only a fully accepted round moves."""

assert set(POLICIES) == set(get_args(PolicyName)), "a policy that cannot be named, or a name without a policy"

_THRESHOLDS = ("r1", "r2", "upper_tokens", "lower_tokens")
SETTINGS = (*_THRESHOLDS, "ahead", "batching")
"""What a user can change of a preset."""

ABLATIONS = tuple(name for name in POLICIES if name.startswith("pipesd-"))


def policy_named(name: str) -> Policy:
    """The preset of this name. Raises ``UsageError``, which lists those there are."""
    if name not in POLICIES:
        raise UsageError(f"policy: {name!r} is not known; choose one of {', '.join(POLICIES)}")
    return POLICIES[name]


def check_effect(policy: Policy, given: Iterable[str]) -> None:
    """Raise ``ConfigError`` if a setting is given to a policy under which it changes nothing."""
    if policy.writers != "both":
        for name in given:
            raise ConfigError(
                f"{name}: changes nothing in {policy.name}, which asks about no drafts; leave it out"
            )


def adapted(policy: Policy, **changes: object) -> Policy:
    """The policy with other thresholds, ``ahead`` or ``batching``; what is None stays as it is.

    An R1 that is given ends the closed form; EdgeLLM's goes on moving. Raises ``UsageError`` if a threshold
    is out of its range.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    limits = {name: given.pop(name) for name in _THRESHOLDS if name in given}
    if "upper_tokens" in limits and "lower_tokens" not in limits:
        limits["lower_tokens"] = min(policy.thresholds.lower_tokens, limits["upper_tokens"])  # type: ignore[call-overload]
    if "r1" in limits and policy.r1_rule == "closed_form":
        given["r1_rule"] = "fixed"
    return replace(policy, thresholds=replace(policy.thresholds, **limits), **given)  # type: ignore[arg-type]
