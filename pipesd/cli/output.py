"""How an answer is put out: as text while it comes, or as one JSON object with every figure."""

import json
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, nullcontext
from functools import partial
from time import monotonic

from pipesd.actors.compute import ThreadCompute
from pipesd.cli.process import say
from pipesd.errors import PipeSDError
from pipesd.page import Page, logging_to, put
from pipesd.summary import Summary
from pipesd.text import Piece

_NOTHING = Piece("", ())


class Timing:
    """How long an answer takes, from now on."""

    def __init__(self) -> None:
        self._started = monotonic()
        self.first_token_ms = 0.0
        self.elapsed_ms = 0.0

    def note(self) -> None:
        """A piece came."""
        self.elapsed_ms = 1e3 * (monotonic() - self._started)
        self.first_token_ms = self.first_token_ms or self.elapsed_ms


class Writer:
    """Puts one answer on standard output as it comes, or keeps it for the JSON object."""

    def __init__(self, *, as_json: bool, show_ids: bool) -> None:
        self._as_json = as_json
        self._show_ids = show_ids
        self._output = ThreadCompute("pipesd-output")
        self._page = Page(sys.stdout) if sys.stdout.isatty() and not as_json else None
        self._is_previewed = False
        self._text: list[str] = []
        self._tokens: list[int] = []

    async def write_all(self, pieces: AsyncGenerator[Piece, None]) -> Timing:
        """Put out what comes, without holding up the event loop; how long it took."""
        timing = Timing()
        with nullcontext() if self._page is None else logging_to(self._page.remark):
            try:
                async with aclosing(pieces):
                    async for piece in pieces:
                        if not piece.preview:
                            timing.note()
                            self._text.append(piece.text)
                            self._tokens += piece.tokens
                        await self._show(piece)
            except PipeSDError:
                if self._page is not None:
                    await self._output.run(self._page.end_line, 0)
                raise
            finally:
                if self._is_previewed:
                    await self._show(_NOTHING)
        return timing

    async def _show(self, piece: Piece) -> None:
        """At a terminal also what nobody has confirmed yet, until something is."""
        if self._page is not None:
            self._is_previewed = piece.preview
            page = self._page
            show = page.preview if piece.preview else partial(page.write, verified=piece.verified)
            await self._output.run(partial(show, piece.text), 0)
        elif piece.text and not piece.preview and not self._as_json:
            await self._output.run(partial(put, sys.stdout, piece.text), 0)

    def conclude(self, summary: Summary, prompt_ids: Sequence[int], kept_tokens: int) -> None:
        """The answer is complete: its figures follow, and its ids; those behind a stop string are no part."""
        text, ids = "".join(self._text), self._tokens[:kept_tokens]
        if self._as_json:
            answer = {"text": text, "token_ids": ids, "prompt_ids": list(prompt_ids), **summary.figures()}
            put(sys.stdout, json.dumps(answer, ensure_ascii=False) + "\n")
            return
        if sys.stdout.isatty() and not text.endswith("\n"):
            put(sys.stdout, "\n")
        if self._show_ids:
            say_ids(prompt_ids, ids)
        say(summary.line())


def say_ids(prompt_ids: Sequence[int], ids: Sequence[int]) -> None:
    """Show the token ids of a turn, on standard error."""
    for name, shown in (("prompt", prompt_ids), ("answer", ids)):
        say(f"{name} ids: {' '.join(map(str, shown))}")
