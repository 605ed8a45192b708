"""Settings as command line options: a flag for each field of a configuration, described by its doc."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Container, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

from pipesd.config import CommonConfig
from pipesd.hints import optional
from pipesd.settings import Config, load

Command = TypeVar("Command", bound=Callable[..., Any])


def settings_of(kind: type[CommonConfig], *, but: Container[str] = ()) -> Callable[[Command], Command]:
    """Decorate a command with ``--config`` and a flag for every setting; see ``take``.

    ``but`` names the settings that mean nothing to the command.
    """

    def decorate(command: Command) -> Command:
        for option in reversed([_config_option(), *_options(kind, but)]):
            option(command)
        return command

    return decorate


def take(kind: type[Config], given: dict[str, Any], environ: dict[str, str]) -> Config:
    """The configuration from the options that ``settings_of`` added, the environment, and the file."""
    flags = {field.name: given.get(field.name) for field in fields(kind)}
    flags["traces"] = flags["traces"] or None
    return load(kind, file=given["config"], environ=environ, flags=flags)


def _config_option() -> Callable[[Command], Command]:
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="TOML file with settings; by default the user's own, if there is one.",
    )


def _options(kind: type[CommonConfig], but: Container[str]) -> Iterator[Callable[[Any], Any]]:
    hints = get_type_hints(kind, include_extras=True)
    docs = field_docs(kind)
    for field in (each for each in fields(kind) if each.name not in but):
        default = "" if field.default in ((), "", None) else f" [default: {field.default}]"
        yield _option(field.name, optional(hints[field.name]), docs[field.name] + default)


def _option(name: str, hint: Any, description: str) -> Callable[[Any], Any]:  # noqa: ANN401 - any annotation
    flag = name.replace("_", "-")
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    text = description.replace("``", "")
    if get_origin(kind) is tuple:
        return click.option(f"--{flag.removesuffix('s')}", name, multiple=True, help=text)
    if get_origin(kind) is Literal:
        return click.option(f"--{flag}", name, type=click.Choice(get_args(kind)), help=text)
    if kind is bool:
        return click.option(f"--{flag}/--no-{flag}", name, default=None, help=text)
    return click.option(f"--{flag}", name, type=kind, help=text)


def field_docs(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, inherited fields included."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        source = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(source, ast.ClassDef), "a class that is not one"
        for field, doc in zip(source.body, source.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr):
                docs[ast.unparse(field.target)] = " ".join(ast.literal_eval(doc.value).split())
    return docs
