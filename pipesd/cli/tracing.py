"""``--trace-out``: a command that writes down when it drafted, sent, verified and waited."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from pipesd.observe import Observer
from pipesd.timeline import Side, recording

Command = TypeVar("Command", bound=Callable[..., Any])


def trace_option(command: Command) -> Command:
    """Decorate a command with ``--trace-out``."""
    click.option(
        "--trace-out",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Write a timeline of what is done, without its content; it opens at ui.perfetto.dev.",
    )(command)
    return command


@contextmanager
def tracing(trace_out: Path | None, side: Side) -> Iterator[tuple[Observer, ...]]:
    """The observer that ``--trace-out`` wants, if any; its file is complete when the block is left."""
    if trace_out is None:
        yield ()
        return
    with recording(trace_out, side) as observer:
        yield (observer,)
