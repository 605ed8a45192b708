"""Which drafts travel together: batch sizes that have a window of drafts delivered earliest.

The model, after PipeSD (arXiv 2605.13319): draft k is there at ``draft_s * k``; a batch leaves when its last
draft is there and the link is free, and occupies the link for ``batch_s + token_s * tokens``. Latency is not
part of it: on one stream messages overlap in flight. All times are seconds.
"""

import math
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pipesd.errors import UsageError

Rule = Literal["at_trigger", "immediate", "planned", "work_conserving"]

WINDOW_FIRST_TOKENS = 20
"""The window before any draft length is known."""

WINDOW_LENGTHS_MAX = 100
"""Draft lengths the window remembers."""

MOVED_SHARE = 0.2
"""A plan is made anew once its predicted finish has moved by this share of itself ..."""

MOVED_S = 0.001
"""... and by this many seconds, so that noise in costs near zero moves nothing."""

_ROUNDING = 1 + 1e-12  # two moments that differ by less are the same


@dataclass(frozen=True, slots=True)
class LinkCosts:
    """What the plan knows of machine and link. Raises ``UsageError`` if a field is no possible time."""

    draft_s: float
    """One draft step (gamma)."""

    batch_s: float
    """How long a batch occupies the link, its tokens aside (alpha)."""

    token_s: float
    """How long each token of a batch occupies the link (beta)."""

    def __post_init__(self) -> None:
        for name in ("draft_s", "batch_s", "token_s"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}: must be at least 0 and finite, not {getattr(self, name)}")


def plan(tokens: int, costs: LinkCosts) -> tuple[int, ...]:
    """Batch sizes, in order, that have all ``tokens`` delivered earliest.

    Among equal finishes, a last batch that waits for its last draft is as small as it can be: drafts leave
    early where that costs nothing. One that waits for the link is as large as it can be: those before it are
    short, so that a correction finds the link free sooner. Of these two it is the first. What lies before the
    last batch is such a plan again.
    """
    _check_tokens(tokens)
    if costs.batch_s + costs.token_s <= costs.draft_s:
        return (1,) * tokens  # the link is free again before the next draft is there: nothing can be faster
    cuts = _last_cuts(tokens, costs)
    sizes = []
    end = tokens
    while end:
        sizes.append(end - cuts[end])
        end = cuts[end]
    return tuple(reversed(sizes))


def finish_s(sizes: Sequence[int], costs: LinkCosts) -> float:
    """When the last of these batches has been delivered, counted from the start of the first draft step."""
    draft_s, batch_s, token_s = costs.draft_s, costs.batch_s, costs.token_s
    end, free_s = 0, 0.0
    for size in sizes:
        if size < 1:
            raise UsageError(f"sizes: each must be at least 1, not {size}")
        end += size
        free_s = max(free_s, draft_s * end) + batch_s + token_s * size
    return free_s


def immediate(tokens: int, costs: LinkCosts) -> tuple[int, ...]:
    """Every draft a batch of its own; they queue up if the link is slower."""
    _check_tokens(tokens)
    return (1,) * tokens


def at_trigger(tokens: int, costs: LinkCosts) -> tuple[int, ...]:
    """All drafts in one batch, once the last is there."""
    _check_tokens(tokens)
    return (tokens,)


def work_conserving(tokens: int, costs: LinkCosts) -> tuple[int, ...]:
    """Whatever is there whenever the link is free."""
    _check_tokens(tokens)
    sizes = []
    sent, free_s = 0, 0.0
    while sent < tokens:
        there = sent + 1
        free_s = max(free_s, costs.draft_s * there)
        while there < tokens and costs.draft_s * (there + 1) <= free_s * _ROUNDING:
            there += 1
        free_s += costs.batch_s + costs.token_s * (there - sent)
        sizes.append(there - sent)
        sent = there
    return tuple(sizes)


class Window:
    """How many drafts a plan is for: the rounded mean of the last draft lengths.

    A draft length is the number of drafts between two interruptions: a trigger, or a verdict that discards.
    """

    def __init__(self) -> None:
        self._lengths = deque[int](maxlen=WINDOW_LENGTHS_MAX)
        self._sum = 0
        self._tokens = WINDOW_FIRST_TOKENS

    @property
    def tokens(self) -> int:
        """The window, at least 1."""
        return self._tokens

    def note(self, length: int) -> None:
        """Count a draft length. Zero does not count: nothing was drafted, so there was nothing to plan."""
        if length < 0:
            raise UsageError(f"length: must be at least 0, not {length}")
        if not length:
            return
        if len(self._lengths) == WINDOW_LENGTHS_MAX:
            self._sum -= self._lengths[0]
        self._lengths.append(length)
        self._sum += length
        self._tokens = (2 * self._sum + len(self._lengths)) // (2 * len(self._lengths))  # halves go up


class Schedule:
    """Which unsent drafts make up the next batch.

    A plan is followed from the last interruption on, and again from its start when it is through. Drafts
    from before that interruption do not belong to it: whoever flushes them calls ``sent`` before
    ``interrupt``, or not at all.

    A session has one batch in flight and asks when the link is idle. Then ``immediate`` releases one draft
    and ``work_conserving`` all that are there, which is the same while the link keeps up with the drafts.
    """

    def __init__(self, rule: Rule) -> None:
        if rule not in get_args(Rule):
            raise UsageError(f"rule: must be one of {', '.join(get_args(Rule))}, not {rule}")
        self._planned = rule == "planned"
        self._window = Window()
        self._costs: LinkCosts | None = None
        self._sizes: tuple[int, ...] = ()
        self._index = 0
        self._predicted_s = 0.0
        # how many drafts the next batch takes; 0: all that are there
        self._due_tokens = {"at_trigger": sys.maxsize, "immediate": 1}.get(rule, 0)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The plan that is followed; empty if there is none."""
        return self._sizes

    def update(self, costs: LinkCosts | None) -> bool:
        """Take new estimates, None if there are none yet; whether that made a new plan.

        Without estimates ``planned`` releases all that is there. The same object again costs nothing.
        """
        if costs is self._costs or not self._planned:
            return False
        self._costs = costs
        if costs is None:
            self._sizes, self._due_tokens = (), 0
            return False
        if self._sizes and not _moved(self._predicted_s, finish_s(self._sizes, costs)):
            return False
        self._make_plan(costs)
        return True

    def ready(self, unsent_tokens: int) -> int:
        """How many of the unsent drafts are to leave now that the link is idle; 0 for none yet."""
        due = self._due_tokens
        if not due:
            return unsent_tokens
        return due if unsent_tokens >= due else 0

    def sent(self, tokens: int) -> None:
        """So many drafts left as a batch, whether ``ready`` said so or not; the plan goes on behind them."""
        _check_tokens(tokens)
        if not self._sizes:
            return
        due = self._due_tokens - tokens
        while due <= 0:
            self._index = (self._index + 1) % len(self._sizes)
            due += self._sizes[self._index]
        self._due_tokens = due

    def interrupt(self, drafted_tokens: int) -> None:
        """A trigger, or a verdict that discards, so many drafts after the last one: the plan starts anew."""
        if not self._planned:
            return
        before_tokens = self._window.tokens
        self._window.note(drafted_tokens)
        if self._costs is None:
            return
        if self._window.tokens != before_tokens:
            self._make_plan(self._costs)
        self._index, self._due_tokens = 0, self._sizes[0]

    def _make_plan(self, costs: LinkCosts) -> None:
        self._sizes = plan(self._window.tokens, costs)
        self._index, self._due_tokens = 0, self._sizes[0]
        self._predicted_s = finish_s(self._sizes, costs)


def _moved(predicted_s: float, now_s: float) -> bool:
    return abs(now_s - predicted_s) >= max(MOVED_SHARE * predicted_s, MOVED_S)


def _last_cuts(tokens: int, costs: LinkCosts) -> list[int]:
    """For each number of drafts, how many of them are before the last batch of its best plan.

    Every draft delays the best finish by at least ``token_s``. Hence only two cuts can be best: the last one
    whose batches are through when the last draft is there, and the one behind it. More drafts only move them
    on, so this takes linear time.
    """
    draft_s, batch_s, token_s = costs.draft_s, costs.batch_s, costs.token_s
    finish, cuts = [0.0], [0]
    cut = 0
    for end in range(1, tokens + 1):
        drafted_s = draft_s * end
        while cut + 1 < end and finish[cut + 1] <= drafted_s * _ROUNDING:
            cut += 1
        best_s = drafted_s + batch_s + token_s * (end - cut)
        best = cut
        if cut + 1 < end:
            later_s = finish[cut + 1] + batch_s + token_s * (end - cut - 1)
            if later_s < best_s:
                best_s, best = later_s, cut + 1
        finish.append(best_s)
        cuts.append(best)
    return cuts


def _check_tokens(tokens: int) -> None:
    if tokens < 1:
        raise UsageError(f"tokens: must be at least 1, not {tokens}")
