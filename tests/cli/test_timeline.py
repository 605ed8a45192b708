"""``pipesd-lab timeline``, run as a command in this process."""

import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from pipesd.cli.timeline import timeline
from pipesd.errors import TraceError, UsageError
from pipesd.session.commands import RunPass, SendFrame, SendToPeer
from pipesd.session.events import FrameReceived, PassDone, PeerFrame, PromptGiven
from pipesd.timeline import recording
from pipesd.trace_events import merge, read
from pipesd.values import Sampling, Slice
from pipesd.wire.frames import Prompt, Verdict

GREEDY = Sampling()
SAID = Prompt(0, 1, 0, (1, 2, 3), GREEDY, 0, 9)
ANSWER = Verdict(0, 1, 3, 0, (4,), "stop")


@pytest.fixture
def edge(tmp_path: Path) -> Path:
    path = tmp_path / "edge.json"
    with recording(path, "edge") as observer:
        observer.observe(5.0, PromptGiven(0, 0, (1, 2, 3), GREEDY, 0, 9), [SendFrame(SAID)])
        observer.observe(5.1, FrameReceived(ANSWER), [])
    return path


def cloud_that_hears(path: Path, said: Prompt) -> Path:
    with recording(path, "cloud") as observer:
        run = RunPass((Slice(0, 0, said.tokens, 1, True, GREEDY, 0),))
        observer.observe(5.03, PeerFrame(0, said), [run])
        observer.observe(5.07, PassDone(((4,),)), [SendToPeer(0, ANSWER)])
    return path


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    return cloud_that_hears(tmp_path / "cloud.json", SAID)


def ask(*arguments: str | Path) -> Result:
    return CliRunner().invoke(timeline, [str(each) for each in arguments], standalone_mode=False)


def test_two_timelines_become_one(edge: Path, cloud: Path, tmp_path: Path):
    out = tmp_path / "both.json"
    done = ask(edge, cloud, "-o", out)
    assert done.exception is None
    assert read(out) == merge([read(edge), read(cloud)])
    names = [event.name for event in read(out)]
    assert names.index("prompt") < names.index("late verdict")
    assert (done.stdout, done.stderr) == ("", f"the timeline is {out}; open it at ui.perfetto.dev\n")


def test_a_picture_is_drawn_of_both_and_of_the_edge_alone(edge: Path, cloud: Path, tmp_path: Path):
    both, alone = tmp_path / "both.png", tmp_path / "alone.png"
    assert ask(edge, cloud, "--png", both).stderr == f"the picture is {both}\n"
    assert ask(edge, "--png", alone).exception is None
    assert both.read_bytes()[:4] == alone.read_bytes()[:4] == b"\x89PNG"
    assert both.read_bytes() != alone.read_bytes()


def test_moments_of_the_picture_can_be_chosen(edge: Path, cloud: Path, tmp_path: Path):
    whole, part = tmp_path / "whole.png", tmp_path / "part.png"
    assert ask(edge, cloud, "--png", whole, "-o", tmp_path / "both.json").exception is None
    assert ask(edge, cloud, "--png", part, "--from", "20", "--to", "50.5").exception is None
    assert whole.read_bytes() != part.read_bytes()


def test_a_timeline_of_a_process_that_was_killed_is_used_as_far_as_it_goes(
    edge: Path, cloud: Path, tmp_path: Path
):
    whole = cloud.read_bytes()
    cloud.write_bytes(whole[: len(whole) - 40])
    out = tmp_path / "both.json"
    done = ask(edge, cloud, "-o", out)
    assert done.exception is None
    assert len(read(out)) == len(merge([read(edge), read(cloud)]))
    warned, said = done.stderr.splitlines()
    assert warned.startswith(f"{cloud} has no end, as if its writer was killed")
    assert said.startswith(f"the timeline is {out}")


@pytest.mark.parametrize(
    ("names", "missing"),
    [(["cloud"], "edge"), (["cloud", "another cloud"], "edge"), (["edge", "another edge"], "cloud")],
)
def test_a_side_that_is_missing_is_named(
    edge: Path, cloud: Path, tmp_path: Path, names: list[str], missing: str
):
    for path in (edge, cloud):
        path.rename(path.with_suffix(""))
        (tmp_path / f"another {path.stem}").write_bytes(path.with_suffix("").read_bytes())
    done = ask(*(tmp_path / name for name in names), "-o", tmp_path / "out.json")
    assert type(done.exception) is TraceError
    shown = " and ".join(str(tmp_path / name) for name in names)
    assert str(done.exception) == (
        f"the {missing}'s timeline is missing in {shown}; name what --trace-out wrote at the {missing}"
    )
    assert not (tmp_path / "out.json").exists()


def test_timelines_may_be_named_in_any_order_and_joined_ones_again(edge: Path, cloud: Path, tmp_path: Path):
    both, again = tmp_path / "both.json", tmp_path / "again.json"
    assert ask(cloud, edge, "-o", both).exception is None
    assert ask(both, "-o", again).exception is None
    assert again.read_bytes() == both.read_bytes()


def test_timelines_of_different_runs_do_not_go_together(edge: Path, tmp_path: Path):
    other = cloud_that_hears(tmp_path / "other.json", Prompt(0, 1, 0, (1, 2), GREEDY, 0, 9))
    out = tmp_path / "both.json"
    done = ask(edge, other, "-o", out)
    assert type(done.exception) is TraceError
    assert "edge.json" in str(done.exception)
    assert "other.json do not go together" in str(done.exception)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((), click.UsageError, "-o"),
        (("edge.json", "-o", "x.json"), click.UsageError, "same file"),
        (("-o", "edge.json"), click.UsageError, "choose another file"),
        (("--from", "3", "-o", "x.json"), click.UsageError, "--png"),
        (("--png", "nowhere/x.png"), UsageError, "png: "),
        (("-o", "nowhere/x.json"), UsageError, "output: "),
        (("--png", "x.png", "--from", "900"), UsageError, "--from and --to"),
        (("no such file", "-o", "x.json"), TraceError, "no such file cannot be read"),
        ((__file__, "-o", "x.json"), TraceError, "is no timeline"),
    ],
)
def test_what_cannot_be_done_is_said(
    edge: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    error: type[Exception],
    words: str,
):
    monkeypatch.chdir(tmp_path)
    done = ask(edge, *arguments)
    assert type(done.exception) is error
    assert words in str(done.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edge.json"]


def test_without_matplotlib_timelines_are_merged_all_the_same(
    edge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert ask(edge, "-o", tmp_path / "one.json").exception is None
    assert "pip install" in str(ask(edge, "--png", tmp_path / "one.png").exception)
