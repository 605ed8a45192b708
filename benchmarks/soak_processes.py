"""The processes of the soak besides the edges': the cloud's daemon, and the lab's link with its faults."""

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import psutil
from prometheus_client.parser import text_string_to_metric_families

from pipesd.access import Limits
from pipesd.keys import LOCAL, make_pair
from pipesd.lab.faults import KINDS
from pipesd.tokens import create

ROOT = Path(__file__).resolve().parents[1]
START_S, STOP_S = 60.0, 20.0
"""With this, a process counts as hung; never waited for when all is well."""

LEASE_S, PING_S, SILENT_S = 5.0, 0.4, 1.2
CLOUD_SETTINGS = {
    "listen": "127.0.0.1:0",
    "metrics": "127.0.0.1:0",
    "engine": "scripted",
    "engine-process": "on",
    "kv-sequences": "6",
    "sessions-max": "24",
    "lease-s": str(LEASE_S),
    "ping-after-s": str(PING_S),
    "silent-after-s": str(SILENT_S),
    "send-stall-s": "3",
    "handshake-timeout-s": "2",
    "busy-retry-s": "0.2",
}
"""Little room, that it is fought for, and little patience, that every limit is met."""

LINK_SETTINGS = {
    "listen": "127.0.0.1:0",
    "scenario": "wifi-4g",
    "fault-every-s": "0.4",
    "fault-kinds": ",".join(KINDS),
}

SIGNS_OF_A_FAULT = "Traceback", "a fault of", "never retrieved", "was never awaited", "overflowed"

PASSING = "pipesd.session.commands.", "pipesd.session.events.", "pipesd.wire.frames.", "pipesd.values."
PASSING_SPARE = 4
"""Of each message, so many may be there more than before: what was handled last is kept until the next."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds."""

    threads: int
    files: int
    """Sockets among them."""

    objects: Mapping[str, int]

    def grown(self, before: "Footprint") -> list[str]:
        """What there is more of than before."""
        kinds = {"threads": (self.threads, before.threads), "open files": (self.files, before.files)}
        for kind, number in self.objects.items():
            spare = PASSING_SPARE if kind.startswith(PASSING) else 0
            kinds[kind] = number, before.objects.get(kind, 0) + spare
        return [f"{kind} {then} -> {now}" for kind, (now, then) in sorted(kinds.items()) if now > then]


def footprint(process: psutil.Process, objects: Mapping[str, int]) -> Footprint:
    return Footprint(process.num_threads(), process.num_fds(), objects)


class Program:
    """A process that logs to a file, and says there when it is ready."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process = process
        self._log = log

    def said(self, beginning: str) -> str:
        """The rest of the line with which it says so. Waits for it; raises ``RuntimeError`` in vain."""
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process.poll() is None:
            if (rest := self._find(beginning)) is not None:
                return rest
            time.sleep(0.05)
        raise RuntimeError(f"it does not say {beginning!r}, but {self.log()!r}")

    def _find(self, beginning: str) -> str | None:
        lines = (line for line in self.log().splitlines(keepends=True) if line.startswith(beginning))
        return next((line.removeprefix(beginning).strip() for line in lines if line.endswith("\n")), None)

    def address_said(self, beginning: str) -> tuple[str, int]:
        host, _, port = self.said(beginning).split()[0].rpartition(":")
        return host, int(port)

    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text("utf-8")

    def stop(self) -> int | None:
        """Ask it to end; its exit code, None if it does not."""
        self._process.terminate()
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return None


class Daemon(Program):
    """A cloud that serves with TLS and tokens."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        super().__init__(process, log)
        self.process = psutil.Process(process.pid)
        self.address = self.address_said("pipesd-cloud: ready on ")
        self._figures = self.said("pipesd-cloud: metrics at ")

    def faults(self) -> list[str]:
        """Lines of the log that only a fault of pipesd can have caused."""
        return [line for line in self.log().splitlines() if any(sign in line for sign in SIGNS_OF_A_FAULT)]

    def footprint(self) -> Footprint:
        """What it holds. Waits for the answer."""
        assert self._process.stdin is not None, "a process without pipes"
        assert self._process.stdout is not None, "a process without pipes"
        print(file=self._process.stdin, flush=True)
        return footprint(self.process, json.loads(self._process.stdout.readline()))

    def figures(self) -> dict[str, float]:
        """What it offers to Prometheus: sums by name, and by name and value of a label."""
        sums = defaultdict[str, float](float)
        with urlopen(self._figures, timeout=STOP_S) as page:
            families = list(text_string_to_metric_families(page.read().decode()))
        for sample in (sample for family in families for sample in family.samples):
            for name in (sample.name, *(f"{sample.name} {value}" for value in sample.labels.values())):
                sums[name] += sample.value
        return dict(sums)

    def kill_engine(self) -> int:
        """Kill the process of its target model; 0 if there is none at the moment."""
        children = [each for each in self.process.children() if "pipesd.engines.worker" in each.cmdline()]
        for child in children:
            child.kill()
        return len(children)


@dataclass(frozen=True, slots=True)
class Access:
    """What edges need besides the address."""

    certificate: str
    token: str
    unknown_token: str
    """One that the cloud does not know."""


@contextmanager
def cloud(folder: Path) -> Iterator[tuple[Daemon, Access]]:
    """A cloud, and how to get in; its files go to ``folder``."""
    cert, key, tokens = folder / "cert.pem", folder / "key.pem", folder / "tokens.json"
    make_pair(cert, key, LOCAL)
    limits = Limits()
    access = Access(
        str(cert),
        create(tokens, "edges", limits).text,
        create(folder / "others.json", "edges", limits).text,
    )
    settings = {**CLOUD_SETTINGS, "tls-cert": str(cert), "tls-key": str(key), "tokens": str(tokens)}
    log = folder / "cloud.log"
    with _running(["-m", "benchmarks.soak_cloud", "serve"], settings, log) as process:
        yield Daemon(process, log), access


@contextmanager
def link(folder: Path, to: Daemon, seed: int) -> Iterator[tuple[Program, tuple[str, int]]]:
    """A link to the cloud on which faults strike, and its address."""
    settings = {**LINK_SETTINGS, "cloud": "{}:{}".format(*to.address), "fault-seed": str(seed)}
    log = folder / "link.log"
    with _running(["-c", "from pipesd.launch import lab; lab()", "link"], settings, log) as process:
        relay = Program(process, log)
        yield relay, relay.address_said(f"pipesd-lab: link {LINK_SETTINGS['scenario']} ready on ")


def faults_of(relay: Program) -> str:
    """End it, and have it tell how many faults of which kind it has injected."""
    relay.stop()
    lines = [line for line in relay.log().splitlines() if "faults injected" in line]
    return lines[-1].removeprefix("pipesd-lab: ") if lines else "the link did not say"


@contextmanager
def _running(
    program: Sequence[str], settings: Mapping[str, str], log: Path
) -> "Iterator[subprocess.Popen[str]]":
    """It is gone with the block."""
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIPESD_")}
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            [sys.executable, *program, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env={**kept, "PIPESD_CONFIG": os.devnull},
            cwd=ROOT,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()
