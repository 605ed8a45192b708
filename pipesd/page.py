"""What is written for a reader: at once, and on a terminal so that one thing does not disturb another.

There a text grows, drafts stand dim behind it until they are judged, and remarks come between.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from pipesd.errors import PipeSDError, one_line
from pipesd.preview import Preview

_USUAL_SIZE = (80, 24)
"""Columns and lines of a terminal that does not say how large it is."""


def put(output: TextIO, text: str) -> None:
    """Write ``text`` so that it is on its way to the reader; waits for a slow one.

    Raises ``BrokenPipeError`` if there is no reader any more, and ``PipeSDError`` if the system refuses for
    another reason; then the output is given up.
    """
    try:
        output.write(text)
        output.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up(output)
        raise PipeSDError(f"cannot write the output ({error.strerror or error})") from error


def give_up(output: TextIO) -> None:
    """Let what is still written to ``output`` vanish, so that nothing fails once more at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, output.fileno())
    os.close(nowhere)


def remark(output: TextIO, line: str) -> None:
    """Write a line for a person; that nobody can be told is no failure."""
    with suppress(OSError):
        output.write(one_line(line) + "\n")
        output.flush()


class Page:
    """What is written on a terminal. Any thread may call; it waits until that is on its way to the reader."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._preview = Preview()
        self._is_smart = os.environ.get("TERM") != "dumb"
        """A dumb terminal cannot take anything back, nor show it dim."""

        self._lock = threading.Lock()

    def begin(self) -> None:
        """A new text begins; the cursor stands at the beginning of a line."""
        with self._lock:
            self._preview = Preview()

    def write(self, text: str, *, verified: bool = True) -> None:
        """Write ``text`` to stay, in the place of the drafts, and dim unless it is verified.

        Raises as ``put`` does.
        """
        with self._lock:
            dim = self._is_smart and not verified
            put(self._output, self._preview.write(text, self._size()[0], dim=dim))

    def preview(self, text: str) -> None:
        """Write drafts dim, behind those that are shown. Raises as ``put`` does."""
        with self._lock:
            if self._is_smart:
                put(self._output, self._preview.show(text, *self._size()))

    def end_line(self) -> None:
        """Write the end of the text's last line, if it has none. Raises as ``put`` does."""
        with self._lock:
            if self._preview.is_in_line:
                put(self._output, self._preview.write("\n", self._size()[0]))

    def remark(self, line: str) -> None:
        """Write a line for a person, below the text; that nobody can be told is no failure."""
        with self._lock, suppress(OSError):
            self._output.write(self._preview.remark(one_line(line), *self._size()))
            self._output.flush()

    def _size(self) -> tuple[int, int]:
        """How wide and how high it is."""
        try:
            size = os.get_terminal_size(self._output.fileno())
        except OSError:
            return _USUAL_SIZE
        return size.columns or _USUAL_SIZE[0], size.lines or _USUAL_SIZE[1]


class _Logged:
    """Stands for standard error to a handler of logging; gives the lines away."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def write(self, text: str) -> None:
        for line in text.splitlines():
            self._tell(line)

    def flush(self) -> None:
        """Each line has been told."""


@contextmanager
def logging_to(tell: Callable[[str], None]) -> Iterator[None]:
    """Have ``tell`` write what is logged to standard error meanwhile, if that is a terminal.

    Written there directly, it would stand in the middle of an answer, and drafts could not be taken back.
    """
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr
    ]
    told = [] if not sys.stderr.isatty() else handlers
    for handler in told:
        handler.setStream(_Logged(tell))
    try:
        yield
    finally:
        for handler in told:
            handler.setStream(sys.stderr)
