"""Trips are drawn from a seed, and hold what was asked for."""

from itertools import pairwise

import pytest

from pipesd.lab.scenarios import SCENARIOS
from pipesd.lab.stormy_trip import PROMPT_MARK, Trip, trips

S1 = SCENARIOS["s1"]
MANY = trips(400, S1, 1)


@pytest.mark.parametrize("answers", [1, 2, 7, 50])
def test_so_many_answers_are_to_be_read_to_their_ends(answers: int):
    drawn = trips(answers, S1, 5)
    assert sum(trip.whole for trip in drawn) == answers
    assert all(talk for trip in drawn for talk in trip.talks)


def test_a_seed_gives_the_same_trips_and_another_one_others():
    assert trips(30, S1, 2) == trips(30, S1, 2) != trips(30, S1, 3)


def test_fewer_answers_are_the_beginning_of_more():
    few, more = trips(20, S1, 4), trips(60, S1, 4)
    assert few[:-1] == more[: len(few) - 1]


def test_prompts_show_in_a_text_where_they_begin():
    for trip in MANY:
        for turn in (turn for talk in trip.talks for turn in talk):
            assert turn.prompt[0] == PROMPT_MARK
            assert all(0 < token < 256 for token in turn.prompt[1:])


def test_who_takes_a_turn_back_says_the_same_and_more():
    pairs = [pair for trip in MANY for talk in trip.talks for pair in pairwise(talk) if pair[1].again]
    assert pairs
    for before, after in pairs:
        assert after.prompt[: len(before.prompt)] == before.prompt != after.prompt
    assert not any(talk[0].again for trip in MANY for talk in trip.talks)


def test_among_many_there_is_everything():
    def kinds(name: str) -> int:
        return len({getattr(trip, name) for trip in MANY})

    assert kinds("offline") == kinds("verify") == 3
    assert {trip.policy for trip in MANY} == {"pipesd", "cloud-only"}
    assert kinds("short_patience") == kinds("lease_s") == kinds("clouds") == kinds("kv_sequences") == 2
    assert kinds("window_tokens") == 2
    assert {trip.sampling.greedy for trip in MANY} == {True, False}
    assert {len(trip.talks) for trip in MANY} >= {1, 3}


def test_readers_leave_at_once_in_between_and_in_a_stall():
    left = [turn for turn in _turns(MANY) if turn.leaves_after is not None]
    assert {0} < {turn.leaves_after for turn in left}
    assert {turn.leaves_in_stall for turn in left} == {True, False}


def test_some_prompts_have_several_chunks():
    lengths = [len(turn.prompt) for turn in _turns(MANY)]
    assert min(lengths) <= 5
    assert max(lengths) > 2 * 64


def _turns(drawn: list[Trip]):
    return [turn for trip in drawn for talk in trip.talks for turn in talk]
