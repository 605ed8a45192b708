"""When a session asks for verdicts, what it sends when, and whether it drafts ahead.

A policy, the outbox that follows it, and the experience that it goes by.
"""

from pipesd.planner.ahead import gain_s
from pipesd.planner.occupancy import Gap
from pipesd.planner.trigger import Thresholds
from pipesd.session.experience import Experience, experience_of
from pipesd.session.ledger import Ledger
from pipesd.session.outbox import Outbox
from pipesd.session.rules import EdgeRules
from pipesd.values import COST_WEIGHTS
from pipesd.wire.frames import Draft, Verdict


class Tactics:
    """One session's; the books are read here, and written only when something is sent."""

    def __init__(self, number: int, rules: EdgeRules, books: Ledger, experience: Experience) -> None:
        self._number = number
        self._policy = rules.policy
        self._books = books
        self._calibrated = rules.policy.r1_rule == "closed_form"
        self._plans = rules.policy.batching == "planned"
        self._cost_weight = 0.0 if rules.tuner == "off" else COST_WEIGHTS[rules.objective]
        self._outbox = Outbox(rules.policy)
        self._experience = experience_of(rules.policy, experience)
        self._trial_start = (0, 0)
        """Epoch and position: drafts before it were made before the tuner's trial began."""

        self.trigger = self._outbox.trigger
        """To be read only."""

        self.marks = self._outbox.marks
        """To be read only: positions that will be asked for as soon as the link is idle."""

        self.ask_ahead = self._outbox.ask_ahead
        """Ask for a verdict up to a position, whatever the trigger says."""

        self.link_idle = self._experience.link_idle
        """To be called when what ``next_frame`` gave last has left."""

        self.goes_ahead = True
        """Whether to draft behind what a verdict was asked for."""

    @property
    def asks(self) -> int:
        """How many verdicts are owed, or will be asked for as soon as the link is idle."""
        return len(self._books.asks) + len(self.marks)

    @property
    def furthest_ask(self) -> int:
        """The furthest position that was asked for, or will be; 0 if none was."""
        return self.marks[-1] if self.marks else self._books.last_ask

    # -- what becomes of drafts -------------------------------------------------------------------------

    def begin(self) -> None:
        """A new answer."""
        self._outbox.clear()
        self._experience.began()
        self.goes_ahead = self._policy.ahead != "never"

    def adopt(self, thresholds: Thresholds | None) -> None:
        """Go by other thresholds from the next draft on; None is what the policy begins with."""
        policy = self._policy
        self._calibrated = thresholds is None and policy.r1_rule == "closed_form"
        self._trial_start = (self._books.epoch, self._books.end)
        if thresholds is None:
            self.trigger.adopt(policy.thresholds, policy.r1_rule)
        else:
            self.trigger.adopt(thresholds, "fixed")
        self._learn()

    def pause(self) -> None:
        """The reader paused, or reads again."""
        self._experience.paused()

    def discard(self) -> None:
        """The drafts are given up."""
        self._outbox.clear()
        self._experience.discarded()

    def unsend(self) -> None:
        """What was sent and asked for counts no more; the drafts stay."""
        self._outbox.clear()
        self._experience.unsent()

    def drafted(self, confidence: float, fed_tokens: int, seconds: float) -> None:
        """A draft was made, after reading so much first."""
        worth = self._experience.drafted(confidence, fed_tokens, seconds)
        self.trigger.note(worth if self._calibrated else confidence)

    def judged(self, verdict: Verdict, agreed: int, first_wrong: int | None, now: float) -> None:
        """The books took a verdict that confirms ``agreed`` drafts, and maybe contradicts the next one."""
        counts = (verdict.epoch, verdict.base) >= self._trial_start
        self._experience.judged(verdict, agreed, first_wrong is not None, now, counts=counts)
        if first_wrong is None:
            self._outbox.confirmed(self._books.confirmed, len(self._books.suffix))
        else:
            self._outbox.contradicted(first_wrong)
            self._experience.discarded()
        self._learn()

    def _learn(self) -> None:
        if not (self._calibrated or self._plans):
            return
        link = self._experience.link_costs()
        if self._plans:
            self._outbox.learn(link)
        r1 = self._experience.r1(link, self._cost_weight) if self._calibrated else None
        if r1 is not None:
            self.trigger.r1 = r1

    # -- asking and sending -----------------------------------------------------------------------------

    def ask_if_due(self) -> None:
        """Ask if the trigger fires."""
        if self._outbox.ask_if_due(self._books.end, len(self._books.asks)):
            self.goes_ahead = self._is_ahead_worth_it()

    def ask_if_idle(self) -> bool:
        """Ask because the drafter has nothing to do; whether there was anything to ask about."""
        has_asked = self._outbox.ask_if_idle(self._books.end, len(self._books.asks))
        if has_asked:
            self.goes_ahead = self._is_ahead_worth_it()
        return has_asked

    def _is_ahead_worth_it(self) -> bool:
        """The decision at a trigger; while too little is known, drafting ahead is how it is learned."""
        if self._policy.ahead != "expected":
            return self._policy.ahead == "always"
        outlook = self._experience.outlook()
        return outlook is None or gain_s(outlook) > 0.0

    def next_frame(self, window: int, now: float, gap: Gap) -> Draft | None:
        """What is to be sent over the link, which is idle since ``gap`` ago."""
        books, marks = self._books, self.marks
        if marks:
            count = min(marks[0], books.end) - books.sent_end
        else:
            held = len(books.suffix)
            unsent = (held if held < window else window) - books.sent_tokens
            count = self._outbox.ready(unsent) if unsent > 0 else 0
            if not count:
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

    def _stays_behind(self, unsent: int, now: float) -> bool:
        """Whether drafts ahead of a pending verdict are better kept until it comes."""
        return not (self._policy.upload_ahead and self._experience.may_upload_ahead(unsent, now))
