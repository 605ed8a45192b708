"""The target model at work: one pass after another, over whatever the cloud's side put into it."""

import logging
from collections.abc import Sequence

from pipesd.actors.compute import Compute
from pipesd.actors.mailbox import Mailbox
from pipesd.engines.base import TargetEngine
from pipesd.engines.energy import Meter
from pipesd.errors import EngineError, EngineLostError
from pipesd.redact import log_fault, log_text
from pipesd.session.commands import ReleaseSequence, RunPass
from pipesd.session.events import CloudEvent, PassDone, PassFailed
from pipesd.values import Slice

logger = logging.getLogger("pipesd.cloud")


class Verifier:
    """Obeys ``RunPass`` and ``ReleaseSequence``."""

    def __init__(
        self,
        engine: TargetEngine,
        compute: Compute,
        inbox: Mailbox[CloudEvent],
        *,
        limit: int,
        meter: Meter | None = None,
    ) -> None:
        """``meter`` measures what passes take, in the thread in which they run."""
        self._engine = engine
        self._compute = compute
        self._inbox = inbox
        self._meter = meter
        self._orders: Mailbox[RunPass | ReleaseSequence] = Mailbox("verifier", limit)

    def tell(self, order: RunPass | ReleaseSequence) -> None:
        """Do this next."""
        self._orders.tell(order)

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            order = await self._orders.next()
            if isinstance(order, RunPass):
                await self._inbox.report(await self._pass(order))
            else:
                await self._release(order)

    async def _pass(self, order: RunPass) -> CloudEvent:
        try:
            picks, energy_j = await self._compute.run(lambda: self._forward(order.slices), order.tokens)
        except EngineError as error:
            return PassFailed(str(error), lost=isinstance(error, EngineLostError))
        except Exception:  # what stands behind an engine may raise anything
            log_fault(logger, "! the target model failed on a fault of its engine")
            return PassFailed("its engine broke down; the cloud's log says more")
        self._log_texts(order.slices, picks)
        return PassDone(tuple(picks), energy_j)

    def _log_texts(self, slices: Sequence[Slice], picks: Sequence[tuple[int, ...]]) -> None:
        pieces = self._engine.tokenizer.vocabulary.pieces
        for part, picked in zip(slices, picks, strict=False):
            log_text(f"read into sequence {part.sequence}", part.tokens, pieces)
            log_text(f"picked in sequence {part.sequence}", picked, pieces)

    def _forward(self, slices: Sequence[Slice]) -> tuple[list[tuple[int, ...]], float | None]:
        if self._meter is None:
            return self._engine.forward(slices), None
        return self._meter.around(lambda: self._engine.forward(slices))

    async def _release(self, order: ReleaseSequence) -> None:
        try:
            await self._compute.run(lambda: self._engine.release(order.sequence), 0)
        except Exception:
            log_fault(logger, f"! the target's engine could not release sequence {order.sequence}")
