"""The lab as a process."""

from pathlib import Path

import pytest

from pipesd.lab.run import play
from pipesd.lab.scenarios import SCENARIOS
from tests.end_to_end.processes import expect_failure, run
from tests.lab.recordings import SMALL, recorded, trace_of, written


def test_a_recording_is_played(tmp_path: Path):
    done = run("lab", "run", "--trace", written(SMALL, tmp_path / "small.jsonl"), "--prompt", "right")
    assert (done.returncode, done.stderr) == (0, "")
    together, alone = done.stdout.splitlines()
    assert together == play(SMALL, ["right"], SCENARIOS["s1"]).line()
    assert alone.startswith("target alone at s1: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scenario", "s4"), "s1, s2, s3, far, fast"),
        (("--prompt", "left"), "'left' is none of the 44"),
        (("--trace", "no such file"), "cannot be read"),
        (("--trace", __file__), "line 1"),
        (("--bogus",), "--bogus"),
        (("extra",), "extra"),
        (("--prompt",), "requires an argument"),
    ],
    ids=lambda case: "" if isinstance(case, str) else Path(case[-1]).name,
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: tuple[str, ...], words: str):
    expect_failure(run("lab", "run", *arguments), 2, words)


def test_a_play_that_fails_is_one_sentence_and_exit_code_1(tmp_path: Path):
    twins = trace_of(recorded("one", [5, 6], [7, 11]), recorded("other", [5, 6, 7], [21]))
    done = run("lab", "run", "--trace", written(twins, tmp_path / "twins.jsonl"))
    sentence = expect_failure(done, 1, "pipesd-lab: ")
    assert done.stderr == sentence + "\n"
