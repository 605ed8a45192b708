from functools import partial

import pytest

from pipesd.errors import UsageError
from pipesd.lab.jobs import working
from pipesd.lab.scenarios import scenario_named

JOBS = [partial(divmod, number, 7) for number in range(20)]


@pytest.mark.parametrize("number", [1, 2])
def test_results_come_in_the_order_of_the_jobs_and_each_is_told(number: int):
    told: list[None] = []
    with working(number, lambda: told.append(None)) as processes:
        assert processes.do(JOBS) == [divmod(number, 7) for number in range(20)]
        assert processes.do([]) == []
    assert len(told) == len(JOBS)


@pytest.mark.parametrize("number", [1, 2])
def test_a_failure_comes_out_as_it_is(number: int):
    with working(number) as processes, pytest.raises(UsageError, match=r"^scenario: 's0'"):
        processes.do([partial(scenario_named, "s0")])
