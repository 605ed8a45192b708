"""``pipesd-lab load``: many edges on one cloud."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from pipesd.cli.lab_options import make_folder, output_option, scenario_option, seed_option, writing
from pipesd.cli.options import Command
from pipesd.cli.process import say
from pipesd.engines.choose import cores
from pipesd.engines.traces import SHIPPED_SETS, Trace
from pipesd.engines.traces import load as load_traces
from pipesd.errors import UsageError, one_line
from pipesd.lab.jobs import working
from pipesd.lab.load import EDGES_MAX, Arrivals, Load, System
from pipesd.lab.load_metrics import IDLE_W, LoadFigures, Power, load_figures
from pipesd.lab.load_report import LOAD_PICTURE, draw_load, load_report
from pipesd.lab.load_study import DOUBLED, LoadComparison, LoadStudy, compare_loads, measure
from pipesd.lab.load_wall import Engine, WallLoad, play_wall
from pipesd.lab.metrics import BUSY_W
from pipesd.lab.plots import check_plots
from pipesd.lab.run import KEYS, settings_from
from pipesd.lab.scenario_file import scenario_from

LOAD_PAGE = "load.md"
_MANY = 1_000
_WALL_BASIS = "in wall time, on this machine"


_OPTIONS = (
    click.option(
        "--trace",
        "traces",
        multiple=True,
        help=f"A recording, or one of {', '.join(SHIPPED_SETS)}; may be repeated. [default: the first two]",
    ),
    click.option(
        "--prompts-max",
        type=click.IntRange(1),
        help="Only so many of the prompts, spread evenly. [default: all]",
    ),
    scenario_option,
    click.option(
        "--edges",
        type=click.IntRange(1, EDGES_MAX),
        help=f"How many there are; with -o the most. [default: 8; with -o {DOUBLED[-1]}]",
    ),
    click.option(
        "--system",
        type=click.Choice(get_args(System)),
        default="batched",
        show_default=True,
        help="Sessions share passes, use the target one at a time, or draft nothing and share passes.",
    ),
    click.option(
        "--arrivals",
        type=click.Choice(get_args(Arrivals)),
        default="closed",
        show_default=True,
        help="A prompt comes some time after the answer before, or at random.",
    ),
    click.option(
        "--think",
        "think_s",
        type=float,
        default=0.0,
        show_default=True,
        help="Mean seconds between an answer and the next prompt; with closed arrivals.",
    ),
    click.option(
        "--rate",
        type=float,
        default=1.0,
        show_default=True,
        help="Prompts per second of all edges together; with Poisson arrivals.",
    ),
    click.option(
        "--set",
        "pairs",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"Change the policy of the edges; may be repeated. Keys: {', '.join(KEYS)}.",
    ),
    click.option("--pass-tokens", type=click.IntRange(1), help="Most tokens in a pass."),
    click.option(
        "--busy-watts",
        type=click.FloatRange(0),
        default=BUSY_W,
        show_default=True,
        help="What the target's machine draws at work; assumed.",
    ),
    click.option(
        "--idle-watts",
        type=click.FloatRange(0),
        default=IDLE_W,
        show_default=True,
        help="What it draws while it waits; assumed.",
    ),
    seed_option,
)


def _options(command: Command) -> Command:
    """Decorate a command with what ``_load`` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command("load")
@_options
@click.option(
    "--wall",
    "engine",
    type=click.Choice(get_args(Engine)),
    help="In wall time over loopback, on this engine; toys and recordings keep the scenario's pace.",
)
@click.option("--jobs", type=click.IntRange(0, _MANY), default=0, help="Processes for -o; 0: one a core.")
@output_option(
    f"Compare all systems at {', '.join(map(str, DOUBLED))} edges, and write {LOAD_PAGE} and "
    f"{LOAD_PICTURE} there."
)
@click.option("--json", "as_json", is_flag=True, help="Give one JSON object.")
def load(folder: Path | None, engine: Engine | None, jobs: int, as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Play many edges against one cloud: throughput, fairness, passes and modelled energy.

    The same options give the same figures, but in wall time. With -o it takes a quarter of an hour or more.
    """
    if folder is None:
        figures = _figures(engine, **given)
        click.echo(json.dumps(figures.as_json()) if as_json else figures.line())
        return
    if engine is not None:
        raise UsageError("output: systems are compared in virtual time only; leave --wall or -o out")
    check_plots()
    make_folder(folder)
    study = _study(**given)
    comparison = _compared(study, jobs or cores())
    _write(comparison, folder, _command(given))
    say(f"the page is {folder / LOAD_PAGE}")
    if as_json:
        click.echo(json.dumps(comparison.as_json()))


def _figures(engine: Engine | None, edges: int | None, **given: Any) -> LoadFigures:  # noqa: ANN401
    traces: Sequence[str] = given["traces"]
    load, power = _load(edges=edges or 8, **given)
    if engine is None:
        return measure(load, power)
    record, alone = play_wall(WallLoad(load=load, engine=engine, traces=tuple(traces)))
    return load_figures(load, record, alone, power, f"{_WALL_BASIS}, {engine} engine")


def _load(
    *,
    traces: Sequence[str],
    prompts_max: int | None,
    scenario: str,
    pairs: Sequence[str],
    busy_watts: float,
    idle_watts: float,
    **given: Any,  # noqa: ANN401
) -> tuple[Load, Power]:
    load = Load(
        trace=_recording(traces, prompts_max),
        scenario=scenario_from(scenario),
        changed=settings_from(pairs),
        **given,
    )
    return load, Power(busy_watts, idle_watts)


def _recording(traces: Sequence[str], prompts_max: int | None) -> Trace:
    trace = load_traces(traces)
    there = len(trace.prompts)
    count = there if prompts_max is None else min(prompts_max, there)
    return replace(trace, prompts=tuple(trace.prompts[at * there // count] for at in range(count)))


def _study(edges: int | None, **given: Any) -> LoadStudy:  # noqa: ANN401
    load, power = _load(**given)
    most = edges or DOUBLED[-1]
    return LoadStudy(load=load, power=power, edges=tuple(each for each in DOUBLED if each <= most))


def _compared(study: LoadStudy, number: int) -> LoadComparison:
    hidden = not sys.stderr.isatty()
    bar = click.progressbar(length=study.plays, label="plays", file=sys.stderr, show_pos=True, hidden=hidden)
    with bar, working(number, lambda: bar.update(1)) as pool:
        return compare_loads(study, pool)


def _command(given: Mapping[str, Any]) -> str:
    """What the page says of how it was made: every option that is not at its default."""
    said = ["pipesd-lab load"]
    for option in load.params:
        value = given.get(str(option.name))
        if value in (None, ()) or value == option.default:
            continue
        said += [f"{option.opts[0]} {each}" for each in (value if isinstance(value, tuple) else (value,))]
    return one_line(" ".join([*said, "-o DIR"]))


def _write(comparison: LoadComparison, folder: Path, command: str) -> None:
    with writing(folder / LOAD_PAGE):
        (folder / LOAD_PAGE).write_bytes(load_report(comparison, command).encode())
    draw_load(comparison, folder / LOAD_PICTURE)
