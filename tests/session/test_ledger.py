"""The edge's books."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipesd.session.ledger import Ledger, first_of
from pipesd.transcript import common_prefix
from pipesd.values import Stretch

CHUNK = 2


def books(text: tuple[int, ...] = (1, 2, 3), drafted: tuple[int, ...] = (), sent: int = 0) -> Ledger:
    ledger = Ledger(CHUNK)
    ledger.prompt(0, text)
    for token in drafted[:sent]:
        ledger.draft(token)
    ledger.send(sent)
    for token in drafted[sent:]:
        ledger.draft(token)
    ledger.validate()
    return ledger


def test_new_books_are_empty() -> None:
    ledger = Ledger(CHUNK)
    assert (ledger.confirmed, ledger.end, ledger.epoch, list(ledger.asks)) == (0, 0, 0, [])
    ledger.validate()


def test_prompt_by_itself_asks_for_nothing() -> None:
    ledger = books()
    assert (ledger.confirmed, ledger.end, ledger.epoch, list(ledger.asks)) == (3, 3, 1, [])


def test_prompt_takes_text_back_and_discards() -> None:
    ledger = books(drafted=(4, 5), sent=1)
    ledger.ask(4)
    ledger.prompt(2, (8, 9))
    assert (ledger.text, ledger.suffix, ledger.sent_tokens) == ([1, 2, 8, 9], [], 0)
    assert (ledger.epoch, list(ledger.asks)) == (2, [])
    ledger.validate()


def test_prompt_beyond_the_text_is_our_own_fault() -> None:
    with pytest.raises(AssertionError, match="beyond"):
        books().prompt(4, (5,))


def test_stretches_from_any_position() -> None:
    ledger = books(drafted=(4, 5))
    first, second, drafts = Stretch((1, 2), True), Stretch((3,), True), Stretch((4, 5), False)
    assert [list(ledger.stretches_from(at)) for at in range(6)] == [
        [first, second, drafts],
        [Stretch((2,), True), second, drafts],
        [second, drafts],
        [drafts],
        [Stretch((5,), False)],
        [],
    ]


def test_a_prompt_says_what_of_the_old_text_still_holds() -> None:
    ledger = books(text=(1, 2, 3, 4, 5))
    assert ledger.prompt(3, (8, 9)) == 2
    assert ledger.prompt(5, (7,)) == 5
    assert list(ledger.stretches_from(2)) == [Stretch((3,), True), Stretch((8, 9), True), Stretch((7,), True)]


def test_drafts_are_sent_once() -> None:
    ledger = books()
    ledger.draft(4)
    ledger.draft(5)
    ledger.draft(6)
    assert ledger.send(2) == (3, (4, 5))
    assert (ledger.sent_tokens, ledger.sent_end) == (2, 5)
    assert ledger.send(0) == (5, ())
    assert ledger.send(1) == (5, (6,))
    assert (ledger.sent_tokens, ledger.sent_end) == (3, 6)
    ledger.validate()


def test_verdict_that_agrees_keeps_the_rest() -> None:
    ledger = books(drafted=(4, 5, 6, 7), sent=3)
    ledger.ask(4)
    assert ledger.settle(1, (5,)) is None
    assert (ledger.text, ledger.suffix) == ([1, 2, 3, 4, 5], [6, 7])
    assert (ledger.sent_tokens, ledger.epoch, list(ledger.asks)) == (1, 1, [])
    ledger.validate()


def test_verdict_may_confirm_what_was_not_sent_yet() -> None:
    ledger = books(drafted=(4, 5, 6), sent=1)
    assert ledger.settle(1, (5,)) is None
    assert (ledger.suffix, ledger.sent_tokens) == ([6], 0)
    assert ledger.sent_end == 5
    assert ledger.send(1) == (5, (6,))


def test_verdict_beyond_the_suffix_keeps_the_epoch() -> None:
    ledger = books(drafted=(4,), sent=1)
    assert ledger.settle(1, (5, 6)) is None
    assert (ledger.confirmed, ledger.suffix, ledger.epoch) == (6, [], 1)


def test_verdict_that_contradicts_discards() -> None:
    ledger = books(drafted=(4, 5, 6), sent=2)
    ledger.ask(5)
    assert ledger.settle(1, (9,)) == 4
    assert (ledger.text, ledger.suffix) == ([1, 2, 3, 4, 9], [])
    assert (ledger.epoch, list(ledger.asks), ledger.sent_tokens) == (2, [], 0)
    ledger.validate()


def test_contradiction_in_the_middle_of_several_tokens_is_named() -> None:
    assert books(drafted=(4, 5, 6), sent=3).settle(0, (4, 5, 9)) == 5


def test_more_accepted_than_sent_is_our_own_fault() -> None:
    with pytest.raises(AssertionError, match="accepted"):
        books(drafted=(4, 5), sent=1).settle(2, (6,))


def test_asks_are_answered_in_order() -> None:
    ledger = books(drafted=(4, 5, 6, 7), sent=4)
    for length in (4, 5, 7):
        ledger.ask(length)
    assert (list(ledger.asks), ledger.last_ask) == ([4, 5, 7], 7)
    ledger.settle(0, (4,))
    assert list(ledger.asks) == [5, 7]
    ledger.settle(1, (6,))
    assert list(ledger.asks) == [7]
    ledger.settle(1, (8,))
    assert (list(ledger.asks), ledger.last_ask) == ([], 0)


def test_cancel_is_a_discard() -> None:
    ledger = books(drafted=(4,))
    ledger.ask(4)
    ledger.cancel()
    assert (ledger.text, ledger.suffix, ledger.epoch, list(ledger.asks)) == ([1, 2, 3], [], 2, [])


def test_what_was_sent_in_vain_is_a_new_epoch_with_the_same_drafts() -> None:
    ledger = books(drafted=(4, 5, 6), sent=2)
    ledger.ask(5)
    ledger.unsend()
    assert (ledger.suffix, ledger.sent_tokens, ledger.end) == ([4, 5, 6], 0, 6)
    assert (ledger.epoch, list(ledger.asks)) == (2, [])
    ledger.validate()
    assert ledger.send(3) == (3, (4, 5, 6))
    assert ledger.settle(2, (6,)) is None
    assert (ledger.text, ledger.suffix) == ([1, 2, 3, 4, 5, 6], [])


def test_a_text_is_said_again_with_its_parts_and_without_drafts() -> None:
    ledger = books(drafted=(4, 5, 6), sent=2)
    ledger.settle(1, (5,))
    ledger.prompt(4, (7, 8))
    ledger.draft(9)
    assert ledger.segments() == ((True, (1, 2, 3)), (False, (4,)), (True, (7, 8)))
    assert Ledger(CHUNK).segments() == ()


def test_validate_finds_broken_books() -> None:
    ledger = books()
    ledger.ask(2)
    with pytest.raises(AssertionError, match="answered ask"):
        ledger.validate()
    ledger = books()
    ledger.sent_tokens = 1
    with pytest.raises(AssertionError, match="more sent"):
        ledger.validate()
    ledger = books()
    ledger.ask(9)
    ledger.ask(8)
    with pytest.raises(AssertionError, match="order"):
        ledger.validate()
    ledger = books()
    ledger.suffix.append(4)
    with pytest.raises(AssertionError, match="end"):
        ledger.validate()
    ledger = books()
    ledger.text.append(4)
    with pytest.raises(AssertionError, match="confirmed"):
        ledger.validate()


@given(st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)))
def test_common_prefix_is_shared_and_longest(left: list[int], right: list[int]) -> None:
    shared = common_prefix(left, right)
    assert left[:shared] == right[:shared]
    assert shared in (len(left), len(right)) or left[shared] != right[shared]


@given(st.frozensets(st.integers(0, 3)), st.lists(st.integers(0, 3)).map(tuple))
def test_first_of_is_one_of_them_and_none_comes_before(ids: frozenset[int], tokens: tuple[int, ...]) -> None:
    at = first_of(ids, tokens)
    assert ids.isdisjoint(tokens[:at])
    assert at == len(tokens) or tokens[at] in ids


@given(
    st.lists(st.integers(0, 2), max_size=6), st.lists(st.integers(0, 2), min_size=1, max_size=8), st.data()
)
def test_settled_text_is_what_the_verdict_says(
    drafted: list[int], news: list[int], data: st.DataObject
) -> None:
    sent = data.draw(st.integers(0, len(drafted)))
    accepted = min(common_prefix(drafted[:sent], news), len(news))
    ledger = books(drafted=tuple(drafted), sent=sent)
    ledger.settle(accepted, tuple(news[accepted:]))
    ledger.validate()
    stays = common_prefix(drafted, news) == min(len(drafted), len(news))
    assert ledger.text == [1, 2, 3, *news]
    assert ledger.suffix == (drafted[len(news) :] if stays else [])
    assert ledger.epoch == (1 if stays else 2)
