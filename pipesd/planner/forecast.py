"""What other thresholds would give: the time and the cloud's work per token of many candidates, at once.

A small simulation of one session, drafts and verdicts only, over the confidences and outcomes of late. It
leaves out what hardly depends on thresholds: bytes, prompts, windows, more than one batch on its way. All
times are in seconds; arrays have one element for each candidate.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipesd.errors import UsageError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

STEPS = 200
"""Draft steps of each candidate; a record that is shorter is gone through again, and of a longer one parts of
about this length are played side by side."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What machine, link and cloud take. Raises ``UsageError`` if a field is no possible time."""

    draft_s: float
    """One draft step (gamma)."""

    abort_s: float
    """How long a step goes on that was told to stop."""

    link_s: float
    """Both ways together: from the moment an ask leaves to its verdict, without the cloud's share."""

    batch_s: float
    """How long a batch occupies the link, its tokens aside (alpha)."""

    token_s: float
    """How long each token of a batch occupies the link (beta)."""

    pass_s: float
    """A pass of the target, its tokens aside (v0)."""

    pass_token_s: float
    """Each token in a pass (v1)."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not 0.0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}: must be at least 0 and finite, not {getattr(self, name)}")
        if not self.draft_s:
            raise UsageError("draft_s: must be above 0, not 0")


@dataclass(frozen=True, slots=True)
class Record:
    """What drafts were like of late. Raises ``UsageError`` if there is nothing in it."""

    confidences: Floats
    """Of drafts behind text that was right, in order."""

    worths: Floats
    """The probability of acceptance that each was given when it was made."""

    accepted: Flags
    """What became of them."""

    astray: Floats
    """Confidences of drafts behind a wrong one, in order; may be empty."""

    def __post_init__(self) -> None:
        if not len(self.confidences) == len(self.worths) == len(self.accepted) > 0:
            raise UsageError("a record needs a confidence, a worth and an outcome of at least one draft")


@dataclass(frozen=True, slots=True)
class Candidates:
    """Thresholds to be compared, one element for each."""

    r1: Floats
    r2: Floats
    upper_tokens: NDArray[np.int64]
    by_worth: Flags
    """Whether they are compared with the probabilities of acceptance instead of the confidences."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What candidates would take per confirmed token."""

    token_s: Floats
    """Infinite for those who never asked."""

    cloud_s: Floats
    passes: Floats


def forecast(candidates: Candidates, conditions: Conditions, record: Record, steps: int = STEPS) -> Forecast:
    """Play ``steps`` draft steps of every candidate, in every part of the record."""
    drafts = len(record.accepted)
    parts = max(1, round(drafts / steps))
    play = _Play(_repeated(candidates, parts), conditions, record, steps)
    play.begin_at(np.repeat(np.arange(parts) * drafts // parts, len(candidates.r1)))
    for step in range(steps):
        play.step(step)
    return play.result(parts)


def _repeated(candidates: Candidates, times: int) -> Candidates:
    if times == 1:
        return candidates
    return Candidates(
        np.tile(candidates.r1, times),
        np.tile(candidates.r2, times),
        np.tile(candidates.upper_tokens, times),
        np.tile(candidates.by_worth, times),
    )


class _Play:
    """All candidates side by side; each is at a place of the record, and at a time, of its own."""

    def __init__(self, candidates: Candidates, conditions: Conditions, record: Record, steps: int) -> None:
        self._candidates = candidates
        self._conditions = conditions
        # No candidate gets further than two places a step.
        rounds = 2 * steps // len(record.accepted) + 2
        self._confidences = np.tile(record.confidences, rounds)
        self._worths = np.tile(record.worths, rounds)
        self._refused = np.tile(~record.accepted, rounds)
        self._astray = record.astray if len(record.astray) else record.confidences
        self._agreement = float(np.mean(record.accepted))
        size = len(candidates.r1)
        self._now = np.zeros(size)
        self._place = np.zeros(size, dtype=np.int64)
        """Where in the record the next draft is."""

        self._start = np.zeros(size, dtype=np.int64)
        self._asked_at = np.zeros(size)
        self._asked = np.zeros(size, dtype=np.int64)
        """When a verdict was asked for last, or came, and the place behind what it was about: what is drafted
        behind that has not cost all that it will."""

        self._drafted = np.zeros(size, dtype=np.int64)
        """Since the last trigger."""

        self._survival = np.ones(size)
        self._worth = np.ones(size)
        """Of all unverified drafts."""

        self._wrong = np.zeros(size, dtype=bool)
        self._is_known = np.zeros(size, dtype=bool)
        """Whether the first draft since the last trigger is where its verdict has a token of its own."""

        self._answer = np.zeros(size)
        """When the last verdict that was asked for comes."""

        self._link_free = np.zeros(size)
        self._pass_start, self._pass_end = np.full(size, -math.inf), np.full(size, -math.inf)
        self._passes = np.zeros(size, dtype=np.int64)
        self._judged = np.zeros(size, dtype=np.int64)

    def begin_at(self, places: NDArray[np.int64]) -> None:
        """Begin there instead of at the start of the record."""
        for held in (self._place, self._start, self._asked):
            held[:] = places

    def step(self, number: int) -> None:
        """Every candidate drafts, and does what follows from it."""
        given, costs = self._candidates, self._conditions
        self._now += costs.draft_s
        self._drafted += 1
        confidence, worth = self._confidences[self._place], self._worths[self._place]
        astray = self._astray[number % len(self._astray)]
        np.copyto(confidence, worth, where=given.by_worth)
        np.copyto(confidence, astray, where=self._wrong)
        np.copyto(worth, astray, where=self._wrong)
        self._survival *= confidence
        self._worth *= worth
        np.maximum(self._link_free, self._now, out=self._link_free)
        self._link_free += costs.token_s

        goes_wrong = self._refused[self._place] & ~self._wrong
        is_answered = self._is_known & (self._drafted == 1)
        contradicted = goes_wrong & is_answered
        fires = self._survival <= given.r1
        fires |= confidence <= given.r2
        fires |= self._drafted >= given.upper_tokens
        fires &= ~contradicted
        self._ask(fires & ~is_answered)
        self._go_on(fires, is_answered, contradicted, self._wrong | goes_wrong)

    def _ask(self, asks: Flags) -> None:
        """The pass that an ask waits for: one that has not begun yet, or one of its own."""
        costs = self._conditions
        arrives = self._link_free + (costs.batch_s + costs.link_s / 2)
        judged = self._drafted - self._is_known
        judged *= asks
        begins = asks & (arrives > self._pass_start)
        np.maximum(arrives, self._pass_end, out=arrives)
        np.copyto(self._pass_start, arrives, where=begins)
        arrives += costs.pass_s + costs.pass_token_s
        np.copyto(self._pass_end, arrives, where=begins)
        self._pass_end += costs.pass_token_s * judged
        self._passes += begins
        self._judged += judged
        self._link_free += costs.batch_s * asks
        np.copyto(self._answer, self._pass_end + costs.link_s / 2, where=asks)

    def _go_on(self, fires: Flags, is_answered: Flags, contradicted: Flags, wrong: Flags) -> None:
        """Wait for the verdict, draft on ahead of it, or begin anew behind a correction."""
        costs = self._conditions
        corrected = fires & wrong
        corrected |= contradicted
        takes_s = self._answer - self._now
        reused = self._worth * self._agreement
        waits = reused * (takes_s - costs.draft_s) <= (1.0 - reused) * costs.abort_s
        comes_first = waits | (takes_s <= costs.draft_s)
        comes_first &= fires & ~wrong & ~is_answered
        goes_on = corrected | comes_first
        np.copyto(self._now, self._answer, where=goes_on)
        if costs.abort_s:
            self._now += costs.abort_s * (goes_on & ~(waits & ~contradicted))
        self._place += ~wrong
        self._place += goes_on
        self._wrong = wrong & ~corrected
        ends = fires | corrected
        self._is_known &= ~ends
        self._is_known |= fires & ~(goes_on | is_answered)
        np.copyto(self._asked_at, self._now, where=ends)
        np.copyto(self._asked, self._place, where=ends)
        np.copyto(self._drafted, 0, where=ends)
        np.copyto(self._survival, 1.0, where=ends)
        np.copyto(self._worth, 1.0, where=goes_on)

    def result(self, parts: int) -> Forecast:
        """What it came to, of all parts of the record together."""
        costs = self._conditions
        took_s, tokens, passes, judged = (
            held.reshape(parts, -1).sum(axis=0)
            for held in (self._asked_at, self._asked - self._start, self._passes, self._judged)
        )
        asked, tokens = tokens > 0, np.maximum(tokens, 1)
        cloud_s = costs.pass_s * passes + costs.pass_token_s * (passes + judged)
        return Forecast(np.where(asked, took_s / tokens, math.inf), cloud_s / tokens, passes / tokens)
