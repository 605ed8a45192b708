"""A cloud under observation for ``attacks.py``: an edge that writes, newcomers, CPU time and memory.

Run as a process of its own it is that edge.
"""

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import msgspec
import psutil

from benchmarks.attacks_caller import LET_IN, calling, log_in
from pipesd.config import EdgeConfig
from pipesd.edge import connect
from pipesd.errors import LinkError

LOOPBACK = "127.0.0.1"
PASS_MS, PASS_TOKEN_MS, DRAFT_MS = 20.0, 1.0, 2.0
ANSWER_TOKENS = 40
SAMPLE_S, NEWCOMER_S = 0.05, 0.5
FIRST = -10
"""The priority of what is measured, where the system allows it: other work of the machine is not to show."""

NEVER_MS = float("inf")

SETTINGS = ("--engine", "scripted", "--tuner", "off", "--listen", f"{LOOPBACK}:0")
PACE = ("--pass-ms", f"{PASS_MS:g}", "--pass-token-ms", f"{PASS_TOKEN_MS:g}")
CLOUD = (sys.executable, "-c", "from pipesd.launch import cloud; cloud()", "serve", *SETTINGS, *PACE)
READY = "pipesd-cloud: ready on "


class Answer(msgspec.Struct, array_like=True):
    """One that the edge has read to its end."""

    begun: float
    ended: float
    tokens: int

    @property
    def tpt_ms(self) -> float:
        return 1e3 * (self.ended - self.begun) / self.tokens


class Sample(msgspec.Struct):
    """The cloud's process at a moment."""

    at: float
    cpu_s: float
    rss: int


@dataclass(slots=True)
class Bench:
    """A cloud under observation."""

    host: str
    port: int
    process: psutil.Process
    tokens: dict[str, str]
    authority: str = ""
    answers: list[Answer] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    newcomers: list[tuple[float, float]] = field(default_factory=list)
    """When each came, and how long it took to let him in, in ms; infinite if he was not."""

    async def sample(self) -> None:
        while True:
            with self.process.oneshot():
                times, memory = self.process.cpu_times(), self.process.memory_info()
            self.samples.append(Sample(monotonic(), times.user + times.system, memory.rss))
            await asyncio.sleep(SAMPLE_S)

    async def knock(self) -> None:
        """Come anew from the edge's address, again and again."""
        tls = ssl.create_default_context(cafile=self.authority) if self.authority else None
        while True:
            begun, took_ms = monotonic(), NEVER_MS
            try:
                async with calling(self.host, self.port, LOOPBACK, tls) as caller:
                    if await log_in(caller, self.tokens["newcomer"]) == LET_IN:
                        took_ms = 1e3 * (monotonic() - begun)
            except LinkError:
                pass
            self.newcomers.append((begun, took_ms))
            await asyncio.sleep(NEWCOMER_S)

    async def listen(self, errors: asyncio.StreamReader | None) -> None:
        """Note what the cloud says on standard error."""
        while line := await said(errors):
            self.complaints.append(line)

    async def write(self) -> None:
        """The edge: note every answer."""
        me = (sys.executable, "-m", "benchmarks.attacks_bench", f"{self.host}:{self.port}", self.authority)
        async with child(*me, token=self.tokens["edge"], first=True) as edge:
            while line := await said(edge.stdout):
                self.answers.append(msgspec.json.decode(line, type=Answer))
        raise RuntimeError("the edge has ended")

    def window(self, begun: float, ended: float) -> "Window":
        inside = [each for each in self.samples if begun <= each.at <= ended]
        return Window(
            took_s=inside[-1].at - inside[0].at,
            cpu_s=inside[-1].cpu_s - inside[0].cpu_s,
            rss_before=inside[0].rss,
            rss_most=max(each.rss for each in inside),
            tpt_ms=[each.tpt_ms for each in self.answers if begun <= each.begun and each.ended <= ended],
            newcomers_ms=[took_ms for at, took_ms in self.newcomers if begun <= at <= ended],
        )


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen in a stretch of time."""

    took_s: float
    cpu_s: float
    rss_before: int
    rss_most: int
    tpt_ms: list[float]
    newcomers_ms: list[float]


# -- processes ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def child(
    *command: str, token: str = "", first: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process without settings of the user's; it ends with the block. ``first``: it has priority."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIPESD_")}
    environment = {**kept, "PIPESD_CONFIG": os.devnull, "PYTHONUNBUFFERED": "1", "TOKEN": token}
    pipe = asyncio.subprocess.PIPE
    errors = pipe if command[: len(CLOUD)] == CLOUD else None
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=errors, env=environment
    )
    if first:
        with suppress(psutil.AccessDenied):
            psutil.Process(process.pid).nice(FIRST)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(stream: asyncio.StreamReader | None) -> str:
    """The next line; empty at the end."""
    assert stream is not None
    return (await stream.readline()).decode().strip()


async def tell(process: asyncio.subprocess.Process, line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    await process.stdin.drain()


@asynccontextmanager
async def observed(
    tokens: dict[str, str], book: Path, pair: tuple[Path, Path] | None
) -> AsyncIterator[Bench]:
    """A cloud, with TLS if there is a certificate and its key, and all that observes it."""
    secured = ("--tls-cert", f"{pair[0]}", "--tls-key", f"{pair[1]}") if pair is not None else ()
    async with child(*CLOUD, "--tokens", f"{book}", *secured, first=True) as cloud:
        line = await said(cloud.stderr)
        assert line.startswith(READY), line
        host, _, port = line.removeprefix(READY).split()[0].rpartition(":")
        authority = f"{pair[0]}" if pair is not None else ""
        bench = Bench(host, int(port), psutil.Process(cloud.pid), tokens, authority)
        async with asyncio.TaskGroup() as group:
            works = (bench.sample(), bench.knock(), bench.write(), bench.listen(cloud.stderr))
            tasks = [group.create_task(work) for work in works]
            yield bench
            for task in tasks:
                task.cancel()


# -- the edge -----------------------------------------------------------------------------------------------


async def write_answers(cloud: str, authority: str) -> None:
    """Be the edge: one answer after another, to the same prompt."""
    config = EdgeConfig(
        engine="scripted",
        tuner="off",
        cloud=cloud,
        token=os.environ["TOKEN"],
        tls_ca=authority,
        draft_ms=DRAFT_MS,
        tokens_max=ANSWER_TOKENS,
    )
    async with connect(config) as edge, edge.session() as session:
        while True:
            begun = monotonic()
            tokens = [token async for piece in session.generate("Once", base=0) for token in piece.tokens]
            print(msgspec.json.encode(Answer(begun, monotonic(), len(tokens))).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(write_answers(sys.argv[1], sys.argv[2]))
