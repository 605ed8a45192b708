"""Embedding the cloud, and the target alone."""

import asyncio

import pytest

from pipesd.cloud import Alone, serve
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import connect
from pipesd.engines.alone import answer_alone
from pipesd.engines.scripted import ScriptedTarget
from pipesd.errors import ConfigError, EngineError, LinkError, UsageError
from pipesd.values import Sampling


def expected(text: str, tokens_max: int) -> list[int]:
    target = ScriptedTarget()
    prompt = target.tokenizer.encode(text)
    return answer_alone(target, prompt, sampling=Sampling(), seed=0, tokens_max=tokens_max)[0]


async def test_the_target_alone_says_its_path():
    answer = Alone(CloudConfig(tokens_max=30), "Hello")
    tokens = [token async for piece in answer for token in piece.tokens]
    assert tokens == expected("Hello", 30)
    assert (answer.tokens, answer.finish) == (30, "length")


async def test_the_target_alone_stops_at_a_stop_string():
    path = expected("Hello", 30)
    word = ScriptedTarget().tokenizer.vocabulary.pieces[path[5]].decode()
    answer = Alone(CloudConfig(tokens_max=30), "Hello", stop=[word])
    text = "".join([piece.text async for piece in answer])
    assert word not in text
    assert answer.finish == "stop"
    assert answer.tokens <= 6


@pytest.mark.parametrize(("prompt", "words"), [("", "empty"), ("x" * 9_000, "shorten")])
async def test_the_target_alone_refuses_impossible_prompts(prompt, words):
    with pytest.raises(UsageError, match=words):
        await anext(aiter(Alone(CloudConfig(), prompt)))


async def test_several_clouds_live_in_one_process_and_stop_one_by_one():
    config = CloudConfig(listen="127.0.0.1:0")
    async with serve(config) as first:
        async with serve(config) as second:
            assert first.address != second.address
            second.stop()
            await second.wait_stopped()
        port = second.address[1]
        with pytest.raises(LinkError):
            async with connect(EdgeConfig(cloud=f"127.0.0.1:{port}")):
                raise AssertionError("a stopped cloud answered")
        async with connect(EdgeConfig(cloud=f"127.0.0.1:{first.address[1]}", tokens_max=4)) as edge:
            tokens = [token async for piece in edge.generate("Hello") for token in piece.tokens]
    assert tokens == expected("Hello", 4)


async def test_an_address_in_use_is_a_setting_to_change():
    async with serve(CloudConfig(listen="127.0.0.1:0")) as served:
        host, port = served.address
        with pytest.raises(ConfigError, match="listen: cannot listen"):
            async with serve(CloudConfig(listen=f"{host}:{port}")):
                raise AssertionError("two on one port")


async def test_a_missing_trace_is_named():
    with pytest.raises(EngineError, match="nowhere"):
        async with serve(CloudConfig(engine="replay", traces=("nowhere.jsonl",))):
            raise AssertionError("it served")


async def test_a_cancelled_cloud_leaves_no_task_behind():
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with (
            asyncio.timeout(0.2),
            serve(CloudConfig(listen="127.0.0.1:0")) as served,
            connect(EdgeConfig(cloud=f"127.0.0.1:{served.address[1]}")),
        ):
            await asyncio.Event().wait()
    assert asyncio.all_tasks() == before
