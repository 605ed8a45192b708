"""Faults at work: by the loop's clock each strikes one of the links there are, which may come and go.

``link.memory_link`` exposes links in virtual time, and ``relay.relaying`` connections in wall time.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from pipesd.errors import UsageError
from pipesd.lab.faults import KINDS, FaultModel, LinkFault
from pipesd.lab.gate import Gate, Sink

Deed = Callable[[], None]


class Storm:
    """The faults of a model, from the first link on. It goes on over reconnects, whoever they connect.

    Each strikes a single link. A fault that changes or delays a message waits in its link for the next one.
    What finds no link, or finds another one waiting there, strikes nothing.
    """

    def __init__(self, model: FaultModel, deeds: Mapping[str, Deed] | None = None) -> None:
        """``deeds`` does the kinds of fault beyond those of links, such as the restart of a cloud.

        Raises ``UsageError`` if the model has a kind that is neither.
        """
        self._model = model
        self._deeds = dict(deeds or {})
        for kind in (*model.weights, *self._deeds):
            self._check(kind)
        self._coming = model.faults()
        self._asked = 0
        self._links: list[Exposed] = []
        self._began: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = False

        self.injected: Counter[str] = Counter()
        """How many of each kind have taken effect."""

        self.drawn = 0
        """How many have come in all, with those that wait for a message or have struck nothing."""

    def begin(self) -> None:
        """Let the clock of the faults start now; the first link does so too."""
        if self._began is None and not self._is_stopped:
            self._began = asyncio.get_running_loop().time()
            self._await_next()

    def stop(self) -> None:
        """Let no further fault come, and none that waits meet a message. A stall goes on until it is over.

        Until then virtual time never stands still, and who is stuck is not found out.
        """
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for link in self._links:
            link.disarm()

    def strike(self, kind: str) -> None:
        """Let one more fault strike now, beside those of the model, even after ``stop``.

        Raises ``UsageError`` if the kind is neither one of links nor a deed.
        """
        self._check(kind)
        self.begin()
        now = asyncio.get_running_loop().time()
        at_s = 0.0 if self._began is None else now - self._began
        self._strike(self._model.fault(kind, at_s, self._asked))
        self._asked += 1

    def expose(self, up: Sink, down: Sink, cut: Callable[[], None]) -> "Exposed":
        """Let faults strike a new link: what takes its messages, and what cuts it at both ends."""
        link = Exposed(up, down, cut, self.injected, self._links.remove)
        self._links.append(link)
        self.begin()
        return link

    def summary(self) -> str:
        """What was injected, for a person: ``3 faults injected (cut 2, stall 1), 1 of no effect``."""
        injected = self.injected.total()
        each = ", ".join(f"{kind} {number}" for kind, number in sorted(self.injected.items()))
        listed = f" ({each})" if each else ""
        return f"{injected} faults injected{listed}, {self.drawn - injected} of no effect"

    def _check(self, kind: str) -> None:
        if (kind in KINDS) == (kind in self._deeds):
            raise UsageError(
                f"{kind!r} must be a fault of links or a deed, and not both; choose another name"
            )

    def _await_next(self) -> None:
        assert self._began is not None
        fault = next(self._coming)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._began + fault.at_s, partial(self._come, fault))

    def _come(self, fault: LinkFault) -> None:
        self._await_next()
        self._strike(fault)

    def _strike(self, fault: LinkFault) -> None:
        self.drawn += 1
        if (deed := self._deeds.get(fault.kind)) is not None:
            self.injected[fault.kind] += 1
            deed()
        elif self._links:
            self._links[int(fault.pick * len(self._links))].strike(fault)


class Exposed:
    """A link in a storm. Its messages pass through ``up`` and ``down``."""

    def __init__(
        self,
        up: Sink,
        down: Sink,
        cut: Callable[[], None],
        injected: Counter[str],
        leave: Callable[["Exposed"], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._cut = cut
        self._injected = injected
        self._leave: Callable[[Exposed], None] | None = leave
        self._stalled_until = 0.0
        self.up, self.down = Gate(up, self._met), Gate(down, self._met)

    def strike(self, fault: LinkFault) -> None:
        """Take a fault; what needs a message waits for one."""
        gate = self.up if fault.direction == "up" else self.down
        if fault.kind == "cut":
            self._met(fault)
        elif fault.kind == "stall":
            self._stall(self._loop.time() + fault.lasts_s)
            self._met(fault)
        elif fault.kind == "half-close":
            if gate.end():
                self._met(fault)
        else:
            gate.arm(fault)

    def pass_cut(self, cut: Callable[[], None]) -> None:
        """One end went away, and only this still passes, when no stall is on: ``cut`` tells the other end."""
        self.close()
        if self._loop.time() < self._stalled_until:
            self._loop.call_at(self._stalled_until, cut)
        else:
            cut()

    def disarm(self) -> None:
        """Let no fault wait for a message."""
        self.up.disarm()
        self.down.disarm()

    def close(self) -> None:
        """Let nothing pass any more, and let no fault strike."""
        self.up.close()
        self.down.close()
        if self._leave is not None:
            self._leave(self)
            self._leave = None

    def _stall(self, until: float) -> None:
        self._stalled_until = max(self._stalled_until, until)
        self.up.shut(until)
        self.down.shut(until)

    def _met(self, fault: LinkFault) -> None:
        self._injected[fault.kind] += 1
        if fault.kind in ("cut", "reset"):
            self.close()
            self._cut()
