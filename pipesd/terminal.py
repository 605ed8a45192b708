"""The two consoles of a chat: a terminal with line editing, and a pipe that carries lines.

Nothing here holds up the event loop: answers are written in a thread of their own, and a pipe is read in a
daemon thread, so that the process can always exit. No signal is touched; the caller tells of interrupts.
"""

import asyncio
import os
import queue
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pipesd.actors.compute import ThreadCompute
from pipesd.errors import PipeSDError, UsageError
from pipesd.page import Page, put, remark

if TYPE_CHECKING:
    from prompt_toolkit.history import History
    from prompt_toolkit.input import Input
    from prompt_toolkit.output import Output

__all__ = ["LINE_BYTES_MAX", "PRIVATE_PROMPT", "PROMPT", "PipeConsole", "TerminalConsole"]

PROMPT = "> "
PRIVATE_PROMPT = "private > "

LINE_BYTES_MAX = 1 << 20
"""The longest line a pipe may bring, in bytes, its end not counted."""

_READ_BYTES = 1 << 14
"""Read at once from a pipe, and so the most that is read ahead."""


class _Writing:
    """What both consoles do alike: write in one thread, in the order of the calls."""

    def __init__(self, answers: TextIO, remarks: TextIO) -> None:
        self._answers = answers
        self._remarks = remarks
        self._thread = ThreadCompute("pipesd-output")

    async def write(self, text: str, *, verified: bool = True) -> None:
        """Show a stretch of an answer. Raises as ``put`` does."""
        await self._thread.run(partial(put, self._answers, text), 0)

    async def preview(self, text: str) -> None:
        """Show nothing that may have to be taken back."""

    async def say(self, line: str) -> None:
        """Show a line that is no part of an answer."""
        await self._thread.run(partial(remark, self._remarks, line), 0)

    def close(self) -> None:
        """Let the threads end; nothing may be asked of the console after this."""
        self._thread.close()


# -- a terminal ---------------------------------------------------------------------------------------------


class TerminalConsole(_Writing):
    """A person at a terminal, with line editing and a history that outlives the process.

    Answers go to ``answers``, by default standard output. If that is no terminal, prompt and remarks go to
    standard error instead. The caller tells of each SIGINT by calling ``interrupt`` in the event loop.
    ``keys`` and ``screen`` stand in for the terminal.
    """

    interactive = True

    def __init__(
        self,
        history: Path,
        *,
        answers: TextIO | None = None,
        remarks: TextIO | None = None,
        keys: "Input | None" = None,
        screen: "Output | None" = None,
    ) -> None:
        from prompt_toolkit import PromptSession  # noqa: PLC0415 - slow to load, and of no use to a pipe
        from prompt_toolkit.output import create_output  # noqa: PLC0415

        answers = answers or sys.stdout
        remarks = remarks or (answers if answers.isatty() else sys.stderr)
        if screen is None and not answers.isatty():
            screen = create_output(remarks)
        super().__init__(answers, remarks)
        self._prompt: PromptSession[str] = PromptSession(
            PROMPT, history=_open_history(history), input=keys, output=screen
        )
        self._page = Page(answers) if answers.isatty() else None
        self._stop: Callable[[], None] | None = None
        self._interrupted = False
        """Whether an interrupt has had no effect yet."""

    async def write(self, text: str, *, verified: bool = True) -> None:
        """Show a stretch of an answer, in the place of what was previewed. Raises as ``put`` does."""
        if self._page is None:
            await super().write(text)
        else:
            await self._thread.run(partial(self._page.write, text, verified=verified), 0)

    async def preview(self, text: str) -> None:
        """Show it dim; the next ``write`` takes it back."""
        if self._page is not None:
            await self._thread.run(partial(self._page.preview, text), 0)

    def note(self, line: str) -> None:
        """Show a line that is no part of an answer at any time, from any thread; a line that is being edited
        is shown below."""
        editor = self._prompt.app
        if editor.is_running and not editor.is_done and editor.loop is not None:
            editor.loop.call_soon_threadsafe(lambda: editor.create_background_task(self._note_above(line)))
        else:
            self._note_below(line)

    async def _note_above(self, line: str) -> None:
        from prompt_toolkit.application import in_terminal  # noqa: PLC0415 - as above

        async with in_terminal():
            self._note_below(line)

    def _note_below(self, line: str) -> None:
        if self._page is None:
            remark(self._remarks, line)
        else:
            self._page.remark(line)

    async def read_line(self) -> str:
        """Let the user edit a line. Raises ``EOFError`` on Ctrl-D and ``KeyboardInterrupt`` on Ctrl-C."""
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt
        if self._page is not None:
            self._page.begin()
        return await self._prompt.prompt_async(handle_sigint=False, set_exception_handler=False)

    def set_private(self, on: bool) -> None:
        """Ask for lines with another prompt."""
        self._prompt.message = PRIVATE_PROMPT if on else PROMPT

    def on_interrupt(self, stop: Callable[[], None] | None) -> None:
        """From now on call ``stop`` on an interrupt, and at once on one that came just before."""
        self._stop = stop
        if stop is None:
            self._interrupted = False
        elif self._interrupted:
            stop()

    def interrupt(self) -> bool:
        """Stop the running answer, or give the line up that is being edited.

        False if the interrupt before has had no effect yet: then something hangs, and the caller should end
        the chat by cancelling it.
        """
        if self._interrupted:
            return False
        editor = self._prompt.app
        if editor.is_running and not editor.is_done:
            editor.exit(exception=KeyboardInterrupt())
            return True
        self._interrupted = True
        if self._stop is not None:
            self._stop()
        return True


def _open_history(path: Path) -> "History":
    from prompt_toolkit.history import FileHistory, InMemoryHistory  # noqa: PLC0415

    class PrivateHistory(FileHistory):
        def store_string(self, string: str) -> None:
            with suppress(OSError):  # what cannot be stored is still known to this process
                _make_private(path)
                super().store_string(string)

    try:
        _make_private(path)
    except OSError:
        return InMemoryHistory()
    return PrivateHistory(path)


def _make_private(path: Path) -> None:
    """Have a file there that its owner alone may read and write. Raises ``OSError`` if that cannot be."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path, "ab+", opener=partial(os.open, mode=0o600)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a regular file")
        path.chmod(0o600)


# -- a pipe -------------------------------------------------------------------------------------------------


class PipeConsole(_Writing):
    """A script: lines come from ``source``, by default standard input; remarks go to standard error.

    The next line is read when it is asked for, apart from what one read of a few kilobytes brings along.
    """

    interactive = False

    def __init__(
        self, *, source: int = 0, answers: TextIO | None = None, remarks: TextIO | None = None
    ) -> None:
        super().__init__(answers or sys.stdout, remarks or sys.stderr)
        self._lines = _Lines(source)
        self._wanted: queue.SimpleQueue[asyncio.Future[bytes | OSError] | None] = queue.SimpleQueue()
        self._coming: asyncio.Future[bytes | OSError] | None = None
        threading.Thread(target=self._read, name="pipesd-input", daemon=True).start()

    async def read_line(self) -> str:
        r"""Wait for the next line, which ends with "\n", "\r\n" or the input.

        Raises ``EOFError`` if there is none, ``UsageError`` if it is too long or not UTF-8, and
        ``PipeSDError`` if the system refuses to read. May be cancelled; then the line comes the next time.
        """
        if self._coming is None:
            self._coming = asyncio.get_running_loop().create_future()
            self._wanted.put(self._coming)
        await asyncio.wait([self._coming])  # cancelled, it leaves the future as it is
        found, self._coming = self._coming.result(), None
        if isinstance(found, OSError):
            raise PipeSDError(f"cannot read the input ({found.strerror or found})") from found
        return _text_of(found)

    def set_private(self, on: bool) -> None:
        """Nothing: nobody is asked for lines."""

    def on_interrupt(self, stop: Callable[[], None] | None) -> None:
        """Do nothing: whoever interrupts a script ends it."""

    def close(self) -> None:
        """Let the threads end; the reading one ends later if it waits for input."""
        super().close()
        self._wanted.put(None)

    def _read(self) -> None:
        """Runs in the thread. A failure is a result here: a future that fails unseen would complain."""
        while (wanted := self._wanted.get()) is not None:
            try:
                found: bytes | OSError = self._lines.next()
            except OSError as error:
                found = error
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                wanted.get_loop().call_soon_threadsafe(wanted.set_result, found)


class _Lines:
    """Cuts what a descriptor gives into lines.

    It reads the descriptor itself, because the lock of a buffered file, held by a daemon thread, would abort
    the process at its exit.
    """

    def __init__(self, source: int) -> None:
        self._source = source
        self._ahead = b""

    def next(self) -> bytes:
        """The next line with its end, or as much of it as shows that it is too long; empty at the end."""
        while b"\n" not in self._ahead and len(self._ahead) <= LINE_BYTES_MAX + 1:
            chunk = os.read(self._source, _READ_BYTES)
            if not chunk:
                break
            self._ahead += chunk
        end = self._ahead.find(b"\n") + 1 or len(self._ahead)
        line, self._ahead = self._ahead[:end], self._ahead[end:]
        return line


def _text_of(line: bytes) -> str:
    if not line:
        raise EOFError
    if line.endswith(b"\n"):
        line = line[:-1].removesuffix(b"\r")
    if len(line) > LINE_BYTES_MAX:
        raise UsageError(f"the line is longer than {LINE_BYTES_MAX} bytes; make it shorter")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise UsageError("the line is not valid UTF-8; convert the input to UTF-8") from error
