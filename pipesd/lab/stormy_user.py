"""Users who check every token: what an edge may say is known from the target alone, which reads the same."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pipesd.actors.token_stream import TokenStream
from pipesd.engines.alone import TextAlone
from pipesd.errors import LinkError
from pipesd.lab.stormy_cloud import stormy_target
from pipesd.lab.stormy_trip import GO_ON, Talk, Trip, Turn
from pipesd.session.events import PromptGiven
from pipesd.values import Finish

DEADLINE_S = 600.0
"""What takes longer from a prompt to its answer's end hangs."""

TRY_AGAIN_S = 0.05

End = Literal["whole", "left", "stopped"]
"""By itself; because its reader left; with the connection, as the rules wanted it."""


@dataclass(frozen=True, slots=True)
class Part:
    """An answer, or what there is of it."""

    end: End
    is_wanted_whole: bool
    is_right: bool
    """Whether it is the target's as far as it goes, and ends where the target's does if it ends by itself."""

    tokens: int
    turn_tokens: int
    """With those of the parts that it goes on with."""

    turn_s: float
    """From the prompt of the first part on."""

    showed: bool
    """Whether drafts were shown that nobody had verified."""

    corrected: bool
    """Whether one of them was wrong."""


@dataclass(slots=True)
class _Heard:
    """What a reader got."""

    tokens: list[int]
    preview: list[int]
    """Shown since the last of them, and not verified."""

    end: End = "whole"
    finish: Finish | None = None
    showed: bool = False
    corrected: bool = False

    def take(self, tokens: Sequence[int], *, verified: bool) -> None:
        if not verified:
            self.showed = True
            self.preview += tokens
            return
        self.corrected |= any(shown != said for shown, said in zip(self.preview, tokens, strict=False))
        self.preview.clear()
        self.tokens += tokens


class Listener(Protocol):
    """Whom users talk to: an ``EdgeRuntime``, of which this is a part."""

    def open_session(self) -> int:
        """The number of a new session."""

    def start(self, wish: PromptGiven) -> TokenStream:
        """Begin an answer."""

    def cancel(self, session: int, stream: TokenStream) -> None:
        """End it."""

    def close_session(self, session: int) -> None:
        """The session is not needed any more."""


class User:
    """One conversation."""

    def __init__(
        self, runtime: Listener, trip: Trip, note: Callable[[Part], None], stall: Callable[[], None]
    ) -> None:
        """``note`` is told of every part; ``stall`` makes the link stall, if there may be faults."""
        self._runtime = runtime
        self._trip = trip
        self._note = note
        self._stall = stall
        self._session = runtime.open_session()
        self._truth = TextAlone(stormy_target())
        self._turn_base = self._length = 0

    async def converse(self, talk: Talk) -> None:
        """Say everything. Raises ``PipeSDError`` or ``TimeoutError`` if the conversation cannot go on."""
        for turn in talk:
            await asyncio.sleep(turn.think_s)
            async with asyncio.timeout(DEADLINE_S):
                await self._take(turn)
        self._runtime.close_session(self._session)

    async def _take(self, turn: Turn) -> None:
        """A turn. Where an answer stops that was to be read whole, the rest of it is asked for."""
        now = asyncio.get_running_loop().time
        began, said = now(), 0
        base = self._turn_base = self._turn_base if turn.again else self._length
        prompt = turn.prompt
        while True:
            wish = PromptGiven(
                self._session, base, prompt, self._trip.sampling, turn.seed, turn.tokens_max - said
            )
            heard = await self._read(wish, turn)
            is_right = self._check(wish, heard)
            said += len(heard.tokens)
            self._note(
                Part(
                    end=heard.end,
                    is_wanted_whole=turn.leaves_after is None,
                    is_right=is_right,
                    tokens=len(heard.tokens),
                    turn_tokens=said,
                    turn_s=now() - began,
                    showed=heard.showed,
                    corrected=heard.corrected,
                )
            )
            kept = len(heard.tokens) if heard.end != "left" else turn.leaves_after or 0
            self._length = base + len(prompt) + kept
            if heard.end != "stopped" or turn.leaves_after is not None:
                return
            if heard.tokens:
                base, prompt = self._length, GO_ON

    async def _read(self, wish: PromptGiven, turn: Turn) -> _Heard:
        stream, heard = await self._begin(wish), _Heard([], [])
        try:
            self._leave_if_enough(stream, heard, turn)
            while (told := await stream.next()).tokens:
                heard.take(told.tokens, verified=not told.preview)
                self._leave_if_enough(stream, heard, turn)
        except LinkError:
            if self._trip.offline != "stop":
                raise
            heard.end = "stopped"
            return heard
        assert stream.finish is not None, "the end of an answer without a word"
        heard.finish = stream.finish.finish
        heard.end = "whole" if heard.finish is not None else "left"
        return heard

    async def _begin(self, wish: PromptGiven) -> TokenStream:
        """As soon as possible: nothing begins while the cloud is away if answers are to stop then."""
        while True:
            try:
                return self._runtime.start(wish)
            except LinkError:
                if self._trip.offline != "stop":
                    raise
            await asyncio.sleep(TRY_AGAIN_S)

    def _leave_if_enough(self, stream: TokenStream, heard: _Heard, turn: Turn) -> None:
        if turn.leaves_after is None or len(heard.tokens) < turn.leaves_after or heard.end == "left":
            return
        heard.end = "left"
        if turn.leaves_in_stall:
            self._stall()
        self._runtime.cancel(self._session, stream)

    def _check(self, wish: PromptGiven, heard: _Heard) -> bool:
        path = self._truth.answer(
            wish.base, wish.tokens, sampling=wish.sampling, seed=wish.seed, tokens_max=wish.tokens_max
        )
        tokens, finish = _told(path, None if heard.end == "whole" else len(heard.tokens))
        return tokens == heard.tokens and (heard.end != "whole" or finish == heard.finish)


def _told(path: Generator[int, None, Finish], most: int | None) -> tuple[list[int], Finish | None]:
    """The first ``most`` tokens; all of them without, and why they end."""
    tokens: list[int] = []
    while most is None or len(tokens) < most:
        try:
            tokens.append(next(path))
        except StopIteration as end:
            return tokens, end.value
    return tokens, None
