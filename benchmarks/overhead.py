"""What pipesd itself costs: CPU time per token of an edge and a cloud whose models cost nothing.

Two processes on loopback TCP, scripted engines behind their usual threads, 85 % agreement, upper_tokens 8,
10,000 tokens; start-up is not counted. The scripted models' own arithmetic is, so it is shown beside it.
Run it as ``python benchmarks/overhead.py``; nothing else should run meanwhile.
"""

import argparse
import asyncio
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from pipesd.actors.compute import ThreadCompute
from pipesd.actors.link import listening, open_tcp_link
from pipesd.actors.runtime import Hooks
from pipesd.cloud import make_gateway
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import connect_over
from pipesd.engines.scripted import ScriptedDraft, ScriptedTarget
from pipesd.values import Sampling, Slice

TOKENS = 10_000
CONTEXT = 20_000
RUNS = 5
LIMIT_MS = 1.0


async def run_cloud() -> None:
    """Serve until standard input closes; then say how much CPU time the serving took."""
    config = CloudConfig(engine="scripted", context_tokens=CONTEXT, sessions_max=4)
    engine = ScriptedTarget(context_tokens=CONTEXT, ends_every=0)
    gateway = make_gateway(config, engine, ThreadCompute("target"), Hooks(clock=time.monotonic))
    async with gateway.running(), listening("127.0.0.1", 0, gateway.accept) as (_, port):
        started = time.process_time()
        print(port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        print(time.process_time() - started, flush=True)


async def run_edge(port: int) -> None:
    """Generate, and say how much CPU time that took."""
    config = EdgeConfig(engine="scripted", upper_tokens=8, tokens_max=TOKENS)
    engine = ScriptedDraft(agreement=0.85, context_tokens=CONTEXT)
    link = await open_tcp_link("127.0.0.1", port, 5.0)
    compute = ThreadCompute("draft")
    async with connect_over(config, link, engine, compute, Hooks(clock=time.monotonic)) as edge:
        started, begun = time.process_time(), time.monotonic()
        tokens = 0
        async for piece in edge.generate("Measure me:"):
            tokens += len(piece.tokens)
        crossed = edge.statistics()
        figures = {
            "tokens": tokens,
            "cpu_s": time.process_time() - started,
            "wall_s": time.monotonic() - begun,
            "bytes": crossed.sent_bytes + crossed.received_bytes,
        }
        print(json.dumps(figures), flush=True)


def measure(loop: str) -> dict[str, float]:
    """One run in two fresh processes."""
    me = [sys.executable, __file__, "--loop", loop]
    with subprocess.Popen(
        [*me, "--role", "cloud"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as cloud:
        assert cloud.stdout is not None
        port = cloud.stdout.readline().strip()
        edge = subprocess.run(
            [*me, "--role", "edge", "--port", port], stdout=subprocess.PIPE, text=True, check=True
        )
        rest, _ = cloud.communicate()
    figures: dict[str, float] = json.loads(edge.stdout)
    assert figures["tokens"] == TOKENS, "the answer was cut short"
    return {**figures, "cloud_cpu_s": float(rest)}


def engines_alone_s() -> float:
    """CPU time of the scripted models for as many drafts and picks as the text has tokens."""
    target = ScriptedTarget(context_tokens=CONTEXT, ends_every=0)
    draft = ScriptedDraft(agreement=0.85, context_tokens=CONTEXT)
    piece = Slice(sequence=0, base=0, tokens=(65,), picks=1, prompt=False, sampling=Sampling(), seed=0)
    draft.extend(0, [65])
    started = time.process_time()
    for position in range(1, TOKENS):
        draft.propose(0, Sampling(), 0)
        [(token,)] = target.forward([piece])
        piece = replace(piece, base=position, tokens=(token,))
        draft.extend(0, [token])
    return time.process_time() - started


def report(loop: str) -> bool:
    """Measure, print, and say whether the limit holds."""
    runs = [measure(loop) for _ in range(RUNS)]

    def per_token_ms(cost: Callable[[dict[str, float]], float]) -> float:
        return 1e3 * statistics.median(cost(run) for run in runs) / TOKENS

    together = per_token_ms(lambda run: run["cpu_s"] + run["cloud_cpu_s"])
    print(
        f"{loop:8} both {together:.3f} ms CPU per token"
        f" (edge {per_token_ms(lambda run: run['cpu_s']):.3f},"
        f" cloud {per_token_ms(lambda run: run['cloud_cpu_s']):.3f};"
        f" wall {per_token_ms(lambda run: run['wall_s']):.3f};"
        f" {statistics.median(run['bytes'] for run in runs) / TOKENS:.1f} bytes per token)"
    )
    return together <= LIMIT_MS


def main() -> None:
    """Play a role, or measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", choices=["cloud", "edge"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    options = parser.parse_args()
    if options.role is None:
        print(f"{TOKENS} tokens, median of {RUNS}, limit {LIMIT_MS:g} ms for both together")
        print(f"models   {1e3 * engines_alone_s() / TOKENS:.3f} ms CPU per token for one draft and one pick")
        results = [report(loop) for loop in ("asyncio", "uvloop")]
        sys.exit(0 if all(results) else 1)
    factory = importlib.import_module("uvloop").new_event_loop if options.loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run_cloud() if options.role == "cloud" else run_edge(options.port))


if __name__ == "__main__":
    main()
