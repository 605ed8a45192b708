"""``pipesd-cloud keygen``."""

from collections.abc import Sequence
from pathlib import Path

import click

from pipesd.cli.process import say
from pipesd.keys import DAYS, LOCAL, make_pair


@click.command("keygen")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="A name or address by which edges call this machine; may be repeated. "
    f"[default: {', '.join(LOCAL)}]",
)
@click.option(
    "--days", type=click.IntRange(1, 3_650), default=DAYS, show_default=True, help="How long it is valid."
)
@click.option(
    "--cert", type=click.Path(path_type=Path), default="pipesd-cert.pem", show_default=True, help="New file."
)
@click.option(
    "--key", type=click.Path(path_type=Path), default="pipesd-key.pem", show_default=True, help="New file."
)
def keygen(hosts: Sequence[str], days: int, cert: Path, key: Path) -> None:
    """Make a self-signed certificate and its key, for a first try."""
    make_pair(cert, key, hosts or LOCAL, days)
    say(f"pipesd-cloud: serve with --tls-cert {cert} --tls-key {key}; give edges {cert} as --tls-ca")
