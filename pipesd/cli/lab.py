"""``pipesd-lab``: experiments with recorded pairs."""

import json
from collections.abc import Sequence
from typing import Any, get_args

import click

import pipesd
from pipesd.cli.faults import faults
from pipesd.cli.lab_options import scenario_option, seed_option, wire_option
from pipesd.cli.load import load as many_edges
from pipesd.cli.paper import paper
from pipesd.cli.process import Commands
from pipesd.cli.record import record
from pipesd.cli.relay import link
from pipesd.cli.timeline import timeline
from pipesd.cli.tune import tune
from pipesd.engines.traces import SHIPPED_SETS, load
from pipesd.lab.run import KEYS, Clock, Experiment, chosen, settings_from
from pipesd.lab.run import run as run_experiment
from pipesd.lab.scenario_file import scenario_from
from pipesd.planner.policies import POLICIES


@click.group(cls=Commands)
@click.version_option(pipesd.__version__, prog_name="pipesd-lab")
def lab_commands() -> None:
    """The lab: recorded pairs of models, replayed on modelled machines and links."""


@lab_commands.command("run")
@click.option(
    "--trace",
    "traces",
    multiple=True,
    help=f"A recording, or one of {', '.join(SHIPPED_SETS)}; may be repeated. [default: the first two]",
)
@click.option("--prompt", "prompts", multiple=True, help="Its id; may be repeated. [default: all]")
@scenario_option
@click.option("--policy", type=click.Choice(list(POLICIES)), default="pipesd", show_default=True)
@click.option(
    "--set",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help=f"Change the policy; may be repeated. Keys: {', '.join(KEYS)}.",
)
@wire_option
@click.option(
    "--clock",
    type=click.Choice(get_args(Clock)),
    default="virtual",
    show_default=True,
    help="Virtual time, or wall time over loopback TCP and a relay.",
)
@seed_option
@click.option("--json", "as_json", is_flag=True, help="Give one JSON object.")
def run(traces: Sequence[str], prompts: Sequence[str], scenario: str, as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Play recorded prompts, one after another, through the production actors."""
    experiment = Experiment(
        trace=chosen(load(traces), prompts),
        scenario=scenario_from(scenario),
        changed=settings_from(given.pop("pairs")),
        **given,
    )
    figures = run_experiment(experiment)
    click.echo(json.dumps(figures.as_json()) if as_json else figures.line())


lab_commands.add_command(faults)
lab_commands.add_command(link)
lab_commands.add_command(many_edges)
lab_commands.add_command(paper)
lab_commands.add_command(record)
lab_commands.add_command(timeline)
lab_commands.add_command(tune)
