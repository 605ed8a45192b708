"""Conditions that change, and thresholds that follow: the tuner beside those who know what is coming.

An oracle switches, the moment a condition changes, to the thresholds that are best if it holds all the time.
The closed form is none of its choices: it is measured, and so behind the times for a while.

Conditions go by the clock: who is quicker in a bad one writes more of the text in it. So J is found for each
condition, and the conditions count alike for all who are compared: as much as they did for the closed form.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean

from pipesd.engines.traces import SHIPPED
from pipesd.lab.cycle import Cycle
from pipesd.lab.emulator import both_ways
from pipesd.lab.heap import HeapPlay, Timetable
from pipesd.lab.jobs import Processes
from pipesd.lab.run import BASIS, figures_of
from pipesd.lab.scenarios import SCENARIOS, Scenario
from pipesd.lab.tuned import SPACE, START, Case, points, shuffled
from pipesd.lab.wires import uplink_of
from pipesd.planner.trigger import Thresholds
from pipesd.tuner.choose import make_tuner
from pipesd.tuning import Desk
from pipesd.values import COST_WEIGHTS, Objective

BANDS = 5
"""Rates that are drawn differ; so many bands of them, equally wide, count as conditions."""

_BITS_PER_BYTE = 8

WORLDS = (("s4", "full-distribution"), ("wifi-4g", "ids"), ("throttled", "ids"))
"""Scenarios that change, and the wire under which it matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftStudy:
    """What is compared, and how thoroughly."""

    traces: tuple[str, ...] = SHIPPED
    worlds: tuple[tuple[Scenario, str], ...] = tuple((SCENARIOS[name], wire) for name, wire in WORLDS)
    objective: Objective = "balanced"
    seeds: int = 3
    tokens: int = 2_500
    """How long is played, at least; a recording that is shorter begins again."""

    per_axis: int = 10
    """Points of the grid of fixed thresholds, each way."""

    @property
    def cases(self) -> list[Case]:
        """Every recording in every world."""
        return [
            Case(trace=trace, scenario=scenario, wire=wire, objective=self.objective)
            for (scenario, wire), trace in product(self.worlds, self.traces)
        ]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a scenario is at times; one that never changes has one condition."""

    scenarios: tuple[Scenario, ...]
    """It, as if each of them held for good."""

    at: Callable[[float], int]
    """Which of them holds, or is nearest, at a moment."""


def conditions_of(case: Case, seed: int) -> Conditions:
    """Those of its scenario, with the link's luck of this seed."""
    scenario = case.scenario
    if scenario.up_range_bits_per_s is None:
        values = scenario.course.values
        spans = [phase.duration_s for phase in scenario.phases] or [math.inf]
        return Conditions(tuple(values), Cycle(list(zip(spans, range(len(values)), strict=True))).at)
    lowest, highest = scenario.up_range_bits_per_s
    width = (highest - lowest) / BANDS
    up, _ = both_ways(uplink_of(scenario.uplink, case.wire), scenario.downlink, seed)

    def band(moment: float) -> int:
        bits_per_s = _BITS_PER_BYTE * up.bytes_per_s(moment)
        return min(BANDS - 1, int((bits_per_s - lowest) / width)) if width else 0

    return Conditions(
        tuple(_at_rate(scenario, lowest + (number + 0.5) * width) for number in range(BANDS)), band
    )


def _at_rate(scenario: Scenario, up_bits_per_s: float) -> Scenario:
    """Its link at one rate upward, and downward in the middle of what is drawn."""
    down = scenario.down_range_bits_per_s
    return replace(
        scenario,
        changes_every_s=0.0,
        up_range_bits_per_s=None,
        down_range_bits_per_s=None,
        up_bits_per_s=up_bits_per_s,
        down_bits_per_s=scenario.down_bits_per_s if down is None else fmean(down),
    )


# -- plays --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Taken:
    """What a play took in each condition."""

    tokens: tuple[int, ...]
    costs_ms: tuple[float, ...]
    """J of all of them."""

    @property
    def total_ms(self) -> float:
        """J per token."""
        return sum(self.costs_ms) / sum(self.tokens)

    def mixed_ms(self, like: "Taken") -> float:
        """J per token if the conditions had the shares of the text that they have in another play.

        A condition that one of the two did not meet does not count.
        """
        met = [
            (count, cost_ms / tokens)
            for count, tokens, cost_ms in zip(like.tokens, self.tokens, self.costs_ms, strict=True)
            if tokens
        ]
        return sum(count * token_ms for count, token_ms in met) / sum(count for count, _ in met)


@dataclass(frozen=True, slots=True)
class Long:
    """A recording, long enough, with thresholds that do not follow; None is the closed form."""

    case: Case
    thresholds: Thresholds | None
    seed: int
    tokens: int

    def __call__(self) -> Taken:
        """Play it."""
        return _taken(self.case, self.thresholds, self.seed, self.tokens)


@dataclass(frozen=True, slots=True)
class Guided:
    """The same with the tuner at work, from the first trial to the end."""

    case: Case
    seed: int
    tokens: int

    def __call__(self) -> Taken:
        """Play it."""
        tuner = make_tuner("model-guided", SPACE, self.seed)
        desk = Desk(tuner, SPACE, self.case.objective, START)
        return _taken(self.case, None, self.seed, self.tokens, desk=desk)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """The same with the best thresholds of each condition, as soon as it holds."""

    case: Case
    bests: tuple[Thresholds, ...]
    """In the order of the conditions."""

    seed: int
    tokens: int

    def __call__(self) -> Taken:
        """Play it."""
        at = conditions_of(self.case, self.seed).at
        return _taken(
            self.case, None, self.seed, self.tokens, timetable=lambda moment: self.bests[at(moment)]
        )


def _taken(
    case: Case,
    thresholds: Thresholds | None,
    seed: int,
    tokens: int,
    *,
    desk: Desk | None = None,
    timetable: Timetable | None = None,
) -> Taken:
    experiment = case.experiment(shuffled(case.recording, seed, tokens), thresholds, seed)
    play = HeapPlay(experiment.play, desk=desk, timetable=timetable)
    record = play.play()
    figures_of(experiment, record)
    conditions, weight = conditions_of(case, seed), COST_WEIGHTS[case.objective]
    counts = [0] * len(conditions.scenarios)
    took_s = [0.0] * len(counts)
    for answer in record.answers:
        before = answer.begun_s
        for moment, confirmed in answer.moments:
            place = conditions.at(moment)
            counts[place] += confirmed
            took_s[place] += moment - before
            before = moment
    for ended, worked_s in play.passes:
        took_s[conditions.at(ended)] += weight * worked_s
    return Taken(tuple(counts), tuple(1e3 * each for each in took_s))


# -- comparing them -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftOutcome:
    """J in ms per token, means over seeds, of one recording in one world."""

    case: Case
    costs_ms: Mapping[str, float]
    """Of ``model-guided``, ``closed-form``, ``best fixed`` and ``oracle``, conditions counting alike."""

    totals_ms: Mapping[str, float]
    """The same of the text as it came."""

    best_fixed: Thresholds
    best_of_conditions: tuple[Thresholds, ...]

    def ratio(self, name: str, other: str) -> float:
        """The cost of one over that of another."""
        return self.costs_ms[name] / self.costs_ms[other]

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "trace": self.case.trace,
            "scenario": self.case.scenario.name,
            "wire": self.case.wire,
            "j_ms": dict(self.costs_ms),
            "total_j_ms": dict(self.totals_ms),
            "best_fixed": _as_json(self.best_fixed),
            "best_of_conditions": [_as_json(each) for each in self.best_of_conditions],
            "tuned_over_oracle": self.ratio("model-guided", "oracle"),
            "tuned_over_best_fixed": self.ratio("model-guided", "best fixed"),
        }


def _as_json(thresholds: Thresholds) -> object:
    return {"r1": thresholds.r1, "r2": thresholds.r2}


@dataclass(frozen=True, slots=True)
class DriftComparison:
    """All of them."""

    study: DriftStudy
    outcomes: Sequence[DriftOutcome]

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "cases": [outcome.as_json() for outcome in self.outcomes],
            "seeds": self.study.seeds,
            "tokens": self.study.tokens,
            "grid": self.study.per_axis,
            "basis": BASIS,
        }


def plays_of(study: DriftStudy) -> int:
    """How many plays a comparison takes."""
    fixed = len(set(points(study.per_axis)))
    alone = sum(len(conditions_of(case, 0).scenarios) for case in study.cases)
    return fixed * alone + len(study.cases) * study.seeds * (fixed + 3)


def compare_drift(study: DriftStudy, processes: Processes) -> DriftComparison:
    """Play it all."""
    return DriftComparison(study, [_outcome(study, case, processes) for case in study.cases])


def _outcome(study: DriftStudy, case: Case, processes: Processes) -> DriftOutcome:
    seeds, tokens, grid = range(study.seeds), study.tokens, list(dict.fromkeys(points(study.per_axis)))
    bests = []
    for scenario in conditions_of(case, 0).scenarios:
        alone = replace(case, scenario=scenario)
        taken = processes.do([Long(alone, each, 0, tokens) for each in grid])
        bests.append(_cheapest(grid, [each.total_ms for each in taken]))

    fixed = processes.do([Long(case, each, seed, tokens) for each in grid for seed in seeds])
    found = {
        "model-guided": processes.do([Guided(case, seed, tokens) for seed in seeds]),
        "closed-form": processes.do([Long(case, None, seed, tokens) for seed in seeds]),
        "oracle": processes.do([Foreseen(case, tuple(bests), seed, tokens) for seed in seeds]),
    }
    usual = found["closed-form"]
    by_point = [fixed[at : at + study.seeds] for at in range(0, len(fixed), study.seeds)]
    grid_ms = [_mixed_ms(each, usual) for each in by_point]
    return DriftOutcome(
        case=case,
        costs_ms={name: _mixed_ms(each, usual) for name, each in found.items()}
        | {"best fixed": min(grid_ms)},
        totals_ms={name: _total_ms(each) for name, each in found.items()}
        | {"best fixed": min(map(_total_ms, by_point))},
        best_fixed=_cheapest(grid, grid_ms),
        best_of_conditions=tuple(bests),
    )


def _mixed_ms(taken: Sequence[Taken], usual: Sequence[Taken]) -> float:
    return fmean(each.mixed_ms(like) for each, like in zip(taken, usual, strict=True))


def _total_ms(taken: Sequence[Taken]) -> float:
    return fmean(each.total_ms for each in taken)


def _cheapest(thresholds: Sequence[Thresholds], costs_ms: Sequence[float]) -> Thresholds:
    return thresholds[costs_ms.index(min(costs_ms))]
