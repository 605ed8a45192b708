"""Who has a place in the model's cache, who loses it, and what is copied."""

import math
from collections.abc import Callable

import pytest

from pipesd.session.cloud import CloudSession
from pipesd.session.places import TENURE_S, Places
from tests.session.helpers import draft, grant, prompt

CHUNK = 4
COMMON = (1, 2, 3, 4, 5, 6, 7, 8)


def session(*tokens: int) -> CloudSession:
    made = CloudSession(0, 0, grant(chunk_tokens=CHUNK))
    made.prompt(prompt(*tokens), 0.0)
    return made


def read(made: CloudSession) -> CloudSession:
    """Its prompt goes through the model, chunk by chunk, and the first token comes."""
    prompt_tokens = made.length
    while made.length == prompt_tokens:
        slices = made.take_slices(9, CHUNK, 0.0)
        made.settle((9,) * slices[-1].picks, 0.0)
    return made


def seated(places: Places, *tokens: int, now: float = 0.0) -> CloudSession:
    made = session(*tokens)
    assert places.take(made, (), now) is False
    return read(made)


def test_each_has_a_place_of_its_own_while_there_are_free_ones() -> None:
    places = Places(3, CHUNK)
    assert {seated(places, number).sequence for number in range(3)} == {0, 1, 2}
    assert places.take(session(9), (), 0.0) is None


def test_whole_chunks_of_another_beginning_are_copied() -> None:
    places = Places(2, CHUNK)
    first = seated(places, *COMMON, 9)
    second = session(*COMMON, 10, 11)
    assert places.take(second, (), 0.0) is False
    (part,) = second.take_slices(9, CHUNK, 0.0)
    assert (part.copy_of, part.base, part.tokens) == (first.sequence, len(COMMON), (10, 11))


def test_what_was_copied_is_not_copied_again() -> None:
    places = Places(2, CHUNK)
    seated(places, *COMMON)
    second = session(*COMMON, *range(10, 20))
    places.take(second, (), 0.0)
    assert [part.copy_of for part in second.take_slices(9, CHUNK, 0.0)] == [0]
    second.settle((), 0.0)
    assert [part.copy_of for part in second.take_slices(9, CHUNK, 0.0)] == [None]


@pytest.mark.parametrize(
    ("ours", "shared"),
    [
        (COMMON[:4], 0),
        (COMMON[:5], 4),
        (COMMON, 4),
        ((*COMMON, 9), 8),
        ((*COMMON[:7], 0, 9), 4),
        ((0, *COMMON), 0),
    ],
)
def test_a_token_is_always_left_to_be_read(ours: tuple[int, ...], shared: int) -> None:
    places = Places(2, CHUNK)
    seated(places, *COMMON, 9, 9, 9, 9, 9)
    second = session(*ours)
    places.take(second, (), 0.0)
    assert second.unread_tokens == len(ours) - shared


def test_only_what_is_in_the_cache_is_copied() -> None:
    places = Places(2, CHUNK)
    first = session(*COMMON, 9)
    places.take(first, (), 0.0)
    first.take_slices(9, CHUNK, 0.0)
    first.settle((), 0.0)
    second = session(*COMMON, 9)
    places.take(second, (), 0.0)
    assert second.unread_tokens == len(COMMON) + 1 - CHUNK


def test_a_later_prompt_is_not_shared() -> None:
    places = Places(2, CHUNK)
    first = seated(places, 1, 2)
    first.prompt(prompt(*COMMON, epoch=5, base=3), 0.0)
    second = session(1, 2, 9, *COMMON)
    places.take(second, (), 0.0)
    assert second.unread_tokens == 3 + len(COMMON)


def test_who_leaves_leaves_the_beginning_behind_and_the_next_takes_it_over() -> None:
    places = Places(2, CHUNK)
    gone = seated(places, *COMMON, 9)
    sequence = gone.sequence
    assert places.leave(gone) is None
    assert gone.sequence is None
    after = session(*COMMON, 3)
    places.take(after, (), 0.0)
    (part,) = after.take_slices(9, CHUNK, 0.0)
    assert (part.sequence, part.copy_of, part.base) == (sequence, None, len(COMMON))


def test_who_leaves_nothing_worth_keeping_lets_the_engine_forget_it() -> None:
    places = Places(2, CHUNK)
    gone = seated(places, 1, 2)
    sequence = gone.sequence
    assert places.leave(gone) == sequence
    assert places.leave(session(1)) is None


def test_a_beginning_that_many_share_outlives_others() -> None:
    places = Places(3, CHUNK)
    for tokens in (COMMON, (9,), (10,)):
        places.leave(seated(places, *tokens, 3))
    other = seated(places, 11)
    assert session(*COMMON, 4).prefix_tokens == len(COMMON)
    after = session(*COMMON, 4)
    places.take(after, (), 0.0)
    assert after.unread_tokens == 1
    assert other.sequence != after.sequence


def test_an_idle_session_loses_its_place_at_once() -> None:
    places = Places(2, CHUNK)
    idle, busy = seated(places, 1), seated(places, 2)
    idle.decline()
    fresh = session(3)
    assert places.take(fresh, (), 0.0) is True
    assert (idle.sequence, idle.unread_tokens) == (None, idle.length)
    assert busy.sequence is not None


def test_a_busy_session_keeps_its_place_for_a_while() -> None:
    places = Places(1, CHUNK)
    busy = seated(places, 1, now=5.0)
    fresh = session(2)
    assert places.take(fresh, (), 5.0) is None
    assert places.next_free() == 5.0 + TENURE_S
    assert places.take(fresh, (0,), places.next_free()) is None
    assert places.take(fresh, (), places.next_free()) is True
    assert busy.sequence is None


def test_nobody_loses_a_place_that_was_of_no_use_yet() -> None:
    places = Places(1, CHUNK)
    reading = session(*COMMON)
    places.take(reading, (), 0.0)
    reading.take_slices(9, CHUNK, 0.0)
    reading.settle((), 0.0)
    assert places.take(session(9), (), 5 * TENURE_S) is None
    assert math.isinf(places.next_free())
    read(reading)
    assert places.take(session(9), (), 5 * TENURE_S) is True


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(CloudSession.park, id="its edge is away"),
        pytest.param(
            lambda reading: reading.draft(draft(len(COMMON), epoch=2), 0.0), id="it asks for nothing"
        ),
    ],
)
def test_but_to_those_who_do_not_wait_for_it_any_more(leave: Callable[[CloudSession], object]) -> None:
    places = Places(1, CHUNK)
    reading = session(*COMMON)
    places.take(reading, (), 0.0)
    reading.take_slices(9, CHUNK, 0.0)
    reading.settle((), 0.0)
    leave(reading)
    assert places.take(session(9), (), 0.0) is True
    assert reading.sequence is None


def test_who_was_used_longest_ago_goes_first() -> None:
    places = Places(2, CHUNK)
    first, second = seated(places, 1), seated(places, 2)
    assert first.sequence is not None
    places.used(first.sequence)
    places.take(session(3), (), TENURE_S)
    assert (first.sequence is None, second.sequence is None) == (False, True)


def test_nothing_is_copied_from_a_place_that_was_spoiled() -> None:
    places = Places(2, CHUNK)
    spoiled = seated(places, *COMMON)
    sequence = spoiled.sequence
    assert sequence is not None
    places.spoil(sequence)
    assert (spoiled.sequence, spoiled.unread_tokens) == (None, spoiled.length)
    after = session(*COMMON, 3)
    places.take(after, (), 0.0)
    assert after.unread_tokens == len(COMMON) + 1


def test_an_engine_that_was_started_anew_holds_nothing() -> None:
    places = Places(3, CHUNK)
    there = [seated(places, *COMMON, number) for number in range(2)]
    places.leave(seated(places, *COMMON))
    places.spoil_all()
    assert [each.sequence for each in there] == [None, None]
    after = session(*COMMON, 3)
    places.take(after, (), 0.0)
    assert after.unread_tokens == len(COMMON) + 1
