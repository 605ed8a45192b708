"""The tokens of one answer on their way to whoever reads it."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from pipesd.session import commands

if TYPE_CHECKING:
    from collections.abc import Callable

UNREAD_TOKENS_MAX = 512
"""Unread text above this pauses drafting; below a quarter of it drafting goes on."""


class Told(NamedTuple):
    """Tokens that were not read before; none at the end."""

    tokens: tuple[int, ...]
    preview: bool
    """Whether they are drafts, in whose place what is told next and is no preview comes."""


_END = Told((), preview=False)


class TokenStream:
    """The tokens of one generation, waiting to be read."""

    def __init__(self) -> None:
        self.on_pause: Callable[[bool], None] = lambda paused: None
        """Told when too much is unread, and when that is over."""

        self._unread: deque[Told] = deque()
        self.unread_tokens = 0
        """Confirmed, but not taken with ``next`` yet."""

        self._paused = False
        self._changed = asyncio.Event()
        self._failure: commands.Failure | None = None
        self.finish: commands.FinishGeneration | None = None
        """How the generation ended, once it has."""

    def push(self, tokens: tuple[int, ...]) -> None:
        """More text; drafts that were not read yet are of no interest any more."""
        self._forget_drafts()
        self._unread.append(Told(tokens, preview=False))
        self.unread_tokens += len(tokens)
        self._changed.set()
        if self.unread_tokens > UNREAD_TOKENS_MAX and not self._paused:
            self._paused = True
            self.on_pause(True)

    def show(self, tokens: tuple[int, ...]) -> None:
        """Drafts that nobody confirms for now."""
        self._unread.append(Told(tokens, preview=True))
        self._changed.set()

    def end(self, how: commands.FinishGeneration | commands.Failure) -> None:
        """There will be no more."""
        self._forget_drafts()
        if isinstance(how, commands.Failure):
            self._failure = how
        else:
            self.finish = how
        self._changed.set()

    def _forget_drafts(self) -> None:
        while self._unread and self._unread[-1].preview:
            self._unread.pop()

    async def next(self) -> Told:
        """What was not read before, as soon as there is something.

        Raises ``LinkError``, ``PeerError`` or ``RefusedError`` if the generation failed, after all that was
        confirmed has been read.
        """
        while not self._unread:
            if self._failure is not None:
                raise self._failure.error()
            if self.finish is not None:
                return _END
            self._changed.clear()
            await self._changed.wait()
        told = self._unread.popleft()
        if not told.preview:
            self.unread_tokens -= len(told.tokens)
        if self._paused and self.unread_tokens <= UNREAD_TOKENS_MAX // 4:
            self._paused = False
            self.on_pause(False)
        return told
