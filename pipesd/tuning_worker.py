"""The process in which thresholds are tuned: orders in, proposals out, over its standard streams.

It is a process of its own because a proposal takes tens of milliseconds, and the library behind it seconds to
load, in which no event loop may stand still. Run it as ``python -m pipesd.tuning_worker``; it ends with its
input.
"""

import logging
import os
import sys
from contextlib import suppress
from typing import BinaryIO

import msgspec

from pipesd.planner.trigger import Thresholds
from pipesd.tuner.base import Space
from pipesd.tuner.choose import make_tuner
from pipesd.tuning import Desk, Proposal
from pipesd.values import Objective, TrialReport

logger = logging.getLogger("pipesd.tuner")

LENGTH_BYTES = 4


class Order(msgspec.Struct, frozen=True, array_like=True):
    """A client's trial; without one, the client has gone and there is no answer."""

    client: int
    objective: Objective
    report: TrialReport | None


class Desks:
    """One desk for each client."""

    def __init__(self) -> None:
        self._desks: dict[int, Desk] = {}
        self._failing: set[int] = set()
        """Clients of which it has been said that they keep what they have."""

    def obey(self, order: Order) -> Proposal | None:
        """What is to be tried next; None if nobody waits for it.

        A client whose report the tuner fails at keeps what it has; the others do not notice.
        """
        if order.report is None:
            self._desks.pop(order.client, None)
            self._failing.discard(order.client)
            return None
        desk = self._desks.get(order.client)
        if desk is None:
            space = Space()
            tuner = make_tuner("model-guided", space, seed=0)
            desk = self._desks[order.client] = Desk(tuner, space, order.objective, Thresholds())
        try:
            return desk.advise(order.report)
        except Exception:  # a report may be anything, and so may what it brings about
            if order.client not in self._failing:
                self._failing.add(order.client)
                logger.exception("! one edge keeps its thresholds, on a fault of the tuner")
            return desk.keep()


def pack(message: Order | Proposal) -> bytes:
    """A message for the other side of the pipe."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def _serve(orders: BinaryIO, answers: BinaryIO) -> None:
    desks, decoder = Desks(), msgspec.msgpack.Decoder(Order)
    while len(length := orders.read(LENGTH_BYTES)) == LENGTH_BYTES:
        answer = desks.obey(decoder.decode(orders.read(int.from_bytes(length, "big"))))
        if answer is not None:
            answers.write(pack(answer))


def main() -> None:
    """Serve until the input ends. What a library prints goes to the log of whoever started this."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with suppress(BrokenPipeError):  # whoever asked has gone
        _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
