import asyncio
import io
import json
import logging
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress

import pytest

from pipesd.cli import output
from pipesd.cli.output import Timing, Writer, say_ids
from pipesd.errors import LinkError
from pipesd.summary import Summary
from pipesd.text import Piece
from tests.screens import Terminal, terminal

SUMMARY = Summary(tokens=4, finish="stop", elapsed_ms=40.0, first_token_ms=10.0, passes=4)
PIECES = (Piece("Né ", (1, 2)), Piece("", (3,)), Piece("so", (4, 5)))


@pytest.fixture(autouse=True)
def capable_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests run, terminals can take back what they show."""
    monkeypatch.setenv("TERM", "xterm")


class Answer:
    """Pieces that come one by one; knows whether it was closed."""

    def __init__(self, *pieces: Piece, fails: Exception | None = None) -> None:
        self._pieces = pieces
        self._fails = fails
        self.closed = False

    async def read(self) -> AsyncGenerator[Piece, None]:
        try:
            for piece in self._pieces:
                await asyncio.sleep(0)
                yield piece
            if self._fails is not None:
                raise self._fails
        finally:
            self.closed = True


class Clock:
    """Stands for the clock; each look at it takes 10 ms."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 50.0
        monkeypatch.setattr(output, "monotonic", self.look)

    def look(self) -> float:
        self.now_s += 0.01
        return self.now_s


def test_the_first_token_and_the_last_are_timed(monkeypatch: pytest.MonkeyPatch):
    Clock(monkeypatch)
    timing = Timing()
    assert (timing.first_token_ms, timing.elapsed_ms) == (0.0, 0.0)
    timing.note()
    timing.note()
    timing.note()
    assert timing.first_token_ms == pytest.approx(10.0)
    assert timing.elapsed_ms == pytest.approx(30.0)


async def test_text_is_put_out_as_it_comes(monkeypatch: pytest.MonkeyPatch, capsys):
    Clock(monkeypatch)
    writer = Writer(as_json=False, show_ids=False)
    timing = await writer.write_all(Answer(*PIECES).read())
    assert capsys.readouterr() == ("Né so", "")
    assert timing.first_token_ms == pytest.approx(10.0)
    assert timing.elapsed_ms == pytest.approx(30.0)
    writer.conclude(SUMMARY, (7, 8), 5)
    assert capsys.readouterr() == ("", SUMMARY.line() + "\n")


async def test_each_piece_is_out_before_the_next_is_asked_for(capsys):
    shown: list[str] = []

    async def pieces() -> AsyncGenerator[Piece, None]:
        for word in ("one ", "two ", "three"):
            yield Piece(word, (1,))
            shown.append(capsys.readouterr().out)

    await Writer(as_json=False, show_ids=False).write_all(pieces())
    assert shown == ["one ", "two ", "three"]


async def test_ids_go_to_standard_error_without_those_behind_a_stop_string(capsys):
    writer = Writer(as_json=False, show_ids=True)
    await writer.write_all(Answer(*PIECES).read())
    writer.conclude(SUMMARY, (7, 8), 3)
    assert capsys.readouterr() == ("Né so", f"prompt ids: 7 8\nanswer ids: 1 2 3\n{SUMMARY.line()}\n")


@pytest.mark.parametrize("show_ids", [False, True])
async def test_json_is_all_there_is(capsys, show_ids):
    writer = Writer(as_json=True, show_ids=show_ids)
    await writer.write_all(Answer(*PIECES).read())
    assert capsys.readouterr() == ("", "")
    writer.conclude(SUMMARY, (7, 8), 3)
    shown, error = capsys.readouterr()
    assert error == ""
    assert shown.count("\n") == 1
    assert "Né so" in shown, "text is text, not escapes"
    assert json.loads(shown) == {
        "text": "Né so",
        "token_ids": [1, 2, 3],
        "prompt_ids": [7, 8],
        **SUMMARY.figures(),
    }


async def test_an_answer_without_a_token_is_an_answer(capsys):
    writer = Writer(as_json=True, show_ids=False)
    timing = await writer.write_all(Answer().read())
    assert (timing.first_token_ms, timing.elapsed_ms) == (0.0, 0.0)
    writer.conclude(SUMMARY, (), 0)
    assert json.loads(capsys.readouterr().out)["text"] == ""


# --- drafts that nobody has confirmed -------------------------------------------------------------------

UNVERIFIED = Piece("fourth", (8, 9), verified=False, preview=True)
"""Drafts, in whose place the last of ``PIECES`` comes."""


@pytest.mark.parametrize("as_json", [False, True])
async def test_who_reads_through_a_pipe_sees_no_drafts(monkeypatch: pytest.MonkeyPatch, capsys, as_json):
    Clock(monkeypatch)
    writer = Writer(as_json=as_json, show_ids=True)
    timing = await writer.write_all(Answer(UNVERIFIED, *PIECES[:2], UNVERIFIED, UNVERIFIED, PIECES[2]).read())
    assert capsys.readouterr() == ("" if as_json else "Né so", "")
    assert timing.first_token_ms == pytest.approx(10.0), "a draft is no token of the answer"
    writer.conclude(SUMMARY, (7, 8), 5)
    shown, error = capsys.readouterr()
    if as_json:
        assert (json.loads(shown)["text"], json.loads(shown)["token_ids"]) == ("Né so", [1, 2, 3, 4, 5])
    else:
        assert (shown, error) == ("", f"prompt ids: 7 8\nanswer ids: 1 2 3 4 5\n{SUMMARY.line()}\n")


class Seen:
    """An answer that comes while its reader looks at the screen."""

    def __init__(self, screen: Terminal, *pieces: Piece | Exception) -> None:
        self._screen = screen
        self._pieces = pieces
        self.dim: list[str] = []
        self.text: list[str] = []

    async def read(self) -> AsyncGenerator[Piece, None]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece
            self.dim.append(self._screen.look().dim_text)
            self.text.append(self._screen.look().text)


async def test_at_a_terminal_drafts_are_dim_until_the_text_takes_their_place(monkeypatch: pytest.MonkeyPatch):
    with terminal() as screen:
        monkeypatch.setattr(sys, "stdout", screen.device)
        answer = Seen(screen, PIECES[0], UNVERIFIED, UNVERIFIED, PIECES[2])
        writer = Writer(as_json=False, show_ids=False)
        await writer.write_all(answer.read())
        assert answer.dim == ["", "fourth", "fourthfourth", ""]
        assert answer.text == ["Né", "Né fourth", "Né fourthfourth", "Né so"]
        writer.conclude(SUMMARY, (), 5)
        assert screen.look().text.startswith("Né so")
        assert screen.look().cursor[1] == 0


async def test_at_a_terminal_what_stays_unverified_stays_dim(monkeypatch: pytest.MonkeyPatch):
    with terminal() as screen:
        monkeypatch.setattr(sys, "stdout", screen.device)
        private = [Piece(word, (1,), verified=False) for word in ("mine", " alone")]
        writer = Writer(as_json=False, show_ids=False)
        await writer.write_all(Seen(screen, *private).read())
        writer.conclude(SUMMARY, (), 2)
        assert screen.look().dim_text == "mine alone"
        assert screen.look().text == "mine alone"


@pytest.mark.parametrize("as_json", [False, True])
async def test_at_a_terminal_no_draft_outlives_the_answer(monkeypatch: pytest.MonkeyPatch, as_json: bool):
    with terminal() as screen:
        monkeypatch.setattr(sys, "stdout", screen.device)
        answer = Seen(screen, PIECES[0], UNVERIFIED, LinkError("the connection was lost"))
        with pytest.raises(LinkError):
            await Writer(as_json=as_json, show_ids=False).write_all(answer.read())
        assert answer.dim == ["", "" if as_json else "fourth"]
        assert screen.look().text == ("" if as_json else "Né")
        assert screen.look().cursor == ((0, 0) if as_json else (1, 0)), "what is said next has its own line"


@pytest.mark.parametrize("ends", [None, asyncio.CancelledError()], ids=["well", "interrupted"])
async def test_however_an_answer_ends_no_draft_stays(
    monkeypatch: pytest.MonkeyPatch, ends: asyncio.CancelledError | None
):
    async def read() -> AsyncGenerator[Piece, None]:
        yield PIECES[0]
        yield UNVERIFIED
        if ends is not None:
            raise ends

    with terminal() as screen:
        monkeypatch.setattr(sys, "stdout", screen.device)
        with suppress(asyncio.CancelledError):
            await Writer(as_json=False, show_ids=False).write_all(read())
        assert (screen.look().text, screen.look().dim_text, screen.look().cursor) == ("Né", "", (0, 3))


async def test_what_is_logged_meanwhile_has_lines_of_its_own(monkeypatch: pytest.MonkeyPatch):
    with terminal() as screen:
        monkeypatch.setattr(sys, "stdout", screen.device)
        monkeypatch.setattr(sys, "stderr", screen.device)
        logger = logging.getLogger("pipesd.test")
        monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler()])

        async def read() -> AsyncGenerator[Piece, None]:
            yield PIECES[0]
            yield UNVERIFIED
            logger.warning("the cloud is away")
            yield UNVERIFIED
            assert screen.look().text == "Né\nthe cloud is away\nfourthfourth"
            yield PIECES[2]

        await Writer(as_json=False, show_ids=False).write_all(read())
        assert screen.look().text == "Né\nthe cloud is away\nso"
        logger.warning("and ever after")
        assert screen.look().text == "Né\nthe cloud is away\nsoand ever after"


# --- its end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "ended"), [("so", "so\n"), ("so\n", "so\n"), ("", "\n")])
async def test_at_a_terminal_an_answer_ends_its_line(monkeypatch: pytest.MonkeyPatch, text: str, ended: str):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    writer = Writer(as_json=False, show_ids=False)
    await writer.write_all(Answer(Piece(text, (1,))).read())
    writer.conclude(SUMMARY, (), 1)
    assert screen.getvalue() == ended


@pytest.mark.parametrize("as_json", [False, True])
async def test_an_answer_that_fails_is_closed_and_has_no_figures(as_json: bool, capsys):
    answer = Answer(PIECES[0], fails=LinkError("the connection was lost"))
    with pytest.raises(LinkError, match="was lost"):
        await Writer(as_json=as_json, show_ids=True).write_all(answer.read())
    assert answer.closed
    assert capsys.readouterr() == ("" if as_json else "Né ", "")


async def test_a_reader_that_went_away_ends_the_answer(monkeypatch: pytest.MonkeyPatch):
    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Broken())
    answer = Answer(*PIECES)
    with pytest.raises(BrokenPipeError):
        await Writer(as_json=False, show_ids=False).write_all(answer.read())
    assert answer.closed


def test_ids_are_shown_a_line_for_each(capsys):
    say_ids([], (3, 40))
    assert capsys.readouterr() == ("", "prompt ids: \nanswer ids: 3 40\n")
