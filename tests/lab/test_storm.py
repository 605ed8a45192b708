"""In virtual time; links are faked here, and real in test_link and test_relay."""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from typing import Any

import pytest

from pipesd.errors import UsageError
from pipesd.lab.clock import run_virtually
from pipesd.lab.faults import KINDS, FaultModel
from pipesd.lab.storm import Storm

CALM = FaultModel(every_s=86_400.0)
"""Nothing comes by itself in time."""


def now() -> float:
    return asyncio.get_running_loop().time()


class Wire:
    """A link that notes what happens to it, and what takes both of its directions."""

    def __init__(self, storm: Storm) -> None:
        self.took: list[tuple[float, bytes]] = []
        self.cuts: list[float] = []
        self.exposed = storm.expose(self, self, self.cut)

    def write(self, data: bytes) -> None:
        self.took.append((now(), data))

    def write_end(self) -> None:
        self.took.append((now(), b""))

    def cut(self) -> None:
        self.cuts.append(now())


def within(seconds: float, play: Callable[[Storm], Any], model: FaultModel = CALM, **deeds: Any) -> Storm:
    """A storm over what ``play`` begins, after so long."""

    async def main() -> Storm:
        storm = Storm(model, deeds)
        play(storm)
        await asyncio.sleep(seconds)
        return storm

    return run_virtually(main())


def test_cuts_come_when_the_model_says_and_each_takes_its_link_out():
    wires: list[Wire] = []
    model = FaultModel(every_s=1.0, weights={"cut": 1.0}, seed=6)

    async def main() -> Storm:
        storm = Storm(model)
        await asyncio.sleep(7.0)
        wires.extend(Wire(storm) for _ in range(3))
        await asyncio.sleep(20.0)
        return storm

    storm = run_virtually(main())
    expected = [fault.at_s + 7.0 for fault in takewhile(lambda fault: fault.at_s < 20.0, model.faults())]
    assert sorted(moment for wire in wires for moment in wire.cuts) == pytest.approx(expected[:3], abs=1e-8)
    assert [len(wire.cuts) for wire in wires] == [1, 1, 1]
    assert storm.injected == {"cut": 3}
    assert storm.drawn == len(expected) > 3, "some found no link any more"
    assert storm.summary() == f"3 faults injected (cut 3), {len(expected) - 3} of no effect"


def test_the_schedule_goes_on_over_links():
    """Whatever the links do, the same faults come at the same moments."""
    model = FaultModel(every_s=0.5, weights={"cut": 1.0}, seed=2)

    async def main(pause_s: float) -> list[float]:
        storm, cuts = Storm(model), []
        storm.begin()
        while now() < 30.0:
            wire = Wire(storm)
            while not wire.cuts and now() < 30.0:  # noqa: ASYNC110 - a look every millisecond
                await asyncio.sleep(0.001)
            cuts += wire.cuts
            await asyncio.sleep(pause_s)
        return cuts

    eager, slow = run_virtually(main(0.0)), run_virtually(main(0.7))
    assert set(slow) < set(eager)
    assert len(eager) == pytest.approx(60, rel=0.25)
    assert run_virtually(main(0.7)) == slow


def test_any_of_the_links_may_be_struck():
    struck: Counter[int] = Counter()

    def play(storm: Storm) -> None:
        for number in range(3):
            Wire(storm).exposed.up.on_shut = partial(note, number)

    def note(number: int, is_shut: bool) -> None:
        struck[number] += is_shut

    stalls = FaultModel(every_s=0.1, weights={"stall": 1.0}, stall_s=(0.001, 0.001))
    storm = within(100.0, play, stalls)
    assert sorted(struck) == [0, 1, 2]
    assert min(struck.values()) > storm.drawn / 4


@pytest.mark.parametrize("kind", ["reset", "delay", "duplicate", "truncate", "garbage"])
def test_what_needs_a_message_counts_once_it_has_met_one(kind: str):
    async def main() -> None:
        storm = Storm(CALM)
        wire = Wire(storm)
        storm.strike(kind)
        assert (storm.drawn, storm.injected) == (1, {})
        for gate in (wire.exposed.up, wire.exposed.down):
            gate.write(b"message")
        await asyncio.sleep(1.0)
        assert (storm.drawn, storm.injected) == (1, {kind: 1})

    run_virtually(main())


def test_a_reset_cuts_behind_the_part_that_passed():
    async def main() -> None:
        storm = Storm(CALM)
        wire = Wire(storm)
        storm.strike("reset")
        wire.exposed.up.write(b"message")
        wire.exposed.down.write(b"message")
        (_, part), *others = [data for data in wire.took if data[1] != b"message"]
        assert b"message".startswith(part)
        assert (others, wire.cuts) == ([], [0.0])

    run_virtually(main())


def test_a_stall_keeps_both_directions_back():
    async def main() -> list[tuple[float, bytes]]:
        storm = Storm(FaultModel(every_s=86_400.0, stall_s=(2.0, 2.0)))
        wire = Wire(storm)
        storm.strike("stall")
        await asyncio.sleep(1.0)
        wire.exposed.up.write(b"up")
        wire.exposed.down.write(b"down")
        await asyncio.sleep(2.0)
        wire.exposed.up.write(b"later")
        assert storm.injected == {"stall": 1}
        return wire.took

    assert run_virtually(main()) == [(2.0, b"up"), (2.0, b"down"), (3.0, b"later")]


def test_a_half_close_ends_one_direction_and_a_second_one_finds_it_ended():
    async def main() -> None:
        storm = Storm(CALM)
        wire = Wire(storm)
        for _ in range(20):
            storm.strike("half-close")
        assert wire.took == [(0.0, b"")] * 2
        assert (storm.injected, storm.drawn) == ({"half-close": 2}, 20)
        assert wire.cuts == []

    run_virtually(main())


def test_an_end_that_went_away_is_heard_of_when_a_stall_is_over():
    async def main() -> None:
        storm = Storm(FaultModel(every_s=86_400.0, stall_s=(2.0, 2.0)))
        calm, stalled = Wire(storm), Wire(storm)
        calm.exposed.pass_cut(calm.cut)
        assert calm.cuts == [0.0]
        storm.strike("stall")
        stalled.exposed.up.write(b"lost")
        stalled.exposed.pass_cut(stalled.cut)
        storm.strike("cut")
        await asyncio.sleep(5.0)
        assert stalled.cuts == [2.0]
        assert stalled.took == []
        assert storm.injected == {"stall": 1}

    run_virtually(main())


def test_after_the_end_of_a_storm_nothing_comes_and_nothing_waits():
    wires: list[Wire] = []
    every = FaultModel(every_s=0.01, weights={"truncate": 1.0, "delay": 1.0})

    async def main() -> Storm:
        storm = Storm(every)
        wires.append(Wire(storm))
        await asyncio.sleep(1.0)
        storm.stop()
        drawn = storm.drawn
        wires.append(Wire(storm))
        for wire in wires:
            wire.exposed.up.write(b"message")
            wire.exposed.down.write(b"message")
        await asyncio.sleep(100.0)
        assert storm.drawn == drawn > 50
        storm.stop()
        return storm

    storm = run_virtually(main())
    assert storm.injected == {}
    assert [wire.took for wire in wires] == [[(1.0, b"message")] * 2] * 2


def test_a_storm_that_was_stopped_does_not_begin_but_strikes_on_call():
    def play(storm: Storm) -> None:
        storm.stop()
        storm.begin()
        wire = Wire(storm)
        storm.strike("cut")
        assert wire.cuts == [0.0]

    storm = within(10.0, play, FaultModel(every_s=0.1))
    assert storm.drawn == 1


def test_deeds_are_done_with_and_without_a_link():
    done: list[float] = []
    model = FaultModel(every_s=0.5, weights={"restart": 1.0, "cut": 3.0})
    storm = within(200.0, Storm.begin, model, restart=lambda: done.append(now()))
    assert storm.injected == {"restart": len(done)}
    assert storm.drawn == pytest.approx(400, rel=0.15)
    assert len(done) / storm.drawn == pytest.approx(0.25, abs=0.06)
    called = within(1.0, lambda storm: storm.strike("restart"), restart=lambda: done.append(-1.0))
    assert (called.injected, done[-1]) == ({"restart": 1}, -1.0)


def test_a_deed_may_stop_the_storm():
    storms: list[Storm] = []
    often = FaultModel(every_s=0.5, weights={"enough": 1.0})

    def play(storm: Storm) -> None:
        storms.append(storm)
        storm.begin()

    def enough() -> None:
        storms[0].stop()

    storm = within(100.0, play, often, enough=enough)
    assert storm.injected == {"enough": 1}


@pytest.mark.parametrize(
    ("kinds", "deeds"), [(("cut", "flood"), ()), (("cut",), ("stall",)), (("flood",), ("restart",))], ids=str
)
def test_a_kind_is_of_links_or_a_deed(kinds: tuple[str, ...], deeds: tuple[str, ...]):
    model = FaultModel(every_s=1.0, weights=dict.fromkeys(kinds, 1.0))
    with pytest.raises(UsageError, match=r"'(flood|stall)' must be a fault of links or a deed, and not both"):
        Storm(model, dict.fromkeys(deeds, lambda: None))
    with pytest.raises(UsageError, match="'flood' must be"):
        Storm(CALM).strike("flood")


def test_nothing_injected_is_said_too():
    assert within(1.0, Storm.begin).summary() == "0 faults injected, 0 of no effect"


def test_the_same_seed_does_the_same_to_the_same_links():
    model = FaultModel(every_s=0.05, weights=dict.fromkeys(KINDS, 1.0), seed=9)

    async def main() -> tuple[list[tuple[float, bytes]], Counter[str]]:
        storm, took = Storm(model), []
        for _ in range(40):
            wire = Wire(storm)
            for number in range(10):
                wire.exposed.up.write(b"upward %d" % number)
                wire.exposed.down.write(b"downward %d" % number)
                await asyncio.sleep(0.01)
            took += wire.took
            wire.exposed.close()
        return took, storm.injected

    took, injected = run_virtually(main())
    assert run_virtually(main()) == (took, injected)
    assert set(injected) == set(KINDS)
