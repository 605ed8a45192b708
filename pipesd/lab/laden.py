"""A link whose messages count as more bytes than they have, for wall time.

What does not exist cannot fill the buffers of a socket, and a relay behind them cannot make its sender wait.
So the sender's own end waits for as long as a message would occupy the link, and then hands it on.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace

from pipesd.actors.link import CLOSED_HERE, Link
from pipesd.lab.emulator import LinkEmulator, LinkModel


class LadenLink:
    """The edge's end of another link."""

    def __init__(self, link: Link, model: LinkModel, charge: Callable[[bytes], int], seed: int = 0) -> None:
        """``charge`` says how many bytes a message counts as; of ``model`` only the occupancy matters."""
        self._link = link
        self._emulator = LinkEmulator(model, seed)
        self._charge = charge
        self._now = asyncio.get_running_loop().time
        self._began = self._now()

    @property
    def address(self) -> str:
        """As the link's."""
        return self._link.address

    async def send(self, data: bytes) -> None:
        """Wait until ``data`` would have left, and hand it on."""
        free_at, _ = self._emulator.send(self._now() - self._began, self._charge(data))
        await asyncio.sleep(max(0.0, self._began + free_at - self._now()))
        await self._link.send(data)

    async def receive(self) -> bytes:
        """As the link does."""
        return await self._link.receive()

    async def end(self) -> None:
        """As the link does."""
        await self._link.end()

    def abort(self, reason: str = CLOSED_HERE) -> None:
        """As the link does."""
        self._link.abort(reason)


def unladen(model: LinkModel) -> LinkModel:
    """What is left of a model for the relay behind a laden link: everything but its occupancy."""
    phases = tuple(replace(phase, message_s=0.0, bytes_per_s=math.inf) for phase in model.phases)
    return replace(
        model,
        message_s=0.0,
        bytes_per_s=math.inf,
        phases=phases,
        outages=(),
        rates=(),
        changes_every_s=0.0,
        drawn_bytes_per_s=None,
    )
