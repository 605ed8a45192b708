"""The desk between an edge's reports and its tuner."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest

from pipesd.planner.trigger import Thresholds
from pipesd.tuner.base import Floats, Prior, Score, Space, Trial, Unit
from pipesd.tuner.score import ENERGY_MS_PER_J
from pipesd.tuning import TRIALS, Desk, Proposal
from pipesd.values import COST_WEIGHTS, Objective, TrialReport

SPACE = Space()
START = Thresholds()
PLACES: list[Unit | None] = [(0.2, 0.9), (0.5, 0.5), None]
HERE = (40.0, 2.0, 60.0, 5.0, 1.0, 90.0, 2.0)
VERDICTS = ((5, 200.0, 100.0, 0.0), (5, 220.0, 100.0, 0.0), (10, 180.0, 100.0, 0.0))
GOOD = TrialReport(0, VERDICTS, ((0.9, 0.8, True),) * 40 + ((0.4, 0.5, False),) * 10, (0.3,), HERE)


@dataclass
class Fake:
    """Tries one place after another, and remembers what it is told and what the model says of them all."""

    told: list[tuple[Trial, Score]] = field(default_factory=list)
    said: list[Floats | None] = field(default_factory=list)
    asked: int = 0
    forgot: int = 0

    def ask(self, prior: Prior | None = None) -> Trial:
        assert prior is not None
        self.said.append(prior(PLACES))
        self.asked += 1
        return Trial(self.asked, (0.1 * (self.asked % 10), 0.5))

    def tell(self, trial: Trial, score: Score) -> None:
        self.told.append((trial, score))

    def best(self, prior: Prior | None = None) -> Unit | None:
        assert prior is not None
        self.said.append(prior(PLACES))
        return (1.0, 0.0)

    def forget(self) -> None:
        self.forgot += 1


@dataclass
class Bench:
    """A desk whose edge reports on each trial that it was given."""

    objective: Objective = "balanced"
    fake: Fake = field(default_factory=Fake)

    def __post_init__(self) -> None:
        self.desk = Desk(self.fake, SPACE, self.objective, START)
        self.trial = 0

    def report(self, report: TrialReport = GOOD) -> Proposal:
        proposal = self.desk.advise(msgspec.structs.replace(report, trial=self.trial))
        self.trial = proposal.trial
        return proposal


@pytest.mark.parametrize("objective", COST_WEIGHTS)
def test_the_tuner_is_told_what_its_trial_cost(objective: Objective) -> None:
    bench = Bench(objective)
    assert bench.report() == Proposal(1, SPACE.thresholds((0.1, 0.5), START))
    assert bench.report() == Proposal(2, SPACE.thresholds((0.2, 0.5), START))
    assert [trial for trial, _ in bench.fake.told] == [Trial(0, None), Trial(1, (0.1, 0.5))]
    assert bench.fake.told[1][1].value_ms == pytest.approx((600.0 + COST_WEIGHTS[objective] * 300.0) / 20)
    assert bench.desk.told_trials == 2


def test_a_report_on_another_trial_is_not_counted() -> None:
    bench = Bench()
    bench.report()
    for other in (0, 2, 99):
        bench.desk.advise(msgspec.structs.replace(GOOD, trial=other))
    assert [trial.number for trial, _ in bench.fake.told if trial.number] == [2]
    assert bench.fake.asked == 4


@pytest.mark.parametrize(
    "verdicts",
    [
        (),
        ((20, 0.0, 0.0, 0.0),),
        ((20, 0.0, 300.0, 0.0),),
        ((20, 600.0, 0.0, 0.0),),
        ((0, 600.0, 300.0, 0.0),),
    ],
    ids=str,
)
def test_a_measurement_that_cannot_be_is_no_trial(
    verdicts: tuple[tuple[int, float, float, float], ...],
) -> None:
    bench = Bench()
    bench.report()
    proposal = bench.report(msgspec.structs.replace(GOOD, verdicts=verdicts))
    assert proposal.trial == 2
    assert bench.desk.told_trials == len(bench.fake.told) == 1
    bench.report()
    assert bench.desk.told_trials == len(bench.fake.told) == 2


def test_when_time_alone_counts_the_cloud_need_not_have_worked() -> None:
    bench = Bench("latency")
    bench.report(msgspec.structs.replace(GOOD, verdicts=((20, 600.0, 0.0, 0.0),)))
    assert bench.fake.told[0][1].value_ms == pytest.approx(30.0)


@pytest.mark.parametrize("conditions", [(), HERE[:-1], (*HERE, 1.0), (0.0, *HERE[1:]), (1.0,) * 16], ids=str)
def test_without_conditions_the_model_says_nothing(conditions: tuple[float, ...]) -> None:
    bench = Bench()
    bench.report(msgspec.structs.replace(GOOD, conditions_ms=conditions))
    assert bench.fake.said == [None]
    assert bench.desk.told_trials == 1


def test_with_few_drafts_the_model_says_nothing() -> None:
    bench = Bench()
    few = msgspec.structs.replace(GOOD, drafts=GOOD.drafts[:10])
    bench.report(few)
    bench.report(few)
    bench.report(few)
    assert bench.fake.said[:2] == [None, None]
    assert bench.fake.said[2] is not None


def said_of(bench: Bench) -> Sequence[float]:
    said = bench.fake.said[-1]
    assert said is not None
    assert np.isfinite(said).all()
    return [float(each) for each in said]


def test_the_model_says_what_the_objective_counts_of_each_place_in_order() -> None:
    said = {}
    for objective in COST_WEIGHTS:
        bench = Bench(objective)
        bench.report()
        said[objective] = said_of(bench)
    assert all(len(each) == len(PLACES) for each in said.values())
    for time, both, much in zip(*said.values(), strict=True):
        assert 0.0 < time < both < much


def test_the_model_speaks_of_conditions_as_they_are_now() -> None:
    bench = Bench()
    bench.report()
    before = said_of(bench)
    slower = tuple(2.0 * each for each in HERE)
    bench.report(msgspec.structs.replace(GOOD, conditions_ms=slower))
    assert [after / each for after, each in zip(said_of(bench), before, strict=True)] == pytest.approx(
        [2.0] * 3, rel=0.2
    )
    bench.report(msgspec.structs.replace(GOOD, conditions_ms=()))
    assert bench.fake.said[-1] is None


def test_energy_that_is_measured_counts_in_scores_and_in_the_model() -> None:
    """Here the target takes 1 kW, so that a millisecond of its work costs as much again in energy."""
    verdicts = tuple((tokens, took, cloud, 1_000.0 * cloud) for tokens, took, cloud, _ in VERDICTS)
    found = []
    for each in (VERDICTS, verdicts):
        bench = Bench("cost")
        bench.report(msgspec.structs.replace(GOOD, verdicts=each))
        found.append((bench.fake.told[0][1].value_ms, said_of(bench)))
    (plain_ms, plain), (dear_ms, dear) = found
    assert (plain_ms, dear_ms) == pytest.approx((90.0, 90.0 + 60.0 * ENERGY_MS_PER_J))
    assert all(more > 1.2 * less for more, less in zip(dear, plain, strict=True))


def varied(pace_ms: float) -> TrialReport:
    """Drafts of all kinds, whose confidence is what they are worth, at so much time per token."""
    luck = np.random.default_rng(7)
    confidences = (1.0 - 0.6 * luck.random(400) ** 3).tolist()
    drafts = tuple((each, each, bool(luck.random() < each)) for each in confidences)
    return msgspec.structs.replace(GOOD, drafts=drafts, verdicts=((20, 20 * pace_ms, 100.0, 0.0),))


@pytest.mark.parametrize("r1", [0.4, 0.6])
def test_the_closed_form_is_judged_by_the_r1_that_the_edge_has(r1: float) -> None:
    """It follows from the pace of late, which may be another than the model thinks."""
    bench = Bench("latency")
    bench.report(varied(HERE[0] / r1))
    others = (0.2, 0.4, 0.6)
    said = bench.desk._prior([*(SPACE.unit(Thresholds(r1=each, r2=START.r2)) for each in others), None])
    assert said is not None
    off = np.abs(said[:-1] - said[-1])
    assert others[int(off.argmin())] == r1
    assert off.min() < 0.02 * said[-1]


def test_where_every_draft_is_asked_about_the_closed_form_is_as_good_as_that() -> None:
    bench = Bench("latency")
    bench.report(varied(HERE[0] / 1.5))
    said = bench.desk._prior([(1.0, 0.5), (0.0, 0.0), None])
    assert said is not None
    assert said[2] == said[0]
    assert abs(said[2] - said[1]) > 1.0


def test_before_any_verdict_nothing_is_said_of_the_closed_form() -> None:
    bench = Bench()
    bench.report(msgspec.structs.replace(GOOD, verdicts=()))
    said = bench.fake.said[-1]
    assert said is not None
    assert np.isfinite(said).tolist() == [True, True, False]


def test_what_is_tried_now_can_be_kept_for_another_trial() -> None:
    bench = Bench()
    assert bench.desk.keep() == Proposal(1, None)
    bench.trial = 1
    proposal = bench.report()
    assert bench.desk.keep() == Proposal(3, proposal.thresholds)


def test_after_so_many_trials_the_best_is_kept() -> None:
    bench = Bench()
    for _ in range(TRIALS - 1):
        bench.report()
    assert bench.fake.asked == TRIALS - 1
    best = SPACE.thresholds((1.0, 0.0), START)
    numbers = []
    for _ in range(5):
        proposal = bench.report()
        assert proposal.thresholds == best
        numbers.append(proposal.trial)
    assert bench.fake.asked == TRIALS - 1
    assert numbers == sorted(set(numbers)), "each trial has a number of its own"
    assert bench.desk.best() == best


@pytest.mark.parametrize("changed", [0, 2, 5], ids=["draft", "link", "pass"])
def test_when_costs_change_for_good_the_trials_begin_anew(changed: int) -> None:
    bench = Bench()
    for _ in range(TRIALS + 10):
        bench.report()
    assert (bench.fake.asked, bench.fake.forgot) == (TRIALS - 1, 0)
    conditions = tuple(3.0 * each if number == changed else each for number, each in enumerate(HERE))
    other = msgspec.structs.replace(GOOD, conditions_ms=conditions)
    bench.report(other)
    assert bench.fake.forgot == 0, "one odd measurement is no change"
    for _ in range(12):
        bench.report(other)
    assert bench.fake.forgot >= 1
    assert bench.fake.asked > TRIALS - 1
    assert bench.desk.told_trials < TRIALS


def test_no_place_is_a_proposal_too() -> None:
    class Closed(Fake):
        def ask(self, prior: Prior | None = None) -> Trial:
            return Trial(super().ask(prior).number, None)

        def best(self, prior: Prior | None = None) -> Unit | None:
            return None

    bench = Bench(fake=Closed())
    proposals = [bench.report() for _ in range(TRIALS + 2)]
    assert [proposal.thresholds for proposal in proposals] == [None] * (TRIALS + 2)
    assert bench.desk.best() is None


def test_a_proposal_can_be_sent_anywhere() -> None:
    for thresholds in (None, Thresholds(0.5, 0.999, 8, 2)):
        proposal = Proposal(3, thresholds)
        again = msgspec.msgpack.decode(msgspec.msgpack.encode(proposal), type=Proposal)
        assert again == proposal
    assert math.isfinite(GOOD.conditions_ms[0])


@pytest.mark.parametrize(
    ("upper_tokens", "lower_tokens", "kept"),
    [(5, 1, (5, 1)), (0, 0, (1, 1)), (3, 9, (3, 3)), (2**53 - 1, 2, (2**53 - 1, 2))],
)
def test_the_edge_keeps_its_thresholds_that_are_not_tuned(
    upper_tokens: int, lower_tokens: int, kept: tuple[int, int]
) -> None:
    report = msgspec.structs.replace(GOOD, upper_tokens=upper_tokens, lower_tokens=lower_tokens)
    thresholds = Bench().report(report).thresholds
    assert thresholds is not None
    assert (thresholds.upper_tokens, thresholds.lower_tokens) == kept
