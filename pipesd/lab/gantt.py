"""A picture of a timeline: who works when while one answer is written.

Four lanes: drafts at the edge, frames on their way up, passes of the target, verdicts on their way down. The
same timeline gives the same bytes.
"""

import math
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipesd.errors import UsageError
from pipesd.lab.plots import add_key, picture, swatch
from pipesd.trace_events import Bar, Event, Instant, Label

if TYPE_CHECKING:
    from pipesd.lab.plots import Axes

Lane = Literal["draft", "uplink", "verify", "downlink"]
Kind = Literal[
    "accepted", "dropped", "aborted", "failed", "prompt", "drafts", "pass", "verdict", "correction", "waiting"
]

LANES: tuple[Lane, ...] = ("draft", "uplink", "verify", "downlink")
"""From top to bottom."""

_WIDTH_INCHES, _HEIGHT_INCHES = 14.0, 4.5
_LANE_HEIGHT = 0.8
_NARROWEST = 0.0012
"""Share of the picture's width that even a moment takes."""

_LETTER = 0.005
"""Share of the picture's width that a letter of a label takes."""


@dataclass(frozen=True, slots=True)
class _Paint:
    says: str
    face: str
    hatch: str = ""
    ink: str = "black"


_PAINTS: Mapping[Kind, _Paint] = {
    "accepted": _Paint("draft the target agreed with", "#1d4e79", ink="white"),
    "dropped": _Paint("draft thrown away", "#f4c06a", "///"),
    "aborted": _Paint("draft step aborted", "#ffffff", "xxx"),
    "failed": _Paint("failed", "#000000", ink="white"),
    "prompt": _Paint("prompt", "#d9d9d9"),
    "drafts": _Paint("drafts sent", "#8fb8a8"),
    "pass": _Paint("pass of the target", "#6b5b95", ink="white"),
    "verdict": _Paint("verdict", "#8fb8de"),
    "correction": _Paint("verdict that corrects", "#b23a48", "...", "white"),
    "waiting": _Paint("a verdict is owed", "#efefef"),
}
"""In black and white, too, what became of a draft is told by dark, hatched or empty."""


@dataclass(frozen=True, slots=True)
class Box:
    """What is drawn: on which lane, as what, from when to when, and a word on it."""

    lane: Lane
    kind: Kind
    start_us: int
    end_us: int
    label: str = ""


# -- from a timeline to boxes -------------------------------------------------------------------------------

Shown = Bar | Instant
Lanes = Mapping[str, list[Shown]]

_LOST: Mapping[str, Kind] = {"aborted": "aborted", "failed": "failed"}
_PASSES: Mapping[str, Kind] = {"prompt": "prompt", "failed": "failed"}

_KEYS = ("session", "epoch", "base", "tokens", "ask", "accepted")
"""By these the two ends of a frame's way are known; frames that share them all arrive in order."""


def boxes(timeline: Iterable[Event]) -> list[Box]:
    """Everything there is to draw, ordered by lane and time.

    Without a cloud's timeline the lane of passes shows when a verdict is owed instead, and a way is only as
    long as the edge knows it to be.
    """
    lanes = _lanes(timeline)
    found = [*_drafts(lanes), *_uplink(lanes), *_passes(lanes), *_downlink(lanes)]
    return sorted(found, key=lambda box: (LANES.index(box.lane), box.start_us, box.end_us))


def belong_together(timeline: Iterable[Event]) -> bool:
    """Whether something that left an edge arrives at a cloud; also if one of them has nothing to tell."""
    lanes = _lanes(timeline)
    sent, arrivals = lanes["sending"], lanes["arrivals"]
    return not (sent and arrivals) or bool(_ways(sent, arrivals))


def _lanes(timeline: Iterable[Event]) -> defaultdict[str, list[Shown]]:
    """What each lane shows, by the lane's name and ordered by time."""
    names: dict[tuple[int, int], str] = {}
    shown: list[Shown] = []
    for event in timeline:
        if isinstance(event, Label) and event.name == "thread_name":
            names[event.pid, event.tid] = str(event.args.get("name", ""))
        elif isinstance(event, Shown):
            shown.append(event)
    lanes: defaultdict[str, list[Shown]] = defaultdict(list)
    for event in sorted(shown, key=lambda event: event.ts):
        lanes[names.get((event.pid, event.tid), "")].append(event)
    return lanes


def _end_us(event: Shown) -> int:
    return event.ts + event.dur if isinstance(event, Bar) else event.ts


def _number(event: Shown, name: str) -> int:
    value = event.args.get(name, 0)
    return value if isinstance(value, int) else 0


def _drafts(lanes: Lanes) -> Iterator[Box]:
    judgements: defaultdict[int, list[Shown]] = defaultdict(list)
    prompts = (event for event in lanes["sending"] if event.name == "prompt")
    verdicts = (event for event in lanes["verdicts"] if event.name != "late verdict")
    for event in sorted((*prompts, *verdicts), key=lambda event: event.ts):
        judgements[_number(event, "session")].append(event)
    for step in lanes["drafting"]:
        fate = _fate(step, judgements[_number(step, "session")])
        yield Box("draft", fate, step.ts, _end_us(step), str(_number(step, "position")))


def _fate(step: Shown, judgements: Sequence[Shown]) -> Kind:
    """What became of a draft: the first word about its position decides."""
    if step.name != "guess":
        return _LOST.get(step.name, "dropped")
    position = _number(step, "position")
    first = bisect_left(judgements, _end_us(step), key=lambda event: event.ts)
    for number in range(first, len(judgements)):
        event = judgements[number]
        base = _number(event, "base")
        if event.name == "prompt" or position < base:
            break
        if position < base + _number(event, "agreed"):
            return "accepted"
        if event.name == "correction" or "finish" in event.args:
            break
    return "dropped"


def _uplink(lanes: Lanes) -> Iterator[Box]:
    sent, arrivals = lanes["sending"], _of_our_peer(lanes, "arrivals")
    arrived = {start: arrivals[end].ts for start, end in _ways(sent, arrivals)}
    for number, event in enumerate(sent):
        kind: Kind = "prompt" if event.name == "prompt" else "drafts"
        end_us = arrived.get(number, _end_us(event))
        yield Box("uplink", kind, event.ts, end_us, str(_number(event, "tokens")))


def _passes(lanes: Lanes) -> Iterator[Box]:
    for event in lanes["verifying"]:
        kind = _PASSES.get(event.name, "pass")
        yield Box("verify", kind, event.ts, _end_us(event), str(_number(event, "tokens")))
    if not lanes["verifying"]:
        for event in lanes["waiting"]:
            yield Box("verify", "waiting", event.ts, _end_us(event))


def _downlink(lanes: Lanes) -> Iterator[Box]:
    sent, verdicts = _of_our_peer(lanes, "verdicts sent"), lanes["verdicts"]
    left = {end: sent[start].ts for start, end in _ways(sent, verdicts)}
    for number, event in enumerate(verdicts):
        kind: Kind = "correction" if event.name == "correction" else "verdict"
        news = _number(event, "accepted") + _number(event, "tokens")
        yield Box("downlink", kind, left.get(number, event.ts), event.ts, f"+{news}")


def _of_our_peer(lanes: Lanes, name: str) -> list[Shown]:
    """What the cloud notes in this lane about our edge: the peer that says what the edge says."""
    by_peer: defaultdict[int, list[Shown]] = defaultdict(list)
    for event in lanes["arrivals"]:
        by_peer[_number(event, "peer")].append(event)
    ours = max(by_peer, key=lambda peer: len(_ways(lanes["sending"], by_peer[peer])), default=None)
    return [event for event in lanes[name] if _number(event, "peer") == ours]


def _ways(starts: Sequence[Shown], ends: Sequence[Shown]) -> list[tuple[int, int]]:
    """Which start leads to which end, by number: the k-th of a kind to the k-th."""
    waiting: defaultdict[tuple[object, ...], deque[int]] = defaultdict(deque)
    for number, event in enumerate(ends):
        waiting[_key(event)].append(number)
    found = []
    for number, event in enumerate(starts):
        fitting = waiting[_key(event)]
        while fitting and ends[fitting[0]].ts < event.ts:
            fitting.popleft()
        if fitting:
            found.append((number, fitting.popleft()))
    return found


def _key(event: Shown) -> tuple[object, ...]:
    return tuple(event.args.get(name) for name in _KEYS)


# -- the picture --------------------------------------------------------------------------------------------


def draw(
    timeline: Sequence[Event],
    path: Path,
    *,
    from_ms: float | None = None,
    to_ms: float | None = None,
    note: str = "",
) -> None:
    """Write the picture (PNG). Moments count from the timeline's first event.

    It begins with the first prompt and goes on to the end of the answer, unless told otherwise; ``note`` is
    as in ``picture``. Raises ``UsageError`` if there is nothing to draw, if matplotlib is missing, and if the
    file cannot be written.
    """
    first_us, start_us, end_us = _window(_lanes(timeline), from_ms, to_ms)
    seen = [box for box in boxes(timeline) if box.start_us <= end_us and box.end_us >= start_us]
    if not seen or start_us >= end_us:
        raise UsageError("the timeline shows nothing there; choose other moments with --from and --to")
    with picture(path, (_WIDTH_INCHES, _HEIGHT_INCHES), note) as figure:
        axes = figure.add_subplot()
        _frame(axes, (start_us - first_us) / 1e3, (end_us - first_us) / 1e3)
        _paint(axes, seen, first_us, end_us - start_us)
        kinds = [kind for kind in _PAINTS if any(box.kind == kind for box in seen)]
        add_key(figure, {_PAINTS[kind].says: swatch(**_look(kind)) for kind in kinds}, columns=5)


def _window(lanes: Lanes, from_ms: float | None, to_ms: float | None) -> tuple[int, int, int]:
    """(first event, start of the picture, its end), in microseconds."""
    if not all(moment is None or math.isfinite(moment) for moment in (from_ms, to_ms)):
        raise UsageError("--from and --to: must be milliseconds since the timeline's first event")
    shown = [event for events in lanes.values() for event in events]
    first_us = min((event.ts for event in shown), default=0)
    last_us = max((_end_us(event) for event in shown), default=0)
    prompts = (event.ts for event in lanes["sending"] if event.name == "prompt")
    start_us = next(prompts, first_us) if from_ms is None else first_us + round(from_ms * 1e3)
    finishes = (event.ts for event in lanes["verdicts"] if "finish" in event.args and event.ts > start_us)
    end_us = next(finishes, last_us) if to_ms is None else first_us + round(to_ms * 1e3)
    return first_us, start_us, end_us


def _frame(axes: "Axes", start_ms: float, end_ms: float) -> None:
    axes.set_xlim(start_ms, end_ms)
    axes.set_ylim(len(LANES) - 1 + 0.5, -0.5)
    axes.set_yticks(range(len(LANES)), labels=LANES, fontsize=12)
    axes.set_xlabel("milliseconds")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _paint(axes: "Axes", seen: Sequence[Box], first_us: int, span_us: int) -> None:
    """The boxes; those of a lane that overlap share its height."""
    for lane in LANES:
        ours = [box for box in seen if box.lane == lane]
        rows = _rows(ours)
        height = _LANE_HEIGHT / (max(rows, default=0) + 1)
        for box, row in zip(ours, rows, strict=True):
            top = LANES.index(lane) - _LANE_HEIGHT / 2 + row * height
            _paint_box(axes, box, first_us, span_us, (top, height))


def _paint_box(axes: "Axes", box: Box, first_us: int, span_us: int, place: tuple[float, float]) -> None:
    start_ms, width_ms = (box.start_us - first_us) / 1e3, (box.end_us - box.start_us) / 1e3
    narrowest_ms = _NARROWEST * span_us / 1e3
    axes.broken_barh([(start_ms, max(width_ms, narrowest_ms))], place, **_look(box.kind))
    if width_ms >= (len(box.label) + 1) * _LETTER * span_us / 1e3:
        middle = (start_ms + width_ms / 2, place[0] + place[1] / 2)
        paint = _PAINTS[box.kind]
        patch = {"facecolor": paint.face, "edgecolor": "none", "pad": 1.0} if paint.hatch else None
        aligned: dict[str, Any] = {"ha": "center", "va": "center", "clip_on": True}
        axes.text(*middle, box.label, fontsize=8, color=paint.ink, bbox=patch, **aligned)


def _look(kind: Kind) -> dict[str, Any]:
    paint = _PAINTS[kind]
    return {"facecolor": paint.face, "edgecolor": "#333333", "hatch": paint.hatch, "linewidth": 0.6}


def _rows(ours: Sequence[Box]) -> list[int]:
    """For each box the first row in which it meets none before it."""
    ends: list[int] = []
    rows = []
    for box in ours:
        row = next((row for row, end in enumerate(ends) if end <= box.start_us), len(ends))
        ends[row : row + 1] = [box.end_us]
        rows.append(row)
    return rows
