"""The paper's figures against what else is known of them."""

import pytest

from pipesd.engines.traces import SHIPPED_SETS
from pipesd.lab.paper import RIVALS
from pipesd.lab.published import DATASETS, ENERGY_LESS, FIGURE_5, PAPER, SCHEDULING, TABLE_1, TABLE_6
from pipesd.lab.scenarios import SCENARIOS
from pipesd.planner.policies import POLICIES


@pytest.mark.parametrize(
    ("rival", "lowest", "highest"), [("vanilla", 1.33, 2.16), ("hsl", 1.19, 1.61), ("edgellm", 1.16, 1.32)]
)
def test_table_1_spans_the_speedups_that_the_paper_names(rival: str, lowest: float, highest: float):
    speedups = [row[rival] / row["pipesd"] for row in TABLE_1.values.values()]
    assert (round(min(speedups), 2), round(max(speedups), 2)) == (lowest, highest)


def test_tables_agree_where_they_report_the_same():
    row = TABLE_1.values["s1", "humaneval"]
    assert {name: TABLE_6.values[name] for name in ("vanilla", "pipesd")} == {
        name: row[name] for name in ("vanilla", "pipesd")
    }


def test_what_was_played_can_be_played_here():
    assert {name for name, _ in TABLE_1.values} <= set(SCENARIOS)
    assert {trace for _, trace in TABLE_1.values} == set(DATASETS) <= set(SHIPPED_SETS)
    assert set(TABLE_6.values) <= set(POLICIES)
    for row in FIGURE_5.values.values():
        assert set(row) == set(RIVALS)


def test_every_figure_says_where_it_was_read():
    for each in (TABLE_1, TABLE_6, FIGURE_5, SCHEDULING, ENERGY_LESS):
        assert each.citation == f"{each.where} of {PAPER}, read in {each.source} ({each.grade})"
        assert each.source
