import asyncio

import pytest

from pipesd.actors.pause import Pause
from pipesd.lab.clock import StuckError, run_virtually
from tests.actors.helpers import at_work, turns


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_pause_lasts_until_its_moment():
    async def main() -> tuple[bool, float]:
        return await Pause().until(1.5), now()

    assert run_virtually(main()) == (True, 1.5)


def test_an_interrupt_ends_all_waits_that_there_are_and_none_that_follow():
    pause, lasted = Pause(), list[tuple[float, bool, float]]()

    async def wait(moment_s: float) -> None:
        lasted.append((moment_s, await pause.until(moment_s), now()))

    async def main() -> None:
        pause.interrupt()
        asyncio.get_running_loop().call_later(0.5, pause.interrupt)
        async with asyncio.TaskGroup() as group:
            for moment_s in (0.25, 1.0, 4.0, 2.0, 1.5):
                group.create_task(wait(moment_s))
        await wait(3.0)

    run_virtually(main())
    interrupted = [(moment_s, False, 0.5) for moment_s in (1.0, 4.0, 2.0, 1.5)]
    assert lasted == [(0.25, True, 0.25), *interrupted, (3.0, True, 3.0)]


def test_of_a_moment_and_an_interrupt_the_first_counts():
    pause = Pause()

    async def main() -> tuple[bool, bool]:
        loop = asyncio.get_running_loop()
        loop.call_at(1.0, pause.interrupt)
        sooner = await pause.until(1.0)
        async with asyncio.TaskGroup() as group:
            later = group.create_task(pause.until(2.0))
            await turns(1)
            loop.call_at(2.0, pause.interrupt)
        return sooner, later.result()

    assert run_virtually(main()) == (False, True)


def test_who_is_cancelled_leaves_no_timer_behind():
    loops = list[asyncio.AbstractEventLoop]()

    async def wait() -> None:
        await Pause().until(1_000.0)

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        async with at_work(wait()) as (task,):
            await turns()
            task.cancel()
            await turns()
            assert task.cancelled()
        await asyncio.Event().wait()

    with pytest.raises(StuckError):
        run_virtually(main())
    assert loops[0].time() == 0.0
