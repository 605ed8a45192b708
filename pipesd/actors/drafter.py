"""The draft model at work: one step at a time, and each can be stopped half-way."""

import logging
import math

from pipesd.actors.compute import Compute
from pipesd.actors.mailbox import Mailbox
from pipesd.engines.base import DraftEngine
from pipesd.errors import EngineError, InterruptedStepError
from pipesd.redact import log_fault
from pipesd.session.commands import AbortStep, DraftNext, ReleaseDraft
from pipesd.session.events import DraftFailed, EdgeEvent, StepAborted, TokenDrafted
from pipesd.values import Proposal

logger = logging.getLogger("pipesd.edge")


class Drafter:
    """Obeys ``DraftNext``, ``AbortStep`` and ``ReleaseDraft``."""

    def __init__(
        self, engine: DraftEngine, compute: Compute, inbox: Mailbox[EdgeEvent], *, limit: int
    ) -> None:
        self._engine = engine
        self._compute = compute
        self._inbox = inbox
        self._orders: Mailbox[DraftNext | ReleaseDraft] = Mailbox("drafter", limit)
        self._running: int | None = None
        self._aborted: int | None = None

    def tell(self, order: DraftNext | ReleaseDraft) -> None:
        """Do this next."""
        self._orders.tell(order)

    def abort(self, order: AbortStep) -> None:
        """Stop the step if it still runs; do not start it if it does not yet."""
        self._aborted = order.step
        if self._running == order.step:
            self._compute.interrupt()

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            order = await self._orders.next()
            if isinstance(order, DraftNext):
                await self._inbox.report(await self._step(order))
            else:
                await self._release(order)

    async def _step(self, order: DraftNext) -> EdgeEvent:
        if self._aborted == order.step:
            return StepAborted(order.step)
        self._running = order.step
        try:
            guess = await self._compute.run(lambda: self._guess(order), 1)
        except InterruptedStepError:
            return StepAborted(order.step)
        except EngineError as error:
            logger.warning("! the draft model failed, and the target goes on alone: %s", error)
            return DraftFailed(order.step, str(error))
        except Exception:  # what stands behind an engine may raise anything
            log_fault(logger, "! the draft model failed on a fault of its engine")
            return DraftFailed(order.step, "its engine broke down; the log says more")
        finally:
            self._running = None
        return TokenDrafted(order.step, guess.token, guess.confidence)

    async def _release(self, order: ReleaseDraft) -> None:
        try:
            await self._compute.run(lambda: self._engine.release(order.session), 0)
        except Exception:
            log_fault(logger, f"! the draft's engine could not release session {order.session}")

    def _guess(self, order: DraftNext) -> Proposal:
        self._engine.truncate(order.session, order.keep)
        for stretch in order.feed:
            self._engine.extend(order.session, stretch.tokens, prompt=stretch.prompt)
        guess = self._engine.propose(order.session, order.sampling, order.seed)
        if math.isnan(guess.confidence):
            raise EngineError("its probabilities are no numbers (NaN); try other weights or another engine")
        return guess
