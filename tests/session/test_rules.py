"""The settings of the pure parts."""

import dataclasses
import math

import pytest

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


def test_drafting_ahead_is_on_from_the_start() -> None:
    assert EdgeRules().ahead


def test_bounds_of_the_design() -> None:
    assert ASKS_MAX == 8
    assert ALONE_TOKENS >= 1
