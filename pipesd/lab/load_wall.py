"""Many edges on one cloud in wall time: real engines, in one process, over loopback sockets.

The links are as fast as the machine. Replayed and scripted engines keep a scenario's pace; a real model is
as fast as it is, and all share one machine.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from pipesd.cloud import serve
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import connect
from pipesd.engines.traces import TracePrompt
from pipesd.errors import EngineError
from pipesd.lab.load import Asked, Load, LoadRecord, asked_by, wishes_of
from pipesd.lab.relay import precise_loop
from pipesd.lab.stages import PassMeter

Engine = Literal["replay", "scripted", "llama"]


@dataclass(frozen=True, kw_only=True)
class WallLoad:
    """A load on real engines."""

    load: Load
    engine: Engine
    traces: tuple[str, ...] = ()
    """The recordings that the replayed pair knows; those of the load."""

    @property
    def cloud(self) -> CloudConfig:
        """The cloud's settings: those of the load, with another engine."""
        scenario, config = self.load.scenario, self.load.cloud
        is_paced = self.engine != "llama"
        return CloudConfig(
            engine=self.engine,
            listen="127.0.0.1:0",
            traces=self.traces,
            tuner="off",
            pass_ms=scenario.pass_ms if is_paced else 0.0,
            pass_token_ms=scenario.pass_token_ms if is_paced else 0.0,
            kv_sequences=config.kv_sequences,
            sessions_max=config.sessions_max,
            connections_max=config.connections_max,
            pass_sessions=config.pass_sessions,
            pass_tokens=config.pass_tokens,
            verify=config.verify,
        )

    def edge(self, host: str, port: int) -> EdgeConfig:
        """An edge's."""
        return replace(
            self.load.play_of(0).edge,
            engine=self.engine,
            cloud=f"{host}:{port}",
            traces=self.traces,
            draft_ms=self.load.scenario.draft_ms if self.engine != "llama" else 0.0,
        )

    def prompts_of(self, edge: int) -> tuple[TracePrompt, ...]:
        """As recorded, in this edge's order; a scripted model reads the bytes of their text."""
        prompts = self.load.trace.prompts
        if self.engine == "scripted":
            prompts = tuple(map(self._spelled, prompts))
        first = edge % len(prompts)
        return prompts[first:] + prompts[:first]

    def _spelled(self, prompt: TracePrompt) -> TracePrompt:
        pieces = self.load.trace.header.pieces
        text = b"".join(pieces[token] for token in prompt.prompt_tokens)
        return msgspec.structs.replace(prompt, prompt_tokens=tuple(text))


def play_wall(wall: WallLoad) -> tuple[LoadRecord, list[list[Asked]]]:
    """Play it, and first one edge alone, in its own order and then in that of each edge.

    Raises ``EngineError`` if a text is not what it is alone.
    """
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        [single] = runner.run(_played(replace(wall, load=replace(wall.load, edges=1)))).edges
        record = runner.run(_played(wall))
    by_id = {asked.prompt.id: asked for asked in single}
    alone = [[by_id[asked.prompt.id] for asked in edge] for edge in record.edges]
    for edge, other in zip(record.edges, alone, strict=True):
        for each, same in zip(edge, other, strict=True):
            if each.answer.tokens != same.answer.tokens:
                raise EngineError(
                    f"the text of {each.prompt.id} is not what it is alone; "
                    "this is a fault of pipesd, or numerics are not exact"
                )
    return record, alone


async def _played(wall: WallLoad) -> LoadRecord:
    now, meter = asyncio.get_running_loop().time, PassMeter()
    async with serve(wall.cloud, observers=(meter,)) as cloud, AsyncExitStack() as stack:
        config = wall.edge(*cloud.address)
        edges = [await stack.enter_async_context(connect(config)) for _ in range(wall.load.edges)]
        begun_s = now()
        async with asyncio.TaskGroup() as users:
            tasks = [
                users.create_task(
                    asked_by(edge, wall.prompts_of(number), wishes_of(wall.load, number, begun_s))
                )
                for number, edge in enumerate(edges)
            ]
    return LoadRecord([task.result() for task in tasks], meter.passes, meter.tokens, meter.busy_s)
