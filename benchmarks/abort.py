"""What aborting a draft step saves: the real draft model, stopped a fifth into a step. Prints medians.

Run: python benchmarks/abort.py [MODEL [THREADS]]
"""

import os
import sys
from statistics import median
from threading import Timer
from time import perf_counter

from pipesd.engines.caches import Room
from pipesd.engines.choose import DRAFT_CHUNK_TOKENS, cores
from pipesd.engines.llama import Model
from pipesd.engines.llama_pair import LlamaDraft
from pipesd.engines.manifest import default_model
from pipesd.engines.store import Store
from pipesd.errors import InterruptedStepError
from pipesd.values import Proposal, Sampling

ROUNDS = 40
SHARE = 0.2


class Bench:
    """A draft model behind a prompt, about to take the same step again and again."""

    def __init__(self, name: str, threads: int) -> None:
        model = Model(Store.of_user(os.environ).path_of(name), "exact")
        room = Room(context_tokens=1_024, chunk_tokens=DRAFT_CHUNK_TOKENS, slots=1, threads=threads)
        self.draft = LlamaDraft(model, room)
        self.prompt = model.tokenizer.encode("def fibonacci(n: int) -> int:\n" * 8)
        self.draft.extend(0, self.prompt, prompt=True)
        self.token = self.guess().token

    def guess(self) -> Proposal:
        return self.draft.propose(0, Sampling(), 0)

    def step_s(self) -> float:
        """Seconds of one step from the prompt on."""
        self.draft.truncate(0, len(self.prompt))
        begun = perf_counter()
        self.draft.extend(0, [self.token])
        return perf_counter() - begun

    def answer_s(self, after_s: float) -> float | None:
        """Seconds from the interrupt to the end of the step; None if it was over before."""
        told = 0.0

        def stop() -> None:
            nonlocal told
            told = perf_counter()
            self.draft.interrupt()

        timer = Timer(after_s, stop)
        timer.start()
        try:
            self.step_s()
        except InterruptedStepError:
            return perf_counter() - told
        finally:
            timer.join()
        return None


def main(name: str, threads: int) -> None:
    bench = Bench(name, threads)
    step_s = median(bench.step_s() for _ in range(ROUNDS))
    expected, right, answers_s = bench.guess(), 0, []
    for _ in range(ROUNDS):
        answers_s.append(bench.answer_s(SHARE * step_s))
        bench.step_s()
        right += bench.guess() == expected
    stopped_s = [each for each in answers_s if each is not None]
    print(f"{name}, {threads} threads: a step takes {1e3 * step_s:.1f} ms (medians of {ROUNDS})")
    if stopped_s:
        print(f"stopped {SHARE:.0%} into it, it ends {1e3 * median(stopped_s):.1f} ms later")
    print(f"{len(stopped_s)} of {ROUNDS} were stopped; the next step was right {right} times")


if __name__ == "__main__":
    arguments = [*sys.argv[1:], *(default_model("draft").name, str(cores()))[len(sys.argv) - 1 :]]
    main(arguments[0], int(arguments[1]))
