from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from pipesd.lab.tune import Comparison, Outcome
from pipesd.lab.tune_report import draw_regrets, tune_report
from tests.lab.tiny_tune import tiny_comparison, tiny_drift

COMMAND = "pipesd-lab tune --seeds 2"


@cache
def page() -> str:
    return tune_report(tiny_comparison(), tiny_drift(), COMMAND)


def row(page: str, *begin: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {' | '.join(begin)} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def with_final(comparison: Comparison, kind: str, regret: float) -> Comparison:
    outcome = Outcome(regret_by_trial=(regret,) * comparison.study.trials, explore_cost=1.0)
    cases = [replace(each, tuners={**each.tuners, kind: outcome}) for each in comparison.cases]
    return replace(comparison, cases=cases)


def test_the_page_says_what_it_rests_on_and_how_it_was_made():
    assert "*replayed and modelled*" in page()
    assert f"`{COMMAND}`" in page()
    assert "grid of 3 by 3" in page()
    assert "first 60 tokens" in page()
    assert "(tuning.png)" in page()
    assert page() == tune_report(tiny_comparison(), tiny_drift(), COMMAND)


def test_means_and_cases_are_those_of_the_comparison():
    comparison = tiny_comparison()
    fixed = comparison.tuners["fixed"]
    cells = row(page(), "fixed")
    assert cells[3] == f"{100 * fixed.final_regret:.1f} %"
    assert cells[-1] == f"{fixed.explore_cost:.3f}"
    first = comparison.cases[0]
    best = first.table.best
    assert row(page(), "s1", "chat")[2:4] == [f"{first.table.least_ms:.1f}", f"{best.r1:.3f} / {best.r2:.3f}"]


@pytest.mark.parametrize(("regret", "is_bold"), [(9.0, True), (-9.0, False)])
def test_what_does_worse_than_the_closed_form_is_bold(regret: float, is_bold: bool):
    changed = with_final(tiny_comparison(), "model-guided", regret)
    cell = row(tune_report(changed, None, COMMAND), "s3", "chat")[4]
    assert cell == (f"**{100 * regret:.1f} %**" if is_bold else f"{100 * regret:.1f} %")


def test_what_lies_between_points_of_the_grid_is_said():
    assert "What random would have gone on with" in page()
    study = replace(tiny_comparison().study, tuners=("closed-form", "grid"))
    assert "would have gone on with before" not in tune_report(
        replace(tiny_comparison(), study=study), None, COMMAND
    )


def test_drift_is_a_part_of_its_own():
    outcome = tiny_drift().outcomes[0]
    cells = row(page(), "wifi-4g, ids", "chat")
    assert cells[-2].strip("*") == f"{outcome.ratio('model-guided', 'oracle'):.3f}"
    assert len(row(page(), "s4", "chat")[3].split(";")) == 5
    assert "Conditions that change" not in tune_report(tiny_comparison(), None, COMMAND)


def test_the_picture_is_the_same_each_time(tmp_path: Path):
    for name in ("one.png", "other.png"):
        draw_regrets(tiny_comparison(), tmp_path / name)
    one, other = ((tmp_path / name).read_bytes() for name in ("one.png", "other.png"))
    assert one == other
    assert one.startswith(b"\x89PNG")
