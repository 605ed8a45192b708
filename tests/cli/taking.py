"""What a command takes its arguments for."""

from collections.abc import Callable
from typing import Any

import click
from click.testing import CliRunner


def taken(arguments: tuple[str, ...], *decorators: Callable[..., Any]) -> dict[str, Any]:
    """The values that a command so decorated is called with. Raises what click raises for bad ones."""
    seen: list[dict[str, Any]] = []

    def command(**named: Any) -> None:
        seen.append(named)

    for decorate in reversed(decorators):
        command = decorate(command)
    done = CliRunner().invoke(click.command()(command), arguments, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return seen[0]
