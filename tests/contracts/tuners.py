"""What every ``tuner.base.Tuner`` must do; each kind of tuner runs this in its own test file."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from pipesd.tuner.base import Floats, Prior, Score, Space, Trial, Tuner, Unit

MakeTuner = Callable[[], Tuner]
"""A new tuner, always with the same seed."""


def check_tuner(make: MakeTuner, space: Space, rounds: int = 20) -> None:
    """Raise ``AssertionError`` if the tuner breaks the protocol; ``rounds``: fewer if it is slow."""
    for check in (
        _trials_are_numbered_places,
        _the_same_calls_give_the_same_trials,
        _knows_nothing_at_first,
        _is_told_anything_in_any_order,
        _takes_scores_that_are_all_the_same,
        _takes_a_prior_that_says_little,
        _takes_a_prior_that_knows_the_closed_form,
        _goes_on_with_what_it_tried_or_knows,
        _forgets,
    ):
        check(make, space, rounds)


def model_of(cost_ms: Callable[[Unit], float], closed_ms: float = math.nan) -> Prior:
    """A model that says ``cost_ms`` of places, and by default nothing of the closed form."""

    def prior(units: Sequence[Unit | None]) -> Floats:
        return np.array([closed_ms if unit is None else cost_ms(unit) for unit in units])

    return prior


def bowl(space: Space, centre: float = 0.6, closed_ms: float = math.nan) -> Prior:
    """A model whose best place has ``centre`` for all coordinates, and costs 100 ms."""

    def cost_ms(unit: Unit) -> float:
        assert len(unit) == len(space.names), "a place of another space"
        return 100.0 + 40.0 * sum((at - centre) ** 2 for at in unit)

    return model_of(cost_ms, closed_ms)


def _check_place(unit: Unit | None, space: Space) -> None:
    if unit is not None:
        assert isinstance(unit, tuple), "a place that is no tuple"
        assert all(isinstance(at, float) for at in unit), "coordinates that are not plain numbers"
        space.check(unit)


def _play(tuner: Tuner, rounds: int, prior: Prior | None = None) -> list[Trial]:
    """Ask and tell, with scores that vary."""
    trials = []
    for number in range(rounds):
        trials.append(tuner.ask(prior))
        tuner.tell(trials[-1], Score(100.0 + 13.0 * (number % 5), 9.0))
    return trials


def _trials_are_numbered_places(make: MakeTuner, space: Space, rounds: int) -> None:
    for prior in (None, bowl(space)):
        trials = _play(make(), rounds, prior)
        assert [trial.number for trial in trials] == list(range(1, rounds + 1)), "numbers are left out"
        for trial in trials:
            _check_place(trial.unit, space)
    unanswered = make()
    numbers = [unanswered.ask().number for _ in range(3)]
    assert numbers == [1, 2, 3], "asking needs an answer to the last question"


def _the_same_calls_give_the_same_trials(make: MakeTuner, space: Space, rounds: int) -> None:
    for prior in (None, bowl(space)):
        one, other = make(), make()
        assert _play(one, rounds, prior) == _play(other, rounds, prior), "another luck with the same seed"
        assert one.best(prior) == other.best(prior), "another end of the same trials"
        assert one.best(prior) == one.best(prior), "asking for the best changes it"


def _knows_nothing_at_first(make: MakeTuner, space: Space, rounds: int) -> None:
    _check_place(make().best(), space)
    _check_place(make().best(bowl(space)), space)


def _is_told_anything_in_any_order(make: MakeTuner, space: Space, rounds: int) -> None:
    tuner = make()
    first, second = tuner.ask(), tuner.ask()
    tuner.tell(Trial(77, None), Score(50.0, 5.0))
    tuner.tell(Trial(78, (0.25,) * len(space.names)), Score(120.0, 0.0))
    for trial in (second, first, second):
        tuner.tell(trial, Score(90.0, 20.0))
    _check_place(tuner.ask(bowl(space)).unit, space)
    _check_place(tuner.best(bowl(space)), space)


def _takes_scores_that_are_all_the_same(make: MakeTuner, space: Space, rounds: int) -> None:
    tuner = make()
    for _ in range(rounds):
        tuner.tell(tuner.ask(bowl(space)), Score(100.0, 0.0))
    _check_place(tuner.best(bowl(space)), space)


def _takes_a_prior_that_says_little(make: MakeTuner, space: Space, rounds: int) -> None:
    tuner = make()
    _play(tuner, 2, bowl(space))
    for value in (np.nan, np.inf, 0.0, -1.0, 100.0):
        trial = tuner.ask(lambda units, value=value: np.full(len(units), value))  # type: ignore[misc]
        _check_place(trial.unit, space)
        tuner.tell(trial, Score(100.0, 10.0))
    _check_place(tuner.best(lambda units: None), space)


def _takes_a_prior_that_knows_the_closed_form(make: MakeTuner, space: Space, rounds: int) -> None:
    for closed_ms in (90.0, 100.0, 140.0):
        prior = bowl(space, closed_ms=closed_ms)
        tuner = make()
        trials = _play(tuner, rounds, prior)
        assert [trial.number for trial in trials] == list(range(1, rounds + 1)), "numbers are left out"
        _check_place(tuner.best(prior), space)


def _goes_on_with_what_it_tried_or_knows(make: MakeTuner, space: Space, rounds: int) -> None:
    tuner = make()
    trials = _play(tuner, rounds)
    assert tuner.best() in {None, *(trial.unit for trial in trials)}, "goes on with what nobody proposed"


def _forgets(make: MakeTuner, space: Space, rounds: int) -> None:
    tuner = make()
    fresh = tuner.best()
    last = _play(tuner, rounds)[-1]
    tuner.forget()
    assert tuner.best() == fresh, "trials are remembered"
    again = tuner.ask()
    assert again.number > last.number, "numbers are given twice"
    _check_place(again.unit, space)
