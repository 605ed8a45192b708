"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

OF_AN_ANSWER = frozenset(
    {"temperature", "top_k", "top_p", "min_p", "seed", "tokens_max", "prompts", "system"}
)
"""Settings that mean nothing to a server: each edge says its own."""


def answer_options(command: Command) -> Command:
    """Decorate a command that takes prompts with what it may be told about prompts and answers."""
    click.option(
        "--show-ids", is_flag=True, help="Show the token ids of prompt and answer, on standard error."
    )(command)
    click.option("--stop", multiple=True, help="End an answer before this text; may be repeated.")(command)
    click.option("--raw", "prompts", flag_value="raw", help="Take prompts as they are.")(command)
    click.option(
        "--chat",
        "prompts",
        flag_value="chat",
        help="Put prompts into the target's chat template. [default: if it has one]",
    )(command)
    return command


def prompt_options(command: Command) -> Command:
    """Decorate a command that gives one answer."""
    click.option("--json", "as_json", is_flag=True, help="Give one JSON object instead of the text.")(command)
    click.option("-p", "--prompt", required=True, help="What the text begins with.")(command)
    return command
