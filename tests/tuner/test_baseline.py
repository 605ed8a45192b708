"""Random places and a grid."""

import itertools

import pytest

from pipesd.tuner.base import Score, Space, Trial
from pipesd.tuner.baseline import GridTuner, Observed, RandomTuner
from tests.contracts.tuners import check_tuner

SPACE = Space()


@pytest.mark.parametrize("space", [SPACE, Space(("r2",))], ids=str)
def test_they_keep_the_contract(space: Space) -> None:
    check_tuner(lambda: RandomTuner(space, seed=3), space)
    check_tuner(lambda: GridTuner(space), space)


def test_places_are_judged_by_the_mean_of_their_scores() -> None:
    observed = Observed()
    lucky, good = (0.1, 0.1), (0.2, 0.2)
    for unit, value in ((lucky, 50.0), (good, 80.0), (lucky, 130.0), (None, 1.0)):
        observed.add(Trial(1, unit), Score(value, 10.0))
    assert observed.means() == {lucky: 90.0, good: 80.0}
    assert observed.best() == good


def test_nothing_observed_means_the_closed_form() -> None:
    assert RandomTuner(SPACE, seed=1).best() is None
    assert GridTuner(SPACE).best() is None


def test_random_places_are_spread_over_the_cube_and_differ_by_seed() -> None:
    tuner = RandomTuner(SPACE, seed=1)
    units = [tuner.ask().unit for _ in range(64)]
    quarters = {tuple(at > 0.5 for at in unit) for unit in units if unit is not None}
    assert len(set(units)) == 64
    assert quarters == set(itertools.product((False, True), repeat=2))
    assert RandomTuner(SPACE, seed=2).ask().unit not in units


def test_the_grid_is_gone_through_once_and_then_the_best_is_used() -> None:
    tuner = GridTuner(SPACE, per_axis=3)
    for _ in range(9):
        trial = tuner.ask()
        tuner.tell(trial, Score(80.0 if trial.unit == (0.5, 1.0) else 100.0, 10.0))
    assert tuner.ask() == Trial(10, (0.5, 1.0))
    tuner.forget()
    assert tuner.ask() == Trial(11, (0.0, 0.0))
