"""The same load on each system, by the number of edges."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from pipesd.lab.jobs import Processes
from pipesd.lab.load import SYSTEMS, Load, System, alone, play_load
from pipesd.lab.load_metrics import LoadFigures, Power, load_figures

DOUBLED = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of edges that are compared."""


def measure(load: Load, power: Power) -> LoadFigures:
    """Play it, and each of its edges alone, in virtual time."""
    record = play_load(load)
    return load_figures(load, record, [alone(load, edge) for edge in range(load.edges)], power)


@dataclass(frozen=True, kw_only=True)
class LoadStudy:
    """What is compared."""

    load: Load
    """Whatever its system and its number of edges."""

    power: Power
    edges: tuple[int, ...] = DOUBLED
    systems: tuple[System, ...] = SYSTEMS

    @property
    def plays(self) -> int:
        """How many loads there are."""
        return len(self.edges) * len(self.systems)

    def loads(self, edges: int) -> list[Load]:
        """What is played with so many edges. Edges that draft nothing keep their policy as it is."""
        undrafted = {name: value for name, value in self.load.changed.items() if name == "verify"}
        return [
            replace(
                self.load,
                system=system,
                edges=edges,
                changed=undrafted if system == "cloud-only" else self.load.changed,
            )
            for system in self.systems
        ]


@dataclass(frozen=True, kw_only=True)
class LoadComparison:
    """What came of it."""

    study: LoadStudy
    figures: Mapping[tuple[System, int], LoadFigures]
    """By system and number of edges."""

    def of(self, system: System) -> list[LoadFigures]:
        """By the number of edges."""
        return [self.figures[system, edges] for edges in self.study.edges]

    def as_json(self) -> dict[str, object]:
        """All by name, for machines."""
        return {system: [each.as_json() for each in self.of(system)] for system in self.study.systems}


def compare_loads(study: LoadStudy, pool: Processes) -> LoadComparison:
    """Play everything, most edges first; what takes about as long is handed out together."""
    found: list[LoadFigures] = []
    for edges in sorted(study.edges, reverse=True):
        found += pool.do([partial(measure, load, study.power) for load in study.loads(edges)])
    return LoadComparison(study=study, figures={(each.system, each.edges): each for each in found})
