from dataclasses import replace

import pytest

from pipesd.errors import UsageError
from pipesd.lab.heap import HeapPlay
from pipesd.lab.run import Experiment, simulate
from pipesd.lab.scenarios import SCENARIOS
from pipesd.lab.tuned import EVERY_DRAFT, FIXED, SPACE, Case, First, Search, Whole, cost_ms, points, shuffled
from pipesd.planner.trigger import Thresholds
from pipesd.tuner.choose import TunerKind
from tests.lab.recordings import MIXED

CASE = Case(trace="chat", scenario=SCENARIOS["s1"], prompts_max=3)


def test_a_case_is_the_first_prompts_of_a_recording_and_may_be_impossible():
    assert len(CASE.recording.prompts) == 3
    CASE.check()
    with pytest.raises(UsageError, match=r"^wire"):
        replace(CASE, wire="copper").check()


def test_j_is_time_and_the_weighted_work_of_the_cloud():
    figures = simulate(Experiment(trace=MIXED, scenario=SCENARIOS["s1"]))
    latency, balanced, cost = (cost_ms(figures, each) for each in ("latency", "balanced", "cost"))
    assert latency == figures.tpt_ms
    assert balanced - latency == pytest.approx(figures.cloud_ms_per_100 / 100)
    assert cost - latency == pytest.approx(4 * figures.cloud_ms_per_100 / 100)


def test_the_whole_is_what_the_lab_plays_with_these_thresholds():
    changed = {"r1": FIXED.r1, "r2": FIXED.r2}
    figures = simulate(Experiment(trace=CASE.recording, scenario=CASE.scenario, changed=changed))
    assert Whole(CASE, FIXED)() == cost_ms(figures, "balanced")


def test_the_closed_form_counts_the_work_of_the_cloud_if_the_objective_does():
    by_time = Whole(replace(CASE, objective="latency"), None)()
    figures = simulate(Experiment(trace=CASE.recording, scenario=CASE.scenario))
    assert by_time == figures.tpt_ms
    assert Whole(CASE, None)() != cost_ms(figures, "balanced")


def test_prompts_are_shuffled_by_the_seed_and_begin_again_if_they_are_too_few():
    tokens = sum(len(prompt.target) for prompt in MIXED.prompts)
    orders = {tuple(prompt.id for prompt in shuffled(MIXED, seed, tokens).prompts) for seed in range(20)}
    assert all(sorted(order) == sorted(prompt.id for prompt in MIXED.prompts) for order in orders)
    assert len(orders) > 5
    twice = shuffled(MIXED, 3, 2 * tokens).prompts
    assert twice[: len(twice) // 2] == twice[len(twice) // 2 :] == shuffled(MIXED, 3, tokens).prompts
    assert len(shuffled(MIXED, 3, 1).prompts) == 1


def test_the_first_tokens_end_with_a_verdict():
    """Of a text that is played as far as its last token they are the whole."""
    trace = shuffled(CASE.recording, 0, 1)
    experiment = CASE.experiment(trace, FIXED)
    play = HeapPlay(experiment.play)
    (answer,) = play.play().answers
    tokens = len(answer.tokens)
    assert First(CASE, FIXED, 0, tokens)() == pytest.approx(cost_ms(simulate(experiment), "balanced"))

    until, confirmed = answer.moments[1][0], answer.moments[0][1] + answer.moments[1][1]
    cloud_s = sum(took_s for ended, took_s in play.passes if ended <= until)
    expected = 1e3 * (until - answer.begun_s + cloud_s) / confirmed
    for count in (answer.moments[0][1] + 1, confirmed):
        assert First(CASE, FIXED, 0, count)() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["model-guided", "grid", "random", "fixed", "closed-form"])
def test_a_search_is_asked_after_each_trial_what_it_would_go_on_with(kind: TunerKind):
    found = Search(CASE, kind, 1, 3)()
    assert len(found.bests) == 3
    assert found.first_ms > 0.0
    assert Search(CASE, kind, 1, 3)() == found
    if kind == "closed-form":
        assert found.bests == (None, None, None)
        assert found.first_ms == First(CASE, None, 1, 60)()


def test_another_seed_is_another_search():
    assert Search(CASE, "random", 1, 3)() != Search(CASE, "random", 2, 3)()


def test_points_are_those_of_the_space_and_what_asks_about_every_draft_is_one():
    found = points(4)
    units = [unit for unit in SPACE.grid(4) if max(unit) < 1.0]
    assert [SPACE.unit(each) for each in found if each != EVERY_DRAFT] == [
        pytest.approx(unit) for unit in units
    ]
    assert len(found) == 16
    assert found.count(EVERY_DRAFT) == 7
    assert {each.upper_tokens for each in found} == {Thresholds().upper_tokens}


def test_if_one_threshold_is_1_the_other_does_not_matter():
    some = [Thresholds(r1=1.0, r2=0.0), Thresholds(r1=0.3, r2=1.0), EVERY_DRAFT]
    assert len({Whole(CASE, each)() for each in some}) == 1
