"""Exact numerics, held down: logits do not depend, in a single bit, on what shares a call.

A llama.cpp that breaks this fails here, and must not be let in: pipesd's promise rests on it.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pipesd.engines.caches import Cell
from pipesd.engines.llama import EXACT_TOKENS, Context, Model

pytestmark = pytest.mark.models

OUTPUT = 14
CASES = [
    *(("smollm2-135m", length, 512) for length in (20, 250, 505, 600)),
    *(("smollm2-135m", length, 64) for length in (20, 130, 250, 505, 600)),
    *(("qwen2.5-coder-0.5b", length, 512) for length in (20, 250, 505)),
    *(("qwen2.5-coder-0.5b", length, 64) for length in (100, 505)),
    ("qwen2.5-coder-1.5b", 250, 512),
    *(("qwen2.5-coder-1.5b", length, 64) for length in (250, 600)),
]
"""Prompt lengths, around which llama.cpp changes its ways (its cache grows by 256), and sizes of chunks."""

Logits = NDArray[np.float32]
Call = Sequence[tuple[int, int, int]]
"""(slot, first position, tokens) of each sequence in one call."""


class Bench:
    """Three sequences of one text, and the logits of it token by token."""

    def __init__(self, model: Model, length: int, chunk: int, threads: int = 2) -> None:
        self.length, self.chunk = length, chunk
        self.context = Context(model, context_tokens=1_024, slots=3, chunk_tokens=chunk, threads=threads)
        self.text = model.tokenizer.encode("Pack my box with five dozen jugs. How vexingly quick! " * 60)
        self.read(0, length)
        self.alone = [self.call((0, length + at, 1))[0] for at in range(OUTPUT)]

    def read(self, slot: int, length: int) -> None:
        """Evaluate the first tokens as a prompt."""
        self.context.cut(slot, 0)
        for start in range(0, length, self.chunk):
            self.evaluate((slot, start, min(self.chunk, length - start)))

    def evaluate(self, *call: tuple[int, int, int], wrong: int = 0, wanted: int = 0) -> int:
        cells = [
            Cell(self.text[position] + wrong, position, slot, wanted=False)
            for slot, start, count in call
            for position in range(start, start + count)
        ]
        cells = [
            Cell(cell.token, cell.position, cell.slot, wanted=number >= len(cells) - wanted)
            for number, cell in enumerate(cells)
        ]
        self.context.evaluate(cells)
        return len(cells)

    def call(self, *call: tuple[int, int, int], wanted: int | None = None) -> list[Logits]:
        """The logits behind the last ``wanted`` tokens of a call."""
        total = sum(count for _, _, count in call)
        wanted = total if wanted is None else wanted
        self.evaluate(*call, wanted=wanted)
        return [self.context.logits(number).copy() for number in range(total - wanted, total)]

    def differing(self, found: list[Logits], start: int = 0) -> list[int]:
        """Which of the logits found for output ``start`` and on are not those found token by token."""
        pairs = zip(found, self.alone[start:], strict=False)
        return [at for at, (ours, alone) in enumerate(pairs) if ours.tobytes() != alone.tobytes()]


@pytest.fixture(scope="module", params=CASES, ids=str)
def bench(request: pytest.FixtureRequest, load_model: Callable[[str], Model]) -> Bench:
    name, length, chunk = request.param
    return Bench(load_model(name), length, chunk)


@pytest.mark.parametrize("size", range(2, EXACT_TOKENS + 1))
def test_a_call_of_any_size_is_as_exact_as_single_tokens(bench: Bench, size: int) -> None:
    bench.context.cut(0, bench.length)
    found: list[Logits] = []
    while len(found) + size <= OUTPUT:
        found += bench.call((0, bench.length + len(found), size))
    assert len(found) >= 10
    assert bench.differing(found) == []


def test_sequences_of_different_lengths_may_share_a_call(bench: Bench) -> None:
    bench.read(1, bench.length)
    bench.read(2, 20)
    bench.context.cut(0, bench.length)
    for start, counts in ((0, (3, 2, 2)), (3, (1, 5, 1)), (4, (4, 1, 1))):
        at = bench.length + start
        call = ((2, 20, counts[2]), (1, bench.length, counts[1]), (0, at, counts[0]))
        found = bench.call(*call)
        assert bench.differing(found[-counts[0] :], start) == []
        assert bench.differing(found[counts[2] : -counts[0]]) == []
        bench.context.cut(1, bench.length)
        bench.context.cut(2, 20)


def test_wrong_drafts_leave_no_trace(bench: Bench) -> None:
    for kept in (0, 3, 6):
        bench.context.cut(0, bench.length)
        if kept:
            bench.evaluate((0, bench.length, kept))
        bench.evaluate((0, bench.length + kept, EXACT_TOKENS), wrong=1)
        bench.context.cut(0, bench.length + kept)
        found = bench.call((0, bench.length + kept, 5))
        assert bench.differing(found, kept) == []


def test_a_lost_cache_is_rebuilt_to_the_bit(bench: Bench) -> None:
    bench.read(1, bench.length)
    bench.evaluate((1, bench.length, EXACT_TOKENS))
    found = bench.call((1, bench.length + EXACT_TOKENS, 4))
    assert bench.differing(found, EXACT_TOKENS) == []


def test_a_copy_of_whole_chunks_is_as_exact_as_reading_them(bench: Bench) -> None:
    """The source then goes on, and so does the copy, in one call."""
    bench.context.cut(0, bench.length)
    shared = (bench.length - 1) // bench.chunk * bench.chunk
    bench.read(1, 20)
    bench.context.copy(0, 1, shared)
    bench.evaluate((1, shared, bench.length - shared))
    found = bench.call((0, bench.length, 3), (1, bench.length, 4))
    assert bench.differing(found[:3]) == []
    assert bench.differing(found[3:]) == []


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2.5-coder-0.5b"])
def test_the_number_of_threads_changes_nothing(
    load_model: Callable[[str], Model], name: str, threads: int
) -> None:
    bench, other = Bench(load_model(name), 300, 64), Bench(load_model(name), 300, 64, threads)
    assert bench.differing(other.alone) == []


def test_this_check_sees_a_difference_where_there_is_one(load_model: Callable[[str], Model]) -> None:
    """From 8 tokens on llama.cpp multiplies with other kernels: the reason for the limit of 7."""
    bench = Bench(load_model("qwen2.5-coder-0.5b"), 20, 64)
    bench.context.cut(0, bench.length)
    found = bench.call((0, bench.length, EXACT_TOKENS + 1), wanted=EXACT_TOKENS)
    assert bench.differing(found, 1) != []
