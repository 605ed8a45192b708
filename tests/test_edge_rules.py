"""From the edge's settings to what it decides by."""

from pathlib import Path
from typing import Any, get_args

import pytest

from pipesd import edge
from pipesd.access import AccessToken
from pipesd.config import EdgeConfig
from pipesd.edge_rules import edge_rules, policy_of, token_of
from pipesd.errors import ConfigError
from pipesd.planner.policies import POLICIES
from pipesd.values import Objective, Offline, TunerPlace

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


# --- clouds that go away ---------------------------------------------------------------------------------


@pytest.mark.parametrize("offline", get_args(Offline))
def test_what_is_done_without_a_cloud_is_a_setting(offline: Offline):
    config = EdgeConfig(offline=offline, offline_tokens=7, offline_timeout_s=9)
    rules = edge_rules(config, 1_000)
    assert (rules.offline, rules.offline_tokens, rules.patience.away_s) == (offline, 7, 9.0)


@pytest.mark.parametrize(("cloud", "clouds"), [("one:1", 1), ("one:1, two:2,[::1]:3", 3)])
def test_all_clouds_that_are_named_may_be_turned_to(cloud: str, clouds: int):
    assert edge_rules(EdgeConfig(cloud=cloud), 1_000).clouds == clouds


# --- the access token ------------------------------------------------------------------------------------

SECRET = "3q2-7wAB_" + "x" * 34
TOKEN = AccessToken("alice", SECRET)


def test_without_a_token_there_is_none():
    assert token_of(EdgeConfig()) is None
    assert edge_rules(EdgeConfig(), 1_000).token is None


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_token_is_given_itself_or_in_a_file(tmp_path: Path, end: str):
    file = tmp_path / "token"
    file.write_bytes(f"{TOKEN.text}{end}".encode())
    assert token_of(EdgeConfig(token=TOKEN.text)) == TOKEN
    assert token_of(EdgeConfig(token=str(file))) == TOKEN
    assert edge_rules(EdgeConfig(token=str(file)), 1_000).token == TOKEN


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "token: must be NAME.SECRET"),
        (SECRET.encode(), "token: must be NAME.SECRET"),
        (f"{TOKEN.text}\n{TOKEN.text}\n".encode(), "token: must be NAME.SECRET"),
        (b"\xff", "token: cannot read the file of it: it holds no text"),
    ],
)
def test_a_file_that_holds_no_token_is_refused_and_not_quoted(tmp_path: Path, content: bytes, says: str):
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        token_of(EdgeConfig(token=str(file)))
    assert str(caught.value).startswith(says)
    assert SECRET[:9] not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["alice", SECRET, f"{TOKEN.text}.more", "no/such/file", "x" * 10_000, "a\0b"]
)
def test_what_is_neither_a_token_nor_a_file_is_refused_and_not_quoted(text: str):
    with pytest.raises(ConfigError, match=r"^token: ") as caught:
        token_of(EdgeConfig(token=text))
    assert text not in str(caught.value)


async def test_a_broken_token_is_named_before_the_model_is_loaded():
    with pytest.raises(ConfigError, match=r"^token: must be NAME\.SECRET"):
        async with edge.connect(EdgeConfig(draft="nowhere.gguf", token="alice")):
            raise AssertionError("it connected")


def test_a_token_is_not_shown_with_the_settings():
    assert SECRET not in repr(EdgeConfig(token=TOKEN.text))
    assert SECRET not in repr(edge_rules(EdgeConfig(token=TOKEN.text), 1_000))
