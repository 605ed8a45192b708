"""The last part of the report must count every loss, and only losses."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pipesd.lab.findings import findings
from pipesd.lab.metrics import Figures
from pipesd.lab.paper import POLICIES, Case, Results, case
from pipesd.lab.published import TABLE_1
from pipesd.lab.scenarios import SCENARIOS
from tests.lab.tiny import tiny

S1, S4 = SCENARIOS["s1"], SCENARIOS["s4"]
OURS = case("humaneval", S1, "pipesd")


def changed(wanted: Callable[[Case], bool], **figures: Any) -> Results:
    """The tiny results, with other figures for some cases."""
    before = tiny().figures

    def after(each: Case) -> Figures:
        return replace(before[each], **figures) if wanted(each) else before[each]

    return Results(tiny().grid, {each: after(each) for each in before})


def line(results: Results, beginning: str) -> str:
    found = [each for each in findings(results) if each.startswith(f"* {beginning}")]
    assert len(found) == 1
    return found[0].removeprefix("* ")


def is_ours(each: Case) -> bool:
    return each.policy == "pipesd" and not each.changed and each.wire == "ids"


def test_without_a_loss_none_is_named():
    quick = changed(is_ours, tpt_ms=0.1, passes_per_100=0.1, energy_j_per_100=0.1)
    for what in ("time: slower than the best baseline (section 1)", "passes: more than the best baseline"):
        assert line(quick, f"Default rules, {what}").endswith(": 0 of 2.")
    assert line(quick, "Default rules, energy").endswith(": 0 of 8.")
    assert ": 0 of 2. Its energy is" in line(quick, "Default rules, time: slower than the target alone")
    assert line(quick, "One thing at a time, time: slower than the target alone").endswith(": 0 of 4.")


def test_a_loss_is_named_with_its_size():
    best = tiny().best("humaneval", S1)
    slow = changed(lambda each: each == OURS, tpt_ms=1.25 * best.tpt_ms, passes_per_100=100.0)
    said = line(slow, "Default rules, time: slower than the best baseline (section 1)")
    assert said.endswith(": 1 of 2: humaneval in s1 (1.250).")
    passes = 100.0 / best.passes_per_100
    assert f"humaneval in s1 ({passes:.3f})" in line(slow, "Default rules, passes")


def test_what_no_thresholds_reach_is_said():
    fast = changed(lambda each: each.policy == "hsl" and each.scenario == S4, tpt_ms=1.0, passes_per_100=1.0)
    assert line(fast, "No thresholds of the grid with at most").endswith(": humaneval in s4.")
    assert line(fast, "No thresholds of the grid as fast as a baseline").endswith(": humaneval in s4, hsl.")
    assert not any("No thresholds" in each for each in findings(changed(bool, tpt_ms=9.0)))


def test_energy_is_set_beside_the_papers_range():
    def saving(joules: float) -> str:
        """What is said if all tuned cases take so many J, and the baselines 100."""
        results = changed(lambda each: len(each.changed) == 3, energy_j_per_100=joules, tpt_ms=0.1)
        figures = {
            each: found if each.policy == "pipesd" else replace(found, energy_j_per_100=100.0)
            for each, found in results.figures.items()
        }
        return line(Results(results.grid, figures), "Thresholds of the grid, energy: less than")

    assert saving(80.0).endswith("the paper's 14.3 to 25.3 % saved in 0 of 8, as much in 8, more in 0.")
    assert saving(50.0).endswith("saved in 0 of 8, as much in 0, more in 8.")
    assert saving(90.0).endswith("saved in 8 of 8, as much in 0, more in 0.")


def test_a_part_that_costs_or_does_nothing_is_named():
    ours = tiny().figures[OURS].tpt_ms
    good = changed(lambda each: each.policy == "pipesd-never-ahead", tpt_ms=0.8 * ours)
    assert "pipesd-never-ahead, humaneval, ids (1.250)" in line(good, "Default rules in s1, time")
    same = changed(lambda each: each.policy == "pipesd-never-ahead" and each.wire == "ids", tpt_ms=ours)
    assert "pipesd-never-ahead, humaneval, ids" in line(same, "Parts that change nothing in s1")


def test_many_losses_are_not_all_listed():
    alone = changed(lambda each: each.policy.startswith("pipesd-"), tpt_ms=1.0)
    said = line(alone, "Default rules in s1, time: slower than without one of its parts")
    assert ": 16 of 16: most in " in said
    assert "; least in " in said


def test_the_paper_is_set_beside_the_means():
    paper = TABLE_1.values
    row_1, row_4 = (paper[name, "humaneval"] for name in ("s1", "s4"))
    mean = (row_1["hsl"] / row_1["pipesd"] * row_4["hsl"] / row_4["pipesd"]) ** 0.5
    even = changed(lambda each: True, tpt_ms=50.0)
    said = line(even, "pipesd is 1.00 times as fast as hsl with ids, 1.00 times with full")
    assert f"and {mean:.2f} times in the paper" in said
    assert line(even, "Of 2 cases edgellm is faster than hsl").endswith(
        "in 0 with ids, in 0 with full distributions and in 2 in the paper."
    )
    assert f"{row_4['pipesd'] / row_1['pipesd']:.2f} in the paper" in line(even, "From s1 to s4")


def test_without_the_papers_cases_the_rest_is_said():
    chats = {case("chat", S1, policy): tiny().of("humaneval", S1, policy) for policy in POLICIES}
    grid = replace(tiny().grid, traces=("chat",), scenarios=("s1",))
    results = Results(grid, {**tiny().figures, **chats})
    assert not any("in the paper (geometric" in each for each in findings(results))
    assert not any("From s1 to s4" in each for each in findings(results))
    assert "with ids" in line(results, "From 20 to 20 Mbit/s")
