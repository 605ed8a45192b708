"""``pipesd-edge``."""

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import click

import pipesd
from pipesd.cli.models import pull_command, quantize_command
from pipesd.cli.options import answer_options, prompt_options
from pipesd.cli.output import Writer
from pipesd.cli.process import Commands, observers, process_options, run_loop
from pipesd.cli.summaries import edge_summary
from pipesd.cli.talk import EdgeTalker, talk
from pipesd.config import EdgeConfig
from pipesd.edge import connect
from pipesd.flags import settings_of, take
from pipesd.observe import Observer

_LOGGER = "pipesd.edge"


@click.group(cls=Commands)
@click.version_option(pipesd.__version__, prog_name="pipesd-edge")
def edge_commands() -> None:
    """The edge: a draft model here guesses, a target model in the cloud decides what the text is."""


@edge_commands.command("generate")
@prompt_options
@answer_options
@settings_of(EdgeConfig, but={"prompts"})
@process_options
def generate(prompt: str, stop: Sequence[str], show_ids: bool, as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Give the target's own answer to one prompt."""
    seen = observers(given["log_level"], _LOGGER)
    config = take(EdgeConfig, given, dict(os.environ))
    writer = Writer(as_json=as_json, show_ids=show_ids)
    run_loop(_generate(config, seen, prompt, stop, writer), given["loop"])


async def _generate(
    config: EdgeConfig, seen: Sequence[Observer], prompt: str, stop: Sequence[str], writer: Writer
) -> None:
    async with connect(config, observers=seen) as edge, edge.session() as session:
        before = edge.statistics()
        answer = session.generate(prompt, stop=stop)
        timing = await writer.write_all(aiter(answer))
        summary = edge_summary(edge, answer, timing, before)
    writer.conclude(summary, answer.prompt_ids, answer.kept_tokens)


@edge_commands.command("chat")
@answer_options
@settings_of(EdgeConfig, but={"prompts"})
@process_options
def chat(stop: Sequence[str], show_ids: bool, **given: Any) -> None:  # noqa: ANN401 - one per setting
    """Talk to the target, line by line; /help lists what else a line may be."""
    seen = observers(given["log_level"], _LOGGER)
    config = take(EdgeConfig, given, dict(os.environ))
    run_loop(_chat(config, seen, stop, show_ids=show_ids), given["loop"])


async def _chat(config: EdgeConfig, seen: Sequence[Observer], stop: Sequence[str], *, show_ids: bool) -> None:
    async with connect(config, observers=seen) as edge, AsyncExitStack() as sessions:
        talker = EdgeTalker(edge, sessions, stop, show_ids=show_ids)
        await talker.reset()
        await talk(talker)


edge_commands.add_command(pull_command("draft"))
edge_commands.add_command(quantize_command())
