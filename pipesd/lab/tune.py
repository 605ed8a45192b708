"""Tuners compared on shared recordings: how good their finds are, trial by trial, and what looking costs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from statistics import fmean

import numpy as np

from pipesd.engines.traces import SHIPPED
from pipesd.lab.jobs import Processes
from pipesd.lab.run import BASIS
from pipesd.lab.scenarios import COMPARED, SCENARIOS, Scenario
from pipesd.lab.tuned import FIXED, SPACE, Case, First, Found, Search, Whole, points
from pipesd.planner.trigger import Thresholds
from pipesd.session.trials import TRIAL_TOKENS
from pipesd.tuner.choose import TUNERS, TunerKind, make_tuner
from pipesd.tuning import TRIALS
from pipesd.values import Objective

SETTLED: Mapping[str, Thresholds | None] = {"closed-form": None, "fixed": FIXED}
"""Kinds that need no trial, and what they go by."""

BY_PLACE: tuple[TunerKind, ...] = ("paper", "random")
"""Kinds that go anywhere. What they find on the way is read off the table of the grid, between its points;
what they find at last is played."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What is compared, and how thoroughly."""

    traces: tuple[str, ...] = SHIPPED
    scenarios: tuple[Scenario, ...] = tuple(SCENARIOS[name] for name in COMPARED)
    wire: str = "ids"
    objective: Objective = "balanced"
    seeds: int = 20
    trials: int = TRIALS
    per_axis: int = 20
    """Points of the grid, each way."""

    tuners: tuple[TunerKind, ...] = TUNERS
    prompts_max: int | None = None
    """Of each recording; None: all."""

    @property
    def cases(self) -> list[Case]:
        """Every recording in every scenario."""
        return [
            Case(
                trace=trace,
                scenario=scenario,
                wire=self.wire,
                objective=self.objective,
                prompts_max=self.prompts_max,
            )
            for scenario, trace in product(self.scenarios, self.traces)
        ]

    def check(self) -> None:
        """Raise ``TraceError`` or ``UsageError`` if something in it cannot be played."""
        for case in self.cases:
            case.check()
        for kind in self.searching:
            make_tuner(kind, SPACE, 0)

    @property
    def searching(self) -> tuple[TunerKind, ...]:
        """The kinds that make trials."""
        return tuple(kind for kind in self.tuners if kind not in SETTLED)


@dataclass(frozen=True, slots=True)
class Table:
    """J of a case at each point of a grid, in ms per token."""

    per_axis: int
    costs_ms: Sequence[float]

    @property
    def least_ms(self) -> float:
        """At the best point."""
        return min(self.costs_ms)

    @property
    def best(self) -> Thresholds:
        """The best point."""
        return points(self.per_axis)[self.costs_ms.index(self.least_ms)]

    def at(self, thresholds: Thresholds) -> float:
        """J at a point, or between points, linearly along both axes."""
        table = np.array(self.costs_ms).reshape(self.per_axis, self.per_axis)
        place = np.array(SPACE.unit(thresholds)) * (self.per_axis - 1)
        low = np.minimum(place.astype(int), self.per_axis - 2)
        (r1, r2), (part_1, part_2) = low, place - low
        near = table[r1 : r1 + 2, r2 : r2 + 2]
        return float(np.array([1 - part_1, part_1]) @ near @ np.array([1 - part_2, part_2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a tuner did: means over seeds, or over cases as well."""

    regret_by_trial: tuple[float, ...]
    """By how much J of what was best so far is above that of the best point of the grid, as a share of it."""

    explore_cost: float
    """J of all tokens of the trials, over what the best point of the grid takes for the same."""

    @property
    def final_regret(self) -> float:
        """After the last trial."""
        return self.regret_by_trial[-1]

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "final_regret": self.final_regret,
            "regret_by_trial": list(self.regret_by_trial),
            "explore_cost": self.explore_cost,
        }


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """How all tuners did in one case."""

    case: Case
    table: Table
    tuners: Mapping[str, Outcome]

    def as_json(self) -> dict[str, object]:
        """For machines."""
        best = self.table.best
        return {
            "trace": self.case.trace,
            "scenario": self.case.scenario.name,
            "grid_best": {"r1": best.r1, "r2": best.r2, "j_ms": self.table.least_ms},
            "tuners": {kind: outcome.as_json() for kind, outcome in self.tuners.items()},
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """How all tuners did everywhere."""

    study: Study
    cases: Sequence[CaseOutcome]

    @property
    def tuners(self) -> dict[str, Outcome]:
        """Means over the cases."""
        return {kind: _mean([each.tuners[kind] for each in self.cases]) for kind in self.study.tuners}

    def worst(self, kind: str, trial: int) -> float:
        """The regret after so many trials in the case where it is greatest."""
        return max(each.tuners[kind].regret_by_trial[trial - 1] for each in self.cases)

    def as_json(self) -> dict[str, object]:
        """For machines."""
        study = self.study
        return {
            "tuners": {kind: outcome.as_json() for kind, outcome in self.tuners.items()},
            "cases": [each.as_json() for each in self.cases],
            "traces": list(study.traces),
            "scenarios": [scenario.name for scenario in study.scenarios],
            "wire": study.wire,
            "objective": study.objective,
            "seeds": study.seeds,
            "trials": study.trials,
            "trial_tokens": TRIAL_TOKENS,
            "grid": study.per_axis,
            "interpolated": {
                "tuners": [kind for kind in study.tuners if kind in BY_PLACE],
                "what": "regret_by_trial but for the last trial, between points of the grid",
            },
            "basis": BASIS,
        }


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        regret_by_trial=tuple(
            map(fmean, zip(*(outcome.regret_by_trial for outcome in outcomes), strict=True))
        ),
        explore_cost=fmean(outcome.explore_cost for outcome in outcomes),
    )


# -- playing ------------------------------------------------------------------------------------------------


def jobs_of(study: Study) -> int:
    """About how many plays a comparison takes; how many it is depends on what is found."""
    place_jobs = sum(kind in BY_PLACE for kind in study.tuners)
    settled = sum(kind in SETTLED for kind in study.tuners)
    per_seed = len(study.searching) + settled + 1 + place_jobs
    return len(study.cases) * (len(set(points(study.per_axis))) + settled + study.seeds * per_seed)


def compare(study: Study, processes: Processes) -> Comparison:
    """Play it all."""
    return Comparison(study, [_of_case(study, case, processes) for case in study.cases])


def _of_case(study: Study, case: Case, processes: Processes) -> CaseOutcome:
    seeds, tokens = range(study.seeds), study.trials * TRIAL_TOKENS
    settled = {kind: SETTLED[kind] for kind in study.tuners if kind in SETTLED}
    grid = points(study.per_axis)
    known = _Known(case)
    known.play([*grid, None], processes)
    table = known.table = Table(study.per_axis, [known.costs_ms[each] for each in grid])

    searches = [Search(case, kind, seed, study.trials) for kind in study.searching for seed in seeds]
    found = dict(zip(searches, processes.do(searches), strict=True))
    wanted = [each.bests[-1:] if search.kind in BY_PLACE else each.bests for search, each in found.items()]
    known.play([*chain.from_iterable(wanted), *settled.values()], processes)
    fixed = [First(case, each, seed, tokens) for each in (table.best, *settled.values()) for seed in seeds]
    first_ms = dict(zip(fixed, processes.do(fixed), strict=True))

    def outcome(kind: TunerKind, seed: int) -> Outcome:
        best_ms = first_ms[First(case, table.best, seed, tokens)]
        if kind in settled:
            took_ms = first_ms[First(case, settled[kind], seed, tokens)]
            regrets = (known.regret(settled[kind]),) * study.trials
        else:
            result = found[Search(case, kind, seed, study.trials)]
            took_ms, regrets = result.first_ms, known.regrets(result)
        return Outcome(regret_by_trial=regrets, explore_cost=took_ms / best_ms)

    return CaseOutcome(
        case, table, {kind: _mean([outcome(kind, seed) for seed in seeds]) for kind in study.tuners}
    )


class _Known:
    """J of whatever has been played of a case."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.costs_ms: dict[Thresholds | None, float] = {}
        self.table = Table(1, [])
        """Of the grid, as soon as it has been played."""

    def play(self, wanted: Iterable[Thresholds | None], processes: Processes) -> None:
        """Play what is not known yet."""
        unknown = [each for each in dict.fromkeys(wanted) if each not in self.costs_ms]
        jobs = [Whole(self._case, thresholds) for thresholds in unknown]
        self.costs_ms.update(zip(unknown, processes.do(jobs), strict=True))

    def regret(self, thresholds: Thresholds | None) -> float:
        """Against the best point of the grid."""
        cost_ms = self.costs_ms.get(thresholds)
        if cost_ms is None:
            assert thresholds is not None, "a case whose closed form was not played"
            cost_ms = self.table.at(thresholds)
        return cost_ms / self.table.least_ms - 1.0

    def regrets(self, found: Found) -> tuple[float, ...]:
        """After each trial."""
        return tuple(self.regret(thresholds) for thresholds in found.bests)
