"""Drafts on a terminal: after the true text has come, the screen is as if there had been nothing else."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.preview import Preview
from tests.screens import Screen

HEIGHT = 6

ODD = frozenset("\r\b\x1b\x07\x85\v")
"""They may move the cursor, so that a remark takes a line of its own in any case."""

quick = settings(derandomize=True, deadline=None, max_examples=400)


class Desk:
    """A terminal with everything on it, and beside it one with the true text and remarks only."""

    def __init__(self, width: int = 20, height: int = HEIGHT) -> None:
        self.preview = Preview()
        self.shown, self.true = Screen(width, height), Screen(width, height)
        self._size = width, height
        self._line = ""
        """The true text since its last line began."""

    def show(self, text: str) -> None:
        self.shown.take(self.preview.show(text, *self._size))

    def write(self, text: str) -> None:
        self.shown.take(self.preview.write(text, self._size[0]))
        self.true.take(text)
        self._line = (self._line + text).rpartition("\n")[2]

    def remark(self, line: str) -> None:
        self.shown.take(self.preview.remark(line, *self._size))
        fresh = "\n" if self.true.column or ODD.intersection(self._line) else ""
        self.true.take(f"{fresh}{line}\n")
        self._line = ""

    def check(self) -> None:
        """Nothing is dim, and all else is as it should be, with the cursor in its place."""
        assert self.shown.dim_text == ""
        assert self.shown.text == self.true.text
        assert self.shown.cursor == self.true.cursor
        assert not self.shown.dim


def test_what_is_shown_is_dim_and_gives_way_to_the_true_text() -> None:
    desk = Desk()
    desk.write("Once upon")
    desk.show(" a tame")
    desk.show(" there")
    assert desk.shown.text == "Once upon a tame the\nre"
    assert desk.shown.dim_text == " a tame there"
    desk.write(" a time")
    desk.check()
    desk.show(" there")
    assert desk.shown.dim_text == " there"
    desk.write("")
    desk.check()
    assert desk.shown.text == "Once upon a time"


def test_without_drafts_nothing_but_the_text_is_written() -> None:
    preview = Preview()
    assert [preview.write(text, 10) for text in ("one", "", "two\nthree")] == ["one", "", "two\nthree"]
    assert preview.show("", 10, HEIGHT) == ""


@pytest.mark.parametrize("follows", ["\n", "x", "漢", "\u0301", "", "\r\nx", "\tx"])
def test_a_full_row_is_left_as_it_was(follows: str) -> None:
    desk = Desk(4)
    desk.write("abc漢d")
    assert desk.true.cursor == (1, 3)
    for full in ("e", "\nab漢", "\nab漢\u0301"):
        desk.write(full)
        assert desk.true.column == 4
        desk.show("drafts")
        assert desk.shown.dim_text == "drafts"
        desk.write("")
        desk.check()
    desk.show("\u0302")
    desk.show("\n\nx")
    desk.write(follows)
    desk.check()


def test_a_wide_letter_that_does_not_fit_begins_a_row() -> None:
    desk = Desk(5)
    desk.write("ab漢")
    desk.show("漢漢漢漢")
    assert desk.shown.text == "ab漢\n漢漢\n漢漢"
    desk.write("漢c")
    desk.check()


def test_as_much_is_shown_as_can_be_taken_back() -> None:
    desk = Desk(10, 4)
    desk.write("one\ntwo\nthree\nfour\nfive")
    for number in range(4):
        desk.show(f"\nrow {number}")
    desk.show("!")
    assert desk.shown.dim_text == "row 0row 1", "what follows what was left out would be read wrongly"
    assert desk.shown.text.endswith("five\nrow 0\nrow 1")
    desk.write(" six")
    desk.check()
    desk.show(" again")
    assert desk.shown.dim_text == " again"
    desk.write("")
    desk.check()


@pytest.mark.parametrize("odd", sorted(ODD))
def test_what_may_move_the_cursor_is_not_shown_and_shows_no_more_in_its_line(odd: str) -> None:
    preview = Preview()
    assert preview.show(f"a{odd}b\tc", 30, HEIGHT) == "\x1b[2mab        c\x1b[22m"
    assert preview.write(f"x{odd}y", 30).endswith(f"x{odd}y")
    assert preview.show("draft", 30, HEIGHT) == ""
    assert preview.write("\nz", 30) == "\nz"
    assert "draft" in preview.show("draft", 30, HEIGHT)


def test_a_remark_stands_below_the_text_and_above_the_drafts() -> None:
    desk = Desk()
    desk.write("Once upon")
    desk.show(" a time")
    desk.remark("the cloud is away")
    assert desk.shown.text == "Once upon\nthe cloud is away\n a time"
    assert desk.shown.dim_text == " a time"
    desk.remark("and away")
    assert desk.shown.text == "Once upon\nthe cloud is away\nand away\n a time"
    desk.write(" a night\n")
    desk.check()
    desk.remark("the cloud is back")
    desk.check()
    assert desk.shown.text == "Once upon\nthe cloud is away\nand away\n a night\nthe cloud is back"


def test_behind_what_was_left_out_a_remark_shows_no_more_either() -> None:
    desk = Desk(10, 4)
    desk.show("a\nb\nc\nd")
    desk.show("e")
    desk.remark("away")
    desk.show("f")
    assert desk.shown.dim_text == ""
    desk.write("true")
    desk.check()


letters = st.text(st.sampled_from("ab 漢🙂\n\t\u0301é"), max_size=12)
deeds = st.lists(
    st.one_of(
        st.tuples(st.just("show"), letters),
        st.tuples(st.just("write"), st.text(st.sampled_from("ab 漢🙂\n\t\r\b\x07\u0301é"), max_size=12)),
        st.tuples(st.just("remark"), st.text(st.sampled_from("ab漢"), max_size=12)),
    ),
    max_size=12,
)


@quick
@given(deeds, st.integers(2, 12), st.integers(2, HEIGHT))
def test_whatever_is_shown_between_the_screen_is_that_of_the_true_text(
    deeds: Sequence[tuple[str, str]], width: int, height: int
) -> None:
    desk = Desk(width, height)
    for kind, text in deeds:
        getattr(desk, kind)(text)
        if kind == "write":
            desk.check()
    desk.write("")
    desk.check()


@quick
@given(st.lists(letters, max_size=6), letters, st.integers(2, 12))
def test_all_that_is_shown_is_dim(drafts: Sequence[str], before: str, width: int) -> None:
    desk = Desk(width, 100)
    desk.write(before.replace("\t", "x"))  # where a tab behind a full row leads is not known
    for draft in drafts:
        desk.show(draft)
    expected = "".join(drafts).replace("\t", " " * 8).replace("\n", "").replace("\u0301", "")
    assert desk.shown.dim_text.replace("\u0301", "") == expected
