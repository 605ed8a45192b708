"""Plays whose thresholds are fixed, or tuned on the way, and what they cost. Each is a job for a process."""

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle, takewhile

from pipesd.engines.traces import Trace, TracePrompt, load
from pipesd.lab.heap import HeapPlay
from pipesd.lab.metrics import Figures
from pipesd.lab.run import Experiment, figures_of
from pipesd.lab.scenarios import Scenario
from pipesd.planner.trigger import Thresholds
from pipesd.session.trials import TRIAL_TOKENS
from pipesd.tuner.base import Space
from pipesd.tuner.choose import TunerKind, make_tuner
from pipesd.tuning import Desk, Proposal
from pipesd.values import COST_WEIGHTS, Objective, TrialReport

SPACE = Space()
START = Thresholds()
FIXED = Thresholds(r1=0.2, r2=0.99)
"""The constant that tuners are compared with."""

_MARGIN = 2.5
"""Trials end with a verdict, and what was drafted before one began is no part of it: so many times its tokens
are enough for each."""


EVERY_DRAFT = Thresholds(r1=1.0, r2=1.0)
"""A verdict is asked for on each. If one threshold is 1, it does not matter what the other is."""


def points(per_axis: int) -> list[Thresholds]:
    """The thresholds of a grid, evenly spread in the logarithm of what is missing to 1."""
    return [_as_played(SPACE.thresholds(unit, START)) for unit in SPACE.grid(per_axis)]


def _as_played(thresholds: Thresholds) -> Thresholds:
    return EVERY_DRAFT if 1.0 in {thresholds.r1, thresholds.r2} else thresholds


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Where thresholds are looked for."""

    trace: str
    """A recording, or the name of one that comes with pipesd."""

    scenario: Scenario
    wire: str = "ids"
    objective: Objective = "balanced"
    prompts_max: int | None = None
    """Of the recording; None: all."""

    def experiment(self, trace: Trace, thresholds: Thresholds | None, seed: int = 0) -> Experiment:
        """``trace`` with these thresholds, or for None with the closed form."""
        given = {} if thresholds is None else {"r1": thresholds.r1, "r2": thresholds.r2}
        return Experiment(
            trace=trace,
            scenario=self.scenario,
            changed=given,
            wire=self.wire,
            seed=seed,
            objective=None if given else self.objective,
        )

    def check(self) -> None:
        """Raise ``TraceError`` or ``UsageError`` if it cannot be played."""
        self.experiment(self.recording, None).play  # noqa: B018

    @property
    def recording(self) -> Trace:
        """What is written."""
        return _trace_named(self.trace, self.prompts_max)


@cache
def _trace_named(name: str, prompts_max: int | None) -> Trace:
    whole = load([name])
    return replace(whole, prompts=whole.prompts[:prompts_max])


def cost_ms(figures: Figures, objective: Objective) -> float:
    """J: the time per token, and the weighted work of the cloud."""
    return figures.tpt_ms + COST_WEIGHTS[objective] * figures.cloud_ms_per_100 / 100


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole recording with fixed thresholds; None is the closed form."""

    case: Case
    thresholds: Thresholds | None

    def __call__(self) -> float:
        """J, in ms per token."""
        experiment = self.case.experiment(self.case.recording, self.thresholds)
        record = HeapPlay(experiment.play).play()
        return cost_ms(figures_of(experiment, record), self.case.objective)


@dataclass(frozen=True, slots=True)
class First:
    """The first tokens of the recording's prompts, in an order that follows from the seed."""

    case: Case
    thresholds: Thresholds | None
    seed: int
    tokens: int

    def __call__(self) -> float:
        """J of them, in ms per token."""
        experiment = self.case.experiment(
            shuffled(self.case.recording, self.seed, self.tokens), self.thresholds, self.seed
        )
        play = HeapPlay(experiment.play)
        return _first_ms(experiment, play, self.tokens, self.case.objective)


@dataclass(frozen=True, slots=True)
class Found:
    """What a tuner came to."""

    bests: tuple[Thresholds | None, ...]
    """What it would have gone on with after each trial."""

    first_ms: float
    """J of all tokens of the trials."""


@dataclass(frozen=True, slots=True)
class Search:
    """A tuner at work on prompts in an order that follows from the seed."""

    case: Case
    kind: TunerKind
    seed: int
    trials: int

    def __call__(self) -> Found:
        """Play for so many trials."""
        case, tokens = self.case, self.trials * TRIAL_TOKENS
        trace = shuffled(case.recording, self.seed, round(_MARGIN * tokens))
        experiment = case.experiment(trace, None, self.seed)
        tuner = make_tuner(self.kind, SPACE, self.seed, unit=SPACE.unit(FIXED))
        desk = _Watched(Desk(tuner, SPACE, case.objective, START), self.trials)
        play = HeapPlay(experiment.play, desk=desk)
        first_ms = _first_ms(experiment, play, tokens, case.objective)
        return Found(tuple(desk.bests), first_ms)


class _Watched:
    """A desk that is asked after each trial what it would go on with, and no more after the last."""

    def __init__(self, desk: Desk, trials: int) -> None:
        self._desk = desk
        self._trials = trials
        self._proposal = Proposal(0, None)
        self.bests: list[Thresholds | None] = []

    def advise(self, report: TrialReport) -> Proposal:
        """As the desk does."""
        if len(self.bests) < self._trials:
            self._proposal = self._desk.advise(report)
            best = copy.deepcopy(self._desk).best()  # being asked may change a tuner's mind
            self.bests.append(best and _as_played(best))
        return self._proposal


def shuffled(trace: Trace, seed: int, tokens: int) -> Trace:
    """Its prompts in another order, as many as so many tokens take; again from the first if need be."""
    order = list(trace.prompts)
    random.Random(f"order {seed}").shuffle(order)
    chosen: list[TracePrompt] = []
    for prompt in cycle(order):
        if tokens <= 0:
            break
        chosen.append(prompt)
        tokens -= len(prompt.target)
    return replace(trace, prompts=tuple(chosen))


def _first_ms(experiment: Experiment, play: HeapPlay, tokens: int, objective: Objective) -> float:
    """J up to the verdict that confirms the last of so many tokens."""
    record = play.play()
    figures_of(experiment, record)
    confirmed, took_s, until = 0, 0.0, 0.0
    for answer in record.answers:
        before = answer.begun_s
        for until, count in answer.moments:
            took_s += until - before
            before = until
            confirmed += count
            if confirmed >= tokens:
                return _per_token_ms(confirmed, took_s, until, play.passes, objective)
    return _per_token_ms(confirmed, took_s, until, play.passes, objective)


def _per_token_ms(
    tokens: int, took_s: float, until: float, passes: Sequence[tuple[float, float]], objective: Objective
) -> float:
    cloud_s = sum(each_s for _, each_s in takewhile(lambda ended: ended[0] <= until, passes))
    return 1e3 * (took_s + COST_WEIGHTS[objective] * cloud_s) / tokens
