"""``chat``, the same for the edge and for a model alone: who answers, and through which console.

A model alone gives its single answers here as well.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from pathlib import Path

import platformdirs

from pipesd.alone import Alone, AloneAnswer
from pipesd.chat import Talker, chat
from pipesd.cli.output import Timing, Writer, say_ids
from pipesd.cli.process import signals, terminate
from pipesd.cli.summaries import alone_summary, edge_summary
from pipesd.edge import Edge
from pipesd.edge_session import Generation
from pipesd.errors import UsageError
from pipesd.page import logging_to
from pipesd.session.tuned import Tuned
from pipesd.summary import Summary, total
from pipesd.terminal import PipeConsole, TerminalConsole
from pipesd.text import Piece


async def talk(talker: Talker) -> None:
    """Chat at the terminal, or with the script that standard input is. Ctrl-C at a script ends the chat."""
    chatting = asyncio.current_task()
    assert chatting is not None, "a chat without a task"
    received: list[signal.Signals] = []

    def handle(which: signal.Signals) -> None:
        if which == signal.SIGINT and isinstance(console, TerminalConsole) and console.interrupt():
            return
        received.append(which)
        chatting.cancel()

    is_terminal = sys.stdin.isatty() and (sys.stdout.isatty() or sys.stderr.isatty())
    console = TerminalConsole(_history()) if is_terminal else PipeConsole()
    noting = logging_to(console.note) if isinstance(console, TerminalConsole) else contextlib.nullcontext()
    with contextlib.closing(console), signals(handle), noting:
        try:
            await chat(talker, console)
        except asyncio.CancelledError:
            if not received:
                raise
            if received[-1] == signal.SIGTERM:
                terminate()
            raise KeyboardInterrupt from None


async def write_alone(
    opening: AbstractAsyncContextManager[Alone], prompt: str, stop: Sequence[str], writer: Writer
) -> None:
    """Put out one answer of a model alone."""
    async with opening as model:
        answer = model.generate(prompt, stop=stop)
        timing = await writer.write_all(aiter(answer))
        summary = alone_summary(model, answer, timing)
    writer.conclude(summary, answer.prompt_ids, answer.kept_tokens)


def _history() -> Path:
    return Path(platformdirs.user_state_dir("pipesd", appauthor=False)) / "chat-history"


class _Figures:
    """What the answers so far took."""

    def __init__(self, show_ids: bool) -> None:
        self._show_ids = show_ids
        self._summaries: list[Summary] = []

    async def passed_on(
        self, answer: Generation | AloneAnswer, summary_of: Callable[[Timing], Summary]
    ) -> AsyncGenerator[Piece, None]:
        """The pieces of an answer, whose figures are noted if it is read to its end."""
        timing, ids = Timing(), list[int]()
        async with aclosing(aiter(answer)) as pieces:
            async for piece in pieces:
                if not piece.preview:
                    timing.note()
                    ids += piece.tokens
                yield piece
        self._summaries.append(summary_of(timing))
        if self._show_ids:
            say_ids(answer.prompt_ids, ids[: answer.kept_tokens])

    def clear(self) -> None:
        self._summaries.clear()

    def text(self, before: str) -> str:
        count = len(self._summaries)
        if not count:
            return f"{before}\nno answer is complete yet"
        last, all_of_them = self._summaries[-1].line(), total(self._summaries).line()
        return f"{before}\nlast answer: {last}\n{count} complete: {all_of_them}"


class EdgeTalker:
    """The edge in a conversation; both sides keep their caches from turn to turn."""

    def __init__(self, edge: Edge, sessions: AsyncExitStack, stop: Sequence[str], *, show_ids: bool) -> None:
        """``sessions`` closes the last session at its end; ``reset`` must be called once before all else."""
        self._edge = edge
        self._sessions = sessions
        self._stop = stop
        self._figures = _Figures(show_ids)
        self._is_private = False

    async def reset(self) -> None:
        """Begin a new session, as private as the last one."""
        await self._sessions.aclose()
        self._session = await self._sessions.enter_async_context(self._edge.session())
        self._figures.clear()

    def answer(self, line: str) -> AsyncGenerator[Piece, None]:
        """The target's answer, as it is confirmed, or the draft model's own."""
        answer = self._session.generate(line, stop=self._stop, private=self._is_private)
        before = self._edge.statistics()
        return self._figures.passed_on(
            answer, lambda timing: edge_summary(self._edge, answer, timing, before)
        )

    def set_private(self, on: bool) -> str:
        """From now on the draft model alone answers, or the target again, which knows nothing of that."""
        self._is_private = on
        if on:
            return "private: the draft model alone answers, unverified, and nothing leaves this device"
        private = self._session.length - self._session.public_length
        self._session.leave_private()
        return f"not private: the target answers, and knows nothing of {private} tokens, which are taken back"

    def stats(self) -> str:
        """Who answers, and what it took."""
        welcome = self._edge.welcome
        about = f"target {welcome.model}, {welcome.numerics} numerics; text of {self._session.length} tokens"
        if private := self._session.length - self._session.public_length:
            about += f", the last {private} private"
        tuned = self._edge.tuned
        return self._figures.text(about if tuned.trial is None else f"{about}\n{_tuning(tuned)}")


def _tuning(tuned: Tuned) -> str:
    where, limits = "here" if tuned.is_here else "at the cloud", tuned.thresholds
    if limits is None:
        now = "R1 follows its closed form"
    else:
        now = f"R1 {limits.r1:.3f}, R2 {limits.r2:.3f}, at most {limits.upper_tokens} drafts between two asks"
    return f"thresholds are tuned {where}, trial {tuned.trial}: {now}"


class AloneTalker:
    """One model alone in a conversation, on a warm cache."""

    def __init__(self, model: Alone, stop: Sequence[str], *, show_ids: bool) -> None:
        self._model = model
        self._stop = stop
        self._figures = _Figures(show_ids)

    async def reset(self) -> None:
        """Begin a new text."""
        self._model.reset()
        self._figures.clear()

    def answer(self, line: str) -> AsyncGenerator[Piece, None]:
        """The model's answer, token by token."""
        answer = self._model.generate(line, stop=self._stop)
        return self._figures.passed_on(answer, lambda timing: alone_summary(self._model, answer, timing))

    def set_private(self, on: bool) -> str:
        """There is nothing to be switched. Raises ``UsageError`` where privacy cannot be had."""
        if self._model.verified:
            raise UsageError("the target answers here, and no draft model is there to be private with")
        if not on:
            raise UsageError(
                "everything is private here: there is no cloud; start it without --policy edge-only"
            )
        return "everything is private here: there is no cloud"

    def stats(self) -> str:
        """Who answers, and what it took."""
        identity = self._model.engine.identity
        role = "target" if self._model.verified else "unverified:"
        return self._figures.text(
            f"{role} {identity.model} alone, {identity.numerics} numerics; "
            f"text of {self._model.length} tokens"
        )
