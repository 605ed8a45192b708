"""One session at the cloud: what was confirmed, what is to be judged, and which verdicts are owed.

Pure. ``CloudSide`` feeds it, puts its slices into passes, and hands it the picks.
"""

from pipesd.errors import PeerError
from pipesd.session.flight import Answer, Flight, Losses
from pipesd.session.owed import Owed
from pipesd.session.phases import TextPhase
from pipesd.transcript import Span, Transcript, common_prefix
from pipesd.values import Finish, Slice
from pipesd.wire.frames import Cancel, Draft, Prompt, Restore, Resume, Verdict, Welcome


class CloudSession:
    """One growing text and the drafts that wait to be judged."""

    def __init__(self, peer: int, number: int, grant: Welcome) -> None:
        self.peer = peer
        """The connection that it belongs to, or belonged to last."""

        self.number = number
        """What it is called in that connection."""

        self.owner = ""
        """The name of the token that opened it; empty without tokens."""

        self.lease = b""
        """By what it is known to those who come back; empty if it ends with its connection."""

        self.sequence: int | None = None
        """Its place in the model's cache, if it has one."""

        self._copy_of: int | None = None
        """The sequence that what it has cached is still to be copied from."""

        self.made_use = False
        """Whether it has got a verdict out of its place."""

        self.losses = Losses()

        self._grant = grant
        self._end_ids = frozenset(grant.end_ids)
        self._text = Transcript(grant.chunk_tokens)
        self._tokens = self._text.tokens
        self._cached = 0
        self._epoch = self._turn_epoch = self._sent_end = self._answer_start = 0
        self._dead, self._is_parked = True, False
        self._drafts: list[int] = []
        self._owed = Owed()
        self._asks = self._owed.asks
        self._arrivals: list[tuple[int, int]] = []
        self._generation: Answer | None = None
        self._finish: Finish | None = None
        self._flight: Flight | None = None
        self._energy_uj = 0

    # -- what others may know ---------------------------------------------------------------------------

    @property
    def phase(self) -> TextPhase:
        """Where the session stands."""
        if self._generation is None:
            return TextPhase.IDLE
        return TextPhase.AWAITING if self._asks else TextPhase.DRAFTING

    @property
    def length(self) -> int:
        """How many tokens are confirmed."""
        return len(self._tokens)

    @property
    def unread_tokens(self) -> int:
        """How many confirmed tokens are not in the model's cache."""
        return len(self._tokens) - self._cached

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being written to it."""
        return self._flight is None and (self._generation is None or self._is_parked)

    @property
    def is_due(self) -> bool:
        """Whether it waits for a pass."""
        return self._flight is None and self._generation is not None and bool(self._asks)

    @property
    def first_chunk_tokens(self) -> int:
        """Most prompt tokens it needs in a pass if it has no place yet."""
        return min(len(self._tokens), self._grant.chunk_tokens)

    @property
    def tokens(self) -> list[int]:
        """All confirmed tokens; to be read only."""
        return self._tokens

    @property
    def prefix_tokens(self) -> int:
        """Tokens in the whole chunks that its first prompt begins with, short of the last of the text."""
        return self._in_chunks(len(self._tokens) - 1)

    @property
    def cached_prefix_tokens(self) -> int:
        """How many of them are in the model's cache."""
        return self._in_chunks(self._cached)

    @property
    def may_ride(self) -> bool:
        """Whether it owes nothing, but has drafts that a pass could judge all the same."""
        return self._flight is None and bool(self._drafts) and not self._asks

    def validate(self) -> None:
        """Assert what must hold between any two events."""
        assert self._cached == 0 or self.sequence is not None, "cached tokens without a place"
        assert 0 <= self._cached <= len(self._tokens), "more cached than confirmed"
        self._owed.validate(len(self._tokens))
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
        self._turn_epoch = frame.epoch
        self._cached = min(self._cached, self._text.cut(frame.base))
        self._text.append(frame.tokens, prompt=True)
        length = len(self._tokens)
        self._generation = Answer(length + frame.tokens_max, frame.sampling, frame.seed)
        self._finish = None
        self._dead = False
        self._sent_end = self._answer_start = length
        self._energy_uj = 0
        self._owed.ask(length + 1, now)

    def decline(self) -> None:
        """There is too much to do for now: the prompt stays, but the generation does not begin."""
        self._forget(self._epoch)
        self._generation = None
        self._turn_epoch = -1

    def fits(self, tokens: int) -> bool:
        """Whether a text of so many tokens leaves room for at least one more in the context."""
        return tokens < self._grant.context_tokens

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
            self._owed.ask(frame.ask, now)
        return again

    def cancel(self, frame: Cancel) -> None:
        """End the generation, keep the text."""
        self._require_newer(frame.epoch)
        self._forget(frame.epoch)
        self._turn_epoch = frame.epoch
        self._generation = self._finish = None

    def park(self) -> None:
        """Its edge is away: of what was not judged, nothing will be."""
        self._is_parked = True
        self._forget(self._epoch)

    def resume(self, frame: Resume) -> tuple[Verdict, ...] | None:
        """Go on with an edge that is back, and say what it does not know; None if its text is another one."""
        self._is_parked = False
        is_same = frame.prompt_epoch == self._turn_epoch and frame.epoch > self._epoch
        if not (is_same and self._answer_start <= frame.confirmed <= len(self._tokens)):
            return None
        return self._go_on(frame.epoch, frame.confirmed)

    def restore(self, frame: Restore) -> None:
        """Take the edge's text for ours; what is in the cache of it stays there. Raises ``PeerError``."""
        self._require_newer(frame.epoch)
        length, limit = frame.length, frame.generation_start + frame.tokens_max
        is_running = frame.tokens_max > 0
        if is_running and not 0 < frame.generation_start <= length < limit:
            raise PeerError("protocol", "an answer outside of its own text and limits")
        if not all(tokens for _, tokens in frame.segments):
            raise PeerError("protocol", "a text with an empty part")
        for _, tokens in frame.segments:
            self._require_known(tokens)
        self._forget(frame.epoch)
        self._turn_epoch = frame.epoch
        valid = self._text.take(frame.segments)
        self._cached = min(self._cached, valid, self._text.last_start)
        self._generation = Answer(limit, frame.sampling, frame.seed) if is_running else None
        self._finish = None
        self._dead = not is_running
        self._sent_end = length
        self._answer_start = frame.generation_start if is_running else length
        self._energy_uj = 0

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
        return self._go_on(frame.epoch, frame.base)

    def _go_on(self, epoch: int, base: int) -> tuple[Verdict, ...]:
        """A new epoch of the same answer, in which what the edge does not know is said again."""
        self._forget(epoch)
        self._dead = self._generation is None
        self._sent_end = base
        has_more = self._generation is not None and base < len(self._tokens)
        if has_more or self._finish is not None:
            return (Verdict(self.number, epoch, base, 0, tuple(self._tokens[base:]), self._finish),)
        return ()

    def _take_drafts(self, frame: Draft, now: float) -> None:
        base, fresh, count = frame.base, frame.tokens, len(frame.tokens)
        length, received, window = len(self._tokens), len(self._drafts), self._grant.window_tokens
        if not self._sent_end <= base <= length + received:
            expected = f"from {self._sent_end} to {length + received}"
            raise PeerError("protocol", f"drafts that start at {base}, not {expected}")
        if base < length:
            known = self._tokens[base : base + count]
            if common_prefix(known, fresh) < len(known):
                self._die()
                return
            fresh = fresh[len(known) :]
        if received + len(fresh) > window:
            raise PeerError("window", f"more than {window} unverified drafts")
        self._drafts += fresh
        self._sent_end = base + count
        if count and len(self._arrivals) < window:
            self._arrivals.append((count, round(now * 1e6)))

    def _require_newer(self, epoch: int) -> None:
        if epoch <= self._epoch:
            raise PeerError("protocol", f"epoch {epoch} after epoch {self._epoch}")

    def _require_known(self, tokens: tuple[int, ...]) -> None:
        if tokens and max(tokens) >= self._grant.vocabulary_size:
            raise PeerError("protocol", "a token that is not in the vocabulary")

    def _forget(self, epoch: int) -> None:
        """A new epoch, or the end of this one: what was not judged never will be."""
        self._epoch = epoch
        self._die()
        if self._flight is not None:
            self._flight.stale = True

    def _die(self) -> None:
        self._dead = True
        self._drafts.clear()
        self._owed.clear()
        self._arrivals.clear()

    # -- its place in the model's cache -----------------------------------------------------------------

    def sit(self, sequence: int, cached_tokens: int, copy_of: int | None) -> None:
        """It has a place, which holds its first tokens, or will once they are copied from another."""
        self.sequence, self._cached, self._copy_of = sequence, cached_tokens, copy_of
        self.made_use = False

    def stand(self) -> None:
        """It has no place any more: what it needs is read anew."""
        self.sequence, self._cached, self._copy_of = None, 0, None

    def _in_chunks(self, tokens: int) -> int:
        """How many of the first ``tokens`` are in whole chunks of the first prompt."""
        tokens = min(tokens, self._text.first_prompt_tokens)
        return tokens - tokens % self._grant.chunk_tokens

    # -- what the target says ---------------------------------------------------------------------------

    def take_slices(self, room_tokens: int, prompt_room_tokens: int, now: float) -> tuple[Slice, ...]:
        """Its share of the next pass: uncached text, then drafts, as far as there is room, of one kind each.

        Empty if there is none for its prompt chunk, or for a draft while it owes nothing. Otherwise
        ``settle``, or ``lose`` must follow.
        """
        generation = self._generation
        assert generation is not None, "a pass for a session without a generation"
        assert self._flight is None, "a second pass for a session that is in one"
        assert self._asks or self._drafts, "a pass for a session that owes nothing"
        assert self.sequence is not None, "a pass for a session without a place"
        spans = self._text.spans_within(self._cached, room_tokens, prompt_room_tokens)
        if not spans:
            return ()
        last = spans[-1]
        is_all = last.end == len(self._tokens)
        has_drafts = self._drafts and is_all and not last.prompt
        drafts = self._judgeable(spans, room_tokens, generation) if has_drafts else ()
        if not (drafts or self._asks):
            return ()
        picks = len(drafts) + 1 if is_all else 0
        queued_s = now - self._owed.since if self._asks else 0.0
        self._flight = Flight(last.end + len(drafts), len(drafts), picks, now, queued_s)
        text = [self._slice(span, (), 0, generation) for span in spans[:-1]]
        return (*text, self._slice(last, drafts, picks, generation))

    def _judgeable(self, spans: list[Span], room_tokens: int, generation: Answer) -> tuple[int, ...]:
        for span in spans:
            if not span.prompt:
                room_tokens -= span.end - span.start
        limit = min(generation.limit, self._grant.context_tokens) - len(self._tokens)
        return tuple(self._drafts[: max(0, min(room_tokens, limit))])

    def _slice(self, span: Span, drafts: tuple[int, ...], picks: int, generation: Answer) -> Slice:
        tokens = (*self._tokens[span.start : span.end], *drafts)
        assert self.sequence is not None, "a slice for a session without a place"
        copy_of, self._copy_of = self._copy_of, None
        return Slice(
            sequence=self.sequence,
            base=span.start,
            tokens=tokens,
            picks=picks,
            prompt=span.prompt,
            sampling=generation.sampling,
            seed=generation.seed,
            copy_of=copy_of,
        )

    def lose(self) -> None:
        """The pass came to nothing, and what was cached is gone; what it owed is still owed."""
        flight, self._flight = self._flight, None
        assert flight is not None, "the loss of a pass that nobody asked for"
        self.losses.lost(flight.end)

    def settle(self, picks: tuple[int, ...], now: float, energy_uj: int = 0) -> Verdict | None:
        """The pass is done: the picks of its last slice, its share of the energy. What the edge is told."""
        flight, self._flight = self._flight, None
        assert flight is not None, "the result of a pass that nobody asked for"
        self.losses.done(flight.end)
        if flight.stale or (generation := self._generation) is None:
            return None
        self._energy_uj += energy_uj
        if flight.picks == 0:
            self._cached = flight.end
            return None
        assert len(picks) == flight.picks, "the engine gave another number of picks"
        return self._judge(flight, generation, picks, now)

    def _judge(self, flight: Flight, generation: Answer, picks: tuple[int, ...], now: float) -> Verdict:
        self.made_use = True
        base = len(self._tokens)
        judged = self._drafts[: flight.drafts]
        agreed = common_prefix(judged, picks) if judged else 0
        said = [*judged[:agreed], picks[agreed]]
        news, finish = generation.cut(said, base, self._grant.context_tokens, self._end_ids)
        accepted = agreed if finish is None else min(agreed, len(news))
        self._text.append(news, prompt=False)
        self._cached = base + accepted
        verdict = Verdict(
            session=self.number,
            epoch=self._epoch,
            base=base,
            accepted=accepted,
            tokens=tuple(news[accepted:]),
            finish=finish,
            arrivals=tuple(self._arrivals),
            queue_us=_microseconds(flight.queued_s),
            pass_us=_microseconds(now - flight.started),
            judged=flight.drafts,
            energy_uj=self._energy_uj,
        )
        self._energy_uj = 0
        self._after_verdict(news, finish)
        self._owed.answered(len(self._tokens), flight.started, now)
        return verdict

    def _after_verdict(self, news: list[int], finish: Finish | None) -> None:
        self._arrivals.clear()
        if finish is not None:
            self._generation, self._finish = None, finish
            self._die()
        elif self._drafts:
            judged = self._drafts[: len(news)]
            if judged != news[: len(judged)]:
                self._die()
            else:
                del self._drafts[: len(news)]


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6) if seconds > 0.0 else 0
