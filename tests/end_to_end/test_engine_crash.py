"""The target's process is killed while sessions are written: each of them ends with the right text."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import psutil
import pytest

from pipesd.actors.compute import run_once
from pipesd.alone import alone
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import connect
from pipesd.text import Piece
from tests.end_to_end.processes import PATIENCE_S, finish, interrupt, read_some, run, serving, start

PROMPTS = ("Dear friend", "Hello", "Long ago", "In the beginning", "Two", "Three")
"""The first one's answer is long."""

APART = ("--engine-process", "on")
LOG = [
    "pipesd.cloud ! the process of the target model was ended by SIGKILL",
    "pipesd.cloud the target model is loaded again",
]


def engine_of(cloud: subprocess.Popen[str]) -> psutil.Process:
    """The process of its target model."""
    children = psutil.Process(cloud.pid).children()
    (found,) = [each for each in children if "pipesd.engines.worker" in each.cmdline()]
    return found


def kill_engine(cloud: subprocess.Popen[str]) -> None:
    """And wait until there is another, which comes with the next pass: there must be one yet."""
    engine_of(cloud).kill()
    assert cloud.stderr is not None
    assert [cloud.stderr.readline().strip() for _ in LOG] == LOG


async def tokens_of(pieces: AsyncIterator[Piece]) -> list[int]:
    return [token async for piece in pieces for token in piece.tokens]


async def alone_said(config: CloudConfig, prompts: Sequence[str] = PROMPTS) -> list[list[int]]:
    """What the target alone answers to each prompt."""
    said = []
    async with alone(config) as target:
        for prompt in prompts:
            said.append(await tokens_of(aiter(target.generate(prompt))))
            target.reset()
    return said


async def said_through_crashes(
    cloud: subprocess.Popen[str],
    config: EdgeConfig,
    kills: int,
    every_tokens: int,
    prompts: Sequence[str] = PROMPTS,
) -> list[list[int]]:
    """What sessions of two edges are told while the target's process is killed so many times.

    It is whenever the first session has so many tokens more.
    """

    async def through_crashes(pieces: AsyncIterator[Piece]) -> list[int]:
        tokens: list[int] = []
        due = list(range(every_tokens, every_tokens * (kills + 1), every_tokens))
        async for piece in pieces:
            tokens += piece.tokens
            if due and len(tokens) >= due[0]:
                due.pop(0)
                await run_once("killer", lambda: kill_engine(cloud))
        assert due == [], "the answer was too short"
        return tokens

    async with asyncio.timeout(5 * PATIENCE_S), AsyncExitStack() as stack:
        both = [await stack.enter_async_context(connect(config)) for _ in range(2)]
        answers = [aiter(both[number % 2].generate(prompt)) for number, prompt in enumerate(prompts)]
        async with asyncio.TaskGroup() as group:
            first = group.create_task(through_crashes(answers[0]))
            others = [group.create_task(tokens_of(answer)) for answer in answers[1:]]
        return [task.result() for task in (first, *others)]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
async def test_every_session_ends_with_the_right_text(temperature: float) -> None:
    target = CloudConfig(engine="scripted", temperature=temperature, seed=5, tokens_max=200)
    edge = EdgeConfig(engine="scripted", tuner="off", temperature=temperature, seed=5, tokens_max=200)
    expected = await alone_said(target)
    with serving(*APART, "--kv-sequences", "4") as (cloud, address):
        paced = replace(edge, cloud=address, draft_ms=5.0)
        assert await said_through_crashes(cloud, paced, kills=6, every_tokens=20) == expected
        last = engine_of(cloud)
        cloud.send_signal(signal.SIGTERM)
        assert finish(cloud) == (0, "", "")
        last.wait(PATIENCE_S)


@pytest.mark.models
async def test_a_real_model_is_loaded_again_and_the_texts_are_right() -> None:
    target = CloudConfig(model="smollm2-135m", prompts="raw", threads=1, tokens_max=120)
    edge = EdgeConfig(draft="smollm2-135m", prompts="raw", threads=1, tokens_max=120, tuner="off")
    few = PROMPTS[:3]
    expected = await alone_said(target, few)
    assert len(expected[0]) == 120
    with serving("--engine", "llama", "--model", target.model, "--threads", "1") as (cloud, address):
        told = await said_through_crashes(cloud, replace(edge, cloud=address), 3, 10, few)
    assert told == expected


def test_a_session_that_was_idle_goes_on_from_its_transcript() -> None:
    first, second = "Once upon a time\n", "and then\n"
    limits = ("--tokens-max", "30")
    expected = run("cloud", "chat", *limits, script=first + second).stdout
    begun = run("cloud", "chat", *limits, script=first).stdout
    assert expected.startswith(begun)
    with (
        serving(*APART) as (cloud, address),
        start("edge", "chat", "--cloud", address, *limits) as edge,
    ):
        assert edge.stdin is not None
        edge.stdin.write(first)
        edge.stdin.flush()
        assert read_some(edge, len(begun)) == begun
        engine_of(cloud).kill()
        edge.stdin.write(second)
        edge.stdin.close()
        code, rest, errors = finish(edge)
        assert code == 0, errors
        assert begun + rest == expected


def test_an_interrupt_at_the_terminal_ends_both_processes_in_good_order() -> None:
    with serving(*APART) as (cloud, address):
        engine = engine_of(cloud)
        assert run("edge", "generate", "--cloud", address, "-p", "x", "--tokens-max", "3").returncode == 0
        engine.send_signal(signal.SIGINT)
        interrupt(cloud)
        assert finish(cloud) == (130, "", "pipesd-cloud: interrupted\n")
        engine.wait(PATIENCE_S)


def test_a_cloud_that_is_killed_leaves_no_engine_behind() -> None:
    with serving(*APART) as (cloud, _):
        engine = engine_of(cloud)
        cloud.kill()
        cloud.wait(PATIENCE_S)
        engine.wait(PATIENCE_S)
        assert not engine.is_running()
