"""The figures of many edges on one cloud, from the raw record of what they got."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from pipesd.lab.load import Arrivals, Asked, Load, LoadRecord, System
from pipesd.lab.metrics import BUSY_W
from pipesd.lab.run import BASIS

IDLE_W = 60.0
"""What the target's machine draws while it waits: a large accelerator whose model is loaded, assumed."""


@dataclass(frozen=True, slots=True)
class Power:
    """What the target's machine draws, in watts."""

    busy_w: float = BUSY_W
    idle_w: float = IDLE_W

    def energy_j(self, busy_s: float, span_s: float) -> float:
        """Of so long a time, of which it was at work for ``busy_s``."""
        return self.busy_w * busy_s + self.idle_w * max(0.0, span_s - busy_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFigures:
    """What so many edges got and what it took; a token is a confirmed one. None: there is no such figure."""

    system: System
    scenario: str
    arrivals: Arrivals
    edges: int
    prompts: int
    tokens: int
    tokens_per_s: float
    """All edges together, from the first prompt to the last token."""

    jain: float | None
    """Jain's index over the edges, of each one's time per token over what it is alone."""

    tpt_ms_p50: float
    """Time per token of a prompt, from its beginning to its last token."""

    tpt_ms_p95: float
    slowdown_p50: float | None
    """A prompt's time per token over what it is alone."""

    slowdown_p95: float | None
    ttft_ms_p50: float
    """From the moment a prompt is wanted to its first token."""

    ttft_ms_p95: float
    passes_per_100: float
    """Per 100 tokens, those that read prompts included."""

    tokens_per_pass: float
    """Evaluated by the target, prompts included."""

    cloud_ms_per_100: float
    """How long the target worked, per 100 tokens."""

    busy_share: float
    """Of the time, how much the target worked."""

    energy_j_per_100: float
    energy_is: str
    basis: str

    def as_json(self) -> dict[str, object]:
        """All by name, for machines."""
        return asdict(self)

    def line(self) -> str:
        """One line for a person."""
        fair = "" if self.jain is None else f", Jain's index {self.jain:.4f}"
        slower = "" if self.slowdown_p95 is None else f" ({self.slowdown_p95:.2f} times alone)"
        return (
            f"{self.edges} edge{'s' * (self.edges != 1)} at {self.scenario}, {self.system}: "
            f"{self.tokens_per_s:.1f} tokens per s{fair}, {self.tpt_ms_p50:.1f} ms per token, "
            f"95th percentile {self.tpt_ms_p95:.1f}{slower}, first after {self.ttft_ms_p95:.0f} ms in 95 %, "
            f"{self.passes_per_100:.1f} passes and {self.energy_j_per_100:.0f} J per 100 tokens, "
            f"the target busy {self.busy_share:.0%} of the time ({self.basis})"
        )


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness: 1 if all are equal, 1/n if one has everything."""
    return math.fsum(shares) ** 2 / (len(shares) * math.fsum(share * share for share in shares))


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that is not below ``share`` of all."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]


def took_s(asked: Asked) -> float:
    """From a prompt's beginning to its last token."""
    return asked.answer.moments[-1][0] - asked.answer.begun_s


def token_s(edge: Sequence[Asked]) -> float:
    """Time per token of all that an edge asked for."""
    return math.fsum(map(took_s, edge)) / sum(len(asked.answer.tokens) for asked in edge)


def load_figures(
    load: Load,
    record: LoadRecord,
    alone: Sequence[Sequence[Asked]] | None,
    power: Power = Power(),
    basis: str = BASIS,
) -> LoadFigures:
    """What a record comes to; ``alone`` is what each of its edges gets alone, in its own order."""
    asked = [each for edge in record.edges for each in edge]
    tokens = sum(len(each.answer.tokens) for each in asked)
    begun_s = min(each.wanted_s for each in asked)
    span_s = max(each.answer.moments[-1][0] for each in asked) - begun_s
    tpt_ms = [1e3 * took_s(each) / len(each.answer.tokens) for each in asked]
    ttft_ms = [1e3 * (each.answer.moments[0][0] - each.wanted_s) for each in asked]
    slower = None if alone is None else slowdowns(record.edges, alone)
    return LoadFigures(
        system=load.system,
        scenario=load.scenario.name,
        arrivals=load.arrivals,
        edges=load.edges,
        prompts=len(asked),
        tokens=tokens,
        tokens_per_s=tokens / span_s,
        jain=None if alone is None else jain(paces(record.edges, alone)),
        tpt_ms_p50=percentile(tpt_ms, 0.5),
        tpt_ms_p95=percentile(tpt_ms, 0.95),
        slowdown_p50=None if slower is None else percentile(slower, 0.5),
        slowdown_p95=None if slower is None else percentile(slower, 0.95),
        ttft_ms_p50=percentile(ttft_ms, 0.5),
        ttft_ms_p95=percentile(ttft_ms, 0.95),
        passes_per_100=100 * record.passes / tokens,
        tokens_per_pass=record.pass_tokens / record.passes,
        cloud_ms_per_100=1e3 * 100 * record.busy_s / tokens,
        busy_share=record.busy_s / span_s,
        energy_j_per_100=100 * power.energy_j(record.busy_s, span_s) / tokens,
        energy_is=f"modelled, {power.busy_w:g} W while the target works, {power.idle_w:g} W while it waits",
        basis=basis,
    )


def paces(edges: Sequence[Sequence[Asked]], alone: Sequence[Sequence[Asked]]) -> list[float]:
    """Of each edge, its time per token over what it is alone."""
    return [token_s(edge) / token_s(other) for edge, other in zip(edges, alone, strict=True)]


def slowdowns(edges: Sequence[Sequence[Asked]], alone: Sequence[Sequence[Asked]]) -> list[float]:
    """Of each prompt, its time over what it takes alone."""
    return [
        took_s(each) / took_s(same)
        for edge, other in zip(edges, alone, strict=True)
        for each, same in zip(edge, other, strict=True)
    ]
