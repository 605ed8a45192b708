"""The pure sessions under a heap of events: what the actors do in virtual time, an order of magnitude faster.

One edge session and one cloud session are fed in the order in which the actors would feed them, and paid for
in the same times, to the nanosecond; tasks, mailboxes and bytes are left out. What the funnels do for a lone
session is repeated here in few lines, and a test holds the two to the same events at the same instants.
How far that goes where things coincide in one nanosecond, docs/architecture.md says.
"""

from collections.abc import Callable
from typing import Protocol

from pipesd.actors.compute import Pace
from pipesd.cloud import cloud_rules, welcome_of
from pipesd.edge_rules import edge_rules
from pipesd.engines.replay import guess_of
from pipesd.engines.traces import TracePrompt
from pipesd.lab.answers import QUIET_S, UPTIME_S, Answer, Record
from pipesd.lab.cycle import Cycle
from pipesd.lab.emulator import both_ways
from pipesd.lab.stages import Play
from pipesd.lab.turns import REPORTED, TOLD, WOKEN, Heap, Pipe
from pipesd.lab.wires import frame_bytes, frame_charge_of, uplink_of
from pipesd.planner.occupancy import Gap
from pipesd.planner.trigger import Thresholds
from pipesd.session.cloud import CloudSession
from pipesd.session.commands import EmitTokens, FinishGeneration, SendFrame
from pipesd.session.edge import EdgeSession
from pipesd.session.events import PromptGiven
from pipesd.session.experience import Experience
from pipesd.session.leases import LEASE_BYTES
from pipesd.session.trials import Trials
from pipesd.tuning import Proposal
from pipesd.values import Sampling, Slice, TrialReport
from pipesd.wire import frames

_QUIET_NS = round(QUIET_S * 1e9)

Timetable = Callable[[float], Thresholds | None]
"""Which thresholds hold at a moment; None: the policy's own."""

Happening = tuple[str, float, int, int]
"""(what, when, a position, a number of tokens); the cloud's moments without its uptime."""


class Adviser(Protocol):
    """Proposes thresholds, as ``tuning.Desk`` does."""

    def advise(self, report: TrialReport) -> Proposal:
        """Learn from a trial, and say what comes next."""
        ...


class _Edge:
    """What ``EdgeSide`` and the drafter do for a lone session."""

    def __init__(self, play: "HeapPlay") -> None:
        self._play = play
        self._heap = play.heap
        self._log = play.log
        self._header = play.trace.header
        self._trials = None if play.desk is None else Trials()
        self._proposed = Proposal(0, None)
        self._experience = Experience(self._trials)
        self._link_idle = True
        self._drafts_told = 0
        """How many frames were told, up to the last one with drafts."""

        self.session: EdgeSession | None = None

    def begin(self, number: int, prompt: TracePrompt, answer: Answer) -> None:
        """Open a session, and give the prompt."""
        self._look_at_link()
        play, now = self._play, self._heap.now
        self._number, self._prompt, self._answer = number, prompt, answer
        self._has_sent = False
        self._step, self._told = 0, False
        self._step_ends = 0, 0
        self._steps = 0
        self._wrong_at: int | None = None
        self._epoch = 0
        session = self.session = EdgeSession(
            number, play.edge_rules, play.grant, play.grant.vocabulary_size, self._experience
        )
        self._books = session.ledger
        if self._proposed.thresholds is not None:
            session.adopt(self._proposed.thresholds)
        wish = PromptGiven(number, 0, prompt.prompt_tokens, Sampling(), 0, len(prompt.target))
        said = [*session.open(play.grant), *session.prompt(wish)]
        for command in said:
            assert isinstance(command, SendFrame), "a prompt that does more than send"
            play.up.tell(command.frame)
        self._keep_busy(now)

    def _keep_busy(self, now: float) -> None:
        session = self.session
        if session is None:
            return
        if self._step:
            if not self._told and session.step_is_useless:
                self._told = True
                if self._heap.can_stop(self._step_ends):
                    self._step = -1
                    self._heap.soon(REPORTED, self._abort_step, now)
        elif session.wants_draft:
            self._start_step(session, now)
        else:
            session.ask_if_idle()
        self._send_drafts(session, now, "some")

    def _start_step(self, session: EdgeSession, now: float) -> None:
        self._steps += 1
        self._step = self._steps
        if self._play.timetable is not None:
            self._adopt(session, Proposal(0, self._play.timetable(now)))
        session.start_step(now)
        self._step_ends = self._heap.after(self._play.draft_s(now), self._end_step, self._step)

    def _send_drafts(self, session: EdgeSession, now: float, gap: Gap) -> None:
        """Send what there is, or wait for the link; a session that has nothing to send need not be asked."""
        books, marks = self._books, session.marks
        if len(books.suffix) == books.sent_tokens and not marks:
            return
        if self._link_idle:
            frame = session.next_frame(now, gap if self._has_sent else "foreign")
            if frame is None:
                return
            self._link_idle = False
            self._has_sent = True
            if self._log is not None:
                self._log.append(("send", now, frame.base, len(frame.tokens)))
            up = self._play.up
            self._drafts_told = up.told_frames + 1
            has_more = len(books.suffix) != books.sent_tokens or bool(marks)
            up.tell(frame, last=True, wants_idle=has_more)
        else:
            self._play.up.want_idle()

    def _look_at_link(self) -> None:
        """It may have got idle while nobody waited for it."""
        if not self._link_idle:
            since = self._play.up.idle_since()
            if since is not None:
                self._note_idle(since)

    def _note_idle(self, since: float) -> None:
        self._link_idle = True
        if self.session is not None and self._has_sent:
            self.session.link_idle(since)

    def _end_step(self, step: int) -> None:
        session = self.session
        if step != self._step or session is None:
            return
        self._look_at_link()
        now, late = self._heap.now, self._told
        self._step, self._told = 0, False
        if late:
            session.finish_step(0, 0.0, now)
        else:
            token, confidence = self._guess()
            session.finish_step(token, confidence, now)
            if self._log is not None:
                self._log.append(("draft", now, self._books.end, token))
        self._keep_busy(now)

    def _guess(self) -> tuple[int, float]:
        books, prompt, target = self._books, self._prompt, self._prompt.target
        if books.epoch != self._epoch:
            self._epoch, self._wrong_at = books.epoch, None
        position = books.end - len(prompt.prompt_tokens)
        token, confidence = guess_of(self._header, prompt, position, self._wrong_at)
        if self._wrong_at is None and position < len(target) and token != target[position]:
            self._wrong_at = position
        return token, confidence

    def _abort_step(self, now: float) -> None:
        self._look_at_link()
        session = self.session
        self._step, self._told = 0, False
        self._experience.costs.aborted(0.0)
        if self._log is not None:
            self._log.append(("abort", now, 0, 0))
        if session is not None:
            session.lose_step(blocked=False)
        self._keep_busy(now)

    def idle(self, sent_frames: int) -> None:
        """The link is, after so many frames; nothing else has changed."""
        if sent_frames < self._drafts_told:
            return
        self._note_idle(self._heap.now)
        if self.session is not None:
            gap: Gap = "none" if sent_frames == self._drafts_told else "some"
            self._send_drafts(self.session, self._heap.now, gap)

    def hear(self, portion: list[frames.AnyFrame]) -> None:
        """Frames of the cloud."""
        self._look_at_link()
        if len(portion) > 1:
            self._heap.hold()  # nothing that the first brings about comes before the last is heard
        for frame in portion:
            session, now = self.session, self._heap.now
            if type(frame) is frames.Verdict and session is not None:
                if self._log is not None:
                    self._log.append(("verdict", now, frame.base, frame.accepted))
                finish: FinishGeneration | None = None
                for command in session.verdict(frame, now):
                    if isinstance(command, EmitTokens):
                        self._answer.take(now, command.tokens)
                    elif isinstance(command, FinishGeneration):
                        finish = command
                if self._trials is not None and self._trials.is_complete:
                    self._tune(session, self._trials)
                self._keep_busy(now)
                if finish is not None:
                    self._answer.stats = finish.stats
                    self.session = None
                    heap, play = self._heap, self._play
                    heap.soon(TOLD, play.up.tell, frames.Close(self._number))
                    heap.at(heap.now_ns + _QUIET_NS, WOKEN, play.begin_next, self._number + 1)

    def _tune(self, session: EdgeSession, trials: Trials) -> None:
        assert self._play.desk is not None, "a report that nobody reads"
        proposal = self._play.desk.advise(trials.report(self._experience.conditions_ms()))
        trials.begin(proposal.trial)
        self._adopt(session, proposal)

    def _adopt(self, session: EdgeSession, proposal: Proposal) -> None:
        if proposal.thresholds != self._proposed.thresholds:
            session.adopt(proposal.thresholds)
        self._proposed = proposal


class _Cloud:
    """What ``CloudSide`` and the verifier do for a lone session."""

    def __init__(self, play: "HeapPlay") -> None:
        self._play = play
        self._heap = play.heap
        self._is_eager = play.cloud_rules.verify == "eager"
        self._prompt_room_tokens = max(play.cloud_rules.lone_prompt_tokens, play.grant.chunk_tokens)
        self._session: CloudSession | None = None
        self._passing = False
        self._pass_began_s = 0.0
        self.prompt: TracePrompt | None = None
        """The one that is played."""

    def hear(self, portion: list[frames.AnyFrame]) -> None:
        """Frames of the edge."""
        now = UPTIME_S + self._heap.now
        for frame in portion:
            session = self._session
            if session is None:
                self._open(frame)
            elif type(frame) is frames.Draft:
                for verdict in session.draft(frame, now):
                    self._play.down.tell(verdict)
                if not (frame.ask or self._is_eager):
                    continue
            elif type(frame) is frames.Prompt:
                session.prompt(frame, now)
            else:
                session.abandon()
                self._session = None
            if not self._passing:
                self._start_pass(now)

    def _open(self, frame: frames.AnyFrame) -> None:
        assert isinstance(frame, frames.Open), "a frame behind the end of its session"
        self._session = CloudSession(0, frame.session, self._play.grant)
        self._session.sit(0, 0, None)
        lease = bytes(LEASE_BYTES) if self._play.cloud_rules.lease_s else b""
        self._play.down.tell(frames.Opened(frame.session, lease))

    def _start_pass(self, now: float) -> None:
        session, play = self._session, self._play
        if session is None or not (session.is_due or (self._is_eager and session.may_ride)):
            return
        slices = session.take_slices(play.cloud_rules.pass_tokens, self._prompt_room_tokens, now)
        last, tokens = slices[-1], 0
        for part in slices:
            tokens += len(part.tokens)
        self._passing = True
        self._pass_began_s = now
        play.record.passes += 1
        if play.log is not None:
            play.log.append(("pass", self._heap.now, last.base, tokens))
        took_s = play.pass_pace.at(self._heap.now).cost_s(tokens)
        self._heap.after(took_s, self._end_pass, (session, last))

    def _end_pass(self, done: tuple[CloudSession, Slice]) -> None:
        session, last = done
        self._passing = False
        now = UPTIME_S + self._heap.now
        took_s = now - self._pass_began_s
        self._play.record.cloud_s += took_s
        self._play.passes.append((self._heap.now, took_s))
        verdict = session.settle(self._picks(session, last.tokens, last.picks), now)
        if verdict is not None and self._play.log is not None:
            self._play.log.append(("judge", self._heap.now, verdict.base, verdict.accepted))
        self._start_pass(now)
        if verdict is not None:
            self._play.down.tell(verdict, last=True)

    def _picks(self, session: CloudSession, tokens: tuple[int, ...], picks: int) -> tuple[int, ...]:
        """The target path, as far as the drafts keep to it; then what is no token at all."""
        if not picks:
            return ()
        drafts = tokens[len(tokens) - picks + 1 :]
        prompt = self.prompt
        assert prompt is not None, "a pass without a prompt"
        base = session.length - len(prompt.prompt_tokens)
        path = prompt.target[base : base + picks]
        if len(path) < picks:
            path += (self._play.grant.end_ids[0],) * (picks - len(path))
        if drafts == path[:-1]:
            return path
        right = 0
        while drafts[right] == path[right]:
            right += 1
        return (*path[: right + 1], *(-1,) * (picks - right - 1))


class HeapPlay:
    """Recorded prompts, one after another."""

    def __init__(
        self,
        play: Play,
        log: list[Happening] | None = None,
        desk: Adviser | None = None,
        timetable: Timetable | None = None,
    ) -> None:
        """``log`` is given every happening; ``desk`` tunes at once, between two verdicts.

        With a ``timetable`` thresholds follow the clock, from the next draft on.
        """
        scenario = play.scenario
        self.trace = play.trace
        self.edge_rules = edge_rules(play.edge_config, play.context_tokens)
        self.cloud_rules = cloud_rules(play.cloud_config)
        self.grant = welcome_of(play.cloud_config, play.target())
        self.draft_s = _step_cost(scenario.draft_pace)
        """What a step costs that begins at a moment."""

        self.pass_pace = scenario.pass_pace
        self.record = Record()
        self.passes: list[tuple[float, float]] = []
        """(when it ended, how long it took) of every pass, in seconds."""

        self.heap = Heap()
        self.log = log
        self.desk = desk
        self.timetable = timetable
        edge, cloud = _Edge(self), _Cloud(self)
        self._edge, self._cloud = edge, cloud
        up, down = both_ways(uplink_of(scenario.uplink, play.wire), scenario.downlink, play.seed)
        self.up = Pipe(self.heap, up, cloud.hear, frame_charge_of(play.wire), edge.idle)
        self.down = Pipe(self.heap, down, edge.hear, frame_bytes)

    def play(self) -> Record:
        """The answers to all of them."""
        record = self.record
        hello = frames.Hello(frames.PROTOCOL_VERSION, self.edge_rules.client, self.grant.vocabulary_size)
        ready_ns = self.down.greet(self.up.greet(0, hello), self.grant)
        self.heap.at(ready_ns, REPORTED + TOLD, self.begin_next, 0)
        self.heap.run()
        record.sent_bytes, record.received_bytes = self.up.sent_bytes, self.down.sent_bytes
        return record

    def begin_next(self, number: int) -> None:
        """Give the prompt that is the next, if there is one."""
        if number < len(self.trace.prompts):
            prompt, answer = self.trace.prompts[number], Answer(self.heap.now)
            self.record.answers.append(answer)
            self._cloud.prompt = prompt
            self._edge.begin(number, prompt, answer)


def play_on_heap(play: Play, desk: Adviser | None = None) -> Record:
    """The same record as in virtual time, much sooner."""
    return HeapPlay(play, desk=desk).play()


def _step_cost(pace: Cycle[Pace]) -> Callable[[float], float]:
    if len(pace.values) > 1:
        return lambda now: pace.at(now).cost_s(1)
    always_s = pace.values[0].cost_s(1)
    return lambda _now: always_s
