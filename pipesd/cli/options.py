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
    return mode_options("prompts")(command)


def mode_options(name: str) -> Callable[[Command], Command]:
    """Decorate a command with ``--chat`` and ``--raw``; its parameter ``name`` is the one that is given."""

    def note(context: click.Context, option: click.Parameter, given: bool) -> None:
        mode = context.params.setdefault(name, None)
        if given and mode is not None:
            raise click.UsageError("--chat and --raw exclude each other; give one of them.", context)
        if given:
            context.params[name] = option.name

    def decorate(command: Command) -> Command:
        for flag, text in (
            ("--raw", "Take prompts as they are."),
            ("--chat", "Put prompts into the target's chat template. [default: if it has one]"),
        ):
            click.option(flag, is_flag=True, expose_value=False, callback=note, help=text)(command)
        return command

    return decorate


def prompt_options(command: Command) -> Command:
    """Decorate a command that gives one answer."""
    click.option("--json", "as_json", is_flag=True, help="Give one JSON object instead of the text.")(command)
    click.option("-p", "--prompt", required=True, help="What the text begins with.")(command)
    return command
