"""The commands with the real pair, as processes: what a user sees with models."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipesd.engines.traces import load
from tests.end_to_end.processes import (
    command,
    environment,
    expect_failure,
    finish,
    interrupt,
    read_some,
    run,
    serving,
    start,
)

pytestmark = pytest.mark.models

ENGINE = ("--engine", "llama", "--threads", "1")
SMALL = ("--model", "smollm2-135m")
SMALL_DRAFT = ("--draft", "smollm2-135m")
SAMPLED = ("--temperature", "0.8", "--top-p", "0.95", "--seed", "7")
SCRIPT = """Say hello to 世界 with an emoji 🌍.
What is 17 plus 25? Answer with the number only.

Write one line of Python that prints it.
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[str]:
    """A cloud with the default target."""
    with serving(*ENGINE, "--context-tokens", "2048") as (_, address):
        yield address


@pytest.fixture(scope="module")
def small() -> Iterator[str]:
    """A cloud with the smallest model."""
    with serving(*ENGINE, *SMALL) as (_, address):
        yield address


def raw_prompt() -> str:
    """The text of a HumanEval prompt."""
    trace = load(())
    pieces = trace.header.pieces
    return b"".join(pieces[token] for token in trace.prompts[2].prompt_tokens).decode()


def chat(side: str, script: str, *arguments: str) -> str:
    done = subprocess.run(
        command(side, "chat", *ENGINE, *arguments),
        input=script,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("sampling", [(), SAMPLED], ids=["greedy", "sampled"])
def test_the_edge_prints_byte_for_byte_what_the_target_alone_prints(
    pair: str, sampling: tuple[str, ...]
) -> None:
    prompt = ("--raw", "-p", raw_prompt(), "--tokens-max", "96", "--show-ids", *sampling)
    together = run("edge", "generate", "--cloud", pair, *ENGINE, *prompt)
    alone = run("cloud", "generate", *ENGINE, *prompt)
    assert together.returncode == alone.returncode == 0, together.stderr + alone.stderr
    assert len(together.stdout) > 100
    assert together.stdout == alone.stdout
    ids = [[line for line in done.stderr.splitlines() if " ids: " in line] for done in (together, alone)]
    assert len(ids[0]) == 2
    assert ids[0] == ids[1]


def test_turns_on_warm_caches_are_those_of_the_target_alone(pair: str) -> None:
    limits = ("--tokens-max", "40")
    together = chat("edge", SCRIPT, "--cloud", pair, *limits)
    assert together == chat("cloud", SCRIPT, *limits)
    assert "42" in together
    assert "print" in together


def test_an_answer_that_was_cut_off_is_closed_as_the_template_does(pair: str) -> None:
    limits = ("--tokens-max", "5", *SAMPLED)
    assert chat("edge", SCRIPT, "--cloud", pair, *limits) == chat("cloud", SCRIPT, *limits)


@pytest.mark.parametrize("stop", ["capital of Fr", "l of France is", "Paris."])
def test_a_stop_string_over_several_tokens_ends_both_alike(pair: str, stop: str) -> None:
    prompt = ("-p", "What is the capital of France? Answer in a sentence.", "--json", "--tokens-max", "30")
    answers = [
        json.loads(run("edge", "generate", "--cloud", pair, *ENGINE, *prompt, "--stop", stop).stdout),
        json.loads(run("cloud", "generate", *ENGINE, *prompt, "--stop", stop).stdout),
    ]
    for answer in answers:
        assert answer["text"] == "The capital of France is Paris.".partition(stop)[0]
        assert answer["finish"] == "stop"
    assert answers[0]["token_ids"] == answers[1]["token_ids"]
    assert answers[0]["prompt_ids"] == answers[1]["prompt_ids"]


def test_a_stop_string_that_never_comes_changes_nothing(pair: str) -> None:
    prompt = ("-p", "What is the capital of France? Answer in a sentence.", "--tokens-max", "30")
    done = run("edge", "generate", "--cloud", pair, *ENGINE, *prompt, "--stop", "Paris!", "--stop", "\n\n")
    assert done.stdout == "The capital of France is Paris."


def test_a_full_context_ends_both_alike() -> None:
    small = (*SMALL, "--context-tokens", "48")
    prompt = ("--raw", "-p", "One two three four five six seven", "--json")
    alone = json.loads(run("cloud", "generate", *ENGINE, *small, *prompt).stdout)
    assert alone["finish"] == "context"
    with serving(*ENGINE, *small) as (_, address):
        done = run("edge", "generate", "--cloud", address, *ENGINE, *SMALL_DRAFT, *prompt)
        together = json.loads(done.stdout)
        assert (together["text"], together["finish"]) == (alone["text"], "context")
        long = ("--raw", "-p", "word " * 60)
        failed = run("edge", "generate", "--cloud", address, *ENGINE, *SMALL_DRAFT, *long)
        expect_failure(failed, 2, "context of 48", "shorten it")


def test_a_draft_with_another_tokenizer_is_refused_and_its_ids_are_named(pair: str) -> None:
    failed = run("edge", "generate", "--cloud", pair, *ENGINE, *SMALL_DRAFT, "-p", "Hello")
    expect_failure(failed, 1, "tokenizer differs", "token 0 is", "target's family")


def test_killing_one_edge_in_mid_answer_leaves_the_others_text_alone(small: str) -> None:
    prompt = ("--raw", "-p", "Long ago, in a land far away,", "--tokens-max", "200")
    edge = (*ENGINE, *SMALL_DRAFT, "--cloud", small)
    alone = run("cloud", "generate", *ENGINE, *SMALL, *prompt, "--tokens-max", "120")
    with (
        start("edge", "generate", *edge, *prompt, *SAMPLED) as victim,
        start("edge", "generate", *edge, *prompt, "--tokens-max", "120") as other,
    ):
        read_some(victim, 20)
        read = read_some(other, 20)
        victim.kill()
        code, rest, error = finish(other)
    assert code == 0, error
    assert read + rest == alone.stdout
    assert len(alone.stdout) > 200


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_an_interrupt_in_mid_answer_is_one_line_and_the_cloud_goes_on(small: str, side: str) -> None:
    model = (*SMALL_DRAFT, "--cloud", small) if side == "edge" else SMALL
    endless = ("--raw", "-p", "1 2 3 4", "--tokens-max", "4000")
    with start(side, "generate", *ENGINE, *model, *endless) as process:
        read_some(process, 10)
        interrupt(process)
        code, _, error = finish(process)
    assert (code, error.strip()) == (130, f"pipesd-{side}: interrupted")
    after = run("edge", "generate", *ENGINE, *SMALL_DRAFT, "--cloud", small, "-p", "Hi", "--tokens-max", "3")
    assert after.returncode == 0, after.stderr


def test_a_model_of_two_bits_drafts_for_the_same_target(
    model_file: Callable[[str], Path], small: str, tmp_path: Path
) -> None:
    made = tmp_path / "small-q2_k.gguf"
    done = run("edge", "quantize", "smollm2-135m", "--output", str(made), "--type", "Q2_K")
    assert done.returncode == 0, done.stderr
    assert made.stat().st_size < model_file("smollm2-135m").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == [made.name]
    prompt = ("-p", "Name three colours.", "--tokens-max", "30")
    together = run("edge", "generate", *ENGINE, "--draft", str(made), "--cloud", small, *prompt)
    assert together.stdout == run("cloud", "generate", *ENGINE, *SMALL, *prompt).stdout
    assert together.returncode == 0, together.stderr


def test_a_kind_of_weights_that_is_none_leaves_nothing_behind(tmp_path: Path) -> None:
    output = ("--output", str(tmp_path / "x.gguf"))
    failed = run("edge", "quantize", "smollm2-135m", *output, "--type", "Q99")
    expect_failure(failed, 2, "Q99", "Q2_K")
    assert list(tmp_path.iterdir()) == []
