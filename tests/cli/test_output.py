import asyncio
import io
import json
import sys
from collections.abc import AsyncGenerator

import pytest

from pipesd.cli import output
from pipesd.cli.output import Timing, Writer, say_ids
from pipesd.errors import LinkError
from pipesd.summary import Summary
from pipesd.text import Piece

SUMMARY = Summary(tokens=4, finish="stop", elapsed_ms=40.0, first_token_ms=10.0, passes=4)
PIECES = (Piece("Né ", (1, 2)), Piece("", (3,)), Piece("so", (4, 5)))


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
