"""pipesd inside another asyncio program: a cloud and an edge in one event loop, two answers at once."""

import asyncio

import pipesd


async def main() -> None:
    """Serve a scripted target on a free port, and let a scripted draft write with it."""
    cloud_config = pipesd.CloudConfig(engine="scripted", listen="127.0.0.1:0")
    async with pipesd.serve(cloud_config) as cloud:
        host, port = cloud.address
        edge_config = pipesd.EdgeConfig(engine="scripted", cloud=f"{host}:{port}", tokens_max=24)
        async with pipesd.connect(edge_config) as edge, asyncio.TaskGroup() as group:
            for name in ("one", "two"):
                group.create_task(answer(edge, name))


async def answer(edge: pipesd.Edge, name: str) -> None:
    """Print the text as it is confirmed."""
    async for piece in edge.generate(f"Story {name}:"):
        print(f"{name}:{piece}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
