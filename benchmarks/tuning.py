"""What tuning thresholds costs: CPU time of one proposal, and the memory of who tunes and of who does not.

A proposal is ``Desk.advise`` with a full record and 400 candidates, after 16 trials and after as many as the
tuner keeps; prints the median and the worst after a warm-up, and what the first costs, which loads torch.
Memory is that of the process that tunes, after some proposals, and of an edge that plays recordings and does
not tune. Fails if a median or the edge's memory is over its limit. Needs the extras ``tuner`` and ``llama``
(psutil). Run it as ``python benchmarks/tuning.py``; nothing else should run meanwhile.
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from time import process_time

import msgspec
import numpy as np
import psutil

from pipesd.launch import INTERRUPTED
from pipesd.planner.trigger import Thresholds
from pipesd.tuner.base import Score, Space, Trial
from pipesd.tuner.guided import PER_AXIS, TRIALS_MAX, GuidedTuner
from pipesd.tuning import RECORD_DRAFTS, TRIALS, Desk, Proposal
from pipesd.tuning_worker import LENGTH_BYTES, Order, pack
from pipesd.values import TrialReport

RUNS = 30
WARM_UP = 3
LIMIT_MS = 50.0
LIMIT_MB = 150.0

NOISE = 0.2
J_MS = 60.0
SPACE = Space()
GRID = SPACE.grid(PER_AXIS)
CONDITIONS_MS = (40.0, 1.0, 30.0, 2.0, 0.5, 25.0, 1.0)
"""The fields of ``Conditions``."""

EDGE = """
import sys
import pipesd.edge
from pipesd.config import EdgeConfig
from pipesd.edge_rules import edge_rules
from pipesd.engines.choose import open_draft
from pipesd.session.edge_side import EdgeSide
config = EdgeConfig(engine="replay", tuner="off")
engine = open_draft(config)
side = EdgeSide(edge_rules(config, engine.context_tokens), engine.tokenizer.vocabulary)
print("ready", flush=True)
sys.stdin.read()
"""


def some_report(trial: int, drafts: int) -> TrialReport:
    """Drafts that are mostly sure, and right as often as they think; verdicts as they come of a window."""
    luck = np.random.default_rng(trial)
    confidences = (1.0 - luck.beta(0.5, 3.0, drafts)).tolist()
    return TrialReport(
        trial=trial,
        verdicts=tuple((4, float(J_MS * luck.uniform(2.0, 6.0)), 30.0, 0.0) for _ in range(5)),
        drafts=tuple((sure, sure, bool(luck.random() < sure)) for sure in confidences),
        astray=tuple(luck.random(drafts // 8).tolist()),
        conditions_ms=CONDITIONS_MS,
    )


def some_desk(told: int) -> Desk:
    """One whose record is full, and whose tuner was told so many trials."""
    tuner = GuidedTuner(SPACE)
    if not tuner.learns:
        sys.exit("tuning.py: torch is missing; install the extra pipesd[tuner]")
    luck = np.random.default_rng(told)
    for number, place in enumerate(luck.choice(len(GRID), told, replace=False)):
        score = Score(J_MS * float(1.0 + NOISE * luck.uniform(-1.0, 1.0)), NOISE * J_MS)
        tuner.tell(Trial(number, GRID[place]), score)
    desk = Desk(tuner, SPACE, "balanced", Thresholds())
    full = some_report(0, RECORD_DRAFTS)
    desk.learn(full.drafts, full.astray, full.conditions_ms)
    return desk


def milliseconds(work: Callable[[], object]) -> float:
    """CPU time of one go, of all threads of this process."""
    begun = process_time()
    work()
    return 1e3 * (process_time() - begun)


def proposal_ms(told: int) -> float:
    """CPU time of one report in, one proposal out."""
    return milliseconds(partial(some_desk(told).advise, some_report(0, 30)))


def edge_mb() -> float:
    """Of an edge that could connect, and neither has nor tunes."""
    script = [sys.executable, "-c", EDGE]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as edge:
        assert edge.stdout is not None
        assert edge.stdout.readline(), "the edge has failed"
        return resident_mb(edge)


def tuner_mb() -> float:
    """Of the process that tunes for one edge, once it learns from a trial."""
    module = [sys.executable, "-m", "pipesd.tuning_worker"]
    with subprocess.Popen(module, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        trial, tried = 0, False
        for number in range(TRIALS + 2):
            assert number <= TRIALS or tried, "the closed form is all that was tried"
            report = some_report(trial, 30 if number else RECORD_DRAFTS)
            worker.stdin.write(pack(Order(0, "balanced", report)))
            worker.stdin.flush()
            length = int.from_bytes(worker.stdout.read(LENGTH_BYTES), "big")
            proposal = msgspec.msgpack.decode(worker.stdout.read(length), type=Proposal)
            trial, tried = proposal.trial, tried or proposal.thresholds is not None
        return resident_mb(worker)


def resident_mb(process: "subprocess.Popen[bytes]") -> float:
    """How much of its memory is there now, in units of 2**20 bytes."""
    return float(psutil.Process(process.pid).memory_info().rss) / 2**20


def main() -> None:
    """Measure, print, and fail if something is over its limit."""
    load_ms = milliseconds(partial(some_desk, 0))
    first_ms = proposal_ms(1)
    medians = []
    print(f"{RUNS} proposals each, {RECORD_DRAFTS} drafts, limit {LIMIT_MS:g} ms of CPU for the median")
    for told in (TRIALS, TRIALS_MAX):
        runs = [proposal_ms(told) for _ in range(WARM_UP + RUNS)][WARM_UP:]
        medians.append(median(runs))
        print(f"after {told} trials   {medians[-1]:7.1f} ms, worst {max(runs):.1f} ms")
    print(f"once at first     {load_ms:7.0f} ms to load torch, {first_ms:.0f} ms for the first proposal")
    edge, tuner = edge_mb(), tuner_mb()
    print(f"resident memory   {edge:7.0f} MB of an edge that does not tune, limit {LIMIT_MB:g} MB")
    print(f"                  {tuner:7.0f} MB of the process that tunes")
    sys.exit(0 if max(medians) <= LIMIT_MS and edge <= LIMIT_MB else 1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("tuning.py: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
