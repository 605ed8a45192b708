"""The one door to zeus: counters of energy of the GPUs, processors and systems on chip of this machine.

Of zeus only the counters are used. Its ``ZeusMonitor`` would wait for the GPU through torch before and after
each window, and load pandas and scikit-learn; the counters need neither.
"""

import contextlib
import logging
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess

from zeus.device import get_cpus, get_gpus, get_soc
from zeus.device.cpu.common import CPU

from pipesd.errors import EngineError, one_line

HELPER_STOP_S = 1.0

_WHOLE = ("total_energy_mj",)
_PARTS = ("cpu_energy_mj", "gpu_energy_mj", "cpu_total_mj", "gpu_mj", "gpu_sram_mj", "dram_mj", "ane_mj")
"""What systems on chip tell of: Jetsons of all, or of some parts; Apple's of parts."""


@dataclass(slots=True, eq=False)
class Counters:
    """Some counters as one."""

    names: list[str] = field(default_factory=list)
    """What they count, for people."""

    reads: list[Callable[[], float]] = field(default_factory=list)

    def read_j(self) -> float:
        """Joules since some moment. Raises what zeus raises."""
        return sum(read() for read in self.reads) / 1e3

    def close(self) -> None:
        """Read no more. The helpers of zeus end with the last counters of this process.

        zeus leaves that to the interpreter's exit; a command that leaves without one would leave them behind.
        """
        _open.remove(self)
        while _helpers and not _open:
            helper = _helpers.pop()
            helper.terminate()
            helper.join(HELPER_STOP_S)


_open: list[Counters] = []
_helpers: list[BaseProcess] = []
"""Processes that zeus has started, of which it has one set in a process: they watch for counters that begin
anew, or add up power where nothing counts.
"""


def open_counters() -> Counters:
    """All counters of this machine. Raises ``EngineError`` that says why if there are none.

    zeus may start processes for it, which load the program's main module anew, as ``multiprocessing`` does.
    """
    counters, reasons = Counters(), list[str]()
    others = set(multiprocessing.active_children())
    with _quiet():
        for find in (_gpus, _cpus, _soc):
            try:
                found = find()
                for _, read in found:
                    read()
            except Exception as error:  # a driver may fail in any way, and must not keep a cloud from serving
                reasons.append(one_line(str(error)).partition(". ")[0].rstrip("."))
            else:
                counters.reads += [read for _, read in found]
                counters.names += _told([name for name, _ in found])
    _open.append(counters)
    _helpers.extend(child for child in multiprocessing.active_children() if child not in others)
    if not counters.reads:
        counters.close()
        raise EngineError(f"zeus finds no counter here ({'; '.join(reasons) or 'it names no reason'})")
    return counters


_Named = list[tuple[str, Callable[[], float]]]
"""Counters of millijoules."""


def _gpus() -> _Named:
    """Those that count; for others zeus would have to ask for their power again and again."""
    gpus = get_gpus()
    return [
        (f"GPU {gpu.get_name()}", gpu.get_total_energy_consumption)
        for gpu in gpus.gpus
        if gpu.supports_get_total_energy_consumption()
    ]


def _cpus() -> _Named:
    """The packages, with their memory where that is counted apart; not a platform that contains them."""

    def reading(cpu: CPU) -> Callable[[], float]:
        def read() -> float:
            now = cpu.get_total_energy_consumption()
            return float(now.cpu_mj + (now.dram_mj or 0.0))

        return read

    return [
        (f"CPU package{' with memory' * cpu.supports_get_dram_energy_consumption()}", reading(cpu))
        for cpu in get_cpus().cpus
        if getattr(getattr(cpu, "rapl_file", None), "name", "") != "psys"
    ]


def _soc() -> _Named:
    soc = get_soc()

    def read() -> float:
        now = soc.get_total_energy_consumption()
        whole = _sum_of(now, _WHOLE)
        return whole if whole is not None else _sum_of(now, _PARTS) or 0.0

    return [(type(soc).__name__, read)]


def _sum_of(measurement: object, names: tuple[str, ...]) -> float | None:
    known = [value for name in names if (value := getattr(measurement, name, None)) is not None]
    return float(sum(known)) if known else None


def _told(names: list[str]) -> list[str]:
    return [name if count == 1 else f"{count} x {name}" for name, count in Counter(names).items()]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let zeus say nothing while it looks for what may not be there; what matters is in the exceptions."""
    logger = logging.getLogger("zeus")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
