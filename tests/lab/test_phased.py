import asyncio

import pytest

from pipesd.actors.compute import Pace
from pipesd.errors import InterruptedStepError
from pipesd.lab.clock import run_virtually
from pipesd.lab.cycle import Cycle
from pipesd.lab.phased import PhasedCompute

PACE = Cycle([(10.0, Pace(1.0)), (10.0, Pace(2.0, 0.5))])


def test_work_costs_what_holds_when_it_begins():
    async def main() -> list[tuple[str, float]]:
        clock = asyncio.get_running_loop().time
        compute = PhasedCompute(PACE, clock)
        done = []
        for begins in (0.0, 9.5, 12.0, 20.0):
            await asyncio.sleep(begins - clock())
            done.append((await compute.run(lambda: "done", 4), clock() - begins))
        compute.close()
        return done

    assert run_virtually(main()) == [("done", took) for took in (1.0, 1.0, 4.0, 1.0)]


def test_work_can_be_interrupted_and_the_next_is_not():
    async def main() -> tuple[float, str]:
        loop = asyncio.get_running_loop()
        compute = PhasedCompute(PACE, loop.time)
        compute.interrupt()
        loop.call_later(0.25, compute.interrupt)
        with pytest.raises(InterruptedStepError):
            await compute.run(lambda: "done", 1)
        return loop.time(), await compute.run(lambda: "done", 1)

    assert run_virtually(main()) == (0.25, "done")
