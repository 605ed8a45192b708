"""Who is turned away waits a while; what is said then is another matter."""

import math
from dataclasses import replace

import pytest

from pipesd.session.doorstep import Doorstep
from pipesd.session.rules import EdgeRules, Patience

RULES = EdgeRules(patience=Patience(busy_s=60.0))


def door(rules: EdgeRules = RULES) -> Doorstep:
    return Doorstep(0, rules)


def test_nobody_waits_who_was_not_turned_away() -> None:
    fresh = door()
    assert not fresh.is_waiting
    assert math.isinf(fresh.until)


def test_who_was_turned_away_waits_until_it_tries_again() -> None:
    waiting = door()
    wait_s = waiting.turn_away(1_000, 5.0)
    assert wait_s is not None
    assert (waiting.is_waiting, waiting.until) == (True, 5.0 + wait_s)
    waiting.leave()
    assert (waiting.is_waiting, waiting.until) == (False, math.inf)


def test_waits_grow_and_are_somewhere_about_what_the_cloud_named() -> None:
    waiting = door(replace(RULES, patience=Patience()))
    waits = [waiting.turn_away(2_000, 0.0) or 0.0 for _ in range(6)]
    for wait_s, times in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert 1.0 * times <= wait_s <= 3.0 * times
    waiting.answered()
    assert (waiting.turn_away(2_000, 9.0) or 0.0) <= 3.0


def test_who_only_tries_again_was_not_taken_in() -> None:
    """Nor was who lost the connection meanwhile."""
    waiting = door(replace(RULES, patience=Patience()))
    waits = []
    for _ in range(4):
        waits.append(waiting.turn_away(2_000, 0.0) or 0.0)
        waiting.leave()
    assert waits[3] >= 8.0


def test_edges_that_were_turned_away_together_do_not_come_back_together() -> None:
    waits = {Doorstep(0, replace(RULES, luck=luck)).turn_away(1_000, 0.0) for luck in range(20)}
    assert len(waits) == 20
    assert Doorstep(0, RULES).turn_away(1_000, 0.0) == Doorstep(0, RULES).turn_away(1_000, 0.0)


def test_nor_do_sessions_of_one_edge() -> None:
    assert len({Doorstep(number, RULES).turn_away(1_000, 0.0) for number in range(20)}) == 20


@pytest.mark.parametrize("patience_s", [0.1, 30.0])
def test_patience_has_an_end(patience_s: float) -> None:
    waiting, now, tries = door(replace(RULES, patience=Patience(busy_s=patience_s))), 7.0, 0
    while (wait_s := waiting.turn_away(2_000, now)) is not None:
        now, tries = now + wait_s, tries + 1
        assert waiting.until == now <= 7.0 + patience_s
        waiting.leave()
    assert tries == {0.1: 0, 30.0: tries}[patience_s] < 10
    assert not waiting.is_waiting


def test_patience_begins_anew_once_it_was_taken_in() -> None:
    waiting = door(replace(RULES, patience=Patience(busy_s=4.0)))
    assert waiting.turn_away(2_000, 0.0) is not None
    waiting.answered()
    assert waiting.turn_away(2_000, 100.0) is not None
