"""The one hook for logs, counters and recordings: an observer sees each event and what was decided.

Observers decide nothing and may not raise. What they show holds no token, no text and no prompt.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol

from pipesd.errors import one_line

_SHOWN = ("peer", "session", "epoch", "base", "ask", "accepted", "finish", "step", "keep", "code", "reason")
"""Fields a log line may show; all others are left out or counted."""

_COUNTED = ("tokens", "feed", "slices", "picks")
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
        for mark, thing in (("<", event), *((">", command) for command in commands)):
            shown = getattr(thing, "frame", thing)
            name = type(shown).__name__
            sign = "!" if name.startswith(_FAULTS) else mark
            self._logger.debug("%.6f %s %s%s", now, sign, name, _details(thing))


def _name(mark: str, thing: object) -> str:
    frame = getattr(thing, "frame", None)
    return type(thing).__name__ if frame is None else f"{mark}{type(frame).__name__}"


def _details(thing: object) -> str:
    names = [part.name for part in fields(thing)] if is_dataclass(thing) else []
    frame = getattr(thing, "frame", None)
    names_of_frame = getattr(type(frame), "__struct_fields__", ())
    shown = [_detail(thing, name) for name in names] + [_detail(frame, name) for name in names_of_frame]
    return "".join(shown)


def _detail(thing: object, name: str) -> str:
    value = getattr(thing, name)
    if name in _SHOWN:
        return f" {name}={one_line(str(value))}"
    return f" {name}×{len(value)}" if name in _COUNTED and isinstance(value, tuple) else ""  # noqa: RUF001
