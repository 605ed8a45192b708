"""What is played beside the paper, on a grid small enough to be played at once."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipesd.errors import UsageError
from pipesd.lab import paper
from pipesd.lab.gantt import belong_together
from pipesd.lab.paper import (
    BANDWIDTH,
    GRID,
    POLICIES,
    Sweep,
    case,
    cases,
    experiment,
    padded,
    play,
    quick,
    timeline,
    trace_named,
)
from pipesd.lab.run import Experiment, run, simulate
from pipesd.lab.scenarios import SCENARIOS
from pipesd.planner.policies import POLICIES as PRESETS
from tests.lab.recordings import SMALL
from tests.lab.tiny import TINY, tiny

S1 = SCENARIOS["s1"]


# -- what there is ------------------------------------------------------------------------------------------


def test_for_code_the_baselines_are_the_presets():
    for trace in ("humaneval", "q2_k/humaneval"):
        assert not any(case(trace, S1, policy).changed for policy in POLICIES)


def test_for_other_texts_they_have_the_papers_settings_for_mathematics():
    for trace in ("maths", "chat", "q2_k/chat"):
        assert [dict(case(trace, S1, policy).changed) for policy in POLICIES] == [
            {},
            {"n": 4},
            {"r2": 0.7},
            {"r1": 0.5},
            {"r1": 0.5},
            {},
        ]


def test_the_whole_grid_plays_every_case_once():
    found = cases(GRID)
    assert len(found) == len(set(found))
    assert len([each for each in found if len(each.changed) == 3]) == 9 * 8 * 3 * 6 * 2
    assert {each.policy for each in found} == set(PRESETS) - {"edge-only"}


@pytest.mark.parametrize("sweep", [*GRID.sweeps, BANDWIDTH])
def test_a_sweep_passes_through_the_scenario_itself(sweep: Sweep):
    scenario, tokens = sweep.place(sweep.usual)
    assert replace(scenario, name="s1") == S1
    assert tokens == 0
    assert sweep.usual in sweep.at or not sweep.usual
    places = {sweep.place(value) for value in sweep.at}
    assert len(places) == len(sweep.at)


def test_half_of_a_round_trip_goes_each_way():
    sweep = next(each for each in GRID.sweeps if each.name == "round-trip")
    assert sweep.place(100)[0].delay_ms == 50.0


def test_a_look_is_the_same_with_few_prompts():
    assert quick(GRID) == replace(GRID, prompts_max=4)
    assert len(trace_named("chat", 4).prompts) == 4 < len(trace_named("chat").prompts)


def test_traces_that_are_not_there_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "chat").touch()
    monkeypatch.setattr(paper, "shipped_trace", lambda name: tmp_path / name)
    assert replace(GRID, traces=("maths", "chat")).here == ("chat",)


# -- prompts of another length ------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [2, 3, 4, 9, 40])
def test_prompts_get_the_length_asked_for_and_stay_apart(tokens: int):
    found = padded(SMALL, tokens).prompts
    texts = {prompt.prompt_tokens for prompt in found}
    assert {len(text) for text in texts} == {tokens}
    assert len(texts) == len(found) == 3


def test_a_longer_prompt_repeats_itself_in_front_and_a_shorter_one_lacks_its_beginning():
    assert padded(SMALL, 8).prompts[0].prompt_tokens == (0, 7, 5, 6, 7, 5, 6, 7)
    assert padded(SMALL, 3).prompts[2].prompt_tokens == (2, 9, 9)


def test_answers_stay_what_they_are():
    long = padded(SMALL, 600)
    assert [prompt.target for prompt in long.prompts] == [prompt.target for prompt in SMALL.prompts]
    whole, longer = (simulate(Experiment(trace=trace, scenario=S1)) for trace in (SMALL, long))
    assert longer.text_sha256 == whole.text_sha256
    assert longer.ttft_ms > whole.ttft_ms + 590 * S1.pass_token_ms


# -- playing ------------------------------------------------------------------------------------------------


def test_every_case_is_played_as_the_lab_plays_it():
    results = tiny()
    assert list(results.figures) == cases(TINY)
    for policy, wire in (("vanilla", "ids"), ("pipesd", "full-distribution")):
        trace = trace_named("humaneval", 1)
        expected = simulate(Experiment(trace=trace, scenario=S1, policy=policy, wire=wire))
        assert results.of("humaneval", S1, policy, wire=wire) == expected


@pytest.mark.parametrize(("policy", "prompt_tokens"), [("cloud-only", 600), ("pipesd", 600), ("hsl", 0)])
def test_the_production_actors_give_the_same_figures(policy: str, prompt_tokens: int):
    wire = "ids" if prompt_tokens else "full-distribution"
    each = experiment(case("humaneval", S1, policy, wire=wire, prompt_tokens=prompt_tokens), TINY)
    assert run(each) == simulate(each)


def test_the_number_of_processes_changes_nothing_and_progress_is_told():
    few = replace(TINY, scenarios=("s1",), r1=(0.9,), sweeps=())
    told: list[int] = []
    together = play(few, told.append, processes=2)
    assert together == play(few, processes=1)
    assert told == list(range(1, len(cases(few)) + 1))


def test_a_failure_in_another_process_comes_out_as_it_is():
    impossible = replace(TINY, scenarios=("s1",), sweeps=(), upper_tokens=(64,))
    with pytest.raises(UsageError, match=r"^window_tokens"):
        play(impossible, processes=2)


def test_the_seed_is_that_of_the_links_luck():
    other = paper._play_one(replace(TINY, seed=3), case("humaneval", SCENARIOS["s4"], "vanilla"))
    assert other.setting.seed == 3
    assert tiny().of("humaneval", SCENARIOS["s4"], "vanilla").setting.seed == 0


def test_a_timeline_shows_both_sides_and_always_the_same():
    drawn = case("humaneval", S1, "pipesd")
    events = timeline(drawn, TINY)
    assert {event.pid for event in events} == {1, 2}
    assert belong_together(events)
    assert events == timeline(drawn, TINY)


# -- what was played ----------------------------------------------------------------------------------------


def test_the_best_baseline_is_the_fastest_of_three():
    results = tiny()
    times = {name: results.of("humaneval", S1, name).tpt_ms for name in ("vanilla", "hsl", "edgellm")}
    best = results.best("humaneval", S1)
    assert best.tpt_ms == min(times.values()) == times[best.setting.policy]
    ours = results.of("humaneval", S1, "pipesd").tpt_ms
    assert results.ratio("humaneval", S1) == ours / best.tpt_ms
    assert results.speedup("humaneval", S1, "hsl") == times["hsl"] / ours


def test_thresholds_are_chosen_for_time_or_for_energy_within_a_limit():
    results = tiny()
    tuned = results.tuned("humaneval", S1)
    assert len(tuned) == 2
    many, few = sorted(tuned, key=lambda each: -each.passes_per_100)
    assert many.tpt_ms < few.tpt_ms
    assert few.energy_j_per_100 < many.energy_j_per_100
    assert results.fastest("humaneval", S1, 100.0) == many
    assert results.fastest("humaneval", S1, few.passes_per_100) == few
    assert results.fastest("humaneval", S1, 0.0) is None
    assert results.thriftiest("humaneval", S1, 1e6) == few
    assert results.thriftiest("humaneval", S1, many.tpt_ms) == many
    assert results.thriftiest("humaneval", S1, 0.0) is None


def test_a_case_that_was_not_played_is_a_mistake():
    with pytest.raises(KeyError):
        tiny().of("chat", S1, "pipesd")
