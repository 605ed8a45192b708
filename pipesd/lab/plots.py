"""Pictures (PNG) of figures: curves and bars in panels. The same figures give the same bytes.

The one door to matplotlib, which is imported where a picture is made: nothing else needs it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipesd.errors import UsageError, one_line
from pipesd.lab.metrics import Figures
from pipesd.lab.paper import BASELINES, CODE, POLICIES, WIRES, Grid, Results
from pipesd.lab.run import BASIS

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes as Axes  # noqa: PLC0414 - for others to import
    from matplotlib.figure import Figure

Point = tuple[float, float]

_DPI = 120
_PANEL_INCHES = (4.4, 3.2)
_KEY_INCHES = 0.5
_NAMES_PER_PANEL = 3
"""More names do not stand beside each other above one."""

_BAR_GROUP = 0.84
"""How much of the way from one group of bars to the next is bars."""

_INK: Mapping[str, tuple[str, str]] = {
    "cloud-only": ("#7f7f7f", "x"),
    "vanilla": ("#e69f00", "s"),
    "hsl": ("#009e73", "^"),
    "edgellm": ("#56b4e9", "D"),
    "edgellm-full": ("#0072b2", "v"),
    "best baseline": ("#e69f00", "s"),
    "pipesd": ("#b23a48", "o"),
    "batched": ("#b23a48", "o"),
    "one-lock": ("#e69f00", "s"),
    "pipesd, thresholds of the grid": ("#b23a48", "o"),
    "pipesd, default rules": ("#b23a48", "*"),
    "model-guided": ("#b23a48", "o"),
    "closed-form": ("#000000", ""),
    "paper": ("#0072b2", "v"),
    "grid": ("#e69f00", "s"),
    "random": ("#56b4e9", "D"),
    "fixed": ("#7f7f7f", ""),
}
"""Colour and mark of each policy and tuner; the colours can be told apart by the colour-blind."""


# -- what every picture has in common -----------------------------------------------------------------------


@contextmanager
def picture(path: Path, inches: tuple[float, float], note: str = "") -> Iterator["Figure"]:
    """A figure to draw on, written to ``path`` when the block ends. A user's own style changes nothing.

    ``note`` stands in a corner, so that it is there wherever the picture is shown.

    Raises ``UsageError`` if matplotlib is missing, and if the file cannot be written.
    """
    check_plots()
    import matplotlib  # noqa: PLC0415 - needed by pictures only
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=inches, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        if note:
            figure.supxlabel(note, x=0.995, ha="right", fontsize=8)
        yield figure
        try:
            figure.savefig(path, format="png", dpi=_DPI, metadata={"Software": None})
        except OSError as error:
            name = one_line(str(path))
            raise UsageError(f"png: {name} cannot be written ({error.strerror}); name another") from None


def check_plots() -> None:
    """Raise ``UsageError`` if matplotlib is missing."""
    if find_spec("matplotlib") is None:
        raise UsageError("a picture needs matplotlib; run pip install 'pipesd[plots]'")


def add_key(figure: "Figure", names: Mapping[str, "Artist"], *, columns: int) -> None:
    """Say above the picture what is what."""
    where: dict[str, Any] = {"loc": "outside upper center", "frameon": False, "fontsize": 9}
    figure.legend(list(names.values()), list(names), ncols=columns, **where)


def swatch(**look: Any) -> "Artist":  # noqa: ANN401 - as matplotlib takes it
    """What stands in a key for an area that looks like this."""
    from matplotlib.patches import Patch  # noqa: PLC0415 - needed by pictures only

    return Patch(**look)


@dataclass(frozen=True, slots=True)
class Curve:
    """Some points of a policy, in order."""

    name: str
    points: Sequence[Point]
    line: str = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Curves over one axis; or bars, a group for each of ``groups``, if there are some."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    groups: Sequence[str] = ()
    x_is_log: bool = False
    y_max: float | None = None
    """What is slower is not of interest."""


def draw_panels(panels: Sequence[Panel], path: Path, *, columns: int, note: str = "") -> None:
    """Write a picture of some panels with one key. Raises ``UsageError`` as ``picture`` does."""
    rows = -(-len(panels) // columns)
    width, height = _PANEL_INCHES
    with picture(path, (width * columns, height * rows + _KEY_INCHES), note) as figure:
        for number, panel in enumerate(panels, start=1):
            axes = figure.add_subplot(rows, columns, number)
            _frame(axes, panel)
            if panel.groups:
                _draw_bars(axes, panel)
            else:
                _draw_curves(axes, panel)
        names: dict[str, Artist] = {}
        for axes in figure.axes:
            for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
                names.setdefault(name, handle)
        add_key(figure, names, columns=min(len(names), _NAMES_PER_PANEL * columns))


def _frame(axes: "Axes", panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.grid(axis="y" if panel.groups else "both", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_curves(axes: "Axes", panel: Panel) -> None:
    for curve in panel.curves:
        colour, mark = _INK[curve.name]
        xs, ys = [x for x, _ in curve.points], [y for _, y in curve.points]
        size = 11 if mark == "*" else 4.5
        axes.plot(xs, ys, curve.line, color=colour, marker=mark, markersize=size, label=curve.name)
    if panel.x_is_log:
        axes.set_xscale("log", base=2)
        ticks = sorted({x for curve in panel.curves for x, _ in curve.points})
        axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set_ylim(0.0, panel.y_max)


def _draw_bars(axes: "Axes", panel: Panel) -> None:
    width = _BAR_GROUP / len(panel.curves)
    for number, curve in enumerate(panel.curves):
        shift = (number - (len(panel.curves) - 1) / 2) * width
        xs, ys = [x + shift for x, _ in curve.points], [y for _, y in curve.points]
        axes.bar(xs, ys, width, color=_INK[curve.name][0], label=curve.name)
    axes.set_xticks(range(len(panel.groups)), labels=panel.groups)


# -- the pictures of the report -----------------------------------------------------------------------------


def note_of(grid: Grid) -> str:
    """What every picture of a report says of its figures."""
    return BASIS if grid.prompts_max is None else f"{BASIS}; a look at few prompts, no result"


def draw_pictures(results: Results, folder: Path) -> None:
    """Write the pictures of curves and bars to a folder. Raises ``UsageError`` as ``picture`` does."""
    grid, note = results.grid, note_of(results.grid)
    draw_panels(_bars(results), folder / BARS, columns=3, note=note)
    draw_panels(_bandwidth(results), folder / BANDWIDTHS, columns=2, note=note)
    draw_panels(_sweeps(results), folder / SWEEPS, columns=len(grid.sweeps), note=note)
    for trace in grid.studied:
        draw_panels(_passes(results, trace), folder / passes_name(trace), columns=3, note=note)


BARS, BANDWIDTHS, SWEEPS = "bars.png", "bandwidth.png", "sweeps.png"
"""The names of the pictures."""


def passes_name(trace: str) -> str:
    """The name of the picture of time over passes."""
    return f"passes-{trace}.png"


_TPT = "ms per token"
_HEADROOM = 1.15


def _bars(results: Results) -> list[Panel]:
    grid = results.grid

    def curve(trace: str, policy: str) -> Curve:
        found = [results.of(trace, scenario, policy).tpt_ms for scenario in grid.places]
        return Curve(policy, list(enumerate(found)))

    return [
        Panel(
            title=trace,
            x="scenario",
            y=_TPT,
            curves=[curve(trace, policy) for policy in POLICIES],
            groups=grid.scenarios,
        )
        for trace in grid.here
    ]


def _bandwidth(results: Results) -> list[Panel]:
    sweep = results.grid.bandwidth

    def curve(policy: str, wire: str) -> Curve:
        places = [(mbps, sweep.place(mbps)[0]) for mbps in sweep.at]
        return Curve(
            policy, [(mbps, results.of(CODE, place, policy, wire=wire).tpt_ms) for mbps, place in places]
        )

    return [
        Panel(
            title=f"{CODE}, s1, wire {wire}",
            x=sweep.axis,
            y=_TPT,
            curves=[curve(policy, wire) for policy in POLICIES],
            x_is_log=True,
        )
        for wire in WIRES
    ]


def _sweeps(results: Results) -> list[Panel]:
    grid = results.grid
    panels = []
    for trace, sweep in product(grid.studied, grid.sweeps):
        found: dict[str, list[Point]] = {"cloud-only": [], "best baseline": [], "pipesd": []}
        for value in sweep.at:
            scenario, tokens = sweep.place(value)
            best = results.best(trace, scenario, prompt_tokens=tokens)
            found["best baseline"].append((value, best.tpt_ms))
            for policy in ("cloud-only", "pipesd"):
                figures = results.of(trace, scenario, policy, prompt_tokens=tokens)
                found[policy].append((value, figures.tpt_ms))
        curves = [Curve(name, points) for name, points in found.items()]
        is_log = sweep.name == "prompt"
        panels.append(Panel(title=f"{trace}, s1", x=sweep.axis, y=_TPT, curves=curves, x_is_log=is_log))
    return panels


def _passes(results: Results, trace: str) -> list[Panel]:
    panels = []
    for scenario in results.grid.places:
        others = {name: results.of(trace, scenario, name) for name in (*BASELINES, "pipesd")}
        tuned = envelope(results.tuned(trace, scenario))
        names = {"pipesd": "pipesd, default rules"}
        curves = [
            Curve("pipesd, thresholds of the grid", [_at(each) for each in tuned]),
            *(Curve(names.get(name, name), [_at(each)], "") for name, each in others.items()),
        ]
        panels.append(
            Panel(
                title=f"{trace}, {scenario.name}",
                x="passes per 100 tokens",
                y=_TPT,
                curves=curves,
                y_max=_HEADROOM * max(each.tpt_ms for each in others.values()),
            )
        )
    return panels


def _at(figures: Figures) -> Point:
    return figures.passes_per_100, figures.tpt_ms


def envelope(figures: Iterable[Figures]) -> list[Figures]:
    """Those than which no other is as fast with as few passes, by growing passes."""
    found: list[Figures] = []
    for each in sorted(figures, key=lambda figures: (figures.passes_per_100, figures.tpt_ms)):
        if not found or each.tpt_ms < found[-1].tpt_ms:
            found.append(each)
    return found
