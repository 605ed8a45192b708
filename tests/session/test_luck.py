"""What looks drawn, and is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipesd.session.luck import full_jitter_s, share_of


def test_the_same_question_has_the_same_answer() -> None:
    assert share_of(7, "link", 3) == share_of(7, "link", 3)


@given(st.integers(0, 2**64), st.lists(st.integers(0, 2**31) | st.text(max_size=3), max_size=3))
def test_a_share_is_one(luck: int, what: list[int | str]) -> None:
    assert 0.0 <= share_of(luck, *what) < 1.0


def test_shares_differ_by_who_asks_and_for_what() -> None:
    assert len({share_of(luck, try_) for luck in range(30) for try_ in range(30)}) == 900
    assert share_of(1, 23) != share_of(12, 3)


def test_shares_are_spread_evenly() -> None:
    tenths = [int(10 * share_of(luck, 1)) for luck in range(2_000)]
    assert all(150 < tenths.count(tenth) < 250 for tenth in range(10))


@pytest.mark.parametrize(("tries", "most_s"), [(0, 0.25), (1, 0.5), (2, 1.0), (4, 4.0), (5, 5.0), (60, 5.0)])
def test_waits_double_up_to_the_most(tries: int, most_s: float) -> None:
    assert full_jitter_s(0.25, tries, 5.0, 1.0) == most_s


@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_any_time_up_to_that_is_possible_and_none_beyond(tries: int, share: float) -> None:
    wait_s = full_jitter_s(0.25, tries, 5.0, share)
    assert wait_s == pytest.approx(share * full_jitter_s(0.25, tries, 5.0, 1.0))
    assert 0.0 <= wait_s <= 5.0
