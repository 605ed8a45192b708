"""Where figures of energy come from: counters of this machine, a declared power, or nowhere.

Counters belong to whole devices: whatever else runs on them while the target works is in the figure. A pass
has ended when its picks are here, so no device needs to be waited for around it.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pipesd.config import CloudConfig
from pipesd.errors import ConfigError, EngineError, one_line
from pipesd.power import modelled_line

T = TypeVar("T")

logger = logging.getLogger("pipesd.cloud")


class Meter:
    """Reads a count of joules before and after each pass. One pass at a time.

    Counters move in steps, of about a millisecond (RAPL) to a tenth of a second (NVML). A pass is given the
    steps that fall into it, and the time between passes all others, so that their sum is what the counters
    say. A pass of many steps is right, and so is the mean over short passes that follow each other. A single
    short pass may show nothing or a whole step, and before a pause its last step may be lost to the pause.
    """

    def __init__(self, read_j: Callable[[], float], close: Callable[[], None]) -> None:
        """``read_j`` is a count that never falls, ``close`` gives back what it needs; from any thread."""
        self.close = close
        self._read_j = read_j
        self._lock = threading.Lock()
        self._last_j: float | None = read_j()
        self._idle_j = 0.0
        self._is_busy = False
        self._has_failed = False

    def around(self, work: Callable[[], T]) -> tuple[T, float | None]:
        """What ``work`` gives, and the joules it took; None if a counter could not be read.

        Whatever it raises is raised here, and what it took until then counts as idle.
        """
        with self._lock:
            self._idle_j += self._advance_j() or 0.0
            self._is_busy = True
        try:
            result = work()
        except BaseException:
            self._is_busy = False
            raise
        with self._lock:
            self._is_busy = False
            return result, self._advance_j()

    def idle_j(self) -> float:
        """Joules outside of passes until now, or until the pass that runs began. Callable from any thread."""
        with self._lock:
            if not self._is_busy:
                self._idle_j += self._advance_j() or 0.0
            return self._idle_j

    def _advance_j(self) -> float | None:
        """Joules since the last time; what a counter that was reset meanwhile counted is not known."""
        last, self._last_j = self._last_j, self._now_j()
        return None if last is None or self._last_j is None else max(0.0, self._last_j - last)

    def _now_j(self) -> float | None:
        try:
            return self._read_j()
        except Exception as error:  # what stands behind a counter may raise anything
            level = logging.DEBUG if self._has_failed else logging.WARNING
            logger.log(level, "! energy could not be read: %s", one_line(str(error)))
            self._has_failed = True
            return None


@dataclass(frozen=True, slots=True)
class Energy:
    """What a cloud knows of the energy that its passes take."""

    source: str = ""
    """What edges are told about it: what is measured, or ``modelled: …``; empty if nothing is known."""

    meter: Meter | None = None
    busy_watts: float | None = None
    """Declared; None if passes are measured."""

    idle_watts: float | None = None

    def close(self) -> None:
        """Measure no more."""
        if self.meter is not None:
            self.meter.close()


def declared(config: CloudConfig) -> Energy:
    """What the settings alone say; empty if they do not declare a power, or want only measurements."""
    busy, idle = config.power_busy_watts, config.power_idle_watts
    if busy is None or config.energy in {"measured", "off"}:
        return Energy()
    return Energy(modelled_line(busy, idle), None, busy, idle)


def open_energy(config: CloudConfig) -> Energy:
    """What the settings want and this machine has. Blocks while it looks; to be closed.

    Raises ``ConfigError`` if measurements are wanted and there is nothing to measure with.
    """
    if config.energy in {"modelled", "off"}:
        return declared(config)
    try:
        return _measured(config)
    except EngineError as error:
        if config.energy == "measured":
            raise ConfigError(
                f"energy: nothing can be measured, for {error}; "
                "declare power_busy_watts and choose modelled, or leave it at auto"
            ) from None
        logger.info("energy is not measured, for %s", error)
        return declared(config)


def _measured(config: CloudConfig) -> Energy:
    if config.engine in {"scripted", "replay"}:
        raise EngineError(f"no model works in the {config.engine} engine")
    try:
        from pipesd.engines.counters import open_counters  # noqa: PLC0415 - an extra, and slow to load
    except ImportError as error:
        raise EngineError(
            f"zeus is not installed ({one_line(str(error))}; run pip install 'pipesd[energy]')"
        ) from None
    counters = open_counters()
    return Energy(f"zeus: {', '.join(counters.names)}", Meter(counters.read_j, counters.close))
