"""R1 without a trial."""

import math

import pytest

from pipesd.errors import UsageError
from pipesd.tuner.base import Score, Space
from pipesd.tuner.closed_form import ClosedFormTuner, closed_form_r1
from tests.contracts.tuners import bowl, check_tuner


def test_it_keeps_the_contract() -> None:
    check_tuner(ClosedFormTuner, Space())


@pytest.mark.parametrize(("token_s", "r1"), [(0.08, 0.5), (0.04, 1.0), (0.02, 1.0), (4.0, 0.01)])
def test_r1_is_what_a_draft_costs_over_what_a_token_costs(token_s: float, r1: float) -> None:
    assert closed_form_r1(0.04, token_s) == pytest.approx(r1)


@pytest.mark.parametrize("agreement", [0.8, 0.9, 0.93])
@pytest.mark.parametrize("round_s", [0.05, 0.15, 0.6])
def test_it_is_where_the_best_length_of_a_round_is(agreement: float, round_s: float) -> None:
    draft_s = 0.043
    costs = [
        (round_s + draft_s * count) / sum(agreement**at for at in range(count + 1)) for count in range(1, 60)
    ]
    count = 1 + costs.index(min(costs))
    r1 = closed_form_r1(draft_s, min(costs))
    assert agreement ** (count + 1) <= r1 * 1.0001
    assert count == 1 or agreement**count >= r1 * 0.9999


@pytest.mark.parametrize(
    ("step_s", "token_s"), [(-0.1, 1.0), (math.nan, 1.0), (0.1, 0.0), (0.1, math.inf), (0.1, math.nan)]
)
def test_impossible_costs_are_refused(step_s: float, token_s: float) -> None:
    with pytest.raises(UsageError, match="a draft and a token take finite times"):
        closed_form_r1(step_s, token_s)


def test_it_stays_with_the_closed_form() -> None:
    tuner = ClosedFormTuner()
    trial = tuner.ask(bowl(Space()))
    tuner.tell(trial, Score(100.0, 10.0))
    assert trial.unit is None
    assert tuner.best(bowl(Space())) is None
