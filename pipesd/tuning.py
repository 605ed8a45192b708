"""A tuner with what it knows: one report on a trial in, one proposal out.

Pure. It stands behind the tuner actor at the edge, behind the cloud's for each of its edges, and in the lab.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipesd.errors import UsageError
from pipesd.planner.estimates import WINDOW
from pipesd.planner.forecast import Candidates, Conditions, Record, forecast
from pipesd.planner.trigger import Thresholds
from pipesd.tuner.base import Space, Trial, Tuner, Unit, Verdicted, Window
from pipesd.tuner.closed_form import closed_form_r1
from pipesd.tuner.drift import Drift
from pipesd.tuner.guided import smoothed
from pipesd.tuner.score import ENERGY_MS_PER_J, score
from pipesd.values import COST_WEIGHTS, Objective, TrialReport

TRIALS = 16
"""After so many the best is kept, as conditions have it."""

RECORD_DRAFTS = 400
"""Drafts that the model rests on."""

_R1 = Space(("r1",))
_R1_PLACES = 20
"""The closed form's J is looked for among so many R1, as far apart as the candidates of a tuner are."""

_ASTRAY_DRAFTS = 64
_MODEL_DRAFTS_MIN = 24
"""With fewer the model says nothing."""


class Proposal(msgspec.Struct, frozen=True, array_like=True):
    """What is to be tried next."""

    trial: int
    thresholds: Thresholds | None
    """None leaves R1 to the closed form."""


class Desk:
    """Decides for one edge."""

    def __init__(self, tuner: Tuner, space: Space, objective: Objective, start: Thresholds) -> None:
        self._tuner = tuner
        self._space = space
        self._objective: Objective = objective
        self._start = start
        self._drift = Drift()
        self._drafts: deque[tuple[float, float, bool]] = deque(maxlen=RECORD_DRAFTS)
        self._astray: deque[float] = deque(maxlen=_ASTRAY_DRAFTS)
        self._latest: deque[Verdicted] = deque(maxlen=WINDOW)
        """As many as the edge's own closed form goes by."""

        self._conditions: Conditions | None = None
        self._trial = Trial(0, None)
        self.told_trials = 0
        """How many trials have counted so far."""

    def advise(self, report: TrialReport) -> Proposal:
        """Learn from a trial, and say what comes next."""
        self._start = _kept(self._start, report.upper_tokens, report.lower_tokens)
        self.learn(report.drafts, report.astray, report.conditions_ms)
        self._tell(report)
        if self.told_trials < TRIALS:
            unit = self._tuner.ask(self._prior).unit
        else:
            unit = self._tuner.best(self._prior)
        self._trial = Trial(self._trial.number + 1, unit)
        return Proposal(self._trial.number, self._thresholds(self._trial.unit))

    def keep(self) -> Proposal:
        """Another trial of what is tried now."""
        self._trial = Trial(self._trial.number + 1, self._trial.unit)
        return Proposal(self._trial.number, self._thresholds(self._trial.unit))

    def best(self) -> Thresholds | None:
        """What to go on with if there were no more trials."""
        return self._thresholds(self._tuner.best(self._prior))

    def learn(
        self,
        drafts: Iterable[tuple[float, float, bool]],
        astray: Iterable[float],
        conditions_ms: Sequence[float],
    ) -> None:
        """Take what the model rests on."""
        self._drafts.extend(drafts)
        self._astray.extend(astray)
        self._conditions = _conditions(conditions_ms)
        if self._conditions is not None and self._has_drifted(self._conditions):
            self._change()

    def _has_drifted(self, now: Conditions) -> bool:
        streams = {
            "draft": now.draft_s,
            "link": now.link_s + now.batch_s + now.token_s,
            "pass": now.pass_s + now.pass_token_s,
        }
        changed = [self._drift.note(name, value) for name, value in streams.items() if value > 0.0]
        return any(changed)

    def _change(self) -> None:
        """The trials so far were made in another world."""
        self._tuner.forget()
        self.told_trials = 0

    def _tell(self, report: TrialReport) -> None:
        if report.trial != self._trial.number or not report.verdicts:
            return
        window = _window(report)
        try:
            result = score(window, self._objective)
        except UsageError:  # a measurement that cannot be is no trial
            return
        self._latest.extend(window.verdicts)
        self._tuner.tell(self._trial, result)
        self.told_trials += 1

    def _thresholds(self, unit: Unit | None) -> Thresholds | None:
        return None if unit is None else self._space.thresholds(unit, self._start)

    def _prior(self, units: Sequence[Unit | None]) -> NDArray[np.float64] | None:
        """J of these, in ms per token, as the model has it; None among them is the closed form."""
        if self._conditions is None or len(self._drafts) < _MODEL_DRAFTS_MIN:
            return None
        known = [unit for unit in units if unit is not None]
        limits = [self._space.thresholds(unit, self._start) for unit in known]
        closed = self._closed() if len(known) < len(units) else []
        said_ms = self._forecast(limits, closed, self._conditions)
        of_known, of_closed = said_ms[: len(known)], said_ms[len(known) :]
        if not closed:
            return of_known
        all_ms = np.full(len(units), self._closed_ms(of_closed, self._conditions))
        all_ms[[unit is not None for unit in units]] = of_known
        return all_ms

    def _forecast(
        self, limits: Sequence[Thresholds], closed: Sequence[Thresholds], conditions: Conditions
    ) -> NDArray[np.float64]:
        every = (*limits, *closed)
        candidates = Candidates(
            np.array([limit.r1 for limit in every]),
            np.array([limit.r2 for limit in every]),
            np.array([limit.upper_tokens for limit in every]),
            np.array([False] * len(limits) + [True] * len(closed)),
        )
        confidences, worths, accepted = zip(*self._drafts, strict=True)
        record = Record(
            np.array(confidences), np.array(worths), np.array(accepted, dtype=bool), np.array(self._astray)
        )
        said = forecast(candidates, conditions, record)
        return 1e3 * (said.token_s + self._cloud_weight * said.cloud_s)

    @property
    def _cloud_weight(self) -> float:
        """What the target's work counts, with the energy that it takes if that is measured."""
        latest = Window(tuple(self._latest))
        watts = latest.energy_j / latest.cloud_s if latest.energy_j and latest.cloud_s else 0.0
        return COST_WEIGHTS[self._objective] * (1.0 + ENERGY_MS_PER_J * watts / 1e3)

    def _closed(self) -> list[Thresholds]:
        """What the closed form may come to."""
        places = _R1.grid(_R1_PLACES)
        return [replace(self._start, r1=_R1.thresholds(place, self._start).r1) for place in places]

    def _closed_ms(self, said_ms: NDArray[np.float64], conditions: Conditions) -> float:
        """J where R1 is what the edge's closed form makes of the pace of late; infinite before there is one.

        It is averaged as a tuner averages candidates, but not at R1 = 1, where it falls off steeply.
        """
        latest, weight = Window(tuple(self._latest)), COST_WEIGHTS[self._objective]
        if not latest.tokens:
            return math.inf
        step_s = max(conditions.draft_s, conditions.token_s) + weight * conditions.pass_token_s
        r1 = closed_form_r1(step_s, (latest.elapsed_s + weight * latest.cloud_s) / latest.tokens)
        average_ms = smoothed(said_ms)
        average_ms[-1] = said_ms[-1]
        (place,) = _R1.unit(Thresholds(r1=r1))
        return float(np.interp(place, np.linspace(0.0, 1.0, _R1_PLACES), average_ms))


def _kept(start: Thresholds, upper_tokens: int, lower_tokens: int) -> Thresholds:
    """With the bounds that a report names, as far as these are possible."""
    upper_tokens = max(1, upper_tokens)
    return replace(start, upper_tokens=upper_tokens, lower_tokens=min(max(1, lower_tokens), upper_tokens))


def _window(report: TrialReport) -> Window:
    """Its verdicts; energy is known if any of them took some."""
    is_measured = any(energy_mj for *_, energy_mj in report.verdicts)
    return Window(
        tuple(
            Verdicted(tokens, took_ms / 1e3, cloud_ms / 1e3, energy_mj / 1e3 if is_measured else None)
            for tokens, took_ms, cloud_ms, energy_mj in report.verdicts
        )
    )


def _conditions(measured_ms: Sequence[float]) -> Conditions | None:
    """None if they are not known, or cannot be."""
    if not measured_ms:
        return None
    try:
        return Conditions(*(value / 1e3 for value in measured_ms))
    except (TypeError, UsageError):
        return None
