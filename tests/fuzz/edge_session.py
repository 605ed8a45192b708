"""The edge behind the greeting: a hostile cloud says what it likes, and the application what it may.

Nothing may be raised but to an application that wishes the impossible. The text that was confirmed never
shrinks, and it is what the application was shown; the draft engine and the link are used one at a time; and
there is never a word on a link that is closed.
"""

from typing import TYPE_CHECKING, Any, get_args

from pipesd.errors import PeerError, PipeSDError
from pipesd.planner.policies import POLICIES
from pipesd.planner.trigger import Thresholds
from pipesd.session import commands, events
from pipesd.session.edge_side import EdgeSide
from pipesd.session.rules import EdgeRules, Patience
from pipesd.values import Offline, Sampling, TunerPlace
from pipesd.wire.codec import Decoder, encode
from pipesd.wire.frames import CloudFrame, Draft, Welcome
from tests.fuzz.plausible import GREETING
from tests.fuzz.stream import Stream
from tests.fuzz.tape import Tape, records
from tests.session.world import END, VOCABULARY, WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_COMMANDS = get_args(commands.EdgeCommand)
_WISHES = (events.SessionWanted, events.PromptGiven)
_POLICY_NAMES = ("pipesd", *POLICIES)
_PATIENCE = (60.0, 60.0, 0.0)

SAY, STEP, ASK, IDLE, WAIT, ODD = 0, 7, 10, 12, 14, 15
"""A record begins with one of these or a number up to the next: the cloud speaks, a draft step ends, …"""


class Table:
    """One edge with its drafter, its application, and whatever it takes for a cloud."""

    def __init__(self, tape: Tape) -> None:
        rules = EdgeRules(
            policy=POLICIES[tape.pick(_POLICY_NAMES)],
            window_tokens=tape.pick((8, 1, 24)),
            offline=tape.pick(get_args(Offline)),
            offline_tokens=6,
            tuner=tape.pick(get_args(TunerPlace)),
            clouds=tape.pick((1, 2)),
            patience=Patience(
                greeting_s=5.0,
                ping_after_s=10.0,
                silent_after_s=30.0,
                busy_s=20.0,
                away_s=tape.pick(_PATIENCE),
            ),
        )
        self._side = EdgeSide(rules, VOCABULARY)
        self._now = 0.0
        self._link = 0
        self._up: int | None = None
        """The connection that there is."""

        self._is_dialling, self._is_closed = True, False
        self._told = self._drafts_told = 0
        self._is_link_idle = True
        self._step: commands.DraftNext | None = None
        self._caches: dict[int, int] = {}
        """How much the drafter's cache holds of each session."""

        self._texts: dict[int, list[int]] = {}
        """What the application knows to be the text of each session."""

        self._limits: dict[int, int] = {}
        """Where the answer of each session must end."""

        self._opened = 0
        self._session = 0
        self._taken = 0
        self._said: list[int] = []
        """What a verdict says: how many drafts stand, and the tokens behind."""

        self._hints: Mapping[str, Callable[[Tape], object]] = {
            **GREETING,
            "session": self._number,
            "epoch": lambda tape: max(0, self._epoch + tape.pick((0, 0, 0, 0, 0, 0, -1, 1))),
            "base": lambda tape: max(0, self._confirmed + tape.pick((0, 0, 0, 0, 0, 0, -1, 1))),
            "accepted": self._accepted,
            "Verdict.tokens": self._tokens,
            "finish": self._finish,
            "retry_ms": lambda tape: tape.pick((0, 0, 500, 2**53 - 1)),
        }
        self._stream = Stream(CloudFrame, self._hints)
        self._dial()

    def play(self, part: bytes) -> None:
        """Do what one record says."""
        tape = Tape(part)
        move = tape.byte() % 16
        if move < STEP:
            self._hear(self._stream.segment(tape))
        elif move < ASK:
            self._end_step(tape)
        elif move < IDLE:
            self._ask(tape)
        elif move < WAIT:
            self._idle(tape)
        elif move == WAIT:
            self._wait(tape.pick((0.001, 0.5, 3.0, 12.0)), is_reachable=not tape.chance(64))
        else:
            self._disturb(tape)

    # -- what would be plausible ------------------------------------------------------------------------

    def _number(self, tape: Tape) -> int | None:
        """The session that is spoken of."""
        there = sorted(self._side.sessions) or [0]
        number = tape.pick((*there[:1] * 6, *there, self._opened, 2**31 - 1, None))
        self._session = number or 0
        return number

    @property
    def _ledger(self) -> Any:
        session = self._side.sessions.get(self._session)
        return None if session is None else session.ledger

    @property
    def _epoch(self) -> int:
        return self._ledger.epoch if self._ledger else 0

    @property
    def _confirmed(self) -> int:
        return self._ledger.confirmed if self._ledger else 0

    def _accepted(self, tape: Tape) -> int:
        sent: int = self._ledger.sent_tokens if self._ledger else 0
        self._taken = tape.pick((sent, *range(sent + 1), sent + 1)) if sent else tape.pick((0, 0, 0, 0, 1))
        return self._taken

    def _tokens(self, tape: Tape) -> list[int]:
        """What goes on behind the accepted drafts as they do, or otherwise."""
        suffix = self._ledger.suffix[self._taken :] if self._ledger else []
        agreed = suffix[: tape.pick((0, 0, 1, 2, 9))]
        fresh = [tape.pick((0, 1, 2, END, 9)) for _ in range(tape.pick((1, 1, 1, 0, 3)))]
        room = max(0, self._limits.get(self._session, 0) - self._confirmed - self._taken)
        self._said = [*agreed, *fresh][: room + tape.pick((0, 0, 0, 1))]
        return self._said

    def _finish(self, tape: Tape) -> str | None:
        """Why the answer ends, if it does."""
        end = self._confirmed + self._taken + len(self._said)
        right = "length" if end >= self._limits.get(self._session, 0) else None
        right = "stop" if self._said[-1:] == [END] else right
        return tape.pick((right,) * 7 + ("length", "stop", "context", None))

    # -- what may happen --------------------------------------------------------------------------------

    def _dial(self) -> None:
        """The connection comes about, and the cloud is friendly at first."""
        self._decoder: Decoder[Any] = Decoder(CloudFrame)
        self._is_dialling, self._up = False, self._link
        self._tell(events.LinkOpened(self._link))
        self._hear(self._stream.framed_of(Welcome))

    def _hear(self, data: bytes) -> None:
        link = self._up
        if link is None:
            return
        try:
            for frame in self._decoder.feed(data):
                self._tell(events.FrameReceived(frame, link))
                if self._up != link:
                    return
        except PeerError as error:
            self._tell(events.BytesRejected(error.code, str(error), link))
            assert self._up != link, "who sends what is no frame is listened to"

    def _end_step(self, tape: Tape) -> None:
        step, self._step = self._step, None
        if step is None:
            return
        how = tape.pick((0,) * 13 + (1, 2))
        if how:
            self._caches[step.session] = step.keep
            ends = (events.StepAborted(step.step), events.DraftFailed(step.step, "planned"))
            self._tell(ends[how - 1])
        else:
            token = tape.pick((0, 1, 2, 3, 4, END))
            self._tell(events.TokenDrafted(step.step, token, 1 - tape.byte() / 255))

    def _ask(self, tape: Tape) -> None:
        number = self._number(tape)
        if self._session not in self._side.sessions:
            self._tell(events.SessionWanted(number := self._opened))
            self._opened += self._opened in self._side.sessions
        known = self._texts.get(number or 0, [])
        base = max(0, len(known) + tape.pick((0, 0, 0, -1, -5, -500, 1)))
        tokens = tuple(tape.byte() % WORDS for _ in range(tape.pick((3, 1, 9, 0))))
        sampling = Sampling(temperature=tape.pick((0.0, 0.0, 1.0)))
        most = tape.pick((20, 5, 1, 300, 0))
        self._tell(events.PromptGiven(number or 0, base, tokens, sampling, 0, most))

    def _idle(self, tape: Tape) -> None:
        """The link has taken what it was given; maybe that is said late."""
        if self._up is not None:
            sent = max(0, self._told - tape.pick((0, 0, 0, 1, 2)))
            self._is_link_idle = self._is_link_idle or sent >= self._drafts_told
            self._tell(events.LinkIdle(sent, self._link))

    def _wait(self, seconds: float, *, is_reachable: bool) -> None:
        """Nothing happens for so long, but what is due by then; and whether a cloud can be reached."""
        until = self._now + seconds
        while (due := self._side.deadline()) is not None and due <= until:
            self._now = max(due, self._now)
            self._tell(events.DeadlineReached())
            assert (self._side.deadline() or self._now + 1) > self._now, "what is due stays due"
            if self._is_dialling and is_reachable:
                self._dial()
            elif self._is_dialling:
                self._is_dialling = False
                self._tell(events.LinkClosed("planned", self._link))
        self._now = until

    def _disturb(self, tape: Tape) -> None:
        number = self._number(tape) or 0
        limits = Thresholds(tape.byte() / 255, tape.byte() / 255, 1 + tape.byte() % 12, 1)
        choices: tuple[events.EdgeEvent, ...] = (
            events.GenerationCancelled(number),
            events.SessionLeft(number),
            events.ReaderPaused(number),
            events.ReaderResumed(number),
            events.ThresholdsProposed(1, limits),
            events.ThresholdsProposed(2, None),
            events.LinkClosed("planned", self._link),
            events.LinkClosed("late", self._link - 1),
            events.StopRequested(),
        )
        event = tape.pick(choices)
        if isinstance(event, events.LinkClosed) and event.link == self._link:
            self._up = None
        if isinstance(event, events.SessionLeft):
            self._texts.pop(number, None)
        self._tell(event)

    # -- what is done about it --------------------------------------------------------------------------

    def _tell(self, event: events.EdgeEvent) -> None:
        self._now += 0.001
        try:
            answer = self._side.handle(event, self._now)
        except PipeSDError:
            assert isinstance(event, _WISHES), "it raises, though nobody wished the impossible"
            return
        if isinstance(event, events.PromptGiven):
            text = self._texts.setdefault(event.session, [])
            text[event.base :] = event.tokens
            self._limits[event.session] = len(text) + event.tokens_max
        for command in answer:
            assert isinstance(command, _COMMANDS)
            self._obey(command)
        for number, session in self._side.sessions.items():
            session.ledger.validate()
            assert session.ledger.text == self._texts.get(number, []), "the text is not what was shown"

    def _obey(self, command: commands.EdgeCommand) -> None:
        match command:
            case commands.SendFrame(frame):
                self._send(frame)
            case commands.EmitTokens(number, tokens):
                self._texts[number] += tokens
            case commands.DraftNext():
                self._begin_step(command)
            case commands.AbortStep(step):
                assert self._step is not None, "an abort without a step"
                assert self._step.step == step, "an abort of another step"
            case commands.ReleaseDraft(number):
                self._caches.pop(number, None)
            case commands.OpenLink(link):
                assert self._up is None, "another link before the end of the last"
                assert not self._is_closed, "another link after the end"
                self._link, self._is_dialling = link, True
                self._told = self._drafts_told = 0
                self._is_link_idle = True
            case commands.DropLink():
                self._up = None
            case commands.CloseLink():
                self._up, self._is_closed, self._is_dialling = None, True, False
            case _:
                pass

    def _send(self, frame: Any) -> None:
        assert self._up is not None, "a word on a closed link"
        encode(frame)
        self._told += 1
        if isinstance(frame, Draft):
            assert self._is_link_idle, "drafts for a busy link"
            self._is_link_idle, self._drafts_told = False, self._told

    def _begin_step(self, order: commands.DraftNext) -> None:
        assert self._step is None, "two draft steps at once"
        assert order.keep <= self._caches.get(order.session, 0), "a step that keeps more than there is"
        self._step = order
        self._caches[order.session] = order.keep + sum(len(stretch.tokens) for stretch in order.feed)


def target(data: bytes) -> None:
    """Play one input."""
    parts = records(data)
    table = Table(Tape(next(parts, b"")))
    for part in parts:
        table.play(part)
