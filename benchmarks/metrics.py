"""What the figures for Prometheus cost: CPU time per verdict of the observer, and of one scrape.

A cloud's side serves sessions that send five drafts at a time, of which the target agrees with three; the
steps are recorded, and then shown to the observer alone. Run it as ``python benchmarks/metrics.py``.
"""

import statistics
import time
from collections.abc import Sequence

from prometheus_client.exposition import generate_latest

from pipesd.cloud import cloud_rules, welcome_of
from pipesd.config import CloudConfig
from pipesd.engines.energy import declared
from pipesd.engines.scripted import ScriptedTarget
from pipesd.metrics import CloudMetrics
from pipesd.observe import Recorder, Step
from pipesd.session.cloud_side import CloudSide
from pipesd.session.commands import RunPass, SendToPeer
from pipesd.session.events import CloudEvent, PassDone, PeerConnected, PeerFrame
from pipesd.values import Sampling
from pipesd.wire import frames

ROUNDS = 200
RUNS = 5
PASS_S = 0.03
CONFIG = CloudConfig(engine="scripted", power_busy_watts=60.0, power_idle_watts=20.0, kv_sequences=64)
DRAFTS, PICKS = (65, 66, 67, 68, 69), (65, 66, 67, 70, 70, 70)


class Recording:
    """A cloud's side with sessions that are written to, all by turns."""

    def __init__(self, sessions: int) -> None:
        engine = ScriptedTarget(context_tokens=100_000)
        vocabulary = engine.tokenizer.vocabulary
        self._side = CloudSide(cloud_rules(CONFIG), welcome_of(CONFIG, engine), vocabulary)
        self._recorder, self._now = Recorder(), 0.0
        self._pass: RunPass | None = None
        for peer in range(sessions):
            self._tell(PeerConnected(peer))
            self._hears(peer, frames.Hello(frames.PROTOCOL_VERSION, "benchmark", len(vocabulary)))
            self._hears(peer, frames.Open(0))
            self._hears(peer, frames.Prompt(0, 1, 0, (65,), Sampling(), 0, 90_000))
        self._settle()
        for number in range(ROUNDS):
            for peer in range(sessions):
                base = 2 + 4 * number
                self._hears(peer, frames.Draft(0, 2 + number, base, DRAFTS, base + len(DRAFTS)))
            self._settle()

    @property
    def steps(self) -> list[Step]:
        return self._recorder.steps

    def _hears(self, peer: int, frame: frames.EdgeFrame) -> None:
        self._tell(PeerFrame(peer, frame))

    def _settle(self) -> None:
        """Let passes end until none begins."""
        while self._pass is not None:
            done, self._pass = self._pass, None
            self._now += PASS_S
            self._tell(PassDone(tuple(PICKS[: part.picks] for part in done.slices)))

    def _tell(self, event: CloudEvent) -> None:
        commands = self._side.handle(event, self._now)
        self._recorder.observe(self._now, event, commands)
        self._pass = next((each for each in commands if isinstance(each, RunPass)), self._pass)


def verdicts_in(steps: Sequence[Step]) -> int:
    told = [each.frame for step in steps for each in step.commands if isinstance(each, SendToPeer)]
    return sum(isinstance(frame, frames.Verdict) for frame in told)


def measured(steps: Sequence[Step]) -> tuple[float, float]:
    """Seconds of all the steps, and of one scrape behind them."""
    metrics = CloudMetrics(declared(CONFIG), lambda: steps[-1].now)
    began = time.process_time()
    for step in steps:
        metrics.observe(step.now, step.event, step.commands)
    observed = time.process_time()
    generate_latest(metrics.registry)
    return observed - began, time.process_time() - observed


def main() -> None:
    print("sessions  verdicts  observing, us per verdict  one scrape, ms")
    for sessions in (1, 8, 32):
        steps = Recording(sessions).steps
        verdicts = verdicts_in(steps)
        runs = [measured(steps) for _ in range(RUNS)]
        observing_us = 1e6 * statistics.median(observing for observing, _ in runs) / verdicts
        scrape_ms = 1e3 * statistics.median(scrape for _, scrape in runs)
        print(f"{sessions:8}  {verdicts:8}  {observing_us:25.1f}  {scrape_ms:14.2f}")


if __name__ == "__main__":
    main()
