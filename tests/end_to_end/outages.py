"""A link to a cloud that comes and goes, and what a reader makes of an answer over it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from pipesd.engines.scripted import END_ID
from pipesd.lab.faults import FaultModel
from pipesd.lab.link import LinkModel
from pipesd.lab.relay import Address, relaying
from pipesd.lab.storm import Storm
from pipesd.text import Piece

IDEAL = LinkModel()
CALM = FaultModel(every_s=86_400.0, stall_s=(3_600.0, 3_600.0))
"""Nothing comes by itself in time, and a stall that is not noticed is the end of the test."""


@dataclass
class Weather:
    """A relay to a cloud that comes and goes at the same address, and the faults on it."""

    cloud: str
    storm: Storm
    address: Address = ("127.0.0.1", 0)
    is_clear: bool = False
    """Whether connections can be made."""

    _open: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def clear(self) -> None:
        """Let connections be made."""
        host, _, port = self.cloud.rpartition(":")
        way = relaying(self.address, (host, int(port)), IDEAL, IDEAL, storm=self.storm)
        self.address = await self._open.enter_async_context(way)
        self.is_clear = True

    async def break_off(self) -> None:
        """Cut all connections, and let none be made."""
        self.is_clear = False
        await self._open.aclose()


@asynccontextmanager
async def weather(cloud: str, storm: Storm | None = None) -> AsyncIterator[Weather]:
    made = Weather(cloud, storm or Storm(CALM))
    await made.clear()
    try:
        yield made
    finally:
        made.storm.stop()
        await made.break_off()


@dataclass
class Reader:
    """Reads an answer: what is confirmed, and what was shown without being so, and where."""

    got: list[int] = field(default_factory=list)
    guesses: list[tuple[int, list[int]]] = field(default_factory=list)
    """(place in the answer, tokens) of all drafts between two confirmed pieces."""

    _is_guessing: bool = False

    def take(self, piece: Piece) -> None:
        if piece.verified:
            self.got += piece.tokens
        elif self._is_guessing:
            self.guesses[-1][1].extend(piece.tokens)
        else:
            self.guesses.append((len(self.got), list(piece.tokens)))
        self._is_guessing = not piece.verified

    @property
    def guessed(self) -> int:
        """How many drafts are shown at the moment."""
        return len(self.guesses[-1][1]) if self._is_guessing else 0

    def has_guessed(self, count: int) -> bool:
        """Whether so many drafts are shown at the moment, or all that there will be."""
        return self._is_guessing and (self.guessed >= count or self.guesses[-1][1][-1] == END_ID)

    def right(self, path: Sequence[int]) -> tuple[int, int]:
        """How many drafts that were shown turned out to be right, and how many wrong."""
        right = wrong = 0
        for place, tokens in self.guesses:
            matches = [token == true for token, true in zip(tokens, path[place:], strict=False)]
            agreed = matches.index(False) if False in matches else len(matches)
            right, wrong = right + agreed, wrong + len(matches) - agreed
        return right, wrong
