"""What it costs per pass that the target's engine works in a process of its own.

The same scripted target in this process and in another takes the same pass by turns: 32 slices of 8 tokens,
a pick for each. Run it as ``python benchmarks/engine_process.py``; nothing else should run meanwhile.
"""

import os
import statistics
import sys
import time
from contextlib import closing

import psutil

from pipesd.config import CloudConfig
from pipesd.engines.base import TargetEngine
from pipesd.engines.choose import open_target
from pipesd.engines.process import ProcessTarget
from pipesd.values import Sampling, Slice

SLICES = 32
TOKENS = 8
PASSES = 1_000
LIMIT_MS = 0.3

SCRIPTED = CloudConfig(engine="scripted")
PASS = [Slice(number, 0, tuple(range(TOKENS)), TOKENS, False, Sampling(), 0) for number in range(SLICES)]


def pass_ms(engine: TargetEngine) -> float:
    started = time.perf_counter()
    engine.forward(PASS)
    return 1e3 * (time.perf_counter() - started)


def main() -> None:
    """Measure, print, and fail if the limit does not hold."""
    here = open_target(SCRIPTED)
    with closing(ProcessTarget(SCRIPTED)) as apart:
        begun = time.perf_counter()
        apart.start()
        start_ms = 1e3 * (time.perf_counter() - begun)
        assert apart.forward(PASS) == here.forward(PASS), "another text"
        costs = [(pass_ms(here), pass_ms(apart)) for _ in range(PASSES)]
        (worker,) = psutil.Process(os.getpid()).children()
        resident_mib = worker.memory_info().rss / 2**20
    deciles_ms = [statistics.quantiles(times, n=10) for times in zip(*costs, strict=True)]
    print(f"{PASSES} passes of {SLICES} slices of {TOKENS} tokens, median (fastest tenth below)")
    for name, times in zip(("in this process", "in one of its own"), deciles_ms, strict=True):
        print(f"{name:18} {times[4]:.3f} ms ({times[0]:.3f} ms)")
    (fast_here, here_ms), (fast_apart, apart_ms) = ((times[0], times[4]) for times in deciles_ms)
    print(
        f"{'more by':18} {apart_ms - here_ms:.3f} ms ({fast_apart - fast_here:.3f} ms), limit {LIMIT_MS:g} ms"
    )
    print(f"its start takes {start_ms:.0f} ms, and it holds {resident_mib:.0f} MiB without a model")
    sys.exit(0 if apart_ms - here_ms <= LIMIT_MS else 1)


if __name__ == "__main__":
    main()
