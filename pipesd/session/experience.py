"""What an edge has learned of its machine, link and cloud, and one session's part in learning it.

Pure bookkeeping between the protocol and the planner: which measurement belongs to what.
"""

from collections import deque

from pipesd.planner.ahead import Outlook
from pipesd.planner.batches import LinkCosts
from pipesd.planner.calibration import Calibration
from pipesd.planner.costs import CostMeter
from pipesd.planner.occupancy import Gap
from pipesd.planner.policies import Policy
from pipesd.session.trials import Trials
from pipesd.wire.frames import Verdict

_FED_TOKENS_MAX = 2
"""Draft steps that had to read more than this first say nothing about the ordinary ones."""

_MOMENT_SHARE = 0.1


class Experience:
    """Shared by all sessions of an edge."""

    def __init__(self, trials: Trials | None = None) -> None:
        """``trials`` are kept if somebody tunes."""
        self.costs = CostMeter()
        self.calibration = Calibration()
        self.trials = trials

    def conditions_ms(self) -> tuple[float, ...]:
        """The fields of ``Conditions``; empty while too little is known."""
        costs = self.costs
        draft_s, travel_s, passes = costs.draft_s, costs.travel_s, costs.passes
        if draft_s is None or travel_s is None or passes is None:
            return ()
        occupancy = costs.occupancy
        link = (0.0, 0.0) if occupancy is None else (occupancy.fixed.value, occupancy.slope.value)
        target = passes.fixed.value, passes.slope.value
        return tuple(1e3 * each for each in (draft_s, costs.abort_s or 0.0, travel_s, *link, *target))


class SessionExperience:
    """One session's measurements, from which the shared experience grows."""

    def __init__(self, shared: Experience) -> None:
        self._costs = shared.costs
        self._calibration = shared.calibration
        self._trials = shared.trials
        self._trip = shared.costs.trip()
        self._worths: deque[tuple[float, float]] = deque()
        """(confidence, probability of acceptance when it was made) of each draft of the suffix."""

        self._asked: deque[tuple[int, float]] = deque()
        """(ask, when it left) of the unanswered asks."""

        self._ask_left_s: float | None = None
        """When the link was idle again behind the newest ask; None while it is not."""

        self._newest_s: float | None = None
        """When text was confirmed last in this generation."""

    # -- what happens -----------------------------------------------------------------------------------

    def drafted(self, confidence: float, fed_tokens: int, seconds: float) -> float:
        """A draft was made, and joins the suffix: the probability that it will be accepted."""
        worth = self._calibration.survival(confidence)
        self._worths.append((confidence, worth))
        if fed_tokens <= _FED_TOKENS_MAX:
            self._costs.drafted(seconds)
        return worth

    def sent(self, tokens: int, ask: int, now: float, gap: Gap) -> None:
        """A Draft frame has been handed to a link that was idle."""
        if tokens:
            self._trip.sent(tokens, now, gap)
        else:
            self._trip.disturbed()
        if ask:
            self._ask_left_s = None
        if ask and self._newest_s is not None:  # an answer behind a prompt is no ordinary one
            self._asked.append((ask, now))

    def link_idle(self, now: float) -> None:
        """All that was sent has left."""
        if self._asked and self._ask_left_s is None:
            self._ask_left_s = now

    def judged(
        self, verdict: Verdict, agreed: int, contradicted: bool, now: float, *, counts: bool = True
    ) -> None:
        """A verdict confirmed ``agreed`` drafts of the suffix, and maybe contradicted the next one.

        It counts for the tuner's trial unless its drafts were made before that.
        """
        worths, learn = self._worths, self._calibration.learn
        if self._trials is not None:
            self._note_trial(self._trials, verdict, agreed, contradicted, now, counts=counts)
        for _ in range(agreed):
            learn(worths.popleft()[0], accepted=True)
        if contradicted:
            learn(worths[0][0], accepted=False)
        if verdict.arrivals:
            self._trip.arrived(verdict.arrivals)
        self._time_answer(verdict, now)
        if self._newest_s is not None:
            tokens = verdict.accepted + len(verdict.tokens)
            self._costs.confirmed(tokens, now - self._newest_s, verdict.pass_us / 1e6)
            if verdict.pass_us:  # none if it was only said again
                self._costs.passed(verdict.judged + 1, verdict.pass_us / 1e6)
        self._newest_s = now

    def _note_trial(
        self, trials: Trials, verdict: Verdict, agreed: int, contradicted: bool, now: float, *, counts: bool
    ) -> None:
        worths = list(self._worths)
        drafts = [(*worth, True) for worth in worths[:agreed]]
        if contradicted:
            drafts.append((*worths[agreed], False))
            trials.drafts_judged(drafts, [confidence for confidence, _ in worths[agreed + 1 :]])
        else:
            trials.drafts_judged(drafts, ())
        tokens = verdict.accepted + len(verdict.tokens)
        if counts and tokens and self._newest_s is not None:
            elapsed_s = max(0.0, now - self._newest_s)
            trials.verdict(tokens, elapsed_s, verdict.pass_us / 1e6, verdict.energy_uj / 1e6)

    def _time_answer(self, verdict: Verdict, now: float) -> None:
        end = verdict.base + verdict.accepted + len(verdict.tokens)
        answered: float | None = None
        while self._asked and self._asked[0][0] <= end:
            left_s = self._asked.popleft()[1]
            answered = left_s if answered is None else answered
        if answered is not None:
            if not self._asked and self._ask_left_s is not None:
                self._costs.returned(now - self._ask_left_s)
                self._costs.travelled(now - self._ask_left_s - (verdict.queue_us + verdict.pass_us) / 1e6)
            self._costs.answered(now - answered)

    def discarded(self) -> None:
        """The suffix and all asks are gone."""
        self._worths.clear()
        self._asked.clear()
        self._ask_left_s = None
        self._trip.reset()

    def unsent(self) -> None:
        """What was sent and asked for counts no more; the suffix stays."""
        kept = tuple(self._worths)
        self.began()
        self._worths.extend(kept)

    def paused(self) -> None:
        """The text stands still for a while, which is no part of its pace, nor of what a verdict takes."""
        self._newest_s = self._ask_left_s = None
        self._asked.clear()

    def began(self) -> None:
        """A new generation; what came before it was no part of its pace."""
        self.discarded()
        self.paused()

    # -- what is expected -------------------------------------------------------------------------------

    def r1(self, link: LinkCosts | None, cost_weight: float = 0.0) -> float | None:
        """The closed form of R1: what one more draft costs, over TPT; None before both are known.

        A draft costs its step, or its place on the ``link`` if that takes longer; and, so weighted, its part
        of a pass, as a token costs the cloud's work for it.
        """
        draft_s, token_s = self._costs.draft_s, self._costs.token_s
        if draft_s is None or not token_s:
            return None
        another_s = draft_s if link is None else max(draft_s, link.token_s)
        if cost_weight and (passes := self._costs.passes) is not None:
            another_s += cost_weight * passes.slope.value
            token_s += cost_weight * self._costs.cloud_token_s
        return min(1.0, another_s / token_s)

    def may_upload_ahead(self, tokens: int, now: float) -> bool:
        """Whether so many drafts would have left before the verdict that is pending comes.

        If they leave in a moment, compared with its usual way back, they may go even if it is late.
        """
        link, return_s = self._costs.link_costs(), self._costs.return_s
        if link is None or return_s is None or self._ask_left_s is None:
            return True
        leaving_s = link.batch_s + link.token_s * tokens
        return leaving_s <= max(self._ask_left_s + return_s - now, _MOMENT_SHARE * return_s)

    def link_costs(self) -> LinkCosts | None:
        """gamma, alpha and beta for the plan; None while not all are known."""
        return self._costs.link_costs()

    def outlook(self) -> Outlook | None:
        """What drafting ahead would meet now; None while too little is known."""
        draft_s, answer_s = self._costs.draft_s, self._costs.answer_s
        if draft_s is None or answer_s is None:
            return None
        survival = 1.0
        for _, worth in self._worths:
            survival *= worth
        return Outlook(
            answer_s=answer_s,
            draft_s=draft_s,
            abort_s=self._costs.abort_s or 0.0,
            survival=survival,
            agreement=self._calibration.acceptance,
        )


class Unmeasured(SessionExperience):
    """That of a session whose policy decides nothing by it: nothing is noted, and so nothing ever known."""

    def drafted(self, confidence: float, fed_tokens: int, seconds: float) -> float:
        """A draft is worth what it says."""
        return confidence

    def sent(self, tokens: int, ask: int, now: float, gap: Gap) -> None:
        """Nothing."""

    def link_idle(self, now: float) -> None:
        """Nothing."""

    def judged(
        self, verdict: Verdict, agreed: int, contradicted: bool, now: float, *, counts: bool = True
    ) -> None:
        """Nothing."""

    def discarded(self) -> None:
        """Nothing."""

    def unsent(self) -> None:
        """Nothing."""

    def paused(self) -> None:
        """Nothing."""

    def began(self) -> None:
        """Nothing."""


def experience_of(policy: Policy, shared: Experience) -> SessionExperience:
    """A session's part, of which no more is kept than its policy and the tuner go by."""
    is_of_use = policy.goes_by_measurements or shared.trials is not None
    return SessionExperience(shared) if is_of_use else Unmeasured(shared)
