"""A whole pipesd without a clock: both sides, toy models, and a link that delivers when it pleases.

Every step of the world is a choice among what could happen next: a frame arrives, the link is called idle, a
draft step or a pass ends, the application speaks. Any sequence of choices is a possible interleaving.
"""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter

import pytest

from pipesd.planner.trigger import Thresholds
from pipesd.session import commands, events
from pipesd.session.cloud_side import CloudSide
from pipesd.session.edge_side import EdgeSide
from pipesd.session.ledger import Ledger
from pipesd.session.phases import EdgePhase, TextPhase
from pipesd.session.rules import CloudRules, EdgeRules
from pipesd.values import Sampling, Slice, Verify
from pipesd.vocabulary import Vocabulary
from pipesd.wire.frames import PROTOCOL_VERSION, CloudFrame, Draft, EdgeFrame, Welcome

WORDS = 5
END = WORDS
VOCABULARY = Vocabulary([*(bytes([97 + token]) for token in range(WORDS)), b""])
GREEDY = Sampling()
CONTEXT = 200
LEASE_S = 30.0


def welcome(
    *,
    window: int = 16,
    chunk: int = 4,
    context: int = CONTEXT,
    greedy_only: bool = False,
    tunes: bool = False,
) -> Welcome:
    return Welcome(
        version=PROTOCOL_VERSION,
        model="toy",
        engine="toy",
        numerics="exact",
        vocabulary_size=len(VOCABULARY),
        vocabulary_hashes=VOCABULARY.hashes,
        end_ids=(END,),
        begin_ids=(),
        template="",
        context_tokens=context,
        window_tokens=window,
        chunk_tokens=chunk,
        sessions_max=8,
        greedy_only=greedy_only,
        tunes=tunes,
    )


def roll(salt: str, context: Sequence[int]) -> int:
    return int.from_bytes(hashlib.blake2b(bytes(context), key=salt.encode(), digest_size=4).digest())


def target_next(context: Sequence[int]) -> int:
    """The toy target: any other context, any other token; an end about every 25 tokens."""
    dice = roll("target", context)
    return END if dice % 25 == 0 else (dice // 25) % WORDS


def draft_next(context: Sequence[int]) -> int:
    """The toy draft: right about three times in four."""
    dice = roll("draft", context)
    return target_next(context) if dice % 4 else (dice // 4) % (WORDS + 1)


def target_path(prompt: Sequence[int], tokens_max: int, context: int = CONTEXT) -> list[int]:
    """What the target alone says behind ``prompt``."""
    text = list(prompt)
    output: list[int] = []
    while len(output) < tokens_max and len(text) < context:
        output.append(target_next(text))
        text.append(output[-1])
        if output[-1] == END:
            break
    return output


@dataclass
class Turn:
    """One thing the application asks for."""

    back: int
    """How many tokens of the text to take back first."""

    prompt: tuple[int, ...]
    tokens_max: int
    cancel: bool
    """Whether it may be cancelled or replaced while it runs."""


@dataclass
class Run:
    """One session as the application sees it."""

    turns: deque[Turn]
    text: list[int] = field(default_factory=list)
    """What the application believes the text is."""

    expected: list[int] | None = None
    got: list[int] = field(default_factory=list)
    paused: bool = False
    finished: int = 0
    left: bool = False


class World:
    """Both sides and everything between them."""

    def __init__(
        self,
        edges: Sequence[tuple[EdgeRules, Sequence[Sequence[Turn]]]],
        cloud: Welcome,
        verify: Verify = "piggyback",
        **scarce: float,
    ) -> None:
        """``scarce``: rules of the cloud that say how little there is of something."""
        plenty = CloudRules(
            sessions_max=16,
            pass_tokens=12,
            verify=verify,
            tunes=cloud.tunes,
            kv_sequences=2,
            lease_s=LEASE_S,
            drain_s=0.05,
            secret=b"first",
        )
        self.rules = replace(plenty, **scarce)  # type: ignore[arg-type]
        self.welcome = cloud
        self.cloud = CloudSide(self.rules, cloud, VOCABULARY)
        self.context = cloud.context_tokens
        self.target_cache: dict[int, list[int]] = {}
        self.released: list[int] = []
        self.running: tuple[Slice, ...] | None = None
        self.evictions = self.copies = 0
        self.losses = 0
        """So often may the engine be lost."""

        self.restarts = 0
        """So often may the cloud be killed and started anew, or stop in good order first."""

        self.calm_steps = 1
        """Connections and clouds break in every so many-th step at most, that they do not do so at once."""

        self.steps = 0
        self.is_stopping = False
        self.peers_met = len(edges)
        self.gone: deque[int] = deque()
        """Peers whose connection is gone, which the cloud has not noticed yet."""

        self.proposals: Sequence[Thresholds | None] = (None,)
        """What the tuner proposes, again and again in this order."""

        self.proposed = 0
        self.reported: deque[int] = deque()
        """Peers whose trials the cloud's tuner has not answered yet."""

        self.edges = [EdgeWorld(self, peer, rules, turns) for peer, (rules, turns) in enumerate(edges)]
        self.now = 0.0
        for peer, edge in enumerate(self.edges):
            self.tell_cloud(events.PeerConnected(peer))
            edge.tell(events.LinkOpened())

    def tell_cloud(self, event: events.CloudEvent) -> None:
        for command in self.cloud.handle(event, self.now):
            match command:
                case commands.SendToPeer(peer, frame):
                    for edge in self.edges:
                        if edge.peer == peer:
                            edge.down.append(frame)
                case commands.RunPass(slices, evicted):
                    assert self.running is None, "two passes at once"
                    self.evictions += evicted
                    self._release()
                    self.running = slices
                case commands.ReleaseSequence(sequence):
                    self.released.append(sequence)
                case commands.TunePeer():
                    self.tune(command)
                case commands.ClosePeer(peer):
                    closed = [edge for edge in self.edges if edge.peer == peer]
                    assert self.is_stopping or not closed, f"the cloud closed peer {peer}: {closed[0].down}"
                    for edge in closed:
                        edge.is_ending = True
        for session in self.cloud.sessions:
            session.validate()

    def _release(self) -> None:
        """As the verifier does: what is released during a pass is released after it."""
        for sequence in self.released:
            self.target_cache.pop(sequence, None)
        self.released.clear()

    def tune(self, order: commands.TunePeer) -> None:
        assert order.peer not in self.reported, "an order before the answer to the last"
        if order.trial is not None:
            self.reported.append(order.peer)

    def propose(self) -> tuple[int, Thresholds | None]:
        """The number of the next trial, and what is to be tried."""
        self.proposed += 1
        return self.proposed, self.proposals[self.proposed % len(self.proposals)]

    def _answer_report(self) -> None:
        self.tell_cloud(events.PeerTuned(self.reported.popleft(), *self.propose()))

    def finish_pass(self) -> None:
        assert self.running is not None
        slices, self.running = self.running, None
        self.tell_cloud(events.PassDone(tuple(self._evaluate(part) for part in slices)))

    def lose_engine(self) -> None:
        """It was started anew, and nothing is left of what it held."""
        self.losses -= 1
        self.running = None
        self.target_cache.clear()
        self.tell_cloud(events.PassFailed("planned", lost=True))

    def _notice_gone(self) -> None:
        self.tell_cloud(events.PeerClosed(self.gone.popleft(), "planned"))

    def _restart(self) -> None:
        """The cloud is killed, and there is another one at once, which knows nothing."""
        self.restarts -= not self.is_stopping
        self.is_stopping = False
        self.running = None
        self.target_cache.clear()
        self.released.clear()
        self.reported.clear()
        self.gone.clear()
        self.rules = replace(self.rules, secret=self.rules.secret + b"!")
        self.cloud = CloudSide(self.rules, self.welcome, VOCABULARY)
        for edge in self.edges:
            if edge.peer is not None:
                edge.lose_link()
                self.gone.clear()

    def _stop(self) -> None:
        self.restarts -= 1
        self.is_stopping = True
        self.tell_cloud(events.StopRequested())

    def connect(self) -> int:
        """The number of a new peer."""
        self.peers_met += 1
        self.tell_cloud(events.PeerConnected(self.peers_met))
        return self.peers_met

    def _let_time_pass(self, until: float) -> None:
        self.now = max(self.now, until)
        self.tell_cloud(events.DeadlineReached())

    def _evaluate(self, part: Slice) -> tuple[int, ...]:
        if part.copy_of is not None:
            self.copies += 1
            self.target_cache[part.sequence] = list(self.target_cache[part.copy_of])
        cache = self.target_cache.setdefault(part.sequence, [])
        assert part.base <= len(cache), "a slice beyond the cache"
        del cache[part.base :]
        cache += part.tokens
        first = len(cache) - part.picks
        return tuple(target_next(cache[: first + pick + 1]) for pick in range(part.picks))

    def possible(self) -> list[Callable[[], None]]:
        """What could happen next."""
        is_begun = all(edge.runs for edge in self.edges)
        actions = [action for edge in self.edges for action in edge.possible()]
        if self.running is not None:
            actions.append(self.finish_pass)
            if self.losses:
                actions.append(self.lose_engine)
        if self.reported:
            actions.append(self._answer_report)
        if self.gone:
            actions.append(self._notice_gone)
        may_break = is_begun and self.steps % self.calm_steps == 0
        if self.is_stopping or (self.restarts and may_break):
            actions.append(self._restart)
        if self.restarts and may_break and not self.is_stopping:
            actions.append(self._stop)
        return actions

    def timers(self, within_s: float) -> list[Callable[[], None]]:
        """What happens if nothing else does for long enough, if that is not longer than this."""
        sides: list[tuple[float | None, Callable[[float], None]]] = [
            (self.cloud.deadline(), self._let_time_pass),
            *((edge.side.deadline(), edge._let_time_pass) for edge in self.edges),
        ]
        due = [(deadline, pass_time) for deadline, pass_time in sides if deadline is not None]
        first = sorted(due, key=itemgetter(0))[:1]
        return [partial(pass_time, at) for at, pass_time in first if at <= self.now + within_s]

    def play(self, choices: Sequence[int], steps_max: int = 5_000) -> None:
        """Follow ``choices``, then go on in a fixed order until nothing can happen any more."""
        ahead = deque(choices)
        for step in range(steps_max):
            actions = self.possible()
            if ahead or not actions or step % 7 == 0:
                actions += self.timers(1.5 if actions and ahead else math.inf)
            if not actions:
                break
            self.now += 0.001
            self.steps += 1
            actions[ahead.popleft() % len(actions) if ahead else step % len(actions)]()
        else:
            raise AssertionError("the world does not come to rest")
        for edge in self.edges:
            edge.check_done()


class EdgeWorld:
    """One edge, its application, its drafter, and its link."""

    def __init__(self, world: World, peer: int, rules: EdgeRules, sessions: Sequence[Sequence[Turn]]) -> None:
        self.world = world
        self.peer: int | None = peer
        """What the cloud calls the connection; None while there is none."""

        self.rules = rules
        self.link = 0
        self.is_dialling = self.is_ending = False
        self.cuts = 0
        """So often may the connection be cut, or not come about."""

        self.comebacks = self.stops = self.shown = 0
        self.preview: dict[int, list[int]] = {}
        """Drafts that are shown, by session."""

        self.side = EdgeSide(rules, VOCABULARY)
        self.up: deque[EdgeFrame] = deque()
        self.down: deque[CloudFrame] = deque()
        self.link_idle = True
        """Whether drafts may be sent."""

        self.told = self.drafts_told = 0
        """How many frames the sender was told, and which was the last one with drafts."""

        self.unreported = 0
        """Frames behind which the sender has not called the link idle yet."""

        self.step: commands.DraftNext | None = None
        self.draft_cache: dict[int, list[int]] = {}
        self.sessions = sessions
        self.runs: dict[int, Run] = {}
        self.drafts_fail = False
        self.reports = 0
        """Trials that the edge's own tuner has not answered yet."""

        self.whims = 0
        """So often may it propose something without a report."""

        self.opened = self.waits = 0

    def tell(self, event: events.EdgeEvent) -> None:
        for command in self.side.handle(event, self.world.now):
            self._obey(command)
        for session in self.side.sessions.values():
            session.ledger.validate()
        if self.side.phase is EdgePhase.READY:
            check_no_ask_waits(self.side, link_idle=self.link_idle)

    def _dial(self, command: commands.OpenLink) -> None:
        self.link, self.is_dialling = command.link, True
        self.up.clear()
        self.down.clear()
        self.told = self.drafts_told = self.unreported = 0
        self.link_idle = True

    def _connect(self) -> None:
        self.is_dialling = self.is_ending = False
        self.comebacks += 1
        self.peer = self.world.connect()
        self.tell(events.LinkOpened(self.link))

    def _fail_to_connect(self) -> None:
        self.cuts -= 1
        self.is_dialling = False
        self.tell(events.LinkClosed("planned", self.link))

    def _cut(self) -> None:
        self.cuts -= 1
        self.lose_link()

    def lose_link(self) -> None:
        """What was on its way is lost; the cloud notices some day, the edge at once."""
        assert self.peer is not None, "no link to lose"
        self.world.gone.append(self.peer)
        self._drop()
        self.tell(events.LinkClosed("planned", self.link))

    def _drop(self) -> None:
        self.peer, self.is_ending = None, False
        self.up.clear()
        self.down.clear()
        self.unreported = 0

    def _send(self, frame: EdgeFrame) -> None:
        if self.peer is None:
            return
        self.up.append(frame)
        self.unreported += 1
        self.told += 1
        if isinstance(frame, Draft):
            self.drafts_told = self.told
            assert self.link_idle, "drafts for a busy link"
            self.link_idle = False

    def _call_idle(self) -> None:
        """Maybe late: what the sender says of a prompt may be heard when drafts have followed it."""
        self.unreported -= 1
        sent = self.told - self.unreported
        self.link_idle = self.link_idle or sent >= self.drafts_told
        self.tell(events.LinkIdle(sent, self.link))

    def _obey(self, command: commands.EdgeCommand) -> None:
        match command:
            case commands.SendFrame(frame):
                self._send(frame)
            case commands.DraftNext():
                self._start_step(command)
            case commands.AbortStep(step):
                assert self.step is not None, "an abort without a step"
                assert self.step.step == step, "an abort of another step"
            case commands.ShowDrafts(number, tokens):
                self.shown += len(tokens)
                self._show(number, tokens)
            case commands.EmitTokens(number, tokens):
                self.preview.pop(number, None)
                self._emit(self.runs[number], tokens)
            case commands.FinishGeneration(number, finish):
                self.preview.pop(number, None)
                if finish is not None:
                    self._finish(self.runs[number])
            case commands.FailGeneration(number, failure):
                assert self.rules.offline == "stop", f"a generation failed: {failure}"
                assert failure.code == "link", failure
                self.stops += 1
                self.runs[number].expected = None
            case commands.CloseLink(failure):
                raise AssertionError(f"the edge closed the link: {failure}")
            case commands.TuneThresholds():
                self.reports += 1
            case _:
                self._obey_line(command)

    def _obey_line(self, command: commands.EdgeCommand) -> None:
        match command:
            case commands.AnnounceReady() if not self.runs:
                for number, turns in enumerate(self.sessions):
                    self.runs[number] = Run(deque(turns))
            case commands.OpenLink():
                self._dial(command)
            case commands.DropLink():
                if self.peer is not None:
                    self.world.gone.append(self.peer)
                    self._drop()
            case _:
                self.waits += isinstance(command, commands.NoteWait)

    def _answer_report(self) -> None:
        self.reports -= 1
        self.tell(events.ThresholdsProposed(*self.world.propose()))

    def _propose_on_a_whim(self) -> None:
        self.whims -= 1
        self.tell(events.ThresholdsProposed(*self.world.propose()))

    def _start_step(self, command: commands.DraftNext) -> None:
        assert self.step is None, "two draft steps at once"
        self.step = command
        cache = self.draft_cache.setdefault(command.session, [])
        assert command.keep <= len(cache), "a step that keeps more than there is"
        del cache[command.keep :]
        for stretch in command.feed:
            cache += stretch.tokens
        books = self.side.sessions[command.session].ledger
        assert cache == [*books.text, *books.suffix], "the drafter's cache is not the text"

    def _finish_step(self) -> None:
        assert self.step is not None
        step, self.step = self.step, None
        context = self.draft_cache[step.session]
        confidence = 0.2 + 0.8 * (roll("sure", context) % 100) / 100
        self.tell(events.TokenDrafted(step.step, draft_next(context), confidence))

    def _abort_step(self) -> None:
        assert self.step is not None
        step, self.step = self.step, None
        del self.draft_cache[step.session][step.keep :]
        self.tell(events.StepAborted(step.step))

    def _fail_step(self) -> None:
        assert self.step is not None
        step, self.step = self.step, None
        del self.draft_cache[step.session][step.keep :]
        self.tell(events.DraftFailed(step.step, "planned"))

    def _show(self, number: int, tokens: tuple[int, ...]) -> None:
        assert self.rules.offline == "draft", "drafts shown to who does not want them"
        assert self.runs[number].expected is not None, "drafts without a generation"
        books = self.side.sessions[number].ledger
        preview = self.preview.setdefault(number, [])
        preview += tokens
        assert books.suffix[: len(preview)] == preview, "what is shown is not what was drafted"

    def _emit(self, run: Run, tokens: tuple[int, ...]) -> None:
        assert run.expected is not None, "text without a generation"
        run.got += tokens
        run.text += tokens
        assert run.got == run.expected[: len(run.got)], "the text is not the target's"

    def _finish(self, run: Run) -> None:
        assert run.got == run.expected, "a generation ended too early"
        run.expected = None
        run.finished += 1

    def _start_turn(self, number: int) -> None:
        run = self.runs[number]
        self.preview.pop(number, None)
        while self.opened <= number:
            self.opened += 1
            self.tell(events.SessionWanted(self.opened - 1))
        turn = run.turns.popleft()
        base = max(0, len(run.text) - turn.back)
        if base + len(turn.prompt) >= self.world.context:
            base = 0
        run.text = [*run.text[:base], *turn.prompt]
        run.expected = target_path(run.text, turn.tokens_max, self.world.context)
        run.got = []
        self.tell(events.PromptGiven(number, base, turn.prompt, GREEDY, 0, turn.tokens_max))

    def _leave(self, number: int) -> None:
        self.runs[number].left = True
        self.tell(events.SessionLeft(number))

    def _let_time_pass(self, until: float) -> None:
        self.world.now = max(self.world.now, until)
        self.tell(events.DeadlineReached())

    def _cancel(self, number: int) -> None:
        run = self.runs[number]
        run.expected = None
        self.tell(events.GenerationCancelled(number))

    def _toggle_reader(self, number: int) -> None:
        run = self.runs[number]
        run.paused = not run.paused
        self.tell(events.ReaderPaused(number) if run.paused else events.ReaderResumed(number))

    def possible(self) -> list[Callable[[], None]]:
        actions: list[Callable[[], None]] = []
        actions += self._possible_at_link()
        if self.unreported:
            actions.append(self._call_idle)
        if self.step is not None:
            actions += [self._finish_step, self._abort_step]
            if self.drafts_fail:
                actions.append(self._fail_step)
        if self.reports:
            actions.append(self._answer_report)
        if self.whims:
            actions.append(self._propose_on_a_whim)
        for number, run in self.runs.items():
            actions += self._possible_wishes(number, run)
        return actions

    def _possible_at_link(self) -> Iterator[Callable[[], None]]:
        if self.up:
            yield self._arrive_up
        if self.down:
            yield self._arrive_down
        elif self.is_ending:
            yield self.lose_link
        if self.is_dialling:
            yield self._connect
            if self.cuts:
                yield self._fail_to_connect
        elif (
            self.cuts and self.peer is not None and self.runs and not self.world.steps % self.world.calm_steps
        ):
            yield self._cut

    def _arrive_up(self) -> None:
        assert self.peer is not None, "frames without a link"
        self.world.tell_cloud(events.PeerFrame(self.peer, self.up.popleft()))

    def _arrive_down(self) -> None:
        self.tell(events.FrameReceived(self.down.popleft(), self.link))

    def _possible_wishes(self, number: int, run: Run) -> list[Callable[[], None]]:
        actions: list[Callable[[], None]] = []
        may_start = run.turns and (run.expected is None or run.turns[0].cancel)
        if self.rules.offline == "stop" and self.side.phase is not EdgePhase.READY:
            may_start = False
        if may_start:
            actions.append(lambda: self._start_turn(number))
        if run.expected is not None and run.turns and run.turns[0].cancel:
            actions.append(lambda: self._cancel(number))
        if run.expected is None and not (run.turns or run.paused or run.left) and number < self.opened:
            actions.append(lambda: self._leave(number))
        if run.paused or (run.turns and run.turns[0].back == 1):
            actions.append(lambda: self._toggle_reader(number))
        return actions

    def check_done(self) -> None:
        for run in self.runs.values():
            assert not run.turns, "turns were never started"
            assert run.expected is None, "a generation never ended"
            assert not run.paused


def check_no_ask_waits(side: EdgeSide, *, link_idle: bool) -> None:
    """Whoever waits for a verdict while the link is idle has asked for it."""
    for session in side.sessions.values():
        if link_idle and session.phase is TextPhase.AWAITING:
            assert session.ledger.asks, "an ask waits for an idle link"


@contextmanager
def epochs_that_stand_still() -> Iterator[None]:
    """The planted fault: drafts that a verdict contradicts are discarded without a new epoch."""
    sound = Ledger.settle

    def faulty(self: Ledger, accepted: int, tokens: tuple[int, ...]) -> int | None:
        epoch = self.epoch
        first_wrong = sound(self, accepted, tokens)
        self.epoch = epoch
        return first_wrong

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "settle", faulty)
        yield
