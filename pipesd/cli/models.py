"""Model files: where a command finds them, and the commands that bring and make them."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pipesd.actors.compute import run_once
from pipesd.cli.process import run_loop, say
from pipesd.engines.choose import cores, quantize
from pipesd.engines.manifest import Model, Role, default_model, model_named, models
from pipesd.engines.store import Store, source_from
from pipesd.errors import EngineError, UsageError, one_line


def model_file(name_or_path: str, *, folders: bool = False) -> Path:
    """The user's model of this name, or at this path; ``folders``: also a folder of Hugging Face.

    Raises ``EngineError`` if a known model is not here, ``UsageError`` if anything else that was named is no
    model.
    """
    try:
        return Store.of_user(os.environ).path_of(name_or_path, folders=folders)
    except EngineError as error:
        if name_or_path in models():
            raise
        raise UsageError(str(error)) from None


def pull_command(role: Role) -> click.Command:
    """``pull`` for the side whose default model has this role."""
    default = default_model(role).name

    @click.command("pull", help=f"Bring models into the user's cache, by name. [default: {default}]")
    @click.argument("names", metavar="[NAME]...", nargs=-1)
    @click.option("--list", "list_only", is_flag=True, help="Only list the models that can be had by name.")
    def pull(names: Sequence[str], list_only: bool) -> None:
        if list_only and names:
            raise click.UsageError("--list takes no names; it lists every model that can be had by name.")
        store = Store.of_user(os.environ)
        if list_only:
            _list(store)
            return
        wanted = [model_named(name) for name in names or (default,)]
        for model in wanted:
            _pull(store, model)

    return pull


def _list(store: Store) -> None:
    here = store.names_here()
    for name, model in models().items():
        state = "here" if name in here else "not here"
        click.echo(f"{name}: {model.role}, {model.bytes / 1e6:.0f} MB, {model.licence}, {state}")
    for name in here:
        if name not in models():
            click.echo(f"{name}: made here")


def _pull(store: Store, model: Model) -> None:
    source = source_from(os.environ)
    bar = click.progressbar(
        length=model.bytes, label=model.name, file=sys.stderr, show_pos=False, hidden=not sys.stderr.isatty()
    )
    with bar:

        def report(present: int) -> None:
            bar.update(present - bar.pos)

        path = store.pull(model.name, source, report)
    say(f"{model.name} is {path}")


def quantize_command() -> click.Command:
    """``quantize``, for the side that drafts."""
    default = default_model("draft").name

    @click.command("quantize")
    @click.argument("source", metavar="[NAME|PATH]", default=default)
    @click.option("--type", "kind", default="Q2_K", show_default=True, help="The kind of weights.")
    @click.option(
        "--output",
        type=click.Path(path_type=Path),
        help="Where to. [default: the user's cache, where --draft finds it as NAME-TYPE]",
    )
    @click.option("--threads", type=click.IntRange(0, 1_024), default=0, help="0 is one for each core.")
    def command(source: str, kind: str, output: Path | None, threads: int) -> None:
        """Make a smaller and faster draft of a model: write it anew with fewer bits for each weight.

        What a draft loses in accuracy costs acceptance, never text.
        """
        store = Store.of_user(os.environ)
        path = model_file(source)
        stem = source if source in models() else path.stem
        result = output or store.folder / f"{stem}-{kind.lower()}.gguf"
        if output is not None and output.exists():
            raise UsageError(
                f"output: {one_line(str(output))} is there already; choose another name, or remove it"
            )
        with store.making(result) as unfinished:
            work = run_once(
                "pipesd-quantize", lambda: quantize(path, unfinished, kind.upper(), threads or cores())
            )
            run_loop(work, "asyncio")
        size_before, size = path.stat().st_size, result.stat().st_size
        say(f"{result.stem} is {result}: {size / 1e6:.0f} MB of {size_before / 1e6:.0f} MB")

    return command
