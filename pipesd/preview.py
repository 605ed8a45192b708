"""Text on a terminal that is shown dim, and what of it is taken back when the true text comes.

Pure: gives what to write. Dim is what no target has confirmed.

The rows that it covers are counted as the terminal fills them, so that the cursor finds back to where it
began. Behind the last column a cursor waits until something follows, and cannot be sent there: so the last
letter that stays is written anew.
"""

from dataclasses import dataclass

from wcwidth import wcwidth

_DIM, _NORMAL = "\x1b[2m", "\x1b[22m"
_TAB = 8


def _is_control(letter: str) -> bool:
    return wcwidth(letter) < 0


@dataclass(slots=True)
class _Cursor:
    row: int = 0
    column: int = 0
    """The width if the row is full, and the next letter begins another one."""

    last: str = ""
    """The letter before the cursor, with its marks; empty at the beginning of a line."""

    is_known: bool = True
    """Whether the rest is so: control characters, and a tab behind a full row, have effects of their own."""

    def advance(self, text: str, width: int) -> None:
        for letter in text:
            if letter == "\n":
                self.row, self.column, self.last, self.is_known = self.row + 1, 0, "", True
            elif letter == "\t" and self.column < width:
                self._tab(width)
            elif _is_control(letter):
                self.is_known = False
            else:
                self._pass(letter, wcwidth(letter), width)

    def _tab(self, width: int) -> None:
        if self.column < width - 1:
            self.column, self.last = min(width - 1, (self.column // _TAB + 1) * _TAB), " "

    def _pass(self, letter: str, cells: int, width: int) -> None:
        if not cells:
            self.last += letter if self.last else ""
            return
        if self.column + cells > width:
            self.row, self.column = self.row + 1, 0
        self.column, self.last = self.column + cells, letter


class Preview:
    """The end of what a terminal shows, some of which may be taken back."""

    def __init__(self) -> None:
        self._end = _Cursor()
        """Where the text ends that stays; its row does not count."""

        self._shown = ""
        """What is dim behind it."""

        self._rows = 0
        """How far below the cursor is."""

        self._is_full = False
        """Whether some could not be shown, so that nothing behind it is."""

    @property
    def is_in_line(self) -> bool:
        """Whether the text that stays has begun a line and not ended it."""
        return bool(self._end.column) or not self._end.is_known

    def show(self, text: str, width: int, height: int) -> str:
        """Write ``text`` dim, behind what is shown; as much of it as can be taken back on this screen."""
        text = _plain(text)
        end = _Cursor(0, self._end.column)
        end.advance(self._shown + text, width)
        self._is_full = self._is_full or not self._end.is_known or end.row > height - 2
        if self._is_full or not text:
            return ""
        self._shown += text
        self._rows = end.row
        return f"{_DIM}{text}{_NORMAL}"

    def write(self, text: str, width: int, *, dim: bool = False) -> str:
        """Write ``text`` to stay, in the place of what may be taken back."""
        back = self._take_back()
        self._is_full = False
        self._end.advance(text, width)
        return back + (f"{_DIM}{text}{_NORMAL}" if dim and text else text)

    def remark(self, line: str, width: int, height: int) -> str:
        """Write a line that is no part of the text, below what stays; the rest follows below that."""
        dim = self._shown
        back = self._take_back()
        ends = "\n" if self.is_in_line else ""
        self._end = _Cursor()
        return f"{back}{ends}{line}\n{self.show(dim, width, height)}"

    def _take_back(self) -> str:
        if not self._shown:
            return ""
        last = self._end.last
        column = self._end.column - (wcwidth(last[0]) if last else 0)
        up = f"\x1b[{self._rows}A" if self._rows else ""
        right = f"\x1b[{column}C" if column else ""
        self._shown, self._rows = "", 0
        return f"\r{up}{right}\x1b[J{last}"


def _plain(text: str) -> str:
    """Without what moves the cursor in a way of its own."""
    spaced = text.replace("\t", " " * _TAB)
    return "".join(letter for letter in spaced if letter == "\n" or not _is_control(letter))
