"""How actors are spoken to. Commands are told and never wait; events are reported and may."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class MailboxFullError(Exception):
    """A command found no room."""


class Mailbox(Generic[T]):
    """A bounded queue that knows its name. One task at a time may wait for what comes.

    Everything that happens goes through two or three of them, so it is leaner than an ``asyncio.Queue``.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._items: deque[T] = deque()
        self._turn = asyncio.Lock()
        self._something: asyncio.Future[None] | None = None
        """What the reader waits for."""

        self._room: asyncio.Future[None] | None = None
        """What the first of those who report waits for."""

    @property
    def limit(self) -> int:
        """Most items it holds."""
        return self._limit

    def __len__(self) -> int:
        return len(self._items)

    def tell(self, item: T) -> None:
        """Put without waiting. Raises ``MailboxFullError`` at the limit."""
        if len(self._items) >= self._limit:
            raise MailboxFullError(f"mailbox {self._name} is at its limit of {self._limit}")
        self._put(item)

    async def report(self, item: T) -> None:
        """Put, waiting for room; those who wait are served in order, however fast one of them is."""
        if len(self._items) < self._limit and not self._turn.locked():
            self._put(item)
            return
        async with self._turn:
            while len(self._items) >= self._limit:
                self._room = asyncio.get_running_loop().create_future()
                await self._room
            self._put(item)

    async def next(self) -> T:
        """Take the oldest, waiting for one."""
        while not self._items:
            await self._wait()
        item = self._items.popleft()
        _fulfil(self._room)
        return item

    async def next_all(self) -> list[T]:
        """Take everything there is, waiting for at least one."""
        while not self._items:
            await self._wait()
        items = [*self._items]
        self._items.clear()
        _fulfil(self._room)
        return items

    def _put(self, item: T) -> None:
        self._items.append(item)
        _fulfil(self._something)

    async def _wait(self) -> None:
        assert self._something is None, f"two wait for mailbox {self._name}"
        self._something = asyncio.get_running_loop().create_future()
        try:
            await self._something
        finally:
            self._something = None


def _fulfil(wish: asyncio.Future[None] | None) -> None:
    if wish is not None and not wish.done():
        wish.set_result(None)
