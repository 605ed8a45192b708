"""What PipeSD's paper (arXiv 2605.13319) reports, and where it was read, to be set beside what is played.

The figures are of other models, machines and links, whose absolute values mean nothing here: compare ratios.
Most of them were read in accounts of the paper, not in the paper itself, and may carry their errors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T")

PAPER = "arXiv 2605.13319"

Grade = Literal["paper", "project", "account"]
"""Read in the paper or on an official page of it, in a file of a project that reproduces it, or in what
somebody else wrote about it."""


@dataclass(frozen=True, slots=True)
class Published(Generic[T]):
    """Some figures, and where they come from."""

    where: str
    """In the paper."""

    source: str
    """Where they were read."""

    grade: Grade
    values: T

    @property
    def citation(self) -> str:
        """All of that in words."""
        return f"{self.where} of {PAPER}, read in {self.source} ({self.grade})"


DATASETS: Mapping[str, str] = {"humaneval": "HumanEval", "maths": "GSM8K"}
"""What the paper played, by the trace that is nearest to it."""

TABLE_1: Published[Mapping[tuple[str, str], Mapping[str, float]]] = Published(
    where="Table 1",
    source="two independent summaries that agree; scenario 1 in documents of Nuyoahwjl/PipeSD as well",
    grade="account",
    values={
        ("s1", "humaneval"): {"vanilla": 194, "hsl": 155, "edgellm": 153, "pipesd": 129},
        ("s1", "maths"): {"vanilla": 193, "hsl": 174, "edgellm": 169, "pipesd": 145},
        ("s2", "humaneval"): {"vanilla": 225, "hsl": 184, "edgellm": 166, "pipesd": 134},
        ("s2", "maths"): {"vanilla": 318, "hsl": 223, "edgellm": 197, "pipesd": 168},
        ("s3", "humaneval"): {"vanilla": 306, "hsl": 244, "edgellm": 201, "pipesd": 152},
        ("s3", "maths"): {"vanilla": 402, "hsl": 296, "edgellm": 231, "pipesd": 186},
        ("s4", "humaneval"): {"vanilla": 160, "hsl": 132, "edgellm": 127, "pipesd": 108},
        ("s4", "maths"): {"vanilla": 234, "hsl": 165, "edgellm": 161, "pipesd": 139},
    },
)
"""TPT in milliseconds, by scenario and trace, then by policy."""

TABLE_6: Published[Mapping[str, float]] = Published(
    where="Table 6",
    source="a technical review (zzz0906.github.io, sections 5.5 to 5.9) and two summaries",
    grade="account",
    values={
        "vanilla": 194,
        "pipesd-no-plan": 147,
        "pipesd-fixed-trigger": 164,
        "pipesd-token-only": 137,
        "pipesd-sequence-only": 139,
        "pipesd": 129,
    },
)
"""TPT in milliseconds of what is left of PipeSD without one of its parts; HumanEval, scenario 1."""

FIGURE_5: Published[Mapping[float, Mapping[str, float]]] = Published(
    where="Figure 5",
    source="edge/exp-bandwidth-2/bandwidth_experiment_analysis.md of Nuyoahwjl/PipeSD",
    grade="project",
    values={
        10.0: {"vanilla": 1.32, "hsl": 1.05, "edgellm": 1.09},
        20.0: {"vanilla": 1.47, "hsl": 1.18, "edgellm": 1.16},
        40.0: {"vanilla": 1.45, "hsl": 1.26, "edgellm": 1.13},
        80.0: {"vanilla": 1.34, "hsl": 1.21, "edgellm": 1.14},
    },
)
"""How many times as fast as a baseline PipeSD is, by uplink in Mbit/s, then by baseline; HumanEval."""

SCHEDULING: Published[tuple[float, float]] = Published(
    where="Appendix F",
    source="the same review and summaries as Table 6",
    grade="account",
    values=(1.02, 2.06),
)
"""How many times as fast planned batches are as greedy and immediate ones: lowest and highest."""

ENERGY_LESS: Published[tuple[float, float]] = Published(
    where="the abstract",
    source="its official pages at ICML and at the University of Surrey",
    grade="paper",
    values=(0.143, 0.253),
)
"""Share of the energy that PipeSD saves: lowest and highest."""
