"""The page: what its tables say is what was played, and nothing in it depends on when or where."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from pipesd.lab.paper import BASELINES, POLICIES, Results, case
from pipesd.lab.published import TABLE_1
from pipesd.lab.report import DRAWN, report, timeline_name
from pipesd.lab.scenarios import SCENARIOS
from pipesd.planner.policies import ABLATIONS
from tests.lab.tiny import TINY, tiny

S1, S4 = SCENARIOS["s1"], SCENARIOS["s4"]


@pytest.fixture(scope="module")
def page() -> str:
    return report(tiny())


def rows(page: str, title: str) -> list[list[str]]:
    """The cells of the first table behind a heading, its head included."""
    found: list[list[str]] = []
    for line in page.partition(f" {title}\n")[2].splitlines():
        if line.startswith("|"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
        elif found:
            break
    del found[1]
    return found


def test_it_says_first_what_all_figures_are(page: str):
    assert page.splitlines()[2].startswith("All figures are *replayed and modelled*")
    assert "`pipesd-lab paper --seed 0 --quick`" in page
    assert "only the first 1 prompts" in page
    whole = report(Results(replace(TINY, prompts_max=None, seed=7), tiny().figures))
    assert "`pipesd-lab paper --seed 7`" in whole
    assert "not a result" not in whole


def test_the_same_figures_give_the_same_page(page: str):
    again = Results(TINY, dict(reversed(list(tiny().figures.items()))))
    assert report(again) == page


def test_every_table_is_whole(page: str):
    lines = page.splitlines()
    for before, line in pairwise(lines):
        if before.startswith("|") and line.startswith("|"):
            assert line.count("|") == before.count("|")
    assert not re.search(r"nan|inf\b|None|\b0x", page)
    assert page.endswith(".\n")


def test_time_and_passes_are_those_that_were_played(page: str):
    head, *body = rows(page, "1. Time per token")
    assert head == ["trace", "scenario", *POLICIES, "ratio"]
    assert [cells[:2] for cells in body] == [["humaneval", "s1"], ["humaneval", "s4"]]
    played = [tiny().of("humaneval", S4, policy) for policy in POLICIES]
    assert body[1][2:-1] == [f"{each.tpt_ms:.1f} ({each.passes_per_100:.1f})" for each in played]
    assert body[1][-1].strip("*") == f"{tiny().ratio('humaneval', S4):.3f}"


def test_the_papers_table_stands_beside_both_wires(page: str):
    head, first, _, mean = rows(page, "Beside the paper's Table 1")
    assert head[3:6] == ["vanilla, ids", "vanilla, full-distribution", "vanilla, paper"]
    assert first[:3] == ["s1", "humaneval", "HumanEval"]
    published = TABLE_1.values["s1", "humaneval"]
    ours = [tiny().speedup("humaneval", S1, "vanilla", wire=wire) for wire in ("ids", "full-distribution")]
    expected = [*ours, published["vanilla"] / published["pipesd"]]
    assert [cell.strip("*") for cell in first[3:6]] == [f"{each:.2f}" for each in expected]
    assert mean[:2] == ["all", "geometric mean"]


def test_where_pipesd_is_slower_the_ratio_is_bold():
    best = tiny().best("humaneval", S1)
    ours = case("humaneval", S1, "pipesd")
    slow = replace(tiny().figures[ours], tpt_ms=2 * best.tpt_ms)
    page = report(Results(TINY, {**tiny().figures, ours: slow}))
    assert rows(page, "1. Time per token")[1][-1] == "**2.000**"
    assert rows(page, "2. Never slower")[1][4] == "**2.000**"


def test_thresholds_that_keep_to_the_passes_stand_beside_the_default_rules(page: str):
    body = rows(page, "2. Never slower")[1:]
    best = tiny().best("humaneval", S1)
    found = tiny().fastest("humaneval", S1, 1.1 * best.passes_per_100)
    assert found is not None
    assert body[0][2] == f"{best.setting.policy} {best.tpt_ms:.1f} ({best.passes_per_100:.1f})"
    assert body[0][-1].strip("*") == f"{found.tpt_ms / best.tpt_ms:.3f}"
    assert body[-1][:2] == ["all", "geometric mean"]


def test_where_no_thresholds_will_do_that_is_said():
    alert = case("humaneval", S1, "edgellm")
    fast = replace(tiny().figures[alert], tpt_ms=1.0, passes_per_100=1.0)
    page = report(Results(TINY, {**tiny().figures, alert: fast}))
    assert rows(page, "2. Never slower")[1][6:] == ["**none**", "", ""]
    energy = {tuple(cells[:3]): cells for cells in rows(page, "4. Energy")[1:]}
    assert energy["humaneval", "s1", "edgellm"][4] == "**none**"


def test_energy_is_set_beside_every_baseline(page: str):
    body = rows(page, "4. Energy")[1:]
    assert [cells[2] for cells in body] == [*BASELINES, *BASELINES]
    theirs = tiny().of("humaneval", S1, "vanilla")
    found = tiny().thriftiest("humaneval", S1, theirs.tpt_ms)
    assert found is not None
    assert body[0][3] == f"{theirs.energy_j_per_100:.0f}"
    share = 100 * (1 - found.energy_j_per_100 / theirs.energy_j_per_100)
    assert body[0][6].strip("*") == f"{share:.1f} %"
    assert "14.3 to 25.3 %" in page


def test_wires_and_parts_are_all_there(page: str):
    assert [cells[1] for cells in rows(page, "5. Full distributions on the wire")[1:]] == list(POLICIES)
    head, whole, *parts = rows(page, "Parts left out, or done otherwise")
    assert head[:3] == ["policy", "humaneval, ids", "humaneval, full-distribution"]
    assert whole[:4] == ["pipesd", "1.00", "1.00", "1.00"]
    assert [cells[0] for cells in parts] == [*ABLATIONS, "vanilla"]
    assert rows(page, "Bandwidth")[1][-3:] == ["1.47", "1.18", "1.16"]


def test_where_the_target_alone_is_faster_is_said_plainly(page: str):
    assert "round trip, ms: humaneval at 0, 200." in page
    assert "pass v0, ms: humaneval at none of these." in page
    ratios = [float(cells[-1].strip("*")) for cells in rows(page, "6. One thing at a time")[1:]]
    assert min(ratios) > 1


def test_where_pipesd_is_faster_than_the_target_alone_is_said_too(page: str):
    assert "faster than the target alone (cloud-only) here: nowhere." in page
    ours = case("humaneval", S4, "pipesd")
    fast = replace(tiny().figures[ours], tpt_ms=1.0)
    page = report(Results(TINY, {**tiny().figures, ours: fast}))
    assert "faster than the target alone (cloud-only) here: humaneval in s4." in page


def test_it_shows_the_pictures_that_are_drawn(page: str):
    shown = re.findall(r"\]\((.*?)\)", page)
    assert {timeline_name(*drawn) for drawn in DRAWN} < set(shown)
    assert len(shown) == len(set(shown)) == 4 + len(DRAWN)
