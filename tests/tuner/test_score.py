"""What a window costs, and how sure that is."""

from dataclasses import replace

import numpy as np
import pytest

from pipesd.errors import UsageError
from pipesd.tuner.base import Verdicted, Window
from pipesd.tuner.score import ENERGY_MS_PER_J, score
from pipesd.values import Objective

ONE = Verdicted(tokens=4, elapsed_s=0.2, cloud_s=0.04)


def window(*verdicts: Verdicted) -> Window:
    return Window(verdicts)


@pytest.mark.parametrize(("objective", "value_ms"), [("latency", 50.0), ("balanced", 60.0), ("cost", 90.0)])
def test_the_objective_weighs_the_target(objective: Objective, value_ms: float) -> None:
    assert score(window(ONE, ONE), objective).value_ms == pytest.approx(value_ms)


def test_verdicts_count_by_their_tokens() -> None:
    together = Verdicted(tokens=2, elapsed_s=0.0, cloud_s=0.0)
    assert score(window(ONE, together), "latency").value_ms == pytest.approx(200 / 6)


def test_energy_counts_where_it_is_measured() -> None:
    measured = replace(ONE, energy_j=2.0)
    joule_ms = ENERGY_MS_PER_J * 2.0 / 4
    assert score(window(measured, measured), "cost").value_ms == pytest.approx(90.0 + 4 * joule_ms)
    assert score(window(measured, measured), "latency").value_ms == pytest.approx(50.0)
    assert score(window(measured, ONE), "cost").value_ms == pytest.approx(90.0)


@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_few_verdicts_that_agree_are_not_sure(count: int) -> None:
    found = score(window(*[ONE] * count), "latency")
    usual = 0.45 * np.sqrt(4 / (3 + count) / count)
    assert found.error_ms / found.value_ms == pytest.approx(usual)


def test_a_short_window_is_less_sure() -> None:
    rng = np.random.default_rng(3)
    verdicts = [Verdicted(int(k), 0.05 + 0.04 * float(k), 0.03) for k in rng.integers(1, 9, 24)]
    errors = [score(window(*verdicts[:count]), "balanced").error_ms for count in (2, 6, 24)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 2.5 * errors[2]


@pytest.mark.parametrize("count", [5, 40])
def test_the_error_is_as_large_as_windows_differ(count: int) -> None:
    rng = np.random.default_rng(5)
    values, errors = [], []
    for _ in range(400):
        tokens = 1 + rng.geometric(0.3, count)
        times = 0.1 + 0.04 * np.minimum(8, tokens + rng.integers(0, 4, count))
        found = score(
            window(*[Verdicted(int(k), float(x), 0.03) for k, x in zip(tokens, times, strict=True)]),
            "latency",
        )
        values.append(found.value_ms)
        errors.append(found.error_ms)
    assert np.std(values) == pytest.approx(np.mean(errors), rel=0.15)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.001])
@pytest.mark.parametrize("name", ["elapsed_s", "cloud_s", "energy_j"])
def test_impossible_times_are_refused(name: str, wrong: float) -> None:
    with pytest.raises(UsageError, match=rf"^{name}: must be at least 0 and finite"):
        score(window(ONE, replace(ONE, **{name: wrong})), "balanced")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (window(), "no verdict"),
        (window(replace(ONE, tokens=0)), "nothing was confirmed"),
        (window(ONE, replace(ONE, tokens=-1)), "tokens: a verdict confirms at least 0, not -1"),
        (window(replace(ONE, elapsed_s=0.0)), "took no time at all"),
        (window(replace(ONE, cloud_s=0.0)), "the target took no time at all"),
    ],
)
def test_a_window_that_says_nothing_is_refused(given: Window, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        score(given, "balanced")
    assert "\n" not in str(caught.value)


def test_latency_alone_needs_no_time_of_the_target() -> None:
    assert score(window(replace(ONE, cloud_s=0.0)), "latency").value_ms == pytest.approx(50.0)
