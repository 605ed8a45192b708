"""What the tuner is told: trials of thresholds, measured verdict by verdict by all sessions of an edge.

Pure bookkeeping. A report goes out when a trial has confirmed enough tokens, and none follows before the
tuner has answered: one that is slow, or gone, costs nothing.
"""

from collections import deque
from collections.abc import Sequence

from pipesd.planner.trigger import Thresholds
from pipesd.values import TrialReport

TRIAL_TOKENS = 20
"""Confirmed tokens of one trial."""

DRAFTS_KEPT = 400
ASTRAY_KEPT = 64
"""What is worth keeping for another time."""

_DRAFTS_MAX = 512
"""Drafts of each kind that are kept while no report goes out, the latest ones."""


class Trials:
    """The trial that is running."""

    def __init__(self, start: Thresholds | None = None) -> None:
        """``start`` is what the edge begins with, and keeps where it is not tuned."""
        self._start = start or Thresholds()
        self.number = 0
        """0 is what the edge begins with."""

        self.counts_energy = False
        """Whether the cloud measures it; what is only modelled is no news to a tuner."""

        self._tokens = 0
        self._verdicts: list[tuple[int, float, float, float]] = []
        self._drafts: deque[tuple[float, float, bool]] = deque(maxlen=_DRAFTS_MAX)
        self._astray: deque[float] = deque(maxlen=_DRAFTS_MAX)
        self._is_reported = False
        self.kept_drafts: deque[tuple[float, float, bool]] = deque(maxlen=DRAFTS_KEPT)
        self.kept_astray: deque[float] = deque(maxlen=ASTRAY_KEPT)
        """The latest, reported or not; to be read only."""

    def begin(self, number: int) -> None:
        """The tuner has answered: other thresholds hold from now on."""
        self.number = number
        self._tokens = 0
        self._verdicts.clear()
        self._is_reported = False

    def drafts_judged(self, drafts: Sequence[tuple[float, float, bool]], astray: Sequence[float]) -> None:
        """(confidence, probability of acceptance when it was made, what became of it) of drafts in order.

        ``astray`` are the confidences of those behind a wrong one.
        """
        for latest in (self._drafts, self.kept_drafts):
            latest.extend(drafts)
        for behind in (self._astray, self.kept_astray):
            behind.extend(astray)

    def verdict(self, tokens: int, elapsed_s: float, cloud_s: float, energy_j: float = 0.0) -> None:
        """So many tokens were confirmed, so long after those before them, by so much work of the cloud."""
        if not self._is_reported:
            energy_mj = 1e3 * energy_j if self.counts_energy else 0.0
            self._tokens += tokens
            self._verdicts.append((tokens, 1e3 * elapsed_s, 1e3 * cloud_s, energy_mj))

    @property
    def is_complete(self) -> bool:
        """Whether a report is due."""
        return self._tokens >= TRIAL_TOKENS and not self._is_reported

    def report(self, conditions_ms: tuple[float, ...]) -> TrialReport:
        """All that happened since the last one."""
        told = TrialReport(
            trial=self.number,
            verdicts=tuple(self._verdicts),
            drafts=tuple(self._drafts),
            astray=tuple(self._astray),
            conditions_ms=conditions_ms,
            upper_tokens=self._start.upper_tokens,
            lower_tokens=self._start.lower_tokens,
        )
        self._drafts.clear()
        self._astray.clear()
        self._is_reported = True
        return told
