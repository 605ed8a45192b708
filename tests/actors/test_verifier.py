import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from pipesd.actors.compute import ModelledCompute, Pace
from pipesd.actors.mailbox import Mailbox
from pipesd.actors.verifier import Verifier
from pipesd.engines.energy import Meter
from pipesd.errors import EngineError, EngineLostError
from pipesd.lab.clock import run_virtually
from pipesd.session.commands import ReleaseSequence, RunPass
from pipesd.session.events import CloudEvent, PassDone, PassFailed
from pipesd.values import Slice
from tests.actors.helpers import at_work
from tests.actors.rig import ToyTarget
from tests.session.world import GREEDY, target_path

TEXT = (1, 2, 3)


@dataclass
class NotingTarget(ToyTarget):
    calls: list[str] = field(default_factory=list)
    error: Exception | None = None
    release_error: Exception | None = None

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        self.calls.append(f"pass over {len(slices)}")
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return ToyTarget.forward(self, slices)

    def release(self, sequence: int) -> None:
        self.calls.append(f"release {sequence}")
        if self.release_error is not None:
            raise self.release_error
        ToyTarget.release(self, sequence)


@dataclass
class Bench:
    engine: NotingTarget = field(default_factory=NotingTarget)

    def __post_init__(self) -> None:
        self.inbox: Mailbox[CloudEvent] = Mailbox("inbox", 10)
        self.verifier = Verifier(self.engine, ModelledCompute(Pace(1.0, 0.5)), self.inbox, limit=3)


def part(sequence: int, tokens: tuple[int, ...] = TEXT, picks: int = 1) -> Slice:
    return Slice(sequence, 0, tokens, picks, True, GREEDY, 0)


FIRST = target_path(TEXT, 1)[0]


def test_a_pass_gives_the_picks_of_every_slice_and_costs_its_tokens():
    async def main() -> float:
        bench = Bench()
        async with at_work(bench.verifier.run()):
            bench.verifier.tell(RunPass((part(0), part(1, picks=2))))
            done = await bench.inbox.next()
            assert done == PassDone(((FIRST,), (target_path(TEXT[:2], 1)[0], FIRST)))
        return asyncio.get_running_loop().time()

    assert run_virtually(main()) == 1.0 + 0.5 * 6


def test_a_pass_is_measured_where_it_runs_and_a_failing_one_is_not():
    async def main() -> None:
        bench, joules = Bench(), iter([10.0, 11.0, 14.0, 15.0, 16.0, 18.0])
        meter = Meter(lambda: next(joules), lambda: None)
        door = ModelledCompute(Pace(1.0, 0.5))
        bench.verifier = Verifier(bench.engine, door, bench.inbox, limit=3, meter=meter)
        async with at_work(bench.verifier.run()):
            bench.verifier.tell(RunPass((part(0),)))
            assert await bench.inbox.next() == PassDone(((FIRST,),), 3.0)
            bench.engine.error = EngineError("planned")
            bench.verifier.tell(RunPass((part(0),)))
            assert await bench.inbox.next() == PassFailed("planned")
            assert meter.idle_j() == 1.0 + 1.0 + 1.0

    run_virtually(main())


def test_orders_are_obeyed_one_after_the_other():
    async def main() -> list[str]:
        bench = Bench()
        async with at_work(bench.verifier.run()):
            bench.verifier.tell(RunPass((part(0),)))
            bench.verifier.tell(ReleaseSequence(0))
            bench.verifier.tell(RunPass((part(0),)))
            assert [await bench.inbox.next() for _ in range(2)] == [PassDone(((FIRST,),))] * 2
        return bench.engine.calls

    assert run_virtually(main()) == ["pass over 1", "release 0", "pass over 1"]


PRIVATE = "its engine broke down; the cloud's log says more"
"""All that an edge is told of what it may not know."""


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (EngineError("planned"), PassFailed("planned")),
        (EngineLostError("it has ended"), PassFailed("it has ended", lost=True)),
        (IndexError("/secret/path"), PassFailed(PRIVATE)),
    ],
    ids=["known", "lost", "unknown"],
)
def test_a_failing_engine_fails_the_pass_and_the_next_one_runs(error: Exception, failed: PassFailed):
    async def main() -> None:
        bench = Bench(NotingTarget(error=error))
        async with at_work(bench.verifier.run()):
            bench.verifier.tell(RunPass((part(0),)))
            assert await bench.inbox.next() == failed
            bench.verifier.tell(RunPass((part(0),)))
            assert await bench.inbox.next() == PassDone(((FIRST,),))

    run_virtually(main())


@pytest.mark.parametrize(
    "error", [EngineError("planned"), IndexError("/secret/path")], ids=["known", "unknown"]
)
def test_a_release_that_fails_does_not_end_the_serving(error: Exception):
    async def main() -> None:
        bench = Bench(NotingTarget(release_error=error))
        async with at_work(bench.verifier.run()):
            bench.verifier.tell(ReleaseSequence(0))
            bench.verifier.tell(RunPass((part(0),)))
            assert await bench.inbox.next() == PassDone(((FIRST,),))

    run_virtually(main())
