"""A chat: lines go to a talker, its answers come back piece by piece, until the lines end.

Knows no terminal and no process; both ends are handed in. A person gets commands, hints and another try after
a mistake. A script gets answers and nothing else, and its first mistake ends the chat, so that it never takes
one answer for another.
"""

import asyncio
import itertools
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from pipesd.errors import PipeSDError, UsageError, one_line
from pipesd.text import Piece

__all__ = ["COMMANDS", "Command", "Console", "Talker", "chat"]


class Talker(Protocol):
    """Who is talked to; remembers the conversation."""

    def answer(self, line: str) -> AsyncGenerator[Piece, None]:
        """The answer to ``line`` as it is confirmed.

        Closing it early, or cancelling whoever waits for its next piece, ends the answer and keeps the
        conversation. Raises ``UsageError``, with the conversation unchanged, if ``line`` cannot be answered.
        """

    async def reset(self) -> None:
        """Forget the conversation."""

    def set_private(self, on: bool) -> str:
        """Have the device alone answer from now on, or no more; what a person should know of that.

        Raises ``UsageError`` if that cannot be.
        """

    def stats(self) -> str:
        """Figures of the conversation so far, one or more lines."""


class Console(Protocol):
    """Where lines come from and answers go."""

    @property
    def interactive(self) -> bool:
        """Whether a person types the lines, rather than a script."""

    async def read_line(self) -> str:
        """Wait for the next line, and give it without its end.

        Raises ``EOFError`` if there is none, ``KeyboardInterrupt`` if the user gave the line up, and
        ``UsageError`` if it is not text.
        """

    async def write(self, text: str, *, verified: bool = True) -> None:
        """Show a stretch of an answer, in the place of what was previewed; returns when it has been taken.

        The stretch is empty if there is nothing but that to be taken back. What no target has confirmed is
        shown so that a person sees that.
        """

    async def preview(self, text: str) -> None:
        """Show, to a person only, what may come next and is confirmed by nobody yet."""

    async def say(self, line: str) -> None:
        """Show a line that is no part of an answer, below the text written so far."""

    def set_private(self, on: bool) -> None:
        """From now on let a person see that lines stay on the device, or no more."""

    def on_interrupt(self, stop: Callable[[], None] | None) -> None:
        """From now on call ``stop`` when the user interrupts; with None, no answer is running."""


async def chat(talker: Talker, console: Console) -> None:
    """Pass lines to ``talker`` and answers to ``console`` until the lines end or one of them is ``/exit``.

    Whatever fails is raised, except that a person is told of a ``UsageError`` and goes on. To a script it is
    raised with the number of its line.
    """
    if console.interactive:
        await _with_person(talker, console)
    else:
        await _with_script(talker, console)


# -- commands -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command:
    """What a line that is no prompt does."""

    help: str

    run: Callable[[Talker, Console], Awaitable[bool]]
    """Says whether the chat goes on."""


async def _help(_: Talker, console: Console) -> bool:
    width = max(map(len, COMMANDS))
    for word, command in COMMANDS.items():
        await console.say(f"{word:{width}}  {command.help}")
    return True


async def _reset(talker: Talker, console: Console) -> bool:
    await talker.reset()
    if console.interactive:
        await console.say("the conversation is forgotten")
    return True


async def _set_private(on: bool, talker: Talker, console: Console) -> bool:
    said = talker.set_private(on)
    console.set_private(on)
    await console.say(said)
    return True


async def _stats(talker: Talker, console: Console) -> bool:
    for line in talker.stats().splitlines():
        await console.say(line)
    return True


async def _exit(_: Talker, __: Console) -> bool:
    return False


COMMANDS: Mapping[str, Command] = {
    "/help": Command("list these commands", _help),
    "/reset": Command("forget the conversation", _reset),
    "/private on": Command(
        "let the draft model alone answer: nothing leaves this device", partial(_set_private, True)
    ),
    "/private off": Command(
        "take private turns back, and go on with the target", partial(_set_private, False)
    ),
    "/stats": Command("give figures of the conversation so far", _stats),
    "/exit": Command("end the chat, as Ctrl-D does; Ctrl-C only stops an answer", _exit),
}

_PRIVATE = re.compile(r"/private\b.*")
"""Never sent, however it is misspelt: what follows is meant to stay here."""

_LIKE_A_COMMAND = re.compile(rf"/\S*|{_PRIVATE.pattern}")


# -- with a person ------------------------------------------------------------------------------------------


async def _with_person(talker: Talker, console: Console) -> None:
    goes_on = True
    while goes_on:
        try:
            goes_on = await _take_typed(talker, console)
        except UsageError as error:
            await console.say(str(error))


async def _take_typed(talker: Talker, console: Console) -> bool:
    try:
        line = await console.read_line()
    except EOFError:
        return False
    except KeyboardInterrupt:
        await console.say("/exit or Ctrl-D ends the chat")
        return True
    word = line.rstrip()
    if command := COMMANDS.get(word):
        return await command.run(talker, console)
    if _LIKE_A_COMMAND.fullmatch(word):
        await console.say(f"there is no command {one_line(word)}; /help lists them, a space first sends it")
    elif word:
        await _answer_person(talker, console, line)
    return True


async def _answer_person(talker: Talker, console: Console, line: str) -> None:
    answer = _Answer(console)
    try:
        stopped = await _until_interrupted(console, answer.stream(talker, line))
    except PipeSDError:
        if answer.last_text and not answer.last_text.endswith("\n"):
            await console.write("\n")
        raise
    if stopped or not answer.last_text.endswith("\n"):  # a terminal has shown ^C behind whatever stood there
        await console.write("\n")
    if stopped:
        await console.say("stopped; the conversation goes on")


async def _until_interrupted(console: Console, work: Awaitable[None]) -> bool:
    """Do ``work`` unless the user interrupts it, and say whether that happened."""
    scope = asyncio.timeout(None)
    try:
        async with scope:
            console.on_interrupt(partial(_end, scope))
            await work
    except TimeoutError:
        if not scope.expired():
            raise
    finally:
        console.on_interrupt(None)
    return scope.expired()


def _end(scope: asyncio.Timeout) -> None:
    with suppress(RuntimeError):  # it has ended already
        scope.reschedule(asyncio.get_running_loop().time())


# -- with a script ------------------------------------------------------------------------------------------


async def _with_script(talker: Talker, console: Console) -> None:
    for number in itertools.count(1):
        try:
            if not await _take_piped(talker, console):
                return
        except UsageError as error:
            raise UsageError(f"line {number}: {error}") from error


async def _take_piped(talker: Talker, console: Console) -> bool:
    try:
        line = await console.read_line()
    except EOFError:
        return False
    if command := COMMANDS.get(line):
        return await command.run(talker, console)
    if _PRIVATE.fullmatch(line):
        raise UsageError(f"there is no command {one_line(line)}; it is /private on or /private off")
    if line:
        await _Answer(console).stream(talker, line)
    await console.write("\n")
    return True


# -- with both ----------------------------------------------------------------------------------------------


class _Answer:
    """Passes one answer on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.last_text = ""
        """What was written last; empty only if nothing was."""

        self._is_previewed = False
        """Whether something is shown that must not stay."""

    async def stream(self, talker: Talker, line: str) -> None:
        """Show the answer as it comes. However that ends, nothing is left that nobody has confirmed."""
        try:
            async with aclosing(talker.answer(line)) as pieces:
                async for piece in pieces:
                    await self._show(piece)
        finally:
            if self._is_previewed:
                await self._console.write("")

    async def _show(self, piece: Piece) -> None:
        if piece.preview:
            self._is_previewed = True
            await self._console.preview(piece.text)
        elif piece.text or self._is_previewed:
            self._is_previewed = False
            self.last_text = piece.text or self.last_text
            await self._console.write(piece.text, verified=piece.verified)
