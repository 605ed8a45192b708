"""Who has been silent for how long. Every operation takes constant time, however many peers there are."""

import math
from collections import OrderedDict
from collections.abc import Mapping

from pipesd.session.rules import Patience


class Watch:
    """Names the peers to ping and the peers to give up."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._heard: OrderedDict[int, float] = OrderedDict()
        self._pinged: OrderedDict[int, float] = OrderedDict()

    def heard(self, peer: int, now: float) -> None:
        """Note a sign of life; watches the peer from now on."""
        self._pinged.pop(peer, None)
        self._heard[peer] = now
        self._heard.move_to_end(peer)

    def forget(self, peer: int) -> None:
        """Watch the peer no longer."""
        self._heard.pop(peer, None)
        self._pinged.pop(peer, None)

    def deadline(self) -> float:
        """When ``due`` has something to say at the earliest; infinite if never."""
        ping_at = _oldest(self._heard) + self._patience.ping_after_s
        lost_at = _oldest(self._pinged) + self._patience.silent_after_s
        return min(ping_at, lost_at)

    def due(self, now: float) -> tuple[list[int], list[int]]:
        """(peers to ping now, peers to give up now); both are noted as done."""
        pings = _take_due(self._heard, self._patience.ping_after_s, now)
        self._pinged.update(pings)
        lost = _take_due(self._pinged, self._patience.silent_after_s, now)
        return list(pings), list(lost)


def _oldest(times: Mapping[int, float]) -> float:
    return next(iter(times.values()), math.inf)


def _take_due(times: OrderedDict[int, float], after_s: float, now: float) -> dict[int, float]:
    taken = {}
    while times and _oldest(times) + after_s <= now:  # the very sum that was the deadline
        peer, heard = times.popitem(last=False)
        taken[peer] = heard
    return taken
