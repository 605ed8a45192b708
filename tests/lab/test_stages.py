"""Recordings played through the actors, and by the draft alone: raw records against hand calculation."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from pipesd.engines.traces import Trace, TracePrompt
from pipesd.errors import UsageError
from pipesd.lab.answers import Answer, Record
from pipesd.lab.heap import play_on_heap
from pipesd.lab.run import Experiment, chosen
from pipesd.lab.scenarios import SCENARIOS, Scenario
from pipesd.lab.stages import Play, play_draft_alone, play_in_wall_time, play_virtually
from pipesd.lab.wires import DISTRIBUTION_BYTES, WIRES
from pipesd.observe import Recorder, StatsObserver
from pipesd.session import commands, events
from pipesd.session.commands import GenerationStats
from pipesd.session.leases import LEASE_BYTES
from pipesd.values import Sampling
from pipesd.wire import frames
from pipesd.wire.codec import encode
from tests.lab.recordings import DISTANT, END, IDEAL, MIXED, SMALL, TWINS, recorded, trace_of

Stage = Callable[[Play], Record]
together = pytest.mark.parametrize("perform", [play_virtually, play_on_heap])


def play_of(trace: Trace, scenario: Scenario, policy: str = "pipesd", **changed: object) -> Play:
    return Experiment(trace=trace, scenario=scenario, policy=policy, changed=changed).play


def one_by_one(trace: Trace, scenario: Scenario) -> Play:
    return play_of(trace, scenario, n=1, ahead="never")


def about(value: float) -> object:
    return pytest.approx(value)


def prompt_bytes(prompt: TracePrompt, number: int = 0) -> int:
    sampling, tokens_max = Sampling(), len(prompt.target)
    told = frames.Prompt(number, 1, 0, prompt.prompt_tokens, sampling, 0, tokens_max)
    return len(encode(frames.Open(number)) + encode(told))


def took_s(answer: Answer) -> float:
    return answer.moments[-1][0] - answer.begun_s


# -- against hand calculation -----------------------------------------------------------------------------


@together
def test_moments_are_those_at_which_tokens_are_confirmed(perform: Stage):
    """A prompt of 3 takes 23 ms, and each round of a draft and a pass over two tokens 10 + 22."""
    [answer] = perform(one_by_one(chosen(SMALL, ["right"]), IDEAL)).answers
    moments_ms = [((now - answer.begun_s) * 1e3, count) for now, count in answer.moments]
    assert moments_ms == [
        (about(23.0), 1),
        (about(55.0), 2),
        (about(87.0), 2),
        (about(119.0), 2),
    ]
    assert answer.tokens == [10, 11, 12, 13, 14, 15, 16]
    assert answer.stats == GenerationStats(tokens=7, drafted=3, accepted=3, corrections=0, verdicts=4)


@together
def test_passes_are_counted_and_timed(perform: Stage):
    record = perform(one_by_one(SMALL, IDEAL))
    assert record.passes == 4 + 4 + 2
    assert record.cloud_s == pytest.approx((23 + 3 * 22 + 22 + 3 * 22 + 24 + 22) / 1e3)


@together
def test_bytes_are_counted_each_way_without_the_greeting(perform: Stage):
    """The second verdict tells when the draft came, in microseconds of a clock that has run for a day."""
    record = perform(one_by_one(chosen(SMALL, ["ended"]), IDEAL))
    draft, close = encode(frames.Draft(0, 1, 4 + 1, (31,), 6)), encode(frames.Close(0))
    assert record.sent_bytes == prompt_bytes(SMALL.prompts[2]) + len(draft + close)
    first = frames.Verdict(0, 1, 4, 0, (30,), pass_us=24_000)
    second = frames.Verdict(
        0, 1, 5, 1, (END,), "stop", ((1, 86_400_000_000),), queue_us=0, pass_us=22_000, judged=1
    )
    assert record.received_bytes == len(
        encode(frames.Opened(0, bytes(LEASE_BYTES))) + encode(first) + encode(second)
    )


@together
def test_a_wire_of_distributions_counts_them_for_every_draft(perform: Stage):
    ids, whole = (
        perform(replace(one_by_one(SMALL, IDEAL), wire=wire)) for wire in ("ids", "full-distribution")
    )
    assert whole.sent_bytes - ids.sent_bytes == DISTRIBUTION_BYTES * (3 + 3 + 1)
    assert [answer.tokens for answer in whole.answers] == [answer.tokens for answer in ids.answers]


@together
def test_bytes_of_the_prompt_occupy_the_uplink(perform: Stage):
    scenario = replace(DISTANT, up_bits_per_s=80_000.0)  # 10 bytes per ms
    [answer] = perform(one_by_one(chosen(SMALL, ["right"]), scenario)).answers
    begun_ms = 35.0 + prompt_bytes(SMALL.prompts[0]) / 10
    assert (answer.moments[0][0] - answer.begun_s) * 1e3 == pytest.approx(begun_ms)


def test_the_draft_alone_needs_a_step_for_each_token_and_nothing_else():
    record = play_draft_alone(play_of(SMALL, DISTANT, "edge-only"))
    right, wrong, ended = record.answers
    assert right.tokens == [10, 11, 12, 13, 14, 15, 16]
    assert wrong.tokens == [20, 1, END]
    assert ended.tokens == [30, 31, END]
    assert [count for _, count in right.moments] == [1] * 7
    assert [now for now, _ in wrong.moments] == pytest.approx([0.08, 0.09, 0.1])
    assert wrong.begun_s == pytest.approx(0.07)
    assert wrong.stats == GenerationStats(tokens=3, drafted=3)
    assert (record.passes, record.cloud_s, record.sent_bytes, record.received_bytes) == (0, 0.0, 0, 0)


# -- whatever is played -----------------------------------------------------------------------------------


@together
def test_the_same_play_gives_the_same_record(perform: Stage):
    play = replace(play_of(MIXED, SCENARIOS["s4"]), seed=8)
    assert perform(play) == perform(play)
    assert perform(replace(play, seed=9)) != perform(play)


@together
@pytest.mark.parametrize("policy", ["hsl", "cloud-only"])
def test_prompts_do_not_slow_each_other(perform: Stage, policy: str):
    """They share what was learned, but these policies do not use it."""
    whole = perform(play_of(SMALL, SCENARIOS["s1"], policy))
    parts = [perform(play_of(chosen(SMALL, [each.id]), SCENARIOS["s1"], policy)) for each in SMALL.prompts]
    alone = [part.answers[0] for part in parts]
    assert [took_s(answer) for answer in whole.answers] == pytest.approx([took_s(each) for each in alone])
    assert whole.passes == sum(part.passes for part in parts)
    assert whole.cloud_s == pytest.approx(sum(part.cloud_s for part in parts))


@together
def test_each_prompt_comes_a_minute_after_the_answer_before_it(perform: Stage):
    answers = perform(play_of(SMALL, SCENARIOS["s1"])).answers
    for before, after in pairwise(answers):
        assert after.begun_s - before.moments[-1][0] == pytest.approx(60.0)


@together
@pytest.mark.parametrize("wire", WIRES)
def test_no_timer_of_a_live_connection_disturbs_the_slowest_link(perform: Stage, wire: str):
    slowest = replace(IDEAL, delay_ms=60_000.0, up_bits_per_s=1_000.0, down_bits_per_s=1_000.0)
    record = perform(replace(play_of(chosen(SMALL, ["wrong"]), slowest), wire=wire))
    assert record.answers[0].tokens == list(SMALL.prompts[1].target)
    assert record.answers[0].moments[0][0] - record.answers[0].begun_s > 120.0


@together
def test_a_text_longer_than_a_chunk_of_the_prompt_is_played_whole(perform: Stage):
    long = trace_of(recorded("chunks", [5, *[9] * 1_200], range(10, 30)))
    record = perform(play_of(long, IDEAL))
    assert record.answers[0].tokens == list(range(10, 30))
    assert record.cloud_s > 3 * 0.02 + 1.2


def test_observers_see_what_both_sides_do():
    at_edge, at_cloud = StatsObserver(), Recorder()
    play = replace(one_by_one(chosen(SMALL, ["wrong"]), IDEAL), observers=((at_edge,), (at_cloud,)))
    record = play_virtually(play)
    assert at_edge.counts["<Verdict"] == 4
    assert at_edge.counts[">Draft"] == at_edge.counts["TokenDrafted"] == 3
    passes = [
        step.now
        for step in at_cloud.steps
        if any(isinstance(command, commands.RunPass) for command in step.commands)
    ]
    assert (
        len(passes)
        == record.passes
        == sum(isinstance(step.event, events.PassDone) for step in at_cloud.steps)
    )
    assert passes[0] == pytest.approx(86_400.0)


@pytest.mark.parametrize("perform", [play_virtually, play_on_heap, play_draft_alone])
def test_prompts_are_played_in_the_order_given_and_as_often(perform: Stage):
    play = play_of(chosen(SMALL, ["ended", "right", "ended"]), IDEAL)
    lengths = [len(answer.tokens) for answer in perform(play).answers]
    assert lengths == [3, 7, 3]


def test_in_wall_time_the_text_is_the_same_in_as_many_passes():
    quick = replace(DISTANT, draft_ms=1.0, delay_ms=0.5, alpha_ms=0.1, pass_ms=2.0, pass_token_ms=0.1)
    play = play_of(chosen(SMALL, ["wrong"]), quick, "vanilla", n=2)
    real, virtual = play_in_wall_time(play), play_virtually(play)
    assert real.answers[0].tokens == virtual.answers[0].tokens == list(SMALL.prompts[1].target)
    assert real.answers[0].stats == virtual.answers[0].stats
    assert (real.passes, real.sent_bytes) == (virtual.passes, virtual.sent_bytes)
    assert real.cloud_s > 0


# -- settings ---------------------------------------------------------------------------------------------


def test_of_the_edges_settings_the_way_of_asking_counts_and_engine_and_patience_do_not():
    play = play_of(SMALL, IDEAL)
    odd = replace(
        play.edge, engine="scripted", draft_ms=5.0, ping_after_s=0.001, silent_after_s=0.002, tokens_max=1
    )
    assert play_virtually(replace(play, edge=odd)) == play_virtually(play)
    asks_more = replace(play.edge, upper_tokens=1, lower_tokens=1)
    assert play_virtually(replace(play, edge=asks_more)).passes > play_virtually(play).passes


def test_the_context_holds_the_longest_text():
    assert play_of(SMALL, IDEAL).context_tokens == 3 + 7
    assert play_of(chosen(SMALL, ["ended"]), IDEAL).context_tokens == 4 + 3


def test_sampling_cannot_be_replayed():
    play = play_of(SMALL, IDEAL)
    with pytest.raises(UsageError, match=r"^temperature: "):
        play_virtually(replace(play, edge=replace(play.edge, temperature=1.0)))


@together
def test_an_unknown_wire_is_answered_with_the_known_ones(perform: Stage):
    with pytest.raises(UsageError, match=r"^wire: 'letters' is not known; choose one of ids, "):
        perform(replace(play_of(SMALL, IDEAL), wire="letters"))


def test_the_text_is_what_the_engines_say_not_what_was_recorded():
    """So that a recording in which prompts cannot be told apart is found out."""
    [answer, _] = play_virtually(play_of(TWINS, IDEAL)).answers
    assert answer.tokens != list(TWINS.prompts[0].target)
