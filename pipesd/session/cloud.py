"""One session at the cloud: what was confirmed, what is to be judged, and which verdicts are owed.

Pure. ``CloudSide`` feeds it, puts its slices into passes, and hands it the picks.
"""

from collections import deque
from dataclasses import dataclass

import msgspec

from pipesd.errors import PeerError
from pipesd.session.ledger import common_prefix, first_of
from pipesd.session.phases import TextPhase
from pipesd.session.rules import ASKS_MAX
from pipesd.transcript import Span, Transcript
from pipesd.values import Finish, Sampling, Slice
from pipesd.wire.frames import Cancel, Draft, Prompt, Verdict, Welcome


@dataclass(frozen=True, slots=True)
class _Generation:
    limit: int
    """Position at which ``tokens_max`` ends it."""

    sampling: Sampling
    seed: int


class _Flight(msgspec.Struct, gc=False):
    """The session's share of the pass that is running."""

    end: int
    """Tokens that will be in the cache after it, drafts included."""

    drafts: int
    picks: int
    started: float
    queued_s: float
    """How long a verdict was due before; 0 for drafts that nobody asked about."""

    stale: bool = False
    """Whether its result is of no use any more."""


class CloudSession:
    """One growing text and the drafts that wait to be judged."""

    def __init__(self, number: int, sequence: int, grant: Welcome) -> None:
        self.sequence = sequence
        self.was_evaluated = False
        self._number = number
        self._grant = grant
        self._end_ids = frozenset(grant.end_ids)
        self._text = Transcript(grant.chunk_tokens)
        self._tokens = self._text.tokens
        self._cached = 0
        self._epoch = 0
        self._dead = True
        self._sent_end = 0
        self._answer_start = 0
        self._drafts: list[int] = []
        self._asks: deque[tuple[int, float]] = deque()
        """(position, when it came) of each ask that is owed, in order."""

        self._due_since = 0.0
        self._arrivals: list[tuple[int, int]] = []
        self._generation: _Generation | None = None
        self._finish: Finish | None = None
        self._flight: _Flight | None = None

    # -- what others may know ---------------------------------------------------------------------------

    @property
    def phase(self) -> TextPhase:
        """Where the session stands."""
        if self._generation is None:
            return TextPhase.IDLE
        return TextPhase.AWAITING if self._asks else TextPhase.DRAFTING

    @property
    def text(self) -> tuple[int, ...]:
        """All confirmed tokens."""
        return tuple(self._tokens)

    @property
    def length(self) -> int:
        """How many tokens are confirmed."""
        return len(self._tokens)

    @property
    def is_due(self) -> bool:
        """Whether it waits for a pass."""
        return self._flight is None and self._generation is not None and bool(self._asks)

    @property
    def may_ride(self) -> bool:
        """Whether it owes nothing, but has drafts that a pass could judge all the same."""
        return self._flight is None and bool(self._drafts) and not self._asks

    def validate(self) -> None:
        """Assert what must hold between any two events."""
        assert 0 <= self._cached <= len(self._tokens), "more cached than confirmed"
        assert all(ask > len(self._tokens) for ask, _ in self._asks), "an answered ask is still owed"
        assert len(self._asks) <= ASKS_MAX, "too many asks"
        assert not (self._dead and (self._drafts or self._asks)), "a dead epoch with drafts or asks"
        assert len(self._drafts) <= self._grant.window_tokens, "more drafts than the window"

    # -- what the edge says -----------------------------------------------------------------------------

    def prompt(self, frame: Prompt, now: float) -> None:
        """Start a generation. Raises ``PeerError`` if the frame contradicts what was said before."""
        self._require_newer(frame.epoch)
        self._require_known(frame.tokens)
        if frame.base > len(self._tokens) or not frame.tokens or frame.tokens_max < 1:
            raise PeerError("protocol", "a prompt that is empty, beyond the text, or for no token")
        self._forget(frame.epoch)
        self._cached = min(self._cached, self._text.cut(frame.base))
        self._text.append(frame.tokens, prompt=True)
        length = len(self._tokens)
        self._generation = _Generation(length + frame.tokens_max, frame.sampling, frame.seed)
        self._finish = None
        self._dead = False
        self._sent_end = self._answer_start = length
        self._owe(length + 1, now)

    def fits(self, frame: Prompt) -> bool:
        """Whether the prompt leaves room for at least one more token in the context."""
        return frame.base + len(frame.tokens) < self._grant.context_tokens

    def draft(self, frame: Draft, now: float) -> tuple[Verdict, ...]:
        """Take guesses. Raises ``PeerError`` if the frame contradicts what was said before.

        A new epoch that begins below the text shows that verdicts died with the old one: they are said again.
        """
        if frame.epoch < self._epoch or (frame.epoch == self._epoch and self._dead):
            return ()
        self._require_known(frame.tokens)
        again = self._begin_epoch(frame) if frame.epoch > self._epoch else ()
        if not self._dead:
            self._take_drafts(frame, now)
        if not self._dead and frame.ask > len(self._tokens):
            self._owe(frame.ask, now)
        return again

    def cancel(self, frame: Cancel) -> None:
        """End the generation, keep the text."""
        self._require_newer(frame.epoch)
        self._forget(frame.epoch)
        self._generation = self._finish = None

    def abandon(self) -> None:
        """The session is over; the result of a pass that runs is of no use."""
        self._forget(self._epoch)
        self._generation = None

    def _begin_epoch(self, frame: Draft) -> tuple[Verdict, ...]:
        if self._generation is None and self._finish is None:
            raise PeerError("protocol", "drafts without a generation")
        length = len(self._tokens)
        if not self._answer_start <= frame.base <= length:
            raise PeerError("protocol", f"drafts from {frame.base} on, but the text ends at {length}")
        self._forget(frame.epoch)
        self._dead = self._generation is None
        self._sent_end = frame.base
        if frame.base < length or self._finish is not None:
            again = tuple(self._tokens[frame.base :])
            return (Verdict(self._number, frame.epoch, frame.base, 0, again, self._finish),)
        return ()

    def _take_drafts(self, frame: Draft, now: float) -> None:
        base, tokens, window = frame.base, frame.tokens, self._grant.window_tokens
        length, received = len(self._tokens), len(self._drafts)
        if not self._sent_end <= base <= length + received:
            expected = f"from {self._sent_end} to {length + received}"
            raise PeerError("protocol", f"drafts that start at {base}, not {expected}")
        fresh = tokens
        if base < length:
            known = self._tokens[base:]
            if common_prefix(known, tokens) < min(len(known), len(tokens)):
                self._die()
                return
            fresh = tokens[len(known) :]
        if received + len(fresh) > window:
            raise PeerError("window", f"more than {window} unverified drafts")
        self._drafts += fresh
        self._sent_end = base + len(tokens)
        if tokens and len(self._arrivals) < window:
            self._arrivals.append((len(tokens), round(now * 1e6)))

    def _require_newer(self, epoch: int) -> None:
        if epoch <= self._epoch:
            raise PeerError("protocol", f"epoch {epoch} after epoch {self._epoch}")

    def _require_known(self, tokens: tuple[int, ...]) -> None:
        if tokens and max(tokens) >= self._grant.vocabulary_size:
            raise PeerError("protocol", f"token {max(tokens)} is not in the vocabulary")

    def _owe(self, ask: int, now: float) -> None:
        if len(self._asks) == ASKS_MAX:
            raise PeerError("protocol", f"more than {ASKS_MAX} unanswered asks")
        if not self._asks:
            self._due_since = now
        self._asks.append((max(ask, self._asks[-1][0] if self._asks else 0), now))

    def _forget(self, epoch: int) -> None:
        """A new epoch, or the end of this one: what was not judged never will be."""
        self._epoch = epoch
        self._die()
        if self._flight is not None:
            self._flight.stale = True

    def _die(self) -> None:
        self._dead = True
        self._drafts.clear()
        self._asks.clear()
        self._arrivals.clear()

    # -- what the target says ---------------------------------------------------------------------------

    def take_slices(self, room_tokens: int, *, chunk_allowed: bool, now: float) -> tuple[Slice, ...]:
        """Its share of the next pass: uncached text, then drafts as far as there is room.

        Empty if it needs a prompt chunk and may not have one, or owes nothing and has no room for a draft.
        Otherwise ``settle`` must follow.
        """
        generation = self._generation
        assert generation is not None, "a pass for a session without a generation"
        assert self.is_due or self.may_ride, "a pass for a session that owes nothing"
        spans = self._spans()
        assert spans, "a verdict is owed, but there is nothing to evaluate"
        last = spans[-1]
        if last.prompt and not chunk_allowed:
            return ()
        drafts = () if last.prompt else self._judgeable(room_tokens - (last.end - self._cached), generation)
        if not (drafts or self._asks):
            return ()
        self.was_evaluated = True
        picks = len(drafts) + 1 if last.end == len(self._tokens) else 0
        queued_s = now - self._due_since if self._asks else 0.0
        self._flight = _Flight(last.end + len(drafts), len(drafts), picks, now, queued_s)
        text = [self._slice(span, (), 0, generation) for span in spans[:-1]]
        return (*text, self._slice(last, drafts, picks, generation))

    def _judgeable(self, room_tokens: int, generation: _Generation) -> tuple[int, ...]:
        limit = min(generation.limit, self._grant.context_tokens) - len(self._tokens)
        return tuple(self._drafts[: max(0, min(room_tokens, limit))])

    def _spans(self) -> list[Span]:
        """What is not in the cache yet, up to and including one prompt chunk."""
        spans: list[Span] = []
        for span in self._text.spans_from(self._cached):
            spans.append(span)
            if span.prompt:
                break
        return spans

    def _slice(self, span: Span, drafts: tuple[int, ...], picks: int, generation: _Generation) -> Slice:
        tokens = (*self._tokens[span.start : span.end], *drafts)
        return Slice(
            sequence=self.sequence,
            base=span.start,
            tokens=tokens,
            picks=picks,
            prompt=span.prompt,
            sampling=generation.sampling,
            seed=generation.seed,
        )

    def settle(self, picks: tuple[int, ...], now: float) -> Verdict | None:
        """The pass is done; ``picks`` are those of its last slice. What the edge is told, if anything."""
        flight, self._flight = self._flight, None
        assert flight is not None, "the result of a pass that nobody asked for"
        generation = self._generation
        if flight.stale or generation is None:
            return None
        if flight.picks == 0:
            self._cached = flight.end
            return None
        assert len(picks) == flight.picks, "the engine gave another number of picks"
        return self._judge(flight, generation, picks, now)

    def _judge(self, flight: _Flight, generation: _Generation, picks: tuple[int, ...], now: float) -> Verdict:
        base = len(self._tokens)
        judged = self._drafts[: flight.drafts]
        agreed = common_prefix(judged, picks)
        news, finish = self._cut([*judged[:agreed], picks[agreed]], generation)
        accepted = min(agreed, len(news))
        self._text.append(news, prompt=False)
        self._cached = base + accepted
        verdict = Verdict(
            session=self._number,
            epoch=self._epoch,
            base=base,
            accepted=accepted,
            tokens=tuple(news[accepted:]),
            finish=finish,
            arrivals=tuple(self._arrivals),
            queue_us=_microseconds(flight.queued_s),
            pass_us=_microseconds(now - flight.started),
            judged=flight.drafts,
        )
        self._after_verdict(news, finish)
        self._note_due(flight, now)
        return verdict

    def _cut(self, news: list[int], generation: _Generation) -> tuple[list[int], Finish | None]:
        """Cut at the first end id and at the limits; and why the generation ends, if it does."""
        room = min(generation.limit, self._grant.context_tokens) - len(self._tokens)
        ends = first_of(self._end_ids, news)
        if ends < min(len(news), room):
            return news[: ends + 1], "stop"
        if len(news) < room:
            return news, None
        return news[:room], "length" if generation.limit <= self._grant.context_tokens else "context"

    def _after_verdict(self, news: list[int], finish: Finish | None) -> None:
        self._arrivals.clear()
        judged = self._drafts[: len(news)]
        if finish is not None:
            self._generation, self._finish = None, finish
            self._die()
        elif judged != news[: len(judged)]:
            self._die()
        else:
            del self._drafts[: len(news)]
        while self._asks and self._asks[0][0] <= len(self._tokens):
            self._asks.popleft()

    def _note_due(self, flight: _Flight, now: float) -> None:
        """What came during the pass has been due since then; what the pass served is due anew."""
        came = self._asks[0][1] if self._asks else now
        self._due_since = came if came > flight.started else now


def _microseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e6))
