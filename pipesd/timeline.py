"""What a live run looks like in a timeline viewer: drafting, sending, verifying and waiting as lanes.

An observer of either side writes it while things happen; ``trace_events`` has the format. A timeline holds
moments, positions and counts: no token, no text and no prompt.
"""

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from pipesd.errors import ConfigError, one_line
from pipesd.session import commands, events
from pipesd.trace_events import Arg, Bar, Count, Event, Instant, Label, TraceWriter, open_late
from pipesd.transcript import common_prefix
from pipesd.wire import frames

Side = Literal["edge", "cloud"]

_PIDS: dict[Side, int] = {"edge": 1, "cloud": 2}
_LANES_MAX = 1_000
"""Lanes are numbered through over both processes: viewers may take equal numbers for the same thing."""

_DIGITS = 4
"""Of a confidence."""


class TimelineObserver:
    """Writes what the funnel of one side does, as it happens. What cannot be written is left out."""

    def __init__(self, out: BinaryIO, side: Side, *, offset_s: float = 0.0) -> None:
        """``out`` is the caller's to close, after ``close``.

        ``offset_s``: how far the funnel's clock is ahead of the one that the timeline is to be on.
        """
        self._writer = TraceWriter(out)
        self._side = side
        self._offset_s = offset_s
        self._at_us = 0
        self._lanes: _EdgeLanes | _CloudLanes | None = None

    def observe(self, now: float, event: object, commands: Sequence[object]) -> None:
        """Write it down."""
        if self._lanes is None:
            self._lanes = self._labelled()
        self._at_us = round((now - self._offset_s) * 1e6)
        self._lanes.see(self._at_us, event, commands)
        self._writer.note_time(self._at_us)

    def close(self) -> None:
        """What is still going on ends here, and so does the array; if nothing happened, there is none."""
        if self._lanes is not None:
            self._lanes.end(self._at_us)
            self._writer.complete()

    def _labelled(self) -> "_EdgeLanes | _CloudLanes":
        lanes = _Lanes(self._writer, _PIDS[self._side], _process(self._side))
        return _EdgeLanes(lanes) if self._side == "edge" else _CloudLanes(lanes)


@contextmanager
def recording(path: Path, side: Side) -> Iterator[TimelineObserver]:
    """An observer that writes to ``path`` while the block lasts. Raises ``ConfigError`` if it cannot.

    What was there before stays until something happens.
    """
    try:
        out = open_late(path)
    except OSError as error:
        raise ConfigError(
            f"trace_out: {one_line(str(path))} cannot be written ({error.strerror}); name another file"
        ) from None
    observer = TimelineObserver(out, side)
    try:
        yield observer
    finally:
        observer.close()
        with suppress(OSError):  # it has been said already
            out.close()


def sides(timeline: Iterable[Event]) -> set[Side]:
    """Whose timelines are in it."""
    labels = (event for event in timeline if isinstance(event, Label) and event.name == "process_name")
    found = {label.args.get("name") for label in labels}
    return {side for side in _PIDS if _process(side) in found}


def _process(side: Side) -> str:
    return f"pipesd {side}"


class _Lanes:
    """The lanes of one process."""

    def __init__(self, writer: TraceWriter, pid: int, process: str) -> None:
        self._writer = writer
        self._pid = pid
        self._newest = _LANES_MAX * pid
        self._label("process_name", self._newest, name=process)

    def add(self, name: str) -> int:
        """A new lane, below the others."""
        self._newest += 1
        self._label("thread_name", self._newest, name=name)
        self._label("thread_sort_index", self._newest, sort_index=self._newest)
        return self._newest

    def _label(self, what: str, tid: int, **args: Arg) -> None:
        self._writer.put(Label(name=what, pid=self._pid, tid=tid, args=args))

    def bar(self, lane: int, name: str, since_us: int, at_us: int, **args: Arg) -> None:
        """It went on from ``since_us`` until ``at_us``."""
        bar = Bar(name=name, pid=self._pid, tid=lane, args=args, ts=since_us, dur=at_us - since_us)
        self._writer.put(bar)

    def instant(self, lane: int, name: str, at_us: int, **args: Arg) -> None:
        """It happened."""
        self._writer.put(Instant(name=name, pid=self._pid, tid=lane, args=args, ts=at_us))

    def count(self, lane: int, name: str, at_us: int, tokens: int) -> None:
        """There are so many now."""
        self._writer.put(Count(name=name, pid=self._pid, tid=lane, args={"tokens": tokens}, ts=at_us))


def _about(frame: frames.Draft | frames.Prompt | frames.Verdict) -> dict[str, Arg]:
    """What may be shown of a frame; each side shows the same, by which the two ends of a way are found."""
    shown: dict[str, Arg] = {"session": frame.session, "epoch": frame.epoch, "base": frame.base}
    shown["tokens"] = len(frame.tokens)
    match frame:
        case frames.Draft():
            shown["ask"] = frame.ask
        case frames.Verdict():
            shown |= {"accepted": frame.accepted, "judged": frame.judged}
            shown |= {"queue_us": frame.queue_us, "pass_us": frame.pass_us}
            if frame.finish is not None:
                shown["finish"] = frame.finish
        case frames.Prompt():
            pass
    return shown


# -- the edge -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Books:
    """As much of a session's ``Ledger`` as tells which drafts still count and whether a verdict is owed."""

    confirmed: int = 0
    suffix: list[int] = field(default_factory=list)
    asks: list[int] = field(default_factory=list)
    discards: int = 0

    def prompt(self, frame: frames.Prompt) -> None:
        self.discard()
        self.confirmed = frame.base + len(frame.tokens)
        self.asks = [self.confirmed + 1]

    def settle(self, verdict: frames.Verdict) -> tuple[int, bool]:
        """How many of the drafts stand, and whether the others are contradicted."""
        news = [*self.suffix[: verdict.accepted], *verdict.tokens]
        agreed = common_prefix(self.suffix, news)
        corrected = agreed < min(len(self.suffix), len(news))
        self.confirmed = verdict.base + verdict.accepted + len(verdict.tokens)
        if corrected:
            self.discard()
        else:
            del self.suffix[: len(news)]
            self.asks = [ask for ask in self.asks if ask > self.confirmed]
        return agreed, corrected

    def discard(self) -> None:
        self.suffix.clear()
        self.asks.clear()
        self.discards += 1


@dataclass(frozen=True, slots=True)
class _Step:
    """The draft step in flight."""

    number: int
    session: int
    position: int
    fed_tokens: int
    discards: int
    since_us: int


class _EdgeLanes:
    """An edge: drafting, sending, waiting, verdicts."""

    def __init__(self, lanes: _Lanes) -> None:
        self._lanes = lanes
        self._drafting, self._sending, waiting, self._verdicts = map(
            lanes.add, ("drafting", "sending", "waiting", "verdicts")
        )
        self._free = [waiting]
        """Lanes for waiting: sessions that wait at the same time need one each."""

        self._waits: dict[int, tuple[int, int]] = {}
        """(lane, since_us) of each session that waits."""

        self._books: dict[int, _Books] = {}
        self._step: _Step | None = None
        self._leaving: list[tuple[int, frames.Draft | frames.Prompt]] = []
        self._departures_are_told = False
        """Whether ``LinkIdle`` is ever reported; it follows the greeting, before any draft."""

        self._confirmed_tokens = 0
        self._vocabulary_size: float = math.inf
        """Of the target; a guess beyond it is none."""

    def see(self, at_us: int, event: object, decided: Sequence[object]) -> None:
        match event:
            case events.TokenDrafted(_, token, confidence):
                self._end_guess(at_us, token, confidence)
            case events.StepAborted():
                self._end_step(at_us, "aborted")
            case events.DraftFailed():
                self._end_step(at_us, "failed")
            case events.FrameReceived(frames.Verdict() as verdict):
                self._settle(at_us, verdict, decided)
            case events.LinkIdle():
                self._departures_are_told = True
                self._end_sending(at_us)
            case _:
                pass
        for command in decided:
            self._follow(at_us, command)

    def end(self, at_us: int) -> None:
        self._end_step(at_us, "unfinished")
        self._end_sending(at_us)
        for session in list(self._waits):
            self._books_of(session).discard()
            self._note_waiting(at_us, session)

    def _books_of(self, session: int) -> _Books:
        return self._books.setdefault(session, _Books())

    def _follow(self, at_us: int, command: object) -> None:
        match command:
            case commands.DraftNext():
                fed_tokens = sum(len(stretch.tokens) for stretch in command.feed)
                position, session = command.keep + fed_tokens, command.session
                discards = self._books_of(session).discards
                self._step = _Step(command.step, session, position, fed_tokens, discards, at_us)
            case commands.SendFrame(frame):
                self._send(at_us, frame)
            case commands.FinishGeneration(session) | commands.FailGeneration(session):
                self._books_of(session).discard()
                self._note_waiting(at_us, session)
            case commands.AnnounceReady(welcome):
                self._vocabulary_size = welcome.vocabulary_size
            case _:
                pass

    # -- drafting --

    def _end_guess(self, at_us: int, token: int, confidence: float) -> None:
        books = self._books.get(self._step.session) if self._step else None
        counts = books is not None and self._counts(books) and token < self._vocabulary_size
        if books is not None and counts:
            books.suffix.append(token)
        self._end_step(at_us, "guess" if counts else "late guess", confidence=round(confidence, _DIGITS))

    def _counts(self, books: _Books) -> bool:
        """Whether the text has not moved on while the step ran."""
        step, end = self._step, books.confirmed + len(books.suffix)
        return step is not None and step.discards == books.discards and step.position == end

    def _end_step(self, at_us: int, name: str, **args: Arg) -> None:
        step, self._step = self._step, None
        if step is not None:
            args = {"session": step.session, "position": step.position, "fed_tokens": step.fed_tokens, **args}
            self._lanes.bar(self._drafting, name, step.since_us, at_us, step=step.number, **args)

    # -- sending --

    def _send(self, at_us: int, frame: frames.EdgeFrame) -> None:
        if isinstance(frame, frames.Draft | frames.Prompt):
            books = self._books_of(frame.session)
            if isinstance(frame, frames.Prompt):
                books.prompt(frame)
            elif frame.ask > books.confirmed:
                books.asks.append(frame.ask)
            self._note_waiting(at_us, frame.session)
            self._leave(at_us, frame)
        elif isinstance(frame, frames.Close):
            self._books_of(frame.session).discard()
            self._note_waiting(at_us, frame.session)
            del self._books[frame.session]

    def _leave(self, at_us: int, frame: frames.Draft | frames.Prompt) -> None:
        if self._departures_are_told:
            self._leaving.append((at_us, frame))
        else:
            self._lanes.instant(self._sending, _name(frame), at_us, **_about(frame))

    def _end_sending(self, at_us: int) -> None:
        for since_us, frame in self._leaving:
            self._lanes.bar(self._sending, _name(frame), since_us, at_us, **_about(frame))
        self._leaving.clear()

    # -- waiting --

    def _note_waiting(self, at_us: int, session: int) -> None:
        owed = bool(self._books_of(session).asks)
        if owed and session not in self._waits:
            lane = heapq.heappop(self._free) if self._free else self._lanes.add("waiting")
            self._waits[session] = (lane, at_us)
        elif not owed and session in self._waits:
            lane, since_us = self._waits.pop(session)
            heapq.heappush(self._free, lane)
            self._lanes.bar(lane, "waiting", since_us, at_us, session=session)

    # -- verdicts --

    def _settle(self, at_us: int, verdict: frames.Verdict, decided: Sequence[object]) -> None:
        about = _about(verdict)
        if not any(_is_progress(command, verdict.session) for command in decided):
            self._lanes.instant(self._verdicts, "late verdict", at_us, **about)
            return
        agreed, corrected = self._books_of(verdict.session).settle(verdict)
        name = "correction" if corrected else "verdict"
        self._lanes.instant(self._verdicts, name, at_us, agreed=agreed, corrected=corrected, **about)
        self._note_waiting(at_us, verdict.session)
        self._confirmed_tokens += verdict.accepted + len(verdict.tokens)
        self._lanes.count(self._verdicts, "confirmed tokens", at_us, self._confirmed_tokens)


def _name(frame: frames.Draft | frames.Prompt) -> str:
    return type(frame).__name__.lower()


def _is_progress(command: object, session: int) -> bool:
    """Whether a verdict told the session something."""
    news = commands.EmitTokens | commands.FinishGeneration
    return isinstance(command, news) and command.session == session


# -- the cloud ----------------------------------------------------------------------------------------------


class _CloudLanes:
    """A cloud: arrivals, verifying, verdicts sent."""

    def __init__(self, lanes: _Lanes) -> None:
        self._lanes = lanes
        self._arrivals, self._verifying, self._verdicts = map(
            lanes.add, ("arrivals", "verifying", "verdicts sent")
        )
        self._pass: tuple[int, commands.RunPass] | None = None

    def see(self, at_us: int, event: object, decided: Sequence[object]) -> None:
        match event:
            case events.PeerFrame(peer, frames.Draft() | frames.Prompt() as frame):
                self._lanes.instant(self._arrivals, _name(frame), at_us, peer=peer, **_about(frame))
            case events.PassDone():
                self._end_pass(at_us)
            case events.PassFailed():
                self._end_pass(at_us, "failed")
            case _:
                pass
        for command in decided:
            match command:
                case commands.RunPass():
                    self._pass = (at_us, command)
                case commands.SendToPeer(peer, frames.Verdict() as verdict):
                    self._lanes.instant(self._verdicts, "verdict", at_us, peer=peer, **_about(verdict))
                case _:
                    pass

    def end(self, at_us: int) -> None:
        self._end_pass(at_us, "unfinished")

    def _end_pass(self, at_us: int, name: str = "") -> None:
        if self._pass is None:
            return
        (since_us, run), self._pass = self._pass, None
        reads_prompt = any(part.prompt for part in run.slices)
        sessions = len({part.sequence for part in run.slices})
        name = name or ("prompt" if reads_prompt else "pass")
        self._lanes.bar(self._verifying, name, since_us, at_us, tokens=run.tokens, sessions=sessions)
