"""Few edges with one short prompt each, played once for all tests."""

from functools import cache

from pipesd.lab.jobs import working
from pipesd.lab.load import Load
from pipesd.lab.load_metrics import Power
from pipesd.lab.load_study import LoadComparison, LoadStudy, compare_loads
from pipesd.lab.scenarios import SCENARIOS
from tests.lab.recordings import shipped


@cache
def tiny_loads() -> LoadComparison:
    load = Load(trace=shipped("chat/6"), scenario=SCENARIOS["s1"])
    study = LoadStudy(load=load, power=Power(), edges=(1, 2, 4))
    with working(1) as pool:
        return compare_loads(study, pool)
