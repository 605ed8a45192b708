"""The settings of the pure parts."""

import dataclasses
import math

import pytest

from pipesd.planner.policies import POLICIES
from pipesd.session.rules import ALONE_TOKENS, ASKS_MAX, CloudRules, EdgeRules, Patience


@pytest.mark.parametrize("rules", [Patience(), EdgeRules(), CloudRules()])
def test_rules_do_not_change(rules: Patience | EdgeRules | CloudRules) -> None:
    for field in dataclasses.fields(rules):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(rules, field.name, 1)


def test_rules_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        CloudRules(64)  # type: ignore[call-arg]


def test_timers_are_off_unless_set() -> None:
    patience = Patience()
    assert {patience.greeting_s, patience.ping_after_s, patience.silent_after_s} == {math.inf}


def test_nobody_is_waited_for_or_kept_unless_it_is_said() -> None:
    assert Patience().away_s == CloudRules().lease_s == CloudRules().drain_s == 0.0
    assert (EdgeRules().offline, EdgeRules().clouds, EdgeRules().token) == ("wait", 1, None)


def test_when_to_come_again_is_said_in_milliseconds() -> None:
    assert CloudRules(busy_retry_s=1.2345).retry_ms == 1_234


def test_the_whole_of_pipesd_is_on_from_the_start() -> None:
    policy = EdgeRules().policy
    assert policy is POLICIES["pipesd"]
    assert (policy.ahead, policy.batching, policy.upload_ahead) == ("expected", "planned", True)
    assert CloudRules().verify == policy.verify == "piggyback"


def test_bounds_of_the_design() -> None:
    assert ASKS_MAX == 8
    assert EdgeRules().policy.asks_max == ASKS_MAX
    assert ALONE_TOKENS // 2 >= 1


def test_nobody_tunes_unless_it_is_said() -> None:
    assert EdgeRules().tuner == "off"
    assert not CloudRules().tunes
