"""One session at the edge: drafts, asks for verdicts, and learns what the text is.

Pure. ``EdgeSide`` feeds it and decides when it may use the draft engine and the link; the books are in
``ledger``, what leaves when is in ``outbox``, and what was learned on the way in ``experience``.
"""

from collections.abc import Iterator

from pipesd.errors import PeerError, UsageError
from pipesd.planner.ahead import gain_s
from pipesd.planner.occupancy import Gap
from pipesd.planner.trigger import Thresholds
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
)
from pipesd.session.doorstep import Doorstep
from pipesd.session.events import PromptGiven
from pipesd.session.experience import Experience, SessionExperience
from pipesd.session.generation import Generation, Step
from pipesd.session.ledger import Ledger
from pipesd.session.outbox import Outbox
from pipesd.session.phases import TextPhase
from pipesd.session.rules import ALONE_TOKENS, ASKS_MAX, EdgeRules
from pipesd.values import COST_WEIGHTS, Finish, Stretch
from pipesd.wire.frames import Cancel, Close, Draft, Open, Prompt, Verdict, Welcome


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
        self._grant = grant
        self._draft_vocabulary_size = draft_vocabulary_size
        self._draft_context_tokens = rules.draft_context_tokens if rules.policy.writers == "both" else 0
        self._window = min(rules.window_tokens, grant.window_tokens)
        self._end_ids = frozenset(grant.end_ids)
        self._ledger = Ledger(grant.chunk_tokens)
        self._policy = rules.policy
        self._calibrated = rules.policy.r1_rule == "closed_form"
        self._cost_weight = 0.0 if rules.tuner == "off" else COST_WEIGHTS[rules.objective]
        self._outbox = Outbox(rules.policy)
        self._experience = SessionExperience(experience)
        self._trial_start = (0, 0)
        """Epoch and position: drafts before it were made before the tuner's trial began."""

        self.door = Doorstep(number, rules)
        """What to do if the cloud has no room for it."""

        self.link_idle = self._experience.link_idle
        """To be called when what ``next_frame`` gave last has left."""

        self._goes_ahead = True
        self._generation: Generation | None = None
        self._step: Step | None = None
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
        return TextPhase.AWAITING if self._asks else TextPhase.DRAFTING

    @property
    def _asks(self) -> int:
        """How many verdicts are owed, or will be asked for as soon as the link is idle."""
        return len(self._ledger.asks) + len(self._outbox.marks)

    @property
    def ledger(self) -> Ledger:
        """The books; to be read only."""
        return self._ledger

    @property
    def wants_draft(self) -> bool:
        """Whether a draft step would be of use now."""
        generation, books = self._generation, self._ledger
        if generation is None or self._step is not None or self._paused or self._blocked:
            return False
        if self.door.is_waiting:
            return False
        suffix, end, asks = books.suffix, books.end, len(books.asks) + len(self._outbox.marks)
        return (
            end < generation.limit
            and end < self._draft_context_tokens
            and (asks == 0 or (self._goes_ahead and asks < ASKS_MAX))
            and len(suffix) < self._window
            and not (suffix and suffix[-1] in self._end_ids)
        )

    @property
    def step_is_useless(self) -> bool:
        """Whether the step in flight guesses a token that is known already or will never come."""
        return self._step is not None and not self._step_is_live(self._step)

    @property
    def _cannot_draft(self) -> bool:
        """Whether there will be no more drafts in this generation."""
        return self._blocked or self._ledger.end >= self._draft_context_tokens

    def _step_is_live(self, step: Step) -> bool:
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
        check_prompt(wish, self._ledger.confirmed, self._grant)

    def prompt(self, wish: PromptGiven) -> Iterator[EdgeCommand]:
        """Start a generation; one that runs is given up. The wish must have passed ``check``."""
        books = self._ledger
        self._cached = min(self._cached, books.prompt(wish.base, wish.tokens))
        self._outbox.clear()
        self._experience.began()
        self._blocked = self._paused = False
        self._goes_ahead = self._policy.ahead != "never"
        limit = min(books.confirmed + wish.tokens_max, self._grant.context_tokens)
        self._generation = Generation(limit, wish.sampling, wish.seed)
        yield from self._say(
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

    def _say(self, frame: Prompt | Cancel) -> Iterator[EdgeCommand]:
        if self.door.say(frame):
            yield SendFrame(frame)

    def turn_away(self, failure: Failure, retry_ms: int, now: float) -> Iterator[EdgeCommand]:
        """The cloud has no room for its prompt now; drafts that were sent are lost."""
        wait_s = self.door.turn_away(retry_ms, now)
        if wait_s is None:
            yield from self.fail(failure)
            return
        if self._generation is not None:
            self._forget_drafts()
            self._ledger.ask_again()
            self._experience.began()
        yield NoteWait(self._number, failure.message, wait_s)

    def say_again(self) -> Iterator[EdgeCommand]:
        """The time has come to ask for room once more."""
        for frame in self.door.again(self._ledger.epoch):
            yield SendFrame(frame)

    def cancel(self) -> Iterator[EdgeCommand]:
        """Give up the running generation, if there is one."""
        generation = self._generation
        if generation is not None:
            self._end_generation()
            yield from self._say(Cancel(self._number, self._ledger.epoch))
            yield FinishGeneration(self._number, None, generation.stats)

    def adopt(self, thresholds: Thresholds | None) -> None:
        """Go by other thresholds from the next draft on; None is what the policy begins with."""
        policy = self._policy
        self._calibrated = thresholds is None and policy.r1_rule == "closed_form"
        self._trial_start = (self._ledger.epoch, self._ledger.end)
        if thresholds is None:
            self._outbox.trigger.adopt(policy.thresholds, policy.r1_rule)
        else:
            self._outbox.trigger.adopt(thresholds, "fixed")
        self._use_what_was_learned()

    def pause(self, *, paused: bool) -> None:
        """Stop drafting while nobody reads."""
        self._paused = paused
        self._experience.paused()

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
        self._generation = None
        self._forget_drafts()
        self._ledger.cancel()

    def _forget_drafts(self) -> None:
        self._cached = min(self._cached, self._ledger.confirmed)
        self._outbox.clear()
        self._experience.discarded()

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

    def finish_step(self, token: int, confidence: float, now: float) -> None:
        """The step gave a guess; it counts if the text has not moved on meanwhile."""
        step, self._step = self._step, None
        assert step is not None, "a draft that nobody wanted"
        generation, books = self._generation, self._ledger
        if generation is None or step.epoch != books.epoch or step.position != books.end:
            return
        if token >= self._grant.vocabulary_size:
            self._blocked = True
            return
        books.draft(token)
        generation.drafted += 1
        worth = self._experience.drafted(confidence, step.position - step.keep, now - step.started_s)
        self._outbox.trigger.note(worth if self._calibrated else confidence)
        self._ask_if_due()

    def _ask_if_due(self) -> None:
        if self._outbox.ask_if_due(self._ledger.end, len(self._ledger.asks)):
            self._goes_ahead = self._is_ahead_worth_it()

    def _is_ahead_worth_it(self) -> bool:
        """The decision at a trigger; while too little is known, drafting ahead is how it is learned."""
        if self._policy.ahead != "expected":
            return self._policy.ahead == "always"
        outlook = self._experience.outlook()
        return outlook is None or gain_s(outlook) > 0.0

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
        if generation is None or self._step is not None or self._asks >= ASKS_MAX or self.wants_draft:
            return
        if self.door.is_waiting:
            return
        if self._outbox.ask_if_idle(books.end, len(books.asks)):
            self._goes_ahead = self._is_ahead_worth_it()
        elif self._cannot_draft and not (books.suffix or self._paused):
            self._ask_alone(generation)

    def _ask_alone(self, generation: Generation) -> None:
        """Let the target run on without drafts, and never to the end of what was asked for."""
        confirmed = self._ledger.confirmed
        marks = self._outbox.marks
        furthest = marks[-1] if marks else self._ledger.last_ask
        if furthest < min(confirmed + ALONE_TOKENS // 2, generation.limit):
            self._outbox.ask_ahead(min(confirmed + ALONE_TOKENS, generation.limit))

    def _stays_behind(self, unsent: int, now: float) -> bool:
        """Whether drafts ahead of a pending verdict are better kept until it comes."""
        return not (self._policy.upload_ahead and self._experience.may_upload_ahead(unsent, now))

    def next_frame(self, now: float, gap: Gap) -> Draft | None:
        """What is to be sent over the link, which is idle since ``gap`` ago."""
        books = self._ledger
        marks, unsent = self._outbox.marks, len(books.suffix) - books.sent_tokens
        if marks:
            count = min(marks[0], books.end) - books.sent_end
        elif unsent:
            count = self._outbox.ready(unsent)
            if not count:
                return None
        else:
            return None
        if count and books.asks and self._stays_behind(count, now):
            return None
        base, tokens = books.send(count)
        ask = self._outbox.flush() if marks else 0
        if ask:
            books.ask(ask)
        else:
            self._outbox.sent(count)
        self._experience.sent(count, ask, now, gap)
        return Draft(self._number, books.epoch, base, tokens, ask)

    # -- what the cloud says ----------------------------------------------------------------------------

    def verdict(self, frame: Verdict, now: float) -> Iterator[EdgeCommand]:
        """Take the cloud's word. Raises ``PeerError`` if it contradicts what was sent."""
        books, generation = self._ledger, self._generation
        if frame.epoch < books.epoch or (frame.epoch == books.epoch and generation is None):
            return
        if generation is None or frame.epoch > books.epoch:
            raise PeerError("protocol", f"a verdict of epoch {frame.epoch}, which has not begun")
        check_verdict(frame, books, generation.limit, self._grant.vocabulary_size, self._end_ids)
        self.door.answered()
        news = (*books.suffix[: frame.accepted], *frame.tokens)
        base, held = books.confirmed, len(books.suffix)
        first_wrong = books.settle(frame.accepted, frame.tokens)
        agreed = min(held, len(news)) if first_wrong is None else first_wrong - base
        generation.count(frame, agreed, corrected=first_wrong is not None)
        counts = (frame.epoch, base) >= self._trial_start
        self._experience.judged(frame, agreed, first_wrong is not None, now, counts=counts)
        if first_wrong is None:
            self._outbox.confirmed(books.confirmed, len(books.suffix))
        else:
            self._cached = min(self._cached, first_wrong)
            self._outbox.contradicted(first_wrong)
            self._experience.discarded()
        self._use_what_was_learned()
        self._ask_if_due()
        if frame.tokens and max(frame.tokens) >= self._draft_vocabulary_size:
            self._blocked = True
        if news:
            yield EmitTokens(self._number, news)
        if frame.finish is not None:
            yield self._finish(generation, frame.finish)

    def _use_what_was_learned(self) -> None:
        self._outbox.learn(self._experience.link_costs())
        r1 = self._experience.r1(self._cost_weight) if self._calibrated else None
        if r1 is not None:
            self._outbox.trigger.r1 = r1

    def _finish(self, generation: Generation, finish: Finish) -> FinishGeneration:
        self._end_generation()
        return FinishGeneration(self._number, finish, generation.stats)
