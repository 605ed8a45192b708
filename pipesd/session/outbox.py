"""Which drafts of a session leave when, and where a verdict is asked for.

The rules that count when the link is the bottleneck: a trigger flushes the drafts up to it and no further;
drafts ahead of a pending verdict ride only on an idle link; what has not left dies with a correction. Nothing
is handed to the link before it is idle, so what has not left is still here.
"""

from collections import deque

from pipesd.planner.batches import Schedule
from pipesd.planner.policies import Policy
from pipesd.planner.trigger import Trigger


class Outbox:
    """The trigger, the plan, and the asks that wait for the link."""

    def __init__(self, policy: Policy) -> None:
        self.trigger = Trigger(policy.thresholds, policy.r1_rule)
        self._asks_max = policy.asks_max
        self._schedule = Schedule(policy.batching)
        self.ready = self._schedule.ready
        """How many of the unsent drafts are to leave without an ask, by the plan."""

        self.sent = self._schedule.sent
        """So many left without an ask."""

        self.learn = self._schedule.update
        """New estimates for the plan."""

        self.marks: deque[int] = deque()
        """To be read only: positions up to which a verdict will be asked for as soon as the link is idle."""

    def ask_if_due(self, end: int, asks_pending: int) -> bool:
        """Ask for a verdict up to ``end``, the suffix's, if the trigger fires and no more pend than may."""
        drafted = self.trigger.drafted_tokens
        if asks_pending + len(self.marks) >= self._asks_max or not self.trigger.fires(end):
            return False
        self.marks.append(end)
        self._schedule.interrupt(drafted)
        return True

    def ask_if_idle(self, end: int, asks_pending: int) -> bool:
        """The same for a drafter that has nothing to do."""
        asks, drafted = asks_pending + len(self.marks), self.trigger.drafted_tokens
        if asks >= self._asks_max or not self.trigger.idle(awaiting=asks > 0, end=end):
            return False
        self.marks.append(end)
        self._schedule.interrupt(drafted)
        return True

    def ask_ahead(self, end: int) -> None:
        """Ask the target to run on alone up to ``end``, where there are no drafts."""
        self.marks.append(end)

    def flush(self) -> int:
        """The oldest ask that waits; it leaves now, with the drafts up to it."""
        return self.marks.popleft()

    def confirmed(self, position: int, unverified_tokens: int) -> None:
        """Everything up to ``position`` is confirmed, and what is left of the suffix still stands."""
        while self.marks and self.marks[0] <= position:
            self.marks.popleft()
        self.trigger.judged(position)
        self.trigger.keep_last(unverified_tokens)

    def contradicted(self, at: int) -> None:
        """The draft at ``at`` was wrong: everything behind it is discarded."""
        drafted = self.trigger.drafted_tokens
        self.trigger.contradicted(at)
        self._discard(drafted)

    def clear(self) -> None:
        """The drafts were discarded for another reason."""
        drafted = self.trigger.drafted_tokens
        self.trigger.reset()
        self._discard(drafted)

    def _discard(self, drafted: int) -> None:
        self.marks.clear()
        self._schedule.interrupt(drafted)
