import pytest

from pipesd.engines.traces import TracePrompt
from pipesd.lab.answers import Answer
from pipesd.lab.load import Asked, Load, LoadRecord
from pipesd.lab.load_metrics import Power, jain, load_figures, paces, percentile, slowdowns
from pipesd.lab.scenarios import SCENARIOS
from tests.lab.recordings import SMALL


def asked(prompt: TracePrompt, wanted_s: float, begun_s: float, *moments_s: float) -> Asked:
    """A token at each moment."""
    answer = Answer(begun_s)
    for moment in moments_s:
        answer.take(moment, (0,))
    return Asked(prompt, wanted_s, answer)


ONE, OTHER, _ = SMALL.prompts
EDGES = [
    [asked(ONE, 0.0, 0.0, 1.0, 2.0), asked(OTHER, 2.0, 2.0, 3.0)],
    [asked(ONE, 0.0, 1.0, 2.0, 5.0), asked(OTHER, 5.0, 5.0, 6.0, 8.0)],
]
ALONE = [
    [asked(ONE, 0.0, 0.0, 0.5, 1.0), asked(OTHER, 0.0, 0.0, 1.0)],
    [asked(ONE, 0.0, 0.0, 1.0, 2.0), asked(OTHER, 0.0, 0.0, 0.5, 1.5)],
]
RECORD = LoadRecord(EDGES, passes=14, pass_tokens=70, busy_s=2.0)
LOAD = Load(trace=SMALL, scenario=SCENARIOS["s1"], edges=2)


def test_figures_are_those_of_the_record():
    figures = load_figures(LOAD, RECORD, ALONE, Power(100.0, 10.0))
    assert (figures.edges, figures.prompts, figures.tokens) == (2, 4, 7)
    assert figures.tokens_per_s == pytest.approx(7 / 8.0)
    assert (figures.tpt_ms_p50, figures.tpt_ms_p95) == (1_000.0, 2_000.0)
    assert (figures.ttft_ms_p50, figures.ttft_ms_p95) == (1_000.0, 2_000.0)
    assert (figures.slowdown_p50, figures.slowdown_p95) == (2.0, 2.0)
    assert figures.passes_per_100 == pytest.approx(200.0)
    assert figures.tokens_per_pass == 5.0
    assert figures.cloud_ms_per_100 == pytest.approx(2_000 * 100 / 7)
    assert figures.busy_share == pytest.approx(0.25)
    assert figures.energy_j_per_100 == pytest.approx((2 * 100 + 6 * 10) * 100 / 7)
    assert figures.energy_is.startswith("modelled, 100 W")


def test_fairness_is_over_what_edges_are_alone():
    one, other = paces(EDGES, ALONE)
    assert one == pytest.approx((3 / 3) / (2 / 3))
    assert other == pytest.approx((7 / 4) / (3.5 / 4))
    assert load_figures(LOAD, RECORD, ALONE, Power()).jain == pytest.approx(jain([one, other]))
    assert slowdowns(EDGES, ALONE) == pytest.approx([2.0, 1.0, 2.0, 2.0])


def test_without_edges_alone_nothing_is_said_of_what_they_are():
    figures = load_figures(LOAD, RECORD, None, Power())
    assert (figures.jain, figures.slowdown_p50, figures.slowdown_p95) == (None, None, None)
    assert "alone" not in figures.line()
    assert "Jain" not in figures.line()


@pytest.mark.parametrize(
    ("shares", "index"), [([3.0, 3.0, 3.0], 1.0), ([1.0, 0.0, 0.0, 0.0], 0.25), ([1.0, 2.0], 0.9)]
)
def test_jains_index(shares: list[float], index: float):
    assert jain(shares) == pytest.approx(index)


@pytest.mark.parametrize(("share", "value"), [(0.5, 10), (0.95, 19), (1.0, 20)])
def test_a_percentile_is_a_value_that_occurred(share: float, value: int):
    assert percentile(range(20, 0, -1), share) == value


def test_a_line_says_it_all_and_names_what_is_modelled():
    figures = load_figures(LOAD, RECORD, ALONE, Power())
    line = figures.line()
    assert line.startswith("2 edges at s1, batched: 0.9 tokens per s, Jain's index 0.9")
    assert "95th percentile 2000.0 (2.00 times alone)" in line
    assert line.endswith("(replayed and modelled)")
    assert set(figures.as_json()) >= {
        "edges",
        "tokens_per_s",
        "jain",
        "tpt_ms_p50",
        "tpt_ms_p95",
        "ttft_ms_p95",
        "passes_per_100",
        "energy_j_per_100",
    }


def test_an_idle_machine_draws_less_and_a_busy_one_no_more_than_that():
    assert Power(300.0, 60.0).energy_j(1.0, 3.0) == 420.0
    assert Power(300.0, 60.0).energy_j(3.0, 3.0 - 1e-9) == pytest.approx(900.0)
