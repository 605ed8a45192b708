"""What other thresholds would give, without trying them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pipesd.engines.traces import Trace, load
from pipesd.errors import UsageError
from pipesd.lab.run import Experiment, simulate
from pipesd.lab.scenarios import SCENARIOS, Scenario
from pipesd.planner.forecast import STEPS, Candidates, Conditions, Forecast, Record, forecast

NEAR = Conditions(
    draft_s=0.04, abort_s=0.0, link_s=0.03, batch_s=0.0, token_s=0.0, pass_s=0.025, pass_token_s=0.001
)
ANSWER_S = 0.03 + 0.025 + 0.001


def candidates(*thresholds: tuple[float, float, int]) -> Candidates:
    r1, r2, upper = zip(*thresholds, strict=True)
    return Candidates(np.array(r1), np.array(r2), np.array(upper), np.zeros(len(r1), dtype=bool))


def record(drafts: Sequence[tuple[float, bool]], astray: Sequence[float] = ()) -> Record:
    confidences = np.array([confidence for confidence, _ in drafts])
    accepted = np.array([accepted for _, accepted in drafts])
    return Record(confidences, confidences, accepted, np.array(astray))


def ms(forecast: Forecast) -> list[tuple[object, object, object]]:
    """(time, cloud) in ms per token, and passes per token, of each candidate."""
    figures = zip(forecast.token_s, forecast.cloud_s, forecast.passes, strict=True)
    return [tuple(pytest.approx(float(value), rel=0.01) for value in each) for each in figures]  # type: ignore[misc]


def test_a_drafter_that_is_always_right_takes_its_step_for_each_token() -> None:
    sure = forecast(candidates((0.0, 0.0, 4), (0.0, 0.0, 8)), NEAR, record([(1.0, True)]), steps=1_000)
    assert ms(sure) == [(0.04, 0.0288 / 4, 1 / 4), (0.04, 0.0328 / 8, 1 / 8)]


def test_a_slow_drafter_gets_a_token_with_each_verdict() -> None:
    slow = replace(NEAR, draft_s=0.2)
    result = forecast(candidates((1.0, 0.0, 8)), slow, record([(0.5, True)]), steps=1_000)
    assert ms(result) == [((0.2 + ANSWER_S + 0.001) / 2, 0.027 / 2, 1 / 2)]


def test_a_wrong_draft_costs_what_its_verdict_takes() -> None:
    result = forecast(candidates((0.0, 0.5, 8)), NEAR, record([(1.0, True), (0.3, False)]), steps=1_000)
    assert ms(result) == [((2 * 0.04 + ANSWER_S + 0.002) / 2, 0.028 / 2, 1 / 2)]


def test_a_wrong_draft_that_goes_unnoticed_costs_more_until_others_are_doubtful() -> None:
    drafts = record([(1.0, True), (0.9, False)], astray=[0.9])
    early, late = ms(forecast(candidates((0.9, 0.0, 8), (0.8, 0.0, 8)), NEAR, drafts, steps=900))
    assert early == ((2 * 0.04 + ANSWER_S + 0.002) / 2, 0.028 / 2, 1 / 2)
    assert late == ((4 * 0.04 + ANSWER_S + 0.004) / 2, 0.030 / 2, 1 / 2)


def test_an_ask_about_what_the_verdict_before_it_says_anyway_takes_no_pass() -> None:
    far = replace(NEAR, link_s=0.4)
    result = forecast(candidates((1.0, 1.0, 1)), far, record([(1.0, True)]), steps=1_000)
    assert ms(result) == [(0.04, 0.027 / 2, 1 / 2)]


def test_asks_that_find_the_target_busy_share_a_pass() -> None:
    busy = replace(NEAR, pass_s=0.4, link_s=0.0, pass_token_s=0.0)
    result = forecast(candidates((0.0, 0.0, 2)), busy, record([(1.0, True)]), steps=1_000)
    assert ms(result) == [(0.04, 0.04, 0.1)]


def test_a_slow_link_holds_asks_up() -> None:
    slow = replace(NEAR, batch_s=0.05, token_s=0.2)
    result = forecast(candidates((0.0, 0.5, 8)), slow, record([(1.0, True), (0.3, False)]), steps=1_000)
    assert ms(result)[0][0] == (0.04 + 2 * 0.2 + 0.05 + ANSWER_S + 0.002) / 2


def test_thresholds_may_be_compared_with_what_drafts_are_worth() -> None:
    drafts = replace(record([(1.0, True), (0.9, False)]), worths=np.array([1.0, 0.3]))
    given = candidates((0.0, 0.5, 8), (0.0, 0.5, 8))
    both = forecast(replace(given, by_worth=np.array([False, True])), NEAR, drafts, steps=900)
    assert both.token_s[1] < both.token_s[0]
    assert ms(both)[1] == ((2 * 0.04 + ANSWER_S + 0.002) / 2, 0.028 / 2, 1 / 2)


@pytest.mark.parametrize("drafts", [40, 1_000], ids=["in one go", "in parts"])
def test_a_draft_is_compared_with_its_worth_as_if_that_were_its_confidence(drafts: int) -> None:
    luck = np.random.default_rng(3)
    confidences, worths = luck.random(drafts), luck.random(drafts)
    accepted, astray = luck.random(drafts) < 0.7, luck.random(50)
    thresholds = ((0.9, 0.3, 8), (0.4, 0.0, 6), (0.2, 0.6, 12))
    limits = candidates(*thresholds, *thresholds)
    mixed = replace(limits, by_worth=np.repeat([False, True], len(thresholds)))
    either = forecast(mixed, NEAR, Record(confidences, worths, accepted, astray))
    swapped = forecast(limits, NEAR, Record(worths, worths, accepted, astray))
    plain = forecast(limits, NEAR, Record(confidences, worths, accepted, astray))
    for mine, as_worths, as_confidences in (
        (either.token_s, swapped.token_s, plain.token_s),
        (either.cloud_s, swapped.cloud_s, plain.cloud_s),
        (either.passes, swapped.passes, plain.passes),
    ):
        assert np.array_equal(mine[3:], as_worths[3:])
        assert np.array_equal(mine[:3], as_confidences[:3])
        assert not np.allclose(mine[3:], mine[:3], rtol=0.01)


@pytest.mark.parametrize("steps", [8, 9, 12, 15])
def test_what_is_drafted_behind_the_last_ask_does_not_count(steps: int) -> None:
    result = forecast(candidates((0.0, 0.0, 8)), NEAR, record([(1.0, True)]), steps)
    assert ms(result) == [(0.04, (0.025 + 0.001 * 9) / 8, 1 / 8)]


SURE, DOUBTFUL = [(1.0, True)] * STEPS, [(1.0, True), (0.3, False)] * (STEPS // 2)


@pytest.mark.parametrize("drafts", [SURE + DOUBTFUL, DOUBTFUL + SURE], ids=["sure first", "doubtful first"])
def test_every_part_of_a_record_is_played(drafts: list[tuple[float, bool]]) -> None:
    result = forecast(candidates((0.0, 0.5, 8)), NEAR, record(drafts))
    token_s = (0.04 + (2 * 0.04 + ANSWER_S + 0.002) / 2) / 2
    assert ms(result) == [(token_s, 0.018 / 2, (1 / 8 + 1 / 2) / 2)]


def test_who_never_asks_never_gets_there() -> None:
    never = forecast(candidates((0.0, 0.0, 1_000), (0.0, 0.0, 8)), NEAR, record([(1.0, True)]), steps=100)
    assert np.isinf(never.token_s).tolist() == [True, False]
    assert never.cloud_s[0] == 0.0


@pytest.mark.parametrize("name", Conditions.__slots__)
@pytest.mark.parametrize("wrong", [-0.001, float("nan"), float("inf")])
def test_what_is_no_time_is_refused(name: str, wrong: float) -> None:
    with pytest.raises(UsageError, match=f"{name}: must be at least 0 and finite"):
        replace(NEAR, **{name: wrong})


def test_a_step_takes_time_and_a_record_holds_something() -> None:
    with pytest.raises(UsageError, match="draft_s: must be above 0"):
        replace(NEAR, draft_s=0.0)
    with pytest.raises(UsageError, match="at least one draft"):
        record([])


# --- against the simulation of the sessions ---

THRESHOLDS = ((0.0, 0.85, 8), (0.6, 0.0, 8), (0.9, 0.9, 8), (0.99, 0.99, 8), (0.3, 0.0, 6), (1.0, 0.0, 8))


ASTRAY_DRAFTS = 64
"""As many as the tuner keeps."""


def recorded(trace: Trace) -> Record:
    """All that was drafted behind the target's own text."""
    drafts, astray = list[tuple[float, bool]](), list[float]()
    for prompt in trace.prompts:
        for at, (token, top) in enumerate(zip(prompt.target, prompt.draft_top, strict=True)):
            drafts.append((top[0].probability, top[0].token == token))
            astray += [guess.probability for guess in prompt.rollouts.get(at, ())]
    return record(drafts, astray)


def conditions_of(place: Scenario) -> Conditions:
    return Conditions(
        draft_s=place.draft_ms / 1e3,
        abort_s=0.0,
        link_s=2 * place.delay_ms / 1e3,
        batch_s=place.alpha_ms / 1e3,
        token_s=0.0,
        pass_s=place.pass_ms / 1e3,
        pass_token_s=place.pass_token_ms / 1e3,
    )


@pytest.mark.parametrize(("where", "kind"), [("s1", "maths"), ("far", "chat"), ("s3", "humaneval")])
def test_parts_of_a_long_record_say_what_the_whole_says(where: str, kind: str) -> None:
    whole = recorded(load([kind]))
    long = replace(whole, astray=whole.astray[:ASTRAY_DRAFTS])
    given, conditions = candidates(*THRESHOLDS), conditions_of(SCENARIOS[where])
    parts = forecast(given, conditions, long)
    at_once = forecast(given, conditions, long, steps=len(long.accepted))
    assert len(long.accepted) > 5 * STEPS
    assert parts.token_s == pytest.approx(at_once.token_s, rel=0.02)
    assert parts.cloud_s == pytest.approx(at_once.cloud_s, rel=0.02)


@pytest.mark.parametrize(("where", "kind"), [("s1", "humaneval"), ("far", "chat"), ("s3", "humaneval")])
def test_it_says_what_the_sessions_do(where: str, kind: str) -> None:
    trace = load([kind])
    trace = replace(trace, prompts=trace.prompts[:6])
    played = [
        simulate(
            Experiment(
                trace=trace,
                scenario=SCENARIOS[where],
                policy="pipesd",
                changed={"r1": r1, "r2": r2, "upper_tokens": upper},
            )
        )
        for r1, r2, upper in THRESHOLDS
    ]
    steps = sum(len(prompt.target) for prompt in trace.prompts)
    said = forecast(candidates(*THRESHOLDS), conditions_of(SCENARIOS[where]), recorded(trace), steps)
    real_ms = np.array([figures.tpt_ms + figures.cloud_ms_per_100 / 100 for figures in played])
    off = real_ms / (1e3 * (said.token_s + said.cloud_s))
    assert np.ptp(off) < 0.05
    assert real_ms[np.argmin(said.token_s + said.cloud_s)] < 1.01 * real_ms.min()
