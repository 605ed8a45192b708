"""What the cloud holds of an answer, and of the pass that is running."""

import pytest

from pipesd.session.flight import Answer, Flight, Losses
from pipesd.values import Finish, Sampling
from tests.session.helpers import END


def test_a_flight_is_of_use_until_something_makes_it_stale() -> None:
    flight = Flight(end=4, drafts=1, picks=2, started=0.5, queued_s=0.1)
    assert not flight.stale
    flight.stale = True
    assert flight.stale


def test_answers_with_the_same_limits_are_alike() -> None:
    assert Answer(9, Sampling(), 3) == Answer(9, Sampling(), 3)
    assert Answer(9, Sampling(), 3) != Answer(9, Sampling(), 4)


@pytest.mark.parametrize(
    ("limit", "context", "news", "kept", "finish"),
    [
        (10, 100, (1, 2), (1, 2), None),
        (10, 100, (1, 2, 3), (1, 2, 3), "length"),
        (10, 100, (1, 2, 3, 4), (1, 2, 3), "length"),
        (100, 10, (1, 2, 3), (1, 2, 3), "context"),
        (100, 10, (1, 2, 3, 4), (1, 2, 3), "context"),
        (10, 10, (1, 2, 3), (1, 2, 3), "length"),
        (10, 100, (1, END), (1, END), "stop"),
        (10, 100, (END, 2, END), (END,), "stop"),
        (10, 100, (1, 2, END), (1, 2, END), "stop"),
        (100, 10, (1, 2, END), (1, 2, END), "stop"),
        (10, 100, (1, 2, 3, END), (1, 2, 3), "length"),
        (100, 10, (1, 2, 3, END), (1, 2, 3), "context"),
    ],
)
def test_an_answer_ends_at_the_first_end_id_or_where_its_room_does(
    limit: int, context: int, news: tuple[int, ...], kept: tuple[int, ...], finish: Finish | None
) -> None:
    """The text has 7 tokens, so that limits of 10 leave room for 3."""
    answer = Answer(limit, Sampling(), 0)
    assert answer.cut(list(news), 7, context, frozenset({END})) == (list(kept), finish)


def test_a_pass_that_was_done_as_far_as_a_lost_one_clears_the_session():
    losses = Losses()
    for end in (30, 20, 40):
        losses.lost(end)
    losses.done(19)
    assert losses.count == 3
    losses.done(20)
    assert losses.count == 0
    losses.lost(50)
    losses.done(49)
    assert losses.count == 1
