"""What a pick costs over a full vocabulary: median milliseconds, and multiples of two plain numpy baselines.

Run: python benchmarks/coupling.py
"""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipesd.coupling import pick, propose
from pipesd.values import Sampling

VOCABULARY = 151_936
REPEATS = 60

SETTINGS: Mapping[str, Sampling] = {
    "greedy": Sampling(),
    "T=0.8 top-p 0.95": Sampling(temperature=0.8, top_p=0.95),
    "T=1 unfiltered": Sampling(temperature=1.0),
    "T=1 top-k 40": Sampling(temperature=1.0, top_k=40),
}


def peaked_logits() -> NDArray[np.float32]:
    """Shaped like a language model's: a wide bulk and a few dozen tokens that stand out."""
    random = np.random.default_rng(1)
    logits = random.normal(0.0, 2.0, VOCABULARY)
    logits[random.choice(VOCABULARY, 40, replace=False)] += 12.0
    return logits.astype(np.float32)


def flat_logits() -> NDArray[np.float32]:
    """The worst case: nearly every token belongs to the nucleus."""
    return np.random.default_rng(2).normal(0.0, 0.5, VOCABULARY).astype(np.float32)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    weights: NDArray[np.float32] = np.exp(logits - logits.max())
    weights /= weights.sum()
    return weights


def median_ms(work: Callable[[int], object]) -> float:
    """Median over ``REPEATS`` calls, each with another position."""
    took: list[float] = []
    for position in range(REPEATS):
        start = time.perf_counter()
        work(position)
        took.append(time.perf_counter() - start)
    return statistics.median(took) * 1e3


def report(title: str, logits: NDArray[np.float32]) -> None:
    argmax_ms = median_ms(lambda _: np.argmax(logits))
    softmax_ms = median_ms(lambda _: softmax(logits))
    print(f"\n{VOCABULARY} logits, {title}")
    print(f"{'':26}{'ms':>8}{'x argmax':>10}{'x softmax':>11}")

    def line(name: str, took_ms: float) -> None:
        print(f"{name:26}{took_ms:8.3f}{took_ms / argmax_ms:10.1f}{took_ms / softmax_ms:11.2f}")

    line("argmax, float32", argmax_ms)
    line("softmax, float32", softmax_ms)
    for name, sampling in SETTINGS.items():
        for verb in (pick, propose):
            line(f"{verb.__name__:8}{name}", median_ms(partial(verb, logits, sampling, 1)))


if __name__ == "__main__":
    report("peaked, like a model's", peaked_logits())
    report("flat, the worst case", flat_logits())
