"""One attack of ``attacks.py`` under way: what is told, what is tried again and again, what came of it."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from time import monotonic

import msgspec

from benchmarks.attacks_caller import SILENT_END, UNANSWERED, Caller, calling
from pipesd.errors import LinkError


class Order(msgspec.Struct, frozen=True):
    """What a process of strangers is told."""

    attack: str
    host: str
    port: int
    seconds: float
    tokens: dict[str, str]
    """The strangers' own, by name."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of an attack."""

    begun: float
    ended: float
    """When the last was tried, on the machine's clock."""

    answers: dict[str, int]
    """How often the cloud said what."""

    notes: list[str]
    """What was found out besides."""


Try = Callable[[int], Awaitable[str | list[str]]]


@dataclass(slots=True)
class Scene:
    """One attack that is under way."""

    order: Order
    tries: int
    at_once: int
    answers: Counter[str]
    notes: list[str]
    begun: float = 0.0
    ended: float = 0.0

    def calling(self) -> AbstractAsyncContextManager[Caller]:
        return calling(self.order.host, self.order.port)

    async def hammer(self, once: Try) -> None:
        """Try again and again, so many at once; what comes of each is counted."""
        self.begun = monotonic()
        until = self.begun + self.order.seconds
        numbers = itertools.count()

        async def one_after_another() -> None:
            while (number := next(numbers)) < self.tries or monotonic() < until:
                try:
                    answer = await once(number)
                except LinkError as error:
                    answer = UNANSWERED if str(error) == UNANSWERED else SILENT_END
                self.ended = monotonic()
                self.answers.update([answer] if isinstance(answer, str) else answer)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.at_once):
                group.create_task(one_after_another())

    async def hammer_with(self, *beginnings: bytes) -> None:
        """Connect, say one of these, and listen."""

        async def once(number: int) -> str:
            async with self.calling() as caller:
                await caller.link.send(beginnings[number % len(beginnings)])
                return await caller.last_word()

        await self.hammer(once)
