"""What the commands of the lab are told alike."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from pipesd.cli.lab import lab_commands
from pipesd.cli.lab_options import SEED_MAX, scenario_option, seed_option, wire_option
from pipesd.lab.scenarios import SCENARIOS
from pipesd.lab.wires import WIRES
from tests.cli.taking import taken


def given(*arguments: str) -> dict[str, Any]:
    return taken(arguments, scenario_option, wire_option, seed_option)


def test_without_words_it_is_a_laptop_that_sends_ids():
    assert given() == {"scenario": "s1", "wire": "ids", "seed": 0}


def test_every_option_is_taken():
    found = given("--scenario", "mine.toml", "--wire", "full-distribution", "--seed", str(SEED_MAX))
    assert found == {"scenario": "mine.toml", "wire": "full-distribution", "seed": SEED_MAX}


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
