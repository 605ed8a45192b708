"""A comparison of tuners, small and short, played once for all tests."""

from functools import cache

from pipesd.lab.drift import DriftComparison, DriftStudy, compare_drift
from pipesd.lab.jobs import working
from pipesd.lab.scenarios import SCENARIOS
from pipesd.lab.tune import Comparison, Study, compare

TINY_STUDY = Study(
    traces=("chat",),
    scenarios=(SCENARIOS["s1"], SCENARIOS["s3"]),
    seeds=2,
    trials=3,
    per_axis=3,
    tuners=("model-guided", "closed-form", "grid", "random", "fixed"),
    prompts_max=2,
)

TINY_DRIFT = DriftStudy(
    traces=("chat",),
    worlds=((SCENARIOS["wifi-4g"], "ids"), (SCENARIOS["s4"], "full-distribution")),
    seeds=2,
    tokens=100,
    per_axis=2,
)


@cache
def tiny_comparison() -> Comparison:
    with working(1) as processes:
        return compare(TINY_STUDY, processes)


@cache
def tiny_drift() -> DriftComparison:
    with working(1) as processes:
        return compare_drift(TINY_DRIFT, processes)
