import math

import pytest

from pipesd.lab.cycle import Cycle

TWO = Cycle([(30.0, "cool"), (20.0, "hot")])


@pytest.mark.parametrize(
    ("moment", "value", "until"),
    [
        (0.0, "cool", 30.0),
        (29.9, "cool", 30.0),
        (30.0, "hot", 50.0),
        (49.9, "hot", 50.0),
        (50.0, "cool", 80.0),
        (1_080.0, "hot", 1_100.0),
    ],
)
def test_values_hold_by_turns(moment: float, value: str, until: float):
    assert (TWO.at(moment), TWO.until(moment)) == (value, until)
    assert TWO.values == ["cool", "hot"]


@pytest.mark.parametrize("seconds", [1.0, math.inf])
def test_one_alone_holds_for_good(seconds: float):
    alone = Cycle([(seconds, "always")])
    assert {alone.at(moment) for moment in (0.0, 0.5, 1e6)} == {"always"}
    assert alone.until(7.0) == math.inf


@pytest.mark.parametrize("spans", [(0.1, 0.2), (1 / 3, 1 / 7, 0.3), (0.7,) * 3])
def test_whatever_the_spans_they_follow_each_other_without_a_gap(spans: tuple[float, ...]):
    cycle = Cycle(list(zip(spans, range(len(spans)), strict=True)))
    moment, before = 0.0, len(spans) - 1
    for _ in range(3_000):
        assert cycle.at(moment) == (before + 1) % len(spans)
        assert cycle.until(moment) > moment
        before, moment = cycle.at(moment), cycle.until(moment)
