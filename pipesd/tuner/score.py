"""What thresholds cost: one number for a window of verdicts, and how uncertain it is.

J is the time per confirmed token, plus a weight times what the cloud spends on it: the target's working time
and, where it is measured, energy. A window
holds few verdicts, and they differ a lot; how much, they cannot say well themselves. So the spread that
verdicts have in general counts as much as a few of them.
"""

import math

from pipesd.errors import UsageError
from pipesd.tuner.base import Score, Verdicted, Window
from pipesd.values import COST_WEIGHTS, Objective

ENERGY_MS_PER_J = 1.0
"""What a joule counts for beside the target's working time: at 100 W a tenth of it."""

_USUAL_SPREAD = 0.45
"""Standard deviation of a verdict's cost from J times its tokens, relative to the mean cost of a verdict: on
the recorded traces 0.25 to 0.6, depending on thresholds and link."""

_USUAL_VERDICTS = 4.0
"""So many verdicts the usual spread counts as."""


def score(window: Window, objective: Objective) -> Score:
    """J of ``window`` and its standard error; energy is part of it where it was measured throughout.

    Raises ``UsageError`` if the window says nothing: without verdicts, tokens or time, or with impossible
    times.
    """
    weight = COST_WEIGHTS[objective]
    _check(window, weight)
    joule_ms = ENERGY_MS_PER_J if window.energy_j is not None else 0.0
    costs_ms = [
        1e3 * verdict.elapsed_s + weight * (1e3 * verdict.cloud_s + joule_ms * (verdict.energy_j or 0.0))
        for verdict in window.verdicts
    ]
    count, tokens = len(costs_ms), window.tokens
    value_ms = sum(costs_ms) / tokens
    off = sum(
        (cost_ms - value_ms * verdict.tokens) ** 2
        for cost_ms, verdict in zip(costs_ms, window.verdicts, strict=True)
    )
    usual = (_USUAL_SPREAD * value_ms * tokens / count) ** 2
    spread = (_USUAL_VERDICTS * usual + off) / (_USUAL_VERDICTS + count - 1)
    return Score(value_ms, math.sqrt(count * spread) / tokens)


def _check(window: Window, weight: float) -> None:
    if not window.verdicts:
        raise UsageError("the window holds no verdict; wait for one before it is scored")
    for verdict in window.verdicts:
        _check_verdict(verdict)
    if not window.tokens:
        raise UsageError("nothing was confirmed in the window; wait for a token before it is scored")
    if not window.elapsed_s:
        raise UsageError("the window took no time at all; its clock stands still")
    if weight and not window.cloud_s:
        raise UsageError("the target took no time at all in the window; score it by latency alone")


def _check_verdict(verdict: Verdicted) -> None:
    if verdict.tokens < 0:
        raise UsageError(f"tokens: a verdict confirms at least 0, not {verdict.tokens}")
    for name in ("elapsed_s", "cloud_s", "energy_j"):
        value = getattr(verdict, name)
        if value is not None and not 0.0 <= value < math.inf:
            raise UsageError(f"{name}: must be at least 0 and finite, not {value}; leave the window out")
