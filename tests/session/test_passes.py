"""Which sessions share a pass."""

from pipesd.session.cloud import CloudSession
from pipesd.session.passes import PassLimits, Share, collect
from pipesd.session.places import TENURE_S, Places
from tests.session.helpers import draft, grant, part, prompt

CHUNK = 4


def session(number: int, drafts: int = 0) -> CloudSession:
    """Behind a prompt of one chunk, with ``drafts`` drafts to be judged; or still before the prompt."""
    made = CloudSession(number, 0, grant(chunk_tokens=CHUNK))
    made.prompt(prompt(1, 2), 0.0)
    if drafts:
        made.sit(number, 0, None)
        made.take_slices(1, CHUNK, 0.0)
        made.settle((3,), 0.0)
        assert list(made.draft(draft(3, *range(drafts), ask=3 + drafts), 0.0)) == []
    assert made.is_due
    return made


def shares_of(due: list[CloudSession], tokens: int, *, sessions: int = 9) -> list[Share]:
    limits = PassLimits(tokens=tokens, prompt_tokens=CHUNK, sessions=sessions)
    shares, evicted = collect(due, limits, Places(9, CHUNK), 0.0)
    assert not evicted
    return shares


def members(shares: list[Share]) -> list[int]:
    return [share.session.peer for share in shares]


def test_nobody_waits_and_there_is_no_pass() -> None:
    assert shares_of([], 8) == []


def test_all_share_a_pass_while_there_is_room() -> None:
    due = [session(number, drafts=2) for number in range(3)]
    shares = shares_of(due, 9)
    assert members(shares) == [0, 1, 2]
    assert shares[1].slices == (part(2, (3, 0, 1), 3, sequence=1),)
    assert not any(waiting.is_due for waiting in due)


def test_who_does_not_fit_stays_due() -> None:
    due = [session(number, drafts=2) for number in range(3)]
    assert members(shares_of(due, 6)) == [0, 1]
    assert [waiting.is_due for waiting in due] == [False, False, True]


def test_drafts_are_taken_as_far_as_there_is_room() -> None:
    shares = shares_of([session(0, drafts=2), session(1, drafts=4)], 5)
    assert shares[1].slices == (part(2, (3, 0), 2, sequence=1),)


def test_what_must_be_evaluated_first_comes_before_drafts() -> None:
    shares = shares_of([session(0, drafts=4)], 1)
    assert shares[0].slices == (part(2, (3,), 1),)


def test_prompts_get_as_much_as_one_chunk_together() -> None:
    due = [session(0), session(1), session(2), session(3, drafts=1)]
    assert members(shares_of(due, 9)) == [0, 1, 3]
    assert due[2].is_due
    assert due[2].sequence is None


def test_no_more_sessions_than_allowed() -> None:
    due = [session(number, drafts=2) for number in range(3)]
    assert members(shares_of(due, 99, sessions=1)) == [0]
    assert [waiting.is_due for waiting in due] == [False, True, True]


def test_a_text_that_lost_its_place_is_read_again_as_far_as_there_is_room() -> None:
    waiting = session(0, drafts=4)
    waiting.prompt(prompt(5, 6, 7, 8, 9, epoch=2, base=3), 0.0)
    waiting.stand()
    places, found = Places(1, CHUNK), []
    for _ in range(3):
        shares, _ = collect([waiting], PassLimits(tokens=1, prompt_tokens=CHUNK, sessions=1), places, 0.0)
        found.append(shares[0].slices)
        waiting.settle((7,) * shares[0].slices[-1].picks, 0.0)
    assert found[:3] == [
        (part(0, (1, 2), 0, chunk=True), part(2, (3,), 0)),
        (part(3, (5, 6, 7, 8), 0, chunk=True),),
        (part(7, (9,), 1, chunk=True),),
    ]


def test_those_without_a_place_wait_until_somebody_may_lose_his() -> None:
    places, limits = Places(1, CHUNK), PassLimits(tokens=9, prompt_tokens=CHUNK, sessions=9)
    due = [session(0), session(1)]
    shares, evicted = collect(due, limits, places, 0.0)
    assert (members(shares), evicted) == ([0], 0)
    shares[0].session.settle((3,), 0.0)
    assert collect(due[1:], limits, places, 0.0) == ([], 0)
    shares, evicted = collect(due[1:], limits, places, TENURE_S)
    assert (members(shares), evicted) == ([1], 1)
    assert due[0].unread_tokens == due[0].length


def test_a_prompt_chunk_takes_no_room_from_drafts() -> None:
    shares = shares_of([session(0), session(1, drafts=1)], 2)
    assert shares[0].slices == (part(0, (1, 2), 1, chunk=True),)
    assert shares[1].slices == (part(2, (3, 0), 2, sequence=1),)


def test_text_behind_which_a_new_prompt_stands_comes_with_its_first_chunk() -> None:
    waiting = session(0, drafts=1)
    waiting.prompt(prompt(5, 6, 7, 8, 9, epoch=2, base=3), 0.0)
    shares = shares_of([waiting], 9)
    assert shares[0].slices == (part(2, (3,), 0), part(3, (5, 6, 7, 8), 0, chunk=True))
