"""The paper's tuner, for comparison."""

import numpy as np

from pipesd.planner.trigger import Thresholds
from pipesd.tuner.base import Score, Space, Unit
from pipesd.tuner.paper import EVALUATIONS, PaperTuner
from tests.contracts.tuners import check_tuner

SPACE = Space()


def linear(unit: Unit | None) -> tuple[float, float]:
    assert unit is not None
    thresholds = SPACE.thresholds(unit, Thresholds())
    return thresholds.r1, thresholds.r2


def bowl_ms(unit: Unit | None) -> float:
    """Least at R1 = R2 = 0.6, which is a wide place on a linear scale."""
    r1, r2 = linear(unit)
    return 100.0 + 60.0 * ((r1 - 0.6) ** 2 + (r2 - 0.6) ** 2)


def play(seed: int, noise_ms: float) -> PaperTuner:
    tuner, luck = PaperTuner(SPACE, seed), np.random.default_rng(seed)
    for _ in range(EVALUATIONS):
        trial = tuner.ask()
        tuner.tell(trial, Score(bowl_ms(trial.unit) + noise_ms * float(luck.standard_normal()), noise_ms))
    return tuner


def test_it_keeps_the_contract() -> None:
    check_tuner(lambda: PaperTuner(SPACE, seed=2), SPACE, rounds=4)


def test_its_start_is_drawn_evenly_between_0_and_1() -> None:
    starts = np.array([linear(PaperTuner(SPACE, seed).ask().unit) for seed in range(40)])
    assert np.allclose(starts.mean(axis=0), 0.5, atol=0.15)
    assert np.allclose(starts.std(axis=0), 12**-0.5, atol=0.08)


def test_it_finds_a_wide_optimum() -> None:
    ends = [bowl_ms(play(seed, noise_ms=0.5).best()) for seed in range(2)]
    assert np.mean(ends) < 102.0


def test_what_ran_best_is_what_it_goes_on_with() -> None:
    tuner = PaperTuner(SPACE, seed=4)
    scores = {}
    for number in range(EVALUATIONS):
        trial = tuner.ask()
        scores[trial.unit] = 100.0 - (number == 2) * 30.0
        tuner.tell(trial, Score(scores[trial.unit], 20.0))
    assert tuner.best() == min(scores, key=scores.__getitem__)
    assert [tuner.ask().unit for _ in range(2)] == [tuner.best()] * 2
    tuner.forget()
    assert tuner.best() is None
    assert tuner.ask().unit not in scores
