"""What output may be: a terminal, of which is known what its screen shows, and a pipe.

A screen has rows that fill and scroll, and a cursor that waits behind a full one.
"""

import codecs
import os
import re
import select
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from wcwidth import wcwidth

PATIENCE_S = 60
"""After this nothing more is written; never waited for when all is well."""

_UNFINISHED = re.compile(r"(\x1b(\[[0-9;?]*)?|\r)\Z")
_SEEN = "\0"
_PARTS = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(.)", re.DOTALL)


@dataclass(slots=True)
class Cell:
    """One place of a row; the second half of a wide letter has no letter of its own."""

    letter: str = " "
    dim: bool = False


@dataclass
class Screen:
    """Takes what is written to a terminal of this size."""

    width: int
    height: int
    rows: list[list[Cell]] = field(default_factory=list)
    """Those that have scrolled away come first."""

    row: int = 0
    column: int = 0
    """The width if the row is full and nothing has followed."""

    dim: bool = False

    def __post_init__(self) -> None:
        self.rows = [self._empty() for _ in range(self.height)]

    def _empty(self) -> list[Cell]:
        return [Cell() for _ in range(self.width)]

    @property
    def _top(self) -> int:
        return len(self.rows) - self.height

    def take(self, written: str) -> None:
        for number, kind, letter in _PARTS.findall(written):
            if kind:
                self._obey(kind, number)
            elif letter == "\n":  # the system makes a return and a line feed of it
                self.column = 0
                self._down()
            elif letter == "\t":
                self._tab()
            elif letter == "\r":
                self.column = 0
            elif letter == "\b":
                self.column = max(0, min(self.column, self.width - 1) - 1)
            elif wcwidth(letter) >= 0:
                self._print(letter)

    def _obey(self, kind: str, number: str) -> None:
        here = min(self.column, self.width - 1)
        if kind == "A":
            self.row = max(self._top, self.row - int(number or 1))
            self.column = here
        elif kind == "C":
            self.column = min(self.width - 1, here + int(number or 1))
        elif kind == "J":
            assert number in ("", "0")
            self.rows[self.row][here:] = self._empty()[here:]
            self.rows[self.row + 1 :] = [self._empty() for _ in self.rows[self.row + 1 :]]
        elif kind == "m":
            assert number in ("2", "22")
            self.dim = number == "2"
        else:
            raise AssertionError(f"ESC[{number}{kind} is not known here")

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append(self._empty())

    def _tab(self) -> None:
        if self.column < self.width - 1:
            self.column = min(self.width - 1, (self.column // 8 + 1) * 8)

    def _print(self, letter: str) -> None:
        cells = wcwidth(letter)
        if not cells:
            self._mark(letter)
            return
        if self.column + cells > self.width:
            self.column = 0
            self._down()
        halves = [Cell(letter, self.dim), Cell("", self.dim)]
        self.rows[self.row][self.column : self.column + cells] = halves[:cells]
        self.column += cells

    def _mark(self, mark: str) -> None:
        row = self.rows[self.row]
        at = self.column - 1
        if at > 0 and not row[at].letter:
            at -= 1
        if at >= 0:
            row[at].letter += mark

    @property
    def text(self) -> str:
        """All rows, without the blanks and the empty rows at their ends."""
        lines = ("".join(cell.letter for cell in row).rstrip() for row in self.rows)
        return "\n".join(lines).rstrip("\n")

    @property
    def dim_text(self) -> str:
        """What is shown dim."""
        return "".join(cell.letter for row in self.rows for cell in row if cell.dim)

    @property
    def cursor(self) -> tuple[int, int]:
        return self.row, self.column


class Terminal:
    """A pseudo-terminal, and what stands on its screen."""

    def __init__(self, width: int, height: int) -> None:
        self._reader, writer = os.openpty()
        self.device = os.fdopen(writer, "w", encoding="utf-8")
        if width:
            termios.tcsetwinsize(writer, (height, width))
        self.screen = Screen(width or 80, height or 24)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._unfinished = ""
        self._is_seen = False

    def look(self) -> Screen:
        """The screen, with all that was written by now."""
        self._is_seen = False
        os.write(self.device.fileno(), _SEEN.encode())
        self.wait_for(lambda _: self._is_seen)
        return self.screen

    def wait_for(self, condition: Callable[[Screen], bool]) -> None:
        """Look on until that is so."""
        while not condition(self.screen):
            assert select.select([self._reader], [], [], PATIENCE_S)[0], f"it stays {self.screen.text!r}"
            self._take(self._decoder.decode(os.read(self._reader, 4096)))

    def _take(self, written: str) -> None:
        """What ends in the middle of an order to the screen waits for its rest."""
        self._is_seen = self._is_seen or _SEEN in written
        written = self._unfinished + written.replace(_SEEN, "")
        whole = _UNFINISHED.sub("", written)
        self._unfinished = written[len(whole) :]
        self.screen.take(whole.replace("\r\n", "\n"))

    def close(self) -> None:
        self.device.close()
        os.close(self._reader)


@contextmanager
def terminal(width: int = 20, height: int = 8) -> Iterator[Terminal]:
    made = Terminal(width, height)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def pipe_to_read() -> Iterator[tuple[int, TextIO]]:
    """A pipe whose near end is a text file, as standard output is one."""
    far, near = os.pipe()
    with os.fdopen(near, "w", encoding="utf-8", newline="\n") as output:
        try:
            yield far, output
        finally:
            os.close(far)
