"""The edge's line to its clouds: one connection after another, each with its greeting. Pure.

A connection that breaks is made anew, with the same cloud or the next one, for as long as the rules have
patience; a cloud that will never take this edge is not asked again.
"""

import math
from collections.abc import Iterator

from pipesd.errors import PeerError, UsageError, one_line
from pipesd.session.commands import (
    AnnounceReady,
    CloseLink,
    DropLink,
    EdgeCommand,
    Failure,
    NoteAway,
    OpenLink,
    SendFrame,
)
from pipesd.session.greeting import Greeting
from pipesd.session.luck import full_jitter_s, share_of
from pipesd.session.phases import EdgePhase
from pipesd.session.proof import EdgeProof
from pipesd.session.rules import EdgeRules
from pipesd.session.tuned import Tuned
from pipesd.session.watch import Watch
from pipesd.vocabulary import Vocabulary
from pipesd.wire import frames
from pipesd.wire.faults import is_retryable

_CLOUD = 0
"""The only peer the edge watches."""

RETRY_S = 0.2
"""Before the first try at most so long; before each further one twice as long."""

RETRY_MAX_S = 3.0
"""A compromise: a storm of faults takes a third less time than with 10 s, and a thousand edges whose cloud
comes back call it some 600 times a second."""

BREACHES_MAX = 8
"""So often in a row may a cloud break the protocol, which a bad network may make it seem to do."""

BREACHES = {"peer", "malformed", "oversized", "out_of_phase", "protocol", "window"}
"""What either side says of the other when bytes got lost or changed on the way, too."""

Answer = frames.Challenge | frames.Welcome | frames.Block
"""What belongs to the greeting."""


class Line:
    """Where the connection stands, and what is to be done when it breaks."""

    def __init__(self, rules: EdgeRules, vocabulary: Vocabulary, tuned: Tuned) -> None:
        self._rules = rules
        self._vocabulary = vocabulary
        self._tuned = tuned
        self.phase = EdgePhase.CONNECTING
        """Where it stands."""

        self.number = 0
        """How many connections there were before this one."""

        self.failure: Failure | None = None
        """Why there is no connection, while there is none."""

        self.welcome: frames.Welcome | None = None
        """What the cloud granted that is there, or was last."""

        self._watch = Watch(rules.patience)
        self._greeting_ends = math.inf
        self._greeting = Greeting(vocabulary)
        self._clouds = list(range(rules.clouds))
        """Those that may take this edge; the next to be asked comes first."""

        self._was_ready = False
        self._ready_since = self._waited_s = 0.0
        self._gives_up_at = math.inf
        self._tries_at = math.inf
        self._tries = self._breaches = 0

    @property
    def is_over(self) -> bool:
        """Whether there will never be a connection again."""
        return self.phase is EdgePhase.CLOSED

    def deadline(self) -> float:
        """When ``keep_time`` has something to do; infinite if never."""
        return min(self._greeting_ends, self._tries_at, self._watch.deadline())

    # -- one connection ---------------------------------------------------------------------------------

    def opened(self, nonce: str, now: float) -> Iterator[EdgeCommand]:
        """The connection is there; ``nonce`` is its own."""
        self.phase = EdgePhase.GREETING
        self._greeting_ends = now + self._rules.patience.greeting_s
        token = self._rules.token
        self._greeting = Greeting(self._vocabulary, None if token is None else EdgeProof(token, nonce))
        yield SendFrame(self._greeting.hello(self._rules.client))

    def heard(self, now: float) -> None:
        """Something came."""
        if self.phase is EdgePhase.READY:
            self._watch.heard(_CLOUD, now)

    def advanced(self) -> None:
        """The text got longer, so that this line is of use."""
        self._tries = self._breaches = 0

    def greet(self, frame: Answer, now: float) -> Iterator[EdgeCommand]:
        """Go on with the greeting. Raises ``PeerError``."""
        answer = self._greeting.answer(frame)
        if isinstance(answer, frames.BlockWanted | frames.Proof):
            is_proof = isinstance(answer, frames.Proof)
            self.phase = EdgePhase.PROVING if is_proof else EdgePhase.COMPARING
            yield SendFrame(answer)
            return
        end = answer or self._ready(now)
        if isinstance(end, Failure):
            yield from self.part(end, now)
        else:
            yield end

    def _ready(self, now: float) -> AnnounceReady | Failure:
        welcome = self._greeting.welcome
        assert welcome is not None, "ready without a welcome"
        try:
            self._tuned.meet(tunes=welcome.tunes, energy=welcome.energy)
        except UsageError as error:
            return Failure("usage", str(error))
        self.welcome = welcome
        self.phase = EdgePhase.READY
        self._greeting_ends = self._gives_up_at = math.inf
        self._was_ready = True
        self._ready_since = now
        self.failure = None
        self._watch.heard(_CLOUD, now)
        return AnnounceReady(welcome, tuple(self._greeting.foreign))

    def keep_time(self, now: float) -> Iterator[EdgeCommand]:
        """Try again, give up, or ask for a sign of life."""
        if now >= self._tries_at:
            self._tries_at = math.inf
            self.phase = EdgePhase.CONNECTING
            yield OpenLink(self.number, self._clouds[0])
            return
        patience = self._rules.patience
        if now >= self._greeting_ends:
            message = f"the cloud did not complete the greeting in {patience.greeting_s:g} s"
            yield from self.part(Failure("silent", message), now)
            return
        pings, lost = self._watch.due(now)
        if lost:
            message = f"nothing was heard from the cloud for {patience.silent_after_s:g} s"
            yield from self.part(Failure("silent", message), now)
        elif pings:
            yield SendFrame(frames.Ping(round(now * 1e6)))

    # -- its end ----------------------------------------------------------------------------------------

    def expel(self, error: PeerError, now: float) -> Iterator[EdgeCommand]:
        """The cloud broke the protocol."""
        yield SendFrame(frames.Fault(None, error.code, frames.as_line(str(error))))
        yield from self.lose(Failure("peer", f"the cloud broke the protocol: {error}"), now)

    def part(self, failure: Failure, now: float) -> Iterator[EdgeCommand]:
        """Leave this cloud."""
        if self.phase not in {EdgePhase.CONNECTING, EdgePhase.AWAY, EdgePhase.CLOSED}:
            yield SendFrame(frames.Bye(frames.as_line(failure.message)))
        yield from self.lose(failure, now)

    def refused(self, refusal: frames.Refuse, now: float) -> Iterator[EdgeCommand]:
        """The cloud does not take this edge."""
        why = f"the cloud refused the connection: {one_line(refusal.message)}"
        yield from self.lose(Failure(refusal.code, why, refusal.retry_ms), now)

    def end(self, failure: Failure) -> Iterator[EdgeCommand]:
        """There will be no connection any more."""
        if not self.is_over:
            self.phase = EdgePhase.CLOSED
            self.failure = failure
            self._tries_at = self._greeting_ends = math.inf
            yield CloseLink(failure)

    def lose(self, failure: Failure, now: float, *, moves: bool = False) -> Iterator[EdgeCommand]:
        """This connection is of no use any more; the next try comes soon, if there is to be one.

        If it ``moves``, the cloud said so itself, and another one is better.
        """
        was = self.phase
        if was in {EdgePhase.AWAY, EdgePhase.CLOSED}:
            return
        known = len(self._clouds)
        if not self._was_ready or not self._is_bearable(failure):
            yield from self.end(failure)
            return
        if was is EdgePhase.READY:
            if now - self._ready_since > self._waited_s:  # it was worth waiting for
                self._tries = 0
            self._gives_up_at = now + self._rules.patience.away_s
        moves = (moves or was is not EdgePhase.READY) and len(self._clouds) == known
        wait_s = self._wait_s(failure.retry_ms, moves=moves)
        if now + wait_s > self._gives_up_at or not self._rules.patience.away_s:
            yield from self.end(failure)
            return
        self.phase = EdgePhase.AWAY
        self.number += 1
        self.failure = failure
        self._waited_s = wait_s
        self._tries_at, self._greeting_ends = now + wait_s, math.inf
        self._watch.forget(_CLOUD)
        yield DropLink()
        yield NoteAway(failure.message, wait_s)

    def _is_bearable(self, failure: Failure) -> bool:
        """Whether a further try may help, with a cloud that was not ruled out."""
        if failure.code in BREACHES:
            self._breaches += 1
            return self._breaches <= BREACHES_MAX
        if failure.code != "link" and not is_retryable(failure.code):
            del self._clouds[0]
        return bool(self._clouds)

    def _wait_s(self, retry_ms: int, *, moves: bool) -> float:
        """Turn to the next cloud, unless this one may still have our texts, and say when.

        The longer all of them are away, the longer.
        """
        if moves and len(self._clouds) > 1:
            retry_ms = 0
            self._clouds.append(self._clouds.pop(0))
        share = share_of(self._rules.luck, self.number, self._tries)
        rounds = self._tries // len(self._clouds)
        self._tries += 1
        return retry_ms / 1e3 + full_jitter_s(RETRY_S, rounds, RETRY_MAX_S, share)
