"""``pipesd-cloud token``."""

from pathlib import Path

import click

from pipesd.access import LIMIT_MAX, Limits
from pipesd.cli.process import say
from pipesd.tokens import Entry, create, default_place, load, revoke

_COUNT = click.IntRange(1, LIMIT_MAX)

_tokens = click.option(
    "--tokens",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default=default_place,
    show_default="in the user's data folder",
    help="Where the cloud keeps what tells its tokens from others.",
)


@click.group("token")
def token() -> None:
    """Make, list and revoke the tokens with which edges prove who they are."""


@token.command("create")
@click.argument("name")
@click.option("--sessions-max", type=_COUNT, metavar="N", help="Most sessions open at once.")
@click.option("--context-tokens", type=_COUNT, metavar="N", help="Most tokens of one session's text.")
@click.option("--tokens-per-minute", type=_COUNT, metavar="N", help="Most confirmed tokens.")
@_tokens
def create_command(
    name: str,
    path: Path,
    sessions_max: int | None,
    context_tokens: int | None,
    tokens_per_minute: int | None,
) -> None:
    """Make a token called NAME and print it, this once. Without limits the cloud's own settings bound it."""
    limits = Limits(
        sessions_max=sessions_max, context_tokens=context_tokens, tokens_per_minute=tokens_per_minute
    )
    made = create(path, name, limits)
    click.echo(made.text)
    say("pipesd-cloud: the token is shown only now; whoever has it is let in, until it is revoked")


@token.command("list")
@_tokens
def list_command(path: Path) -> None:
    """List the tokens by name, with their limits and without their secrets."""
    entries = load(path).entries
    for entry in sorted(entries, key=lambda entry: entry.name):
        click.echo(_line(entry))
    if not entries:
        say("pipesd-cloud: there is no token")


@token.command("revoke")
@click.argument("name")
@_tokens
def revoke_command(name: str, path: Path) -> None:
    """Have the token called NAME refused from the next login on. A running cloud need not be restarted."""
    revoke(path, name)
    say(f"pipesd-cloud: {name} is revoked")


def _line(entry: Entry) -> str:
    limits = [
        f"at most {most} {what}"
        for most, what in (
            (entry.limits.sessions_max, "sessions"),
            (entry.limits.context_tokens, "tokens of context"),
            (entry.limits.tokens_per_minute, "tokens per minute"),
        )
        if most is not None
    ]
    state = ["revoked"] if entry.revoked else limits or ["no limits"]
    return f"{entry.name}: made {entry.created}, {', '.join(state)}"
