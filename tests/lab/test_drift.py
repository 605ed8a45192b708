import json
from dataclasses import replace

import pytest

from pipesd.lab.drift import (
    BANDS,
    DriftStudy,
    Foreseen,
    Guided,
    Long,
    Taken,
    compare_drift,
    conditions_of,
    plays_of,
)
from pipesd.lab.emulator import LinkEmulator
from pipesd.lab.jobs import working
from pipesd.lab.run import simulate
from pipesd.lab.scenarios import SCENARIOS
from pipesd.lab.tuned import FIXED, Case, cost_ms, shuffled
from pipesd.planner.trigger import Thresholds
from tests.lab.tiny_tune import TINY_DRIFT, tiny_drift

S4 = Case(trace="chat", scenario=SCENARIOS["s4"], wire="full-distribution")
HANDOVER = Case(trace="chat", scenario=SCENARIOS["wifi-4g"])


def test_three_worlds_change_by_default():
    named = [(scenario.name, wire) for scenario, wire in DriftStudy().worlds]
    assert named == [("s4", "full-distribution"), ("wifi-4g", "ids"), ("throttled", "ids")]


def test_the_conditions_of_phases_are_the_phases():
    conditions = conditions_of(HANDOVER, 0)
    assert conditions.scenarios == tuple(SCENARIOS["wifi-4g"].course.values)
    assert [conditions.at(moment) for moment in (0.0, 29.0, 30.0, 59.0, 61.0)] == [0, 0, 1, 1, 0]


def test_what_never_changes_has_one():
    conditions = conditions_of(replace(S4, scenario=SCENARIOS["s1"]), 0)
    assert (conditions.scenarios, conditions.at(1e6)) == ((SCENARIOS["s1"],), 0)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_conditions_of_drawn_rates_are_bands_of_them(seed: int):
    conditions = conditions_of(S4, seed)
    assert [each.up_bits_per_s for each in conditions.scenarios] == pytest.approx(
        [17e6, 31e6, 45e6, 59e6, 73e6]
    )
    assert {each.down_bits_per_s for each in conditions.scenarios} == {215e6}
    assert all(each.uplink.is_plain for each in conditions.scenarios)
    up = LinkEmulator(S4.scenario.uplink, 2 * seed)
    for moment in range(0, 600, 20):
        rate = 8 * up.bytes_per_s(moment + 1.0)
        assert abs(conditions.scenarios[conditions.at(moment + 1.0)].up_bits_per_s - rate) <= 7e6 + 1
    assert {conditions.at(20.0 * number) for number in range(100)} == set(range(BANDS))


def test_foreseeing_the_same_everywhere_is_not_to_follow_at_all():
    assert Foreseen(HANDOVER, (FIXED, FIXED), 1, 150)() == Long(HANDOVER, FIXED, 1, 150)()


def test_an_oracle_switches_with_the_condition():
    seldom, always = Thresholds(r1=0.84, r2=0.0), Thresholds(r1=0.0, r2=1.0)
    case = replace(HANDOVER, scenario=SCENARIOS["throttled"])
    both = Foreseen(case, (seldom, always), 0, 900)()
    cool, hot = Long(case, seldom, 0, 900)(), Long(case, always, 0, 900)()
    assert all(both.tokens)
    for taken, place in ((cool, 0), (hot, 1)):
        mine, theirs = (each.costs_ms[place] / each.tokens[place] for each in (both, taken))
        assert mine == pytest.approx(theirs, rel=0.01)
    assert len({both, cool, hot}) == 3


def test_what_is_taken_is_all_that_the_lab_measures():
    case = replace(HANDOVER, scenario=SCENARIOS["throttled"])
    taken = Long(case, FIXED, 0, 900)()
    experiment = case.experiment(shuffled(case.recording, 0, 900), FIXED)
    figures = simulate(experiment)
    assert sum(taken.tokens) == figures.tokens
    assert taken.total_ms == pytest.approx(cost_ms(figures, "balanced"))
    assert taken.mixed_ms(taken) == pytest.approx(taken.total_ms)


def test_conditions_count_as_they_do_for_another():
    mine, other = Taken((10, 30), (100.0, 900.0)), Taken((20, 20), (1.0, 1.0))
    assert mine.total_ms == 25.0
    assert mine.mixed_ms(other) == (10.0 + 30.0) / 2
    assert Taken((0, 30), (0.0, 900.0)).mixed_ms(other) == 30.0
    assert mine.mixed_ms(Taken((5, 0), (1.0, 0.0))) == 10.0


def test_the_tuner_follows_by_itself():
    assert Guided(HANDOVER, 0, 150)() == Guided(HANDOVER, 0, 150)()


def test_all_are_compared_on_the_same_texts():
    comparison = tiny_drift()
    assert [(each.case.scenario.name, each.case.wire) for each in comparison.outcomes] == [
        ("wifi-4g", "ids"),
        ("s4", "full-distribution"),
    ]
    for outcome in comparison.outcomes:
        costs = outcome.costs_ms
        assert set(costs) == {"model-guided", "closed-form", "best fixed", "oracle"}
        assert outcome.ratio("model-guided", "oracle") == costs["model-guided"] / costs["oracle"]
        fixed = [Long(outcome.case, outcome.best_fixed, seed, 100)() for seed in range(2)]
        usual = [Long(outcome.case, None, seed, 100)() for seed in range(2)]
        expected = [taken.mixed_ms(like) for taken, like in zip(fixed, usual, strict=True)]
        assert costs["best fixed"] == pytest.approx(sum(expected) / 2)
        assert outcome.totals_ms["closed-form"] == pytest.approx(sum(each.total_ms for each in usual) / 2)
    assert [len(each.best_of_conditions) for each in comparison.outcomes] == [2, BANDS]


def test_json_holds_the_ratios():
    answer = json.loads(json.dumps(tiny_drift().as_json()))
    for case, outcome in zip(answer["cases"], tiny_drift().outcomes, strict=True):
        assert case["tuned_over_oracle"] == outcome.ratio("model-guided", "oracle")
        assert case["tuned_over_best_fixed"] == outcome.ratio("model-guided", "best fixed")
        assert set(case["best_fixed"]) == {"r1", "r2"}
    assert (answer["seeds"], answer["tokens"], answer["basis"]) == (2, 100, "replayed and modelled")


def test_every_play_is_told():
    few = replace(TINY_DRIFT, worlds=TINY_DRIFT.worlds[:1], seeds=1)
    told: list[None] = []
    with working(1, lambda: told.append(None)) as processes:
        compare_drift(few, processes)
    assert len(told) == plays_of(few)
