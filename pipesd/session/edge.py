"""One session at the edge: drafts, asks for verdicts, and learns what the text is.

Pure. ``EdgeSide`` feeds it and decides when it may use the draft engine; the books are in ``ledger``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipesd.errors import PeerError, UsageError
from pipesd.planner.trigger import Trigger
from pipesd.session.commands import (
    DraftNext,
    EdgeCommand,
    EmitTokens,
    FailGeneration,
    Failure,
    FinishGeneration,
    GenerationStats,
    SendFrame,
)
from pipesd.session.events import PromptGiven
from pipesd.session.ledger import Ledger, common_prefix
from pipesd.session.phases import TextPhase
from pipesd.session.rules import ALONE_TOKENS, ASKS_MAX, EdgeRules
from pipesd.values import Finish, Sampling, Stretch
from pipesd.wire.frames import (
    PROMPT_TOKENS_MAX,
    Cancel,
    Close,
    Draft,
    Open,
    Prompt,
    Verdict,
    Welcome,
)


@dataclass(slots=True)
class _Generation:
    limit: int
    """Position at which it ends at the latest."""

    sampling: Sampling
    seed: int
    stats: GenerationStats


@dataclass(slots=True)
class _Step:
    """The draft step in flight: what it guesses, and what of the cache it leaves alone."""

    epoch: int
    position: int
    keep: int


class EdgeSession:
    """One growing text and the drafts behind it."""

    def __init__(self, number: int, rules: EdgeRules, grant: Welcome, draft_vocabulary_size: int) -> None:
        self.was_drafted = False
        self._number = number
        self._rules = rules
        self._grant = grant
        self._draft_vocabulary_size = draft_vocabulary_size
        self._window = min(rules.window_tokens, grant.window_tokens)
        self._end_ids = frozenset(grant.end_ids)
        self._ledger = Ledger(grant.chunk_tokens)
        self._trigger = Trigger(rules.thresholds)
        self._generation: _Generation | None = None
        self._step: _Step | None = None
        self._cached = 0
        self._blocked = False
        self._paused = False
        self._failed = False

    # -- what others may know ---------------------------------------------------------------------------

    @property
    def phase(self) -> TextPhase:
        """Where the session stands."""
        if self._failed:
            return TextPhase.FAILED
        if self._generation is None:
            return TextPhase.IDLE
        return TextPhase.AWAITING if self._ledger.awaiting else TextPhase.DRAFTING

    @property
    def ledger(self) -> Ledger:
        """The books; to be read only."""
        return self._ledger

    @property
    def wants_draft(self) -> bool:
        """Whether a draft step would be of use now."""
        return self._generation is not None and self._step is None and self._may_draft(self._generation)

    @property
    def step_is_useless(self) -> bool:
        """Whether the step in flight guesses a token that is known already or will never come."""
        return self._step is not None and not self._step_is_live(self._step)

    def _may_draft(self, generation: _Generation) -> bool:
        books = self._ledger
        return (
            not (self._blocked or self._paused)
            and books.end < min(generation.limit, self._rules.draft_context_tokens)
            and len(books.suffix) < self._window
            and books.asks_pending < ASKS_MAX
            and (self._rules.ahead or not books.awaiting)
            and not (books.suffix and books.suffix[-1] in self._end_ids)
        )

    def _step_is_live(self, step: _Step) -> bool:
        return (
            self._generation is not None
            and step.epoch == self._ledger.epoch
            and step.position == self._ledger.end
        )

    # -- what the application wants ---------------------------------------------------------------------

    def open(self) -> Iterator[EdgeCommand]:
        """Tell the cloud."""
        yield SendFrame(Open(self._number))

    def check(self, wish: PromptGiven) -> None:
        """Raise ``UsageError`` if the prompt is impossible; nothing changes."""
        if self._failed:
            raise UsageError("this session has failed; open a new one")
        if not 0 <= wish.base <= self._ledger.confirmed:
            raise UsageError(f"base: must be between 0 and {self._ledger.confirmed}, not {wish.base}")
        if not wish.tokens:
            raise UsageError("the prompt is empty; give it at least one character")
        if len(wish.tokens) > PROMPT_TOKENS_MAX:
            raise UsageError(f"the prompt has more than {PROMPT_TOKENS_MAX} tokens; give it in several turns")
        if not 1 <= wish.tokens_max < 2**31:
            raise UsageError(f"tokens_max: must be at least 1 and below 2**31, not {wish.tokens_max}")
        if not 0 <= wish.seed < 2**63:
            raise UsageError(f"seed: must be at least 0 and below 2**63, not {wish.seed}")
        for token in (min(wish.tokens), max(wish.tokens)):
            if not 0 <= token < self._grant.vocabulary_size:
                raise UsageError(f"the prompt holds token {token}, which the target does not know")
        room = self._grant.context_tokens - wish.base
        if len(wish.tokens) >= room:
            raise UsageError(
                f"the prompt has {len(wish.tokens)} tokens, but the target's context "
                f"of {self._grant.context_tokens} has room for {room - 1}; shorten it"
            )
        if self._grant.greedy_only and not wish.sampling.greedy:
            raise UsageError("temperature: this cloud's model decodes greedily only; leave it at 0")

    def prompt(self, wish: PromptGiven) -> Iterator[EdgeCommand]:
        """Start a generation; one that runs is given up. The wish must have passed ``check``."""
        books = self._ledger
        self._cached = min(self._cached, books.prompt(wish.base, wish.tokens))
        self._trigger.reset()
        self._blocked = self._paused = False
        limit = min(books.confirmed + wish.tokens_max, self._grant.context_tokens)
        self._generation = _Generation(limit, wish.sampling, wish.seed, GenerationStats())
        yield SendFrame(
            Prompt(
                session=self._number,
                epoch=books.epoch,
                base=wish.base,
                tokens=wish.tokens,
                sampling=wish.sampling,
                seed=wish.seed,
                tokens_max=wish.tokens_max,
            )
        )

    def cancel(self) -> Iterator[EdgeCommand]:
        """Give up the running generation, if there is one."""
        generation = self._generation
        if generation is not None:
            self._end_generation()
            yield SendFrame(Cancel(self._number, self._ledger.epoch))
            yield FinishGeneration(self._number, None, generation.stats)

    def pause(self, *, paused: bool) -> None:
        """Stop drafting while nobody reads."""
        self._paused = paused

    def close(self) -> Iterator[EdgeCommand]:
        """Leave for good; an answer that runs is given up."""
        yield from self.cancel()
        yield SendFrame(Close(self._number))

    def fail(self, failure: Failure) -> Iterator[EdgeCommand]:
        """The session cannot go on."""
        self._failed = True
        if self._generation is not None:
            self._end_generation()
            yield FailGeneration(self._number, failure)

    def _end_generation(self) -> None:
        books = self._ledger
        self._cached = min(self._cached, books.confirmed)
        self._generation = None
        self._trigger.reset()
        books.cancel()

    # -- what the drafter does --------------------------------------------------------------------------

    def start_step(self, number: int) -> DraftNext:
        """The next draft step; ``wants_draft`` must hold. ``finish_step`` or ``lose_step`` must follow."""
        books, generation = self._ledger, self._generation
        assert generation is not None, "a draft step without a generation"
        self.was_drafted = True
        keep, self._cached = self._cached, books.end
        self._step = _Step(books.epoch, books.end, keep)
        feed = tuple(self._known_to_draft(stretch) for stretch in books.stretches_from(keep))
        return DraftNext(number, self._number, keep, feed, generation.sampling, generation.seed)

    def _known_to_draft(self, stretch: Stretch) -> Stretch:
        """A target's token beyond the draft's vocabulary stays in the context as token 0."""
        size = self._draft_vocabulary_size
        return Stretch(tuple(token if token < size else 0 for token in stretch.tokens), stretch.prompt)

    def finish_step(self, token: int, confidence: float) -> Iterator[EdgeCommand]:
        """The step gave a guess; it counts if the text has not moved on meanwhile."""
        step, self._step = self._step, None
        assert step is not None, "a draft that nobody wanted"
        generation = self._generation
        if generation is None or not self._step_is_live(step):
            return
        if token >= self._grant.vocabulary_size:
            self._blocked = True
            return
        self._ledger.draft(token)
        generation.stats = replace(generation.stats, drafted=generation.stats.drafted + 1)
        asks = self._trigger.drafted(confidence)
        yield self._send_drafts(ask=asks)

    def lose_step(self, *, blocked: bool) -> None:
        """The step gave nothing; ``blocked`` if there is no sense in trying again in this generation."""
        step, self._step = self._step, None
        assert step is not None, "the end of a step that nobody wanted"
        self._cached = min(self._cached, step.keep)
        if step.epoch == self._ledger.epoch:
            self._blocked = self._blocked or blocked

    def _send_drafts(self, *, ask: bool) -> SendFrame:
        books = self._ledger
        base, tokens = books.send_unsent()
        length = base + len(tokens) if ask else 0
        if ask:
            books.ask(length)
        return SendFrame(Draft(self._number, books.epoch, base, tokens, length))

    def ask_if_idle(self) -> Iterator[EdgeCommand]:
        """Keep the text moving when the drafter has nothing to do for it."""
        generation, books = self._generation, self._ledger
        if generation is None or self._step is not None or books.asks_pending >= ASKS_MAX:
            return
        if self._may_draft(generation):
            return
        if self._trigger.idle(awaiting=books.awaiting):
            yield self._send_drafts(ask=True)
        elif not (books.awaiting or books.suffix or self._paused):
            length = min(books.confirmed + ALONE_TOKENS, generation.limit)
            books.ask(length)
            yield SendFrame(Draft(self._number, books.epoch, books.confirmed, (), length))

    # -- what the cloud says ----------------------------------------------------------------------------

    def verdict(self, frame: Verdict) -> Iterator[EdgeCommand]:
        """Take the cloud's word. Raises ``PeerError`` if it contradicts what was sent."""
        books, generation = self._ledger, self._generation
        if frame.epoch < books.epoch or (frame.epoch == books.epoch and generation is None):
            return
        if generation is None or frame.epoch > books.epoch:
            raise PeerError("protocol", f"a verdict of epoch {frame.epoch}, which has not begun")
        self._check_verdict(frame, generation)
        news = (*books.suffix[: frame.accepted], *frame.tokens)
        self._count(generation, news)
        first_wrong = books.settle(frame.accepted, frame.tokens)
        if first_wrong is None:
            self._trigger.keep_last(len(books.suffix))
        else:
            self._cached = min(self._cached, first_wrong)
            self._trigger.reset()
        self._blocked = self._blocked or any(token >= self._draft_vocabulary_size for token in frame.tokens)
        if news:
            yield EmitTokens(self._number, news)
        if frame.finish is not None:
            yield self._finish(generation, frame.finish)

    def _check_verdict(self, frame: Verdict, generation: _Generation) -> None:
        books = self._ledger
        if frame.base != books.confirmed:
            raise PeerError("protocol", f"a verdict at {frame.base}, but {books.confirmed} are confirmed")
        if frame.accepted > books.sent_tokens:
            raise PeerError("protocol", f"{frame.accepted} drafts accepted of {books.sent_tokens} sent")
        if not frame.tokens and frame.finish is None:
            raise PeerError("protocol", "a verdict without a token")
        room = generation.limit - frame.base - frame.accepted - len(frame.tokens)
        if room < 0 or (room == 0 and frame.finish is None):
            raise PeerError("protocol", f"a verdict beyond the limit of {generation.limit} tokens")
        if frame.tokens and max(frame.tokens) >= self._grant.vocabulary_size:
            raise PeerError("protocol", f"a verdict with the unknown token {max(frame.tokens)}")
        news = (*books.suffix[: frame.accepted], *frame.tokens)
        end = next((at for at, token in enumerate(news) if token in self._end_ids), len(news))
        if end < len(news) - (frame.finish is not None):
            raise PeerError("protocol", "a verdict with text behind an end id, or with one but no finish")

    def _count(self, generation: _Generation, news: tuple[int, ...]) -> None:
        stats, held = generation.stats, self._ledger.suffix[: len(news)]
        agreed = common_prefix(held, news)
        generation.stats = replace(
            stats,
            tokens=stats.tokens + len(news),
            accepted=stats.accepted + agreed,
            corrections=stats.corrections + (agreed < len(held)),
            verdicts=stats.verdicts + 1,
        )

    def _finish(self, generation: _Generation, finish: Finish) -> FinishGeneration:
        self._end_generation()
        return FinishGeneration(self._number, finish, generation.stats)
