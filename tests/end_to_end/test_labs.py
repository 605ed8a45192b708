"""The lab as a process."""

import json
from pathlib import Path

import pytest

from pipesd.engines.traces import shipped_trace
from pipesd.lab.run import Experiment, chosen, run
from pipesd.lab.scenarios import SCENARIOS
from tests.end_to_end.processes import expect_failure
from tests.end_to_end.processes import run as run_command
from tests.lab.recordings import SMALL, TWINS, sha256_of, shipped, written

CHAT = ("--trace", str(shipped_trace("chat")))


def test_a_recording_is_played(tmp_path: Path):
    small = written(SMALL, tmp_path / "small.jsonl")
    done = run_command("lab", "run", "--trace", small, "--prompt", "right", "--policy", "hsl")
    assert (done.returncode, done.stderr) == (0, "")
    played = Experiment(trace=chosen(SMALL, ["right"]), scenario=SCENARIOS["s1"], policy="hsl")
    assert done.stdout == run(played).line() + "\n"


def test_in_wall_time_the_text_of_a_shipped_prompt_is_the_same():
    done = run_command("lab", "run", *CHAT, "--prompt", "chat/6", "--clock", "wall", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    prompt = shipped("chat/6").prompts[0]
    assert (answer["clock"], answer["prompts"], answer["tokens"]) == ("wall", 1, len(prompt.target))
    assert answer["text_sha256"] == sha256_of(prompt.target)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*CHAT, "--prompt", "left"), "'left' is none of the 12"),
        (("--policy", "psd"), "psd"),
        (("--set", "r1=2"), "r1: must be at least 0 and at most 1"),
        (("extra",), "extra"),
    ],
    ids=lambda case: "" if isinstance(case, str) else Path(case[-1]).name,
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: tuple[str, ...], words: str):
    expect_failure(run_command("lab", "run", *arguments), 2, words)


def test_a_play_that_fails_is_one_sentence_and_exit_code_1(tmp_path: Path):
    done = run_command("lab", "run", "--trace", written(TWINS, tmp_path / "twins.jsonl"))
    sentence = expect_failure(done, 1, "pipesd-lab: ", "the text of one is not the recorded target's")
    assert done.stderr == sentence + "\n"
