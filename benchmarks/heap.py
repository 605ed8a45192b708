"""What simulating costs: CPU time of the pure sessions under a heap of events, against that of the actors.

Both play the shipped code and chat prompts at s1 in virtual time, in one process and by turns, and must give
the same figures. Prints the least of several runs, as other work on the machine only ever adds to one, and
ratios, which say more than the times of one machine. Run it as ``python benchmarks/heap.py``; nothing else
should run meanwhile.
"""

import argparse
from collections.abc import Callable
from statistics import median
from time import process_time

from pipesd.engines.traces import Trace, load
from pipesd.lab.metrics import Figures
from pipesd.lab.run import Experiment, run, simulate
from pipesd.lab.scenarios import SCENARIOS

POLICIES = ("pipesd", "vanilla", "hsl", "edgellm", "cloud-only")
RUNS = 7


def measured(work: Callable[[Experiment], Figures], experiment: Experiment) -> tuple[float, Figures]:
    """CPU seconds of one go, and what came of it."""
    begun_s = process_time()
    figures = work(experiment)
    return process_time() - begun_s, figures


def report(policy: str, trace: Trace, runs: int) -> float:
    """Measure and print; how many times as fast the heap is."""
    experiment = Experiment(trace=trace, scenario=SCENARIOS["s1"], policy=policy)
    actors_s, heap_s = list[float](), list[float]()
    for _ in range(runs):
        cost_s, figures = measured(run, experiment)
        actors_s.append(cost_s)
        cost_s, same = measured(simulate, experiment)
        heap_s.append(cost_s)
        assert same == figures, f"the heap and the actors differ for {policy}"
    slow_s, quick_s = min(actors_s), min(heap_s)
    print(
        f"{policy:10}  actors {slow_s:.3f} s CPU, {figures.tokens / slow_s:,.0f} tokens per s;"
        f"  heap {quick_s:.3f} s CPU, {figures.tokens / quick_s:,.0f} tokens per s;"
        f"  {slow_s / quick_s:.1f} times as fast"
    )
    return slow_s / quick_s


def main() -> None:
    """Measure every policy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    trace = load([])
    tokens = sum(len(prompt.target) for prompt in trace.prompts)
    print(f"{len(trace.prompts)} prompts, {tokens:,} tokens, least of {runs}")
    ratios = [report(policy, trace, runs) for policy in POLICIES]
    print(f"{'median':10}  {median(ratios):.1f} times as fast")


if __name__ == "__main__":
    main()
