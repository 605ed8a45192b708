"""R1 without a trial: what one more draft costs, over what a token costs.

A round takes D + gamma·k and confirms N(k) tokens. By renewal-reward its time per token is least if drafting
goes on while the probability that all drafts so far and the next are accepted is above gamma / TPT*, where
TPT* is that least time; so R1* = gamma / TPT*, with confidences that are calibrated. Under an objective both
are costs instead of times: gamma plus the weight times the target's time for one more token (v1), over J.
"""

import itertools
import math

from pipesd.errors import UsageError
from pipesd.tuner.base import Prior, Score, Trial, Unit


def closed_form_r1(step_s: float, token_s: float) -> float:
    """R1 where one more draft costs ``step_s`` and a confirmed token ``token_s``, 0..1.

    Raises ``UsageError`` if one of them is no possible cost.
    """
    if not (0.0 <= step_s < math.inf and 0.0 < token_s < math.inf):
        raise UsageError(f"a draft and a token take finite times, not {step_s} s and {token_s} s")
    return min(1.0, step_s / token_s)


class ClosedFormTuner:
    """Leaves R1 to the closed form, always."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def ask(self, prior: Prior | None = None) -> Trial:
        """The closed form."""
        return Trial(next(self._numbers), None)

    def tell(self, trial: Trial, score: Score) -> None:
        """Learn nothing: what the closed form rests on is measured elsewhere."""

    def best(self, prior: Prior | None = None) -> Unit | None:
        """The closed form."""
        return None

    def forget(self) -> None:
        """There is nothing to forget."""
