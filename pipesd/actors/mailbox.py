"""How actors are spoken to. Commands are told and never wait; events are reported and may."""

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class MailboxFullError(Exception):
    """A command found no room."""


class Mailbox(Generic[T]):
    """A bounded queue that knows its name."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._items: asyncio.Queue[T] = asyncio.Queue(limit)
        self._turn = asyncio.Lock()

    @property
    def limit(self) -> int:
        """Most items it holds."""
        return self._limit

    def __len__(self) -> int:
        return self._items.qsize()

    def tell(self, item: T) -> None:
        """Put without waiting. Raises ``MailboxFullError`` at the limit."""
        try:
            self._items.put_nowait(item)
        except asyncio.QueueFull:
            raise MailboxFullError(f"mailbox {self._name} is at its limit of {self._limit}") from None

    async def report(self, item: T) -> None:
        """Put, waiting for room; those who wait are served in order, however fast one of them is."""
        if not (self._turn.locked() or self._items.full()):
            self._items.put_nowait(item)
            return
        async with self._turn:
            await self._items.put(item)

    async def next(self) -> T:
        """Take the oldest, waiting for one."""
        return await self._items.get()

    async def next_all(self) -> list[T]:
        """Take everything there is, waiting for at least one."""
        items = [await self._items.get()]
        while not self._items.empty():
            items.append(self._items.get_nowait())
        return items
