"""Independent plays in several processes: the results in order, whichever process played what."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")

_AT_ONCE = 8
"""Jobs that are handed to a process together, at most; fewer if there are few, so that all are busy."""


class Processes:
    """Where jobs are done; with only one process, in this one."""

    def __init__(
        self, number: int, pool: ProcessPoolExecutor | None, on_progress: Callable[[], None]
    ) -> None:
        self._number = number
        self._pool = pool
        self._on_progress = on_progress

    def do(self, jobs: Sequence[Callable[[], Result]]) -> list[Result]:
        """Call them all."""
        results = []
        for result in self._results(jobs):
            results.append(result)
            self._on_progress()
        return results

    def _results(self, jobs: Sequence[Callable[[], Result]]) -> Iterator[Result]:
        if self._pool is None:
            return map(_call, jobs)
        at_once = max(1, min(_AT_ONCE, len(jobs) // (2 * self._number)))
        return self._pool.map(_call, jobs, chunksize=at_once)


@contextmanager
def working(number: int, on_progress: Callable[[], None] = lambda: None) -> Iterator[Processes]:
    """So many processes while the context lasts; ``on_progress`` is called after each job."""
    if number == 1:
        yield Processes(1, None, on_progress)
        return
    pool = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), initializer=_leave_signals)
    try:
        yield Processes(number, pool, on_progress)
    finally:
        pool.shutdown(cancel_futures=True)


def _call(job: Callable[[], Result]) -> Result:
    return job()


def _leave_signals() -> None:
    """Ctrl-C is for the process that the user started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
