"""The shared noise, and the picks that both sides make with it.

Edge and cloud draw the same noise for a token at a position, so the draft model tends to pick what the
target model picks, though neither sees the other's probabilities (Daliri, Musco, Suresh, arXiv 2408.07978).
The law of this file: the noise depends on (seed, position, id) alone and has the same bits on every IEEE
platform, and a pick is an exact sample of its own model's distribution.
"""

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipesd.errors import EngineError
from pipesd.values import Proposal, Sampling

Logits: TypeAlias = NDArray[np.floating[Any]]
"""Shape (vocabulary,); -inf is a token that is never picked."""

_PLAIN = Sampling(temperature=1.0)

# The increment and finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014), with Stafford's constants.
_MASK = 2**64 - 1
_STEP = 0x9E3779B97F4A7C15
_STIR_1 = 0xBF58476D1CE4E5B9
_STIR_2 = 0x94D049BB133111EB

_BLOCK_IDS = 16_384
"""Ids hashed at a time: small enough that the intermediate results stay in the processor's cache."""

_LN_2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
_SERIES = tuple(1.0 / odd for odd in range(21, 1, -2))
"""1/21 … 1/3 of atanh(s)/s = 1 + s²/3 + s⁴/5 + …; |s| < 0.172 here, so the rest is below 1e-17."""

_ROUNDING = 1.0 + 1e-12
"""More than the rounding of ``_exponential`` and one division can amount to."""

_HEADS = (1e-2, 1e-4, 0.0)
"""Top-p sorts the tokens at least this likely, relative to the likeliest; mostly the first head is enough."""


def noise(seed: int, position: int, ids: NDArray[np.integer[Any]] | int) -> NDArray[np.float64]:
    """Returns the noise of ``ids`` at ``position``: independent Exp(1) variates, one per id, all above 0.

    With E the value returned, G = -ln E is the Gumbel noise of the paper (arXiv 2408.07978), and
    argmax(ln p + G) = argmin(E / p): a race that each token wins with probability p. A plain number n in
    place of ``ids`` stands for 0 … n-1. Seed and position count modulo 2**64. The bits are the same on every
    IEEE platform: 64-bit integers, then single additions, multiplications, divisions; no library's logarithm.
    """
    if isinstance(ids, int):
        ids = np.arange(ids)
    return _exponential(_uniform(seed, position, ids))


def distribution(logits: Logits, sampling: Sampling) -> NDArray[np.float64]:
    """Returns the probabilities, shape (vocabulary,), that picks with ``sampling`` follow.

    In this order: temperature, top-k, top-p, min-p, each on the renormalised result of the one before. Top-k
    stays at exactly k: among equal logits at the border the lowest ids stay. So it is with top-p among equal
    probabilities. Min-p keeps or drops equals together. At temperature 0: the plain softmax, without filters;
    the confidence of a greedy pick is read from it. Raises ``EngineError`` on NaN, +inf, or nothing but -inf.
    """
    ids, chances = _candidates(logits, sampling)
    spread = np.zeros(logits.size, dtype=np.float64)
    spread[ids] = chances
    return spread


def pick(logits: Logits, sampling: Sampling, seed: int, position: int) -> int:
    """Returns the id for ``position``: the likeliest (lowest among equals) if greedy, else by shared noise.

    Over seeds or positions the picks are independent samples of ``distribution``. Raises as it does.
    """
    if sampling.greedy:
        return _likeliest(logits)
    ids, chances = _candidates(logits, sampling)
    return int(ids[_winner(ids, chances, seed, position)])


def propose(logits: Logits, sampling: Sampling, seed: int, position: int) -> Proposal:
    """Returns what ``pick`` returns, and its entry of ``distribution`` (up to rounding). Raises alike."""
    if sampling.greedy:
        token = _likeliest(logits)
        return Proposal(token, 1.0 / float(_weights(logits, float(logits[token]), 1.0).sum()))
    ids, chances = _candidates(logits, sampling)
    winner = _winner(ids, chances, seed, position)
    return Proposal(int(ids[winner]), float(chances[winner]))


# --- the noise ---


def _uniform(seed: int, position: int, ids: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Odd multiples of 2**-53 between 0 and 1; so 1 - v is exact as well."""
    key = np.uint64(_stirred(_stirred(seed + _STEP) + (position + 1) * _STEP))
    uniform = np.empty(ids.size, dtype=np.float64)
    for start in range(0, ids.size, _BLOCK_IDS):
        block = slice(start, start + _BLOCK_IDS)
        uniform[block] = _hashes(key, ids[block].astype(np.uint64)) >> np.uint64(12)
        uniform[block] += 0.5
        uniform[block] *= 2.0**-52
    return uniform


def _stirred(number: int) -> int:
    """The finaliser of splitmix64, for one number of any size."""
    number &= _MASK
    number = ((number ^ (number >> 30)) * _STIR_1) & _MASK
    number = ((number ^ (number >> 27)) * _STIR_2) & _MASK
    return number ^ (number >> 31)


def _hashes(key: np.uint64, ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """``_stirred(key + id * _STEP)`` of every id; arrays of uint64 wrap around silently."""
    hashes = ids * np.uint64(_STEP)
    hashes += key
    hashes ^= hashes >> np.uint64(30)
    hashes *= np.uint64(_STIR_1)
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(_STIR_2)
    hashes ^= hashes >> np.uint64(31)
    return hashes


def _exponential(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """-ln(1 - v), accurate for the smallest v too.

    With 1 - v = m / 2**h and m in [√½, √2): -ln m = 2·atanh(s), s = (1-m)/(1+m). Where h is 0, 1 - m is
    exactly v; elsewhere h·ln 2 is the larger part, so little cancels. Every operation rounds on its own:
    numpy cannot fuse a multiplication in one call with an addition in the next.
    """
    halves: tuple[NDArray[np.float64], NDArray[np.int32]] = np.frexp(1.0 - uniform)
    mantissa = halves[0]
    low = mantissa < _SQRT_HALF
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    halvings = (low - halves[1]).astype(np.float64)
    ratio = (1.0 - mantissa) / (1.0 + mantissa)
    square = ratio * ratio
    series = np.zeros_like(square)
    for coefficient in _SERIES:
        series = (series + coefficient) * square
    return halvings * _LN_2 + 2.0 * (ratio + ratio * series)


def _winner(ids: NDArray[np.intp], chances: NDArray[np.float64], seed: int, position: int) -> int:
    """The index into ``ids`` where noise / chance is smallest, the first among equals.

    -ln(1 - v) is at least v, so v / chance bounds the race time from below. Only tokens whose bound is not
    above a time already run can win, and the logarithm is computed for those alone.
    """
    bounds = _uniform(seed, position, ids)
    with np.errstate(over="ignore"):  # a token of almost no chance may take forever
        bounds /= chances
    ahead = np.argmin(bounds, keepdims=True)
    limit = noise(seed, position, ids[ahead]) / chances[ahead]
    close = np.flatnonzero(bounds <= limit * _ROUNDING)
    return int(close[np.argmin(noise(seed, position, ids[close]) / chances[close])])


# --- the distribution ---


def _likeliest(logits: Logits) -> int:
    """The lowest id of the highest logit. One check is enough: numpy's argmax points at any NaN there is."""
    token = int(np.argmax(logits)) if logits.size else -1
    if token < 0 or not math.isfinite(logits[token]):
        raise EngineError(
            "no token can be picked, for the model's logits are NaN, +inf or all -inf; check the model file"
        )
    return token


def _candidates(logits: Logits, sampling: Sampling) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The ids that may be picked, ascending, and their probabilities, all above 0."""
    if sampling.greedy:
        sampling = _PLAIN
    highest = float(logits[_likeliest(logits)])
    ids = np.arange(logits.size)
    if 0 < sampling.top_k < logits.size:
        ids = np.flatnonzero(_top_k(logits, sampling.top_k))
        logits = logits[ids]
    weights = _weights(logits, highest, sampling.temperature)
    # The largest weight is 1 before and after the filters above it, so min-p needs no renormalising.
    kept = weights >= sampling.min_p if sampling.min_p > 0.0 else weights > 0.0
    if sampling.top_p < 1.0:
        kept &= _top_p(weights, sampling.top_p)
    if not kept.all():
        ids, weights = ids[kept], weights[kept]
    weights /= weights.sum()
    return ids, weights


def _weights(logits: Logits, highest: float, temperature: float) -> NDArray[np.float64]:
    """Probabilities in units of the likeliest one. In place: fresh memory costs more than arithmetic."""
    gaps = logits.astype(np.float64)
    with np.errstate(over="ignore"):  # next to temperature 0 a gap may become -inf: no chance, which is right
        gaps -= highest
        gaps /= temperature
    return np.exp(gaps, out=gaps)


def _top_k(logits: Logits, count: int) -> NDArray[np.bool_]:
    place = logits.size - count
    return _largest(logits, np.partition(logits, place)[place], count)


def _top_p(weights: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Sorts no more of the head than it must; where it ends does not depend on how much was sorted."""
    enough = share * weights.sum()
    for floor in _HEADS:
        head = np.sort(weights[weights >= floor])[::-1]
        count = int(np.searchsorted(np.cumsum(head), enough)) + 1
        if count <= head.size:
            return _largest(weights, head[count - 1], count)
    return np.ones(weights.size, dtype=np.bool_)  # the sums' last bits differ, and ``share`` is nearly 1


def _largest(values: Logits, border: np.floating[Any], count: int) -> NDArray[np.bool_]:
    """Which of ``values`` are the ``count`` largest, the last being ``border``; of equals the first."""
    kept = values > border
    equals = np.flatnonzero(values == border)
    kept[equals[: count - np.count_nonzero(kept)]] = True
    return kept
