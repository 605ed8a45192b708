"""The model leads, trials correct it, and neither costs much."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from pipesd.tuner.base import Floats, Prior, Score, Space, Trial, Unit
from pipesd.tuner.guided import TRIALS_MAX, GuidedTuner, smoothed
from tests.contracts.tuners import bowl, check_tuner, model_of

SPACE = Space()
NOISE = 0.2
"""Of a window of 20 tokens, relative."""


def valley(unit: Unit) -> float:
    """J in ms per token, least at (0.4, 0.7): 3 % more a fifth of the axis off, 12 % in the worst corner."""
    return 100.0 + 13.5 * math.hypot(unit[0] - 0.4, unit[1] - 0.7)


def model(
    tilt_ms: float = 0.0, factor: float = 1.0, off_ms: float = 0.0, closed_ms: float = math.nan
) -> Prior:
    """The truth, made wrong."""
    return model_of(
        lambda unit: factor * valley(unit) + off_ms + tilt_ms * (unit[0] - unit[1]), closed_ms=closed_ms
    )


def play(tuner: GuidedTuner, prior: Prior, trials: int, seed: int, noise: float = NOISE) -> list[Unit]:
    """Trials whose scores are as noisy as short windows are."""
    luck, units = np.random.default_rng(seed), []
    for _ in range(trials):
        trial = tuner.ask(prior)
        assert trial.unit is not None
        units.append(trial.unit)
        true_ms = valley(trial.unit)
        score_ms = max(1.0, true_ms * float(1.0 + noise * luck.standard_normal()))
        tuner.tell(trial, Score(score_ms, noise * true_ms))
    return units


MIDDLE = min(SPACE.grid(20), key=valley)
"""The best of the candidates."""

LEAST_MS = valley(MIDDLE)
CELL = 1 / 19


@pytest.mark.parametrize("names", [("r1", "r2"), ("r1",)], ids=str)
def test_it_keeps_the_contract(names: tuple[str, ...]) -> None:
    space = Space(names)  # type: ignore[arg-type]
    check_tuner(lambda: GuidedTuner(space, per_axis=6), space)


def test_without_a_model_it_leaves_r1_to_the_closed_form() -> None:
    tuner = GuidedTuner(SPACE)
    assert tuner.ask() == Trial(1, None)
    assert tuner.ask(lambda _: None) == Trial(2, None)
    assert tuner.best() is None
    tuner.tell(Trial(3, (0.5, 0.5)), Score(100.0, 1.0))
    assert tuner.best() is None


def test_the_first_trial_is_where_the_model_is_best() -> None:
    tuner = GuidedTuner(SPACE)
    assert tuner.ask(model()).unit == MIDDLE


@pytest.mark.parametrize(
    "prior",
    [model(), model(off_ms=25.0), model(factor=0.8), model(tilt_ms=2.0), model(tilt_ms=-2.0, off_ms=-20.0)],
    ids=["right", "too much", "too little", "tilted", "tilted and too little"],
)
def test_with_a_model_that_is_off_it_finds_the_neighbourhood(prior: Prior) -> None:
    ends = []
    for seed in range(3):
        tuner = GuidedTuner(SPACE)
        units = play(tuner, prior, 12, seed)
        assert max(valley(unit) for unit in units) < 1.05 * LEAST_MS
        assert np.mean([valley(unit) for unit in units]) < 1.03 * LEAST_MS
        end = tuner.best(prior)
        assert end is not None
        ends.append(valley(end))
    assert np.mean(ends) < 1.02 * LEAST_MS


def test_trials_that_are_sure_put_a_wrong_model_right() -> None:
    prior = model(tilt_ms=4.0)
    tuner = GuidedTuner(SPACE)
    start = tuner.best(prior)
    play(tuner, prior, 24, seed=1, noise=0.005)
    end = tuner.best(prior)
    assert start is not None
    assert end is not None
    assert valley(end) - LEAST_MS < 0.6 * (valley(start) - LEAST_MS)


def test_nothing_is_tried_that_is_known_to_be_expensive() -> None:
    prior = bowl(SPACE, 0.3)
    for unit in play(GuidedTuner(SPACE), prior, 12, seed=2):
        assert unit is not None
        assert float(np.array(prior([unit]))[0]) < 1.05 * 100.0


def test_trials_are_compared_with_what_the_model_says_now() -> None:
    tuner = GuidedTuner(SPACE)
    for unit in SPACE.grid(3):
        tuner.tell(Trial(1, unit), Score(2.0 * valley(unit), 0.5))
    slow = tuner.best(model(factor=2.0))
    assert slow == MIDDLE


EDGE = 4 / 19
"""Of a plateau whose last cell is at 9 / 19: averages reach five cells far."""


def test_where_it_does_not_matter_thresholds_stay() -> None:
    plateau = model_of(lambda unit: 100.0 + max(0.0, unit[0] - 0.5))
    tuner = GuidedTuner(SPACE)
    first = tuner.ask(plateau).unit
    assert first is not None
    assert first[0] == pytest.approx(EDGE / 2, abs=0.03)
    assert first[1] == pytest.approx(0.5, abs=0.03)
    assert tuner.best(bowl(SPACE, 1.0)) == (1.0, 1.0)
    near = tuner.best(plateau)
    assert near is not None
    assert near == pytest.approx((EDGE, 1.0))


def test_candidates_that_the_model_does_not_know_are_left_out() -> None:
    half = model_of(lambda unit: valley(unit) if unit[0] > 0.5 else math.nan)
    tuner = GuidedTuner(SPACE)
    tuner.tell(Trial(1, (0.1, 0.1)), Score(1.0, 0.1))
    units = play(tuner, half, 4, seed=1)
    assert all(unit[0] > 0.5 for unit in units)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -50.0])
def test_one_that_it_does_not_know_says_nothing_of_its_neighbours(value: float) -> None:
    tuner = GuidedTuner(SPACE)
    prior = model_of(lambda unit: value if unit == (1.0, 0.0) else valley(unit))
    assert tuner.best(prior) == MIDDLE
    assert tuner.ask(prior).unit == MIDDLE


# --- the closed form ---


@pytest.mark.parametrize("closed_ms", [102.0, 130.0, math.inf, math.nan, 0.0, -1.0])
def test_the_closed_form_is_left_where_a_place_is_better(closed_ms: float) -> None:
    prior = model(closed_ms=closed_ms)
    assert GuidedTuner(SPACE).best(prior) == MIDDLE
    assert GuidedTuner(SPACE).ask(prior) == Trial(1, MIDDLE)


@pytest.mark.parametrize("closed_ms", [60.0, 99.0, 100.0])
def test_it_is_kept_where_none_is(closed_ms: float) -> None:
    tuner = GuidedTuner(SPACE)
    prior = model(closed_ms=closed_ms)
    assert tuner.ask(prior) == Trial(1, None)
    assert tuner.best(prior) is None


def test_it_is_kept_where_all_are_alike() -> None:
    tuner = GuidedTuner(SPACE)
    for value in np.linspace(10.0, 200.0, 60):
        assert tuner.best(lambda units, value=value: np.full(len(units), value)) is None  # type: ignore[misc]


@pytest.mark.parametrize(("off_ms", "is_left"), [(-12.0, True), (0.0, False), (12.0, False)])
def test_trials_say_whether_a_place_is_better_than_it(off_ms: float, is_left: bool) -> None:
    tuner = GuidedTuner(SPACE)
    prior = model(closed_ms=0.97 * LEAST_MS)
    for unit in SPACE.grid(4):
        near = math.dist(unit, MIDDLE) < 0.3
        tuner.tell(Trial(1, unit), Score(valley(unit) + near * off_ms, 0.5))
    end = tuner.best(prior)
    assert (end is not None) == is_left
    assert end is None or math.dist(end, MIDDLE) < 0.3


def test_it_comes_back_when_trials_are_worse_than_the_model_says() -> None:
    tuner = GuidedTuner(SPACE)
    prior = model(closed_ms=1.02 * LEAST_MS)
    assert tuner.best(prior) == MIDDLE
    for unit in SPACE.grid(6):
        near = math.dist(unit, MIDDLE) < 0.3
        tuner.tell(Trial(1, unit), Score(valley(unit) + near * 12.0, 0.5))
    assert tuner.best(prior) is None


def test_what_it_gave_when_it_was_tried_is_no_place() -> None:
    tuner = GuidedTuner(SPACE)
    for _ in range(3):
        tuner.tell(Trial(1, None), Score(1.0, 0.1))
    assert tuner.best(model(closed_ms=130.0)) == MIDDLE


# --- what is averaged ---


@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.03, 0.5), (0.4, 0.7), (0.62, 0.21), (1.0, 0.35)], ids=str)
@pytest.mark.parametrize("steeper", [1.0, 2.0])
def test_averages_leave_a_wide_valley_where_it_is(centre: Unit, steeper: float) -> None:
    def cost_ms(unit: Unit) -> float:
        off = (at - middle for at, middle in zip(unit, centre, strict=True))
        return 100.0 + sum(20.0 * (steeper * max(0.0, each) - min(0.0, each)) for each in off)

    found = GuidedTuner(SPACE).best(model_of(cost_ms))
    assert found is not None
    least = min(SPACE.grid(20), key=cost_ms)
    assert max(abs(at - lowest) for at, lowest in zip(found, least, strict=True)) < 1.01 * CELL


@pytest.mark.parametrize("cell", [(12 / 19, 13 / 19), (15 / 19, 3 / 19), (0.0, 10 / 19), (1.0, 0.0)], ids=str)
def test_a_single_deep_cell_is_taken_for_chance(cell: Unit) -> None:
    def cost_ms(unit: Unit) -> float:
        return LEAST_MS - 8.0 if unit == cell else valley(unit)

    assert min(SPACE.grid(20), key=cost_ms) == cell
    found = GuidedTuner(SPACE).best(model_of(cost_ms))
    assert found is not None
    assert math.dist(found, MIDDLE) < 1.5 * CELL
    assert math.dist(found, cell) > 3 * CELL


# --- what is kept ---


def test_forgetting_leaves_the_model_alone() -> None:
    tuner = GuidedTuner(SPACE)
    for _ in range(30):
        tuner.tell(Trial(1, (0.0, 0.0)), Score(60.0, 0.5))
        tuner.tell(Trial(1, (1.0, 1.0)), Score(140.0, 0.5))
    assert tuner.best(model()) != MIDDLE
    tuner.forget()
    assert tuner.best(model()) == MIDDLE


def test_old_trials_are_forgotten() -> None:
    tuner, asked = GuidedTuner(SPACE, per_axis=3), list[int]()

    def prior(units: Sequence[Unit | None]) -> Floats:
        asked.append(len(units))
        return np.full(len(units), 100.0)

    for number in range(2 * TRIALS_MAX):
        tuner.tell(Trial(number, (number / 1_000, 0.5)), Score(100.0, 10.0))
    tuner.ask(prior)
    assert asked == [9 + TRIALS_MAX + 1]


@pytest.mark.parametrize("shape", [(20,), (20, 20), (7, 7, 7)], ids=str)
def test_a_plain_stays_a_plain(shape: tuple[int, ...]) -> None:
    assert smoothed(np.full(shape, 3.0)) == pytest.approx(np.full(shape, 3.0))


def test_a_lone_value_is_spread_over_its_neighbours() -> None:
    table = np.zeros((21, 21))
    table[10, 10] = 1.0
    smooth = smoothed(table)
    assert smooth.sum() == pytest.approx(1.0)
    assert smooth.argmax() == table.argmax()
    assert 0.04 < smooth[10, 10] < 0.1
    assert smooth[10, 12] > 10 * smooth[10, 16]


def test_the_width_is_that_of_the_cube_and_not_of_the_grid() -> None:
    coarse, fine = np.linspace(0.0, 1.0, 21), np.linspace(0.0, 1.0, 41)
    steps = [smoothed((places >= 0.5).astype(float)) for places in (coarse, fine)]
    assert steps[0] == pytest.approx(steps[1][::2], abs=0.1)
