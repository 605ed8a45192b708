"""Changes for good are found soon, and others are not."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from pipesd.errors import UsageError
from pipesd.tuner.base import Floats
from pipesd.tuner.drift import STREAMS, Drift

Noise = Callable[[np.random.Generator, int], Floats]

NOISES: dict[str, Noise] = {
    "quiet": lambda rng, count: np.exp(0.01 * rng.standard_normal(count)),
    "normal": lambda rng, count: np.exp(0.1 * rng.standard_normal(count)),
    "heavy": lambda rng, count: np.exp(0.1 * rng.standard_t(3, count)),
    "waits": lambda rng, count: 1.0 + 0.3 * rng.pareto(2.5, count),
    "spikes": lambda rng, count: (
        np.exp(0.05 * rng.standard_normal(count)) * np.where(rng.random(count) < 0.08, 5.0, 1.0)
    ),
}


def alarms(drift: Drift, name: str, values: Iterable[float]) -> list[int]:
    """After how many values it said that something has changed."""
    return [number for number, value in enumerate(values, 1) if drift.note(name, float(value))]


def delays(before: int, change: float, noise: Noise, seeds: int = 12) -> list[int]:
    """How long it takes to notice."""
    found = []
    for seed in range(seeds):
        rng, drift = np.random.default_rng(seed), Drift()
        assert alarms(drift, "draft", 0.04 * noise(rng, before)) == []
        found += alarms(drift, "draft", 0.04 * change * noise(rng, 60))[:1] or [999]
    return found


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_noise_that_stays_as_it_is_hardly_ever_alarms(noise: Noise) -> None:
    count = sum(
        len(alarms(Drift(), "link", 0.04 * noise(np.random.default_rng(seed), 2_500))) for seed in range(4)
    )
    assert count <= 1


@pytest.mark.parametrize("change", [2.0, 0.5])
@pytest.mark.parametrize(
    ("before", "noise"),
    [
        (20, "quiet"),
        (20, "normal"),
        (20, "heavy"),
        (80, "normal"),
        (80, "heavy"),
        (80, "waits"),
        (80, "spikes"),
    ],
)
def test_a_doubling_is_found_within_eight(before: int, noise: str, change: float) -> None:
    found = delays(before, change, NOISES[noise])
    assert np.median(found) <= 6
    assert np.quantile(found, 0.9) <= 8


@pytest.mark.parametrize("change", [1.3, 1 / 1.3])
@pytest.mark.parametrize("noise", ["quiet", "normal", "heavy"])
def test_a_change_by_a_third_is_found_within_twenty_five(noise: str, change: float) -> None:
    found = delays(80, change, NOISES[noise])
    assert np.quantile(found, 0.9) <= 25


def test_odd_samples_are_no_change() -> None:
    drift = Drift()
    values = np.full(60, 0.04)
    values[[20, 30, 31, 45, 50]] = [4.0, 1.0, 1.0, 1e-3, 30.0]
    assert alarms(drift, "draft", values) == []


def test_a_small_change_is_not_worth_a_new_start() -> None:
    drift = Drift()
    assert alarms(drift, "draft", [0.04] * 60 + [0.043] * 200) == []


def test_after_an_alarm_it_compares_with_what_came_since() -> None:
    drift = Drift()
    assert alarms(drift, "draft", [0.04] * 40) == []
    assert len(alarms(drift, "draft", [0.08] * 200)) == 1
    assert len(alarms(drift, "draft", [0.04] * 200)) == 1


def test_each_stream_is_by_itself() -> None:
    drift = Drift()
    for name in STREAMS:
        assert alarms(drift, name, [0.04] * 40) == []
    assert alarms(drift, "link", [0.08] * 10) != []
    assert alarms(drift, "pass", [0.04] * 40) == []


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0])
def test_what_is_no_value_says_nothing(name: str, wrong: float) -> None:
    drift = Drift()
    assert alarms(drift, name, [1.0] * 60 + [wrong] * 100) == []
    assert alarms(drift, name, [0.3] * 100) != []


def test_no_time_at_all_is_a_very_short_one() -> None:
    drift = Drift()
    assert alarms(drift, "link", [0.0, 1e-5] * 40) == []
    assert alarms(drift, "link", [0.01] * 10) != []


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no stream 'weather'; choose one of draft, link"):
        Drift().note("weather", 1.0)
