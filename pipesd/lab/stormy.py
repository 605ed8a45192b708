"""Whether texts are still the target's where faults come all the time, and what that costs in time.

Every trip is played twice, in a storm and in calm, in virtual time. A text is compared token by token
with what the target alone says to the same prompts.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

from pipesd.errors import UsageError
from pipesd.lab.jobs import Processes
from pipesd.lab.load_metrics import percentile
from pipesd.lab.scenarios import SCENARIOS, Scenario
from pipesd.lab.stormy_play import WEIGHTS, TripRecord, Weather, play_trip
from pipesd.lab.stormy_trip import Trip, trips
from pipesd.lab.stormy_user import Part
from pipesd.values import Offline

BASIS = "scripted and modelled, in virtual time"

GENERATIONS_MAX = 1_000_000


@dataclass(frozen=True, kw_only=True)
class FaultStudy:
    """What is played. Raises ``UsageError`` if something in it is impossible."""

    generations: int = 1_000
    """Answers that are read to their ends. Others are left by their readers, beside these."""

    every_s: float = 0.4
    """The mean time from one fault to the next."""

    seed: int = 0
    scenario: Scenario = SCENARIOS["s1"]

    def __post_init__(self) -> None:
        if not 1 <= self.generations <= GENERATIONS_MAX:
            raise UsageError(f"generations: must be between 1 and {GENERATIONS_MAX}, not {self.generations}")
        if not 0.001 <= self.every_s <= 86_400.0:
            raise UsageError(f"every-s: must be between 0.001 and 86400 seconds, not {self.every_s:g}")

    @cached_property
    def trips(self) -> list[Trip]:
        """All of them."""
        return trips(self.generations, self.scenario, self.seed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trip, in calm and in the storm."""

    trip: Trip
    calm: TripRecord
    storm: TripRecord


@dataclass(frozen=True, slots=True)
class Count:
    """Answers of a kind, and how many of them are right."""

    right: int
    all: int

    def __str__(self) -> str:
        return f"{self.right:,} of {self.all:,}"


@dataclass(frozen=True, slots=True)
class Pace:
    """What tokens take of answers that were read to their ends, their stops included."""

    tpt_ms: float
    p50_ms: float
    """Median answer."""

    p95_ms: float


@dataclass(frozen=True, kw_only=True)
class FaultFindings:
    """What came of a study."""

    study: FaultStudy
    outcomes: Sequence[Outcome]

    @property
    def whole(self) -> Count:
        """Texts in the storm that were to be read to their ends."""
        return self.whole_of(self.outcomes)

    @staticmethod
    def whole_of(outcomes: Sequence[Outcome]) -> Count:
        """The same of some trips."""
        right = sum(_is_whole(part) and part.is_right for each in outcomes for part in each.storm.parts)
        return Count(right, sum(each.trip.whole for each in outcomes))

    @property
    def left(self) -> Count:
        """Texts in the storm whose readers were to leave early: as far as they go, they must be right."""
        return self._short(lambda part: part.end != "stopped" and not part.is_wanted_whole)

    @property
    def stopped(self) -> Count:
        """Texts that ended with the connection, by their rules: as far as they go, they must be right."""
        return self._short(lambda part: part.end == "stopped")

    def _short(self, belongs: Callable[[Part], bool]) -> Count:
        parts = [part for each in self.outcomes for part in each.storm.parts if belongs(part)]
        return Count(sum(part.is_right for part in parts), len(parts))

    @property
    def problems(self) -> list[str]:
        """What is not as it must be, with what plays it again."""
        return [
            f"trip {each.trip.number} of seed {self.study.seed}, {where}: {problem}"
            for each in self.outcomes
            for where, record in (("in calm", each.calm), ("in the storm", each.storm))
            for problem in _problems(each.trip, record)
        ]

    @property
    def faults(self) -> Counter[str]:
        """Faults that took effect, by kind: an engine's, if a pass was lost."""
        return _sum(each.storm.faults for each in self.outcomes)

    @property
    def drawn(self) -> int:
        """Faults that came in all; some found nothing to strike."""
        return sum(each.storm.drawn for each in self.outcomes)

    @property
    def ambushes(self) -> Counter[str]:
        """How many of them came soon after something, by what that was."""
        return _sum(each.storm.ambushes for each in self.outcomes)

    @property
    def line(self) -> Counter[str]:
        """What became of connections and sessions."""
        return _sum(each.storm.line for each in self.outcomes)

    @property
    def away(self) -> float:
        """Share of the time without a connection."""
        storms = [each.storm for each in self.outcomes]
        return math.fsum(each.away_s for each in storms) / math.fsum(each.lasted_s for each in storms)

    @property
    def shown(self) -> Counter[str]:
        """How many answers ``showed`` drafts that nobody had verified, and had one of them ``corrected``."""
        parts = [part for each in self.outcomes for part in each.storm.parts]
        return Counter(
            showed=sum(part.showed for part in parts), corrected=sum(part.corrected for part in parts)
        )

    def chosen(self, holds: Callable[[Trip], bool]) -> list[Outcome]:
        """Those of some trips."""
        return [each for each in self.outcomes if holds(each.trip)]

    def paces(self, *offline: Offline) -> tuple[Pace, Pace] | None:
        """In calm and in the storm, with one of those rules for outages; None if nothing was played so."""
        outcomes = self.chosen(lambda trip: trip.offline in offline)
        calm = _pace([part for each in outcomes for part in each.calm.parts])
        storm = _pace([part for each in outcomes for part in each.storm.parts])
        return (calm, storm) if calm is not None and storm is not None else None

    @property
    def overhead(self) -> float | None:
        """How many times as long answers take in the storm, but for those that stop with the connection."""
        paces = self.paces("wait", "draft")
        return None if paces is None else paces[1].tpt_ms / paces[0].tpt_ms

    def as_json(self) -> dict[str, object]:
        """The figures by name, for machines."""
        return {
            "generations": self.study.generations,
            "every_s": self.study.every_s,
            "seed": self.study.seed,
            "scenario": self.study.scenario.name,
            "trips": len(self.outcomes),
            "right": self.whole.right,
            "left": self.left.all,
            "left_right": self.left.right,
            "stopped": self.stopped.all,
            "stopped_right": self.stopped.right,
            "drawn": self.drawn,
            "faults": {kind: self.faults[kind] for kind in WEIGHTS},
            "struck_after": dict(sorted(self.ambushes.items())),
            "line": dict(sorted(self.line.items())),
            "overhead": self.overhead,
            "problems": self.problems,
            "basis": BASIS,
        }

    def summary(self) -> str:
        """One line for a person."""
        each = ", ".join(f"{kind} {self.faults[kind]:,}" for kind in WEIGHTS)
        slower = "" if self.overhead is None else f", {self.overhead:.2f} times the time without faults"
        return (
            f"{self.whole} texts equal the target's; {self.faults.total():,} faults survived ({each})"
            f"{slower}; as far as they go, {self.left} texts are right that were left early, and "
            f"{self.stopped} that stopped with the connection ({BASIS})"
        )


def storms(study: FaultStudy, pool: Processes) -> FaultFindings:
    """Play everything."""
    weather = Weather(every_s=study.every_s)
    outcomes = pool.do([partial(play_both, trip, weather) for trip in study.trips])
    return FaultFindings(study=study, outcomes=outcomes)


def play_both(trip: Trip, weather: Weather) -> Outcome:
    """A trip in calm and in that weather; what the edge says of lost connections is not shown."""
    with _silence("pipesd.edge"):
        return Outcome(trip, play_trip(trip, None), play_trip(trip, weather))


@contextmanager
def _silence(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_whole(part: Part) -> bool:
    return part.is_wanted_whole and part.end == "whole"


def _sum(counters: Iterable[Counter[str]]) -> Counter[str]:
    return sum(counters, Counter())


def _pace(parts: Sequence[Part]) -> Pace | None:
    whole = [part for part in parts if _is_whole(part)]
    if not whole:
        return None
    tpt_ms = [1e3 * part.turn_s / part.turn_tokens for part in whole]
    return Pace(
        tpt_ms=1e3 * math.fsum(part.turn_s for part in whole) / sum(part.turn_tokens for part in whole),
        p50_ms=percentile(tpt_ms, 0.5),
        p95_ms=percentile(tpt_ms, 0.95),
    )


def _problems(trip: Trip, record: TripRecord) -> Iterator[str]:
    yield from record.problems
    wrong = sum(not part.is_right for part in record.parts)
    if wrong:
        yield f"{wrong} of {len(record.parts)} texts are not the target's"
    missing = trip.whole - sum(map(_is_whole, record.parts))
    if missing:
        yield f"{missing} of {trip.whole} answers did not come to their ends"
