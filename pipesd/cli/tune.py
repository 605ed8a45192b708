"""``pipesd-lab tune``: tuners compared, and what they do when conditions change."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pipesd.cli.lab_options import make_folder, output_option, wire_option, writing
from pipesd.cli.options import Command
from pipesd.cli.process import say
from pipesd.engines.choose import cores
from pipesd.engines.traces import SHIPPED, SHIPPED_SETS
from pipesd.errors import one_line
from pipesd.lab.drift import DriftComparison, DriftStudy, compare_drift, plays_of
from pipesd.lab.jobs import working
from pipesd.lab.plots import check_plots
from pipesd.lab.scenario_file import scenario_from
from pipesd.lab.scenarios import COMPARED, SCENARIOS
from pipesd.lab.tune import Comparison, Study, compare, jobs_of
from pipesd.lab.tune_report import PICTURE, draw_regrets, tune_report
from pipesd.values import COST_WEIGHTS

PAGE = "tuning.md"
_MANY = 1_000


def tune_command(study: Study, drift_study: DriftStudy) -> click.Command:
    """``tune`` for studies like these, but for what its options say."""

    @click.command("tune")
    @_study_options(study)
    @click.option("--drift", is_flag=True, help="Play long texts under changing conditions, too.")
    @click.option(
        "--jobs",
        type=click.IntRange(0, _MANY),
        default=0,
        show_default=True,
        help="How many processes play; 0: one for each core.",
    )
    @output_option(f"Write {PAGE} and its picture there.")
    @click.option("--json", "as_json", is_flag=True, help="Give one JSON object.")
    def tune(folder: Path | None, drift: bool, jobs: int, as_json: bool, **given: Any) -> None:  # noqa: ANN401
        """Compare tuners of thresholds: what they find, after how many trials, at what cost.

        The same options give the same figures. With the defaults it takes a quarter of an hour or more.
        """
        if folder is not None:
            check_plots()
            make_folder(folder)
        chosen = _chosen(study, **given)
        drifting = replace(
            drift_study,
            traces=chosen.traces,
            objective=chosen.objective,
            seeds=min(chosen.seeds, drift_study.seeds),
        )
        comparison, drifted = _played(chosen, drifting if drift else None, jobs or cores())
        if folder is not None:
            _write(comparison, drifted, folder)
            say(f"the page is {folder / PAGE}")
        if as_json:
            click.echo(json.dumps(_as_json(comparison, drifted)))
        elif folder is None:
            click.echo("\n".join(_lines(comparison, drifted)))

    return tune


def _study_options(study: Study) -> Callable[[Command], Command]:
    """Decorate a command with what ``_chosen`` takes."""
    options = (
        click.option(
            "--trace",
            "traces",
            multiple=True,
            help="A recording, or the name of one that comes with pipesd: "
            f"{', '.join(SHIPPED_SETS)}; may be repeated. [default: {', '.join(study.traces)}]",
        ),
        click.option(
            "--scenario",
            "scenarios",
            multiple=True,
            help=f"One of {', '.join(SCENARIOS)}, or the path of a .toml file; may be repeated. "
            f"[default: {', '.join(scenario.name for scenario in study.scenarios)}]",
        ),
        wire_option,
        click.option(
            "--objective",
            type=click.Choice(list(COST_WEIGHTS)),
            default=study.objective,
            show_default=True,
            help="What thresholds are tuned for: time, or the cloud's work beside it.",
        ),
        click.option(
            "--seeds",
            type=click.IntRange(1, _MANY),
            default=study.seeds,
            show_default=True,
            help="How often each tuner searches, each time with the prompts in another order.",
        ),
        click.option(
            "--trials",
            type=click.IntRange(1, _MANY),
            default=study.trials,
            show_default=True,
            help="How many trials a search has.",
        ),
    )

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _chosen(study: Study, traces: Sequence[str], scenarios: Sequence[str], **given: Any) -> Study:  # noqa: ANN401
    return replace(
        study,
        traces=tuple(dict.fromkeys(traces)) or study.traces,
        scenarios=tuple(dict.fromkeys(map(scenario_from, scenarios))) or study.scenarios,
        **given,
    )


def _played(
    study: Study, drift_study: DriftStudy | None, number: int
) -> tuple[Comparison, DriftComparison | None]:
    study.check()
    plays = jobs_of(study) + (plays_of(drift_study) if drift_study is not None else 0)
    hidden = not sys.stderr.isatty()
    bar = click.progressbar(length=plays, label="plays", file=sys.stderr, show_pos=True, hidden=hidden)
    with bar, working(number, lambda: bar.update(1)) as pool:
        comparison = compare(study, pool)
        return comparison, None if drift_study is None else compare_drift(drift_study, pool)


def _write(comparison: Comparison, drift: DriftComparison | None, folder: Path) -> None:
    page = tune_report(comparison, drift, _command(comparison.study, drift is not None))
    with writing(folder / PAGE):
        (folder / PAGE).write_bytes(page.encode())
    draw_regrets(comparison, folder / PICTURE)


def _command(study: Study, has_drift: bool) -> str:
    """What the page says of how it was made."""
    said = ["pipesd-lab tune"]
    if study.traces != SHIPPED:
        said += [f"--trace {trace}" for trace in study.traces]
    names = tuple(scenario.name for scenario in study.scenarios)
    if names != COMPARED:
        said += [f"--scenario {name}" for name in names]
    said += [
        f"--wire {study.wire}",
        f"--objective {study.objective}",
        f"--seeds {study.seeds}",
        f"--trials {study.trials}",
    ]
    return one_line(" ".join([*said, *(["--drift"] if has_drift else [])]))


def _as_json(comparison: Comparison, drift: DriftComparison | None) -> dict[str, object]:
    return {**comparison.as_json(), **({} if drift is None else {"drift": drift.as_json()})}


def _lines(comparison: Comparison, drift: DriftComparison | None) -> list[str]:
    study = comparison.study
    compared = (
        f"{kind}: {outcome.final_regret:.1%} above the best point after {study.trials} trials, "
        f"exploring costs {outcome.explore_cost:.3f} times as much as it"
        for kind, outcome in comparison.tuners.items()
    )
    drifted = (
        f"{each.case.scenario.name}, {each.case.wire}, {each.case.trace}: tuned takes "
        f"{each.ratio('model-guided', 'oracle'):.3f} times as much as an oracle, "
        f"{each.ratio('model-guided', 'best fixed'):.3f} times as much as the best fixed thresholds"
        for each in (drift.outcomes if drift is not None else ())
    )
    return [*compared, *drifted]


tune = tune_command(Study(), DriftStudy())
