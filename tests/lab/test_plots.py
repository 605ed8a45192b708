"""Pictures: the same figures give the same bytes, and other figures others."""

import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest

from pipesd.errors import UsageError
from pipesd.lab.plots import Curve, Panel, check_plots, draw_panels, draw_pictures, envelope, note_of, picture
from pipesd.lab.scenarios import SCENARIOS
from tests.lab.tiny import tiny

CURVES = Panel(
    title="curves",
    x="x",
    y="y",
    curves=[
        Curve("pipesd", [(1, 2), (2, 3), (4, 1)]),
        Curve("hsl", [(1, 4)], ""),
        Curve("pipesd, default rules", [(2, 2)], ""),
    ],
    x_is_log=True,
)
BARS = replace(
    CURVES, curves=[Curve("pipesd", [(0, 1), (1, 2)]), Curve("hsl", [(0, 3), (1, 1)])], groups=("a", "b")
)


def drawn(path: Path, *panels: Panel) -> bytes:
    draw_panels(panels, path, columns=2)
    return path.read_bytes()


def test_a_picture_of_the_report_says_what_its_figures_rest_on(tmp_path: Path):
    grid = tiny().grid
    assert note_of(replace(grid, prompts_max=None)) == "replayed and modelled"
    assert note_of(replace(grid, prompts_max=4)).startswith("replayed and modelled; a look")
    bare = drawn(tmp_path / "bare.png", CURVES)
    draw_panels([CURVES], tmp_path / "noted.png", columns=2, note="replayed and modelled")
    assert (tmp_path / "noted.png").read_bytes() != bare


def test_the_same_panels_give_the_same_bytes(tmp_path: Path):
    first, second = (drawn(tmp_path / name, CURVES, BARS, CURVES) for name in ("1.png", "2.png"))
    assert first.startswith(b"\x89PNG\r\n\x1a\n")
    assert first == second
    assert b"Software" not in first


def test_other_figures_give_another_picture(tmp_path: Path):
    before = drawn(tmp_path / "a.png", CURVES)
    moved = replace(CURVES, curves=[*CURVES.curves[:2], Curve("pipesd, default rules", [(3, 2)], "")])
    assert drawn(tmp_path / "b.png", moved) != before
    assert drawn(tmp_path / "c.png", replace(CURVES, x_is_log=False)) != before
    assert drawn(tmp_path / "d.png", replace(CURVES, y_max=3.0)) != before


def test_a_users_own_style_changes_nothing_and_stays_as_it_is(tmp_path: Path):
    plain = drawn(tmp_path / "plain.png", BARS)
    with matplotlib.rc_context({"font.size": 22.0, "axes.facecolor": "red"}):
        assert drawn(tmp_path / "styled.png", BARS) == plain
        assert matplotlib.rcParams["font.size"] == 22.0


def test_what_goes_wrong_in_drawing_leaves_no_file(tmp_path: Path):
    path = tmp_path / "x.png"
    with pytest.raises(ZeroDivisionError), picture(path, (2.0, 2.0)):
        raise ZeroDivisionError
    assert not path.exists()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"^png: .*nowhere.x\.png cannot be written \(No such file"):
        drawn(tmp_path / "nowhere" / "x.png", CURVES)


def test_without_matplotlib_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    check_plots()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for attempt in (check_plots, lambda: drawn(tmp_path / "x.png", CURVES)):
        with pytest.raises(UsageError, match=r"pip install 'pipesd\[plots\]'"):
            attempt()


def test_the_pictures_of_the_report(tmp_path: Path):
    draw_pictures(tiny(), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"bars.png", "bandwidth.png", "sweeps.png", "passes-humaneval.png"}


def test_the_envelope_is_what_nothing_beats_in_both():
    some = tiny().of("humaneval", SCENARIOS["s1"], "pipesd")
    points = [(30.0, 10.0), (10.0, 50.0), (20.0, 60.0), (20.0, 40.0), (25.0, 40.0), (40.0, 10.0)]
    figures = [replace(some, passes_per_100=passes, tpt_ms=tpt) for passes, tpt in points]
    found = [(each.passes_per_100, each.tpt_ms) for each in envelope(figures)]
    assert found == [(10.0, 50.0), (20.0, 40.0), (30.0, 10.0)]
    assert envelope([]) == []
