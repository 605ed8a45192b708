"""What torch takes beside llama.cpp with one model file, what exact numerics cost, and which texts agree.

Run: python benchmarks/torch_engine.py [MODEL [THREADS]]
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from pipesd.engines.alone import answer_alone
from pipesd.engines.base import TargetEngine
from pipesd.engines.caches import Room
from pipesd.engines.choose import cores
from pipesd.engines.hf import Dtype, Model
from pipesd.engines.hf_pair import torch_target
from pipesd.engines.llama import Model as LlamaModel
from pipesd.engines.llama_pair import LlamaTarget
from pipesd.engines.store import Store
from pipesd.values import Sampling, Slice

ROUNDS = 15
CONTEXT_TOKENS = 128
SESSIONS = 4
TEXTS = (
    "Once upon a time there was a little",
    "The capital of France is",
    "def fibonacci(n):\n",
    "It was the best of times, it was the worst of times.",
)
WAYS: tuple[tuple[str, Dtype], ...] = (("exact", "float32"), ("fast", "float32"), ("exact", "bfloat16"))
Pass = Sequence[tuple[int, int]]
"""(session, tokens) of each slice."""

PASSES: dict[str, Pass] = {
    "a token": [(0, 1)],
    "a pass of 8": [(0, 8)],
    f"{SESSIONS} sessions of 8": [(session, 8) for session in range(SESSIONS)],
}


class Bench:
    """A target that has read the same prompt for each session."""

    def __init__(self, target: TargetEngine) -> None:
        self.target = target
        self.text = target.tokenizer.encode("def fibonacci(n: int) -> int:\n" * 40)[: CONTEXT_TOKENS + 8]
        for session in range(SESSIONS):
            for start in range(0, CONTEXT_TOKENS, 64):
                chunk = tuple(self.text[start : start + 64])
                target.forward([Slice(session, start, chunk, 0, True, Sampling(), 0)])

    def pass_ms(self, parts: Pass) -> float:
        """The quickest of some passes behind the prompt, which others on the machine disturbed least."""
        tokens = tuple(self.text[CONTEXT_TOKENS:])
        slices = [
            Slice(session, CONTEXT_TOKENS, tokens[:count], count, False, Sampling(), 0)
            for session, count in parts
        ]
        took = []
        for _ in range(ROUNDS):
            begun = perf_counter()
            self.target.forward(slices)
            took.append(perf_counter() - begun)
        return 1e3 * min(took)

    def texts(self) -> list[list[int]]:
        return [self.text_of(self.target.tokenizer.encode(text)) for text in TEXTS]

    def text_of(self, prompt: Sequence[int]) -> list[int]:
        return answer_alone(self.target, prompt, sampling=Sampling(), seed=0, tokens_max=64)[0]


def main(name: str, threads: int) -> None:
    path = Store.of_user(os.environ).path_of(name)
    room = Room(context_tokens=512, chunk_tokens=64, slots=SESSIONS, threads=threads)
    llama = Bench(LlamaTarget(LlamaModel(path, "exact"), room))
    base_ms = {what: llama.pass_ms(parts) for what, parts in PASSES.items()}
    print(f"{name}, {threads} threads, the quickest of {ROUNDS} each, behind {CONTEXT_TOKENS} tokens")
    print("llama.cpp, exact: " + ", ".join(f"{what} {ms:.1f} ms" for what, ms in base_ms.items()))
    said: dict[str, list[list[int]]] = {"llama.cpp": llama.texts()}
    for numerics, dtype in WAYS:
        bench = torch_bench(path, numerics == "exact", dtype, room)
        kind = f"torch {dtype}, {bench.target.identity.numerics}"
        found = {what: bench.pass_ms(parts) for what, parts in PASSES.items()}
        figures = (f"{what} {ms:.1f} ms ({ms / base_ms[what]:.2f} times)" for what, ms in found.items())
        print(f"{kind}: {', '.join(figures)}")
        said[kind] = bench.texts()
    reference = "torch float32, exact" if "torch float32, exact" in said else "torch float32, fast"
    for kind, texts in said.items():
        if kind != reference:
            print(f"{kind}, against {reference}: {', '.join(map(agreement, said[reference], texts))}")


def torch_bench(path: Path, is_exact: bool, dtype: Dtype, room: Room) -> Bench:
    model = Model(path, "exact" if is_exact else "fast", device="cpu", dtype=dtype, threads=room.threads)
    return Bench(torch_target(model, room))


def agreement(text: Sequence[int], other: Sequence[int]) -> str:
    """How many tokens of two texts agree until one differs."""
    pairs = zip(text, other, strict=False)
    same = next((at for at, (ours, theirs) in enumerate(pairs) if ours != theirs), None)
    return f"all {len(text)} tokens" if same is None and len(text) == len(other) else f"the first {same}"


if __name__ == "__main__":
    arguments = [*sys.argv[1:], *("smollm2-135m", str(cores()))[len(sys.argv) - 1 :]]
    main(arguments[0], int(arguments[1]))
