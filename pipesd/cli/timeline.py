"""``pipesd-lab timeline``: what ``--trace-out`` wrote on both sides, as one timeline and a picture."""

from pathlib import Path

import click

from pipesd.cli.process import say
from pipesd.errors import TraceError, UsageError, one_line
from pipesd.lab.gantt import belong_together, draw
from pipesd.timeline import Side, sides
from pipesd.trace_events import Event, merge, read, write


@click.command("timeline")
@click.argument("edge", metavar="EDGE.json", type=click.Path(path_type=Path))
@click.argument("cloud", metavar="[CLOUD.json]", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write one timeline.")
@click.option("--png", metavar="FILE", type=click.Path(path_type=Path), help="Draw a picture.")
@click.option("--from", "from_ms", metavar="MS", type=float, help="Its start. [default: the first prompt]")
@click.option("--to", "to_ms", metavar="MS", type=float, help="Its end. [default: the end of the answer]")
def timeline(
    edge: Path,
    cloud: Path | None,
    output: Path | None,
    png: Path | None,
    from_ms: float | None,
    to_ms: float | None,
) -> None:
    """Join what --trace-out wrote at an edge and at its cloud on the same machine, and draw it.

    Moments of the picture are milliseconds since the first event. The joined file opens at ui.perfetto.dev.
    """
    if output is None and png is None:
        raise click.UsageError("Say what is wanted: a file with -o, a picture with --png, or both.")
    if png is None and (from_ms, to_ms) != (None, None):
        raise click.UsageError("--from and --to are the picture's; give --png as well.")
    given = [path.resolve() for path in (edge, cloud) if path is not None]
    if len(set(given)) < len(given):
        raise click.UsageError("Both timelines are the same file; name the edge's and the cloud's.")
    if output is not None and output.resolve() in given:
        raise click.UsageError("-o names one of the timelines to be joined; choose another file.")
    events = _joined(edge, cloud)
    if output is not None:
        _write(events, output)
    if png is not None:
        draw(events, png, from_ms=from_ms, to_ms=to_ms)
        say(f"the picture is {png}")


def _joined(edge: Path, cloud: Path | None) -> list[Event]:
    paths = [path for path in (edge, cloud) if path is not None]
    events = merge(read(path, say) for path in paths)
    _check_sides(events, paths)
    if not belong_together(events):
        raise TraceError(
            f"{one_line(str(edge))} and {one_line(str(cloud))} do not go together: nothing the edge sent "
            "arrives at the cloud; name timelines of one run on one machine"
        )
    return events


def _check_sides(events: list[Event], paths: list[Path]) -> None:
    """One file must be of an edge; of two, the other must be of a cloud."""
    wanted: tuple[Side, ...] = ("edge", "cloud")
    present = sides(events)
    for side in wanted[: len(paths)]:
        if side not in present:
            names = " and ".join(one_line(str(path)) for path in paths)
            raise TraceError(
                f"the {side}'s timeline is missing in {names}; name what --trace-out wrote at the {side}"
            )


def _write(events: list[Event], path: Path) -> None:
    try:
        with path.open("wb") as out:
            write(events, out)
    except OSError as error:
        raise UsageError(
            f"output: {one_line(str(path))} cannot be written ({error.strerror}); name another file"
        ) from None
    say(f"the timeline is {path}; open it at ui.perfetto.dev")
