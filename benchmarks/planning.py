"""What planning batches costs: one plan, against the recurrence as written; a schedule, per draft step.

Prints medians of several runs, and ratios, which say more than the times of one machine.
Run it as ``python benchmarks/planning.py``; nothing else should run meanwhile.
"""

import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter

from pipesd.launch import INTERRUPTED
from pipesd.planner.batches import LinkCosts, Schedule, finish_s, plan, work_conserving

TOKENS = 64
RUNS = 9
LIMIT_MS = 1.0

LINKS = {
    "slow tokens": LinkCosts(draft_s=0.036, batch_s=0.025, token_s=0.116),
    "slow batches": LinkCosts(draft_s=0.044, batch_s=0.100, token_s=0.000005),
    "fast drafts": LinkCosts(draft_s=0.002, batch_s=0.010, token_s=0.0005),
    "fast link": LinkCosts(draft_s=0.044, batch_s=0.0002, token_s=0.000005),
}


def seconds(work: Callable[[], object], times: int) -> float:
    """One go of ``work``: the median of several runs of many goes."""
    runs = []
    for _ in range(RUNS):
        begun = perf_counter()
        for _ in range(times):
            work()
        runs.append((perf_counter() - begun) / times)
    return median(runs)


def quadratic(tokens: int, costs: LinkCosts) -> tuple[int, ...]:
    """The recurrence as the paper states it, every cut tried."""
    best, cuts = [0.0], [0]
    for end in range(1, tokens + 1):
        drafted_s = costs.draft_s * end
        ways = [max(best[i], drafted_s) + costs.batch_s + costs.token_s * (end - i) for i in range(end)]
        best.append(min(ways))
        cuts.append(ways.index(best[end]))
    sizes, end = list[int](), tokens
    while end:
        sizes.append(end - cuts[end])
        end = cuts[end]
    return tuple(reversed(sizes))


def report_plan(name: str, costs: LinkCosts) -> float:
    """Measure and print; the time of one plan in milliseconds."""
    plan_ms = 1e3 * seconds(partial(plan, TOKENS, costs), 200)
    whole_ms = 1e3 * seconds(partial(quadratic, TOKENS, costs), 5)
    gain = finish_s(work_conserving(TOKENS, costs), costs) / finish_s(plan(TOKENS, costs), costs)
    print(
        f"{name:12}  one plan of {TOKENS} tokens {plan_ms:.4f} ms"
        f"  (as written {whole_ms:.3f} ms, {whole_ms / plan_ms:.0f} times as long);"
        f"  work-conserving is over {100 * (gain - 1):.1f} % later"
    )
    return plan_ms


def report_schedule(costs: LinkCosts) -> None:
    """Measure and print what a session calls."""
    schedule = Schedule("planned")
    schedule.update(costs)
    others = [LinkCosts(costs.draft_s * factor, costs.batch_s, costs.token_s) for factor in (1.0, 1.01)]

    def step() -> None:
        schedule.update(others[0])
        schedule.ready(1)

    def step_with_news() -> None:
        others.reverse()
        step()

    idle_s = seconds(lambda: None, 20_000)
    for name, work in [("same costs", step), ("new costs", step_with_news)]:
        taken_s = seconds(work, 20_000)
        print(
            f"{name:12}  update and ready {1e9 * taken_s:.0f} ns,"
            f" {taken_s / idle_s:.1f} times an empty call,"
            f" {taken_s / seconds(partial(plan, TOKENS, costs), 200):.3f} of a plan"
        )


def main() -> None:
    """Measure, print, and fail if a plan takes longer than it may."""
    print(f"median of {RUNS} runs, limit {LIMIT_MS:g} ms for one plan of {TOKENS} tokens")
    slowest_ms = max([report_plan(name, costs) for name, costs in LINKS.items()])
    report_schedule(LINKS["slow tokens"])
    sys.exit(0 if slowest_ms <= LIMIT_MS else 1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("planning.py: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
