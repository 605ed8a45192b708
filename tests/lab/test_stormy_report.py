"""The page on faults: its figures are those of the findings, and what is wrong is not hidden."""

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from pipesd.lab.stormy import BASIS, FaultFindings
from pipesd.lab.stormy_play import WEIGHTS
from pipesd.lab.stormy_report import faults_report
from tests.lab.tiny_storm import tiny_storm

COMMAND = "pipesd-lab faults --seed 7 -o DIR"


@cache
def page() -> str:
    return faults_report(tiny_storm(), COMMAND)


def row(page: str, begin: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {begin} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def worse(**changed: object) -> FaultFindings:
    """As if the first answer of the first trip had been otherwise in the storm."""
    findings = tiny_storm()
    first, *others = findings.outcomes
    part, *parts = first.storm.parts
    storm = replace(first.storm, parts=[replace(part, **changed), *parts])  # type: ignore[arg-type]
    return replace(findings, outcomes=[replace(first, storm=storm), *others])


def test_it_says_what_it_rests_on_and_how_it_was_made():
    assert f"*{BASIS}*" in page()
    assert f"`{COMMAND}`" in page()
    assert "a fault comes every 800 ms on average" in page()
    assert page() == faults_report(tiny_storm(), COMMAND)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_faults_are_counted_by_kind(kind: str):
    cells = row(page(), kind)
    assert cells[-2:] == [f"{WEIGHTS[kind]:g} %", f"{tiny_storm().faults[kind]:,}"]


def test_all_is_right_and_nothing_is_bold():
    findings = tiny_storm()
    assert "* 12 of 12 answers that were read to their ends are the target's" in page()
    assert f"* {findings.left} that were left early" in page()
    assert f"* Answers took {findings.overhead:.2f} times as long" in page()
    assert "**" not in page()


def test_a_text_that_is_not_the_targets_is_bold():
    written = faults_report(worse(is_right=False), COMMAND)
    assert "**only " in written
    assert "* **trip 0 of seed 7, in the storm: 1 of " in written


def test_times_stand_beside_those_in_calm():
    for offline in ("wait", "draft", "stop"):
        paces = tiny_storm().paces(offline)
        if paces is None:
            assert f"\n| {offline} |" not in page()
            continue
        cells = row(page(), offline)
        assert (cells[2], cells[5]) == (f"{paces[0].tpt_ms:.1f}", f"{paces[1].tpt_ms:.1f}")
        assert cells[-1] == f"{paces[1].tpt_ms / paces[0].tpt_ms:.2f}"


def test_connections_and_rules_are_listed():
    findings = tiny_storm()
    assert row(page(), "connections lost")[-1] == f"{findings.line['lost']:,}"
    trips = Counter(each.trip.offline for each in findings.outcomes)
    assert row(page(), "offline: wait")[1] == str(trips["wait"])
    cells = [row(page(), f"temperature {which}") for which in ("0", "above 0")]
    assert sum(int(each[1]) for each in cells) == len(findings.outcomes)
