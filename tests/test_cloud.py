"""Embedding the cloud."""

import asyncio
import itertools
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Literal

import psutil
import pytest

from pipesd.actors.compute import ModelledCompute, ThreadCompute
from pipesd.actors.link import listening
from pipesd.actors.runtime import Hooks
from pipesd.cloud import LEAVING_MAX, bounds_of, cloud_rules, compute_for, make_gateway, serve, welcome_of
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import connect
from pipesd.engines.alone import answer_alone
from pipesd.engines.energy import Energy, Meter
from pipesd.engines.scripted import ScriptedTarget
from pipesd.errors import ConfigError, EngineError, LinkError, TraceError
from pipesd.values import Sampling
from pipesd.wire.frames import Refuse
from tests.actors.helpers import caller

ANYWHERE = CloudConfig(engine="scripted", listen="127.0.0.1:0")


def edge_of(address: tuple[str, int], tokens_max: int = 4) -> EdgeConfig:
    host, port = address
    return EdgeConfig(engine="scripted", tuner="off", cloud=f"{host}:{port}", tokens_max=tokens_max)


def expected(text: str, tokens_max: int) -> list[int]:
    target = ScriptedTarget()
    prompt = target.tokenizer.encode(text)
    return answer_alone(target, prompt, sampling=Sampling(), seed=0, tokens_max=tokens_max)[0]


async def test_several_clouds_live_in_one_process_and_stop_one_by_one():
    async with serve(ANYWHERE) as first:
        async with serve(ANYWHERE) as second:
            assert first.address != second.address
            second.stop()
            await second.wait_stopped()
        with pytest.raises(LinkError):
            async with connect(edge_of(second.address)):
                raise AssertionError("a stopped cloud answered")
        async with connect(edge_of(first.address)) as edge:
            tokens = [token async for piece in edge.generate("Hello") for token in piece.tokens]
    assert tokens == expected("Hello", 4)


async def test_an_edge_is_told_who_the_target_is():
    config = CloudConfig(engine="scripted", listen="127.0.0.1:0", context_tokens=500, chunk_tokens=70)
    identity = ScriptedTarget().identity
    async with serve(config) as served, connect(edge_of(served.address)) as edge:
        welcome = edge.welcome
    assert (welcome.model, welcome.engine, welcome.numerics) == (identity.model, "scripted", "exact")
    assert (welcome.context_tokens, welcome.chunk_tokens) == (500, 70)
    assert (welcome.end_ids, welcome.begin_ids, welcome.control_ids) == (identity.end_ids, (), ())
    assert welcome.template == ""


def test_settings_become_rules():
    rules = cloud_rules(CloudConfig(verify="eager", pass_tokens=9, sessions_max=3, handshake_timeout_s=4))
    assert (rules.verify, rules.pass_tokens, rules.sessions_max) == ("eager", 9, 3)
    assert rules.patience.greeting_s == 4
    assert cloud_rules(CloudConfig()).verify == "piggyback"


@pytest.mark.parametrize(("tuner", "tunes"), [("on", True), ("off", False)])
def test_whether_it_tunes_is_a_setting_that_edges_are_told(tuner: Literal["on", "off"], tunes: bool):
    config = CloudConfig(engine="scripted", tuner=tuner)
    assert cloud_rules(config).tunes == tunes
    assert welcome_of(config, ScriptedTarget()).tunes == tunes
    assert CloudConfig().tuner == "on"


async def test_what_passes_took_reaches_the_edge_with_its_source():
    joules = itertools.count(step=2)  # two joules from one look at the counter to the next
    energy = Energy("zeus: GPU", Meter(lambda: float(next(joules)), lambda: None))
    engine = ScriptedTarget()
    config = CloudConfig(engine="scripted", power_busy_watts=60)
    gateway = make_gateway(config, engine, compute_for(config, engine), Hooks(), energy)
    async with (
        gateway.running(),
        listening("127.0.0.1", 0, gateway.accept) as address,
        connect(edge_of(address)) as edge,
        edge.session() as session,
    ):
        answer = session.generate("Hello")
        async for _ in answer:
            pass
        assert answer.result is not None
        stats, source = answer.result.stats, edge.welcome.energy
    assert source == "zeus: GPU"
    assert stats.energy_uj == 2_000_000 * stats.verdicts > 0


@pytest.mark.parametrize(
    ("energy", "busy_watts", "source"),
    [("auto", 60.0, "modelled: 60 W busy"), ("off", None, ""), ("measured", None, "")],
)
def test_a_declared_power_needs_nothing_to_be_opened(
    energy: Literal["auto", "off", "measured"], busy_watts: float | None, source: str
):
    config = CloudConfig(energy=energy, power_busy_watts=60)
    assert cloud_rules(config).busy_watts == busy_watts
    assert welcome_of(config, ScriptedTarget()).energy == source


async def test_measurements_that_cannot_be_had_are_a_setting_to_change():
    with pytest.raises(ConfigError, match=r"^energy: nothing can be measured"):
        async with serve(CloudConfig(engine="scripted", listen="127.0.0.1:0", energy="measured")):
            raise AssertionError("it served")


async def test_metrics_without_their_library_are_a_setting_to_change(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "pipesd.metrics", raising=False)
    config = CloudConfig(engine="scripted", listen="127.0.0.1:0", metrics="127.0.0.1:0")
    with pytest.raises(ConfigError, match=r"^metrics: .*pip install 'pipesd\[metrics\]'"):
        async with serve(config):
            raise AssertionError("it served")


async def test_an_address_in_use_is_a_setting_to_change():
    async with serve(ANYWHERE) as served:
        host, port = served.address
        with pytest.raises(ConfigError, match="listen: cannot listen"):
            async with serve(CloudConfig(engine="scripted", listen=f"{host}:{port}")):
                raise AssertionError("two on one port")


async def test_connections_beside_those_that_are_let_in_are_bounded_too():
    """So many may be told that there is no room; who comes then is told so without being served."""
    busy = replace(ANYWHERE, address_connections_max=1, busy_retry_s=3.0)
    async with serve(busy) as served, AsyncExitStack() as guests:
        for _ in range(1 + LEAVING_MAX):
            await guests.enter_async_context(caller(served.address))
        async with caller(served.address) as beyond:
            assert await beyond.hear_all() == [Refuse("busy", "too many connections wait here", 3_000)]
    assert bounds_of(replace(busy, tls_cert="a", tls_key="b")).last_word == b""


async def test_a_missing_trace_is_named():
    with pytest.raises(EngineError, match="nowhere"):
        async with serve(CloudConfig(engine="replay", traces=("nowhere.jsonl",))):
            raise AssertionError("it served")


async def test_a_missing_model_is_named_before_anybody_can_connect(tmp_path):
    with pytest.raises(EngineError, match=r"nowhere\.gguf"):
        async with serve(CloudConfig(listen="127.0.0.1:0", model=str(tmp_path / "nowhere.gguf"))):
            raise AssertionError("it served")


async def test_a_cancelled_cloud_leaves_no_task_behind():
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with (
            asyncio.timeout(0.2),
            serve(ANYWHERE) as served,
            connect(edge_of(served.address)),
        ):
            await asyncio.Event().wait()
    assert asyncio.all_tasks() == before


APART = replace(ANYWHERE, engine_process="on")


@pytest.mark.parametrize("pass_ms", [0.0, 1.0], ids=["as it is", "paced"])
async def test_an_engine_apart_says_the_same_and_is_gone_with_the_block(pass_ms: float):
    before = psutil.Process().children()
    async with serve(replace(APART, pass_ms=pass_ms)) as served, connect(edge_of(served.address, 30)) as edge:
        (apart,) = set(psutil.Process().children()) - set(before)
        tokens = [token async for piece in edge.generate("Hello") for token in piece.tokens]
    assert tokens == expected("Hello", 30)
    assert not apart.is_running()
    assert psutil.Process().children() == before


async def test_an_engine_apart_that_cannot_be_loaded_is_named_as_ever():
    before = psutil.Process().children()
    with pytest.raises(TraceError, match="nowhere"):
        async with serve(replace(APART, engine="replay", traces=("nowhere.jsonl",))):
            raise AssertionError("it served")
    assert psutil.Process().children() == before


async def test_a_cloud_that_is_cancelled_while_it_loads_leaves_no_process():
    before = psutil.Process().children()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02), serve(APART):
            raise AssertionError("it served already")
    assert psutil.Process().children() == before


def test_a_pace_is_modelled_and_a_real_pass_is_interrupted_at_the_end():
    class Interrupted(ScriptedTarget):
        times = 0

        def interrupt(self) -> None:
            self.times += 1

    engine = Interrupted()
    paced = compute_for(CloudConfig(engine="scripted", pass_ms=1.0), engine)
    assert isinstance(paced, ModelledCompute)
    threaded = compute_for(ANYWHERE, engine)
    assert isinstance(threaded, ThreadCompute)
    threaded.interrupt()
    assert engine.times == 1
    threaded.close()
    assert engine.times == 2
