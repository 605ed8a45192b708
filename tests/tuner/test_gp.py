"""What Gaussian processes say of places, and that nothing they meet is an exception."""

import numpy as np
import pytest

from pipesd.tuner import gp
from pipesd.tuner.base import Floats, Space

PLACES = np.array(Space().grid(11))
CENTRE = np.array([0.6, 0.6])


@pytest.fixture(autouse=True, scope="module")
def torch() -> None:
    gp.prepare()


def bowl_ms(places: Floats) -> Floats:
    values: Floats = 100.0 + 40.0 * np.sum((places - CENTRE) ** 2, axis=1)
    return values


def tried(units: Floats, residuals_ms: Floats, error_ms: float) -> gp.Tried:
    return gp.Tried(units, residuals_ms, np.full(len(units), error_ms))


def at(place: tuple[float, float]) -> int:
    return int(np.argmin(np.sum((PLACES - np.array(place)) ** 2, axis=1)))


def test_torch_keeps_to_one_thread() -> None:
    torch = pytest.importorskip("torch")
    assert torch.get_num_threads() == 1


def test_an_error_that_all_places_share_changes_nothing() -> None:
    units = PLACES[::10]
    found = gp.posterior(tried(units, np.full(len(units), 30.0), 1.0), PLACES, bowl_ms(PLACES), 2.5)
    assert np.allclose(found.mean_ms, bowl_ms(PLACES), atol=1e-6)


def test_residuals_move_the_mean_where_they_are_and_nearly_nothing_far_off() -> None:
    units = np.array([[0.2, 0.2], [1.0, 1.0], [0.2, 1.0], [1.0, 0.2]])
    found = gp.posterior(tried(units, np.array([-4.0, 0.0, 0.0, 0.0]), 0.5), PLACES, bowl_ms(PLACES), 2.5)
    moved = found.mean_ms - bowl_ms(PLACES)
    moved -= moved[at((1.0, 1.0))]
    assert moved[at((0.2, 0.2))] < -3.0
    assert -3.0 < moved[at((0.4, 0.4))] < moved[at((0.6, 0.6))] < -0.1
    assert abs(moved[at((1.0, 0.2))]) < 0.2


def test_the_noisier_the_trials_the_less_they_move() -> None:
    units, residuals_ms = np.array([[0.2, 0.2], [0.8, 0.8]]), np.array([-6.0, 6.0])
    moved = [
        np.ptp(gp.posterior(tried(units, residuals_ms, error_ms), PLACES, np.full(121, 100.0), 2.5).mean_ms)
        for error_ms in (0.1, 2.5, 20.0)
    ]
    assert moved[0] > 1.5 * moved[1] > 15.0 * moved[2]


def test_there_is_more_to_gain_where_less_is_known() -> None:
    units = np.array([[0.2, 0.2]] * 8)
    found = gp.posterior(tried(units, np.zeros(8), 1.0), PLACES, np.full(len(PLACES), 100.0), 2.5)
    assert found.merit[at((1.0, 1.0))] > found.merit[at((0.4, 0.4))] > found.merit[at((0.2, 0.2))]


@pytest.mark.parametrize(
    ("units", "residuals_ms", "error_ms"),
    [
        ([[0.5, 0.5]] * 30, [0.0] * 30, 0.0),
        ([[0.5, 0.5]] * 2, [-1e9, 1e9], 0.0),
        ([[0.5, 0.5]], [1.0], 1e12),
        ([[0.5, 0.5]], [float("nan")], 1.0),
        ([[0.5, 0.5]], [1.0], float("nan")),
    ],
    ids=["one place", "contradiction", "no knowledge", "no residual", "no error"],
)
def test_whatever_was_tried_there_is_an_answer(
    units: list[list[float]], residuals_ms: list[float], error_ms: float
) -> None:
    found = gp.posterior(
        tried(np.array(units), np.array(residuals_ms), error_ms), PLACES, bowl_ms(PLACES), 2.5
    )
    assert np.isfinite(found.mean_ms).all()
    assert np.isfinite(found.merit[np.argmin(found.mean_ms)])
    assert at((0.6, 0.6)) == np.argmin(bowl_ms(PLACES))


def test_a_process_that_fails_leaves_the_model() -> None:
    found = gp.posterior(tried(PLACES[:3], np.ones(3), 1.0), PLACES, bowl_ms(PLACES), 0.0)
    assert np.array_equal(found.mean_ms, bowl_ms(PLACES))
    assert np.argmax(found.merit) == at((0.6, 0.6))


def test_a_fitted_process_leads_to_where_scores_are_low() -> None:
    units = np.random.default_rng(1).random((12, 2))
    merit = gp.fitted_merit(units, bowl_ms(units), PLACES, 0.1, seed=1)
    assert merit is not None
    assert np.abs(PLACES[np.argmax(merit)] - CENTRE).max() <= 0.3
    again = gp.fitted_merit(units, bowl_ms(units), PLACES, 0.1, seed=1)
    assert again is not None
    assert np.array_equal(merit, again)


@pytest.mark.parametrize("scores", [[100.0], [100.0] * 6, [1.0, 1e300, 5.0], [1.0, float("nan")]])
def test_whatever_is_fitted_is_no_exception(scores: list[float]) -> None:
    units = np.random.default_rng(1).random((len(scores), 2))
    merit = gp.fitted_merit(units, np.array(scores), PLACES, 0.1, seed=1)
    assert merit is None or np.isfinite(merit).all()


def test_the_callers_luck_is_left_alone() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    first = torch.rand(1).item()
    torch.manual_seed(5)
    gp.fitted_merit(PLACES[:5], bowl_ms(PLACES[:5]), PLACES, 0.1, seed=9)
    assert torch.rand(1).item() == first
