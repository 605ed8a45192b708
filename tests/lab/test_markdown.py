from dataclasses import replace

import pytest

from pipesd.lab import markdown
from pipesd.lab.metrics import Figures
from pipesd.lab.scenarios import SCENARIOS
from tests.lab.tiny import tiny


@pytest.fixture
def figures() -> Figures:
    return replace(tiny().of("humaneval", SCENARIOS["s1"], "hsl"), tpt_ms=12.345, passes_per_100=6.0)


def test_a_table_holds_words_first_and_figures_behind_them():
    assert markdown.table(("a", "b", "c"), [("x", "y", "1"), ("z", "", "2")], words=2) == [
        "| a | b | c |",
        "| --- | --- | --: |",
        "| x | y | 1 |",
        "| z |  | 2 |",
        "",
    ]


def test_a_paragraph_is_one_line_and_everything_ends_with_an_empty_one():
    assert markdown.paragraph("One.", "Two.") == ["One. Two.", ""]
    assert markdown.heading("Three", 3) == ["### Three", ""]
    assert markdown.bullets(["a", "b"]) == ["* a", "* b", ""]
    assert markdown.image("a.png", "an a") == ["![an a](a.png)", ""]


@pytest.mark.parametrize(
    ("value", "said"), [(0.9, "0.900"), (1.0, "1.000"), (1.0004, "1.000"), (1.0006, "**1.001**")]
)
def test_a_ratio_above_1_is_bold_if_it_shows(value: float, said: str):
    assert markdown.ratio(value) == said
    assert markdown.is_more(value) == said.startswith("*")


@pytest.mark.parametrize(("value", "said"), [(1.5, "1.50"), (0.997, "1.00"), (0.99, "**0.99**")])
def test_being_slower_is_bold_if_it_shows(value: float, said: str):
    assert markdown.times(value) == said


@pytest.mark.parametrize(
    ("after", "said"), [(75.0, "25.0 %"), (100.0, "0.0 %"), (100.02, "0.0 %"), (101.0, "**-1.0 %**")]
)
def test_a_share_saved_is_bold_if_it_is_none(after: float, said: str):
    assert markdown.less(100.0, after) == said


def test_decimals_are_fixed(figures: Figures):
    assert markdown.speed(figures) == "12.3 (6.0)"
    assert markdown.values([0, 0.5, 16.0]) == "0, 0.5, 16"
    setting = replace(figures.setting, changed=(("r1", 0.5), ("r2", 0.0), ("upper_tokens", 8)))
    assert markdown.thresholds(replace(figures, setting=setting)) == "0.5 / 0.0 / 8"
