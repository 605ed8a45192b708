"""The tuner at work: reports on trials in, proposals out. Nobody waits for it.

If it fails, it says so once; the thresholds that were proposed last stay, and the text goes on.
"""

import asyncio
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import msgspec

from pipesd.actors.mailbox import Mailbox
from pipesd.errors import EngineError
from pipesd.tuning import Proposal
from pipesd.tuning_worker import LENGTH_BYTES, Desks, Order, pack

logger = logging.getLogger("pipesd.tuner")

E = TypeVar("E")


class Door(Protocol):
    """Where proposals come from."""

    async def ask(self, order: Order) -> Proposal | None:
        """What is to be tried next; None if the client has gone."""
        ...

    async def close(self) -> None:
        """No more orders will come; nothing is left when this is over."""
        ...


class AtOnce:
    """Works in the event loop, which stands still meanwhile: for virtual time."""

    def __init__(self) -> None:
        self._desks = Desks()

    async def ask(self, order: Order) -> Proposal | None:
        """Answer at once."""
        return self._desks.obey(order)

    async def close(self) -> None:
        """Nothing is held."""


class OwnProcess:
    """Works in a process of its own, which starts with the first order."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._decoder = msgspec.msgpack.Decoder(Proposal)

    async def ask(self, order: Order) -> Proposal | None:
        """Pass it on. Raises ``EngineError`` if the process cannot be started, or has ended."""
        if self._process is None:
            if order.report is None:
                return None
            self._process = await _started()
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None, "a process without pipes"
        assert answers is not None, "a process without pipes"
        try:
            if requests.is_closing():  # uvloop complains in its own way
                raise ConnectionError
            requests.write(pack(order))
            await requests.drain()
            if order.report is None:
                return None
            length = int.from_bytes(await answers.readexactly(LENGTH_BYTES), "big")
            return self._decoder.decode(await answers.readexactly(length))
        except (ConnectionError, asyncio.IncompleteReadError):
            raise EngineError("the tuner's process has ended") from None

    async def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.communicate()


async def _started() -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipesd.tuning_worker", stdin=PIPE, stdout=PIPE, start_new_session=True
        )
    except OSError as error:
        raise EngineError(f"the tuner's process cannot be started: {error.strerror or error}") from None


class Tuner(Generic[E]):
    """Obeys orders one after another."""

    def __init__(
        self, door: Door, inbox: Mailbox[E], event: Callable[[int, Proposal], E], *, limit: int
    ) -> None:
        """``event`` is what the side is told about a client's proposal."""
        self._door = door
        self._inbox = inbox
        self._event = event
        self._orders: Mailbox[Order] = Mailbox("tuner", limit)
        self._has_failed = False

    def tell(self, order: Order) -> None:
        """Answer this as soon as it is its turn."""
        if not self._has_failed:
            self._orders.tell(order)

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while not self._has_failed:
                await self._serve(await self._orders.next())
        finally:
            await self._door.close()

    async def _serve(self, order: Order) -> None:
        try:
            proposal = await self._door.ask(order)
        except EngineError as error:
            self._has_failed = True
            logger.warning("! thresholds are not tuned any more, and stay as they are: %s", error)
            return
        except Exception:  # what stands behind it may raise anything
            self._has_failed = True
            logger.exception("! thresholds are not tuned any more, on a fault of the tuner")
            return
        if proposal is not None:
            await self._inbox.report(self._event(order.client, proposal))
