"""Figures of made-up records, against hand calculation."""

import hashlib
import json
from dataclasses import replace

import pytest

from pipesd.lab.answers import Answer, Record
from pipesd.lab.metrics import Figures, Setting, measured
from pipesd.session.commands import GenerationStats

SETTING = Setting(policy="pipesd", scenario="s1", wire="ids", clock="virtual", seed=3, basis="made up")

FIRST = Answer(
    begun_s=1.0,
    tokens=[11, 12, 13, 14, 15],
    moments=[(1.5, 2), (1.75, 1), (2.0, 2)],
    stats=GenerationStats(tokens=5, drafted=6, accepted=3, corrections=1, verdicts=3),
)
SECOND = Answer(
    begun_s=62.0,
    tokens=[21, 22, 23],
    moments=[(62.25, 1), (63.25, 2)],
    stats=GenerationStats(tokens=3, drafted=2, accepted=2, corrections=0, verdicts=1),
)
RECORD = Record(answers=[FIRST, SECOND], passes=6, cloud_s=0.25, sent_bytes=400, received_bytes=240)


def figures_of(*answers: Answer) -> Figures:
    return measured(replace(RECORD, answers=list(answers)), SETTING, 50.0)


def came(*moments: tuple[float, int]) -> Answer:
    tokens = [7] * sum(count for _, count in moments)
    return Answer(begun_s=0.0, tokens=tokens, moments=list(moments))


def digest_of(said: str) -> str:
    return hashlib.sha256(said.encode()).hexdigest()


def test_times_are_from_each_prompt_to_its_first_and_its_last_token():
    figures = figures_of(FIRST, SECOND)
    assert (figures.prompts, figures.tokens) == (2, 8)
    assert figures.tpt_ms == pytest.approx((1000.0 + 1250.0) / 8)
    assert figures.ttft_ms == pytest.approx((500.0 + 250.0) / 2)


def test_rates_are_per_token_or_per_100():
    figures = figures_of(FIRST, SECOND)
    assert figures.passes_per_100 == pytest.approx(75.0)
    assert figures.drafted_per_token == pytest.approx(1.0)
    assert figures.uplink_bytes_per_token == pytest.approx(50.0)
    assert figures.downlink_bytes_per_token == pytest.approx(30.0)
    assert figures.cloud_ms_per_100 == pytest.approx(3125.0)
    assert figures.energy_j_per_100 == pytest.approx(300.0 * 3.125)


def test_of_the_judged_drafts_some_were_accepted_and_of_the_verdicts_some_contradicted():
    """Five accepted and one contradicted, in four verdicts; what was never judged does not count."""
    figures = figures_of(FIRST, SECOND)
    assert figures.accept_rate == pytest.approx(5 / 6)
    assert figures.rollback_rate == pytest.approx(1 / 4)


def test_where_nothing_was_judged_there_is_no_rate():
    figures = figures_of(came((0.5, 3)))
    assert (figures.accept_rate, figures.rollback_rate) == (None, None)
    assert (figures.drafted_per_token, figures.tokens) == (0.0, 3)


def test_tokens_that_come_together_are_nothing_apart_and_the_first_has_none_before_it():
    """The gaps are 0, 250, 250, 0 and 1000, 0 ms: in order 0 0 0 250 250 1000."""
    figures = figures_of(FIRST, SECOND)
    assert figures.itl_p50_ms == 0.0
    assert figures.itl_p95_ms == pytest.approx(1000.0)


@pytest.mark.parametrize(
    ("gaps", "median_ms", "p95_ms"),
    [
        (0, 0.0, 0.0),
        (1, 1000.0, 1000.0),
        (2, 1000.0, 2000.0),
        (3, 2000.0, 3000.0),
        (19, 10_000.0, 19_000.0),
        (20, 10_000.0, 19_000.0),
        (21, 11_000.0, 20_000.0),
        (100, 50_000.0, 95_000.0),
    ],
)
def test_a_percentile_is_the_smallest_gap_that_is_not_below_so_many(
    gaps: int, median_ms: float, p95_ms: float
):
    """With gaps of 1, 2, 3, … s, the longest first."""
    moments = [0.0]
    for gap in range(gaps, 0, -1):
        moments.append(moments[-1] + gap)
    figures = figures_of(came(*((moment, 1) for moment in moments)))
    assert figures.itl_p50_ms == pytest.approx(median_ms)
    assert figures.itl_p95_ms == pytest.approx(p95_ms)


def test_the_pause_between_two_prompts_is_no_gap():
    figures = figures_of(came((0.5, 1), (0.75, 1)), came((900.0, 1), (900.25, 1)))
    assert figures.itl_p95_ms == pytest.approx(250.0)


def test_the_digest_is_over_decimal_ids_with_spaces_between_and_a_line_for_each_prompt():
    assert figures_of(FIRST, SECOND).text_sha256 == digest_of("11 12 13 14 15\n21 22 23\n")
    assert figures_of(SECOND, FIRST).text_sha256 == digest_of("21 22 23\n11 12 13 14 15\n")
    assert figures_of(came((1.0, 1))).text_sha256 == digest_of("7\n")


def test_the_digest_tells_where_a_text_ends():
    halves = Answer(0.0, [1, 2], [(1.0, 2)]), Answer(0.0, [3], [(1.0, 1)])
    others = Answer(0.0, [1], [(1.0, 1)]), Answer(0.0, [2, 3], [(1.0, 2)])
    joined = Answer(0.0, [12], [(1.0, 1)]), Answer(0.0, [3], [(1.0, 1)])
    assert len({figures_of(*answers).text_sha256 for answers in (halves, others, joined)}) == 3


def test_for_machines_all_stands_by_name_in_one_flat_object():
    setting = replace(SETTING, changed=(("n", 6), ("ahead", "never")))
    answer = measured(RECORD, setting, 50.0).as_json()
    assert json.loads(json.dumps(answer)) == answer
    assert answer.pop("changed") == {"n": 6, "ahead": "never"}
    assert not any(isinstance(value, dict | list | tuple) for value in answer.values())
    assert [answer[name] for name in ("policy", "scenario", "wire", "clock", "seed", "basis")] == [
        *("pipesd", "s1", "ids", "virtual", 3, "made up")
    ]
    assert (answer["tokens"], answer["draft_pace_ms"], answer["verified"]) == (8, 50.0, True)
    assert answer["energy_is"] == "modelled, 300 W while the target works"


def test_what_there_is_no_figure_for_is_null():
    assert '"accept_rate": null, "rollback_rate": null' in json.dumps(figures_of(came((0.5, 3))).as_json())


def test_the_line_is_for_a_person():
    figures = replace(
        figures_of(came((0.1366, 1), (5.32, 99))),
        tpt_ms=53.2,
        passes_per_100=19.0,
        drafted_per_token=1.18,
        accept_rate=0.9123,
        uplink_bytes_per_token=19.3,
        downlink_bytes_per_token=11.0,
    )
    assert figures.line() == (
        "pipesd at s1: 53.2 ms per token, first after 137 ms, 19.0 passes per 100 tokens, "
        "1.18 drafts per token, acceptance 91.2%, 19.3 bytes up and 11.0 down per token, "
        "100 tokens of 1 prompt (made up)"
    )


def test_the_line_leaves_out_what_there_is_not():
    line = figures_of(came((1.0, 1)), came((1.0, 1))).line()
    assert "acceptance" not in line
    assert "2 tokens of 2 prompts" in line


def test_a_text_that_nobody_verified_is_said_to_be_so():
    figures = measured(RECORD, SETTING, 50.0, verified=False)
    assert figures.line().endswith(" (made up; unverified, the draft model alone)")
    assert figures.as_json()["verified"] is False
