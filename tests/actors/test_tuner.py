"""The tuner at work, at the edge and at the cloud: scripted, at once, and in a process of its own."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import psutil
import pytest
import uvloop

from pipesd.actors.mailbox import Mailbox, MailboxFullError
from pipesd.actors.tuner import AtOnce, Door, OwnProcess, Tuner
from pipesd.errors import EngineError
from pipesd.lab.clock import run_virtually
from pipesd.lab.link import LinkModel
from pipesd.planner.policies import POLICIES
from pipesd.planner.trigger import Thresholds
from pipesd.session import commands, events
from pipesd.session.rules import CloudRules, EdgeRules
from pipesd.tuning import Proposal
from pipesd.tuning_worker import Order
from pipesd.values import Proposal as Guess
from pipesd.values import Sampling, TrialReport, TunerPlace
from pipesd.wire import frames
from tests.actors.helpers import (
    HELLO,
    LoopFactory,
    answer_of,
    at_work,
    both_loops,
    caller,
    quick_plan,
    run_on,
    serving,
    turns,
)
from tests.actors.rig import END, EndlessTarget, Plan, ToyDraft, edge, endless_next, gateway, generate
from tests.session.world import roll

TOKENS = 300
REPORT = TrialReport(0, ((20, 900.0, 300.0, 0.0),), ((0.9, 0.8, True),), (), ())
TRIED = [None, Thresholds(0.5, 0.9, 4, 1), Thresholds(0.1, 0.2, 8, 2)]

Place = tuple[TunerPlace, bool]
"""What the edge is told, and whether the cloud tunes."""

places = pytest.mark.parametrize(
    "place", [("edge", False), ("auto", False), ("cloud", True), ("auto", True)], ids=str
)


# -- actors by themselves -----------------------------------------------------------------------------------


@dataclass
class Scripted:
    """Proposes one after another, and raises what is to be raised; ``orders`` are what it was asked."""

    proposals: Sequence[Thresholds | Exception | None] = tuple(TRIED)
    orders: list[Order] = field(default_factory=list)
    closed: int = 0

    async def ask(self, order: Order) -> Proposal | None:
        self.orders.append(order)
        if order.report is None:
            return None
        await asyncio.sleep(0)
        number = len(self.orders)
        proposal = self.proposals[(number - 1) % len(self.proposals)]
        if isinstance(proposal, Exception):
            raise proposal
        return Proposal(number, proposal)

    async def close(self) -> None:
        self.closed += 1


@dataclass
class Desk:
    """A tuner and the inbox it reports to."""

    door: Door
    limit: int = 2

    def __post_init__(self) -> None:
        self.inbox: Mailbox[tuple[int, Proposal]] = Mailbox("test", 8)
        self.tuner = Tuner(self.door, self.inbox, lambda client, said: (client, said), limit=self.limit)


def test_orders_are_answered_one_after_another() -> None:
    async def main() -> None:
        door = Scripted()
        desk = Desk(door, limit=4)
        async with at_work(desk.tuner.run()):
            for client in (7, 8):
                desk.tuner.tell(Order(client, "cost", REPORT))
            assert await desk.inbox.next() == (7, Proposal(1, TRIED[0]))
            assert await desk.inbox.next() == (8, Proposal(2, TRIED[1]))
        assert (door.orders[0].objective, door.closed) == ("cost", 1)

    run_virtually(main())


def test_a_client_that_has_gone_gets_no_answer() -> None:
    async def main() -> None:
        door = Scripted()
        desk = Desk(door)
        async with at_work(desk.tuner.run()):
            desk.tuner.tell(Order(7, "cost", None))
            desk.tuner.tell(Order(8, "cost", REPORT))
            assert await desk.inbox.next() == (8, Proposal(2, TRIED[1]))
        assert [order.client for order in door.orders] == [7, 8]

    run_virtually(main())


def test_orders_are_bounded() -> None:
    async def main() -> None:
        desk = Desk(Scripted(), limit=1)
        desk.tuner.tell(Order(1, "cost", REPORT))
        with pytest.raises(MailboxFullError, match="tuner"):
            desk.tuner.tell(Order(2, "cost", REPORT))

    run_virtually(main())


@pytest.mark.parametrize("fault", [EngineError("it is gone"), ZeroDivisionError("one of ours")], ids=repr)
def test_a_door_that_fails_is_reported_once_closed_and_never_asked_again(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        door = Scripted([fault])
        desk = Desk(door)
        async with at_work(desk.tuner.run()):
            for _ in range(20):
                desk.tuner.tell(Order(1, "cost", REPORT))
                await turns()
        assert (len(door.orders), door.closed, len(desk.inbox)) == (1, 1, 0)

    with caplog.at_level(logging.DEBUG):
        run_virtually(main())
    (line,) = [record for record in caplog.records if record.name == "pipesd.tuner"]
    assert "thresholds are not tuned any more" in line.getMessage()
    assert ("it is gone" in line.getMessage()) == (line.exc_info is None)


# -- both sides ---------------------------------------------------------------------------------------------


class Fickle(ToyDraft):
    """Guesses what the endless target says three times in four; of some it is sure."""

    def propose(self, sequence: int, sampling: Sampling, seed: int) -> Guess:
        context = self.caches[sequence]
        dice = roll("fickle", context[-8:])
        right = endless_next(context)
        if dice % 4:
            return Guess(right, 0.6 + 0.4 * (dice % 97) / 97)
        return Guess((right + 1) % END, 0.2 + 0.7 * (dice % 97) / 97)


@dataclass
class Watching:
    """What was proposed to the edge, how many asks it sent, and how often it reported."""

    proposed: list[tuple[int, bool]] = field(default_factory=list)
    asks: int = 0
    reports: int = 0

    def observe(self, now: float, event: object, answer: Sequence[object]) -> None:
        match event:
            case events.ThresholdsProposed(trial, thresholds):
                self.proposed.append((trial, thresholds is not None))
            case events.FrameReceived(frames.Thresholds(trial, r1)):
                self.proposed.append((trial, r1 is not None))
            case _:
                pass
        for command in answer:
            match command:
                case commands.SendFrame(frames.Draft(_, _, _, _, ask)):
                    self.asks += ask > 0
                case commands.TuneThresholds() | commands.SendFrame(frames.Telemetry()):
                    self.reports += 1
                case _:
                    pass


def plan_of(place: Place, door: Door | None = None, **changes: Any) -> Plan:
    tuner, tunes = place
    way = LinkModel(delay_s=0.015)
    plan = Plan(
        rules=EdgeRules(policy=POLICIES["pipesd"], tuner=tuner),
        cloud_rules=CloudRules(tunes=tunes),
        up=way,
        down=way,
        target=EndlessTarget(),
        edge_tuning=None if tunes else door,
        cloud_tuning=door if tunes else None,
    )
    return replace(plan, **changes)


async def told(plan: Plan, tokens: int = TOKENS) -> tuple[list[int], Watching]:
    """An answer, and what was seen of the tuner; whatever was at work for it is over."""
    watching, before = Watching(), asyncio.all_tasks()
    async with (
        gateway(plan) as served,
        edge(replace(plan, observers=[watching]), served, Fickle()) as runtime,
    ):
        output = await generate(runtime, [1, 2], tokens_max=tokens)
    assert asyncio.all_tasks() == before
    return output, watching


def untuned() -> tuple[list[int], Watching]:
    return run_virtually(told(plan_of(("off", False))))


@places
def test_what_is_proposed_is_used_and_the_text_is_the_same(place: Place) -> None:
    door = Scripted()
    expected, alone = untuned()
    output, watching = run_virtually(told(plan_of(place, door)))
    assert output == expected
    assert (alone.reports, alone.proposed) == (0, [])
    assert len(watching.proposed) >= 5
    assert watching.proposed[:3] == [(1, False), (2, True), (3, True)]
    assert [order.report.trial for order in door.orders[:3] if order.report] == [0, 1, 2]
    assert watching.asks != alone.asks
    assert door.closed == 1


def test_the_cloud_tells_the_tuner_when_a_peer_leaves() -> None:
    door = Scripted()
    run_virtually(told(plan_of(("cloud", True), door)))
    assert [order.report is None for order in door.orders] == [False] * (len(door.orders) - 1) + [True]
    assert {order.client for order in door.orders} == {door.orders[-1].client}


@places
def test_the_tuner_itself_proposes_thresholds_and_the_text_is_the_same(place: Place) -> None:
    expected, alone = untuned()
    output, watching = run_virtually(told(plan_of(place, AtOnce())))
    assert output == expected
    assert any(given for _, given in watching.proposed), "it never had an idea of its own"
    assert watching.reports in {len(watching.proposed), len(watching.proposed) + 1}
    assert watching.asks != alone.asks


@places
@pytest.mark.parametrize("fault", [EngineError("it is gone"), ZeroDivisionError("one of ours")], ids=repr)
def test_a_tuner_that_fails_is_reported_once_and_the_text_goes_on(
    place: Place, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    door = Scripted([TRIED[1], fault])
    output, watching = run_virtually(told(plan_of(place, door)))
    assert output == untuned()[0]
    assert (watching.proposed, watching.reports) == ([(1, True)], 2)
    assert len([record for record in caplog.records if record.name == "pipesd.tuner"]) == 1
    assert door.closed == 1


@places
def test_a_tuner_that_never_answers_holds_up_nothing(place: Place) -> None:
    @dataclass
    class Silent(Scripted):
        async def ask(self, order: Order) -> Proposal | None:
            await asyncio.sleep(3_600)
            return None

    expected, alone = untuned()
    plan = plan_of(place, Silent())
    latency = replace(plan.rules, objective="latency")  # R1 is then that without a tuner
    output, watching = run_virtually(told(replace(plan, rules=latency)))
    assert output == expected
    assert (watching.reports, watching.proposed) == (1, [])
    assert watching.asks == alone.asks


@both_loops
def test_a_flood_of_reports_ends_nothing(loop_factory: LoopFactory) -> None:
    """Nor do peers that report, and are gone before they are answered."""

    async def main() -> None:
        release = asyncio.Event()

        class Slow(Scripted):
            async def ask(self, order: Order) -> Proposal | None:
                await release.wait()
                return await super().ask(order)

        door = Slow()
        plan = quick_plan(cloud_rules=CloudRules(tunes=True, connections_max=3), cloud_tuning=door)
        telemetry = frames.Telemetry("balanced", REPORT)
        async with serving(plan) as address:
            for _ in range(20):
                async with caller(address) as peer:
                    await peer.say(HELLO, *[telemetry] * 50, frames.Ping(1))
                    while not isinstance(await peer.hear(), frames.Pong):
                        pass
            release.set()
            assert await answer_of(plan, address) is not None
        assert len([order for order in door.orders if order.report]) <= 3

    run_on(loop_factory, main())


# -- a process of its own -----------------------------------------------------------------------------------

PATIENCE_S = 60.0


async def first_answer(door: OwnProcess) -> tuple[Proposal, psutil.Process]:
    """What is proposed at first, and the process behind it."""
    mine = psutil.Process()
    before = set(mine.children())
    proposal = await door.ask(Order(1, "balanced", REPORT))
    (worker,) = set(mine.children()) - before
    assert proposal is not None
    return proposal, worker


@asynccontextmanager
async def own_process() -> AsyncIterator[OwnProcess]:
    door = OwnProcess()
    async with asyncio.timeout(PATIENCE_S):
        try:
            yield door
        finally:
            await door.close()


async def test_a_process_answers_is_ended_and_leaves_no_orphan() -> None:
    async with own_process() as door:
        proposal, worker = await first_answer(door)
        assert proposal.trial == 1
        assert await door.ask(Order(2, "cost", None)) is None
        second = await door.ask(Order(1, "balanced", msgspec.structs.replace(REPORT, trial=1)))
        assert second is not None
        assert second.trial == 2
        worker.kill()
        with pytest.raises(EngineError, match="process has ended"):
            await door.ask(Order(1, "balanced", REPORT))
    assert not worker.is_running()


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_process_that_has_ended_long_ago_is_said_to_have(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        async with own_process() as door:
            _, worker = await first_answer(door)
            worker.kill()
            assert door._process is not None
            await door._process.wait()
            for _ in range(2):
                with pytest.raises(EngineError, match="process has ended"):
                    await door.ask(Order(1, "balanced", REPORT))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


async def test_closing_ends_a_process_that_is_at_work() -> None:
    others = set(psutil.Process().children())  # such as multiprocessing's tracker of resources
    async with own_process() as door:
        asking = Mailbox[Proposal | None]("test", 1)

        async def ask() -> None:
            await asking.report(await door.ask(Order(1, "balanced", REPORT)))

        async with at_work(ask()):
            while not (workers := set(psutil.Process().children()) - others):
                await turns()
        await door.close()
        assert [worker for worker in workers if worker.is_running()] == []
    assert len(asking) == 0


async def test_no_process_is_started_for_a_client_that_has_gone() -> None:
    async with own_process() as door:
        before = psutil.Process().children()
        assert await door.ask(Order(1, "balanced", None)) is None
        assert psutil.Process().children() == before


async def test_a_process_that_cannot_be_started_is_an_engine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "no-such-program")
    async with own_process() as door:
        with pytest.raises(EngineError, match="cannot be started: No such file"):
            await door.ask(Order(1, "balanced", REPORT))
