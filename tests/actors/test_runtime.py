import asyncio
import re
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipesd.actors.runtime import Crew, Funnel, Hooks, crew
from pipesd.errors import UsageError
from pipesd.lab.clock import run_virtually
from pipesd.observe import Recorder, Step
from tests.actors.helpers import at_work, turns, uncollected

WAKES_MAX = 20


@dataclass
class ToySide:
    """Answers an event with the event in capitals; ``wait 1.5`` sets the deadline; ``bad`` is impossible."""

    due: float | None = None
    seen: list[tuple[float, str]] = field(default_factory=list)
    wakes: int = 0

    def handle(self, event: str, now: float) -> list[str]:
        self.seen.append((now, event))
        if event == "bad":
            raise UsageError("impossible")
        if event == "wake":
            self._wake(now)
        elif wait := re.match("wait (.*)", event):
            self.due = float(wait[1])
        return [event.upper()]

    def _wake(self, now: float) -> None:
        self.wakes += 1
        assert self.wakes < WAKES_MAX, "woken again and again for nothing"
        if self.due is not None and now >= self.due:
            self.due = None

    def deadline(self) -> float | None:
        return self.due


@dataclass
class Bench:
    side: ToySide = field(default_factory=ToySide)
    recorder: Recorder = field(default_factory=Recorder)
    clock: Callable[[], float] | None = None
    commands: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        hooks = Hooks(observers=[self.recorder], clock=self.clock)
        self.funnel: Funnel[str, str] = Funnel(self.side, self.dispatch, "wake", inbox_limit=4, hooks=hooks)

    def dispatch(self, command: str) -> None:
        self.commands.append(command)
        if command in {"ECHO", "WAKE"}:
            self.funnel.step("echoed")
            self.commands.append("(end of " + command + ")")


# -- the funnel ----------------------------------------------------------------------------------------------


async def test_an_event_is_decided_observed_and_dispatched_in_this_order():
    bench = Bench(clock=lambda: 7.0)
    bench.funnel.step("hello")
    assert bench.commands == ["HELLO"]
    assert bench.recorder.steps == [Step(7.0, "hello", ("HELLO",))]


async def test_what_actors_report_is_handled_in_order():
    bench = Bench()
    async with at_work(bench.funnel.run()):
        for event in ("one", "two", "three"):
            await bench.funnel.inbox.report(event)
        await turns()
    assert bench.commands == ["ONE", "TWO", "THREE"]


async def test_an_event_that_a_command_leads_to_comes_after_the_step_that_led_to_it():
    bench = Bench()
    bench.funnel.step("echo")
    assert bench.commands == ["ECHO", "(end of ECHO)", "ECHOED"]
    assert [step.event for step in bench.recorder.steps] == ["echo", "echoed"]


def test_an_event_that_a_wake_up_leads_to_comes_after_the_step_that_led_to_it():
    async def main() -> list[str]:
        bench = Bench()
        bench.funnel.step("wait 1.5")
        await asyncio.sleep(5)
        return bench.commands[1:]

    assert run_virtually(main()) == ["WAKE", "(end of WAKE)", "ECHOED"]


async def test_an_impossible_wish_is_raised_to_the_caller_and_observed_by_nobody():
    bench = Bench()
    with pytest.raises(UsageError, match="impossible"):
        bench.funnel.step("bad")
    bench.funnel.step("good")
    assert bench.commands == ["GOOD"]
    assert [step.event for step in bench.recorder.steps] == ["good"]


def test_the_side_is_woken_at_its_deadline():
    async def main() -> list[tuple[float, str]]:
        bench = Bench()
        bench.funnel.step("wait 1.5")
        await asyncio.sleep(5)
        return bench.side.seen[:2]

    assert run_virtually(main()) == [(0.0, "wait 1.5"), (1.5, "wake")]


def test_a_deadline_that_moves_moves_the_wake_up():
    async def main() -> list[tuple[float, str]]:
        bench = Bench()
        bench.funnel.step("wait 1.5")
        bench.funnel.step("wait 3.0")
        await asyncio.sleep(1)
        bench.funnel.step("wait 2.0")
        await asyncio.sleep(5)
        return [seen for seen in bench.side.seen if seen[1] == "wake"]

    assert run_virtually(main()) == [(2.0, "wake")]


@pytest.mark.parametrize("due", [1.500_000_001, 1.5015, 3.0])
def test_a_deadline_that_moves_away_wakes_nobody_before(due: float):
    async def main() -> list[tuple[float, float]]:
        loop, wakes = asyncio.get_running_loop(), list[tuple[float, float]]()
        bench = Bench()
        bench.funnel.step("wait 1.5")
        await asyncio.sleep(1)
        bench.funnel.step(f"wait {due}")
        while not bench.side.wakes:
            await asyncio.sleep(1e-4)
            wakes = [(now, loop.time()) for now, event in bench.side.seen if event == "wake"]
        return wakes

    ((now, found_at),) = run_virtually(main())
    assert now == due
    assert due <= found_at < due + 2e-4


def test_a_timer_is_kept_while_the_deadline_moves_away(monkeypatch: pytest.MonkeyPatch):
    async def main() -> tuple[list[float], int]:
        loop, delays = asyncio.get_running_loop(), list[float]()
        real = loop.call_later

        def call_later(delay: float, *rest: Any) -> asyncio.TimerHandle:
            delays.append(delay)
            return real(delay, *rest)

        monkeypatch.setattr(loop, "call_later", call_later)
        bench = Bench()
        for number in range(100):
            bench.funnel.step(f"wait {5 + number / 10}")
        return delays, bench.side.wakes

    assert run_virtually(main()) == ([5.0], 0)


def test_a_deadline_that_is_given_up_wakes_nobody():
    async def main() -> int:
        bench = Bench()
        bench.funnel.step("wait 1.5")
        bench.side.due = None
        bench.funnel.step("never mind")
        await asyncio.sleep(5)
        return bench.side.wakes

    assert run_virtually(main()) == 0


def test_a_deadline_in_the_past_is_now():
    async def main() -> list[tuple[float, str]]:
        await asyncio.sleep(3)
        bench = Bench()
        bench.funnel.step("wait 1.0")
        await asyncio.sleep(5)
        return [seen for seen in bench.side.seen if seen[1] == "wake"]

    assert run_virtually(main()) == [(3.0, "wake")]


@pytest.mark.parametrize("due", [0.1 + 0.2, 0.1 + 0.7, 1.1 + 2.2, 1e-10, 4.35 * 100])
def test_a_deadline_between_two_nanoseconds_is_reached(due: float):
    async def main() -> int:
        bench = Bench()
        bench.funnel.step(f"wait {due!r}")
        try:
            async with asyncio.timeout_at(due + 1):
                await asyncio.Event().wait()
        except TimeoutError:
            return bench.side.wakes
        return 0

    assert 1 <= run_virtually(main()) <= 2


def test_a_timer_that_fires_early_by_the_funnels_own_clock_fires_again():
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        bench = Bench(clock=lambda: 0.9 * loop.time())
        bench.funnel.step("wait 0.9")
        await asyncio.sleep(2)
        return [now for now, event in bench.side.seen if event == "wake"]

    wakes = run_virtually(main())
    assert wakes[-1] >= 0.9
    assert len(wakes) <= WAKES_MAX


def test_a_funnel_that_has_ended_wakes_nobody():
    async def main() -> list[tuple[float, str]]:
        bench = Bench()
        async with at_work(bench.funnel.run()):
            bench.funnel.step("wait 1.5")
        await asyncio.sleep(5)
        return bench.side.seen

    assert run_virtually(main()) == [(0.0, "wait 1.5")]


async def test_a_funnel_that_has_ended_goes_with_the_last_who_holds_it():
    with uncollected():
        funnel: Funnel[str, str] = Funnel(ToySide(), print, "wake", inbox_limit=1, hooks=Hooks())
        async with at_work(funnel.run()):
            await turns()
        gone = weakref.ref(funnel)
        del funnel
        await turns()
        assert gone() is None


def test_a_funnel_closed_before_it_began_wakes_nobody():
    async def main() -> list[tuple[float, str]]:
        bench = Bench()
        async with crew() as hands:
            hands.hire("funnel", bench.funnel.run())
            bench.funnel.step("wait 1.5")
            bench.funnel.close()
        await asyncio.sleep(5)
        bench.funnel.step("wait 7.5")
        await asyncio.sleep(5)
        return bench.side.seen

    assert run_virtually(main()) == [(0.0, "wait 1.5"), (5.0, "wait 7.5")]


def test_a_fault_of_ours_at_a_deadline_ends_the_crew_like_any_other():
    def dispatch(command: str) -> None:
        assert command != "WAKE", "a fault of ours"

    async def main() -> None:
        side = ToySide()
        funnel = Funnel(side, dispatch, "wake", inbox_limit=4, hooks=Hooks())
        async with crew() as hands:
            hands.hire("funnel", funnel.run())
            funnel.step("wait 1.5")
            await asyncio.sleep(5)

    with pytest.raises((AssertionError, ExceptionGroup)):
        run_virtually(main())


# -- the crew ------------------------------------------------------------------------------------------------


async def forever(done: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        done.append(name)


async def fail_after(turns_first: int) -> None:
    await turns(turns_first)
    raise IndexError("a fault of ours")


async def test_nobody_outlives_the_block():
    before, done = asyncio.all_tasks(), list[str]()
    async with crew() as hands:
        hands.hire("one", forever(done, "one"))
        hands.hire("two", forever(done, "two"))
        await turns()
        assert {task.get_name() for task in asyncio.all_tasks() - before} == {"one", "two"}
    assert sorted(done) == ["one", "two"]
    assert asyncio.all_tasks() == before


async def test_one_who_has_finished_is_forgotten():
    async def work() -> None:
        await turns(1)

    async with crew() as hands:
        for _ in range(100):
            hands.hire("short", work())
        await turns()
        assert len(hands._tasks) == 0


@pytest.mark.parametrize("error", [ZeroDivisionError, StopAsyncIteration, KeyboardInterrupt, RuntimeError])
async def test_what_the_block_raises_comes_out_as_it_is(error: type[BaseException]):
    done: list[str] = []
    raised = error("mine")

    async def work() -> None:
        async with crew() as hands:
            hands.hire("one", forever(done, "one"))
            await turns()
            raise raised

    with pytest.raises(error) as caught:
        await work()
    assert caught.value is raised
    assert done == ["one"]


def flat(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in flat(part)]
    return [error]


async def work_with_one_who_fails(done: list[str]) -> None:
    async with crew() as hands:
        hands.hire("one", forever(done, "one"))
        hands.hire("two", fail_after(3))
        await asyncio.Event().wait()


async def test_a_member_that_fails_ends_the_block_and_the_others():
    done: list[str] = []
    with pytest.raises((IndexError, ExceptionGroup)) as caught:
        await work_with_one_who_fails(done)
    assert [type(error) for error in flat(caught.value)] == [IndexError]
    assert done == ["one"]


async def test_a_single_members_failure_comes_out_as_it_is():
    with pytest.raises(IndexError):
        await work_with_one_who_fails([])


async def test_a_cancelled_block_is_cancelled_and_leaves_nobody():
    done: list[str] = []

    async def work() -> None:
        async with crew() as hands:
            hands.hire("one", forever(done, "one"))
            await asyncio.Event().wait()

    async with at_work(work()) as (task,):
        task.cancel()
        await turns()
        assert task.cancelled()
    assert done == ["one"]


async def test_a_timeout_around_the_block_stays_a_timeout():
    async def work() -> None:
        async with asyncio.timeout(0.001), crew() as hands:
            hands.hire("one", forever([], "one"))
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await work()


async def test_a_context_around_a_crew_passes_everything_through():
    @asynccontextmanager
    async def service() -> AsyncIterator[Crew]:
        async with crew() as hands:
            hands.hire("one", forever([], "one"))
            yield hands

    async def work() -> None:
        async with service():
            await turns()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
