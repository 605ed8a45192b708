import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from pipesd.actors.compute import ModelledCompute, Pace
from pipesd.actors.drafter import Drafter
from pipesd.actors.mailbox import Mailbox
from pipesd.errors import EngineError
from pipesd.lab.clock import run_virtually
from pipesd.session.commands import AbortStep, DraftNext, ReleaseDraft
from pipesd.session.events import DraftFailed, EdgeEvent, StepAborted, TokenDrafted
from pipesd.values import Proposal, Sampling, Stretch
from tests.actors.helpers import at_work
from tests.actors.rig import ToyTokenizer
from tests.session.world import GREEDY

STEP_S = 0.25


@dataclass
class NotingDraft:
    """Notes what it is told; guesses the length of its text."""

    tokenizer = ToyTokenizer()
    context_tokens = 100
    calls: list[tuple[object, ...]] = field(default_factory=list)
    lengths: dict[int, int] = field(default_factory=dict)
    confidence: float = 0.5
    fails: Exception | None = None
    release_fails: Exception | None = None

    def truncate(self, sequence: int, length: int) -> None:
        self.calls.append(("truncate", sequence, length))
        self.lengths[sequence] = length

    def extend(self, sequence: int, tokens: Sequence[int], *, prompt: bool = False) -> None:
        self.calls.append(("extend", sequence, prompt, *tokens))
        self.lengths[sequence] += len(tokens)

    def propose(self, sequence: int, sampling: Sampling, seed: int) -> Proposal:
        self.calls.append(("propose", sequence, seed))
        if self.fails is not None:
            error, self.fails = self.fails, None
            raise error
        return Proposal(self.lengths[sequence], self.confidence)

    def release(self, sequence: int) -> None:
        self.calls.append(("release", sequence))
        if self.release_fails is not None:
            raise self.release_fails

    def interrupt(self) -> None:
        return

    def close(self) -> None:
        return


@dataclass
class Bench:
    engine: NotingDraft = field(default_factory=NotingDraft)

    def __post_init__(self) -> None:
        self.inbox: Mailbox[EdgeEvent] = Mailbox("inbox", 10)
        self.drafter = Drafter(self.engine, ModelledCompute(Pace(STEP_S)), self.inbox, limit=10)


def step(number: int, *, session: int = 3) -> DraftNext:
    return DraftNext(number, session, 0, (Stretch((1, 2), prompt=True),), GREEDY, 77)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_step_keeps_feeds_and_guesses():
    async def main() -> None:
        bench = Bench()
        async with at_work(bench.drafter.run()):
            feed = (Stretch((7, 8), prompt=True), Stretch((9,), prompt=False))
            bench.drafter.tell(DraftNext(1, 3, 4, feed, GREEDY, 77))
            assert await bench.inbox.next() == TokenDrafted(1, 7, 0.5)
            assert now() == STEP_S
        assert bench.engine.calls == [
            ("truncate", 3, 4),
            ("extend", 3, True, 7, 8),
            ("extend", 3, False, 9),
            ("propose", 3, 77),
        ]

    run_virtually(main())


def test_orders_are_obeyed_one_after_the_other():
    async def main() -> None:
        bench = Bench()
        async with at_work(bench.drafter.run()):
            bench.drafter.tell(step(1))
            bench.drafter.tell(ReleaseDraft(3))
            bench.drafter.tell(step(2, session=4))
            assert await bench.inbox.next() == TokenDrafted(1, 2, 0.5)
            assert await bench.inbox.next() == TokenDrafted(2, 2, 0.5)
            assert now() == 2 * STEP_S
        assert [call[:2] for call in bench.engine.calls if call[0] in {"propose", "release"}] == [
            ("propose", 3),
            ("release", 3),
            ("propose", 4),
        ]

    run_virtually(main())


def test_a_step_in_flight_stops_when_told():
    async def main() -> None:
        bench = Bench()
        async with at_work(bench.drafter.run()):
            bench.drafter.tell(step(1))
            await asyncio.sleep(0.1)
            bench.drafter.abort(AbortStep(1))
            assert await bench.inbox.next() == StepAborted(1)
            assert now() == 0.1
            bench.drafter.tell(step(2))
            assert await bench.inbox.next() == TokenDrafted(2, 2, 0.5)

    run_virtually(main())


def test_a_step_that_has_not_begun_never_does():
    async def main() -> None:
        bench = Bench()
        async with at_work(bench.drafter.run()):
            bench.drafter.tell(step(1))
            bench.drafter.abort(AbortStep(1))
            assert await bench.inbox.next() == StepAborted(1)
        assert bench.engine.calls == []

    run_virtually(main())


def test_an_abort_that_comes_too_late_touches_no_other_step():
    async def main() -> None:
        bench = Bench()
        async with at_work(bench.drafter.run()):
            bench.drafter.tell(step(1))
            await bench.inbox.next()
            bench.drafter.tell(step(2))
            await asyncio.sleep(0.1)
            bench.drafter.abort(AbortStep(1))
            assert await bench.inbox.next() == TokenDrafted(2, 2, 0.5)

    run_virtually(main())


def test_an_abort_does_not_touch_a_release():
    async def main() -> None:
        bench = Bench()
        async with at_work(bench.drafter.run()):
            bench.drafter.tell(ReleaseDraft(3))
            bench.drafter.abort(AbortStep(1))
            bench.drafter.tell(step(2))
            assert await bench.inbox.next() == TokenDrafted(2, 2, 0.5)
        assert bench.engine.calls[0] == ("release", 3)

    run_virtually(main())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EngineError("planned"), "planned"),
        (IndexError("token 987654"), "its engine broke down; the log says more"),
    ],
    ids=["known", "unknown"],
)
def test_a_failing_engine_fails_the_step_and_the_next_one_runs(
    error: Exception, reason: str, caplog: pytest.LogCaptureFixture
):
    async def main() -> None:
        bench = Bench(NotingDraft(fails=error))
        async with at_work(bench.drafter.run()):
            bench.drafter.tell(step(1))
            assert await bench.inbox.next() == DraftFailed(1, reason)
            bench.drafter.tell(step(2))
            assert await bench.inbox.next() == TokenDrafted(2, 2, 0.5)

    run_virtually(main())
    assert "987654" not in caplog.text


def test_a_confidence_that_is_no_number_fails_the_step():
    async def main() -> None:
        bench = Bench(NotingDraft(confidence=math.nan))
        async with at_work(bench.drafter.run()):
            bench.drafter.tell(step(1))
            event = await bench.inbox.next()
            assert isinstance(event, DraftFailed)
            assert "no numbers (NaN)" in event.reason

    run_virtually(main())


@pytest.mark.parametrize("error", [EngineError("planned"), IndexError("unplanned")], ids=["known", "unknown"])
def test_a_release_that_fails_does_not_end_the_drafting(error: Exception):
    async def main() -> None:
        bench = Bench(NotingDraft(release_fails=error))
        async with at_work(bench.drafter.run()):
            bench.drafter.tell(ReleaseDraft(3))
            bench.drafter.tell(step(1))
            assert await bench.inbox.next() == TokenDrafted(1, 2, 0.5)

    run_virtually(main())
