"""Which verdicts are owed, and since when."""

import pytest

from pipesd.errors import PeerError
from pipesd.session.owed import Owed
from pipesd.session.rules import ASKS_MAX


def owed(*asks: tuple[int, float]) -> Owed:
    """(position, moment) of each ask."""
    made = Owed()
    for position, now in asks:
        made.ask(position, now)
    made.validate(0)
    return made


def test_nothing_is_owed_to_who_asked_for_nothing() -> None:
    made = Owed()
    assert not made.asks
    assert len(made.asks) == 0
    made.validate(100)


def test_the_first_ask_is_due_at_once_and_those_behind_it_with_it() -> None:
    made = owed((4, 1.0), (6, 2.0))
    assert made.asks
    assert (len(made.asks), made.since) == (2, 1.0)


def test_an_answer_serves_every_ask_up_to_it() -> None:
    made = owed((4, 1.0), (6, 2.0), (9, 3.0))
    made.answered(3, began=4.0, now=5.0)
    assert len(made.asks) == 3
    made.answered(6, began=6.0, now=7.0)
    assert len(made.asks) == 1
    made.validate(6)
    made.answered(20, began=8.0, now=9.0)
    assert not made.asks


def test_what_the_pass_served_is_due_anew_behind_it() -> None:
    made = owed((9, 1.0))
    made.answered(4, began=2.0, now=3.0)
    assert made.since == 3.0


def test_what_came_during_the_pass_was_due_from_then_on() -> None:
    made = owed((4, 1.0), (9, 2.5))
    made.answered(4, began=2.0, now=3.0)
    assert made.since == 2.5


def test_what_came_before_the_pass_and_was_not_reached_was_served_by_it() -> None:
    made = owed((4, 1.0), (9, 1.5))
    made.answered(4, began=2.0, now=3.0)
    assert made.since == 3.0


def test_who_is_owed_nothing_more_begins_to_wait_with_the_next_ask() -> None:
    made = owed((4, 1.0))
    made.answered(4, began=2.0, now=3.0)
    made.ask(6, 8.0)
    assert made.since == 8.0


def test_an_ask_below_an_earlier_one_asks_for_as_much() -> None:
    made = owed((9, 1.0), (4, 2.0))
    made.answered(8, began=3.0, now=4.0)
    assert len(made.asks) == 2
    made.validate(8)
    made.answered(9, began=5.0, now=6.0)
    assert not made.asks


def test_what_was_given_up_is_owed_no_more() -> None:
    made = owed((4, 1.0), (9, 2.0))
    made.clear()
    assert not made.asks
    made.ask(5, 7.0)
    assert (len(made.asks), made.since) == (1, 7.0)


def test_there_may_be_so_many_and_no_more() -> None:
    made = owed(*[(9, 0.0)] * ASKS_MAX)
    with pytest.raises(PeerError, match=f"more than {ASKS_MAX} unanswered asks") as caught:
        made.ask(10, 0.0)
    assert caught.value.code == "protocol"
    assert len(made.asks) == ASKS_MAX
    made.answered(9, began=0.0, now=1.0)
    made.ask(10, 2.0)
    assert len(made.asks) == 1


def test_an_ask_that_the_text_has_reached_is_found() -> None:
    made = owed((4, 1.0))
    with pytest.raises(AssertionError, match="still owed"):
        made.validate(4)
