"""The edge's part in tuning its thresholds: what is told to the tuner, where that is, and what holds now."""

from collections.abc import Callable
from typing import Annotated

import msgspec

from pipesd.errors import PeerError, UsageError
from pipesd.planner.trigger import Thresholds
from pipesd.session.commands import SendFrame, TuneThresholds
from pipesd.session.rules import EdgeRules
from pipesd.session.trials import ASTRAY_KEPT, DRAFTS_KEPT, Trials
from pipesd.values import Share
from pipesd.wire import frames


class Learned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the next connection of the same models and cloud may begin with."""

    thresholds: Thresholds | None
    """Those in force last; None is the closed form."""

    drafts: Annotated[tuple[tuple[Share, Share, bool], ...], msgspec.Meta(max_length=DRAFTS_KEPT)]
    """As in ``TrialReport``; likewise ``astray``."""

    astray: Annotated[tuple[Share, ...], msgspec.Meta(max_length=ASTRAY_KEPT)]


class Tuned:
    """All sessions of an edge together; None of it does anything where the rules say that nobody tunes."""

    def __init__(self, rules: EdgeRules) -> None:
        self._place = rules.tuner
        self._objective = rules.objective
        self.trials = None if rules.tuner == "off" else Trials(rules.policy.thresholds)
        self.is_here = rules.tuner == "edge"
        """Not at the cloud."""

        self._is_told = False
        """Whether a cloud was told of a trial, and has not answered yet."""

        self.thresholds: Thresholds | None = None
        """In force; None is what the policy begins with."""

    @property
    def trial(self) -> int | None:
        """Which trial is running; None if nobody tunes."""
        return None if self.trials is None else self.trials.number

    def meet(self, *, tunes: bool, energy: str = "") -> None:
        """A cloud is there, and ``tunes`` or does not. Raises ``UsageError`` if it was to.

        ``energy`` is where it has its figures of energy from, as in ``Welcome``.
        """
        if self._place == "cloud" and not tunes:
            raise UsageError("tuner: this cloud does not tune; choose edge or off")
        self.is_here = self.is_here or not tunes
        if self.trials is not None:
            self.trials.counts_energy = energy != "" and not energy.startswith("modelled")

    def reconnected(self) -> None:
        """What was told to a cloud may not have arrived, or never be answered: the trial goes on."""
        if self.trials is not None and self._is_told:
            self._is_told = False
            self.trials.begin(self.trials.number)

    def report(self, conditions_ms: Callable[[], tuple[float, ...]]) -> SendFrame | TuneThresholds | None:
        """What is due to the tuner, if anything."""
        if self.trials is None or not self.trials.is_complete:
            return None
        told = self.trials.report(conditions_ms())
        self._is_told = not self.is_here
        return TuneThresholds(told) if self.is_here else SendFrame(frames.Telemetry(self._objective, told))

    def hear(self, frame: frames.Thresholds) -> bool:
        """The cloud proposes, which is passed over while the edge tunes itself; as ``begin``.

        Raises ``PeerError`` for thresholds that cannot be.
        """
        proposed = _thresholds_of(frame)
        self._is_told = False
        return not self.is_here and self.begin(frame.trial, proposed)

    def begin(self, number: int, thresholds: Thresholds | None) -> bool:
        """Another trial begins; whether other thresholds hold from now on."""
        if self.trials is None:
            return False
        self.trials.begin(number)
        changed, self.thresholds = thresholds != self.thresholds, thresholds
        return changed

    def remember(self, learned: Learned) -> None:
        """Begin with what was learned another time: it is in the first report too."""
        if self.trials is not None:
            self.trials.drafts_judged(learned.drafts, learned.astray)
            self.thresholds = learned.thresholds

    @property
    def learned(self) -> Learned | None:
        """What may be remembered another time; None if nobody tunes."""
        if self.trials is None:
            return None
        return Learned(self.thresholds, tuple(self.trials.kept_drafts), tuple(self.trials.kept_astray))


def _thresholds_of(frame: frames.Thresholds) -> Thresholds | None:
    if frame.r1 is None:
        return None
    try:
        return Thresholds(frame.r1, frame.r2, frame.upper_tokens, frame.lower_tokens)
    except UsageError as error:
        raise PeerError("protocol", f"thresholds that cannot be: {error}") from None
