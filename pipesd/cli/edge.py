"""``pipesd-edge``."""

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click

import pipesd
from pipesd.alone import edge_alone
from pipesd.cli.models import model_file, pull_command, quantize_command
from pipesd.cli.options import answer_options, prompt_options
from pipesd.cli.output import Writer
from pipesd.cli.process import Commands, observers, process_options, run_loop, say
from pipesd.cli.summaries import edge_summary
from pipesd.cli.talk import AloneTalker, EdgeTalker, talk, write_alone
from pipesd.cli.tracing import trace_option, tracing
from pipesd.config import EdgeConfig
from pipesd.edge import connect
from pipesd.edge_rules import policy_of
from pipesd.errors import UsageError
from pipesd.flags import settings_of, take
from pipesd.observe import Observer
from pipesd.summary import UNVERIFIED

_LOGGER = "pipesd.edge"


@click.group(cls=Commands)
@click.version_option(pipesd.__version__, prog_name="pipesd-edge")
def edge_commands() -> None:
    """The edge: a draft model here guesses, a target model in the cloud decides what the text is."""


@edge_commands.command("generate")
@prompt_options
@answer_options
@settings_of(EdgeConfig, but={"prompts"})
@trace_option
@process_options
def generate(prompt: str, stop: Sequence[str], show_ids: bool, as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Give the target's own answer to one prompt."""
    seen = observers(given["log_level"], _LOGGER)
    config = _settings(given)
    writer = Writer(as_json=as_json, show_ids=show_ids)
    if _is_alone(config, given["trace_out"]):
        run_loop(write_alone(edge_alone(config), prompt, stop, writer), given["loop"])
        return
    with tracing(given["trace_out"], "edge") as traced:
        run_loop(_generate(config, (*seen, *traced), prompt, stop, writer), given["loop"])


def _settings(given: dict[str, Any]) -> EdgeConfig:
    config = take(EdgeConfig, given, dict(os.environ))
    if config.engine in ("llama", "torch"):
        model_file(config.draft, folders=config.engine == "torch")
    return config


def _is_alone(config: EdgeConfig, trace_out: Path | None) -> bool:
    """Whether the draft model writes without a cloud; then there is nothing to trace."""
    if policy_of(config).writers != "edge":
        return False
    if trace_out is not None:
        raise UsageError(
            f"trace_out: with policy {config.policy} nothing is sent or verified that a timeline could show; "
            "leave it out, or choose another policy"
        )
    return True


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
@trace_option
@process_options
def chat(stop: Sequence[str], show_ids: bool, **given: Any) -> None:  # noqa: ANN401 - one per setting
    """Talk to the target, line by line; /help lists what else a line may be."""
    seen = observers(given["log_level"], _LOGGER)
    config = _settings(given)
    if _is_alone(config, given["trace_out"]):
        run_loop(_chat_alone(config, stop, show_ids=show_ids), given["loop"])
        return
    with tracing(given["trace_out"], "edge") as traced:
        run_loop(_chat(config, (*seen, *traced), stop, show_ids=show_ids), given["loop"])


async def _chat(config: EdgeConfig, seen: Sequence[Observer], stop: Sequence[str], *, show_ids: bool) -> None:
    async with connect(config, observers=seen) as edge, AsyncExitStack() as sessions:
        talker = EdgeTalker(edge, sessions, stop, show_ids=show_ids)
        await talker.reset()
        await talk(talker)


async def _chat_alone(config: EdgeConfig, stop: Sequence[str], *, show_ids: bool) -> None:
    async with edge_alone(config) as draft:
        say(f"{UNVERIFIED} answers, and no target confirms what it says")
        await talk(AloneTalker(draft, stop, show_ids=show_ids))


edge_commands.add_command(pull_command("draft"))
edge_commands.add_command(quantize_command())
