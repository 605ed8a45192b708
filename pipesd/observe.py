"""The one hook for logs, counters and recordings: an observer sees each event and what was decided.

Observers decide nothing and may not raise. What they show holds what ``redact`` lets them.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipesd.redact import CONTENT, details

_FAULTS = ("Fail", "Fault", "Reject", "Refuse", "BytesRejected", "DraftFailed", "PassFailed", "PeerRejected")


class Observer(Protocol):
    """Sees every step of a funnel."""

    def observe(self, now: float, event: object, commands: Sequence[object]) -> None:
        """At ``now`` (seconds of the loop's clock) ``event`` led to ``commands``."""


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of a funnel."""

    now: float
    event: object
    commands: tuple[object, ...]


@dataclass
class Recorder:
    """Keeps every step in memory, for replay against a fresh side (``replay``).

    A recording holds the tokens themselves: treat it like the text.
    """

    steps: list[Step] = field(default_factory=list)

    def observe(self, now: float, event: object, commands: Sequence[object]) -> None:
        """Keep it."""
        self.steps.append(Step(now, event, tuple(commands)))


def replay(handle: Callable[[Any, float], Sequence[object]], steps: Iterable[Step]) -> int | None:
    """Feed a recording to a fresh side; the number of the first step it decides differently, if any."""
    for number, step in enumerate(steps):
        if tuple(handle(step.event, step.now)) != step.commands:
            return number
    return None


@dataclass
class StatsObserver:
    """Counts events and commands by name; frames by theirs, with a ``<`` or ``>`` before."""

    counts: Counter[str] = field(default_factory=Counter)

    def observe(self, now: float, event: object, commands: Sequence[object]) -> None:
        """Count it."""
        self.counts[_name("<", event)] += 1
        for command in commands:
            self.counts[_name(">", command)] += 1


class LogObserver:
    """Debug lines: ``<`` what happened, ``>`` what is to be done, ``!`` what went wrong."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def observe(self, now: float, event: object, commands: Sequence[object]) -> None:
        """Write one line each, if anybody listens."""
        if not self._logger.isEnabledFor(logging.DEBUG):
            return
        content = CONTENT.isEnabledFor(logging.DEBUG)
        for mark, thing in (("<", event), *((">", command) for command in commands)):
            frame = getattr(thing, "frame", None)
            name = type(thing if frame is None else frame).__name__
            sign = "!" if name.startswith(_FAULTS) else mark
            about = details(thing, content=content) + details(frame, content=content)
            self._logger.debug("%.6f %s %s%s", now, sign, name, about)


def _name(mark: str, thing: object) -> str:
    frame = getattr(thing, "frame", None)
    return type(thing).__name__ if frame is None else f"{mark}{type(frame).__name__}"
