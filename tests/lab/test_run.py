"""The lab against hand calculation, on small recordings; and on shipped prompts, against the target alone."""

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest

from pipesd.config import EdgeConfig
from pipesd.engines.traces import Trace, TracePrompt, load
from pipesd.errors import EngineError, UsageError
from pipesd.lab.run import Played, play, play_alone
from pipesd.lab.scenarios import SCENARIOS, Scenario
from pipesd.values import Sampling
from pipesd.wire.codec import encode
from pipesd.wire.frames import Close, Draft, Open, Opened, Prompt, Verdict
from tests.lab.recordings import END, SMALL, recorded, trace_of

SHORT_PROMPTS = ["HumanEval/7", "HumanEval/12", "chat/6", "chat/9"]
ONE_BY_ONE = EdgeConfig(engine="replay", upper_tokens=1, lower_tokens=1, ahead=False)


IDEAL = Scenario(
    name="ideal",
    draft_ms=10.0,
    up_bits_per_s=math.inf,
    down_bits_per_s=math.inf,
    delay_ms=0.0,
    alpha_ms=0.0,
    pass_ms=20.0,
    pass_token_ms=1.0,
)
DISTANT = replace(IDEAL, name="distant", delay_ms=5.0, alpha_ms=1.0)


@cache
def shipped() -> Trace:
    return load([])


@cache
def short(scenario: str) -> tuple[Played, Played]:
    """Some short shipped prompts: together, and the target alone."""
    where = SCENARIOS[scenario]
    return play(shipped(), SHORT_PROMPTS, where), play_alone(shipped(), SHORT_PROMPTS, where)


def sha256_of(*texts: Sequence[int]) -> str:
    return hashlib.sha256("".join(" ".join(map(str, text)) + "\n" for text in texts).encode()).hexdigest()


def prompt_frames(prompt: TracePrompt) -> bytes:
    sampling, tokens_max = Sampling(), len(prompt.target)
    return encode(Open(0)) + encode(Prompt(0, 1, 0, prompt.prompt_tokens, sampling, 0, tokens_max))


# -- against hand calculation -------------------------------------------------------------------------------


def test_drafting_one_by_one_is_as_computed_by_hand():
    """The prompt takes 20 + 3 ms; then a draft of 10 and a pass over two tokens of 22 ms give two tokens."""
    played = play(SMALL, ["right"], IDEAL, edge=ONE_BY_ONE)
    assert played.first_token_ms == pytest.approx(23.0)
    assert played.elapsed_ms == pytest.approx(23.0 + 3 * 32.0)
    assert played.ms_per_token == pytest.approx(119.0 / 7)
    assert (played.tokens, played.passes, played.drafted, played.acceptance) == (7, 4, 3, 1.0)
    assert played.passes_per_100 == pytest.approx(400 / 7)


def test_a_wrong_draft_gives_one_token_instead_of_two():
    played = play(SMALL, ["wrong"], IDEAL, edge=ONE_BY_ONE)
    assert played.elapsed_ms == pytest.approx(22.0 + 3 * 32.0)
    assert (played.tokens, played.passes, played.drafted) == (6, 4, 3)
    assert played.acceptance == pytest.approx(2 / 3)


def test_drafting_ahead_hides_the_pass_and_drops_steps_that_are_settled():
    """With drafts of 30 ms. Aborted at 23: the draft of the first token; at 75: that of the third.

    Kept: that of the second token from 23 to 53, judged at 75, which gives the third as well; and so on.
    """
    slow = replace(IDEAL, draft_ms=30.0)
    ahead = play(SMALL, ["right"], slow, edge=replace(ONE_BY_ONE, ahead=True))
    assert ahead.elapsed_ms == pytest.approx(23.0 + 3 * (30.0 + 22.0))
    assert (ahead.drafted, ahead.passes) == (3, 4)


def test_with_the_verdict_far_away_drafting_ahead_gains():
    ahead = play(SMALL, ["right"], DISTANT, edge=replace(ONE_BY_ONE, ahead=True))
    waiting = play(SMALL, ["right"], DISTANT, edge=ONE_BY_ONE)
    assert waiting.elapsed_ms == pytest.approx(35.0 + 3 * (10.0 + 6.0 + 22.0 + 6.0))
    assert ahead.elapsed_ms < waiting.elapsed_ms


def test_the_target_alone_is_as_computed_by_hand():
    played = play_alone(SMALL, ["right"], IDEAL)
    assert played.first_token_ms == pytest.approx(23.0)
    assert played.elapsed_ms == pytest.approx(23.0 + 6 * 21.0)
    assert (played.tokens, played.passes, played.drafted, played.acceptance) == (7, 7, 0, None)
    assert played.passes_per_100 == 100.0


def test_the_link_adds_a_trip_each_way_to_the_first_token_of_the_target_alone():
    played = play_alone(SMALL, ["right"], DISTANT)
    assert played.first_token_ms == pytest.approx(6.0 + 23.0 + 6.0)
    assert played.elapsed_ms == pytest.approx(35.0 + 6 * 21.0)


def test_bytes_of_the_prompt_occupy_the_uplink():
    scenario = replace(DISTANT, up_bits_per_s=80_000.0)  # 10 bytes per ms
    prompt = SMALL.prompts[0]
    frames = prompt_frames(prompt)
    together = play(SMALL, ["right"], scenario, edge=ONE_BY_ONE)
    assert together.first_token_ms == pytest.approx(35.0 + len(frames) / 10)
    alone = play_alone(SMALL, ["right"], scenario)
    frames += encode(Draft(0, 1, 3, (), 10))
    assert alone.first_token_ms == pytest.approx(35.0 + len(frames) / 10)


def test_the_text_ends_with_an_end_id_or_where_the_recording_does():
    for played in (play(SMALL, [], IDEAL), play_alone(SMALL, [], IDEAL)):
        assert (played.prompts, played.tokens) == (3, 7 + 6 + 3)
        assert played.text_sha256 == sha256_of(*(prompt.target for prompt in SMALL.prompts))


def test_bytes_are_counted_each_way_without_the_greeting():
    """The second verdict tells when the draft came, in microseconds of a clock that has run for a day."""
    played = play(SMALL, ["ended"], IDEAL, edge=ONE_BY_ONE)
    draft, close = encode(Draft(0, 1, 4 + 1, (31,), 6)), encode(Close(0))
    assert played.sent_bytes == len(prompt_frames(SMALL.prompts[2]) + draft + close)
    first = encode(Verdict(0, 1, 4, 0, (30,), pass_us=24_000))
    second = encode(Verdict(0, 1, 5, 1, (END,), "stop", ((1, 86_400_000_000),), pass_us=22_000))
    assert played.received_bytes == len(encode(Opened(0)) + first + second)


# -- whatever is played -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_text_is_that_of_the_target_alone_in_every_scenario(name: str):
    together, alone = short(name)
    paths = {prompt.id: prompt.target for prompt in shipped().prompts}
    assert together.text_sha256 == alone.text_sha256 == sha256_of(*(paths[each] for each in SHORT_PROMPTS))
    assert together.tokens == alone.tokens == sum(len(paths[each]) for each in SHORT_PROMPTS)


def test_scenarios_stand_in_a_sensible_order():
    together = {name: short(name)[0].ms_per_token for name in SCENARIOS}
    assert together["fast"] < together["s1"] < together["s2"] < together["s3"]
    assert together["s1"] < together["far"]
    passes = [short(name)[0].passes_per_100 for name in SCENARIOS]
    assert max(passes) < 50.0


def test_to_the_target_alone_only_distance_matters_and_only_once():
    alone = {name: short(name)[1] for name in SCENARIOS}
    assert {alone[name].elapsed_ms for name in ("s2", "s3", "fast")} == {alone["s1"].elapsed_ms}
    assert alone["far"].first_token_ms == pytest.approx(alone["s1"].first_token_ms + 90.0)
    more_ms = alone["far"].elapsed_ms - alone["s1"].elapsed_ms
    assert more_ms == pytest.approx(90.0 * len(SHORT_PROMPTS))


def test_the_same_play_gives_the_same_figures():
    for perform in (play, play_alone):
        assert perform(SMALL, [], SCENARIOS["s1"]) == perform(SMALL, [], SCENARIOS["s1"])


def test_prompts_do_not_slow_each_other():
    for perform in (play, play_alone):
        whole = perform(SMALL, [], SCENARIOS["s1"])
        parts = [perform(SMALL, [prompt.id], SCENARIOS["s1"]) for prompt in SMALL.prompts]
        assert whole.elapsed_ms == pytest.approx(sum(part.elapsed_ms for part in parts))
        assert whole.passes == sum(part.passes for part in parts)
        assert whole.drafted == sum(part.drafted for part in parts)
        assert whole.sent_bytes == sum(part.sent_bytes for part in parts)
        assert whole.received_bytes == sum(part.received_bytes for part in parts)


def test_prompts_are_played_in_the_order_given_and_as_often():
    played = play(SMALL, ["ended", "right", "ended"], IDEAL)
    right, _, ended = (prompt.target for prompt in SMALL.prompts)
    assert played.prompts == 3
    assert played.text_sha256 == sha256_of(ended, right, ended)


def test_no_timer_of_a_live_connection_disturbs_the_slowest_link():
    slowest = replace(IDEAL, delay_ms=60_000.0, up_bits_per_s=1_000.0, down_bits_per_s=1_000.0)
    for perform in (play, play_alone):
        played = perform(SMALL, [], slowest)
        assert played.first_token_ms > 120_000.0
        assert played.text_sha256 == perform(SMALL, [], IDEAL).text_sha256


def test_of_the_edges_settings_the_way_of_asking_counts_and_engine_and_patience_do_not():
    as_usual = play(SMALL, [], IDEAL)
    odd = EdgeConfig(engine="scripted", draft_ms=5.0, ping_after_s=0.001, silent_after_s=0.002, tokens_max=1)
    assert play(SMALL, [], IDEAL, edge=odd) == as_usual
    assert play(SMALL, [], IDEAL, edge=ONE_BY_ONE).passes > as_usual.passes


def test_all_that_was_recorded_plays_well_under_half_a_minute():
    started = time.monotonic()
    together = play(shipped(), [], SCENARIOS["s1"])
    alone = play_alone(shipped(), [], SCENARIOS["s1"])
    assert time.monotonic() - started < 15.0
    assert together.prompts == alone.prompts == 44
    assert together.text_sha256 == alone.text_sha256
    assert together.passes < alone.passes / 4
    assert alone.ms_per_token == pytest.approx(26.0, rel=0.05)
    assert together.ms_per_token > SCENARIOS["s1"].draft_ms


# -- what goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("perform", [play, play_alone])
def test_an_unknown_prompt_is_answered_with_some_that_are_known(perform):
    with pytest.raises(UsageError) as caught:
        perform(SMALL, ["right", "left"], IDEAL)
    assert str(caught.value) == (
        "prompt: 'left' is none of the 3 that were recorded; give the id of one, such as right, wrong, ended"
    )


def test_sampling_cannot_be_replayed():
    with pytest.raises(UsageError, match=r"^temperature: "):
        play(SMALL, ["right"], IDEAL, edge=replace(ONE_BY_ONE, temperature=1.0))


@pytest.mark.parametrize("perform", [play, play_alone])
def test_a_text_that_is_not_the_targets_gives_no_figures(perform):
    """The answer to the first prompt begins as the second prompt goes on, so the replay takes it for that."""
    twins = trace_of(recorded("one", [5, 6], [7, 11, 12]), recorded("other", [5, 6, 7], [21, 22]))
    with pytest.raises(EngineError, match=r"^the text of one is not the recorded target's"):
        perform(twins, ["one"], IDEAL)


# -- figures and the command --------------------------------------------------------------------------------


def test_figures_say_what_they_rest_on():
    for played in (play(SMALL, [], IDEAL), play_alone(SMALL, [], IDEAL)):
        assert played.figures()["basis"] == "replayed and modelled"
        assert played.line().endswith(" (replayed and modelled)")


def test_the_line_is_for_a_person():
    played = Played(
        way="together",
        scenario="s1",
        prompts=1,
        tokens=100,
        elapsed_ms=5_320.0,
        first_token_ms=136.6,
        passes=19,
        drafted=118,
        acceptance=0.912,
        sent_bytes=1_930,
        received_bytes=1_100,
        text_sha256="",
    )
    assert played.line() == (
        "together at s1: 53.2 ms per token, first after 137 ms, 19.0 passes per 100 tokens, "
        "1.18 drafts per token, acceptance 91.2%, 19.3 bytes up and 11.0 down per token, "
        "100 tokens of 1 prompt (replayed and modelled)"
    )
    alone = replace(played, way="target alone", drafted=0, acceptance=None, prompts=2)
    assert "acceptance" not in alone.line()
    assert "drafts" not in alone.line()
    assert "of 2 prompts" in alone.line()
