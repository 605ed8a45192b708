"""Who is turned away waits a while, and says the same again."""

import math
from dataclasses import replace

import pytest

from pipesd.session.doorstep import Doorstep
from pipesd.session.rules import EdgeRules, Patience
from pipesd.wire.frames import Cancel, Close, Open
from tests.session.helpers import prompt

RULES = EdgeRules(patience=Patience(busy_s=60.0))


def door(rules: EdgeRules = RULES, *, is_open: bool = False) -> Doorstep:
    made = Doorstep(0, rules)
    if is_open:
        made.opened()
    return made


def test_nobody_waits_who_was_not_turned_away() -> None:
    fresh = door()
    assert not fresh.is_waiting
    assert math.isinf(fresh.until)


def test_a_session_that_was_not_opened_says_everything_again() -> None:
    closed = door()
    said = (prompt(1, 2), Cancel(0, 2), prompt(3, base=2, epoch=3))
    assert all(closed.say(frame) for frame in said)
    assert closed.turn_away(1_000, 5.0) is not None
    assert closed.is_waiting
    assert list(closed.again(4)) == [Close(0), Open(0), *said[:2], prompt(3, base=2, epoch=4)]
    assert not closed.is_waiting


def test_what_is_said_before_there_is_room_waits_with_the_rest() -> None:
    closed = door()
    closed.say(prompt(1))
    closed.turn_away(1_000, 0.0)
    assert not closed.say(Cancel(0, 2))
    assert list(closed.again(2)) == [Close(0), Open(0), prompt(1), Cancel(0, 2)]


def test_an_open_session_says_its_last_prompt_again() -> None:
    opened = door()
    for frame in (prompt(1), Cancel(0, 2), prompt(2, epoch=3)):
        opened.say(frame)
    opened.opened()
    opened.turn_away(1_000, 0.0)
    assert list(opened.again(4)) == [prompt(2, epoch=4)]
    opened.turn_away(1_000, 0.0)
    assert list(opened.again(5)) == [prompt(2, epoch=5)]


def test_a_newer_word_takes_the_place_of_what_waits() -> None:
    opened = door(is_open=True)
    opened.say(prompt(1))
    opened.turn_away(1_000, 0.0)
    assert opened.say(Cancel(0, 2))
    assert not opened.is_waiting
    assert list(opened.again(2)) == []


def test_what_was_answered_is_not_said_again() -> None:
    opened = door(is_open=True)
    opened.say(prompt(1))
    opened.answered()
    assert list(opened.again(2)) == []


def test_waits_grow_and_are_somewhere_about_what_the_cloud_named() -> None:
    waiting = door(replace(RULES, patience=Patience()))
    waits = [waiting.turn_away(2_000, 0.0) or 0.0 for _ in range(6)]
    for wait_s, times in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert 1.0 * times <= wait_s <= 3.0 * times
    waiting.answered()
    assert (waiting.turn_away(2_000, 9.0) or 0.0) <= 3.0


def test_edges_that_were_turned_away_together_do_not_come_back_together() -> None:
    waits = {Doorstep(0, replace(RULES, luck=luck)).turn_away(1_000, 0.0) for luck in range(20)}
    assert len(waits) == 20
    assert Doorstep(0, RULES).turn_away(1_000, 0.0) == Doorstep(0, RULES).turn_away(1_000, 0.0)


@pytest.mark.parametrize("patience_s", [0.1, 30.0])
def test_patience_has_an_end(patience_s: float) -> None:
    waiting, now, tries = door(replace(RULES, patience=Patience(busy_s=patience_s))), 7.0, 0
    while (wait_s := waiting.turn_away(2_000, now)) is not None:
        now, tries = now + wait_s, tries + 1
        assert waiting.until == now <= 7.0 + patience_s
        list(waiting.again(tries))
    assert tries == {0.1: 0, 30.0: tries}[patience_s] < 10
    assert not waiting.is_waiting
