from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipesd.lab.load_report import draw_load, load_report
from pipesd.lab.load_study import LoadComparison
from pipesd.lab.scenarios import SCENARIOS
from tests.lab.tiny_load import tiny_loads

COMMAND = "pipesd-lab load --edges 4"


@cache
def page() -> str:
    return load_report(tiny_loads(), COMMAND)


def row(page: str, *begin: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {' | '.join(begin)} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def with_passes(ours: tuple[float, float, float]) -> LoadComparison:
    """As if batched had so many passes at 1, 2 and 4 edges, and cloud-only 10."""
    comparison = tiny_loads()
    figures = dict(comparison.figures)
    for edges, passes in zip((1, 2, 4), ours, strict=True):
        figures["batched", edges] = replace(figures["batched", edges], passes_per_100=passes)
        figures["cloud-only", edges] = replace(figures["cloud-only", edges], passes_per_100=10.0)
    return replace(comparison, figures=figures)


def test_the_page_says_what_it_rests_on_and_how_it_was_made():
    assert "*replayed and modelled*" in page()
    assert f"`{COMMAND}`" in page()
    assert "modelled, 300 W while the target works, 60 W while it waits" in page()
    assert "(load.png)" in page()
    assert page() == load_report(tiny_loads(), COMMAND)


def test_figures_are_those_of_the_comparison():
    figures = tiny_loads().figures["one-lock", 2]
    cells = row(page(), "one-lock", "2")
    assert cells[2] == f"{figures.tokens_per_s:.1f}"
    assert cells[-1] == f"{figures.energy_j_per_100:.0f}"
    ours, alone = (tiny_loads().figures[system, 4] for system in ("batched", "cloud-only"))
    assert row(page(), "4")[3] == f"{ours.tokens_per_s / alone.tokens_per_s:.2f}"
    assert row(page(), "1")[1] == "1.0"


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ((1.0, 9.0, 9.9), "at every load that was played"),
        ((10.0, 11.0, 12.0), "**at no load that was played**"),
        ((1.0, 9.0, 11.0), "at 1 and 2 edges, **not at 4 edges**"),
        ((1.0, 11.0, 12.0), "at 1 edge, **not at 2 and 4 edges**"),
    ],
)
def test_it_is_said_where_the_gain_ends(ours: tuple[float, float, float], said: str):
    assert f"* fewer passes per 100 tokens: {said}\n" in load_report(with_passes(ours), COMMAND)


def test_why_the_target_by_itself_may_be_faster_is_said_where_it_may():
    assert "A draft step takes 43 ms here, and a pass over one token 26 ms." in page()
    comparison = tiny_loads()
    fast = replace(comparison.study.load, scenario=SCENARIOS["fast"])
    study = replace(comparison.study, load=fast)
    assert "A draft step takes" not in load_report(replace(comparison, study=study), COMMAND)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "comes with the end of its answer"),
        ({"think_s": 2.5}, "comes 2.5 s after its answer, on average"),
        ({"arrivals": "poisson", "rate": 3.0}, "by Poisson, 3 per s on all edges together"),
    ],
)
def test_users_are_described(changed: dict[str, Any], said: str):
    comparison = tiny_loads()
    study = replace(comparison.study, load=replace(comparison.study.load, **changed))
    assert said in load_report(replace(comparison, study=study), COMMAND)


def test_the_picture_is_the_same_each_time(tmp_path: Path):
    for name in ("one.png", "other.png"):
        draw_load(tiny_loads(), tmp_path / name)
    one, other = ((tmp_path / name).read_bytes() for name in ("one.png", "other.png"))
    assert one == other
    assert one.startswith(b"\x89PNG")
