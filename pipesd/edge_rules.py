"""What the edge decides by, from its settings: the policy, where it is tuned, and how long it is patient."""

import secrets
from pathlib import Path

from pipesd.access import AccessToken
from pipesd.address import host_ports
from pipesd.config import EdgeConfig
from pipesd.errors import ConfigError, UsageError
from pipesd.planner.policies import NEVER, POLICIES, SETTINGS, Policy, adapted, check_effect
from pipesd.session.rules import EdgeRules, Patience
from pipesd.values import TunerPlace


def policy_of(config: EdgeConfig) -> Policy:
    """The policy that the settings name, with what else they say of it.

    Raises ``ConfigError`` if the two do not go together.
    """
    preset = POLICIES[config.policy]
    given = {name: value for name in SETTINGS if (value := getattr(config, name)) is not None}
    check_effect(preset, given)
    try:
        policy = adapted(preset, **given)
    except UsageError as error:
        raise ConfigError(f"{error}; policy {config.policy} needs another value") from None
    _check_window(config.window_tokens, policy)
    return policy


def _check_window(window_tokens: int, policy: Policy) -> None:
    """A window must not end the rounds of a policy that says how long they are."""
    upper_tokens = policy.thresholds.upper_tokens
    if policy.writers == "both" and window_tokens < upper_tokens < NEVER:
        raise ConfigError(
            f"window_tokens: must be at least upper_tokens, which is {upper_tokens} in policy {policy.name}, "
            f"not {window_tokens}; raise it, or lower upper_tokens"
        )


def tuner_place(config: EdgeConfig, policy: Policy) -> TunerPlace:
    """Where thresholds are tuned; nowhere if they are given, or are not the policy's to move.

    Raises ``ConfigError`` if a place was named all the same.
    """
    given = [name for name in ("r1", "r2") if getattr(config, name) is not None]
    if policy.r1_rule == "closed_form" and not given:
        return config.tuner
    if config.tuner in {"edge", "cloud"}:
        why = (
            f"{given[0]} is given" if given else f"the thresholds of policy {config.policy} stay as they are"
        )
        raise ConfigError(f"tuner: there is nothing to tune, since {why}; leave it out")
    return "off"


def token_of(config: EdgeConfig) -> AccessToken | None:
    """The access token that the settings hold, or the file that they name. Raises ``ConfigError``."""
    if not config.token:
        return None
    path = Path(config.token)
    try:
        is_file = path.is_file()
        text = path.read_text("ascii").strip() if is_file else config.token
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no text"
        raise ConfigError(f"token: cannot read the file of it: {reason}") from None
    return AccessToken.parse(text)


def edge_rules(config: EdgeConfig, draft_context_tokens: int) -> EdgeRules:
    """What the edge decides by. Raises ``ConfigError`` if the settings do not go together."""
    policy = policy_of(config)
    return EdgeRules(
        policy=policy,
        tuner=tuner_place(config, policy),
        objective=config.objective,
        window_tokens=config.window_tokens,
        draft_context_tokens=draft_context_tokens,
        patience=Patience(
            greeting_s=config.connect_timeout_s,
            ping_after_s=config.ping_after_s,
            silent_after_s=config.silent_after_s,
            busy_s=config.busy_timeout_s,
            away_s=config.offline_timeout_s,
        ),
        offline=config.offline,
        offline_tokens=config.offline_tokens,
        clouds=len(host_ports(config.cloud, name="cloud")),
        token=token_of(config),
        luck=secrets.randbits(64),
    )
