"""In virtual time, with faked ends."""

import asyncio
from collections import deque

import pytest

from pipesd.lab import way
from pipesd.lab.clock import run_virtually
from pipesd.lab.emulator import LinkEmulator, LinkModel
from pipesd.lab.way import Way

LUCKY = LinkModel(
    delay_s=0.05,
    message_s=0.01,
    jitter_s=0.03,
    loss=0.2,
    outages=((1.0, 1.5),),
    changes_every_s=0.4,
    drawn_bytes_per_s=(500.0, 2_000.0),
)

Moments = list[tuple[float, bytes]]


def now() -> float:
    return asyncio.get_running_loop().time()


class Source:
    """Has messages waiting, each from a moment on, and is read as a socket is: in the loop's next turn."""

    def __init__(self, *messages: tuple[float, bytes]) -> None:
        self._messages = deque(messages)
        self._reads = False
        self.way: Way
        self.taken: Moments = []

    def read_on(self, is_wanted: bool) -> None:
        self._reads = is_wanted
        if is_wanted and self._messages:
            asyncio.get_running_loop().call_at(self._messages[0][0], self._read)

    def _read(self) -> None:
        if not self._reads:
            return
        _, data = self._messages.popleft()
        if not data:
            self.way.take_end()
            return
        self.taken.append((now(), data))
        self.way.take(data)

    def write(self, data: bytes) -> None:
        raise AssertionError(f"{data!r} came the wrong way")

    def write_end(self) -> None:
        raise AssertionError("an end came the wrong way")


class Sink(Source):
    """Notes what arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: Moments = []
        self.ended = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.arrived.append((now(), data))

    def write_end(self) -> None:
        self.arrived.append((now(), b""))
        self.ended.set()


async def passed(emulator: LinkEmulator, *messages: tuple[float, bytes]) -> tuple[Moments, Moments]:
    """When messages were read, and when they arrived."""
    source, sink = Source(*messages), Sink()
    source.way = Way(emulator, source, sink, began=now())
    source.way.begin()
    await sink.ended.wait()
    return source.taken, sink.arrived


def test_a_message_is_read_when_the_one_before_has_left_and_written_when_it_arrives():
    emulator = LinkEmulator(LinkModel(delay_s=0.05, message_s=0.01, bytes_per_s=1_000.0))
    messages = (0.0, b"x" * 10), (0.0, b"y" * 30), (0.5, b"z"), (0.505, b"")
    taken, arrived = run_virtually(passed(emulator, *messages))
    assert taken == [(0.0, b"x" * 10), (0.02, b"y" * 30), (0.5, b"z")]
    assert arrived == [(0.07, b"x" * 10), (0.11, b"y" * 30), (0.561, b"z"), (0.561, b"")]


@pytest.mark.parametrize("seed", range(5))
def test_the_relay_keeps_to_the_emulator_whatever_the_link_does(seed: int):
    messages = [
        (number * 0.013 % 0.7 + number // 50, bytes([number]) * (number + 1)) for number in range(150)
    ]
    messages.sort()
    alone = LinkEmulator(LUCKY, seed)
    expected = [alone.send(moment, len(data))[1] for moment, data in messages]
    end = alone.end(3.0)
    taken, arrived = run_virtually(passed(LinkEmulator(LUCKY, seed), *messages, (3.0, b"")))
    assert [data for _, data in taken] == [data for _, data in messages]
    assert [data for _, data in arrived] == [data for _, data in messages] + [b""]
    assert [moment for moment, _ in arrived] == pytest.approx([*expected, max(end, expected[-1])], abs=5e-9)


def test_time_counts_from_the_beginning_of_the_link():
    async def main() -> Moments:
        await asyncio.sleep(100.0)
        model = LinkModel(delay_s=1.0, outages=((5.0, 9.0),))
        return (await passed(LinkEmulator(model), (106.0, b"late"), (106.0, b"")))[1]

    assert run_virtually(main()) == [(110.0, b"late"), (110.0, b"")]


@pytest.mark.parametrize(
    ("late_s", "second", "third"),
    [(0.0004, (1.0004, 2.0), (2.0006, 3.0006)), (0.3, (1.3, 2.299), (2.7, 3.7))],
    ids=["a little", "much"],
)
def test_a_message_that_waited_for_the_link_does_not_pay_for_a_timer_that_was_a_little_late(
    late_s: float, second: tuple[float, float], third: tuple[float, float]
):
    class LateWay(Way):
        def _free(self) -> None:
            asyncio.get_running_loop().call_later(late_s, super()._free)

    async def main() -> tuple[Moments, Moments]:
        messages = (0.0, b"one"), (0.0, b"two"), (third[0], b"three"), (5.0, b"")
        source, sink = Source(*messages), Sink()
        source.way = LateWay(LinkEmulator(LinkModel(message_s=1.0)), source, sink, began=0.0)
        source.way.begin()
        await sink.ended.wait()
        return source.taken, sink.arrived

    taken, arrived = run_virtually(main())
    assert taken == [(0.0, b"one"), (second[0], b"two"), (third[0], b"three")]
    assert arrived == [(1.0, b"one"), (second[1], b"two"), (third[1], b"three"), (5.0, b"")]


def test_a_link_that_costs_no_time_never_falls_behind():
    """However fast messages follow each other, each travels as long as it should."""

    class Stream(Source):
        def __init__(self, number: int) -> None:
            super().__init__(*[(0.0, b"x")] * number, (0.0, b""))

        def _read(self) -> None:
            asyncio.get_running_loop()._now_ns += 50_000  # type: ignore[attr-defined]
            super()._read()

    async def main() -> tuple[Moments, Moments]:
        source, sink = Stream(200), Sink()
        source.way = Way(LinkEmulator(LinkModel(delay_s=0.02)), source, sink, began=0.0)
        source.way.begin()
        await sink.ended.wait()
        return source.taken, sink.arrived

    taken, arrived = run_virtually(main())
    travelled = [there - here for (here, _), (there, _) in zip(taken, arrived, strict=False)]
    assert len(travelled) == 200
    assert all(0.02 - 0.001 - 1e-9 <= each <= 0.02 + 1e-4 for each in travelled)


def test_nothing_is_read_while_the_sink_is_slow():
    async def main() -> tuple[Moments, Moments]:
        source, sink = Source((0.0, b"one"), (1.0, b"two"), (1.0, b"")), Sink()
        source.way = Way(LinkEmulator(LinkModel()), source, sink, began=0.0)
        source.way.begin()
        await asyncio.sleep(0.5)
        source.way.hold(True)
        await asyncio.sleep(6.5)
        source.way.hold(False)
        await sink.ended.wait()
        return source.taken, sink.arrived

    assert run_virtually(main()) == (
        [(0.0, b"one"), (7.0, b"two")],
        [(0.0, b"one"), (7.0, b"two"), (7.0, b"")],
    )


def test_what_travels_has_a_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(way, "TRAVELLING_BYTES_MAX", 5)
    emulator = LinkEmulator(LinkModel(delay_s=1.0))
    messages = [(0.0, b"abc")] * 4
    taken, arrived = run_virtually(passed(emulator, *messages, (0.0, b"")))
    assert [moment for moment, _ in taken] == [0.0, 0.0, 1.0, 1.0]
    assert [moment for moment, _ in arrived] == [1.0, 1.0, 2.0, 2.0, 3.0]


def test_a_closed_way_lets_nothing_happen():
    async def main() -> tuple[Moments, Moments]:
        source, sink = Source((0.0, b"one"), (0.0, b"two")), Sink()
        source.way = Way(LinkEmulator(LinkModel(delay_s=1.0, message_s=1.0)), source, sink, began=0.0)
        source.way.begin()
        await asyncio.sleep(0.5)
        source.way.close()
        await asyncio.sleep(100.0)
        return source.taken, sink.arrived

    assert run_virtually(main()) == ([(0.0, b"one")], [])
