"""``pipesd-lab faults``: texts and times where connections, clouds and engines fail all the time."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipesd.cli.lab_options import SEED_MAX, make_folder, output_option, scenario_option, writing
from pipesd.cli.process import say
from pipesd.engines.choose import cores
from pipesd.errors import EngineError, one_line
from pipesd.lab.jobs import working
from pipesd.lab.scenario_file import scenario_from
from pipesd.lab.stormy import FaultFindings, FaultStudy, storms
from pipesd.lab.stormy_report import faults_report

FAULTS_PAGE = "faults.md"
_MANY = 1_000


@click.command("faults")
@click.option(
    "--generations",
    type=int,
    default=FaultStudy.generations,
    show_default=True,
    help="How many answers are read to their ends; others are left early.",
)
@click.option(
    "--every-s",
    type=float,
    default=FaultStudy.every_s,
    show_default=True,
    help="Mean seconds from one fault to the next.",
)
@scenario_option
@click.option(
    "--seed",
    type=click.IntRange(0, SEED_MAX),
    default=FaultStudy.seed,
    show_default=True,
    help="Fixes what is asked under which rules, and which fault comes when.",
)
@click.option("--jobs", type=click.IntRange(0, _MANY), default=0, help="Processes; 0: one a core.")
@output_option(f"Write {FAULTS_PAGE} there.")
@click.option("--json", "as_json", is_flag=True, help="Give one JSON object.")
def faults(folder: Path | None, jobs: int, as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Let faults strike edges and clouds all the time, and compare every text with the target's.

    In virtual time: the same options give the same figures. It fails if a text is not the target's.
    """
    study = _study(**given)
    if folder is not None:
        make_folder(folder)
    findings = _found(study, jobs or cores())
    click.echo(json.dumps(findings.as_json()) if as_json else findings.summary())
    if folder is not None:
        page = folder / FAULTS_PAGE
        with writing(page):
            page.write_bytes(faults_report(findings, _command(given)).encode())
        say(f"the page is {page}")
    if problems := findings.problems:
        more = f", and {len(problems) - 1} more like it" if problems[1:] else ""
        raise EngineError(f"a text must be the target's whatever happens, but {problems[0]}{more}")


def _study(scenario: str, **given: Any) -> FaultStudy:  # noqa: ANN401
    return FaultStudy(scenario=scenario_from(scenario), **given)


def _found(study: FaultStudy, number: int) -> FaultFindings:
    hidden, length = not sys.stderr.isatty(), len(study.trips)
    bar = click.progressbar(length=length, label="trips", file=sys.stderr, show_pos=True, hidden=hidden)
    with bar, working(number, lambda: bar.update(1)) as pool:
        return storms(study, pool)


def _command(given: Mapping[str, object]) -> str:
    """What the page says of how it was made: every option that is not at its default."""
    options = {str(option.name): option for option in faults.params}
    said = [
        f"{options[name].opts[0]} {value}" for name, value in given.items() if value != options[name].default
    ]
    return one_line(" ".join(["pipesd-lab faults", *said, "-o DIR"]))
