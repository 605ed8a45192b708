import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pipesd.actors.compute import LentCompute, ModelledCompute, Pace, ThreadCompute, run_once
from pipesd.errors import EngineError, InterruptedStepError
from pipesd.lab.clock import run_virtually
from tests.actors.helpers import PATIENCE_S, at_work, turns, until


def fail() -> None:
    raise EngineError("planned")


class Gate:
    """Work that runs until it is let go or interrupted."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._leave = threading.Event()
        self.runs = 0
        self.interrupted = False

    def work(self) -> str:
        self.runs += 1
        self.entered.set()
        assert self._leave.wait(PATIENCE_S), "nobody opened the gate"
        if self.interrupted:
            raise InterruptedStepError("interrupted")
        return "done"

    def open(self) -> None:
        self._leave.set()

    def interrupt(self) -> None:
        self.interrupted = True
        self._leave.set()

    async def wait_entered(self) -> None:
        await until(self.entered.is_set)


# -- threads -------------------------------------------------------------------------------------------------


async def test_work_runs_in_its_own_thread_and_gives_its_result():
    compute = ThreadCompute("muscle")
    assert (await compute.run(lambda: threading.current_thread().name, 1)).startswith("muscle")
    compute.close()


async def test_a_door_that_is_lent_is_not_closed_by_who_borrowed_it():
    compute = ThreadCompute("muscle")
    lent = LentCompute(compute)
    lent.close()
    gate = Gate()
    owner = ThreadCompute("interrupted", gate.interrupt)
    LentCompute(owner).interrupt()
    assert gate.interrupted
    assert await lent.run(lambda: 5, 1) == 5
    compute.close()
    owner.close()


async def test_what_work_raises_is_raised_and_the_next_work_runs():
    compute = ThreadCompute("muscle")
    with pytest.raises(EngineError, match="planned"):
        await compute.run(fail, 1)
    assert await compute.run(lambda: 7, 1) == 7
    compute.close()


async def test_work_that_raises_stop_iteration_does_not_hang():
    compute = ThreadCompute("muscle")
    with pytest.raises(RuntimeError):
        async with asyncio.timeout(1):
            await compute.run(lambda: next(iter(())), 1)
    compute.close()


async def test_one_piece_of_work_at_a_time():
    compute, gate, order = ThreadCompute("muscle"), Gate(), []

    async def first() -> None:
        order.append(await compute.run(gate.work, 1))

    async def second() -> None:
        order.append(await compute.run(lambda: "second", 1))

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        await gate.wait_entered()
        group.create_task(second())
        await turns()
        assert order == []
        gate.open()
    assert order == ["done", "second"]
    compute.close()


async def test_an_interrupt_reaches_the_engine_while_it_works():
    gate = Gate()
    compute = ThreadCompute("muscle", gate.interrupt)
    running = asyncio.get_running_loop().create_task(compute.run(gate.work, 1))
    await gate.wait_entered()
    compute.interrupt()
    with pytest.raises(InterruptedStepError):
        await running
    compute.close()


async def test_closing_interrupts_does_not_wait_and_drops_what_has_not_begun():
    gate = Gate()
    compute = ThreadCompute("muscle", gate.interrupt)
    loop = asyncio.get_running_loop()
    running = loop.create_task(compute.run(gate.work, 1))
    await gate.wait_entered()
    dropped = loop.create_task(compute.run(gate.work, 1))
    await turns()
    compute.close()
    with pytest.raises(InterruptedStepError):
        await running
    with pytest.raises(asyncio.CancelledError):
        await dropped
    assert gate.runs == 1


async def test_the_last_work_is_done_once_and_after_all_else():
    gate, done, over = Gate(), [], threading.Event()

    def last() -> None:
        done.append(gate.runs)
        over.set()

    compute = ThreadCompute("muscle", last=last)
    running = asyncio.get_running_loop().create_task(compute.run(gate.work, 1))
    await gate.wait_entered()
    compute.close()
    compute.close()
    assert done == []
    gate.open()
    await running
    assert over.wait(5)
    assert done == [1]


async def test_closing_leaves_work_that_cannot_be_interrupted_to_its_thread():
    gate, compute = Gate(), ThreadCompute("muscle")
    running = asyncio.get_running_loop().create_task(compute.run(gate.work, 1))
    await gate.wait_entered()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    compute.close()
    gate.open()


async def test_a_loop_that_ends_before_its_thread_hears_nothing_of_it():
    gate, compute = Gate(), ThreadCompute("muscle")

    async def leave_early() -> None:
        async with asyncio.timeout(0.01):
            await compute.run(gate.work, 1)

    def run() -> None:
        with pytest.raises(TimeoutError):
            asyncio.run(leave_early())
        compute.close()
        gate.open()

    await run_once("nested", run)
    assert gate.runs == 1


async def test_run_once_gives_the_result_and_keeps_no_thread():
    name = await run_once("loader", lambda: threading.current_thread().name)
    await until(lambda: all(thread.name != name for thread in threading.enumerate()))
    with pytest.raises(EngineError):
        await run_once("loader", fail)


async def test_a_cancellation_in_the_moment_of_the_result_is_no_fault(monkeypatch: pytest.MonkeyPatch):
    """As a signal's handler may do it: behind the check whether anybody still waits."""
    faults: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context))
    compute = ThreadCompute("test")
    task = loop.create_task(compute.run(lambda: 7, 1))
    real = loop.call_soon_threadsafe

    def interrupted(callback: Callable[..., object], *given: Any, **more: Any) -> asyncio.Handle:
        def cancel_first() -> None:
            task.cancel()
            callback(*given)

        return real(cancel_first, **more)

    monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted)
    with pytest.raises(asyncio.CancelledError):
        await task
    compute.close()
    assert faults == []


# -- models of machines --------------------------------------------------------------------------------------


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_pace_is_a_fixed_part_and_a_part_per_token():
    pace = Pace(0.5, 0.25)
    assert (pace.cost_s(1), pace.cost_s(4)) == (0.75, 1.5)
    assert pace.cost_s(0) == 0.0


def test_modelled_work_takes_its_time_and_is_done_at_the_end_of_it():
    async def main() -> tuple[float, float]:
        compute = ModelledCompute(Pace(0.5, 0.25))
        return await compute.run(now, 2), now()

    assert run_virtually(main()) == (1.0, 1.0)


def test_modelled_work_without_tokens_is_free():
    async def main() -> float:
        return await ModelledCompute(Pace(0.5)).run(now, 0)

    assert run_virtually(main()) == 0.0


def test_modelled_work_of_two_is_done_one_after_the_other():
    async def main() -> list[float]:
        compute = ModelledCompute(Pace(0.5))
        async with asyncio.TaskGroup() as group:
            works = [group.create_task(compute.run(now, 1)) for _ in range(3)]
        return [work.result() for work in works]

    assert run_virtually(main()) == [0.5, 1.0, 1.5]


def test_modelled_work_raises_what_it_raises():
    async def main() -> None:
        compute = ModelledCompute(Pace(0.5))
        with pytest.raises(EngineError, match="planned"):
            await compute.run(fail, 1)
        assert await compute.run(lambda: 7, 1) == 7

    run_virtually(main())


def test_an_interrupt_ends_modelled_work_early_and_only_that():
    done: list[str] = []

    async def main() -> None:
        compute = ModelledCompute(Pace(1.0))
        compute.interrupt()
        asyncio.get_running_loop().call_later(0.25, compute.interrupt)
        with pytest.raises(InterruptedStepError):
            await compute.run(lambda: done.append("never"), 1)
        assert now() == 0.25
        await compute.run(lambda: done.append("next"), 1)
        assert now() == 1.25

    run_virtually(main())
    assert done == ["next"]


def test_cancelling_modelled_work_is_no_timeout():
    async def main() -> None:
        compute = ModelledCompute(Pace(1.0))

        async def work() -> None:
            await compute.run(lambda: pytest.fail("done"), 1)

        async with at_work(work()) as (task,):
            task.cancel()
            await turns()
            assert task.cancelled()
        compute.close()

    run_virtually(main())
