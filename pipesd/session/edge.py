"""One session at the edge: drafts, asks for verdicts, and learns what the text is.

Pure. ``EdgeSide`` feeds it and decides when it may use the draft engine and the link; the books are in
``ledger``, what leaves when is in ``outbox``, and what was learned on the way in ``experience``.
"""

from collections.abc import Iterator

from pipesd.errors import PeerError, UsageError
from pipesd.planner.occupancy import Gap
from pipesd.session.checks import check_prompt, check_verdict
from pipesd.session.commands import (
    DraftNext,
    EdgeCommand,
    EmitTokens,
    FailGeneration,
    Failure,
    FinishGeneration,
    NoteWait,
    SendFrame,
    ShowDrafts,
)
from pipesd.session.events import PromptGiven
from pipesd.session.experience import Experience
from pipesd.session.generation import Generation, Step
from pipesd.session.ledger import Ledger
from pipesd.session.phases import TextPhase
from pipesd.session.rules import ALONE_TOKENS, ASKS_MAX, EdgeRules
from pipesd.session.tactics import Tactics
from pipesd.session.tie import Tie
from pipesd.values import Finish, Stretch
from pipesd.wire.frames import Cancel, Close, Draft, Prompt, Verdict, Welcome


class EdgeSession:
    """One growing text and the drafts behind it."""

    def __init__(
        self,
        number: int,
        rules: EdgeRules,
        grant: Welcome,
        draft_vocabulary_size: int,
        experience: Experience,
    ) -> None:
        self.was_drafted = False
        self._number = number
        self._rules = rules
        self._draft_vocabulary_size = draft_vocabulary_size
        self._draft_context_tokens = rules.draft_context_tokens if rules.policy.writers == "both" else 0
        self._take_grant(grant)
        self._ledger = Ledger(grant.chunk_tokens)
        self._tactics = Tactics(number, rules, self._ledger, experience)
        self.marks = self._tactics.marks
        """To be read only: positions that will be asked for as soon as the link is idle."""

        self.adopt = self._tactics.adopt
        """Go by other thresholds from the next draft on; None is what the policy begins with."""

        self.link_idle = self._tactics.link_idle
        """To be called when what ``next_frame`` gave last has left."""

        self._tie = Tie(number, rules)
        self.door = self._tie.door
        """Whether, and until when, it waits for room at the cloud."""

        self.opened = self._tie.opened
        """To be called when the cloud has said so, with the lease."""

        self._held_end = 0
        """Position behind the last draft that was kept from before the session was taken up."""

        self._shown_end = 0
        """Position behind the last draft that was shown."""

        self._generation: Generation | None = None
        self._step: Step | None = None
        self._cached = 0
        self._blocked = False
        self._paused = False
        self._failed = False

    def _take_grant(self, grant: Welcome) -> None:
        self._grant = grant
        self._window = min(self._rules.window_tokens, grant.window_tokens)
        self._end_ids = frozenset(grant.end_ids)

    # -- what others may know ---------------------------------------------------------------------------

    @property
    def phase(self) -> TextPhase:
        """Where the session stands."""
        if self._failed:
            return TextPhase.FAILED
        if self._generation is None:
            return TextPhase.IDLE
        return TextPhase.AWAITING if self._tactics.asks else TextPhase.DRAFTING

    @property
    def ledger(self) -> Ledger:
        """The books; to be read only."""
        return self._ledger

    @property
    def wants_draft(self) -> bool:
        """Whether a draft step would be of use now."""
        generation, books = self._generation, self._ledger
        suffix, end = books.suffix, books.end
        if end >= self._draft_context_tokens or generation is None or self._step is not None:
            return False
        if end >= generation.limit or self._paused or self._blocked:
            return False
        room_tokens = self._window if self._tie.is_there else self._tie.away_tokens(self._window)
        if len(suffix) >= room_tokens or (suffix and suffix[-1] in self._end_ids):
            return False
        if not (books.asks or self.marks):
            return True
        return self._tactics.goes_ahead and self._tactics.asks < ASKS_MAX

    @property
    def step_is_useless(self) -> bool:
        """Whether the step in flight guesses a token that is known already or will never come."""
        return self._step is not None and not self._step_is_live(self._step)

    def _exceeds_window(self) -> bool:
        """Whether it has drafts from an outage that are to be asked about window by window, in their turn."""
        return len(self._ledger.suffix) > self._window

    def _step_is_live(self, step: Step) -> bool:
        return (
            self._generation is not None
            and step.epoch == self._ledger.epoch
            and step.position == self._ledger.end
        )

    # -- what the application wants ---------------------------------------------------------------------

    def check(self, wish: PromptGiven) -> None:
        """Raise ``UsageError`` if the prompt is impossible; nothing changes."""
        if self._failed:
            raise UsageError("this session has failed; open a new one")
        check_prompt(wish, self._ledger.confirmed, self._grant)

    def prompt(self, wish: PromptGiven) -> Iterator[EdgeCommand]:
        """Start a generation; one that runs is given up. The wish must have passed ``check``."""
        books = self._ledger
        self._cached = min(self._cached, books.prompt(wish.base, wish.tokens))
        self._tactics.begin()
        self._held_end = self._shown_end = 0
        self._blocked = self._paused = False
        start, limit = books.confirmed, min(books.confirmed + wish.tokens_max, self._grant.context_tokens)
        self._generation = Generation(start, wish.tokens_max, limit, wish.sampling, wish.seed)
        if self._tie.note_turn(books.epoch):
            books.ask(start + 1)
            prompt = Prompt(
                session=self._number,
                epoch=books.epoch,
                base=wish.base,
                tokens=wish.tokens,
                sampling=wish.sampling,
                seed=wish.seed,
                tokens_max=wish.tokens_max,
            )
            yield SendFrame(prompt)

    def cancel(self) -> Iterator[EdgeCommand]:
        """Give up the running generation, if there is one."""
        generation = self._generation
        if generation is not None:
            self._end_generation()
            if self._tie.note_turn(self._ledger.epoch):
                yield SendFrame(Cancel(self._number, self._ledger.epoch))
            yield FinishGeneration(self._number, None, generation.stats)

    def pause(self, *, paused: bool) -> None:
        """Stop drafting while nobody reads."""
        self._paused = paused
        self._tactics.pause()

    def close(self) -> Iterator[EdgeCommand]:
        """Leave for good; an answer that runs is given up."""
        yield from self.cancel()
        if self._tie.is_known:
            yield SendFrame(Close(self._number))

    def fail(self, failure: Failure) -> Iterator[EdgeCommand]:
        """The session cannot go on."""
        self._failed = True
        yield from self._give_up(failure)

    def _give_up(self, failure: Failure) -> Iterator[EdgeCommand]:
        if self._generation is not None:
            self._end_generation()
            self._tie.note_turn(self._ledger.epoch)
            yield FailGeneration(self._number, failure)

    def _end_generation(self) -> None:
        self._generation = None
        self._forget_drafts()
        self._ledger.cancel()

    def _forget_drafts(self) -> None:
        self._cached = min(self._cached, self._ledger.confirmed)
        self._tactics.discard()

    # -- the cloud comes and goes -----------------------------------------------------------------------

    def go_away(self, failure: Failure) -> Iterator[EdgeCommand]:
        """The connection is lost; drafts are kept, and more of them may be made."""
        self._tie.cut()
        self._unsend()
        if self._rules.offline == "stop":
            yield from self._give_up(failure)
        elif self._tie.shows_drafts:
            yield from self._show(max(self._shown_end, self._ledger.confirmed), self._ledger.end)

    def open(self, grant: Welcome) -> Iterator[EdgeCommand]:
        """There is a connection, to a cloud that grants this: the first one, or again."""
        if self._failed:
            return
        self._take_grant(grant)
        if self._generation is not None:
            limit = self._generation.start + self._generation.tokens_max
            self._generation.limit = min(limit, grant.context_tokens)
        has_text = self._ledger.confirmed > 0
        if has_text:
            self._unsend()
        yield SendFrame(self._tie.take_up(self._ledger))
        if has_text and self._tie.is_there:
            yield from self._restore()

    def resumed(self, *, need: bool) -> Iterator[EdgeCommand]:
        """The cloud has the session again; ``need``: but not its text."""
        if self._tie.resumed(need=need):
            yield from self._restore()
        else:
            self._go_on()

    def turn_away(self, failure: Failure, retry_ms: int, now: float) -> Iterator[EdgeCommand]:
        """The cloud has no room for it now."""
        wait_s = self._tie.turn_away(retry_ms, now)
        if wait_s is None:
            yield from self.fail(failure)
            return
        self._unsend()
        yield NoteWait(self._number, failure.message, wait_s)

    def say_again(self) -> Iterator[EdgeCommand]:
        """The time has come to ask for room once more."""
        for frame in self._tie.knock():
            yield SendFrame(frame)
        yield from self._restore()

    def _restore(self) -> Iterator[EdgeCommand]:
        frame = self._tie.restore(self._ledger, self._generation)
        if frame is None:
            yield from self.fail(Failure("context", "the text is too long to be sent to the cloud again"))
            return
        yield SendFrame(frame)
        self._go_on()

    def _unsend(self) -> None:
        self._ledger.unsend()
        self._cached = min(self._cached, self._ledger.end)
        self._tactics.unsend()

    def _go_on(self) -> None:
        """The drafts that were kept are to be judged first."""
        if self._generation is not None:
            self._held_end = self._ledger.end
            self._ask_for_held()

    def _ask_for_held(self) -> None:
        """For as many as the cloud takes at once, or for the next token if there are none."""
        confirmed = self._ledger.confirmed
        self._tactics.ask_ahead(max(confirmed + 1, min(self._held_end, confirmed + self._window)))

    def _show(self, start: int, end: int) -> tuple[ShowDrafts, ...]:
        """Let the reader see the drafts from ``start`` to ``end``, who sees those before."""
        if start >= end:
            return ()
        self._shown_end = end
        first = self._ledger.confirmed
        return (ShowDrafts(self._number, tuple(self._ledger.suffix[start - first : end - first])),)

    # -- what the drafter does --------------------------------------------------------------------------

    def start_step(self, now: float) -> None:
        """A draft step begins; ``wants_draft`` must hold. ``finish_step`` or ``lose_step`` must follow."""
        self.was_drafted = True
        books = self._ledger
        keep, self._cached = self._cached, books.end
        self._step = Step(books.epoch, books.end, keep, now)

    def draft_order(self, number: int) -> DraftNext:
        """What the drafter is to do for the step that has just begun, the ``number``-th of the edge."""
        step, generation = self._step, self._generation
        assert step is not None, "an order for no step"
        assert generation is not None, "a draft step without a generation"
        feed = tuple(self._known_to_draft(stretch) for stretch in self._ledger.stretches_from(step.keep))
        return DraftNext(number, self._number, step.keep, feed, generation.sampling, generation.seed)

    def _known_to_draft(self, stretch: Stretch) -> Stretch:
        """A target's token beyond the draft's vocabulary stays in the context as token 0."""
        size = self._draft_vocabulary_size
        if max(stretch.tokens) < size:
            return stretch
        return Stretch(tuple(token if token < size else 0 for token in stretch.tokens), stretch.prompt)

    def finish_step(self, token: int, confidence: float, now: float) -> tuple[ShowDrafts, ...]:
        """The step gave a guess; it counts if the text has not moved on meanwhile."""
        step, self._step = self._step, None
        assert step is not None, "a draft that nobody wanted"
        generation, books = self._generation, self._ledger
        if generation is None or step.epoch != books.epoch or step.position != books.end:
            return ()
        if token >= self._grant.vocabulary_size:
            self._blocked = True
            return ()
        books.draft(token)
        generation.drafted += 1
        self._tactics.drafted(confidence, step.position - step.keep, now - step.started_s)
        self._ask_if_due()
        if self._tie.is_there or not self._tie.shows_drafts:
            return ()
        return self._show(books.end - 1, books.end)

    def _ask_if_due(self) -> None:
        if self._tie.is_there and not self._exceeds_window():
            self._tactics.ask_if_due()

    def lose_step(self, *, blocked: bool) -> None:
        """The step gave nothing; ``blocked`` if there is no sense in trying again in this generation."""
        step, self._step = self._step, None
        assert step is not None, "the end of a step that nobody wanted"
        self._cached = min(self._cached, step.keep)
        if step.epoch == self._ledger.epoch:
            self._blocked = self._blocked or blocked

    def ask_if_idle(self) -> None:
        """Keep the text moving when the drafter has nothing to do for it."""
        generation, books = self._generation, self._ledger
        if generation is None or self._step is not None or not self._tie.is_there:
            return
        if self._exceeds_window() or self._tactics.asks >= ASKS_MAX or self.wants_draft:
            return
        if books.suffix and self._tactics.ask_if_idle():
            return
        cannot_draft = self._blocked or books.end >= self._draft_context_tokens
        if cannot_draft and not (books.suffix or self._paused):
            self._ask_alone(generation)

    def _ask_alone(self, generation: Generation) -> None:
        """Let the target run on without drafts, and never to the end of what was asked for."""
        confirmed = self._ledger.confirmed
        furthest = self._tactics.furthest_ask
        if furthest < confirmed + ALONE_TOKENS // 2 and furthest < generation.limit:
            self._tactics.ask_ahead(min(confirmed + ALONE_TOKENS, generation.limit))

    def next_frame(self, now: float, gap: Gap) -> Draft | None:
        """What is to be sent over the link, which is idle since ``gap`` ago."""
        return self._tactics.next_frame(self._window, now, gap) if self._tie.is_there else None

    # -- what the cloud says ----------------------------------------------------------------------------

    def verdict(self, frame: Verdict, now: float) -> Iterator[EdgeCommand]:
        """Take the cloud's word. Raises ``PeerError`` if it contradicts what was sent."""
        books, generation = self._ledger, self._generation
        if frame.epoch < books.epoch or (frame.epoch == books.epoch and generation is None):
            return
        if generation is None or frame.epoch > books.epoch:
            raise PeerError("protocol", f"a verdict of epoch {frame.epoch}, which has not begun")
        news = (*books.suffix[: frame.accepted], *frame.tokens)
        check_verdict(frame, news, books, generation.limit, self._grant.vocabulary_size, self._end_ids)
        self.door.answered()
        base, held = books.confirmed, len(books.suffix)
        first_wrong = books.settle(frame.accepted, frame.tokens)
        agreed = 0
        if held:
            agreed = min(held, len(news)) if first_wrong is None else first_wrong - base
        generation.count(frame, agreed, corrected=first_wrong is not None)
        self._tactics.judged(frame, agreed, first_wrong, now)
        if first_wrong is not None:
            self._cached = min(self._cached, first_wrong)
            self._held_end = self._shown_end = 0
        self._ask_if_due()
        if self._grant.vocabulary_size > self._draft_vocabulary_size <= max(frame.tokens, default=0):
            self._blocked = True
        if books.confirmed < self._held_end and not self._tactics.asks:
            self._ask_for_held()
        if news:
            yield EmitTokens(self._number, news)
            if self._shown_end > books.confirmed:
                yield from self._show(books.confirmed, min(self._shown_end, books.end))
        if frame.finish is not None:
            yield self._finish(generation, frame.finish)

    def _finish(self, generation: Generation, finish: Finish) -> FinishGeneration:
        self._end_generation()
        return FinishGeneration(self._number, finish, generation.stats)
