"""What drafting, sending and judging cost, estimated while it happens.

No two clocks are ever compared. All times are in seconds.
"""

import math
from collections import deque

from pipesd.planner.batches import LinkCosts
from pipesd.planner.estimates import WINDOW, Estimate, Line, LineFit, Median, no_time
from pipesd.planner.occupancy import Occupancy, Trip


class CostMeter:
    """Everything that the plan, the trigger and the tuner know of machine, link and cloud."""

    def __init__(self) -> None:
        self._draft = Median()
        self.drafted = self._draft.add
        """A draft step that evaluated one or two tokens took so many seconds."""

        self._abort = Median()
        self._answer = Median()
        self._return = Median()
        self._travel = Median()
        self._pass = LineFit()
        self._batches = LineFit()
        self._occupancy = Occupancy(self._batches)
        self._pace: deque[tuple[float, int, float]] = deque()
        self._pace_cloud_s = 0.0
        self._pace_s = 0.0
        self._pace_tokens = 0
        self._costs: LinkCosts | None = None

    # -- what is measured -------------------------------------------------------------------------------

    def aborted(self, seconds: float) -> None:
        """From the wish to stop a step to its end."""
        self._abort.add(seconds)

    def answered(self, seconds: float) -> None:
        """A verdict came so long after its ask began to leave."""
        self._answer.add(seconds)

    def returned(self, seconds: float) -> None:
        """A verdict came so long after its ask had left the link."""
        self._return.add(seconds)

    def travelled(self, seconds: float) -> None:
        """The same without the cloud's share; a little less than nothing is nothing."""
        self._travel.add(max(0.0, seconds))

    def passed(self, tokens: int, seconds: float) -> None:
        """A pass of the target over ``tokens`` tokens of ours."""
        self._pass.add(tokens, seconds)

    def confirmed(self, tokens: int, seconds: float, cloud_s: float = 0.0) -> None:
        """So many tokens were confirmed in so much time of a running generation, and of the cloud's work."""
        if not 0.0 <= seconds < math.inf:
            raise no_time(seconds)
        self._pace.append((seconds, tokens, cloud_s))
        self._pace_s += seconds
        self._pace_tokens += tokens
        self._pace_cloud_s += cloud_s
        if len(self._pace) > WINDOW:
            oldest_s, oldest_tokens, oldest_cloud_s = self._pace.popleft()
            self._pace_s -= oldest_s
            self._pace_tokens -= oldest_tokens
            self._pace_cloud_s -= oldest_cloud_s

    def trip(self) -> Trip:
        """For one session's batches."""
        return Trip(self._occupancy)

    # -- what is known ----------------------------------------------------------------------------------

    @property
    def draft(self) -> Estimate | None:
        """gamma: one draft step."""
        return self._draft.estimate

    @property
    def draft_s(self) -> float | None:
        """gamma, without its error."""
        return self._draft.value

    @property
    def abort_s(self) -> float | None:
        """How long a step goes on that was told to stop."""
        return self._abort.value

    @property
    def answer(self) -> Estimate | None:
        """From the moment an ask leaves to its verdict."""
        return self._answer.estimate

    @property
    def answer_s(self) -> float | None:
        """The same without its error."""
        return self._answer.value

    @property
    def return_s(self) -> float | None:
        """From the moment at which an ask has left to its verdict."""
        return self._return.value

    @property
    def travel(self) -> Estimate | None:
        """Latency: an answer, from the moment at which its ask has left, without the cloud's share."""
        return self._travel.estimate

    @property
    def travel_s(self) -> float | None:
        """The same without its error."""
        return self._travel.value

    @property
    def passes(self) -> Line | None:
        """V(n) = v0 + v1·n."""
        return self._pass.line

    @property
    def occupancy(self) -> Line | None:
        """alpha + beta·n; None while the link was never busy for long enough to tell."""
        return self._batches.line

    @property
    def token_s(self) -> float | None:
        """TPT of late: time per confirmed token, over the last verdicts."""
        return max(0.0, self._pace_s) / self._pace_tokens if self._pace_tokens else None

    @property
    def cloud_token_s(self) -> float:
        """The cloud's work per confirmed token, over the last verdicts; 0 before the first."""
        return max(0.0, self._pace_cloud_s) / self._pace_tokens if self._pace_tokens else 0.0

    def link_costs(self) -> LinkCosts | None:
        """For the plan: the same object while nothing has changed, None while not all is known."""
        draft_s, occupancy = self._draft.value, self._batches.line
        if draft_s is None or occupancy is None:
            return None
        costs = self._costs
        batch_s, token_s = occupancy.fixed.value, occupancy.slope.value
        if costs is None or (costs.draft_s, costs.batch_s, costs.token_s) != (draft_s, batch_s, token_s):
            self._costs = LinkCosts(draft_s, batch_s, token_s)
        return self._costs
