"""What many edges cost the cloud: memory of a session that is idle, and CPU time of a verdict.

One gateway with a scripted target serves so many connections over links in memory, in virtual time. They say
what edges say, from frames made beforehand, so that what is measured is the cloud; the links are counted in.
The model's own caches and arithmetic are not. Fails if a limit is passed, or if tasks are left once all have
gone. Run it as ``python benchmarks/edges.py``; nothing else should run meanwhile.
"""

import argparse
import asyncio
import gc
import sys
import time
import tracemalloc
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipesd.actors.compute import ModelledCompute, Pace
from pipesd.actors.gateway import Gateway
from pipesd.actors.runtime import Hooks
from pipesd.cloud import make_gateway
from pipesd.config import CloudConfig
from pipesd.engines.alone import target_alone
from pipesd.engines.scripted import ScriptedTarget
from pipesd.errors import LinkError
from pipesd.lab.clock import run_virtually
from pipesd.lab.link import LinkModel, MemoryLink, memory_link
from pipesd.values import Sampling, Slice
from pipesd.wire import frames
from pipesd.wire.codec import Decoder, encode

EDGES = 1_000
ROUNDS, DRAFTS = 10, 4
PASS_TOKENS = 64 * (DRAFTS + 1)
"""Room for the rounds of as many sessions as share a pass: none is judged by halves."""

PROMPT_TOKENS = 64
CONTEXT = 512
PLACES = 256
"""As many as the settings allow; the others take turns, and are read anew."""

MEMORY_KIB_MAX = 64.0
CPU_MS_MAX = 0.5


class TimedTarget(ScriptedTarget):
    """Knows how long its own arithmetic took, in CPU time."""

    cpu_s = 0.0
    verdicts = 0

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        """As the scripted target."""
        started = time.process_time()
        picks = super().forward(slices)
        self.cpu_s += time.process_time() - started
        self.verdicts += sum(part.picks > 0 for part in slices)
        return picks


@dataclass(slots=True)
class Client:
    """One connection; what it will say is encoded beforehand."""

    link: MemoryLink
    greeting: bytes
    rounds: list[bytes]

    async def greet(self) -> None:
        """Say the prompt, and wait for the first verdict."""
        decoder = Decoder[frames.CloudFrame](frames.CloudFrame)
        await self.link.send(self.greeting)
        while not any(isinstance(frame, frames.Verdict) for frame in decoder.feed(await self.link.receive())):
            pass

    async def write(self) -> None:
        """Round after round; the answer to each is one message with a verdict."""
        for drafts in self.rounds:
            await self.link.send(drafts)
            await self.link.receive()

    async def leave(self) -> None:
        """Close, and wait until the cloud has."""
        with suppress(LinkError):
            await self.link.end()
            while await self.link.receive():
                pass


def script(number: int) -> tuple[bytes, list[bytes]]:
    """Greeting and prompt, and the drafts of each round, all of them right."""
    prompt = (number & 255, number >> 8, *range(PROMPT_TOKENS - 2))
    length = 1 + ROUNDS * (DRAFTS + 1)
    target = ScriptedTarget(context_tokens=CONTEXT, ends_every=0)
    path = list(target_alone(target, prompt, sampling=Sampling(), seed=0, tokens_max=length))
    opening = (
        frames.Hello(frames.PROTOCOL_VERSION, "a benchmark", 1),
        frames.Open(0),
        frames.Prompt(0, 1, 0, prompt, Sampling(), 0, length + 1),
    )
    return b"".join(encode(frame) for frame in opening), list(_rounds(len(prompt), path))


def _rounds(prompt_tokens: int, path: Sequence[int]) -> Iterator[bytes]:
    for done in range(1, len(path), DRAFTS + 1):
        base = prompt_tokens + done
        yield encode(frames.Draft(0, 1, base, tuple(path[done : done + DRAFTS]), base + DRAFTS))


def serving(target: ScriptedTarget, edges: int, places: int) -> Gateway:
    """The production gateway with room for so many, of whom so many have a place in the model's cache."""
    config = CloudConfig(
        engine="scripted",
        tuner="off",
        sessions_max=edges,
        connections_max=edges,
        kv_sequences=places,
        pass_tokens=PASS_TOKENS,
        ping_after_s=50_000.0,
        silent_after_s=80_000.0,
    )
    return make_gateway(config, target, ModelledCompute(Pace(0.001)), Hooks())


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all at once."""
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


def connected(gateway: Gateway, scripts: Sequence[tuple[bytes, list[bytes]]]) -> list[Client]:
    """A client for each."""
    clients = []
    for greeting, rounds in scripts:
        ours, theirs = memory_link(LinkModel(), LinkModel())
        gateway.accept(theirs)
        clients.append(Client(ours, greeting, rounds))
    return clients


async def cpu_ms(scripts: Sequence[tuple[bytes, list[bytes]]], places: int) -> tuple[float, float, int]:
    """Of a verdict: the cloud's, and the model's own; and how many tasks are left when all have gone."""
    target = TimedTarget(context_tokens=CONTEXT, ends_every=0, chunk_tokens=CloudConfig().chunk_tokens)
    gateway = serving(target, len(scripts), places)
    async with gateway.running():
        tasks_before = len(asyncio.all_tasks())
        clients = connected(gateway, scripts)
        await together(client.greet() for client in clients)
        target.cpu_s, target.verdicts, started = 0.0, 0, time.process_time()
        await together(client.write() for client in clients)
        spent_s = time.process_time() - started
        await together(client.leave() for client in clients)
        await asyncio.sleep(1.0)
        tasks_left = len(asyncio.all_tasks()) - tasks_before
    verdicts = target.verdicts
    assert verdicts == len(scripts) * ROUNDS, "a round without a verdict"
    return 1e3 * (spent_s - target.cpu_s) / verdicts, 1e3 * target.cpu_s / verdicts, tasks_left


async def memory_kib(scripts: Sequence[tuple[bytes, list[bytes]]], places: int) -> float:
    """Of a session that has an answer and is idle, and of its connection."""
    target = ScriptedTarget(context_tokens=CONTEXT, ends_every=0, chunk_tokens=CloudConfig().chunk_tokens)
    gateway = serving(target, len(scripts), places)
    async with gateway.running():
        before = _held_bytes()
        clients = connected(gateway, scripts)
        await together(client.greet() for client in clients)
        await together(client.write() for client in clients)
        held = _held_bytes() - before
        await together(client.leave() for client in clients)
    return held / len(scripts) / 1024


def _held_bytes() -> int:
    """All but what the model and this file hold."""
    gc.collect()
    others = [tracemalloc.Filter(False, pattern) for pattern in ("*/pipesd/engines/*", __file__)]
    traces = tracemalloc.take_snapshot().filter_traces(others).statistics("filename")
    return sum(each.size for each in traces)


def main() -> None:
    """Measure, print, and fail if a limit is passed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--edges", type=int, default=EDGES)
    parser.add_argument("--places", type=int, default=PLACES, help="of sessions in the model's cache")
    options = parser.parse_args()
    scripts = [script(number) for number in range(options.edges)]
    cloud_ms, model_ms, tasks_left = run_virtually(cpu_ms(scripts, options.places))
    tracemalloc.start()
    kib = run_virtually(memory_kib(scripts, options.places))
    print(f"{options.edges:,} edges, {options.places} of them in the cache, {ROUNDS} verdicts each")
    print(
        f"an idle session   {kib:.1f} KiB at the cloud, besides the model's cache (limit {MEMORY_KIB_MAX:g})"
    )
    print(f"a verdict         {cloud_ms:.3f} ms CPU at the cloud (limit {CPU_MS_MAX:g});", end=" ")
    print(f"{model_ms:.3f} ms of the scripted model beside it")
    print(f"tasks left        {tasks_left}")
    sys.exit(0 if kib < MEMORY_KIB_MAX and cloud_ms < CPU_MS_MAX and not tasks_left else 1)


if __name__ == "__main__":
    main()
