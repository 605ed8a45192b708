"""Options that several commands of the lab share, and the folder that they write to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from pipesd.cli.options import Command
from pipesd.errors import UsageError, one_line
from pipesd.lab.scenarios import SCENARIOS
from pipesd.lab.wires import WIRES

SEED_MAX = 2**63 - 1


def scenario_option(command: Command) -> Command:
    """Decorate a command with ``--scenario``, for ``scenario_from``."""
    click.option(
        "--scenario",
        default="s1",
        show_default=True,
        help=f"One of {', '.join(SCENARIOS)}, or the path of a .toml file.",
    )(command)
    return command


def wire_option(command: Command) -> Command:
    """Decorate a command with ``--wire``."""
    click.option(
        "--wire",
        type=click.Choice(WIRES),
        default="ids",
        show_default=True,
        help="What drafts are charged for: what they send, or the probabilities of the whole vocabulary.",
    )(command)
    return command


def seed_option(command: Command) -> Command:
    """Decorate a command with ``--seed``, of the link's luck."""
    click.option(
        "--seed",
        type=click.IntRange(0, SEED_MAX),
        default=0,
        show_default=True,
        help="Fixes jitter, losses and changes of rate.",
    )(command)
    return command


def output_option(description: str, default: Path | None = None) -> Callable[[Command], Command]:
    """What decorates a command with ``-o``, the folder it writes to."""
    return click.option(
        "-o",
        "--output",
        "folder",
        metavar="DIR",
        type=click.Path(path_type=Path),
        default=default,
        show_default=default is not None,
        help=description,
    )


def make_folder(folder: Path) -> None:
    """Have the folder that is written to, before there is anything to lose. Raises ``UsageError``."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Write to ``path`` in the block. Raises ``UsageError`` if the system refuses."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"output: {one_line(str(path))} cannot be written ({error.strerror}); name another folder"
        ) from None
