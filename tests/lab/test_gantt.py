"""The picture: which boxes a timeline gives, and that they come out as a file, always the same."""

import io
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import msgspec
import pytest

from pipesd.actors.compute import Pace
from pipesd.errors import UsageError
from pipesd.lab import gantt
from pipesd.lab.clock import run_virtually
from pipesd.lab.gantt import Box, belong_together, boxes, draw
from pipesd.lab.link import LinkModel
from pipesd.timeline import TimelineObserver
from pipesd.trace_events import Bar, Event, Instant, Label, merge
from tests.actors.rig import Plan, edge, gateway, generate

LANES = {
    1: ["drafting", "sending", "waiting", "verdicts"],
    2: ["arrivals", "verifying", "verdicts sent"],
}
LABELS: list[Event] = [
    Label(name="thread_name", pid=pid, tid=number, args={"name": name})
    for pid, names in LANES.items()
    for number, name in enumerate(names)
]


def place(lane: str) -> tuple[int, int]:
    return next((pid, names.index(lane)) for pid, names in LANES.items() if lane in names)


def bar(lane: str, name: str, start: int, end: int, **args: Any) -> Bar:
    pid, tid = place(lane)
    return Bar(name=name, pid=pid, tid=tid, ts=start, dur=end - start, args=args)


def moment(lane: str, name: str, at: int, **args: Any) -> Instant:
    pid, tid = place(lane)
    return Instant(name=name, pid=pid, tid=tid, ts=at, args=args)


def drafted(start: int, end: int, position: int, name: str = "guess", session: int = 0) -> Bar:
    return bar("drafting", name, start, end, position=position, session=session)


def judged(at: int, base: int, agreed: int, name: str = "verdict", **args: Any) -> Instant:
    about = {"session": 0, "epoch": 1, "base": base, "accepted": agreed, "tokens": 1}
    return moment("verdicts", name, at, agreed=agreed, **{**about, **args})


def fates(*events: Event) -> list[str]:
    return [box.kind for box in boxes([*LABELS, *events]) if box.lane == "draft"]


# -- what becomes of a draft --------------------------------------------------------------------------------


def test_the_first_verdict_about_its_position_decides_about_a_draft():
    steps = [drafted(start, start + 10, 5 + start // 10) for start in (0, 10, 20, 30)]
    assert fates(*steps, judged(50, 5, 2), judged(60, 8, 0, "correction")) == [
        "accepted",
        "accepted",
        "dropped",
        "dropped",
    ]
    assert fates(*steps, judged(50, 5, 2), judged(60, 7, 2)) == ["accepted"] * 4


def test_a_verdict_from_before_it_was_made_says_nothing_about_a_draft():
    assert fates(drafted(10, 20, 5), judged(15, 5, 1), judged(30, 4, 0, "correction")) == ["dropped"]


@pytest.mark.parametrize(
    "end",
    [
        moment("sending", "prompt", 30, session=0),
        judged(30, 3, 1, finish="stop"),
        judged(30, 3, 1, "correction"),
    ],
    ids=["prompt", "finish", "correction"],
)
def test_what_ends_the_answer_or_the_suffix_drops_a_draft(end: Event):
    assert fates(drafted(10, 20, 5), end, judged(40, 5, 1)) == ["dropped"]


def test_words_about_other_sessions_and_late_verdicts_decide_nothing():
    others = [judged(30, 5, 0, "correction", session=1), judged(31, 5, 0, "late verdict")]
    assert fates(drafted(10, 20, 5), *others, judged(40, 5, 1)) == ["accepted"]
    assert fates(drafted(10, 20, 5)) == ["dropped"]


def test_steps_that_gave_nothing_are_shown_as_such():
    names = ["aborted", "failed", "late guess", "unfinished"]
    steps = [drafted(10 * at, 10 * at + 5, 5, name) for at, name in enumerate(names)]
    assert fates(*steps, judged(90, 5, 1)) == ["aborted", "failed", "dropped", "dropped"]


# -- ways ---------------------------------------------------------------------------------------------------


def frame(lane: str, at: int, base: int, tokens: int = 1, **args: Any) -> Instant:
    about = {"session": 0, "epoch": 1, "base": base, "tokens": tokens, "ask": 0}
    return moment(lane, "draft", at, **{**about, **args})


def ways(lane: str, *events: Event) -> list[tuple[int, int, str]]:
    found = boxes([*LABELS, *events])
    return [(box.start_us, box.end_us, box.label) for box in found if box.lane == lane]


def test_a_frame_is_on_its_way_until_it_arrives():
    sent = [frame("sending", 10, 5, 2), frame("sending", 20, 7), frame("sending", 30, 8)]
    arrived = [frame("arrivals", 25, 5, 2, peer=0), frame("arrivals", 36, 7, peer=0)]
    assert ways("uplink", *sent, *arrived) == [(10, 25, "2"), (20, 36, "1"), (30, 30, "1")]


def test_frames_that_look_alike_arrive_in_order():
    sent = [frame("sending", at, 5, 0, ask=6) for at in (10, 20)]
    arrived = [frame("arrivals", at, 5, 0, ask=6, peer=0) for at in (25, 31)]
    assert ways("uplink", *sent, *arrived) == [(10, 25, "0"), (20, 31, "0")]


def test_without_a_cloud_a_frame_takes_as_long_as_the_link_took_it():
    leaving = bar("sending", "draft", 10, 14, session=0, epoch=1, base=5, tokens=3, ask=8)
    assert ways("uplink", leaving, frame("sending", 20, 8)) == [(10, 14, "3"), (20, 20, "1")]


def test_a_verdict_is_on_its_way_from_the_cloud_to_the_edge():
    sent = moment("verdicts sent", "verdict", 40, peer=0, session=0, epoch=1, base=5, accepted=2, tokens=1)
    ours = [frame("sending", 1, 5), frame("arrivals", 3, 5, peer=0)]
    assert ways("downlink", sent, judged(55, 5, 2), judged(70, 8, 0), *ours) == [
        (40, 55, "+3"),
        (70, 70, "+1"),
    ]


def test_a_cloud_that_serves_others_too_is_searched_for_the_edge_that_is_shown():
    theirs = [frame("arrivals", 12, 5, peer=1), frame("arrivals", 13, 9, peer=1)]
    ours = [frame("arrivals", 15, 5, peer=2), frame("arrivals", 26, 6, peer=2)]
    about = {"session": 0, "epoch": 1, "base": 5, "accepted": 1, "tokens": 1}
    sent = [moment("verdicts sent", "verdict", at, peer=peer, **about) for at, peer in ((30, 1), (40, 2))]
    events = [frame("sending", 10, 5), frame("sending", 20, 6), *theirs, *ours, *sent, judged(50, 5, 1)]
    assert ways("uplink", *events) == [(10, 15, "1"), (20, 26, "1")]
    assert ways("downlink", *events) == [(40, 50, "+2")]


def test_nothing_arrives_before_it_is_sent():
    sent, arrived = frame("sending", 30, 5), frame("arrivals", 20, 5, peer=0)
    assert ways("uplink", sent, arrived) == [(30, 30, "1")]
    assert not belong_together([*LABELS, sent, arrived])


def test_timelines_belong_together_if_something_arrives_or_one_says_nothing():
    sent, arrived = frame("sending", 10, 5), frame("arrivals", 20, 5, peer=0)
    assert belong_together([*LABELS, sent, arrived])
    assert belong_together([*LABELS, sent])
    assert belong_together([*LABELS, arrived])
    assert not belong_together([*LABELS, sent, frame("arrivals", 20, 6, peer=0)])


# -- passes -------------------------------------------------------------------------------------------------


def test_passes_say_how_many_tokens_and_what_for():
    passes = [
        bar("verifying", name, at, at + 5, tokens=at) for at, name in enumerate(["prompt", "pass", "failed"])
    ]
    found = boxes([*LABELS, *passes, bar("waiting", "waiting", 0, 9, session=0)])
    assert found == [
        Box("verify", "prompt", 0, 5, "0"),
        Box("verify", "pass", 1, 6, "1"),
        Box("verify", "failed", 2, 7, "2"),
    ]


def test_without_a_cloud_it_is_shown_when_a_verdict_is_owed():
    assert boxes([*LABELS, bar("waiting", "waiting", 3, 9, session=0)]) == [Box("verify", "waiting", 3, 9)]


# -- a real session -----------------------------------------------------------------------------------------


@cache
def played() -> tuple[list[Event], list[Event]]:
    """Two answers in virtual time, as seen by both sides."""
    outs = io.BytesIO(), io.BytesIO()
    at_edge, in_cloud = TimelineObserver(outs[0], "edge"), TimelineObserver(outs[1], "cloud")

    async def main() -> None:
        way = LinkModel(delay_s=0.015)
        plan = Plan(up=way, down=way, draft_pace=Pace(0.011), pass_pace=Pace(0.013))
        async with (
            gateway(replace(plan, observers=[in_cloud])) as served,
            edge(replace(plan, observers=[at_edge]), served) as runtime,
        ):
            await generate(runtime, [1, 2])
            await generate(runtime, [3])

    run_virtually(main())
    return events_of(at_edge, outs[0]), events_of(in_cloud, outs[1])


def events_of(observer: TimelineObserver, out: io.BytesIO) -> list[Event]:
    observer.close()
    return msgspec.json.decode(out.getvalue(), type=list[Event])


def test_every_way_of_a_real_session_takes_as_long_as_the_link():
    found = boxes(merge(played()))
    assert {box.lane for box in found} == {"draft", "uplink", "verify", "downlink"}
    ways = [box.end_us - box.start_us for box in found if box.lane in {"uplink", "downlink"}]
    assert len(ways) > 20
    assert set(ways) <= {14_999, 15_000, 15_001}
    assert {box.kind for box in found if box.lane == "draft"} == {"accepted", "dropped", "aborted"}


def test_as_many_drafts_are_accepted_as_the_verdicts_say():
    timeline = merge(played())
    accepted = [box for box in boxes(timeline) if box.kind == "accepted"]
    agreed = [event.args.get("agreed", 0) for event in timeline if isinstance(event, Instant)]
    assert len(accepted) == sum(int(count) for count in agreed) > 10


# -- the picture --------------------------------------------------------------------------------------------


def test_the_picture_is_a_png_and_always_the_same(tmp_path: Path):
    first, second = tmp_path / "first.png", tmp_path / "second"
    timeline = merge(played())
    draw(timeline, first)
    draw(timeline, second)
    assert first.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert first.read_bytes() == second.read_bytes()
    assert b"Software" not in first.read_bytes()


def test_a_users_own_style_changes_nothing_and_stays_as_it_is(tmp_path: Path):
    plain, styled = tmp_path / "plain.png", tmp_path / "styled.png"
    draw(merge(played()), plain)
    with matplotlib.rc_context({"font.size": 22.0, "axes.facecolor": "red"}):
        draw(merge(played()), styled)
        assert matplotlib.rcParams["font.size"] == 22.0
    assert plain.read_bytes() == styled.read_bytes()


def test_other_moments_give_another_picture(tmp_path: Path):
    whole, part = tmp_path / "whole.png", tmp_path / "part.png"
    draw(merge(played()), whole)
    draw(merge(played()), part, from_ms=50, to_ms=150)
    assert whole.read_bytes() != part.read_bytes()


@pytest.mark.parametrize(
    ("from_ms", "to_ms", "expected"),
    [
        (None, None, (2_000, 9_000)),
        (0.0, None, (0, 9_000)),
        (10.0, None, (10_000, 30_000)),
        (None, 5.5, (2_000, 5_500)),
        (3.0, 40.0, (3_000, 40_000)),
    ],
)
def test_a_picture_is_of_one_answer_unless_told_otherwise(
    from_ms: float | None, to_ms: float | None, expected: tuple[int, int]
):
    origin = 7_000_000
    events: list[Event] = [
        moment("verdicts", "late verdict", origin),
        moment("sending", "prompt", origin + 2_000),
        moment("verdicts", "verdict", origin + 9_000, finish="stop"),
        moment("sending", "prompt", origin + 12_000),
        bar("drafting", "guess", origin + 20_000, origin + 30_000),
    ]
    lanes = gantt._lanes([*LABELS, *events])
    first_us, start_us, end_us = gantt._window(lanes, from_ms, to_ms)
    assert (first_us, start_us - origin, end_us - origin) == (origin, *expected)


@pytest.mark.parametrize(
    ("events", "from_ms", "to_ms"),
    [
        ([], None, None),
        (LABELS, None, None),
        ([*LABELS, drafted(0, 10, 5)], 5.0, 1.0),
        ([*LABELS, drafted(0, 10, 5)], 50.0, 60.0),
        ([*LABELS, drafted(0, 10, 5)], -60.0, -50.0),
        ([*LABELS, drafted(0, 10, 5)], float("nan"), None),
        ([*LABELS, drafted(0, 10, 5)], None, float("inf")),
    ],
)
def test_where_there_is_nothing_to_draw_that_is_said(
    tmp_path: Path, events: list[Event], from_ms: float | None, to_ms: float | None
):
    with pytest.raises(UsageError, match="--from and --to"):
        draw(events, tmp_path / "x.png", from_ms=from_ms, to_ms=to_ms)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"^png: .*nowhere.x\.png cannot be written \(No such file"):
        draw(merge(played()), tmp_path / "nowhere" / "x.png")


def test_without_matplotlib_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'pipesd\[plots\]'"):
        draw(merge(played()), tmp_path / "x.png")


def test_what_became_of_a_draft_can_be_told_in_grey():
    def grey(paint: gantt._Paint) -> float:
        red, green, blue = (int(paint.face[at : at + 2], 16) / 255 for at in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    kinds: tuple[gantt.Kind, ...] = ("accepted", "dropped", "aborted")
    paints = [gantt._PAINTS[kind] for kind in kinds]
    accepted, dropped, aborted = map(grey, paints)
    assert accepted + 0.3 < dropped < aborted - 0.2
    assert len({paint.hatch for paint in paints}) == 3


def test_boxes_that_overlap_share_the_height_of_their_lane():
    drawn = [
        Box("uplink", "drafts", start, end) for start, end in [(0, 10), (4, 12), (10, 20), (11, 13), (12, 14)]
    ]
    assert gantt._rows(drawn) == [0, 1, 0, 2, 1]
    assert gantt._rows([]) == []
