"""From the edge's settings to what it decides by."""

from typing import Any, get_args

import pytest

from pipesd import edge
from pipesd.config import EdgeConfig
from pipesd.edge_rules import edge_rules, policy_of
from pipesd.errors import ConfigError
from pipesd.planner.policies import POLICIES
from pipesd.values import Objective, TunerPlace

CHANGES = {
    "r1": 0.5,
    "r2": 0.5,
    "upper_tokens": 8,
    "lower_tokens": 1,
    "ahead": "never",
    "batching": "immediate",
}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lower_tokens": 9}, "lower_tokens: must be between 1 and upper_tokens (8), not 9; policy pipesd"),
        ({"policy": "vanilla", "lower_tokens": 7}, "lower_tokens: must be between 1 and upper_tokens (6)"),
        (
            {"policy": "vanilla", "window_tokens": 3},
            "window_tokens: must be at least upper_tokens, which is 6 in policy vanilla, not 3; raise it",
        ),
        ({"window_tokens": 7}, "window_tokens: must be at least upper_tokens, which is 8 in policy pipesd"),
        *(
            ({"policy": "cloud-only", name: value}, f"{name}: changes nothing in cloud-only, which asks ")
            for name, value in CHANGES.items()
        ),
        ({"policy": "edge-only", "r1": 0.5}, "r1: changes nothing in edge-only, which asks "),
    ],
)
async def test_a_setting_that_the_policy_cannot_have_is_named_before_anything_is_done(
    settings: dict[str, object], says: str
):
    with pytest.raises(ConfigError) as caught:
        async with edge.connect(EdgeConfig(draft="nowhere.gguf", **settings)):  # type: ignore[arg-type]
            raise AssertionError("it connected")
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    "settings",
    [
        {"window_tokens": 8},
        {"window_tokens": 3, "upper_tokens": 3},
        {"window_tokens": 6, "policy": "vanilla"},
        {"window_tokens": 1, "policy": "hsl"},
        {"window_tokens": 1, "policy": "cloud-only"},
        *({"policy": name} for name in POLICIES),
        *({name: value} for name, value in CHANGES.items()),
    ],
)
def test_a_window_that_holds_a_round_of_the_policy_goes_with_it(settings: dict[str, Any]):
    config = EdgeConfig(**settings)
    assert policy_of(config).name == config.policy


@pytest.mark.parametrize("place", get_args(TunerPlace))
@pytest.mark.parametrize("objective", get_args(Objective))
def test_where_thresholds_are_tuned_and_what_for_is_a_setting(place: TunerPlace, objective: Objective):
    rules = edge_rules(EdgeConfig(tuner=place, objective=objective), 1_000)
    assert (rules.tuner, rules.objective) == (place, objective)


FIXED = [
    ({"r1": 0.5}, "r1 is given"),
    ({"r2": 0.5}, "r2 is given"),
    ({"r1": 0.5, "r2": 0.5}, "r1 is given"),
    *(
        ({"policy": name}, f"the thresholds of policy {name} stay as they are")
        for name, policy in POLICIES.items()
        if policy.r1_rule != "closed_form"
    ),
]


@pytest.mark.parametrize(("settings", "why"), FIXED)
def test_thresholds_that_are_not_to_be_moved_are_tuned_nowhere(settings: dict[str, Any], why: str):
    assert edge_rules(EdgeConfig(**settings), 1_000).tuner == "off"
    assert edge_rules(EdgeConfig(tuner="off", **settings), 1_000).tuner == "off"
    for place in ("edge", "cloud"):
        with pytest.raises(ConfigError) as caught:
            edge_rules(EdgeConfig(tuner=place, **settings), 1_000)
        assert str(caught.value) == f"tuner: there is nothing to tune, since {why}; leave it out"


def test_a_number_of_drafts_that_is_given_leaves_the_thresholds_to_the_tuner():
    assert edge_rules(EdgeConfig(upper_tokens=5, lower_tokens=1), 1_000).tuner == "auto"


def test_fewer_drafts_between_two_asks_than_the_policy_wants_for_one_are_no_contradiction():
    assert policy_of(EdgeConfig(upper_tokens=1)).thresholds.lower_tokens == 1


def test_edges_with_the_same_settings_do_not_wait_alike_for_a_busy_cloud():
    first, second = (edge_rules(EdgeConfig(busy_timeout_s=7), 1_000) for _ in range(2))
    assert first.luck != second.luck
    assert first.patience.busy_s == 7
