"""From tokens to the text that may be shown: what is given out is never taken back.

Pure. Incomplete UTF-8 characters wait for their rest, and so does whatever may begin a stop string.
The match that starts first wins, even if another one is complete earlier.
"""

import codecs
import copy
from bisect import bisect_right
from collections.abc import Container, Sequence
from dataclasses import dataclass

from pipesd.errors import UsageError


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text."""

    text: str
    """Whole characters; may be empty when the tokens show nothing yet."""

    tokens: tuple[int, ...]
    verified: bool = True
    """If not, the draft model guessed it, and no target has confirmed it."""

    preview: bool = False
    """Whether the next piece that is none takes the place of it; it is not verified then."""

    def __str__(self) -> str:
        return self.text


class TextStream:
    """The text of one answer; ``feed`` it the confirmed tokens, then ``finish`` it. Raises ``UsageError``."""

    def __init__(
        self, pieces: Sequence[bytes], *, stop: Sequence[str] = (), silent_ids: Container[int] = ()
    ) -> None:
        if isinstance(stop, str) or "" in stop or any(type(each) is not str for each in stop):
            raise UsageError("stop: must be a list of texts, none of them empty")
        self._pieces = pieces
        self._stop = tuple(stop)
        self._reach = max(map(len, self._stop), default=1) - 1
        self._silent_ids = silent_ids
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._shown = 0
        """Characters given out."""

        self._held = ""
        """Whole characters behind them."""

        self._kept = 0
        """Tokens whose text is given out."""

        self._ends: list[int] = []
        """For each token behind them, the number of characters of the text that it reaches into."""

        self.stopped = False
        """Whether a stop string was found; the text ends before it and stays as it is."""

    @property
    def kept_tokens(self) -> int:
        """How many of the fed tokens lie wholly before the stop string: all, while there is none."""
        return self._kept + len(self._ends)

    def fork(self) -> "TextStream":
        """Another stream, of the same text so far."""
        other = copy.copy(self)
        other._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        other._decoder.setstate(self._decoder.getstate())
        other._ends = list(self._ends)
        return other

    def feed(self, tokens: Sequence[int]) -> str:
        """Give the text that can be shown now, for ``tokens`` that follow those fed before."""
        if self.stopped:
            return ""
        for token in tokens:
            self._take(token)
        return self._show(self._first_beginning())

    def finish(self) -> str:
        """Give what was held back; nothing may be fed after it."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(b"", final=True)
        return self._show(len(self._held))

    def _take(self, token: int) -> None:
        self._held += self._decoder.decode(self._piece(token))
        incomplete = bool(self._decoder.getstate()[0])  # its bytes become one character, whatever follows
        self._ends.append(self._shown + len(self._held) + incomplete)

    def _piece(self, token: int) -> bytes:
        if token in self._silent_ids or not 0 <= token < len(self._pieces):
            return b""
        return self._pieces[token]

    def _first_beginning(self) -> int:
        """Where the earliest end of the held text begins that may grow into a stop string, or is one."""
        held = self._held
        for start in range(max(0, len(held) - self._reach), len(held)):
            if any(stop.startswith(held[start:]) for stop in self._stop):
                return start
        return len(held)

    def _show(self, end: int) -> str:
        """Give out the held text up to ``end``, or up to a stop string that begins no later."""
        match = self._first_match()
        if match is not None and match <= end:
            end, self.stopped = match, True
        text, self._held = self._held[:end], self._held[end:]
        self._shown += end
        settled = bisect_right(self._ends, self._shown)
        self._kept += settled
        self._ends = [] if self.stopped else self._ends[settled:]
        return text

    def _first_match(self) -> int | None:
        starts = [start for stop in self._stop if (start := self._held.find(stop)) >= 0]
        return min(starts, default=None)
