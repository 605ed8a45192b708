"""How a text may be written."""

import dataclasses
from typing import Any, get_args

import pytest

from pipesd.errors import ConfigError, UsageError
from pipesd.planner.policies import (
    ABLATIONS,
    ASKS_MAX,
    NEVER,
    POLICIES,
    SETTINGS,
    Policy,
    adapted,
    check_effect,
    policy_named,
)
from pipesd.planner.trigger import Thresholds, Trigger
from pipesd.values import PolicyName

PIPESD = POLICIES["pipesd"]
BASELINES = ["vanilla", "hsl", "edgellm"]
ROUNDS = {"batching": "at_trigger", "upload_ahead": False, "asks_max": 1, "verify": "on_request"}


def changed(policy: Policy, other: Policy) -> set[str]:
    """The fields, thresholds by their own names, in which two policies differ, the name aside."""
    ours, theirs = (dataclasses.asdict(each) for each in (policy, other))
    pairs = {(name, ours[name], theirs[name]) for name in ours if name not in ("name", "thresholds")}
    pairs |= {(name, ours["thresholds"][name], theirs["thresholds"][name]) for name in ours["thresholds"]}
    return {name for name, one, another in pairs if one != another}


def fired(policy: Policy, confidences: list[float]) -> list[int]:
    """After which drafts, counted from one, a verdict is asked for."""
    trigger, asks = Trigger(policy.thresholds, policy.r1_rule), []
    for count, confidence in enumerate(confidences, start=1):
        trigger.note(confidence)
        if trigger.fires(count):
            asks.append(count)
    return asks


def test_every_name_that_settings_allow_has_a_policy_of_that_name() -> None:
    assert set(POLICIES) == set(get_args(PolicyName))
    assert {name: policy.name for name, policy in POLICIES.items()} == {name: name for name in POLICIES}


def test_a_policy_does_not_change() -> None:
    for field in dataclasses.fields(Policy):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(PIPESD, field.name, None)


@pytest.mark.parametrize("asks_max", [1, 2, ASKS_MAX])
def test_as_many_verdicts_may_pend_as_the_protocol_allows(asks_max: int) -> None:
    assert Policy(asks_max=asks_max).asks_max == asks_max
    assert Policy().asks_max == ASKS_MAX


@pytest.mark.parametrize("asks_max", [0, -1, ASKS_MAX + 1, NEVER])
@pytest.mark.parametrize("make", [Policy, lambda **fields: adapted(PIPESD, **fields)])
def test_a_policy_without_asks_or_with_too_many_is_refused(make: type[Policy], asks_max: int) -> None:
    with pytest.raises(UsageError, match=rf"^asks_max: must be between 1 and 8, not {asks_max}$"):
        make(asks_max=asks_max)


def test_pipesd_uses_all_there_is() -> None:
    assert (PIPESD.r1_rule, PIPESD.batching, PIPESD.ahead) == ("closed_form", "planned", "expected")
    assert (PIPESD.upload_ahead, PIPESD.asks_max, PIPESD.verify) == (True, ASKS_MAX, "piggyback")
    assert (PIPESD.writers, PIPESD.thresholds) == ("both", Thresholds())


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_take_turns_with_the_cloud(name: str) -> None:
    policy = POLICIES[name]
    assert {field: getattr(policy, field) for field in ROUNDS} == ROUNDS
    assert policy.writers == "both"
    assert policy.thresholds.lower_tokens == 1


def test_only_edgellm_of_the_baselines_drafts_while_it_waits() -> None:
    ahead = {name: POLICIES[name].ahead for name in BASELINES}
    assert ahead == {"vanilla": "never", "hsl": "never", "edgellm": "always"}


def test_vanilla_asks_after_six_drafts() -> None:
    assert fired(POLICIES["vanilla"], [0.01, *[1.0] * 6, *[0.9] * 6]) == [6, 12]
    assert POLICIES["vanilla"].thresholds == Thresholds(0.0, 0.0, 6, 1)


def test_hsl_asks_after_a_draft_that_is_not_quite_sure() -> None:
    assert fired(POLICIES["hsl"], [*[0.995] * 20, 0.98, 1.0, 0.99]) == [21, 23]
    assert POLICIES["hsl"].thresholds == Thresholds(0.0, 0.99, NEVER, 1)


def test_edgellm_asks_once_the_drafts_together_are_not_quite_sure() -> None:
    assert fired(POLICIES["edgellm"], [1.0] * 30 + [0.98] * 10) == [35, 40]
    assert POLICIES["edgellm"].thresholds == Thresholds(0.92, 0.0, NEVER, 1)
    assert POLICIES["edgellm"].r1_rule == "edgellm"


def test_only_edgellm_moves_r1_by_its_own_rule() -> None:
    moving = {name: policy.r1_rule for name, policy in POLICIES.items() if "edgellm" in policy.r1_rule}
    assert moving == {"edgellm": "edgellm", "edgellm-full": "edgellm_full"}
    assert changed(POLICIES["edgellm"], POLICIES["edgellm-full"]) == {"r1_rule"}


def test_some_write_alone() -> None:
    alone = {name: policy.writers for name, policy in POLICIES.items() if policy.writers != "both"}
    assert alone == {"cloud-only": "cloud", "edge-only": "edge"}


def test_what_writes_in_rounds_or_alone_goes_by_nothing_that_was_measured() -> None:
    blind = {name for name, policy in POLICIES.items() if not policy.goes_by_measurements}
    assert blind == {*BASELINES, "edgellm-full", "cloud-only", "edge-only"}


@pytest.mark.parametrize(
    "needing",
    [{"batching": "planned"}, {"r1_rule": "closed_form"}, {"ahead": "expected"}, {"upload_ahead": True}],
)
def test_one_thing_that_is_decided_by_measurements_is_enough(needing: dict[str, Any]) -> None:
    assert dataclasses.replace(POLICIES["vanilla"], **needing).goes_by_measurements


TRIGGER = {"r1_rule", "r1", "r2", "upper_tokens", "lower_tokens"}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("pipesd-no-plan", {"batching"}),
        ("pipesd-immediate", {"batching"}),
        ("pipesd-work-conserving", {"batching"}),
        ("pipesd-never-ahead", {"ahead"}),
        ("pipesd-always-ahead", {"ahead"}),
        ("pipesd-fixed-trigger", TRIGGER),
        ("pipesd-token-only", TRIGGER),
        ("pipesd-sequence-only", TRIGGER),
    ],
)
def test_an_ablation_leaves_one_thing_out(name: str, fields: set[str]) -> None:
    assert changed(POLICIES[name], PIPESD) <= fields
    assert changed(POLICIES[name], PIPESD)


def test_ablations_are_all_different_and_listed() -> None:
    assert set(ABLATIONS) == {name for name in POLICIES if name.startswith("pipesd-")}
    for name in ABLATIONS:
        assert all(changed(POLICIES[name], POLICIES[other]) for other in POLICIES if other != name)


@pytest.mark.parametrize(
    ("name", "asks"),
    [("pipesd-fixed-trigger", [6]), ("pipesd-token-only", [4]), ("pipesd-sequence-only", [2, 4])],
)
def test_triggers_with_a_part_left_out(name: str, asks: list[int]) -> None:
    assert fired(POLICIES[name], [0.94, 0.94, 0.99, 0.85, 0.99, 0.99]) == asks


def test_an_unknown_policy_is_answered_with_those_there_are() -> None:
    assert policy_named("hsl") is POLICIES["hsl"]
    with pytest.raises(UsageError, match=r"^policy: 'HSL' is not known") as caught:
        policy_named("HSL")
    assert all(name in str(caught.value) for name in POLICIES)


# --- what changes nothing ---


@pytest.mark.parametrize("setting", [*SETTINGS, "window_tokens", "verify"])
def test_a_setting_of_drafts_is_refused_where_nobody_asks_about_drafts(setting: str) -> None:
    for policy in POLICIES.values():
        check_effect(policy, [])
        if policy.writers == "both":
            check_effect(policy, [setting])
            continue
        with pytest.raises(ConfigError) as caught:
            check_effect(policy, [setting])
        assert str(caught.value) == (
            f"{setting}: changes nothing in {policy.name}, which asks about no drafts; leave it out"
        )


# --- adapted ---


def test_what_is_not_given_stays() -> None:
    for policy in POLICIES.values():
        assert adapted(policy) == policy
        assert adapted(policy, r1=None, r2=None, upper_tokens=None, ahead=None, batching=None) == policy


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"r1": 0.5}, {"r1", "r1_rule"}),
        ({"r2": 0.5}, {"r2"}),
        ({"r2": 0.0}, {"r2"}),
        ({"upper_tokens": 4}, {"upper_tokens"}),
        ({"upper_tokens": 2}, {"upper_tokens"}),
        ({"upper_tokens": 1}, {"upper_tokens", "lower_tokens"}),
        ({"lower_tokens": 4}, {"lower_tokens"}),
        ({"upper_tokens": 20, "lower_tokens": 20}, {"upper_tokens", "lower_tokens"}),
        ({"ahead": "never"}, {"ahead"}),
        ({"batching": "immediate"}, {"batching"}),
        ({"r1": 0.5, "ahead": "always", "upper_tokens": 16}, {"r1", "r1_rule", "ahead", "upper_tokens"}),
    ],
)
def test_only_what_is_given_changes(changes: dict[str, object], fields: set[str]) -> None:
    policy = adapted(PIPESD, **changes)
    assert changed(policy, PIPESD) == fields
    assert policy.name == "pipesd"
    got = {**dataclasses.asdict(policy), **dataclasses.asdict(policy.thresholds)}
    assert {name: got[name] for name in changes} == changes


def test_lower_tokens_follows_upper_tokens_down_and_no_further() -> None:
    policy = adapted(PIPESD, lower_tokens=5)
    assert adapted(policy, upper_tokens=3).thresholds.lower_tokens == 3
    assert adapted(policy, upper_tokens=7).thresholds.lower_tokens == 5


@pytest.mark.parametrize(
    ("name", "rule"), [("pipesd", "fixed"), ("edgellm", "edgellm"), ("vanilla", "fixed")]
)
def test_an_r1_that_is_given_ends_the_closed_form_only(name: str, rule: str) -> None:
    policy = adapted(POLICIES[name], r1=0.25)
    assert (policy.r1_rule, policy.thresholds.r1) == (rule, 0.25)


def test_an_r1_of_zero_is_given_too() -> None:
    policy = adapted(PIPESD, r1=0.0)
    assert (policy.r1_rule, policy.thresholds.r1) == ("fixed", 0.0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"r1": 1.5}, "r1"),
        ({"r1": float("nan")}, "r1"),
        ({"r2": -0.1}, "r2"),
        ({"upper_tokens": 0}, "upper_tokens"),
        ({"upper_tokens": -3}, "upper_tokens"),
        ({"lower_tokens": 0}, "lower_tokens"),
        ({"lower_tokens": 9}, "lower_tokens"),
        ({"upper_tokens": 3, "lower_tokens": 4}, "lower_tokens"),
    ],
)
def test_a_threshold_out_of_range_is_named(changes: dict[str, float], named: str) -> None:
    with pytest.raises(UsageError, match=f"^{named}: "):
        adapted(PIPESD, **changes)
