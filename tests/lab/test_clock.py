import asyncio
import random
import socket
import time
import weakref

import pytest

from pipesd.lab.clock import StuckError, VirtualLoop, run_virtually


def now() -> float:
    return asyncio.get_running_loop().time()


async def naps(*lengths_s: float) -> list[float]:
    moments = []
    for length_s in lengths_s:
        await asyncio.sleep(length_s)
        moments.append(now())
    return moments


def test_a_month_passes_at_once():
    started = time.monotonic()
    assert run_virtually(naps(3_600.0, 86_400.0 * 30)) == [3_600.0, 3_600.0 + 86_400.0 * 30]
    assert time.monotonic() - started < 1.0


def test_time_starts_at_nothing_and_stands_still_while_there_is_work():
    async def main() -> list[float]:
        moments = []
        for _ in range(100):
            moments.append(now())
            await asyncio.sleep(0)
        return moments

    assert set(run_virtually(main())) == {0.0}


def test_time_is_counted_in_whole_nanoseconds():
    lengths_s = [random.Random(7).uniform(0, 3) for _ in range(200)]
    expected_ns, moments = 0, run_virtually(naps(*lengths_s))
    for length_s, moment in zip(lengths_s, moments, strict=True):
        expected_ns += round(length_s * 1e9)
        assert moment == round(moment * 1e9) / 1e9
        assert abs(round(moment * 1e9) - expected_ns) <= 1
        expected_ns = round(moment * 1e9)


def test_milliseconds_add_up_without_a_remainder():
    assert run_virtually(naps(*[0.026] * 1_000))[-1] == 26.0


def test_who_waits_for_less_is_served_first():
    async def main() -> list[tuple[str, float]]:
        order: list[tuple[str, float]] = []

        async def wait(name: str, length_s: float) -> None:
            await asyncio.sleep(length_s)
            order.append((name, now()))

        async with asyncio.TaskGroup() as group:
            for name, length_s in (("c", 0.3), ("a", 0.1), ("b", 0.2)):
                group.create_task(wait(name, length_s))
        return order

    assert run_virtually(main()) == [("a", 0.1), ("b", 0.2), ("c", 0.3)]


def test_the_same_run_is_the_same_to_the_nanosecond():
    async def main() -> list[tuple[int, float]]:
        dice, seen = random.Random(1), list[tuple[int, float]]()
        queue: asyncio.Queue[int] = asyncio.Queue(3)

        async def make(number: int) -> None:
            for _ in range(20):
                await asyncio.sleep(dice.choice([0.0, 0.1, 0.1, 0.30000001]))
                await queue.put(number)

        async def take() -> None:
            for _ in range(100):
                seen.append((await queue.get(), now()))
                await asyncio.sleep(dice.choice([0.0, 0.05]))

        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(make(number))
            group.create_task(take())
        return seen

    assert run_virtually(main()) == run_virtually(main())


def test_timeouts_happen_at_their_moment():
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await asyncio.Event().wait()
        return now()

    assert run_virtually(main()) == 2.5


def test_nothing_left_to_happen_is_noticed_at_once():
    async def main() -> None:
        await asyncio.sleep(1)
        await asyncio.Event().wait()

    with pytest.raises(StuckError, match="all tasks are waiting"):
        run_virtually(main())


def test_a_stuck_run_lets_its_tasks_clean_up():
    cleaned: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("up")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(wait())

    with pytest.raises(StuckError):
        run_virtually(main())
    assert cleaned == ["up", "up"]


def test_what_the_run_raises_is_raised():
    async def main() -> None:
        await asyncio.sleep(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_virtually(main())


def test_threads_have_no_place_in_virtual_time():
    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(None, print)

    with pytest.raises(RuntimeError, match="ModelledCompute"):
        run_virtually(main())


def test_callbacks_from_other_threads_still_arrive():
    async def main() -> bool:
        loop, called = asyncio.get_running_loop(), asyncio.Event()
        loop.call_soon_threadsafe(called.set)
        await called.wait()
        return isinstance(loop, VirtualLoop)

    assert run_virtually(main())


def test_two_loops_keep_their_own_time():
    with asyncio.Runner(loop_factory=VirtualLoop) as one, asyncio.Runner(loop_factory=VirtualLoop) as two:
        assert one.run(naps(5)) == [5.0]
        assert two.run(naps(1)) == [1.0]
        assert one.run(naps(1)) == [6.0]


def test_timers_that_were_cancelled_do_not_fire_nor_stay_for_ever():
    async def main() -> tuple[int, list[int], float]:
        loop, fired, known = asyncio.get_running_loop(), list[int](), list[weakref.ref[object]]()
        kept = [loop.call_at(50.0 - number, fired.append, number) for number in range(40)]
        for number in range(20_000):
            timer = loop.call_at(1e6, fired.append, -1)
            known.append(weakref.ref(timer))
            timer.cancel()
            if number % 500 == 0:
                kept.pop().cancel()
        del timer
        alive = sum(reference() is not None for reference in known)
        await asyncio.sleep(60)
        return alive, fired, now()

    alive, fired, moment = run_virtually(main())
    assert alive <= 1_100
    assert (fired, moment) == ([], 60.0)


def test_a_loop_that_is_closed_lets_go_of_what_its_timers_hold():
    class Held:
        def act(self) -> None:
            pass

    async def main() -> weakref.ref[Held]:
        held = Held()
        asyncio.get_running_loop().call_later(9.0, held.act)
        return weakref.ref(held)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        known = runner.run(main())
        assert known() is not None
    assert known() is None


def test_a_cancelled_timer_does_not_hold_up_the_next_one():
    async def main() -> list[float]:
        loop, fired = asyncio.get_running_loop(), list[float]()
        first, second = (loop.call_at(when, lambda: fired.append(now())) for when in (1.0, 1.0))
        loop.call_at(1.0, lambda: fired.append(now()))
        first.cancel()
        loop.call_at(0.5, second.cancel)
        await asyncio.sleep(2)
        return fired

    assert run_virtually(main()) == [1.0]


def test_a_callback_that_fails_is_told_to_the_loop_and_the_rest_goes_on():
    async def main() -> list[str]:
        loop, told = asyncio.get_running_loop(), list[str]()
        loop.set_exception_handler(lambda _, context: told.append(repr(context["exception"])))
        loop.call_later(1.0, [].pop)
        loop.call_later(1.0, told.append, "the next")
        await asyncio.sleep(2)
        return told

    assert run_virtually(main()) == ["IndexError('pop from empty list')", "the next"]


def test_real_descriptors_are_heard_before_time_passes():
    async def main() -> tuple[bytes, float]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.send(b"real")
            asyncio.get_running_loop().call_later(9.0, lambda: None)
            return await asyncio.get_running_loop().sock_recv(ours, 9), now()

    assert run_virtually(main()) == (b"real", 0.0)


def test_timers_of_one_moment_fire_in_the_order_in_which_they_were_set():
    """asyncio's own heap of timers does not promise it."""

    async def main() -> list[int]:
        fired: list[int] = []
        loop = asyncio.get_running_loop()
        for number in range(20):
            loop.call_at(1.0 if number % 3 else 0.5, fired.append, number)
        await asyncio.sleep(2)
        return fired

    numbers = range(20)
    assert run_virtually(main()) == [
        *(number for number in numbers if not number % 3),
        *(number for number in numbers if number % 3),
    ]


def test_moments_within_half_a_nanosecond_are_one():
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        fired: list[float] = []
        for when in (121.0000000004, 121.0000000006, 121.0000000014):
            loop.call_at(when, lambda: fired.append(round(loop.time() * 1e9) - 121_000_000_000))
        await asyncio.sleep(122)
        return fired

    assert run_virtually(main()) == [0, 1, 1]
