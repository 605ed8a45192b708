"""A model alone, for applications: the target, which every other way must equal, or the draft, unverified.

Runs inside the caller's event loop, like the edge and the cloud.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from typing import TypeVar

from pipesd.actors.compute import Compute, ModelledCompute, Pace, ThreadCompute, run_once
from pipesd.cloud import compute_for
from pipesd.config import CloudConfig, CommonConfig, EdgeConfig
from pipesd.conversation import Answer, Conversation
from pipesd.dialogue import Dialogue, Turn
from pipesd.engines.alone import TextAlone
from pipesd.engines.base import TargetEngine
from pipesd.engines.choose import open_solo, open_target
from pipesd.errors import UsageError
from pipesd.redact import let_log
from pipesd.text import Piece, TextStream
from pipesd.values import Finish

__all__ = ["Alone", "AloneAnswer", "alone", "edge_alone"]

T = TypeVar("T")
Path = Generator[int, None, Finish]


class AloneAnswer:
    """One answer: iterate over it to read the text. Leaving the iteration early ends the answer."""

    def __init__(self, model: "Alone", prompt: str, stop: Sequence[str]) -> None:
        self._model = model
        self._prompt = prompt
        self._stop = stop
        self._answer: Answer | None = None
        self.prompt_ids: tuple[int, ...] = ()
        """Token ids of the prompt as the model read it, once the reading has started."""

        self.tokens = 0
        """Tokens said so far; each took one pass, or one draft step."""

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
        turn, path, answer = await self._model._start(self, self._prompt, self._stop)
        self.prompt_ids, self._answer = turn.tokens, answer
        try:
            said = await self._model._run(partial(_next, path), len(turn.tokens))
            while isinstance(said, int):
                self.tokens += 1
                yield answer.take((said,))
                if answer.stopped:
                    break
                said = await self._model._run(partial(_next, path), 1)
        finally:
            self._model._interrupt(self)
        if (rest := answer.rest()).text:
            yield rest
        self.finish = answer.conclude("stop" if isinstance(said, int) else said)


class Alone:
    """A model that writes by itself, one growing text."""

    def __init__(
        self,
        config: CommonConfig,
        engine: TargetEngine,
        compute: Compute,
        *,
        is_paced: bool = False,
        verified: bool = True,
    ) -> None:
        self.config = config
        self.engine = engine
        self.verified = verified
        """Whether the text is the target's own; if not, it is what a draft model guessed."""

        self.modelled = is_paced or config.engine == "replay"
        """Whether the model's pace is modelled, or the model replayed."""

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
        return turn, path, conversation.begin(turn, text, verified=self.verified)

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
    let_log(config)
    engine = await run_once("pipesd-target", lambda: open_target(replace(config, kv_sequences=1)))
    with closing(compute_for(config, engine)) as compute:
        yield Alone(config, engine, compute, is_paced=config.is_paced)


@asynccontextmanager
async def edge_alone(config: EdgeConfig) -> AsyncIterator[Alone]:
    """Load the draft model, and have it write for the block: without a cloud, and unverified.

    Raises as ``alone`` does.
    """
    let_log(config)
    engine = await run_once("pipesd-draft", lambda: open_solo(replace(config, kv_sequences=1)))
    with closing(_draft_compute(config, engine)) as compute:
        yield Alone(config, engine, compute, is_paced=config.draft_ms > 0, verified=False)


def _draft_compute(config: EdgeConfig, engine: TargetEngine) -> Compute:
    if config.draft_ms > 0:
        return ModelledCompute(Pace(config.draft_ms / 1e3))
    return ThreadCompute("pipesd-draft", engine.interrupt, engine.close)


def _next(path: Path) -> int | Finish:
    """The next token, or at the end why there is none."""
    try:
        return next(path)
    except StopIteration as end:
        finish: Finish = end.value
        return finish
