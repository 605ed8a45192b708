import os
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pipesd.cli.options import OF_AN_ANSWER, answer_options, prompt_options
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.flags import settings_of, take
from tests.cli.taking import taken


def given(*arguments: str) -> dict[str, Any]:
    """What a command that gives one answer takes these arguments for."""
    return taken(arguments, prompt_options, answer_options)


def test_without_flags_nothing_is_decided():
    assert given("-p", "Hi") == {
        "prompt": "Hi",
        "prompts": None,
        "stop": (),
        "show_ids": False,
        "as_json": False,
    }


def test_every_flag_is_taken():
    found = given("--prompt", "Hi", "--chat", "--stop", "a", "--stop", "\n\n", "--show-ids", "--json")
    assert found == {
        "prompt": "Hi",
        "prompts": "chat",
        "stop": ("a", "\n\n"),
        "show_ids": True,
        "as_json": True,
    }


@pytest.mark.parametrize(
    ("flags", "prompts"), [(("--raw",), "raw"), (("--chat",), "chat"), (("--raw", "--raw"), "raw")]
)
def test_one_of_chat_and_raw_counts(flags: tuple[str, ...], prompts: str):
    assert given("-p", "Hi", *flags)["prompts"] == prompts


@pytest.mark.parametrize("flags", [("--raw", "--chat"), ("--chat", "--raw")])
def test_both_are_a_contradiction(flags: tuple[str, ...]):
    with pytest.raises(click.UsageError, match=r"^--chat and --raw exclude each other; give one of them\.$"):
        given("-p", "Hi", *flags)


@pytest.mark.parametrize(("flags", "prompts"), [((), "raw"), (("--chat",), "chat")])
def test_a_flag_wins_over_the_environment_and_no_flag_does_not(flags: tuple[str, ...], prompts: str):
    taken: list[EdgeConfig] = []

    @click.command()
    @answer_options
    @settings_of(EdgeConfig, but={"prompts"})
    def command(stop: Any, show_ids: bool, **named: Any) -> None:
        taken.append(take(EdgeConfig, named, {"PIPESD_EDGE_PROMPTS": "raw", "PIPESD_CONFIG": os.devnull}))

    CliRunner().invoke(command, flags, standalone_mode=False)
    assert [config.prompts for config in taken] == [prompts]


@pytest.mark.parametrize("arguments", [(), ("-p",), ("-p", "Hi", "--chat=1"), ("-p", "Hi", "there")])
def test_what_cannot_be_read_is_a_usage_error(arguments: tuple[str, ...]):
    with pytest.raises(click.UsageError):
        given(*arguments)


@pytest.mark.parametrize("kind", [EdgeConfig, CloudConfig])
def test_what_an_answer_is_told_are_settings(kind: type[EdgeConfig | CloudConfig]):
    assert all(hasattr(kind(), name) for name in OF_AN_ANSWER)
