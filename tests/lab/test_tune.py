import json
import sys
from dataclasses import replace
from statistics import fmean

import pytest

from pipesd.errors import UsageError
from pipesd.lab.jobs import working
from pipesd.lab.scenarios import COMPARED
from pipesd.lab.tune import Study, Table, compare, jobs_of
from pipesd.lab.tuned import FIXED, SPACE, Case, First, Search, Whole, points
from pipesd.planner.trigger import Thresholds
from pipesd.tuner.choose import TUNERS
from tests.lab.tiny_tune import TINY_STUDY, tiny_comparison

TABLE = Table(3, [9.0, 8.0, 7.0, 6.0, 1.0, 3.0, 5.0, 4.0, 2.0])


def at(r1: float, r2: float) -> Thresholds:
    return SPACE.thresholds((r1, r2), Thresholds())


def test_by_default_all_tuners_are_compared_everywhere():
    study = Study()
    assert study.tuners == TUNERS
    assert [scenario.name for scenario in study.scenarios] == list(COMPARED)
    assert len(study.cases) == 6 * len(study.traces)
    assert (study.seeds, study.trials, study.per_axis, study.objective) == (20, 16, 20, "balanced")


def test_what_cannot_be_played_is_said_before_anything_is(monkeypatch: pytest.MonkeyPatch):
    TINY_STUDY.check()
    with pytest.raises(UsageError, match=r"^wire"):
        replace(TINY_STUDY, wire="copper").check()
    monkeypatch.setitem(sys.modules, "botorch", None)
    with pytest.raises(UsageError, match=r"pipesd\[tuner\]"):
        Study().check()


def test_a_table_knows_its_best_point():
    assert (TABLE.least_ms, TABLE.best) == (1.0, points(3)[4])


@pytest.mark.parametrize(
    ("r1", "r2", "expected"),
    [
        (0.0, 0.0, 9.0),
        (1.0, 1.0, 2.0),
        (0.5, 0.5, 1.0),
        (0.25, 0.0, 7.5),
        (0.5, 0.75, 2.0),
        (0.75, 0.75, 2.5),
    ],
)
def test_between_points_it_is_linear_both_ways(r1: float, r2: float, expected: float):
    assert TABLE.at(at(r1, r2)) == pytest.approx(expected)


def test_regret_is_measured_on_the_whole_recording_against_the_best_point():
    comparison = tiny_comparison()
    for each in comparison.cases:
        assert list(each.table.costs_ms) == [Whole(each.case, point)() for point in points(3)]
        for kind, thresholds in (("fixed", FIXED), ("closed-form", None)):
            regret = Whole(each.case, thresholds)() / each.table.least_ms - 1.0
            assert each.tuners[kind].regret_by_trial == pytest.approx((regret,) * 3)


def test_what_is_found_is_averaged_over_seeds():
    outcome = tiny_comparison().cases[0]
    finals = [Search(outcome.case, "random", seed, 3)().bests[-1] for seed in range(2)]
    expected = fmean(Whole(outcome.case, best)() for best in finals) / outcome.table.least_ms - 1.0
    assert outcome.tuners["random"].final_regret == pytest.approx(expected)


def test_exploring_costs_what_the_same_tokens_take_with_the_best_point():
    outcome = tiny_comparison().cases[1]
    ratios = [
        Search(outcome.case, "model-guided", seed, 3)().first_ms
        / First(outcome.case, outcome.table.best, seed, 60)()
        for seed in range(2)
    ]
    assert outcome.tuners["model-guided"].explore_cost == pytest.approx(fmean(ratios))


def test_means_and_worst_cases_are_over_cases():
    comparison = tiny_comparison()
    one, other = (each.tuners["fixed"] for each in comparison.cases)
    assert comparison.tuners["fixed"].final_regret == pytest.approx(
        (one.final_regret + other.final_regret) / 2
    )
    assert comparison.worst("fixed", 1) == max(one.final_regret, other.final_regret)


def test_json_holds_what_is_asked_of_it():
    answer = json.loads(json.dumps(tiny_comparison().as_json()))
    assert set(answer["tuners"]) == set(TINY_STUDY.tuners)
    for outcome in [*answer["tuners"].values(), *(case["tuners"]["grid"] for case in answer["cases"])]:
        assert set(outcome) == {"final_regret", "regret_by_trial", "explore_cost"}
        assert outcome["regret_by_trial"][-1] == outcome["final_regret"]
        assert len(outcome["regret_by_trial"]) == 3
    assert [(case["scenario"], case["trace"]) for case in answer["cases"]] == [("s1", "chat"), ("s3", "chat")]
    assert (answer["seeds"], answer["scenarios"], answer["traces"]) == (2, ["s1", "s3"], ["chat"])
    assert answer["basis"] == "replayed and modelled"
    assert answer["interpolated"]["tuners"] == ["random"]


def test_processes_change_nothing_and_every_play_is_told():
    few = replace(TINY_STUDY, scenarios=TINY_STUDY.scenarios[:1], tuners=("closed-form", "grid"), per_axis=2)
    told: list[None] = []
    with working(1, lambda: told.append(None)) as alone:
        once = compare(few, alone)
    with working(2) as together:
        assert compare(few, together) == once
    assert abs(len(told) - jobs_of(few)) <= few.trials * few.seeds


def test_a_case_without_its_objective_is_another():
    assert Study(objective="cost").cases[0] == Case(
        trace="humaneval", scenario=Study().scenarios[0], objective="cost"
    )
