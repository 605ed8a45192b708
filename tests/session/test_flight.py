"""What the cloud holds of the pass that is running."""

from pipesd.session.flight import Answer, Flight
from pipesd.values import Sampling


def test_a_flight_is_of_use_until_something_makes_it_stale() -> None:
    flight = Flight(end=4, drafts=1, picks=2, started=0.5, queued_s=0.1)
    assert not flight.stale
    flight.stale = True
    assert flight.stale


def test_answers_with_the_same_limits_are_alike() -> None:
    assert Answer(9, Sampling(), 3) == Answer(9, Sampling(), 3)
    assert Answer(9, Sampling(), 3) != Answer(9, Sampling(), 4)
