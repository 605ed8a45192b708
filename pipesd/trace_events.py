"""The Trace Event Format: what a timeline is made of, written piece by piece, and read again.

A timeline is a JSON array with an event on each line. Its end may be missing, because its writer was killed;
viewers such as ui.perfetto.dev bear that. Moments are whole microseconds.
"""

import io
import logging
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from pipesd.errors import TraceError, one_line

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

logger = logging.getLogger("pipesd.timeline")

Arg = bool | int | float | str

FLUSH_US = 1_000_000
"""How long an event may wait in memory while others come."""


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="ph"):
    name: str
    pid: int
    tid: int
    args: dict[str, Arg] = msgspec.field(default_factory=dict)


class Bar(_Event, frozen=True, kw_only=True, tag="X"):
    """Something that took a while. On one lane two of them are apart, or one lies within the other."""

    ts: int
    dur: int


class Instant(_Event, frozen=True, kw_only=True, tag="i"):
    """Something that happened."""

    ts: int
    s: str = "t"


class Count(_Event, frozen=True, kw_only=True, tag="C"):
    """How many there are from this moment on."""

    ts: int


class Label(_Event, frozen=True, kw_only=True, tag="M"):
    """What a process or a lane is called."""


Event = Bar | Instant | Count | Label


class TraceWriter:
    """Writes events as they come, and gives up at the first error: a full disk must not end a chat."""

    def __init__(self, out: BinaryIO) -> None:
        self._out: BinaryIO | None = out
        self._lead = b"[\n"
        self._flushed_us: int | None = None

    def put(self, event: Event) -> None:
        """Append it."""
        self._write(self._lead + msgspec.json.encode(event))
        self._lead = b",\n"

    def note_time(self, at_us: int) -> None:
        """Let what was written reach the disk now and then."""
        if self._flushed_us is None or at_us - self._flushed_us >= FLUSH_US:
            self._flushed_us = at_us
            self._write(b"", flush=True)

    def complete(self) -> None:
        """That was all; the file stays the caller's to close."""
        self._write(b"\n]\n", flush=True)
        self._out = None

    def _write(self, data: bytes, *, flush: bool = False) -> None:
        if self._out is None:
            return
        try:
            self._out.write(data)
            if flush:
                self._out.flush()
        except (OSError, ValueError) as error:  # ValueError: somebody closed it
            self._out = None
            logger.warning("! trace_out: it ends here, since no more can be written (%s)", error)


class _LateFile(io.FileIO):
    """A file that is as it was, or not there, until something is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_new = not os.path.lexists(path)
        self._has_begun = False
        super().__init__(path, "a")

    def write(self, data: "ReadableBuffer", /) -> int:
        """Append it, the first time to nothing."""
        if not self._has_begun:
            self._has_begun = True
            if stat.S_ISREG(os.fstat(self.fileno()).st_mode):
                self.truncate(0)
        return super().write(data)

    def close(self) -> None:
        """Give it back; an empty one that was not there before goes."""
        was_open = not self.closed
        super().close()
        if was_open and self._is_new and not self._has_begun:
            self._path.unlink(missing_ok=True)


def open_late(path: Path) -> BinaryIO:
    """Open a file whose content is replaced when the first of the new is written. Raises ``OSError``."""
    return io.BufferedWriter(_LateFile(path))


def write(timeline: Iterable[Event], out: BinaryIO) -> None:
    """Write a whole timeline. Raises ``OSError``."""
    out.write(b"[\n" + b",\n".join(msgspec.json.encode(event) for event in timeline) + b"\n]\n")


def read(path: Path, warn: Callable[[str], None] = logger.warning) -> list[Event]:
    """What was written there, as far as it goes; ``warn`` is told if the end is missing.

    Raises ``TraceError``.
    """
    name = one_line(str(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TraceError(f"{name} cannot be read ({error.strerror}); name what --trace-out wrote") from None
    try:
        return msgspec.json.decode(data, type=list[Event])
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = _mended(data, name)
    warn(
        f"{name} has no end, as if its writer was killed or is still at it; "
        f"what follows the first {len(found)} events is missing"
    )
    return found


def _mended(data: bytes, name: str) -> list[Event]:
    """The whole events of an array that was cut off."""
    found: list[Event] = []
    lines = data.strip().removeprefix(b"[").rstrip(b"],\n ").split(b",\n")
    for number, line in enumerate(lines, start=1):
        try:
            found.append(msgspec.json.decode(line, type=Event))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if number < len(lines) or not found:
                raise TraceError(
                    f"{name} is no timeline of pipesd (event {number}: {one_line(str(error))}); "
                    "name what --trace-out wrote"
                ) from None
    return found


def merge(timelines: Iterable[Sequence[Event]]) -> list[Event]:
    """One timeline of several on one clock, ordered by time. Processes are kept apart."""
    merged: list[Event] = []
    taken: set[int] = set()
    for timeline in timelines:
        pids: dict[int, int] = {}
        for event in timeline:
            if event.pid not in pids:
                pids[event.pid] = event.pid if event.pid not in taken else max(taken) + 1
                taken.add(pids[event.pid])
            merged.append(msgspec.structs.replace(event, pid=pids[event.pid]))
    return sorted(merged, key=lambda event: (-1, 0) if isinstance(event, Label) else (0, event.ts))
