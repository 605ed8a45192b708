"""``pipesd-lab paper``: the experiments of PipeSD's paper, played, tabulated and drawn."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from pipesd.cli.lab_options import make_folder, output_option, seed_option, writing
from pipesd.cli.process import say
from pipesd.lab.gantt import draw
from pipesd.lab.paper import CODE, GRID, Grid, Results, case, cases, play, timeline
from pipesd.lab.paper import quick as quickly
from pipesd.lab.plots import check_plots, draw_pictures, note_of
from pipesd.lab.report import DRAWN, report, timeline_name
from pipesd.lab.scenarios import SCENARIOS

REPORT = "report.md"


def paper_command(grid: Grid, processes: int = 0) -> click.Command:
    """``paper`` for what is in this grid, played in so many processes; 0: one for each core."""

    @click.command("paper")
    @output_option("Where to.", Path("docs", "results"))
    @seed_option
    @click.option("--quick", is_flag=True, help="Play few prompts of each trace, for a look.")
    def paper(folder: Path, seed: int, quick: bool) -> None:
        """Play everything that stands beside the figures of PipeSD's paper, and report it with pictures.

        The same seed gives the same files, to the byte. It takes some minutes on all cores.
        """
        check_plots()
        make_folder(folder)
        chosen = replace(quickly(grid) if quick else grid, seed=seed)
        _write(_played(chosen, processes), folder)
        say(f"the report is {folder / REPORT}")

    return paper


def _played(grid: Grid, processes: int) -> Results:
    hidden = not sys.stderr.isatty()
    bar = click.progressbar(
        length=len(cases(grid)), label="experiments", file=sys.stderr, show_pos=True, hidden=hidden
    )
    with bar:
        return play(grid, lambda done: bar.update(done - bar.pos), processes=processes)


def _write(results: Results, folder: Path) -> None:
    with writing(folder / REPORT):
        (folder / REPORT).write_bytes(report(results).encode())
    draw_pictures(results, folder)
    for policy, wire in DRAWN:
        drawn = case(CODE, SCENARIOS["s1"], policy, wire=wire)
        events, note = timeline(drawn, results.grid), note_of(results.grid)
        draw(events, folder / timeline_name(policy, wire), note=note)


paper = paper_command(GRID)
