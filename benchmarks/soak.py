"""Whether a cloud and edges can go on for ever: many sessions with faults, every text checked, memory flat.

A cloud's daemon, with TLS, tokens and its engine in a process of its own, serves edges over the lab's link,
which injects faults of every kind; engines are killed, and strangers come. A first short play shows what both
processes hold at rest. After the long one they must hold the same, and their memory must be what it was when
they were warm. Run it as ``python -m benchmarks.soak``.
"""

import argparse
import asyncio
import gc
import logging
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic as now
from time import sleep

import psutil

from benchmarks.soak_cloud import census
from benchmarks.soak_edges import Scene, SoakError, Tally, edge_after_edge, strangers
from benchmarks.soak_processes import LEASE_S, Access, Daemon, Footprint, cloud, faults_of, footprint, link
from pipesd.actors.compute import run_once

MINUTES, EDGES, SESSIONS_MAX = 15.0, 8, 100_000
FIRST_PLAY_S = 8.0

KILL_EVERY_S = 30.0
WARM_S, WARM_SHARE = 120.0, 0.2
WINDOW_S, WINDOW_SHARE = 60.0, 0.125
"""Memory is that of the middle of such a time; shares are for short runs."""

SAMPLE_S, SCRAPE_EVERY, COLLECT_EVERY = 1.0, 5, 10
GROWTH_MAX = 0.05
REST_S = LEASE_S + 20.0
"""Within this, nothing may be left of edges that have gone."""

GRACE_S = 1.0
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    at_s: float
    edges_bytes: int
    cloud_bytes: int


@dataclass
class Play:
    """What became of one play."""

    tally: Tally
    steps: Counter[str] = field(default_factory=Counter)
    """What the sides of all edges were told and decided, by name."""

    samples: list[Sample] = field(default_factory=list)
    tasks_left: list[str] = field(default_factory=list)
    lasted_s: float = 0.0
    kills: int = 0
    faults: str = ""
    cpu: tuple[float, float] = (0.0, 0.0)
    """Share of a core that the edges and the cloud have used."""


class Errors(logging.Handler):
    """What was logged as an error: faults of pipesd, and what asyncio finds left behind."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep its first line."""
        self.lines.append(self.format(record).splitlines()[0])


# -- playing ------------------------------------------------------------------------------------------------


async def play(daemon: Daemon, scene: Scene, edges: int, seed: int) -> Play:
    """Let edges and strangers come. Raises a group of ``SoakError`` once a text is wrong."""
    done, began, cpu_s = Play(scene.tally), now(), _cpu_s(daemon)
    async with asyncio.TaskGroup() as group:
        others = [
            group.create_task(_watch(daemon, done)),
            group.create_task(_kill_engines(daemon, done, random.Random(f"kills {seed}"))),
        ]
        async with asyncio.TaskGroup() as players:
            players.create_task(strangers(scene, random.Random(f"strangers {seed}")))
            for number in range(edges):
                players.create_task(edge_after_edge(scene, random.Random(f"edge {number} {seed}")))
        for other in others:
            other.cancel()
    await asyncio.sleep(GRACE_S)
    done.tasks_left = [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    done.lasted_s = now() - began
    done.steps.update(scene.steps.counts)
    shares = [(after - before) / done.lasted_s for after, before in zip(_cpu_s(daemon), cpu_s, strict=True)]
    done.cpu = shares[0], shares[1]
    return done


async def _kill_engines(daemon: Daemon, done: Play, luck: random.Random) -> None:
    while True:
        await asyncio.sleep(luck.expovariate(1 / KILL_EVERY_S))
        done.kills += daemon.kill_engine()


async def _watch(daemon: Daemon, done: Play) -> None:
    """Note what memory the two processes take, and read the cloud's figures now and then.

    Edges leave circles behind, in asyncio's TLS above all, and here the collector would come by itself every
    few minutes: it is called, so that what edges keep shows. The cloud is let alone.
    """
    ours, began = psutil.Process(), now()
    while True:
        rss = ours.memory_info().rss, daemon.process.memory_info().rss
        done.samples.append(Sample(now() - began, *rss))
        if len(done.samples) % SCRAPE_EVERY == 0:
            await run_once("scrape", daemon.figures)
        if len(done.samples) % COLLECT_EVERY == 0:
            gc.collect()
        await asyncio.sleep(SAMPLE_S)


def _cpu_s(daemon: Daemon) -> tuple[float, float]:
    times = [process.cpu_times() for process in (psutil.Process(), daemon.process)]
    return times[0].user + times[0].system, times[1].user + times[1].system


def at_rest(daemon: Daemon, before: Sequence[Footprint] | None = None) -> list[Footprint]:
    """What the edges' process and the cloud hold once all have gone; waits until that is as ``before``."""
    until = now() + REST_S
    while True:
        sleep(GRACE_S)
        held = [footprint(psutil.Process(), census()), daemon.footprint()]
        is_empty = not daemon.figures()["pipesd_connections"] and _sessions(held[1]) == 0
        is_same = before is None or not any(
            after.grown(then) for after, then in zip(held, before, strict=True)
        )
        if (is_empty and is_same) or now() > until:
            return held


def _sessions(held: Footprint) -> int:
    return held.objects.get("pipesd.session.cloud.CloudSession", 0)


# -- judging ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in bytes."""

    warm: float
    end: float

    @property
    def growth(self) -> float:
        """As a share of what it was."""
        return self.end / self.warm - 1


def memories(samples: Sequence[Sample]) -> dict[str, Memory]:
    """When warm and at the end: the median of a while."""
    lasted_s = samples[-1].at_s
    warm_s, window_s = min(WARM_S, WARM_SHARE * lasted_s), min(WINDOW_S, WINDOW_SHARE * lasted_s)
    warm = [each for each in samples if warm_s <= each.at_s <= warm_s + window_s]
    end = [each for each in samples if each.at_s >= lasted_s - window_s]
    return {
        "edges": Memory(*(median(each.edges_bytes for each in window) for window in (warm, end))),
        "cloud": Memory(*(median(each.cloud_bytes for each in window) for window in (warm, end))),
    }


def by_minute(samples: Sequence[Sample]) -> dict[str, list[float]]:
    """The median of each minute, in bytes."""
    minutes = [list(each) for _, each in groupby(samples, lambda sample: sample.at_s // 60)]
    return {
        "edges": [median(each.edges_bytes for each in minute) for minute in minutes],
        "cloud": [median(each.cloud_bytes for each in minute) for minute in minutes],
    }


def complaints(
    done: Play, memory: Mapping[str, Memory], held: Mapping[str, Sequence[Footprint]], errors: Sequence[str]
) -> list[str]:
    """What is not as it must be, in a sentence each."""
    said = [
        f"the memory of the {name} is {each.growth:+.1%} of what it was, the limit is {GROWTH_MAX:.0%}"
        for name, each in memory.items()
        if abs(each.growth) > GROWTH_MAX
    ]
    if kept := _sessions(held["cloud"][1]):
        said.append(f"the cloud still keeps {kept} sessions of edges that have gone")
    for name, (before, after) in held.items():
        said += [f"the process of the {name} holds more than before: {more}" for more in after.grown(before)]
    said += [f"a task was left: {name}" for name in done.tasks_left]
    said += [f"an edge gave its connection up because of {why!r}" for why in done.tally.absences.faults()]
    said += [f"an error was logged: {line}" for line in errors]
    if not done.tally.answers["whole"]:
        said.append("no answer came to its end")
    return said


# -- telling ------------------------------------------------------------------------------------------------


def tell(done: Play, memory: Mapping[str, Memory], held: Mapping[str, Sequence[Footprint]]) -> None:
    tally, steps = done.tally, done.steps
    print(f"lasted            {done.lasted_s / 60:.1f} min, {tally.sessions:,} sessions")
    print(f"answers           {_listed(tally.answers)}; none wrong")
    print(
        f"tokens            {tally.tokens:,} checked, {tally.sampled:,} of them sampled;"
        f" {tally.prompt_tokens:,} of prompts; {tally.shown:,} shown as drafts"
    )
    print(f"faults survived   {done.faults}; {done.kills} engines killed")
    print(f"edges             {_listed(tally.edges)}")
    print(f"links             {steps['LinkOpened']:,} opened; sessions resumed {steps['<Resumed']:,} times")
    print(f"given up because  {_listed(tally.absences.reasons)}")
    print(f"strangers         {_listed(tally.strangers)}")
    print(f"CPU               edges {done.cpu[0]:.0%}, cloud {done.cpu[1]:.0%} of a core")
    for name, each in memory.items():
        print(
            f"memory, {name}     {each.warm / MIB:.2f} MiB warm, {each.end / MIB:.2f} at the end"
            f" ({each.growth:+.1%}, limit {GROWTH_MAX:.0%})"
        )
    for name, series in by_minute(done.samples).items():
        print(f"by minute, {name}  {' '.join(f'{each / MIB:.1f}' for each in series)}")
    for name, (before, after) in held.items():
        print(
            f"at rest, {name}    threads {before.threads} -> {after.threads}, files {before.files} ->"
            f" {after.files}, objects {sum(before.objects.values()):,} -> {sum(after.objects.values()):,}"
        )
    print(f"tasks left        {len(done.tasks_left)}")


def tell_figures(figures: Mapping[str, float]) -> None:
    names = {
        "passes": "pipesd_passes_total",
        "engines restarted": "pipesd_engine_restarts_total",
        "places lost": "pipesd_evictions_total",
        "resumed from the cache": "pipesd_resumed_total cache",
        "from the text": "pipesd_resumed_total text",
        "turned away": "pipesd_refusals_total",
        "ended by a fault": "pipesd_faults_total",
    }
    said = ", ".join(f"{meaning} {figures.get(name, 0.0):,.0f}" for meaning, name in names.items())
    print(f"the cloud counts  {said}")


def _listed(counts: Counter[str]) -> str:
    each = ", ".join(f"{kind} {number:,}" for kind, number in sorted(counts.items()))
    return f"{counts.total():,} ({each})" if each else "none"


# -- all of it ----------------------------------------------------------------------------------------------


def soak(daemon: Daemon, access: Access, folder: Path, options: argparse.Namespace) -> list[str]:
    """Play twice, and compare; the complaints."""
    logging.getLogger().addHandler(errors := Errors())

    def played(seconds: float) -> Play:
        with link(folder, daemon, options.seed) as (relay, address):
            until = now() + seconds
            scene = Scene(daemon.address, address, access, until, options.sessions)
            done = asyncio.run(play(daemon, scene, options.edges, options.seed))
            done.faults = faults_of(relay)
        return done

    played(FIRST_PLAY_S)
    before = at_rest(daemon)
    done = played(60 * options.minutes)
    after = at_rest(daemon, before)
    memory, figures = memories(done.samples), daemon.figures()
    held = dict(zip(("edges", "cloud"), zip(before, after, strict=True), strict=True))
    tell(done, memory, held)
    tell_figures(figures)
    said = complaints(done, memory, held, [*errors.lines, *daemon.faults()])
    if (code := daemon.stop()) != 0:
        said.append(f"the cloud did not stop in good order (exit code {code})")
    return said


def main() -> None:
    """Measure, print, and fail if a limit is passed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--edges", type=int, default=EDGES)
    parser.add_argument("--sessions", type=int, default=SESSIONS_MAX, help="it ends earlier after so many")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with TemporaryDirectory() as name, cloud(folder := Path(name)) as (daemon, access):
        try:
            said = soak(daemon, access, folder, options)
        except* SoakError as wrong:
            said = [str(error) for error in _each(wrong)]
    for sentence in said:
        print(f"FAILED: {sentence}")
    sys.exit(1 if said else 0)


def _each(wrong: BaseExceptionGroup[SoakError]) -> Iterator[SoakError]:
    for error in wrong.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error


if __name__ == "__main__":
    main()
