"""Whether a session may speak, and with which words it is taken up again."""

import pytest

from pipesd.errors import PeerError
from pipesd.session.generation import Generation
from pipesd.session.ledger import Ledger
from pipesd.session.rules import EdgeRules, Patience
from pipesd.session.tie import Tie
from pipesd.values import Sampling
from pipesd.wire.codec import FRAME_BYTES_MAX, encode
from pipesd.wire.frames import PROMPT_TOKENS_MAX, Close, Open, Restore, Resume

LEASE = b"sixteen bytes ok"
WARM = Sampling(temperature=0.5)
NEVER = (False, False)


def tie(rules: EdgeRules | None = None) -> Tie:
    return Tie(3, rules or EdgeRules())


def books() -> Ledger:
    """A prompt of three tokens, an answer of one, and a draft."""
    made = Ledger(2)
    made.prompt(0, (1, 2, 3))
    made.settle(0, (10,))
    made.draft(11)
    return made


def taken_up(lease: bytes = LEASE) -> tuple[Tie, Ledger]:
    """A session that a cloud has, in the middle of its first answer."""
    made, text = tie(), books()
    made.take_up(Ledger(2))
    made.opened(lease)
    assert made.note_turn(text.epoch)
    return made, text


def stands(made: Tie) -> tuple[bool, bool]:
    """(whether it may speak, whether this connection's cloud has heard of it)"""
    return made.is_there, made.is_known


# -- whether it may speak ---------------------------------------------------------------------------------


def test_nobody_has_heard_of_a_new_session() -> None:
    made = tie()
    assert stands(made) == NEVER
    assert not made.note_turn(1)
    assert not made.door.is_waiting


def test_a_session_that_is_opened_may_speak_at_once() -> None:
    made = tie()
    assert made.take_up(Ledger(2)) == Open(3)
    assert stands(made) == (True, True)
    assert made.note_turn(1)


def test_a_session_whose_connection_is_gone_is_silent() -> None:
    made, _ = taken_up()
    made.cut()
    assert stands(made) == NEVER
    assert not made.note_turn(2)


def test_who_resumes_is_silent_until_the_cloud_has_answered() -> None:
    made, text = taken_up()
    made.cut()
    text.unsend()
    assert made.take_up(text) == Resume(3, LEASE, 2, 1, 4)
    assert stands(made) == (False, True)
    assert not made.resumed(need=False)
    assert stands(made) == (True, True)


def test_who_was_turned_away_is_silent_until_it_knocks_again() -> None:
    made, _ = taken_up()
    wait_s = made.turn_away(1_000, 5.0)
    assert wait_s is not None
    assert made.door.until == 5.0 + wait_s
    assert stands(made) == (False, True)
    assert made.knock() == []
    assert stands(made) == (True, True)
    assert not made.door.is_waiting


def test_who_has_no_patience_is_told_so() -> None:
    made = tie(EdgeRules(patience=Patience(busy_s=0.1)))
    made.take_up(Ledger(2))
    assert made.turn_away(1_000, 5.0) is None


def test_a_session_waits_at_no_door_of_a_cloud_that_is_gone() -> None:
    made, _ = taken_up()
    made.turn_away(1_000, 5.0)
    made.cut()
    assert not made.door.is_waiting


# -- how it is taken up again -----------------------------------------------------------------------------


def test_without_a_lease_it_is_opened_anew() -> None:
    made, text = taken_up(lease=b"")
    made.cut()
    assert made.take_up(text) == Open(3)
    assert stands(made) == (True, True)


def test_who_was_never_told_of_a_lease_opens_anew() -> None:
    made, text = tie(), books()
    made.take_up(text)
    made.cut()
    assert made.take_up(text) == Open(3)


def test_the_newest_lease_is_shown() -> None:
    made, text = taken_up()
    made.opened(b"another")
    made.cut()
    assert made.take_up(text) == Resume(3, b"another", 1, 1, 4)


def test_a_cloud_that_does_not_know_it_needs_the_whole_text() -> None:
    made, text = taken_up()
    made.cut()
    made.take_up(text)
    assert made.resumed(need=True)


def test_a_cloud_that_does_not_know_of_the_last_turn_needs_the_whole_text() -> None:
    """A prompt was given, or an answer cancelled, after Resume was said."""
    made, text = taken_up()
    made.cut()
    made.take_up(text)
    made.note_turn(5)
    assert made.resumed(need=False)


def test_a_turn_of_before_the_resume_is_told_with_it() -> None:
    made, text = taken_up()
    made.cut()
    made.note_turn(5)
    assert made.take_up(text) == Resume(3, LEASE, 1, 5, 4)
    assert not made.resumed(need=False)


def test_an_answer_that_nobody_asked_for_is_the_clouds_fault() -> None:
    made, text = taken_up()
    resumed_without_reason(made)
    made.cut()
    made.take_up(text)
    made.resumed(need=True)
    resumed_without_reason(made)


@pytest.mark.parametrize("is_cut", [True, False])
def test_nor_is_one_expected_by_who_was_cut_or_turned_away(is_cut: bool) -> None:
    made, text = taken_up()
    made.cut()
    made.take_up(text)
    if is_cut:
        made.cut()
    else:
        made.turn_away(1_000, 0.0)
    resumed_without_reason(made)


def resumed_without_reason(made: Tie) -> None:
    before = stands(made)
    for need in (True, False):
        with pytest.raises(PeerError, match="session 3 was resumed, which nobody asked for"):
            made.resumed(need=need)
    assert stands(made) == before


@pytest.mark.parametrize("is_open", [True, False])
def test_only_a_session_that_was_never_opened_is_opened_again(is_open: bool) -> None:
    """What follows Open in the same breath was passed over with it."""
    made, text = tie(), books()
    made.take_up(text)
    if is_open:
        made.opened(LEASE)
    made.turn_away(1_000, 0.0)
    assert made.knock() == ([] if is_open else [Close(3), Open(3)])


def test_a_session_that_was_resumed_is_open() -> None:
    made, text = taken_up()
    made.cut()
    made.take_up(text)
    made.resumed(need=False)
    made.turn_away(1_000, 0.0)
    assert made.knock() == []


def test_a_session_that_was_open_at_another_cloud_is_opened_at_this_one() -> None:
    made, text = taken_up()
    made.cut()
    made.take_up(text)
    made.turn_away(1_000, 0.0)
    assert made.knock() == [Close(3), Open(3)]


# -- the whole text ---------------------------------------------------------------------------------------


def test_the_whole_text_goes_with_the_answer_that_is_being_written() -> None:
    made, text = taken_up()
    text.unsend()
    answer = Generation(start=3, tokens_max=20, limit=9, sampling=WARM, seed=8)
    assert made.restore(text, answer) == Restore(3, 2, ((True, (1, 2, 3)), (False, (10,))), WARM, 8, 3, 20)


def test_a_text_to_which_nothing_is_written_goes_alone() -> None:
    made, text = taken_up()
    frame = made.restore(text, None)
    assert frame is not None
    assert (frame.length, frame.tokens_max) == (4, 0)


def test_a_restored_text_counts_as_the_last_turn() -> None:
    made, text = taken_up()
    text.unsend()
    made.restore(text, None)
    made.cut()
    text.unsend()
    assert made.take_up(text) == Resume(3, LEASE, 3, 2, 4)


LARGE = 2**31 - 1
"""A token that takes as much of a frame as one can."""


@pytest.mark.parametrize(
    ("prompts", "fits"),
    [
        pytest.param([PROMPT_TOKENS_MAX], True, id="the longest prompt"),
        pytest.param([PROMPT_TOKENS_MAX, 9_000], True, id="not much more"),
        pytest.param([PROMPT_TOKENS_MAX, 10_000], False, id="much more"),
        pytest.param([1] * 80_000, True, id="many turns"),
        pytest.param([1] * 140_000, False, id="too many of them"),
    ],
)
def test_a_text_that_no_frame_can_hold_is_not_said(prompts: list[int], fits: bool) -> None:
    text = Ledger(512)
    for tokens in prompts:
        text.prompt(text.confirmed, (LARGE,) * tokens)
    frame = tie().restore(text, None)
    assert (frame is not None) == fits
    if frame is not None:
        assert len(encode(frame)) <= FRAME_BYTES_MAX
