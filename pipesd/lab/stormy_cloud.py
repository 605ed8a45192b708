"""Clouds that are killed, replaced and started again, and a target whose process may end in a pass."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipesd.actors.link import Link
from pipesd.actors.runtime import Hooks
from pipesd.cloud import make_gateway
from pipesd.config import CloudConfig
from pipesd.engines.base import TargetEngine, TargetIdentity, Tokenizer
from pipesd.engines.scripted import FIRST_WORD_ID, ScriptedTarget
from pipesd.errors import EngineError, EngineLostError, LinkError
from pipesd.lab.answers import UPTIME_S
from pipesd.lab.phased import PhasedCompute
from pipesd.lab.scenarios import Scenario
from pipesd.lab.stormy_trip import PROMPT_MARK
from pipesd.values import Slice

if TYPE_CHECKING:
    from pipesd.actors.gateway import Gateway

CHUNK_TOKENS = 64
"""Longer prompts have several chunks."""

ENDS_EVERY = 100
"""An answer may end by itself."""


def stormy_target() -> ScriptedTarget:
    """The target of all trips."""
    return ScriptedTarget(chunk_tokens=CHUNK_TOKENS, ends_every=ENDS_EVERY)


class FragileTarget:
    """A target engine that can be lost, with all that it holds, and that minds how prompts are read.

    In front of a model with exact numerics, prompts must be read in the same chunks whatever happens.
    """

    def __init__(self, make: Callable[[], TargetEngine], on_loss: Callable[[], None]) -> None:
        self._make = make
        self._on_loss = on_loss
        self._engine = make()
        self._texts: dict[int, list[int]] = {}
        self._is_failing = False

    @property
    def identity(self) -> TargetIdentity:
        """The engine's."""
        return self._engine.identity

    @property
    def tokenizer(self) -> Tokenizer:
        """The engine's."""
        return self._engine.tokenizer

    def fail(self) -> None:
        """Let the pass that runs be lost, or the next one."""
        self._is_failing = True

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        """The picks of each slice. Raises ``EngineError`` also if a prompt is read in other chunks."""
        if self._is_failing:
            self._is_failing = False
            self._engine = self._make()
            self._texts.clear()
            self._on_loss()
            raise EngineLostError("its process has ended (a fault of the lab)")
        for part in slices:
            self._check(part)
        return self._engine.forward(slices)

    def _check(self, part: Slice) -> None:
        if part.copy_of is not None:
            self._texts[part.sequence] = self._texts.get(part.copy_of, [])[:]
        text = self._texts.setdefault(part.sequence, [])
        text[part.base :] = part.tokens
        prompt_tokens = sum(token < FIRST_WORD_ID for token in part.tokens)
        if prompt_tokens != (len(part.tokens) if part.prompt else 0):
            raise EngineError("a prompt was taken for an answer, or an answer for a prompt")
        if part.prompt:
            from_its_start = text[part.base :: -1].index(PROMPT_MARK)
            is_one = PROMPT_MARK not in part.tokens[1:] and len(part.tokens) <= CHUNK_TOKENS
            if from_its_start % CHUNK_TOKENS or not is_one:
                raise EngineError("a prompt was not read in chunks that are counted from its start")

    def release(self, sequence: int) -> None:
        """Forget the sequence."""
        self._texts.pop(sequence, None)
        self._engine.release(sequence)

    def interrupt(self) -> None:
        """Pass it on."""
        self._engine.interrupt()

    def close(self) -> None:
        """Pass it on."""
        self._engine.close()


class CloudHost:
    """Where a cloud listens: one gateway after another, each with a secret and an engine of its own."""

    def __init__(
        self,
        config: CloudConfig,
        scenario: Scenario,
        hands: asyncio.TaskGroup,
        on_loss: Callable[[], None],
    ) -> None:
        self._config = config
        self._scenario = scenario
        self._hands = hands
        self._on_loss = on_loss
        self._tasks: set[asyncio.Task[None]] = set()
        self._newest: asyncio.Task[None] | None = None
        self._gateway: Gateway | None = None
        self._engine: FragileTarget | None = None
        self._replaced = asyncio.Event()
        self._starting: asyncio.TimerHandle | None = None

    def accept(self, link: Link) -> None:
        """Serve a new connection. Raises ``LinkError`` while it is down."""
        if self._gateway is None:
            raise LinkError("nobody listens there (a fault of the lab)")
        self._gateway.accept(link)

    def fail_engine(self) -> None:
        """Let the pass that runs be lost, or the next one; nothing happens while it is down."""
        if self._engine is not None:
            self._engine.fail()

    def start(self) -> None:
        """Serve from now on."""
        task = self._newest = self._hands.create_task(self._serve())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self) -> None:
        now = asyncio.get_running_loop().time
        replaced = self._replaced = asyncio.Event()
        engine = self._engine = FragileTarget(stormy_target, self._on_loss)
        compute = PhasedCompute(self._scenario.pass_pace, now)
        hooks = Hooks(clock=lambda: UPTIME_S + now())
        gateway = make_gateway(self._config, engine, compute, hooks)
        async with gateway.running():
            self._gateway = gateway
            await replaced.wait()

    @property
    def is_up(self) -> bool:
        """Whether it can be connected to."""
        return self._gateway is not None

    def kill(self, down_s: float) -> None:
        """End without a word, and start again after a while."""
        self._gateway = self._engine = None
        if self._newest is not None:
            self._newest.cancel()
        if self._starting is not None:
            self._starting.cancel()
        self._starting = asyncio.get_running_loop().call_later(down_s, self.start)

    def replace(self) -> None:
        """Let another take over at once, and end in good order."""
        self._gateway = self._engine = None
        self._replaced.set()
        self.start()

    def close(self) -> None:
        """End for good."""
        if self._starting is not None:
            self._starting.cancel()
        for task in self._tasks:
            task.cancel()
