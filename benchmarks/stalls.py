"""How long an event loop stands still while thresholds are tuned: in a process beside it, and not at all.

An edge and a cloud replay recorded prompts in one loop, at a modelled pace. A task that wakes every
millisecond notes how much CPU time the loop's thread has used since: for so long nothing else could run.
(Lateness by the clock would tell of other processes too.) Both ways alternate; what differs is the tuner's
doing.
Run it as ``python benchmarks/stalls.py``; nothing else should run meanwhile.
"""

import argparse
import asyncio
import os
from statistics import median
from tempfile import TemporaryDirectory
from time import thread_time

from pipesd.cloud import serve
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import connect
from pipesd.engines.traces import Trace, load
from pipesd.values import TunerPlace

PROMPTS = 12
RUNS = 3
TICK_S = 0.001
LIMIT_MS = 5.0
CLOUD = CloudConfig(engine="replay", listen="127.0.0.1:0", pass_ms=15.0, pass_token_ms=0.5, tuner="off")


async def stretches(held_ms: list[float]) -> None:
    """Note how long the loop was at work between two ticks."""
    while True:
        begun = thread_time()
        await asyncio.sleep(TICK_S)
        held_ms.append(1e3 * (thread_time() - begun))


async def played(trace: Trace, tuner: TunerPlace) -> tuple[list[float], int]:
    """All stretches, and how many trials were made."""
    held_ms = list[float]()
    async with serve(CLOUD) as cloud:
        host, port = cloud.address
        config = EdgeConfig(engine="replay", cloud=f"{host}:{port}", draft_ms=10.0, tuner=tuner)
        async with connect(config) as edge:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(stretches(held_ms))
                for prompt in trace.prompts[:PROMPTS]:
                    async for _ in edge.generate(prompt.prompt_tokens, tokens_max=len(prompt.target)):
                        pass
                watch.cancel()
            return held_ms, edge.tuned.trial or 0


def main() -> None:
    """Measure both ways by turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=RUNS)
    runs, trace = parser.parse_args().runs, load(["humaneval"])
    worst: dict[TunerPlace, list[float]] = {"off": [], "edge": []}
    with TemporaryDirectory() as home:
        os.environ["XDG_STATE_HOME"] = home
        for _ in range(runs):
            for tuner, found in worst.items():
                held_ms, trials = asyncio.run(played(trace, tuner))
                held_ms.sort()
                found.append(held_ms[-1])
                rare_ms = held_ms[int(0.999 * len(held_ms))]
                print(
                    f"tuner {tuner:4}  {trials:3} trials, {len(held_ms):,} ticks: held for"
                    f" {median(held_ms):.2f} ms (median), {rare_ms:.2f} (99.9 %), {held_ms[-1]:.2f} (worst)"
                )
    print(f"worst, median of {runs}: {median(worst['off']):.2f} ms without, {median(worst['edge']):.2f} with")
    print(f"the limit of what tuning adds is {LIMIT_MS:g} ms")


if __name__ == "__main__":
    main()
