"""``pipesd-lab``: experiments with recorded pairs."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

import pipesd
from pipesd.cli.process import Commands
from pipesd.engines.traces import load
from pipesd.lab.run import play, play_alone
from pipesd.lab.scenarios import SCENARIOS, scenario_named


@click.group(cls=Commands)
@click.version_option(pipesd.__version__, prog_name="pipesd-lab")
def lab_commands() -> None:
    """The lab: recorded pairs of models, replayed in virtual time on modelled machines."""


@lab_commands.command("run")
@click.option("--scenario", "name", default="s1", show_default=True, help=f"One of {', '.join(SCENARIOS)}.")
@click.option("--trace", "traces", multiple=True, help="A recording; may be repeated. [default: all shipped]")
@click.option("--prompt", "prompts", multiple=True, help="Its id; may be repeated. [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Give one JSON object.")
def run(name: str, traces: Sequence[str], prompts: Sequence[str], as_json: bool) -> None:
    """Replay recorded prompts: edge and cloud together, then the target alone."""
    scenario, trace = scenario_named(name), load(traces)
    together, alone = play(trace, prompts, scenario), play_alone(trace, prompts, scenario)
    if as_json:
        both = {"together": together.figures(), "target_alone": alone.figures()}
        click.echo(json.dumps({"scenario": asdict(scenario), **both}))
    else:
        click.echo(f"{together.line()}\n{alone.line()}")
