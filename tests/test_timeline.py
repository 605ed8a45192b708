"""What is seen of both sides: by hand, over random worlds, and of real actors in virtual time."""

import io
import json
import logging
import os
import random
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pipesd.errors import ConfigError
from pipesd.lab.clock import run_virtually
from pipesd.lab.link import LinkModel
from pipesd.observe import Recorder
from pipesd.session import commands, events
from pipesd.session.edge_side import EdgeSide
from pipesd.session.rules import EdgeRules
from pipesd.timeline import Side, TimelineObserver, recording
from pipesd.trace_events import read
from pipesd.values import Finish, Sampling, Slice, Stretch
from pipesd.wire import frames
from tests import test_observe
from tests.actors.rig import JitteredLink, JitteredPace, Plan, edge, gateway, prompt, read_all
from tests.session import world as worlds
from tests.session.world import WORDS, Turn, World, welcome
from tests.test_observe import TEXT, TOKEN, everything

GREEDY = Sampling()
Line = dict[str, Any]


class Stage:
    """An observer that is told what happens by hand, and what it wrote."""

    def __init__(self, side: Side, offset_s: float = 0.0) -> None:
        self.out = io.BytesIO()
        self.observer = TimelineObserver(self.out, side, offset_s=offset_s)

    def see(self, at_ms: float, event: object, *decided: object) -> None:
        self.observer.observe(at_ms / 1e3, event, decided)

    def lines(self) -> list[Line]:
        self.observer.close()
        lines: list[Line] = json.loads(self.out.getvalue())
        return lines

    def lanes(self) -> dict[str, list[Line]]:
        return by_lane(self.lines())

    def told(self, lane: str, *names: str) -> list[tuple[object, ...]]:
        """(name, start in ms, duration in ms if it has one, some details) of all on a lane."""
        return [
            (
                line["name"],
                line["ts"] / 1e3,
                *([line["dur"] / 1e3] if line["ph"] == "X" else []),
                *(line["args"].get(name) for name in names),
            )
            for line in self.lanes()[lane]
        ]


def by_lane(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """What is shown, in the order written; several lanes of one name are one."""
    names = {line["tid"]: line["args"]["name"] for line in lines if line["name"] == "thread_name"}
    lanes: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line["ph"] in {"X", "i"}:
            lanes[names[line["tid"]]].append(line)
    return lanes


def step(number: int, keep: int, fed: int, session: int = 0) -> commands.DraftNext:
    return commands.DraftNext(number, session, keep, (Stretch((TOKEN,) * fed, True),), GREEDY, 0)


def guess(number: int, token: int = 1) -> events.TokenDrafted:
    return events.TokenDrafted(number, token, 0.87654321)


def ask_prompt(base: int, tokens: int, session: int = 0, epoch: int = 1) -> commands.SendFrame:
    said = (TOKEN,) * tokens
    return commands.SendFrame(frames.Prompt(session, epoch, base, said, GREEDY, 0, 50))


def send(base: int, *tokens: int, ask: int = 0, session: int = 0, epoch: int = 1) -> commands.SendFrame:
    return commands.SendFrame(frames.Draft(session, epoch, base, tokens, ask))


def verdict(
    base: int, accepted: int, *tokens: int, session: int = 0, finish: Finish | None = None
) -> events.FrameReceived:
    frame = frames.Verdict(session, 1, base, accepted, tokens, finish, queue_us=12, pass_us=34, judged=2)
    return events.FrameReceived(frame)


def emit(*tokens: int, session: int = 0) -> commands.EmitTokens:
    return commands.EmitTokens(session, tokens)


def finished(session: int = 0) -> commands.FinishGeneration:
    return commands.FinishGeneration(session, "stop", commands.GenerationStats())


def given(session: int = 0) -> events.PromptGiven:
    return events.PromptGiven(session, 0, (TOKEN,), GREEDY, 0, 50)


# -- the edge, by hand --------------------------------------------------------------------------------------


def test_a_draft_step_is_a_bar_that_says_how_it_ended():
    edge = Stage("edge")
    edge.see(0, given(), ask_prompt(0, 10), step(1, 0, 10))
    edge.see(20, guess(1), step(2, 10, 1))
    edge.see(30, verdict(10, 0, 1), emit(1), commands.AbortStep(2))
    edge.see(31, events.StepAborted(2), step(3, 10, 2))
    edge.see(50, events.DraftFailed(3, TEXT))
    assert edge.told("drafting", "step", "position", "fed_tokens", "session", "confidence") == [
        ("guess", 0.0, 20.0, 1, 10, 10, 0, 0.8765),
        ("aborted", 20.0, 11.0, 2, 11, 1, 0, None),
        ("failed", 31.0, 19.0, 3, 12, 2, 0, None),
    ]


def test_a_guess_that_comes_too_late_to_count_is_called_so():
    """The second of its kind: after a correction, after the position was confirmed, after a cancellation."""
    edge = Stage("edge")
    edge.see(0, given(), ask_prompt(0, 10), step(1, 0, 10))
    edge.see(1, guess(1, 1), send(10, 1, ask=11), step(2, 10, 1))
    edge.see(2, verdict(10, 0, 7), emit(7), commands.AbortStep(2))
    edge.see(3, guess(2), step(3, 10, 1))
    edge.see(4, verdict(11, 0, 8), emit(8), commands.AbortStep(3))
    edge.see(5, guess(3), step(4, 11, 1))
    edge.see(6, events.GenerationCancelled(0), finished(), commands.AbortStep(4))
    edge.see(7, guess(4))
    assert [told[0] for told in edge.told("drafting")] == ["guess"] + ["late guess"] * 3


def test_a_guess_beyond_the_targets_vocabulary_is_none():
    edge = Stage("edge")
    edge.see(0, events.LinkOpened(), commands.AnnounceReady(welcome()))
    edge.see(1, given(), ask_prompt(0, 10), step(1, 0, 10))
    edge.see(2, guess(1, WORDS + 1))
    edge.see(3, verdict(10, 0, 1), emit(1))
    assert edge.told("drafting")[0][0] == "late guess"
    assert edge.told("verdicts")[0][0] == "verdict"


def test_a_frame_is_a_moment_if_nobody_tells_when_it_left():
    edge = Stage("edge")
    edge.see(0, given(), ask_prompt(3, 10))
    edge.see(5, guess(1), send(13, 1, 2, ask=15))
    edge.see(9, guess(2), send(15, 1))
    assert edge.told("sending", "session", "epoch", "base", "tokens", "ask") == [
        ("prompt", 0.0, 0, 1, 3, 10, None),
        ("draft", 5.0, 0, 1, 13, 2, 15),
        ("draft", 9.0, 0, 1, 15, 1, 0),
    ]


def test_a_frame_is_a_bar_until_the_link_took_it():
    edge = Stage("edge")
    edge.see(0, events.LinkOpened(), commands.SendFrame(frames.Hello(2, "a test", 9)))
    edge.see(1, events.LinkIdle(1))
    edge.see(2, given(), ask_prompt(0, 10))
    edge.see(5, guess(1), send(10, 1, ask=11))
    edge.see(8, events.LinkIdle(2), send(11, 1))
    edge.see(9, events.LinkIdle(3))
    edge.see(9, events.LinkIdle(3))
    edge.see(11, guess(1), send(12, 1))
    edge.see(12, events.LinkClosed("gone"))
    assert edge.told("sending") == [
        ("prompt", 2.0, 6.0),
        ("draft", 5.0, 3.0),
        ("draft", 8.0, 1.0),
        ("draft", 11.0, 1.0),
    ]


def test_waiting_lasts_while_an_ask_is_open():
    edge = Stage("edge")
    edge.see(0, given(), ask_prompt(0, 10))
    edge.see(4, verdict(10, 0, 1), emit(1))
    edge.see(5, guess(1), send(11, 5))
    edge.see(7, guess(2), send(12, 6, ask=13))
    edge.see(8, guess(3), send(13, 7, ask=14))
    edge.see(9, verdict(11, 1, 6), emit(5, 6))
    edge.see(12, verdict(13, 1, 8), emit(7, 8))
    assert edge.told("waiting", "session") == [("waiting", 0.0, 4.0, 0), ("waiting", 7.0, 5.0, 0)]


@pytest.mark.parametrize(
    ("event", "decided"),
    [
        (verdict(10, 0, 1, finish="stop"), [emit(1), finished()]),
        (events.GenerationCancelled(0), [commands.SendFrame(frames.Cancel(0, 2)), finished()]),
        (events.SessionLeft(0), [commands.SendFrame(frames.Close(0))]),
        (events.LinkClosed("gone"), [commands.FailGeneration(0, commands.Failure("link", "gone"))]),
        (events.StopRequested(), []),
    ],
    ids=["finish", "cancel", "close", "fault", "the end of the observer"],
)
def test_waiting_ends_with_whatever_ends_the_answer(event: object, decided: list[object]):
    edge = Stage("edge")
    edge.see(0, given(), ask_prompt(0, 10))
    edge.see(2, guess(1), send(10, 1, ask=30))
    edge.see(7, event, *decided)
    assert edge.told("waiting") == [("waiting", 0.0, 7.0)]


def test_a_correction_ends_the_wait_and_an_ask_in_the_same_step_begins_another():
    edge = Stage("edge")
    edge.see(0, given(), ask_prompt(0, 10), step(1, 0, 10))
    edge.see(3, guess(1), send(10, 1, ask=11), send(11, ask=20))
    edge.see(5, verdict(10, 0, 2), emit(2), send(11, ask=12, epoch=2))
    edge.see(9, verdict(11, 0, 3), emit(3))
    assert edge.told("waiting") == [("waiting", 0.0, 5.0), ("waiting", 5.0, 4.0)]


def test_sessions_that_wait_at_once_have_a_lane_each_and_leave_it_to_others():
    edge = Stage("edge")
    edge.see(0, given(), ask_prompt(0, 10))
    edge.see(1, given(1), ask_prompt(0, 10, session=1))
    edge.see(2, verdict(10, 0, 1), emit(1))
    edge.see(3, given(2), ask_prompt(0, 10, session=2))
    edge.see(4, verdict(10, 0, 1, session=1), emit(1, session=1))
    lines = edge.lines()
    waits = [line for line in lines if line["name"] == "waiting"]
    assert [(line["args"]["session"], line["ts"], line["dur"]) for line in waits] == [
        (0, 0, 2_000),
        (1, 1_000, 3_000),
        (2, 3_000, 1_000),
    ]
    assert waits[0]["tid"] == waits[2]["tid"] != waits[1]["tid"]
    assert len({line["tid"] for line in lines if line["args"].get("name") == "waiting"}) == 2


def test_a_verdict_says_what_it_confirms_and_whether_it_corrects():
    edge = Stage("edge")
    edge.see(0, given(), ask_prompt(0, 10), step(1, 0, 10))
    edge.see(1, guess(1, 5), send(10, 5, ask=11), step(2, 10, 1))
    edge.see(2, guess(2, 6), send(11, 6, ask=12), step(3, 11, 1))
    edge.see(3, guess(3, 7), step(4, 12, 1))
    edge.see(4, verdict(10, 1, 6), emit(5, 6))
    edge.see(5, verdict(12, 0, 9), emit(9))
    edge.see(6, verdict(13, 0, 9))
    edge.see(7, verdict(13, 0, 9, finish="length"), emit(9), finished())
    names = ("accepted", "tokens", "agreed", "corrected", "judged", "queue_us", "pass_us", "finish")
    assert edge.told("verdicts", *names) == [
        ("verdict", 4.0, 1, 1, 2, False, 2, 12, 34, None),
        ("correction", 5.0, 0, 1, 0, True, 2, 12, 34, None),
        ("late verdict", 6.0, 0, 1, None, None, 2, 12, 34, None),
        ("verdict", 7.0, 0, 1, 0, False, 2, 12, 34, "length"),
    ]


def test_confirmed_tokens_of_all_sessions_are_counted():
    edge = Stage("edge")
    for session in (0, 1):
        edge.see(session, given(session), ask_prompt(0, 10, session=session))
    edge.see(2, verdict(10, 0, 1, session=1), emit(1, session=1))
    edge.see(3, verdict(10, 0, 1, 2), emit(1, 2))
    edge.see(4, verdict(8, 0, 1))
    counts = [(line["ts"], line["args"]) for line in edge.lines() if line["ph"] == "C"]
    assert counts == [(2_000, {"tokens": 1}), (3_000, {"tokens": 3})]


# -- the cloud, by hand -------------------------------------------------------------------------------------


def part(sequence: int, tokens: int, *, chunk: bool = False) -> Slice:
    return Slice(sequence, 3, (TOKEN,) * tokens, 1, chunk, GREEDY, 0)


def heard(frame: frames.EdgeFrame, peer: int = 0) -> events.PeerFrame:
    return events.PeerFrame(peer, frame)


def test_a_cloud_shows_arrivals_passes_and_verdicts():
    cloud = Stage("cloud")
    reply = frames.Verdict(0, 1, 9, 2, (TOKEN,), "stop", ((1, TOKEN),), queue_us=12, pass_us=34, judged=3)
    cloud.see(
        0,
        heard(frames.Prompt(0, 1, 0, (TOKEN,) * 9, GREEDY, 0, 50)),
        commands.RunPass((part(0, 9, chunk=True),)),
    )
    cloud.see(3, heard(frames.Draft(0, 1, 9, (TOKEN, TOKEN), 11), peer=4))
    cloud.see(4, heard(frames.Ping(1)))
    cloud.see(9, events.PassDone(((TOKEN,),)), commands.RunPass((part(0, 2), part(0, 1), part(1, 1))))
    cloud.see(
        12, events.PassDone(((TOKEN,),) * 3), commands.SendToPeer(4, reply), commands.RunPass((part(1, 1),))
    )
    cloud.see(15, events.PassFailed(TEXT), commands.SendToPeer(4, frames.Fault(0, "engine", TEXT)))
    assert cloud.told("arrivals", "peer", "session", "epoch", "base", "tokens", "ask") == [
        ("prompt", 0.0, 0, 0, 1, 0, 9, None),
        ("draft", 3.0, 4, 0, 1, 9, 2, 11),
    ]
    assert cloud.told("verifying", "tokens", "sessions") == [
        ("prompt", 0.0, 9.0, 9, 1),
        ("pass", 9.0, 3.0, 4, 2),
        ("failed", 12.0, 3.0, 1, 1),
    ]
    assert cloud.told("verdicts sent", "peer", "base", "accepted", "tokens", "finish", "pass_us") == [
        ("verdict", 12.0, 4, 9, 2, 1, "stop", 34)
    ]


def test_a_clock_that_is_ahead_is_put_back():
    cloud = Stage("cloud", offset_s=86_400.0)
    cloud.see(86_400_001.5, events.PeerConnected(0), commands.RunPass((part(0, 1),)))
    cloud.see(86_400_004, events.PassDone(((1,),)))
    assert cloud.told("verifying") == [("pass", 1.5, 2.5)]


# -- what is never shown, and never raised ------------------------------------------------------------------


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every event, command and frame; what is text or a token in it can be recognised."""
    monkeypatch.setitem(test_observe.VALUES, "feed", (Stretch((TOKEN, TOKEN), prompt=False),))
    for name in ("queue_us", "pass_us", "judged"):
        monkeypatch.setitem(test_observe.VALUES, name, 7)
    return [sample for _, sample in everything()]


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_no_token_and_no_text_is_shown(side: Side, samples: list[Any]):
    stage = Stage(side)
    for sample in (*samples, *samples):
        stage.see(1, sample, *samples)
    stage.observer.close()
    shown = stage.out.getvalue().decode()
    assert shown.count("\n") > 100
    assert str(TOKEN) not in shown
    assert "secret" not in shown


@pytest.mark.parametrize("side", ["edge", "cloud"])
@pytest.mark.parametrize("seed", range(5))
def test_an_observer_bears_any_order_of_things(side: Side, seed: int, samples: list[Any]):
    dice, stage = random.Random(seed), Stage(side)
    for at_ms in range(300):
        stage.see(at_ms, dice.choice(samples), *dice.choices(samples, k=dice.randrange(4)))
    for line in stage.lines():
        assert line["ph"] in {"X", "i", "C", "M"}
        assert line.get("dur", 0) >= 0


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_a_side_of_which_nothing_is_seen_writes_nothing(side: Side):
    stage = Stage(side)
    stage.observer.close()
    assert stage.out.getvalue() == b""


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_a_side_of_which_something_is_seen_has_its_lanes(side: Side):
    stage = Stage(side)
    stage.see(1, events.DeadlineReached())
    lines = stage.lines()
    assert {line["ph"] for line in lines} == {"M"}
    assert [line["args"]["name"] for line in lines if line["name"] == "process_name"] == [f"pipesd {side}"]
    named = {line["tid"]: line["args"]["name"] for line in lines if line["name"] == "thread_name"}
    assert (
        list(named.values())
        == {
            "edge": ["drafting", "sending", "waiting", "verdicts"],
            "cloud": ["arrivals", "verifying", "verdicts sent"],
        }[side]
    )
    order = {line["tid"]: line["args"]["sort_index"] for line in lines if line["name"] == "thread_sort_index"}
    assert sorted(order, key=order.__getitem__) == list(named)


def test_no_lane_of_an_edge_has_the_number_of_one_of_a_cloud():
    stages = Stage("edge"), Stage("cloud")
    for stage in stages:
        stage.see(1, events.DeadlineReached())
    edge, cloud = ({line["tid"] for line in stage.lines()} for stage in stages)
    assert edge
    assert cloud
    assert not edge & cloud


# -- random worlds: the timeline and the ledger agree -------------------------------------------------------


@dataclass
class Truth:
    """What the sides themselves say about one edge."""

    awaiting: list[tuple[int, bool]] = field(default_factory=list)
    """(moment in µs, whether session 0 is owed a verdict) after each event."""

    stats: list[commands.GenerationStats] = field(default_factory=list)


@pytest.mark.parametrize("seed", range(30))
def test_the_timeline_of_a_random_world_says_what_the_ledger_says(seed: int, monkeypatch: pytest.MonkeyPatch):
    stage, truth, dice = Stage("edge"), Truth(), random.Random(seed)

    class Watched(EdgeSide):
        def handle(self, event: events.EdgeEvent, now: float) -> list[commands.EdgeCommand]:
            decided = super().handle(event, now)
            stage.observer.observe(now, event, decided)
            truth.stats += [each.stats for each in decided if isinstance(each, commands.FinishGeneration)]
            owed = 0 in self.sessions and bool(self.sessions[0].ledger.asks)
            truth.awaiting.append((round(now * 1e6), owed))
            return decided

    monkeypatch.setattr(worlds, "EdgeSide", Watched)
    turns = [
        Turn(dice.randrange(9), (dice.randrange(WORDS),) * 3, dice.randint(1, 40), dice.random() < 0.3)
        for _ in range(3)
    ]
    world = World([(EdgeRules(window_tokens=dice.randint(2, 20)), [turns])], welcome())
    world.edges[0].drafts_fail = dice.random() < 0.3
    world.play([dice.randrange(1_000_000) for _ in range(600)])
    lanes = stage.lanes()
    assert intervals(lanes["waiting"]) == owed_intervals(truth.awaiting)
    told = [line for line in lanes["verdicts"] if line["name"] != "late verdict"]
    assert sum(line["args"]["agreed"] for line in told) >= sum(stats.accepted for stats in truth.stats)
    if len(truth.stats) == len(turns):  # an answer that a newer prompt replaced has no figures
        assert figures(lanes) == sums(truth.stats)


def intervals(bars: Sequence[Line]) -> list[tuple[int, int]]:
    """From when to when; those that touch are one, and a moment is none."""
    found: list[tuple[int, int]] = []
    for bar in bars:
        start, end = bar["ts"], bar["ts"] + bar["dur"]
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        elif end > start:
            found.append((start, end))
    return found


def owed_intervals(awaiting: Sequence[tuple[int, bool]]) -> list[tuple[int, int]]:
    last = dict(awaiting)  # several events of one moment: the last counts
    found: list[tuple[int, int]] = []
    since: int | None = None
    for at_us, owed in last.items():
        if owed and since is None:
            since = at_us
        elif not owed and since is not None:
            found.append((since, at_us))
            since = None
    return found


def figures(lanes: dict[str, list[Line]]) -> dict[str, int]:
    told = [line for line in lanes["verdicts"] if line["name"] != "late verdict"]
    return {
        "tokens": sum(line["args"]["accepted"] + line["args"]["tokens"] for line in told),
        "drafted": sum(line["name"] == "guess" for line in lanes["drafting"]),
        "accepted": sum(line["args"]["agreed"] for line in told),
        "corrections": sum(line["name"] == "correction" for line in told),
        "verdicts": len(told),
    }


def sums(stats: Sequence[commands.GenerationStats]) -> dict[str, int]:
    names = ("tokens", "drafted", "accepted", "corrections", "verdicts")
    return {name: sum(getattr(each, name) for each in stats) for name in names}


# -- real actors in virtual time ----------------------------------------------------------------------------


async def play(plan: Plan, prompts: Sequence[Sequence[int]]) -> tuple[Stage, Stage, Recorder]:
    at_edge, in_cloud, recorder = Stage("edge"), Stage("cloud"), Recorder()
    async with (
        gateway(replace(plan, observers=[in_cloud.observer])) as served,
        edge(replace(plan, observers=[at_edge.observer, recorder]), served) as runtime,
    ):
        sessions = [runtime.open_session() for _ in prompts]
        streams = [
            runtime.start(prompt(session, said)) for session, said in zip(sessions, prompts, strict=True)
        ]
        for session, stream in zip(sessions, streams, strict=True):
            await read_all(stream)
            runtime.close_session(session)
    return at_edge, in_cloud, recorder


def distant(seed: int) -> Plan:
    way = JitteredLink(delay_s=0.015, dice=random.Random(seed))
    pace = JitteredPace(0.01, dice=random.Random(seed))
    return Plan(up=way, down=way, draft_pace=pace, pass_pace=pace)


@pytest.mark.parametrize("seed", range(5))
def test_bars_of_a_lane_lie_apart_or_within_each_other(seed: int):
    at_edge, in_cloud, _ = run_virtually(play(distant(seed), [[1, 2], [3], [4, 4]]))
    for lines in (at_edge.lines(), in_cloud.lines()):
        lanes: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for line in lines:
            if line["ph"] == "X":
                lanes[line["tid"]].append((line["ts"], line["ts"] + line["dur"]))
        assert len(lanes) >= 1
        for bars in lanes.values():
            for start, end in bars:
                assert not [other for other in bars if start < other[0] < end < other[1]]


@pytest.mark.parametrize("seed", range(5))
def test_the_timeline_of_a_real_session_has_its_figures(seed: int):
    at_edge, in_cloud, recorder = run_virtually(play(distant(seed), [[1, 2], [3]]))
    decided = [command for step in recorder.steps for command in step.commands]
    stats = [each.stats for each in decided if isinstance(each, commands.FinishGeneration)]
    assert len(stats) == 2
    lanes, clouds = at_edge.lanes(), in_cloud.lanes()
    assert figures(lanes) == sums(stats)
    sent = [each for each in decided if isinstance(each, commands.SendFrame)]
    ours = [each.frame for each in sent if isinstance(each.frame, frames.Draft | frames.Prompt)]
    assert len(lanes["sending"]) == len(ours)
    assert len(clouds["verdicts sent"]) == len(lanes["verdicts"])


def test_drafting_goes_on_while_a_pass_runs():
    plan = Plan(up=LinkModel(delay_s=0.001), down=LinkModel(delay_s=0.001), always_right=False)
    at_edge, in_cloud, _ = run_virtually(play(plan, [[1, 2]]))
    drafts = [line for line in at_edge.lanes()["drafting"] if line["name"] == "guess"]
    passes = in_cloud.lanes()["verifying"]
    overlaps = [
        (draft, run)
        for draft in drafts
        for run in passes
        if draft["ts"] < run["ts"] + run["dur"] and run["ts"] < draft["ts"] + draft["dur"]
    ]
    assert len(overlaps) > 1


def test_what_is_sent_arrives_later_at_the_cloud_under_the_same_name():
    at_edge, in_cloud, _ = run_virtually(play(distant(1), [[1, 2]]))
    sent, arrived = at_edge.lanes()["sending"], in_cloud.lanes()["arrivals"]
    names = ("session", "epoch", "base", "tokens", "ask")
    keys = [[[line["name"], *map(line["args"].get, names)] for line in lines] for lines in (sent, arrived)]
    assert keys[0][: len(arrived)] == keys[1]
    assert len(arrived) > 5
    for early, late in zip(sent, arrived, strict=False):
        assert late["ts"] - early["ts"] >= 15_000


# -- files --------------------------------------------------------------------------------------------------


def test_a_recording_can_be_read_while_it_is_made_and_is_complete_at_the_end(tmp_path: Path):
    path = tmp_path / "edge.json"
    with recording(path, "edge") as observer:
        observer.observe(10.0, given(), [ask_prompt(0, 10), step(1, 0, 10)])
        observer.observe(10.5, guess(1), [])
        observer.observe(11.5, events.DeadlineReached(), [])
        assert "guess" in {event.name for event in read(path)}
    assert {line["name"] for line in json.loads(path.read_bytes())} >= {"guess", "waiting"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), ConfigError("planned")], ids=repr)
def test_a_recording_is_complete_whatever_ends_the_block(tmp_path: Path, error: BaseException):
    path = tmp_path / "edge.json"

    def run() -> None:
        with recording(path, "edge") as observer:
            observer.observe(10.0, given(), [ask_prompt(0, 10), step(1, 0, 10)])
            observer.observe(10.5, events.DeadlineReached(), [])
            raise error

    with pytest.raises(type(error)):
        run()
    lanes = by_lane(json.loads(path.read_bytes()))
    assert [(bar["name"], bar["dur"]) for bar in lanes["drafting"]] == [("unfinished", 500_000)]


@pytest.mark.parametrize("error", [None, ConfigError("planned"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("before", [None, b"", b"what was there"], ids=repr)
def test_until_something_happens_a_file_is_what_it_was(
    tmp_path: Path, before: bytes | None, error: BaseException | None
):
    path = tmp_path / "edge.json"
    if before is not None:
        path.write_bytes(before)

    def run() -> None:
        with recording(path, "edge"):
            if error is not None:
                raise error

    with pytest.raises(type(error)) if error is not None else nullcontext():
        run()
    assert (path.read_bytes() if path.exists() else None) == before
    assert {each.name for each in tmp_path.iterdir()} <= {"edge.json"}


def test_what_was_there_is_replaced_as_soon_as_something_happens(tmp_path: Path):
    path = tmp_path / "edge.json"
    path.write_bytes(b"what was there\n" * 999)
    with recording(path, "edge") as observer:
        assert path.read_bytes().startswith(b"what was there\n")
        observer.observe(10.0, events.DeadlineReached(), [])
        assert "process_name" in {event.name for event in read(path)}
        observer.observe(10.5, given(), [ask_prompt(0, 10), step(1, 0, 10)])
    assert "unfinished" in {line["name"] for line in json.loads(path.read_bytes())}


def test_a_pipe_is_written_as_a_file_is(tmp_path: Path):
    path, heard = tmp_path / "pipe", list[bytes]()
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: heard.append(path.read_bytes()))
    reader.start()
    with recording(path, "edge") as observer:
        observer.observe(10.0, events.DeadlineReached(), [])
    reader.join()
    assert json.loads(heard[0])[0]["name"] == "process_name"
    assert path.is_fifo()


@pytest.mark.parametrize("name", [".", "nowhere/edge.json"])
def test_a_file_that_cannot_be_written_is_an_impossible_setting(tmp_path: Path, name: str):
    with (
        pytest.raises(ConfigError, match=r"^trace_out: .* cannot be written \(.*\); "),
        recording(tmp_path / name, "edge"),
    ):
        raise AssertionError("it began")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_disturbs_neither_the_run_nor_its_end(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING), recording(Path("/dev/full"), "edge") as observer:
        for at_s in range(3):
            observer.observe(at_s, given(), [ask_prompt(0, 10)])
    assert [record.name for record in caplog.records] == ["pipesd.timeline"]


def test_events_are_written_as_they_come_and_nothing_is_kept_of_sessions_that_are_over():
    out = io.BytesIO()
    observer, kept = TimelineObserver(out, "edge"), set()
    for number in range(20):
        before = out.tell()
        first = [ask_prompt(0, 10, session=number), step(number, 0, 10, number)]
        observer.observe(number, given(number), first)
        observer.observe(
            number, guess(number), [send(10, 1, ask=11, session=number), step(number, 10, 1, number)]
        )
        observer.observe(
            number, verdict(10, 0, 1, session=number), [emit(1, session=number), finished(number)]
        )
        observer.observe(number, events.SessionLeft(number), [commands.SendFrame(frames.Close(number))])
        observer.observe(number, guess(number), [])
        assert out.tell() - before > 500
        kept.add(
            sum(len(value) for value in vars(observer._lanes).values() if isinstance(value, list | dict))
        )
    assert len(kept) == 1
