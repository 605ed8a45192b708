"""The command in this process; a signal comes as soon as it says that it is ready."""

import re
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from pipesd.cli import relay
from pipesd.cli.relay import link
from pipesd.errors import ConfigError, UsageError
from pipesd.lab.emulator import LinkModel
from pipesd.lab.faults import HONEST, KINDS, FaultModel
from pipesd.lab.relay import Address
from pipesd.lab.scenarios import SCENARIOS, scenario_named
from pipesd.lab.storm import Storm
from pipesd.lab.wires import charge_of
from tests.actors.helpers import PATIENCE_S

FREE = "127.0.0.1:0"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Result, list[str]]]:
    """Runs the command until it is ready, then sends it a signal once; gives what it said, too."""

    def run(*arguments: str, ended_by: signal.Signals = signal.SIGTERM) -> tuple[Result, list[str]]:
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            if len(said) == 1:
                signal.raise_signal(ended_by)

        monkeypatch.setattr(relay, "say", say)
        return CliRunner().invoke(link, arguments, standalone_mode=False), said

    return run


def test_it_says_where_it_is_ready_and_ends_in_good_order_when_terminated(run):
    done, said = run("--listen", FREE, "--cloud", "127.0.0.1:1", "--scenario", "far")
    assert (done.exception, done.return_value) == (None, None)
    (line,) = said
    words, _, port = line.rpartition(":")
    assert words == "pipesd-lab: link far ready on 127.0.0.1"
    assert 0 < int(port) < 65_536


def test_an_interrupt_comes_out_as_one(run):
    before = signal.getsignal(signal.SIGINT)
    done, said = run("--listen", FREE, ended_by=signal.SIGINT)
    assert len(said) == 1
    assert type(done.exception) is click.Abort  # what click makes of KeyboardInterrupt
    assert signal.getsignal(signal.SIGINT) == before


def test_an_ipv6_address_is_shown_in_brackets(run):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    done, said = run("--listen", "[::1]:0")
    if isinstance(done.exception, ConfigError):
        pytest.skip("no IPv6 address here")
    assert said[0].startswith("pipesd-lab: link s1 ready on [::1]:")


def handed_over(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """What the relay is told."""
    told: dict[str, Any] = {}

    @asynccontextmanager
    async def relaying(
        listen: Address, upstream: Address, up: LinkModel, down: LinkModel, **more: Any
    ) -> AsyncIterator[Address]:
        told.update(more, listen=listen, upstream=upstream, up=up, down=down)
        yield listen

    monkeypatch.setattr(relay, "relaying", relaying)
    done, _ = run(*arguments)
    assert done.exception is None
    return told


def test_the_relay_gets_the_link_of_the_scenario(run, monkeypatch: pytest.MonkeyPatch):
    where = "--listen", "10.0.0.1:5", "--cloud", "example.org:7"
    told = handed_over(run, monkeypatch, *where, "--scenario", "s4", "--seed", "11")
    assert (told["listen"], told["upstream"], told["seed"]) == (("10.0.0.1", 5), ("example.org", 7), 11)
    assert told["up"] == scenario_named("s4").uplink
    assert told["down"] == scenario_named("s4").downlink
    assert told["charge"]() is charge_of("ids") is len


def test_without_options_it_is_s1_before_a_cloud_at_its_usual_address(run, monkeypatch: pytest.MonkeyPatch):
    told = handed_over(run, monkeypatch)
    assert (told["listen"], told["upstream"]) == (("127.0.0.1", 7434), ("127.0.0.1", 7433))
    assert (told["up"], told["seed"]) == (scenario_named("s1").uplink, 0)


def test_the_other_wire_is_charged_for_distributions(run, monkeypatch: pytest.MonkeyPatch):
    told = handed_over(run, monkeypatch, "--wire", "full-distribution")
    assert told["up"].message_s == 0.025
    assert told["charge"]() is not told["charge"]()


def test_a_scenario_may_be_a_file(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "slow.toml").write_text('like = "s1"\nup_bits_per_s = 8_000')
    told = handed_over(run, monkeypatch, "--scenario", str(tmp_path / "slow.toml"))
    assert told["up"].bytes_per_s == 1_000.0


@pytest.mark.parametrize(
    ("arguments", "failure", "words"),
    [
        (("--scenario", "s5"), UsageError, "scenario: 's5' is not known; choose one of s1, "),
        (("--scenario", "no.toml"), UsageError, "scenario: cannot read no.toml"),
        (("--listen", "7434"), ConfigError, "listen: must be HOST:PORT"),
        (("--cloud", "somewhere"), ConfigError, "cloud: must be HOST:PORT"),
        (("--cloud", "127.0.0.1:0"), ConfigError, "cloud: the port must be between 1"),
        (("--listen", "127.0.0.1:7433"), ConfigError, "listen: 127.0.0.1:7433 is where the cloud is"),
        (("--fault-kinds", "cut,flood"), UsageError, "fault-kinds: 'flood' is not known; choose among cut, "),
    ],
)
def test_what_cannot_be_is_one_sentence(
    run, arguments: tuple[str, ...], failure: type[Exception], words: str
):
    done, said = run(*arguments)
    assert type(done.exception) is failure
    assert str(done.exception).startswith(words)
    assert "\n" not in str(done.exception)
    assert said == []


def test_an_address_in_use_is_said(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done, said = run("--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert type(done.exception) is ConfigError
    assert "Address already in use" in str(done.exception)
    assert said == []


@pytest.mark.parametrize(
    "arguments",
    [("--seed", "-1"), ("--wire", "radio"), ("--fault-every-s", "0"), ("--fault-seed", "x"), ("extra",)],
    ids=str,
)
def test_bad_options_are_clicks_to_say(run, arguments: tuple[str, ...]):
    done, said = run(*arguments)
    assert arguments[-1] in str(done.exception)
    assert said == []


def test_the_help_names_the_scenarios_and_the_faults():
    shown = " ".join(CliRunner().invoke(link, ["--help"]).stdout.split())
    assert ", ".join(SCENARIOS) in shown
    assert ", ".join(KINDS) in shown


# -- faults -------------------------------------------------------------------------------------------------


def test_without_being_asked_for_no_fault_comes(run, monkeypatch: pytest.MonkeyPatch):
    assert handed_over(run, monkeypatch, "--fault-kinds", "cut")["storm"] is None


@pytest.mark.parametrize(
    ("arguments", "kinds", "seed"),
    [((), HONEST, 0), (("--fault-kinds", "cut, garbage", "--fault-seed", "7"), ("cut", "garbage"), 7)],
    ids=["as usual", "chosen"],
)
def test_the_relay_gets_a_storm(
    run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], kinds: tuple[str, ...], seed: int
):
    models: list[FaultModel] = []

    def noted(model: FaultModel) -> Storm:
        models.append(model)
        return Storm(model)

    monkeypatch.setattr(relay, "Storm", noted)
    told = handed_over(run, monkeypatch, "--fault-every-s", "0.4", *arguments)
    assert isinstance(told["storm"], Storm)
    assert models == [FaultModel(every_s=0.4, weights=dict.fromkeys(kinds, 1.0), seed=seed)]


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGINT])
def test_in_the_end_it_says_what_was_injected(monkeypatch: pytest.MonkeyPatch, ended_by: signal.Signals):
    """A client connects again and again until it was cut off three times, and then ends the command."""
    said: list[str] = []
    clients: list[threading.Thread] = []

    def client(port: int, command: int) -> None:
        try:
            for _ in range(3):
                with (
                    socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection,
                    pytest.raises(ConnectionResetError),
                ):
                    connection.recv(1)
        finally:
            signal.pthread_kill(command, ended_by)

    def say(line: str) -> None:
        said.append(line)
        if not clients:
            known = int(line.rpartition(":")[2]), threading.get_ident()
            clients.append(threading.Thread(target=client, args=known))
            clients[0].start()

    monkeypatch.setattr(relay, "say", say)
    with socket.create_server(("127.0.0.1", 0)) as cloud:
        where = "--listen", FREE, "--cloud", f"127.0.0.1:{cloud.getsockname()[1]}"
        faults = "--fault-every-s", "0.01", "--fault-kinds", "cut"
        CliRunner().invoke(link, (*where, *faults), standalone_mode=False)
    clients[0].join(PATIENCE_S)
    _, summary = said
    match = re.fullmatch(r"pipesd-lab: (\d+) faults injected \(cut (\d+)\), \d+ of no effect", summary)
    assert match is not None
    assert int(match[1]) == int(match[2]) >= 3
