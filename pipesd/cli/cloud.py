"""``pipesd-cloud``."""

import os
import signal
from collections.abc import Sequence
from typing import Any

import click

import pipesd
from pipesd.alone import alone
from pipesd.cli.keygen import keygen
from pipesd.cli.models import model_file, pull_command
from pipesd.cli.options import OF_AN_ANSWER, answer_options, prompt_options
from pipesd.cli.output import Writer
from pipesd.cli.process import Commands, observers, process_options, run_loop, say, signals
from pipesd.cli.talk import AloneTalker, talk, write_alone
from pipesd.cli.token import token
from pipesd.cli.tracing import trace_option, tracing
from pipesd.cloud import serve as serving
from pipesd.config import CloudConfig
from pipesd.flags import settings_of, take
from pipesd.observe import Observer

_LOGGER = "pipesd.cloud"

_OF_A_SERVER = frozenset(
    {
        "listen",
        "engine_process",
        "pass_timeout_s",
        "window_tokens",
        "pass_tokens",
        "pass_sessions",
        "prefill_tokens_max",
        "busy_retry_s",
        "insecure",
        "tls_cert",
        "tls_key",
        "tls_ca",
        "sessions_max",
        "edge_sessions_max",
        "connections_max",
        "address_connections_max",
        "tokens",
        "lease_s",
        "drain_s",
        "handshake_timeout_s",
        "ping_after_s",
        "silent_after_s",
        "send_stall_s",
        "stop_timeout_s",
        "energy",
        "power_busy_watts",
        "power_idle_watts",
        "metrics",
        "kv_sequences",
        "prompts",
    }
)
"""Settings that mean something to ``serve`` only, and what has flags of its own."""


@click.group(cls=Commands)
@click.version_option(pipesd.__version__, prog_name="pipesd-cloud")
def cloud_commands() -> None:
    """The cloud: a target model that confirms or corrects what edges guess."""


@cloud_commands.command("serve")
@settings_of(CloudConfig, but=OF_AN_ANSWER)
@trace_option
@process_options
def serve(**given: Any) -> None:  # noqa: ANN401 - one per setting
    """Serve edges until interrupted or terminated."""
    seen = observers(given["log_level"], _LOGGER)
    config = _settings(given)
    with tracing(given["trace_out"], "cloud") as traced:
        received = run_loop(_serve(config, (*seen, *traced)), given["loop"])
    if received == signal.SIGINT:
        raise KeyboardInterrupt


def _settings(given: dict[str, Any]) -> CloudConfig:
    config = take(CloudConfig, given, dict(os.environ))
    if config.engine in ("llama", "torch"):
        model_file(config.model, folders=config.engine == "torch")
    return config


async def _serve(config: CloudConfig, seen: Sequence[Observer]) -> signal.Signals | None:
    received: list[signal.Signals] = []
    async with serving(config, observers=seen) as server:

        def stop(which: signal.Signals) -> None:
            received.append(which)
            server.stop()

        with signals(stop):
            say(f"pipesd-cloud: ready on {_shown(*server.address)}{' with TLS' if config.tls_cert else ''}")
            if config.insecure and not config.tls_cert:
                say("pipesd-cloud: without TLS: whoever is on the way can read and change what is said")
            if server.metrics_address is not None:
                say(f"pipesd-cloud: metrics at http://{_shown(*server.metrics_address)}/metrics")
            await server.wait_stopped()
    return received[0] if received else None


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@cloud_commands.command("generate")
@prompt_options
@answer_options
@settings_of(CloudConfig, but=_OF_A_SERVER)
@process_options
def generate(prompt: str, stop: Sequence[str], show_ids: bool, as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Give the answer of the target alone: the reference for every other way."""
    observers(given["log_level"], _LOGGER)
    config = _settings(given)
    writer = Writer(as_json=as_json, show_ids=show_ids)
    run_loop(write_alone(alone(config), prompt, stop, writer), given["loop"])


@cloud_commands.command("chat")
@answer_options
@settings_of(CloudConfig, but=_OF_A_SERVER)
@process_options
def chat(stop: Sequence[str], show_ids: bool, **given: Any) -> None:  # noqa: ANN401 - one per setting
    """Talk to the target alone, line by line; /help lists what else a line may be."""
    observers(given["log_level"], _LOGGER)
    config = _settings(given)
    run_loop(_chat(config, stop, show_ids=show_ids), given["loop"])


async def _chat(config: CloudConfig, stop: Sequence[str], *, show_ids: bool) -> None:
    async with alone(config) as target:
        await talk(AloneTalker(target, stop, show_ids=show_ids))


cloud_commands.add_command(pull_command("target"))
cloud_commands.add_command(keygen)
cloud_commands.add_command(token)
