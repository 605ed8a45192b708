"""The bounds of the value types."""

import math
from typing import get_args

import msgspec
import pytest

from pipesd.errors import UsageError
from pipesd.values import COST_WEIGHTS, Objective, Sampling, Slice, TrialReport


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("temperature", [0.0, 1e-9, 1.0, 100.0], [-0.1, 100.1, math.inf, -math.inf, math.nan]),
        ("top_k", [0, 1, 2**31 - 1], [-1, 2**31]),
        ("top_p", [1e-9, 0.5, 1.0], [0.0, -0.5, 1.0001, math.nan]),
        ("min_p", [0.0, 0.5, 1.0], [-0.1, 1.0001, math.nan]),
    ],
)
def test_sampling_checks_its_bounds(field: str, good: list[float], bad: list[float]) -> None:
    for value in good:
        assert getattr(Sampling(**{field: value}), field) == value  # type: ignore[arg-type]
    for value in bad:
        with pytest.raises(UsageError, match=f"^{field}: must be .*, not "):
            Sampling(**{field: value})  # type: ignore[arg-type]


def test_sampling_is_greedy_by_default() -> None:
    assert Sampling().greedy
    assert Sampling(top_k=5).greedy
    assert not Sampling(temperature=0.01).greedy


def cut_of_a_pass(base: int, tokens: int, picks: int) -> Slice:
    return Slice(0, base, tuple(range(tokens)), picks, prompt=False, sampling=Sampling(), seed=0)


@pytest.mark.parametrize(
    ("base", "tokens", "picks", "positions"),
    [
        pytest.param(0, 5, 1, [5], id="whole prompt: the first output token"),
        pytest.param(512, 100, 1, [612], id="last chunk of a prompt"),
        pytest.param(0, 512, 0, [], id="any other chunk"),
        pytest.param(20, 1, 1, [21], id="one token alone"),
        pytest.param(20, 4, 4, [21, 22, 23, 24], id="one token and three drafts"),
        pytest.param(20, 4, 3, [22, 23, 24], id="the first pick is not wanted"),
    ],
)
def test_a_pick_is_for_the_position_after_its_token(
    base: int, tokens: int, picks: int, positions: list[int]
) -> None:
    part = cut_of_a_pass(base, tokens, picks)
    assert [part.pick_position(number) for number in range(picks)] == positions
    for number, position in enumerate(positions):
        assert position == base + (tokens - picks + number) + 1


def test_every_objective_has_its_weight() -> None:
    assert COST_WEIGHTS == {"latency": 0.0, "balanced": 1.0, "cost": 4.0}
    assert set(COST_WEIGHTS) == set(get_args(Objective))


def test_a_report_does_not_change_and_comes_back_as_it_went() -> None:
    report = TrialReport(1, ((5, 200.0, 90.0, 7.5),), ((0.9, 0.8, True),), (0.5,), (40.0,))
    with pytest.raises(AttributeError):
        report.trial = 2  # type: ignore[misc]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(report), type=TrialReport) == report
