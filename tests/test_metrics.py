"""Figures for Prometheus, read back with its own parser."""

import socket
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pipesd.actors.compute import run_once
from pipesd.cloud import serve
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import connect
from pipesd.engines.energy import Energy, Meter, declared
from pipesd.engines.scripted import ScriptedTarget
from pipesd.errors import ConfigError
from pipesd.metrics import CloudMetrics, offering
from pipesd.session.cloud_side import CloudSide
from pipesd.session.commands import ClosePeer, CloudCommand, RunPass, SendToPeer
from pipesd.session.events import (
    CloudEvent,
    PassDone,
    PassFailed,
    PeerClosed,
    PeerConnected,
    PeerFrame,
    StopRequested,
)
from pipesd.session.rules import CloudRules
from pipesd.values import Sampling, Slice
from pipesd.wire import frames
from tests.session.helpers import HELLO, VOCABULARY, WELCOME, draft, prompt

SOURCE = "modelled: 60 W busy, 20 W idle"
MODELLED = Energy(SOURCE, None, 60.0, 20.0)


class Rig:
    """A cloud's side, watched at moments that a test says."""

    def __init__(self, energy: Energy = MODELLED, rules: CloudRules | None = None) -> None:
        rules = rules or CloudRules(sessions_max=2, edge_sessions_max=2, connections_max=2)
        self.side = CloudSide(replace(rules, busy_watts=energy.busy_watts), WELCOME, VOCABULARY)
        self.now = 0.0
        self.metrics = CloudMetrics(energy, lambda: self.now)

    def tell(self, event: CloudEvent, now: float | None = None) -> Sequence[CloudCommand]:
        self.now = self.now if now is None else now
        commands = self.side.handle(event, self.now)
        self.metrics.observe(self.now, event, commands)
        return commands

    def meets(self, peer: int = 0, sessions: int = 1) -> None:
        self.tell(PeerConnected(peer))
        self.tell(PeerFrame(peer, HELLO))
        for session in range(sessions):
            self.tell(PeerFrame(peer, frames.Open(session)))

    def hears(self, frame: frames.EdgeFrame, now: float | None = None, peer: int = 0) -> None:
        self.tell(PeerFrame(peer, frame), now)

    def figures(self) -> dict[str, float]:
        return read(generate_latest(self.metrics.registry).decode())


def read(text: str) -> dict[str, float]:
    """Every sample by its name and labels."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        sample.name + "".join(f" {key}={sample.labels[key]}" for key in sorted(sample.labels)): sample.value
        for sample in samples
    }


def test_a_pass_and_its_verdict_are_counted():
    rig = Rig()
    rig.meets()
    rig.hears(prompt(1, 2, 3), now=1.0)
    rig.tell(PassDone(((11,),)), now=1.25)
    rig.hears(draft(4, 12, 13, 14, ask=7), now=2.0)
    rig.tell(PassDone(((12, 13, 50, 51),)), now=2.5)
    found = rig.figures()
    counts = {
        "pipesd_passes_total": 2,
        "pipesd_confirmed_tokens_total": 1 + 3,
        "pipesd_drafts_verified_total": 3,
        "pipesd_drafts_accepted_total": 2,
        "pipesd_drafts_rejected_total": 1,
        "pipesd_evaluated_tokens_total kind=prompt": 3,
        "pipesd_evaluated_tokens_total kind=text": 4,
        "pipesd_pass_seconds_count": 2,
        "pipesd_pass_seconds_sum": 0.75,
        "pipesd_pass_seconds_bucket le=0.25": 1,
        "pipesd_pass_tokens_sum": 7,
        "pipesd_pass_sessions_sum": 2,
        "pipesd_queue_seconds_count": 2,
    }
    assert {name: found[name] for name in counts} == counts


def test_a_verdict_that_waited_for_another_pass_has_an_age():
    rig = Rig()
    rig.meets(sessions=2)
    rig.hears(prompt(1, 2, session=0), now=1.0)
    rig.hears(prompt(1, 2, session=1), now=1.5)
    rig.tell(PassDone(((11,),)), now=2.0)
    rig.tell(PassDone(((11,),)), now=3.0)
    found = rig.figures()
    assert found["pipesd_queue_seconds_sum"] == 0.5
    assert (found["pipesd_queue_seconds_bucket le=0.25"], found["pipesd_queue_seconds_count"]) == (1, 2)


def test_connections_and_sessions_come_and_go():
    rig = Rig()
    names = ("pipesd_connections", "pipesd_sessions")

    def open_now() -> list[float]:
        found = rig.figures()
        return [found[name] for name in names]

    rig.meets(0, sessions=2)
    assert open_now() == [1, 2]
    rig.meets(1)
    assert open_now() == [2, 2], "a session was opened that there is no room for"
    rig.hears(frames.Close(0))
    assert open_now() == [2, 1]
    rig.hears(prompt(*range(1_000), session=1))
    assert open_now() == [2, 0], "a session that has failed is open"
    rig.tell(PeerConnected(2))
    assert open_now() == [2, 0], "a connection that was refused is open"
    rig.tell(PeerClosed(0, "gone"))
    assert open_now() == [1, 0]
    rig.tell(StopRequested())
    assert open_now() == [0, 0]


def test_sessions_that_come_back_are_counted_by_what_they_went_on_from():
    rig = Rig(rules=CloudRules(lease_s=60.0, secret=b"s"))
    rig.meets(0, sessions=2)
    leases = [session.lease for session in rig.side.sessions]
    rig.tell(PeerClosed(0, "gone"))
    assert rig.figures()["pipesd_sessions"] == 0
    rig.meets(1, sessions=0)
    for session, lease in enumerate([leases[0], b"unknown"]):
        rig.hears(frames.Resume(session, lease, epoch=1, prompt_epoch=0, confirmed=0), peer=1)
    found = rig.figures()
    assert found["pipesd_sessions"] == 2
    assert found["pipesd_resumed_total from=cache"] == found["pipesd_resumed_total from=text"] == 1


def test_refusals_and_faults_are_counted_by_their_code():
    rig = Rig(rules=CloudRules(sessions_max=1, connections_max=2))
    rig.meets(0, sessions=2)
    rig.hears(prompt(*range(1_000)))
    rig.tell(PeerConnected(1))
    rig.tell(PeerConnected(2))
    rig.hears(frames.Ping(1), peer=1)
    found = rig.figures()
    assert found["pipesd_refusals_total code=busy"] == 2
    assert found["pipesd_faults_total code=context"] == 1
    assert found["pipesd_faults_total code=out_of_phase"] == 1


def test_what_fails_and_what_is_evicted_is_counted():
    rig = Rig()
    rig.meets()
    rig.hears(prompt(1, 2), now=1.0)
    rig.tell(PassFailed("it has ended", lost=True), now=2.0)
    rig.tell(PassFailed("out of memory"), now=3.0)
    part = Slice(0, 0, (1, 2), 1, True, Sampling(), 0)
    rig.metrics.observe(4.0, PassDone(()), [RunPass((part,), 3)])
    found = rig.figures()
    assert found["pipesd_pass_failures_total"] == 2
    assert found["pipesd_engine_restarts_total"] == 1
    assert found["pipesd_evictions_total"] == 3


def energy_of(found: dict[str, float], source: str = SOURCE) -> dict[str, float]:
    kinds = ("useful", "rejected", "idle")
    return {kind: found[f"pipesd_energy_joules_total kind={kind} source={source}"] for kind in kinds}


def test_energy_carries_its_source_and_grows_while_nothing_happens():
    rig = Rig()
    rig.meets()
    rig.hears(prompt(1, 2, 3), now=1.0)
    rig.tell(PassDone(((11,),)), now=1.25)
    rig.hears(draft(4, 12, 13, 14, ask=7), now=2.0)
    rig.tell(PassDone(((12, 50, 51, 52),)), now=2.5)
    rig.now = 4.5
    useful, rejected = 60 * 0.25 + 60 * 0.5 / 2, 60 * 0.5 / 2
    idle = 20 * (1.0 + 0.75 + 2.0)
    assert energy_of(rig.figures()) == {"useful": useful, "rejected": rejected, "idle": idle}
    assert rig.figures()[f"pipesd_pass_energy_joules_total source={SOURCE}"] == useful + rejected
    rig.hears(prompt(1, epoch=3), now=5.5)
    rig.now = 9.0
    assert energy_of(rig.figures())["idle"] == idle + 20 * 1.0, "it is busy"


def test_measured_energy_is_what_was_measured():
    joules = [10.0]
    meter = Meter(lambda: joules[0], lambda: None)
    rig = Rig(Energy("zeus: GPU", meter))
    rig.meets()
    rig.hears(prompt(1, 2, 3), now=1.0)
    joules[0] += 4.0
    rig.tell(PassDone(((11,),), 2.5), now=1.25)
    assert energy_of(rig.figures(), "zeus: GPU") == {"useful": 2.5, "rejected": 0.0, "idle": 4.0}


def test_a_power_without_idle_watts_says_nothing_of_idle_time():
    found = Rig(declared(CloudConfig(power_busy_watts=60))).figures()
    assert "pipesd_energy_joules_total kind=useful source=modelled: 60 W busy" in found
    assert not any("kind=idle" in name for name in found)


def test_without_a_source_there_is_no_energy():
    assert not any("joules" in name for name in Rig(Energy()).figures())


def test_a_verdict_that_is_told_again_counts_once():
    rig = Rig()
    rig.meets()
    again = SendToPeer(0, frames.Verdict(0, 2, 3, 0, (11, 12)))
    rig.metrics.observe(1.0, PeerFrame(0, draft(3, ask=6, epoch=2)), [again])
    assert rig.figures()["pipesd_confirmed_tokens_total"] == 0


def test_two_clouds_share_no_figure():
    first, second = Rig(), Rig()
    first.meets(sessions=2)
    assert second.figures()["pipesd_sessions"] == 0
    assert first.figures()["pipesd_sessions"] == 2


def test_every_name_follows_the_conventions():
    rig = Rig()
    rig.metrics.introduce(ScriptedTarget().identity)
    families = list(text_string_to_metric_families(generate_latest(rig.metrics.registry).decode()))
    for family in families:
        if family.name.endswith("_created"):
            continue
        assert family.name.startswith("pipesd_")
        assert family.documentation
        assert not family.name.endswith(("_ms", "_milliseconds", "_us"))
        totals = [sample.name.endswith("_total") for sample in family.samples]
        assert all(totals) if family.type == "counter" else not any(totals)
    build = next(family for family in families if family.name == "pipesd_build_info").samples[0]
    assert set(build.labels) == {"version", "protocol", "model", "engine", "numerics"}


def test_a_peer_that_was_never_met_is_no_matter():
    rig = Rig()
    rig.metrics.observe(1.0, PeerFrame(7, frames.Close(0)), [ClosePeer(7), SendToPeer(7, frames.Opened(0))])
    found = rig.figures()
    assert (found["pipesd_connections"], found["pipesd_sessions"]) == (0, 0)


def fetched(host: str, port: int) -> str:
    with socket.create_connection((host, port)) as link:
        link.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: link.recv(65_536), b""))
    return answer.partition(b"\r\n\r\n")[2].decode()


async def test_a_cloud_offers_its_figures_while_it_serves():
    config = CloudConfig(
        engine="scripted",
        listen="127.0.0.1:0",
        metrics="127.0.0.1:0",
        power_busy_watts=60,
        pass_ms=1,
    )
    async with serve(config) as cloud:
        assert cloud.metrics_address is not None
        host, port = cloud.metrics_address
        edge = EdgeConfig(engine="scripted", tuner="off", cloud="{}:{}".format(*cloud.address), tokens_max=20)
        async with connect(edge) as client, client.session() as session:
            answer = session.generate("Hello")
            async for _ in answer:
                pass
            found = read(await run_once("fetch", lambda: fetched(host, port)))
        assert answer.result is not None
        stats = answer.result.stats
    assert found["pipesd_confirmed_tokens_total"] == 20
    assert found["pipesd_passes_total"] == stats.verdicts
    told = [
        found[f"pipesd_energy_joules_total kind={kind} source=modelled: 60 W busy"]
        for kind in ("useful", "rejected")
    ]
    rejected_uj = stats.energy_uj - stats.useful_uj
    assert told == pytest.approx([stats.useful_uj / 1e6, rejected_uj / 1e6])
    with pytest.raises(ConnectionRefusedError):
        await run_once("fetch", lambda: fetched(host, port))


async def test_an_address_in_use_or_impossible_is_one_sentence():
    async with offering(CloudMetrics(Energy()), "127.0.0.1", 0) as (host, port):
        taken = CloudConfig(engine="scripted", listen="127.0.0.1:0", metrics=f"{host}:{port}")
        with pytest.raises(ConfigError, match=r"^metrics: cannot listen on .*in use\); choose another"):
            async with serve(taken):
                raise AssertionError("two on one port")
    with pytest.raises(ConfigError, match=r"^metrics: cannot listen on no\.such\.name\.invalid:0 \("):
        async with offering(CloudMetrics(Energy()), "no.such.name.invalid", 0):
            raise AssertionError("it listens nowhere")


async def test_a_cloud_without_the_setting_offers_nothing():
    async with serve(CloudConfig(engine="scripted", listen="127.0.0.1:0")) as cloud:
        assert cloud.metrics_address is None


def test_the_figures_do_not_tell_which_tokens_there_were():
    def figures(token: int) -> dict[str, float]:
        rig = Rig()
        rig.meets()
        rig.hears(msgspec.structs.replace(prompt(token, token), seed=token), now=1.0)
        rig.tell(PassDone(((token,),)), now=1.25)
        return {name: value for name, value in rig.figures().items() if "_created" not in name}

    assert figures(7) == figures(83)
