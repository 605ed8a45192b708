"""The command that makes a recording of a pair of models: ``record``."""

import os
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import get_args

import click

from pipesd.actors.compute import run_once
from pipesd.cli.models import model_file
from pipesd.cli.options import mode_options
from pipesd.cli.process import run_loop, say
from pipesd.engines.choose import cores
from pipesd.engines.manifest import default_model
from pipesd.engines.traces import Trace, TracePrompt, agreement, write_trace
from pipesd.errors import UsageError, one_line
from pipesd.lab import record as lab
from pipesd.values import PromptMode

KINDS = ("code", "chat", "maths")
TOKENS_MAX = 100_000


@click.command("record")
@click.option(
    "--draft", default=default_model("draft").name, show_default=True, help="A name, or a GGUF file."
)
@click.option(
    "--target", default=default_model("target").name, show_default=True, help="A name, or a GGUF file."
)
@click.option(
    "--prompts",
    "source",
    required=True,
    type=click.Path(path_type=Path),
    help='Lines {"id": …, "prompt": …}; or a recording, whose prompts are recorded anew.',
)
@click.option("--kind", required=True, type=click.Choice(KINDS), help="What the prompts are about.")
@mode_options("mode")
@click.option(
    "--tokens-max",
    type=click.IntRange(1, TOKENS_MAX),
    default=160,
    show_default=True,
    help="Most tokens of an answer.",
)
@click.option(
    "--numerics",
    type=click.Choice(get_args(lab.Numerics)),
    default="exact",
    show_default=True,
    help="Of llama.cpp; it is noted in the recording.",
)
@click.option("--threads", type=click.IntRange(0, 1_024), default=0, help="0 is one for each core.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Where the recording is written."
)
def record(
    *,
    draft: str,
    target: str,
    source: Path,
    kind: str,
    mode: PromptMode | None,
    tokens_max: int,
    numerics: lab.Numerics,
    threads: int,
    output: Path,
) -> None:
    """Record what a draft and a target make of some prompts, for the lab to replay.

    The target answers each prompt greedily; the draft guesses each token of the answer, and what would follow
    a wrong guess. Nothing is written before all is recorded.
    """
    _check_output(output)
    prompts = lab.read_prompts(source)
    files = model_file(draft), model_file(target)
    how = lab.Recording(kind=kind, numerics=numerics, mode=mode or "auto", tokens_max=tokens_max)

    def work() -> Trace:
        ours, theirs = (lab.open_model(file, numerics, threads or cores()) for file in files)
        return lab.record(ours, theirs, prompts, how, _reporter(len(prompts.all)))

    trace = run_loop(run_once("pipesd-record", work), "asyncio")
    write_trace(output, trace)
    say(f"{output}: {_summary(trace.prompts)}")


def _check_output(output: Path) -> None:
    """Before the long work, not behind it."""
    name = one_line(str(output))
    if output.exists():
        raise UsageError(f"output: {name} is there already; choose another name, or remove it")
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise UsageError(f"output: {name} cannot be written in its folder; choose another, or make it")


def _reporter(total: int) -> Callable[[TracePrompt], None]:
    """Says which prompt is done."""
    numbers = count(1)

    def report(prompt: TracePrompt) -> None:
        say(f"{next(numbers)} of {total}: {prompt.id}, {_summary([prompt])}")

    return report


def _summary(prompts: Sequence[TracePrompt]) -> str:
    tokens = sum(len(prompt.target) for prompt in prompts)
    return f"{tokens} tokens, {agreement(prompts):.1%} as the draft guessed"
