"""How far virtual time is from wall time: ms per token of the same prompts, by both clocks.

By the wall clock the bytes cross real sockets and a relay that holds them up as the scenario says. Prints
medians of several runs, and by how much they differ: that is what the machine adds.
Run it as ``python benchmarks/wall.py``, which takes two minutes; nothing else should run meanwhile.
"""

import argparse
from dataclasses import replace
from statistics import median

from pipesd.engines.traces import Trace, load
from pipesd.lab.run import Experiment, chosen, run
from pipesd.lab.scenarios import SCENARIOS

PROMPTS = ("HumanEval/7", "HumanEval/12", "chat/6", "chat/9")
PLACES = ("s1", "far")
POLICIES = ("pipesd", "hsl")
RUNS = 3


def report(trace: Trace, where: str, policy: str, runs: int) -> float:
    """Measure and print; by how many percent wall time is longer."""
    experiment = Experiment(trace=trace, scenario=SCENARIOS[where], policy=policy)
    virtual = run(experiment)
    real = [run(replace(experiment, clock="wall")) for _ in range(runs)]
    assert {figures.text_sha256 for figures in real} == {virtual.text_sha256}, "another text"
    wall_ms = median(figures.tpt_ms for figures in real)
    percent = 100 * (wall_ms / virtual.tpt_ms - 1)
    spread_ms = max(figures.tpt_ms for figures in real) - min(figures.tpt_ms for figures in real)
    print(
        f"{where:4} {policy:7}  virtual {virtual.tpt_ms:.2f} ms per token,"
        f" wall {wall_ms:.2f} (spread {spread_ms:.2f}): {percent:+.2f} %"
    )
    return percent


def main() -> None:
    """Measure every place with every policy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    trace = chosen(load([]), PROMPTS)
    tokens = sum(len(prompt.target) for prompt in trace.prompts)
    print(f"{len(trace.prompts)} prompts, {tokens} tokens, median of {runs}")
    worst = max(abs(report(trace, where, policy, runs)) for where in PLACES for policy in POLICIES)
    print(f"at most {worst:.2f} % apart")


if __name__ == "__main__":
    main()
