"""The report's experiments, few and short, played once for all tests."""

from functools import cache

from pipesd.lab.paper import Grid, Results, Sweep, play

TINY = Grid(
    traces=("humaneval",),
    scenarios=("s1", "s4"),
    studied=("humaneval",),
    r1=(0.0, 0.9),
    r2=(0.5,),
    upper_tokens=(8,),
    sweeps=(
        Sweep(name="round-trip", axis="round trip, ms", usual=30.0, at=(0, 200)),
        Sweep(name="prompt", axis="prompt length, tokens", usual=0.0, at=(64,)),
        Sweep(name="pass", axis="pass v0, ms", usual=25.0, at=(200,)),
    ),
    bandwidth=Sweep(name="bandwidth", axis="uplink, Mbit/s", usual=20.0, at=(20.0,)),
    prompts_max=1,
)


@cache
def tiny() -> Results:
    return play(TINY, processes=1)
