"""In virtual time; every moment is computed by hand."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace

import pytest

from pipesd.lab.clock import run_virtually
from pipesd.lab.faults import FaultModel, LinkFault
from pipesd.lab.gate import Gate

Moments = list[tuple[float, bytes]]


class Sink:
    def __init__(self) -> None:
        self.took: Moments = []
        self.met: list[str] = []
        self.shut: list[tuple[float, bool]] = []

    def write(self, data: bytes) -> None:
        self.took.append((now(), data))

    def write_end(self) -> None:
        self.took.append((now(), b""))

    def note(self, fault: LinkFault) -> None:
        self.met.append(fault.kind)

    def note_shut(self, is_shut: bool) -> None:
        self.shut.append((now(), is_shut))


def now() -> float:
    return asyncio.get_running_loop().time()


def fault(kind: str, lasts_s: float = 0.0) -> LinkFault:
    """One that strikes the byte in the middle."""
    return replace(FaultModel(every_s=1.0).fault(kind, 0.0, 0), lasts_s=lasts_s, place=0.5, noise=b"\1")


def passed(play: Callable[[Gate], Coroutine[None, None, None]]) -> Sink:
    """What went through a gate, until nothing more happened for a long time."""
    sink = Sink()

    async def main() -> None:
        gate = Gate(sink, sink.note)
        gate.on_shut = sink.note_shut
        await play(gate)
        await asyncio.sleep(1_000.0)

    run_virtually(main())
    return sink


async def send(gate: Gate, *messages: bytes) -> None:
    """One each second, from now on."""
    for data in messages:
        gate.write(data)
        await asyncio.sleep(1.0)


def test_what_arrives_passes_at_once():
    async def play(gate: Gate) -> None:
        await send(gate, b"one", b"two")
        gate.write_end()

    sink = passed(play)
    assert sink.took == [(0.0, b"one"), (1.0, b"two"), (2.0, b"")]
    assert sink.shut == []


def test_what_arrives_at_a_shut_gate_waits_and_passes_in_order():
    async def play(gate: Gate) -> None:
        await send(gate, b"before")
        gate.shut(4.5)
        await send(gate, b"one", b"two", b"three", b"four")
        gate.write_end()

    sink = passed(play)
    assert sink.took == [
        (0.0, b"before"),
        *((4.5, word) for word in (b"one", b"two", b"three", b"four")),
        (5.0, b""),
    ]
    assert sink.shut == [(1.0, True), (4.5, False)]


@pytest.mark.parametrize(("second", "opens_at"), [(3.0, 5.0), (7.0, 7.0)])
def test_of_two_that_shut_it_the_longer_one_counts(second: float, opens_at: float):
    async def play(gate: Gate) -> None:
        gate.shut(5.0)
        gate.shut(second)
        await send(gate, b"x")

    sink = passed(play)
    assert sink.took == [(opens_at, b"x")]
    assert sink.shut == [(0.0, True), (opens_at, False)]


def test_a_late_message_keeps_back_those_behind_it():
    async def play(gate: Gate) -> None:
        assert gate.arm(fault("delay", 2.5))
        await send(gate, b"late", b"next", b"then", b"last")

    sink = passed(play)
    assert sink.took == [(2.5, b"late"), (2.5, b"next"), (2.5, b"then"), (3.0, b"last")]
    assert sink.met == ["delay"]
    assert sink.shut == [(0.0, True), (2.5, False)]


def test_a_late_message_at_a_shut_gate_is_late_from_its_opening_on():
    async def play(gate: Gate) -> None:
        gate.shut(3.0)
        gate.arm(fault("delay", 0.5))
        await send(gate, b"late", b"next")

    assert passed(play).took == [(3.5, b"late"), (3.5, b"next")]


@pytest.mark.parametrize(
    ("kind", "left"),
    [("reset", b"abc"), ("duplicate", b"abccde"), ("truncate", b"abde"), ("garbage", b"ab\1cde")],
)
def test_a_fault_changes_the_next_message_alone(kind: str, left: bytes):
    async def play(gate: Gate) -> None:
        await send(gate, b"abcde")
        assert gate.arm(replace(fault(kind), inserts=True))
        await send(gate, b"abcde", b"abcde")

    sink = passed(play)
    assert sink.took == [(0.0, b"abcde"), (1.0, left), (2.0, b"abcde")]
    assert sink.met == [kind]


def test_a_message_of_which_nothing_is_left_does_not_look_like_the_end():
    async def play(gate: Gate) -> None:
        gate.arm(fault("truncate"))
        await send(gate, b"x", b"y")

    sink = passed(play)
    assert sink.took == [(1.0, b"y")]
    assert sink.met == ["truncate"]


def test_one_fault_waits_at_a_time_and_can_be_called_off():
    async def play(gate: Gate) -> None:
        assert gate.arm(fault("truncate"))
        assert not gate.arm(fault("delay", 1.0))
        gate.disarm()
        await send(gate, b"abcde")
        assert gate.arm(fault("truncate"))
        await send(gate, b"abcde")

    assert passed(play).took == [(0.0, b"abcde"), (1.0, b"abde")]


def test_an_early_end_comes_behind_what_has_arrived_and_swallows_the_rest():
    async def play(gate: Gate) -> None:
        gate.shut(1.5)
        gate.write(b"one")
        assert gate.end()
        assert not gate.end()
        assert not gate.arm(fault("truncate"))
        await send(gate, b"two", b"three", b"four")
        gate.write_end()

    sink = passed(play)
    assert sink.took == [(1.5, b"one"), (1.5, b"")]
    assert sink.met == []


def test_nothing_passes_a_closed_gate():
    async def play(gate: Gate) -> None:
        gate.shut(1.0)
        gate.write(b"waits")
        gate.close()
        await send(gate, b"comes", b"late")
        gate.write_end()
        assert not gate.end()
        assert not gate.arm(fault("truncate"))
        gate.close()

    assert passed(play).took == []


def test_a_gate_that_is_closed_by_what_it_passes_passes_no_more():
    class Closing(Sink):
        gate: Gate

        def write(self, data: bytes) -> None:
            super().write(data)
            self.gate.close()

    sink = Closing()

    async def main() -> None:
        sink.gate = Gate(sink, sink.note)
        sink.gate.shut(1.0)
        await send(sink.gate, b"one", b"two")

    run_virtually(main())
    assert sink.took == [(1.0, b"one")]
