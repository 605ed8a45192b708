"""Each side alone at a table: a dialogue is what it is told and what it answers.

Tokens are 0..99; 99 ends a text. Unless told otherwise, everything happens at moment 0 in session 0.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, get_args

import msgspec
from hypothesis import strategies as st

from pipesd.errors import LinkError, UsageError
from pipesd.planner.policies import Policy
from pipesd.planner.trigger import R1Rule, Thresholds
from pipesd.session import commands, events
from pipesd.session.cloud import CloudSession
from pipesd.session.cloud_side import CloudSide
from pipesd.session.edge_side import EdgeSide
from pipesd.session.ledger import Ledger
from pipesd.session.phases import CloudPhase, EdgePhase, TextPhase
from pipesd.session.rules import ASKS_MAX, CloudRules, EdgeRules
from pipesd.values import Ahead, Batching, Finish, Sampling, Slice, Stretch, TrialReport, Verify
from pipesd.vocabulary import Vocabulary
from pipesd.wire import frames
from tests.session.world import WORDS, Turn, World, check_no_ask_waits, target_next

TOKENS = 100
END = 99
VOCABULARY = Vocabulary([bytes([token]) for token in range(TOKENS)])
GREEDY = Sampling()
SEED = 7

WELCOME = frames.Welcome(
    version=frames.PROTOCOL_VERSION,
    model="toy",
    engine="toy",
    numerics="exact",
    vocabulary_size=TOKENS,
    vocabulary_hashes=VOCABULARY.hashes,
    end_ids=(END,),
    begin_ids=(),
    template="",
    context_tokens=1_000,
    window_tokens=16,
    chunk_tokens=512,
    sessions_max=4,
)
HELLO = frames.Hello(frames.PROTOCOL_VERSION, "toy", TOKENS)

SHY = Thresholds(r1=0.0, r2=0.0, upper_tokens=100, lower_tokens=1)
"""Never asks on its own account."""


def always(limits: Thresholds = SHY, **changes: Any) -> Policy:
    """Drafts on whatever is pending, and lets all go whenever the link is idle, unless changed."""
    return replace(Policy(thresholds=limits, ahead="always", batching="work_conserving"), **changes)


thresholds = st.builds(
    lambda r1, r2, upper, lower: Thresholds(r1, r2, upper, min(lower, upper)),
    st.sampled_from([0.0, 0.2, 0.5, 0.9]),
    st.sampled_from([0.0, 0.3, 0.9]),
    st.integers(1, 12) | st.just(100),
    st.integers(1, 4),
)
policies = st.builds(
    Policy,
    thresholds=thresholds,
    r1_rule=st.sampled_from(get_args(R1Rule)),
    batching=st.sampled_from(get_args(Batching)),
    ahead=st.sampled_from(get_args(Ahead)),
    upload_ahead=st.booleans(),
    asks_max=st.sampled_from([ASKS_MAX, 2, 1]),
    writers=st.sampled_from(["both", "both", "both", "cloud"]),
)
"""Any way to draft, send and ask; the target alone now and then."""

NOTHING = TrialReport(0, (), (), (), ())
"""A report on a trial in which nothing happened."""

FOUR = CloudRules(sessions_max=WELCOME.sessions_max)
LEASE_S = 30.0
LEASING = replace(FOUR, lease_s=LEASE_S, secret=b"a secret")


def grant(**changes: Any) -> frames.Welcome:
    return msgspec.structs.replace(WELCOME, **changes)


def prompt(*tokens: int, epoch: int = 1, base: int = 0, session: int = 0, most: int = 50) -> frames.Prompt:
    return frames.Prompt(session, epoch, base, tokens, GREEDY, SEED, most)


def draft(base: int, *tokens: int, ask: int = 0, epoch: int = 1, session: int = 0) -> frames.Draft:
    return frames.Draft(session, epoch, base, tokens, ask)


def resume(lease: bytes, confirmed: int, *, epoch: int = 2, turn: int = 1, session: int = 0) -> frames.Resume:
    return frames.Resume(session, lease, epoch, turn, confirmed)


def restore(
    *segments: tuple[bool, tuple[int, ...]], epoch: int = 2, start: int = 0, most: int = 0, session: int = 0
) -> frames.Restore:
    return frames.Restore(session, epoch, segments, GREEDY, SEED if most else 0, start, most)


def wish(*tokens: int, base: int = 0, session: int = 0, most: int = 50) -> events.PromptGiven:
    return events.PromptGiven(session, base, tokens, GREEDY, SEED, most)


def send(frame: frames.EdgeFrame) -> commands.SendFrame:
    return commands.SendFrame(frame)


def step(number: int, keep: int, *feed: int | Stretch, session: int = 0) -> commands.DraftNext:
    """Ids below 10 are a prompt, others output; what is otherwise comes as a ``Stretch``."""
    stretches: list[Stretch] = []
    for prompt, items in groupby(feed, key=lambda item: item if isinstance(item, Stretch) else item < 10):
        if isinstance(prompt, Stretch):
            stretches.append(prompt)
        else:
            stretches.append(Stretch(tuple(item for item in items if isinstance(item, int)), bool(prompt)))
    return commands.DraftNext(number, session, keep, tuple(stretches), GREEDY, SEED)


def emit(*tokens: int, session: int = 0) -> commands.EmitTokens:
    return commands.EmitTokens(session, tokens)


def faults(answer: list[commands.CloudCommand]) -> list[tuple[int, int | None, str]]:
    """(peer, session, code) of every fault."""
    return [
        (command.peer, command.frame.session, command.frame.code)
        for command in answer
        if isinstance(command, commands.SendToPeer) and isinstance(command.frame, frames.Fault)
    ]


class EdgeTable:
    """An edge that is ready, with as many sessions open as wanted.

    Its link is idle again right behind each frame, unless it does not ``keep_up``; then ``idles`` says so.
    """

    def __init__(
        self,
        rules: EdgeRules | None = None,
        welcome: frames.Welcome = WELCOME,
        vocabulary: Vocabulary = VOCABULARY,
        sessions: int = 1,
        *,
        keeps_up: bool = True,
    ) -> None:
        self.side = EdgeSide(rules or EdgeRules(policy=always()), vocabulary)
        self.link = 0
        """The number of the connection that there is, or was last."""

        self.cloud = 0
        """The cloud that it leads to."""

        self.now = 0.0
        """When everything happens unless it is said; tries to connect take time."""

        self.steps_started = 0
        self.link_idle = True
        self.told_frames = 0
        """How many frames its sender was told."""

        self._drafts_told = 0
        """Which of them was the last one with drafts."""

        self._keeps_up = keeps_up
        self.tell(events.LinkOpened())
        self.hears(welcome)
        for session in range(sessions):
            self.tell(events.SessionWanted(session))

    def tell(self, event: events.EdgeEvent, now: float | None = None) -> list[commands.EdgeCommand]:
        now = self.now if now is None else now
        answer = self._tell(event, now)
        while self._keeps_up and not self.link_idle:
            answer += self._tell(events.LinkIdle(self.told_frames, self.link), now)
        return answer

    def _tell(self, event: events.EdgeEvent, now: float) -> list[commands.EdgeCommand]:
        if isinstance(event, events.LinkIdle):
            self.link_idle = self.link_idle or event.frames >= self._drafts_told
        answer = self.side.handle(event, now)
        for command in answer:
            self.steps_started += isinstance(command, commands.DraftNext)
            self.told_frames += isinstance(command, commands.SendFrame)
            if isinstance(command, commands.SendFrame) and isinstance(command.frame, frames.Draft):
                assert self.link_idle, "drafts for a busy link"
                self.link_idle, self._drafts_told = False, self.told_frames
            if isinstance(command, commands.OpenLink):
                self.link, self.cloud = command.link, command.cloud
                self.told_frames, self._drafts_told, self.link_idle = 0, 0, True
        for session in self.side.sessions.values():
            session.ledger.validate()
        if self.side.phase is EdgePhase.READY:
            check_no_ask_waits(self.side, link_idle=self.link_idle)
        return answer

    def idles(self, now: float | None = None) -> list[commands.EdgeCommand]:
        """The link has taken what it was given."""
        return self.tell(events.LinkIdle(self.told_frames, self.link), now)

    def hears(self, frame: frames.CloudFrame, now: float | None = None) -> list[commands.EdgeCommand]:
        return self.tell(events.FrameReceived(frame, self.link), now)

    def cut(self, now: float | None = None) -> list[commands.EdgeCommand]:
        """The connection is gone."""
        answer = self.tell(events.LinkClosed("cut", self.link), now)
        self.link_idle = True
        return answer

    def dials(self) -> None:
        """It waits as long as it wants to, and tries again."""
        deadline = self.side.deadline()
        assert deadline is not None, "it tries no more"
        self.now = deadline
        assert self.tell(events.DeadlineReached()) == [commands.OpenLink(self.link, self.cloud)]

    def meets(self, welcome: frames.Welcome = WELCOME) -> list[commands.EdgeCommand]:
        """It tries again, and a cloud welcomes it; what is said then."""
        self.dials()
        self.tell(events.LinkOpened(self.link))
        answer = self.hears(welcome)
        assert isinstance(answer[0], commands.AnnounceReady)
        return answer[1:]

    def drafts(
        self, *tokens: int, confidence: float = 1.0, now: float | None = None
    ) -> list[commands.EdgeCommand]:
        """The draft model guesses, step after step; what is answered to all of it."""
        answers = []
        for token in tokens:
            answers += self.tell(events.TokenDrafted(self.steps_started, token, confidence), now)
        return answers

    def phase(self, session: int = 0) -> TextPhase:
        return self.side.sessions[session].phase

    def ledger(self, session: int = 0) -> Ledger:
        return self.side.sessions[session].ledger

    def asks(self, session: int = 0) -> list[int]:
        """Up to where the cloud owes verdicts."""
        return list(self.ledger(session).asks)

    def aborts(self) -> list[commands.EdgeCommand]:
        return self.tell(events.StepAborted(self.steps_started))


def verdict(
    base: int, accepted: int, *tokens: int, finish: Finish | None = None, epoch: int = 1, session: int = 0
) -> frames.Verdict:
    return frames.Verdict(session, epoch, base, accepted, tokens, finish)


def reply(frame: frames.CloudFrame, peer: int = 0) -> commands.SendToPeer:
    return commands.SendToPeer(peer, frame)


def part(
    base: int,
    tokens: Sequence[int],
    picks: int,
    *,
    sequence: int = 0,
    chunk: bool = False,
    copy_of: int | None = None,
) -> Slice:
    return Slice(sequence, base, tuple(tokens), picks, chunk, GREEDY, SEED, copy_of)


def run(*slices: Slice, evicted: int = 0) -> commands.RunPass:
    return commands.RunPass(slices, evicted)


def without_stamps(command: commands.CloudCommand) -> commands.CloudCommand:
    """What a verdict says about its pass is not what a dialogue is about."""
    if isinstance(command, commands.SendToPeer) and isinstance(command.frame, frames.Verdict):
        frame = msgspec.structs.replace(command.frame, arrivals=(), queue_us=0, pass_us=0, judged=0)
        return commands.SendToPeer(command.peer, frame)
    return command


class CloudTable:
    """A cloud with peers that are past the greeting, each with as many sessions open as wanted."""

    def __init__(
        self, rules: CloudRules = FOUR, welcome: frames.Welcome = WELCOME, peers: int = 1, sessions: int = 1
    ) -> None:
        self.side = CloudSide(rules, welcome, VOCABULARY)
        self.leases: dict[tuple[int, int], bytes] = {}
        """What was granted, by peer and session."""

        for peer in range(peers):
            self.meets(peer)
            for session in range(sessions):
                self.hears(frames.Open(session), peer)

    def tell(self, event: events.CloudEvent, now: float = 0.0) -> list[commands.CloudCommand]:
        answer = self.side.handle(event, now)
        for session in self.side.sessions:
            session.validate()
        for command in answer:
            if isinstance(command, commands.SendToPeer) and isinstance(command.frame, frames.Opened):
                self.leases[command.peer, command.frame.session] = command.frame.lease
        return [without_stamps(command) for command in answer]

    def meets(self, peer: int, now: float = 0.0) -> list[commands.CloudCommand]:
        return [*self.tell(events.PeerConnected(peer), now), *self.hears(HELLO, peer, now)]

    def hears(self, frame: frames.EdgeFrame, peer: int = 0, now: float = 0.0) -> list[commands.CloudCommand]:
        return self.tell(events.PeerFrame(peer, frame), now)

    def picks(self, *picks: tuple[int, ...], now: float = 0.0) -> list[commands.CloudCommand]:
        """The pass is done."""
        return self.tell(events.PassDone(picks), now)

    def phase(self, number: int = 0) -> TextPhase:
        return self.side.sessions[number].phase

    def text(self, number: int = 0) -> tuple[int, ...]:
        return tuple(self.side.sessions[number].tokens)


# -- peers that lie ---------------------------------------------------------------------------------------

Move = tuple[int, int, int]
"""A kind and two numbers below 100; Hypothesis prefers small numbers if there are many."""


def digits_of(move: Move) -> tuple[int, int, int, int]:
    return move[1] // 10, move[1] % 10, move[2] // 10, move[2] % 10


class HostileCloud:
    """Plays an edge, its drafter and its application, and answers with whatever it likes.

    A move is a kind and four digits, read differently by each kind; most moves are plausible. If the edge's
    rules have patience, connections come and go.
    """

    def __init__(self, rules: EdgeRules, welcome: frames.Welcome) -> None:
        self._rules, self._welcome = rules, welcome
        self._connect()

    def _connect(self) -> None:
        self.table = EdgeTable(self._rules, self._welcome, sessions=2, keeps_up=False)
        self._step: int | None = None
        self._paused: set[int] = set()
        self._closed = self._is_away = False
        self._opened = 2

    def _tell(self, event: events.EdgeEvent) -> None:
        try:
            answer = self.table.tell(event)
        except (UsageError, LinkError):
            return
        if isinstance(event, events.PromptGiven):
            self._paused.discard(event.session)
        for command in answer:
            if isinstance(command, commands.DraftNext):
                assert self._step is None, "two steps at once"
                self._step = command.step
            if isinstance(command, commands.SendFrame | commands.DraftNext):
                assert not self._closed, "a word after the end"
            if isinstance(command, commands.SendFrame):
                assert not self._is_away, "a word for nobody"
            self._closed = self._closed or isinstance(command, commands.CloseLink)
            self._is_away = self._is_away or isinstance(command, commands.DropLink)
        if self.table.side.phase is EdgePhase.READY:
            self._check_nothing_stands_still()

    def _check_nothing_stands_still(self) -> None:
        for number, session in self.table.side.sessions.items():
            limit = ASKS_MAX if session.ledger.last_ask > session.ledger.end else self._rules.policy.asks_max
            assert len(session.ledger.asks) <= limit  # an edge that cannot draft asks ahead
            if session.phase is TextPhase.DRAFTING and session._tie.is_there and number not in self._paused:
                assert self._step is not None, "an answer stands still"

    def move(self, move: Move) -> None:
        kind, (x, y, z, _) = move[0], digits_of(move)
        if self._closed and x < 5:
            self._connect()
        if self.table.side.phase is not EdgePhase.READY and not self._closed and kind > 9:
            self._reconnect(x, y)
            return
        open_now = sorted(self.table.side.sessions) or [0]
        session = open_now[x % len(open_now)]
        if kind < 10:
            self._end_step(x, y)
        elif kind < 14:
            self._prompt(session, y, z)
        elif kind < 16:
            self._disturb(session, y)
        elif kind < 28:
            self._hear(self._verdict(session, y, z, honest=kind > 16 or x > 4))
        elif kind < 36:
            self._tell(events.LinkIdle(self.table.told_frames - max(0, z - 6), self.table.link))
        elif kind == 36:
            self._hear(self._oddity(session, y))
        else:
            self._interrupt(session, y)

    def _reconnect(self, x: int, y: int) -> None:
        match self.table.side.phase:
            case EdgePhase.AWAY:
                self._let_time_pass()
            case EdgePhase.CONNECTING if x < 8:
                self._is_away = False
                self._tell(events.LinkOpened(self.table.link))
            case EdgePhase.GREETING if x < 8:
                less = msgspec.structs.replace(self._welcome, window_tokens=1 + y, context_tokens=30 + y)
                self._hear(less if x < 4 else self._welcome)
            case EdgePhase.GREETING if x == 8:
                self._hear(frames.Refuse("busy" if y else "version", "no", 100 * y))
            case _:
                self._cut()

    def _let_time_pass(self) -> None:
        deadline = self.table.side.deadline()
        if deadline is not None:
            self.table.now = max(self.table.now, deadline)
            self._tell(events.DeadlineReached())

    def _hear(self, frame: frames.CloudFrame) -> None:
        self._tell(events.FrameReceived(frame, self.table.link))

    def _cut(self) -> None:
        self._tell(events.LinkClosed("planned", self.table.link))
        self.table.link_idle = True

    def _end_step(self, x: int, y: int) -> None:
        step, self._step = self._step, None
        if step is not None and x == 9 and y == 9:
            self._tell(events.DraftFailed(step, "planned"))
        elif step is not None and x == 8:
            self._tell(events.StepAborted(step))
        elif step is not None:
            self._tell(events.TokenDrafted(step, END if x == 7 else y % 2, y / 9))

    def _prompt(self, session: int, y: int, z: int) -> None:
        known = self.table.side.sessions.get(session)
        base = max(0, known.ledger.confirmed - y) if known else y
        self._tell(wish(*range(z % 4), base=base, session=session, most=y))

    def _disturb(self, session: int, y: int) -> None:
        if y < 3:
            self._tell(events.GenerationCancelled(session))
        elif y == 3:
            self._tell(events.SessionLeft(session))
            self._tell(events.SessionWanted(self._opened))
            self._opened += 1
        else:
            self._paused ^= {session}
            paused = session in self._paused
            self._tell(events.ReaderPaused(session) if paused else events.ReaderResumed(session))

    def _interrupt(self, session: int, y: int) -> None:
        """The connection, or what the cloud says of how the session stands there."""
        if y < 3:
            self._cut()
        elif y == 3:
            self._let_time_pass()
        elif y == 4:
            self._hear(frames.Fault(session, "busy", "no", 500))
        elif y == 5:
            self._hear(frames.Opened(session, b"lease"))
        else:
            self._hear(frames.Resumed(session, need=y > 7))

    def _verdict(self, session: int, y: int, z: int, *, honest: bool) -> frames.Verdict:
        if session not in self.table.side.sessions:
            return verdict(y, 0, z, session=session)
        books = self.table.ledger(session)
        if not honest:
            return verdict(z, y, 0, epoch=max(0, books.epoch + y - 4), session=session)
        accepted = min(y // 2, books.sent_tokens)
        tokens = (*books.suffix[accepted : accepted + z % 3], y % 2) if z < 9 else ()
        finish: Finish | None = ("stop", "length", "context")[y % 3] if z == 9 else None
        epoch = books.epoch - (z == 7 and books.epoch > 0)
        return verdict(books.confirmed, accepted, *tokens, finish=finish, epoch=epoch, session=session)

    def _oddity(self, session: int, y: int) -> frames.CloudFrame:
        odd = (frames.Fault(session, "engine", "no"), frames.Bye(""), WELCOME, frames.Block(0, ()))
        calm = (frames.Opened(session), frames.Ping(y), frames.Pong(y), verdict(0, 0, 1, session=7))
        return (*odd, *calm, frames.Fault(None, "", ""), verdict(0, 0, 1, epoch=0, session=session))[y]


HOSTILE = 1_000
"""Peers from this number on are one liar, who comes back whenever it was sent away."""


class HostileWorld(World):
    """A world with an honest edge and one peer more, who says whatever it likes; most is plausible."""

    def __init__(
        self,
        rules: EdgeRules,
        turns: Sequence[Turn],
        cloud: frames.Welcome,
        moves: Sequence[Move],
        verify: Verify = "piggyback",
    ) -> None:
        self.moves = deque(moves)
        self.liar = HOSTILE
        self.leases: list[bytes] = []
        """What was granted to the liar."""

        super().__init__([(rules, [turns])], cloud, verify)
        self.tell_cloud(events.PeerConnected(self.liar))

    def tell_cloud(self, event: events.CloudEvent) -> None:
        for command in self.cloud.handle(event, self.now):
            match command:
                case commands.SendToPeer(peer, frame):
                    assert peer in (self.liar, 0), "a word to a peer who is gone"
                    if peer == 0:
                        self.edges[0].down.append(frame)
                    elif isinstance(frame, frames.Opened):
                        self.leases.append(frame.lease)
                case commands.RunPass(slices):
                    assert self.running is None, "two passes at once"
                    self._release()
                    self.running = slices
                case commands.ReleaseSequence(sequence):
                    self.released.append(sequence)
                case commands.TunePeer():
                    self.tune(command)
                case commands.ClosePeer(peer):
                    assert peer == self.liar, "the honest peer was sent away"
                    self.liar += 1
        for session in self.cloud.sessions:
            session.validate()

    def possible(self) -> list[Callable[[], None]]:
        actions = super().possible()
        if self.moves:
            actions += [self._lie, self._lie]
            shares = self.cloud._work._pass or ()
            if self.running and all(share.session.peer >= HOSTILE for share in shares):
                actions.append(self._fail_pass)
        return actions

    def _fail_pass(self) -> None:
        self.running = None
        self.tell_cloud(events.PassFailed("planned"))

    def _lie(self) -> None:
        move = self.moves.popleft()
        kind, digits = move[0], digits_of(move)
        peer = self.cloud._peers.get(self.liar)
        if peer is None:
            self.tell_cloud(events.PeerConnected(self.liar))
        elif peer.phase is CloudPhase.GREETING and kind < 19:
            self._say(HELLO)
        elif kind == 19 and digits[0] % 2:
            self.tell_cloud(events.PeerClosed(self.liar, "planned"))
        elif kind == 19:
            self.tell_cloud(events.PeerRejected(self.liar, "malformed", "planned"))
        else:
            number = digits[0] % 4
            session = peer.sessions.get(number)
            if session is None and kind > 2:
                self._say(frames.Close(number) if number in peer.sessions else self._begin(number, digits))
            else:
                self._say(self._frame(kind, number, session, digits))

    def _say(self, frame: frames.EdgeFrame) -> None:
        self.tell_cloud(events.PeerFrame(self.liar, frame))

    def _begin(self, number: int, digits: tuple[int, int, int, int]) -> frames.EdgeFrame:
        _, x, y, z = digits
        if not self.leases or z < 7:
            return frames.Open(number)
        lease = self.leases[-1 - x % min(4, len(self.leases))] if z < 9 else bytes(16)
        session = self.cloud._leases.find(lease, "")
        if session is None:
            return resume(lease, x, epoch=y, turn=x, session=number)
        epoch, turn, confirmed = session._epoch + (y != 0), session._turn_epoch - (y == 1), session.length
        return resume(lease, max(0, confirmed - y // 3), epoch=epoch, turn=max(0, turn), session=number)

    def _restore(
        self, number: int, session: CloudSession, digits: tuple[int, int, int, int]
    ) -> frames.Restore:
        _, x, y, z = digits
        segments = list(session._text.segments())
        if segments and x < 6:
            prompt, tokens = segments[-1]
            segments[-1] = (prompt ^ (x == 5), tokens[: len(tokens) - y % 3])
        if x != 3:
            segments.append((x % 2 == 0, (z % WORDS,) * (y % 5 + (x < 9))))
        length = sum(len(tokens) for _, tokens in segments)
        return restore(
            *segments,
            epoch=session._epoch + (z > 0),
            start=max(0, length - y % 3),
            most=5 * z,
            session=number,
        )

    def _frame(
        self, kind: int, number: int, session: CloudSession | None, digits: tuple[int, int, int, int]
    ) -> frames.EdgeFrame:
        _, x, y, z = digits
        epoch, length = (session._epoch, session.length) if session else (0, 0)
        if kind < 3 or session is None:
            return self._oddity(number, kind, x, y, z)
        if kind < 6:
            tokens = tuple(at % (WORDS + 1) for at in range(y + (kind > 3)))
            sampling = Sampling(temperature=float(z == 9))
            return frames.Prompt(number, epoch + (z > 0), max(0, length - x), tokens, sampling, 0, 5 * z + 1)
        if kind == 6:
            return frames.Cancel(number, epoch + x % 3)
        if kind > 15:
            return self._restore(number, session, digits)
        held = [*session.tokens, *session._drafts]
        base = max(0, len(held) - y if kind < 9 else len(held) + (y == 9))
        guesses = held[base:]
        while len(guesses) < x:
            guesses.append(target_next([*held[:base], *guesses]) if y % 4 else z % (WORDS + 1))
        ask = (0, base, base + len(guesses), base + len(guesses) + z)[z % 4]
        return frames.Draft(number, epoch + (kind < 9), base, tuple(guesses), ask)

    def _oddity(self, number: int, kind: int, x: int, y: int, z: int) -> frames.EdgeFrame:
        calm = (frames.Open(number), frames.Close(number), frames.Cancel(number, x), frames.Ping(z))
        talk = (frames.Draft(number, x, y, (z,), 10**z), frames.Prompt(number, x, y, (z,), GREEDY, 0, 10**z))
        odd = (frames.Bye("planned"), HELLO, frames.Proof(b""))[kind]
        fault = frames.Fault(number if z else None, "engine", "planned")
        sign = frames.Pong(z) if z % 2 else frames.Telemetry("latency", NOTHING)
        return (*calm, *talk, fault, sign, frames.BlockWanted(10**z), odd)[y]
