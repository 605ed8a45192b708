"""The target by itself, for applications: the reference that every other way must equal.

Runs inside the caller's event loop, like the edge and the cloud.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from pipesd.actors.compute import Compute, run_once
from pipesd.cloud import compute_for
from pipesd.config import CloudConfig
from pipesd.conversation import Answer, Conversation
from pipesd.dialogue import Dialogue, Turn
from pipesd.engines.alone import TextAlone
from pipesd.engines.base import TargetEngine
from pipesd.engines.choose import open_target
from pipesd.errors import UsageError
from pipesd.text import Piece, TextStream
from pipesd.values import Finish

__all__ = ["Alone", "AloneAnswer", "alone"]

T = TypeVar("T")
Path = Generator[int, None, Finish]


class AloneAnswer:
    """One answer: iterate over it to read the text. Leaving the iteration early ends the answer."""

    def __init__(self, target: "Alone", prompt: str, stop: Sequence[str]) -> None:
        self._target = target
        self._prompt = prompt
        self._stop = stop
        self._answer: Answer | None = None
        self.prompt_ids: tuple[int, ...] = ()
        """Token ids of the prompt as the target read it, once the reading has started."""

        self.tokens = 0
        """Tokens said so far; each took one pass."""

        self.finish: Finish | None = None
        """Why it ended; ``stop`` also if a stop string was found."""

    @property
    def kept_tokens(self) -> int:
        """How many of its tokens lie before the stop string: all, while there is none."""
        return self._answer.kept_tokens if self._answer is not None else 0

    async def __aiter__(self) -> AsyncGenerator[Piece, None]:
        """Read the answer token by token. Raises ``UsageError`` or ``EngineError``."""
        if self._answer is not None:
            raise UsageError("this answer was read before; call generate again")
        turn, path, answer = await self._target._start(self, self._prompt, self._stop)
        self.prompt_ids, self._answer = turn.tokens, answer
        try:
            said = await self._target._run(partial(_next, path), len(turn.tokens))
            while isinstance(said, int):
                self.tokens += 1
                yield answer.take((said,))
                if answer.stopped:
                    break
                said = await self._target._run(partial(_next, path), 1)
        finally:
            self._target._interrupt(self)
        if (rest := answer.rest()).text:
            yield rest
        self.finish = answer.conclude("stop" if isinstance(said, int) else said)


class Alone:
    """A target model that writes by itself, one growing text."""

    def __init__(self, config: CloudConfig, engine: TargetEngine, compute: Compute) -> None:
        self.config = config
        self.engine = engine
        self._compute = compute
        self._dialogue = Dialogue(
            engine.tokenizer, engine.identity, mode=config.prompts, system=config.system
        )
        self._text = TextAlone(engine)
        self._conversation = Conversation(self._dialogue)
        self._newest: AloneAnswer | None = None

    @property
    def length(self) -> int:
        """Tokens of the text so far, prompts included."""
        return self._conversation.length

    def generate(self, prompt: str, *, stop: Sequence[str] = ()) -> AloneAnswer:
        """Continue the text with ``prompt``, on a warm cache, and read the answer."""
        return AloneAnswer(self, prompt, stop)

    def reset(self) -> None:
        """Begin a new text."""
        self._conversation = Conversation(self._dialogue)

    async def _start(
        self, reader: AloneAnswer, prompt: str, stop: Sequence[str]
    ) -> tuple[Turn, Path, Answer]:
        config, identity, conversation = self.config, self.engine.identity, self._conversation
        pieces = self.engine.tokenizer.vocabulary.pieces
        text = TextStream(pieces, stop=stop, silent_ids={*identity.end_ids, *identity.control_ids})
        turn = conversation.turn(prompt)
        begin = partial(
            self._text.answer,
            turn.base,
            turn.tokens,
            sampling=config.sampling,
            seed=config.seed,
            tokens_max=config.tokens_max,
        )
        self._newest = reader
        path = await self._run(begin, 0)
        return turn, path, conversation.begin(turn, text)

    async def _run(self, work: Callable[[], T], tokens: int) -> T:
        return await self._compute.run(work, tokens)

    def _interrupt(self, reader: AloneAnswer) -> None:
        """Whatever still runs is of no use, unless it is for a newer answer."""
        if reader is self._newest:
            self._compute.interrupt()


@asynccontextmanager
async def alone(config: CloudConfig) -> AsyncIterator[Alone]:
    """Load the target model, and have it for the block.

    Raises ``ConfigError``, ``UsageError`` or ``EngineError``, each with one sentence that says what to do.
    """
    engine = await run_once("pipesd-target", lambda: open_target(replace(config, kv_sequences=1)))
    compute = compute_for(config, engine)
    try:
        yield Alone(config, engine, compute)
    finally:
        compute.close()


def _next(path: Path) -> int | Finish:
    """The next token, or at the end why there is none."""
    try:
        return next(path)
    except StopIteration as end:
        finish: Finish = end.value
        return finish
