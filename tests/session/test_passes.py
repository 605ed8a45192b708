"""Which sessions share a pass."""

from pipesd.session.cloud import CloudSession
from pipesd.session.passes import Share, collect
from tests.session.helpers import draft, grant, part, prompt

CHUNK = 4


def session(number: int, drafts: int = 0) -> CloudSession:
    """Behind a prompt of one chunk, with ``drafts`` drafts to be judged; or still before the prompt."""
    made = CloudSession(number, number, grant(chunk_tokens=CHUNK))
    made.prompt(prompt(1, 2), 0.0)
    if drafts:
        made.take_slices(1, chunk_allowed=True, now=0.0)
        made.settle((3,), 0.0)
        assert list(made.draft(draft(3, *range(drafts), ask=3 + drafts), 0.0)) == []
    assert made.is_due
    return made


def members(shares: list[Share]) -> list[int]:
    return [share.peer for share in shares]


def test_nobody_waits_and_there_is_no_pass() -> None:
    assert collect([], 8, 0.0) == []


def test_all_share_a_pass_while_there_is_room() -> None:
    due = [(number, session(number, drafts=2)) for number in range(3)]
    shares = collect(due, 9, 0.0)
    assert members(shares) == [0, 1, 2]
    assert shares[1].slices == (part(2, (3, 0, 1), 3, sequence=1),)
    assert not any(waiting.is_due for _, waiting in due)


def test_who_does_not_fit_stays_due() -> None:
    due = [(number, session(number, drafts=2)) for number in range(3)]
    assert members(collect(due, 6, 0.0)) == [0, 1]
    assert [waiting.is_due for _, waiting in due] == [False, False, True]


def test_drafts_are_taken_as_far_as_there_is_room() -> None:
    shares = collect([(0, session(0, drafts=2)), (1, session(1, drafts=4))], 5, 0.0)
    assert shares[1].slices == (part(2, (3, 0), 2, sequence=1),)


def test_what_must_be_evaluated_first_may_pass_the_budget() -> None:
    shares = collect([(0, session(0, drafts=4))], 1, 0.0)
    assert shares[0].slices == (part(2, (3,), 1),)


def test_at_most_one_prompt_chunk() -> None:
    due = [(0, session(0)), (1, session(1)), (2, session(2, drafts=1))]
    assert members(collect(due, 9, 0.0)) == [0, 2]
    assert due[1][1].is_due
    assert not due[1][1].was_evaluated


def test_a_prompt_chunk_takes_no_room_from_drafts() -> None:
    shares = collect([(0, session(0)), (1, session(1, drafts=1))], 2, 0.0)
    assert shares[0].slices == (part(0, (1, 2), 1, chunk=True),)
    assert shares[1].slices == (part(2, (3, 0), 2, sequence=1),)


def test_text_behind_which_a_new_prompt_stands_comes_with_its_first_chunk() -> None:
    waiting = session(0, drafts=1)
    waiting.prompt(prompt(5, 6, 7, 8, 9, epoch=2, base=3), 0.0)
    shares = collect([(0, waiting)], 9, 0.0)
    assert shares[0].slices == (part(2, (3,), 0), part(3, (5, 6, 7, 8), 0, chunk=True))
