"""What the commands of the lab are told alike."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from pipesd.cli.lab import lab_commands
from pipesd.cli.lab_options import SEED_MAX, scenario_option, seed_option, wire_option
from pipesd.lab.scenarios import SCENARIOS
from pipesd.lab.wires import WIRES


def given(*arguments: str) -> dict[str, Any]:
    taken: list[dict[str, Any]] = []

    @click.command()
    @scenario_option
    @wire_option
    @seed_option
    def command(**named: Any) -> None:
        taken.append(named)

    done = CliRunner().invoke(command, arguments, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return taken[0]


def test_without_words_it_is_a_laptop_that_sends_ids():
    assert given() == {"scenario": "s1", "wire": "ids", "seed": 0}


def test_every_option_is_taken():
    taken = given("--scenario", "mine.toml", "--wire", "full-distribution", "--seed", str(SEED_MAX))
    assert taken == {"scenario": "mine.toml", "wire": "full-distribution", "seed": SEED_MAX}


@pytest.mark.parametrize("arguments", [("--seed", "-1"), ("--seed", str(SEED_MAX + 1)), ("--wire", "copper")])
def test_what_cannot_be_is_a_usage_error(arguments: tuple[str, ...]):
    with pytest.raises(click.UsageError):
        given(*arguments)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("run", ("--scenario", "--wire", "--seed")),
        ("link", ("--scenario", "--wire", "--seed")),
        ("paper", ("--seed",)),
    ],
)
def test_commands_of_the_lab_offer_them(name: str, flags: tuple[str, ...]):
    said = " ".join(CliRunner().invoke(lab_commands, [name, "--help"]).stdout.split())
    assert all(flag in said for flag in flags)
    assert "Fixes jitter, losses and changes of rate." in said
    if "--scenario" in flags:
        assert ", ".join(SCENARIOS) in said
        assert all(wire in said for wire in WIRES)
