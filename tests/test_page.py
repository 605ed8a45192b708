"""What is written, with real pipes and a real pseudo-terminal."""

import io
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from pipesd.errors import PipeSDError
from pipesd.page import Page, give_up, logging_to, put, remark
from tests.screens import pipe_to_read, terminal


@pytest.fixture(autouse=True)
def capable_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests run, terminals can take back what they show."""
    monkeypatch.setenv("TERM", "xterm")


def test_put_writes_at_once() -> None:
    with pipe_to_read() as (far, output):
        put(output, "né\n")
        assert os.read(far, 100) == "né\n".encode()


def test_put_passes_on_that_the_reader_went_away() -> None:
    far, near = os.pipe()
    os.close(far)
    with os.fdopen(near, "w") as output:
        with pytest.raises(BrokenPipeError):
            put(output, "lost")
        give_up(output)
        put(output, "lost too")


def test_put_names_what_the_system_refuses_and_gives_up() -> None:
    with os.fdopen(os.open(os.devnull, os.O_RDONLY), "w") as output:
        with pytest.raises(PipeSDError, match=r"^cannot write the output \(Bad file descriptor\)$"):
            put(output, "lost")
        put(output, "lost too")


def test_a_remark_is_one_line_and_never_fails() -> None:
    shown = io.StringIO()
    remark(shown, "no\nsuch \x1b[31mthing \udcff")
    assert shown.getvalue() == "no\\nsuch \\x1b[31mthing \\udcff\n"
    with os.fdopen(os.open(os.devnull, os.O_RDONLY), "w") as refused:
        remark(refused, "unheard")
        give_up(refused)


# --- a terminal ------------------------------------------------------------------------------------------


def test_drafts_are_dim_until_the_text_takes_their_place() -> None:
    with terminal() as seen:
        page = Page(seen.device)
        page.write("Once upon")
        page.preview(" a tame that was")
        assert seen.look().text == "Once upon a tame tha\nt was"
        assert seen.look().dim_text == " a tame that was"
        page.write(" a time")
        assert (seen.look().text, seen.look().dim_text) == ("Once upon a time", "")


def test_a_remark_stands_below_the_text_and_is_one_line() -> None:
    with terminal() as seen:
        page = Page(seen.device)
        page.write("Once upon")
        page.preview(" a tame")
        page.remark("away\x1b[31m\nfor now")
        assert seen.look().text == "Once upon\naway\\x1b[31m\\nfor no\nw\n a tame"
        page.write(" a time")
        assert seen.look().text.endswith("\nw\n a time")


@pytest.mark.parametrize("width", [10, 40, 0])
def test_the_size_is_that_of_the_terminal_now(width: int) -> None:
    with terminal(width) as seen:
        page = Page(seen.device)
        page.preview("Long ago, in a land far away, there was a time")
        assert seen.look().dim_text.startswith("Long ago")
        page.write("")
        assert seen.look().text == ""
    page = Page(shown := io.StringIO())  # not even a descriptor to ask
    page.preview("x" * 100)
    page.write("")
    assert "\x1b[1A" in shown.getvalue()


def test_a_new_text_begins_at_the_beginning_of_a_line() -> None:
    with terminal() as seen:
        page = Page(seen.device)
        page.write("Once upon a time")
        seen.device.write("\n> next\n")
        page.begin()
        page.preview("There")
        page.write("Here")
        assert seen.look().text == "Once upon a time\n> next\nHere"


@pytest.mark.parametrize(("text", "rows"), [("", 0), ("Once", 1), ("Once\n", 1), ("x" * 20, 1), ("a\r", 1)])
def test_a_line_is_ended_if_it_has_begun(text: str, rows: int) -> None:
    with terminal() as seen:
        page = Page(seen.device)
        page.write(text)
        for _ in range(2):
            page.end_line()
            assert seen.look().cursor == (rows, 0)
        page.preview("drafts")
        page.end_line()
        assert seen.look().cursor == (rows, 6), "drafts begin no line"


def test_a_terminal_that_cannot_take_back_is_shown_no_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    page = Page(shown := io.StringIO())
    page.write("Once")
    page.preview(" a tame")
    page.remark("away")
    page.write(" upon")
    assert shown.getvalue() == "Once\naway\n upon"


def test_what_cannot_be_written_is_named_and_a_remark_never_fails() -> None:
    with os.fdopen(os.open(os.devnull, os.O_RDONLY), "w") as output:
        page = Page(output)
        page.remark("unheard")
        give_up(output)
    for write in (Page.write, Page.preview):
        refused = pytest.raises(PipeSDError, match=r"^cannot write the output \(Bad file descriptor\)$")
        with os.fdopen(os.open(os.devnull, os.O_RDONLY), "w") as output, refused:
            write(Page(output), "lost")


def test_threads_do_not_disturb_each_other() -> None:
    with terminal(30, 500) as seen:
        page = Page(seen.device)

        def work(name: str) -> None:
            for number in range(60):
                page.remark(f"{name} {number}")

        def read() -> None:
            for _ in range(60):
                page.preview("guess")
                page.write("x")

        threads = [threading.Thread(target=work, args=("a",)), threading.Thread(target=read)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        text = seen.look().text
    assert text.count("x") == 60
    assert "guess" not in text
    assert re.findall(r"^a (\d+)$", text, re.MULTILINE) == [str(number) for number in range(60)]


# --- what is logged --------------------------------------------------------------------------------------


class Stream(io.StringIO):
    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@contextmanager
def logged(stream: TextIO, monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """A logger that writes to ``stream``, which is standard error, as that of a command does."""
    monkeypatch.setattr(sys, "stderr", stream)
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        yield logging.getLogger("pipesd.test")
    finally:
        logging.getLogger().removeHandler(handler)


def test_lines_for_a_terminal_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, told = Stream(is_terminal=True), list[str]()
    with logged(stream, monkeypatch) as logger:
        logger.warning("before")
        with logging_to(told.append):
            logger.warning("the cloud is %s", "away")
            logger.warning("two\nlines")
        logger.warning("after")
    assert told == ["the cloud is away", "two", "lines"]
    assert stream.getvalue() == "before\nafter\n"


def test_lines_for_a_file_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, told = Stream(is_terminal=False), list[str]()
    with logged(stream, monkeypatch) as logger, logging_to(told.append):
        logger.warning("to a file")
    assert (told, stream.getvalue()) == ([], "to a file\n")


def test_lines_that_go_elsewhere_still_do(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere, told = io.StringIO(), list[str]()
    with logged(Stream(is_terminal=True), monkeypatch) as logger:
        logger.addHandler(other := logging.StreamHandler(elsewhere))
        with logging_to(told.append):
            logger.warning("to both")
        logger.removeHandler(other)
    assert (told, elsewhere.getvalue()) == (["to both"], "to both\n")
