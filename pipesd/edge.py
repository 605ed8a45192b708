"""The edge for applications: connect to a cloud, and read the target's text as it is confirmed.

Runs inside the caller's event loop; several connections may exist in one process. Nothing here is global.
"""

import asyncio
import logging
import operator
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import SupportsIndex

from pipesd import learned, tls
from pipesd.actors.compute import Compute, LentCompute, ModelledCompute, Pace, ThreadCompute, run_once
from pipesd.actors.connection import LinkStatistics
from pipesd.actors.edge_runtime import EdgeRuntime
from pipesd.actors.lines import Dial, no_dial
from pipesd.actors.link import Link
from pipesd.actors.runtime import Hooks
from pipesd.actors.token_stream import TokenStream
from pipesd.address import host_ports
from pipesd.clouds import Clouds
from pipesd.config import EdgeConfig
from pipesd.conversation import Answer, Conversation
from pipesd.dialogue import Dialogue, Turn
from pipesd.edge_rules import edge_rules, policy_of, token_of, tuner_place
from pipesd.engines.base import DraftEngine
from pipesd.engines.choose import open_draft
from pipesd.errors import ConfigError, RefusedError, UsageError
from pipesd.observe import Observer
from pipesd.redact import let_log
from pipesd.session.commands import GenerationStats
from pipesd.session.events import PromptGiven
from pipesd.session.tuned import Tuned
from pipesd.text import Piece, TextStream
from pipesd.values import Finish, Sampling
from pipesd.wire.frames import Welcome

__all__ = [
    "Edge",
    "Generation",
    "Result",
    "Session",
    "connect",
    "connect_over",
]


logger = logging.getLogger("pipesd.edge")

_LONGER_MAX = 8


@dataclass(frozen=True, slots=True)
class Result:
    """How a generation ended, and what it took."""

    finish: Finish
    """``stop`` also if a stop string was found."""

    stats: GenerationStats


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    sampling: Sampling
    seed: int
    tokens_max: int
    stop: Sequence[str]


class Generation:
    """One answer: iterate over it to read the text as it is confirmed.

    With ``offline="draft"`` it also gives pieces that are not ``verified`` while no cloud is there. Each
    verified piece takes the place of all such pieces before it: those alone are the target's text.
    Leaving the iteration early ends the answer; the session stays. ``result`` is there once it is complete.
    """

    def __init__(
        self, session: "Session", prompt: str | Sequence[int], base: int | None, options: _Options
    ) -> None:
        self._session = session
        self._prompt = prompt
        self._base = base
        self._options = options
        self._answer: Answer | None = None
        self.prompt_ids: tuple[int, ...] = ()
        """Token ids of the prompt as it was sent, once the reading has started."""

        self.result: Result | None = None

    @property
    def kept_tokens(self) -> int:
        """How many of the tokens read lie before the stop string: all, while there is none."""
        return self._answer.kept_tokens if self._answer is not None else 0

    async def __aiter__(self) -> AsyncGenerator[Piece, None]:
        """Read on. Raises ``LinkError``, ``PeerError`` or ``RefusedError`` if the answer fails."""
        if self._answer is not None:
            raise UsageError("this answer was read before; call generate again")
        session = self._session
        turn, stream, answer = session._start(self._prompt, self._base, self._options)
        self.prompt_ids, self._answer = turn.tokens, answer
        try:
            while (told := await stream.next()).tokens:
                if not told.verified:
                    yield answer.preview(told.tokens)
                    continue
                piece = answer.take(told.tokens)
                if answer.stopped:
                    session._cancel(stream)  # at once: the reader may take its time, and the cloud may go
                    yield piece
                    break
                yield piece
            if (rest := answer.rest()).text:
                yield rest
        finally:
            session._cancel(stream)
        if stream.finish is not None:
            finish = answer.conclude(stream.finish.finish or "stop")
            self.result = Result(finish, stream.finish.stats)


class Session:
    """One growing text: each prompt continues it, on warm caches on both sides."""

    def __init__(self, edge: "Edge") -> None:
        self._edge = edge
        self._number = edge._runtime.open_session()
        self._conversation = Conversation(edge._dialogue)

    @property
    def length(self) -> int:
        """Tokens of the text so far, prompts included; where the next prompt goes by default."""
        return self._conversation.length

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        base: int | None = None,
        sampling: Sampling | None = None,
        seed: int | None = None,
        tokens_max: int | None = None,
        stop: Sequence[str] = (),
    ) -> Generation:
        """Continue the text with ``prompt`` (text, or token ids as they are) and read the answer.

        ``base`` takes text back first: only that many tokens of it stay. What is not given is as in the
        configuration. Raises ``UsageError`` for an impossible wish, here or when the reading starts.
        """
        config = self._edge.config
        options = _Options(
            sampling=config.sampling if sampling is None else _plain(sampling),
            seed=config.seed if seed is None else _whole("seed", seed),
            tokens_max=config.tokens_max if tokens_max is None else _whole("tokens_max", tokens_max),
            stop=stop,
        )
        return Generation(self, prompt, None if base is None else _whole("base", base), options)

    def _start(
        self, prompt: str | Sequence[int], base: int | None, options: _Options
    ) -> tuple[Turn, TokenStream, Answer]:
        text = self._edge._text_stream(options.stop)
        turn = self._conversation.turn(_said(prompt), base)
        wish = PromptGiven(
            self._number, turn.base, turn.tokens, options.sampling, options.seed, options.tokens_max
        )
        stream = self._edge._runtime.start(wish)
        return turn, stream, self._conversation.begin(turn, text)

    def _cancel(self, stream: TokenStream) -> None:
        self._edge._runtime.cancel(self._number, stream)

    def _close(self) -> None:
        self._edge._runtime.close_session(self._number)


class Edge:
    """A connection to a cloud."""

    def __init__(
        self,
        config: EdgeConfig,
        engine: DraftEngine,
        runtime: EdgeRuntime,
        welcome: Welcome,
        dialogue: Dialogue,
    ) -> None:
        self.config = config
        self.welcome = welcome
        """What the cloud granted: its model, numerics, limits."""

        self._engine = engine
        self._runtime = runtime
        self._silent_ids = frozenset((*welcome.end_ids, *welcome.control_ids))
        self._dialogue = dialogue
        self._pieces = _with_foreign(engine.tokenizer.vocabulary.pieces, runtime.foreign_pieces)

    def encode(self, text: str, *, first: bool = True) -> list[int]:
        """Token ids of a raw prompt as the target wants them; ``first`` if nothing stands before it."""
        begin = list(self.welcome.begin_ids) if first else []
        return begin + self._engine.tokenizer.encode(text)

    def _text_stream(self, stop: Sequence[str]) -> TextStream:
        return TextStream(self._pieces, stop=stop, silent_ids=self._silent_ids)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A conversation. Its caches are given back at the end of the block."""
        session = Session(self)
        try:
            yield session
        finally:
            session._close()

    async def generate(
        self,
        prompt: str | Sequence[int],
        *,
        sampling: Sampling | None = None,
        seed: int | None = None,
        tokens_max: int | None = None,
        stop: Sequence[str] = (),
    ) -> AsyncIterator[Piece]:
        """One answer in a session of its own; see ``Session.generate``."""
        async with self.session() as session:
            answer = session.generate(prompt, sampling=sampling, seed=seed, tokens_max=tokens_max, stop=stop)
            async for piece in answer:
                yield piece

    def statistics(self) -> LinkStatistics:
        """What crossed the link so far."""
        return self._runtime.statistics()

    @property
    def tuned(self) -> Tuned:
        """What the tuner of thresholds was told, and has proposed; to be read only."""
        return self._runtime.tuned


def _said(prompt: str | Sequence[int]) -> str | tuple[int, ...]:
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, bytes):
        raise UsageError("prompt: must be text or token ids, not bytes; decode it first")
    return tuple(_whole("prompt", token) for token in prompt)


def _whole(name: str, value: SupportsIndex) -> int:
    """A plain int of any whole number, such as numpy's."""
    try:
        return operator.index(value)
    except TypeError:
        raise UsageError(f"{name}: must be made of whole numbers, not {value!r}") from None


def _plain(sampling: Sampling) -> Sampling:
    try:
        return Sampling(
            float(sampling.temperature),
            operator.index(sampling.top_k),
            float(sampling.top_p),
            float(sampling.min_p),
        )
    except (AttributeError, TypeError):
        raise UsageError(f"sampling: must be a pipesd.Sampling of numbers, not {sampling!r}") from None


@asynccontextmanager
async def connect(config: EdgeConfig, *, observers: Sequence[Observer] = ()) -> AsyncIterator[Edge]:
    """Load the draft model, connect, and be ready.

    Raises ``ConfigError``, ``EngineError``, ``LinkError``, ``PeerError`` or ``RefusedError``, each with one
    sentence that says what to do.
    """
    let_log(config)
    policy = policy_of(config)
    tuner_place(config, policy)  # raises for a tuner that would have nothing to do
    if policy.writers == "edge":
        raise ConfigError("policy: edge-only needs no cloud; use pipesd.alone.edge_alone instead of connect")
    context = tls.of_edge(config)
    token_of(config)  # raises before the model is loaded
    clouds = Clouds(host_ports(config.cloud, name="cloud"), config.connect_timeout_s, context)
    engine = await run_once("pipesd-draft", lambda: open_draft(config))
    compute = _compute(config, engine)
    hooks = Hooks(observers=observers, clock=monotonic)

    async def enter(stack: AsyncExitStack) -> Edge:
        link = await clouds.first()
        return await stack.enter_async_context(
            connect_over(config, link, engine, LentCompute(compute), hooks, clouds.dial)
        )

    try:
        async with AsyncExitStack() as stack:
            edge = await _when_there_is_room(lambda: enter(stack), config.busy_timeout_s)
            await stack.enter_async_context(_remembering(edge, clouds.host))
            yield edge
    finally:
        compute.close()


async def _when_there_is_room(connecting: Callable[[], Awaitable[Edge]], patience_s: float) -> Edge:
    """Try again, after the time that a busy cloud names, more or less, and longer each time."""
    now = asyncio.get_running_loop().time
    until, longer = now() + patience_s, 1
    while True:
        try:
            return await connecting()
        except RefusedError as error:
            wait_s = error.retry_s * longer * random.uniform(0.5, 1.5)
            if error.code != "busy" or not wait_s or now() + wait_s > until:
                raise
            logger.warning("%s; trying again in %.1f s", error, wait_s)
        await asyncio.sleep(wait_s)
        longer = min(2 * longer, _LONGER_MAX)


@asynccontextmanager
async def _remembering(edge: Edge, host: str) -> AsyncIterator[None]:
    """Begin with what was learned of these models and this host, and keep what is learned in the block."""
    if edge.tuned.trial is None:
        yield
        return
    place = learned.place_of((edge.config.draft, edge.welcome.model, host))
    if (known := learned.load(place)) is not None:
        edge.tuned.remember(known)
    try:
        yield
    finally:
        if (news := edge.tuned.learned) is not None:
            learned.save(place, news)


@asynccontextmanager
async def connect_over(
    config: EdgeConfig,
    link: Link,
    engine: DraftEngine,
    compute: Compute,
    hooks: Hooks,
    dial: Dial | None = None,
) -> AsyncIterator[Edge]:
    """Like ``connect``, over a link and an engine that are there already; both are given up at the end.

    ``dial`` makes another link when that one is lost; without it, the loss is the end.
    """
    rules = edge_rules(config, engine.context_tokens)
    if dial is None:
        rules = replace(rules, patience=replace(rules.patience, away_s=0.0))
    stop_s = config.stop_timeout_s
    runtime = EdgeRuntime(rules, link, engine, compute, stop_s=stop_s, hooks=hooks, dial=dial or no_dial)
    async with runtime.running():
        welcome = await runtime.wait_ready()
        dialogue = await _dialogue(config, engine, compute, welcome)
        yield Edge(config, engine, runtime, welcome, dialogue)


async def _dialogue(config: EdgeConfig, engine: DraftEngine, compute: Compute, welcome: Welcome) -> Dialogue:
    """Render the cloud's template, but not for ever: it is somebody else's program."""
    make = partial(Dialogue, engine.tokenizer, welcome, mode=config.prompts, system=config.system)
    try:
        async with asyncio.timeout(config.connect_timeout_s):
            return await compute.run(make, 0)
    except TimeoutError:
        raise UsageError(
            f"the target's chat template takes more than {config.connect_timeout_s:g} s; "
            "give prompts as they are, with --raw"
        ) from None


def _with_foreign(pieces: Sequence[bytes], foreign: Mapping[int, bytes]) -> Sequence[bytes]:
    """The bytes of every token that the target may say."""
    end = max(foreign, default=-1) + 1
    return (*pieces, *(foreign.get(token, b"") for token in range(len(pieces), end)))


def _compute(config: EdgeConfig, engine: DraftEngine) -> Compute:
    if config.draft_ms > 0:
        return ModelledCompute(Pace(config.draft_ms / 1e3))
    return ThreadCompute("pipesd-draft", engine.interrupt, engine.close)
