"""Types of settings: what a value must be, and how a text becomes one."""

import os
from collections.abc import Mapping
from dataclasses import fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from pipesd.errors import ConfigError

_known: dict[type[Any], Mapping[str, Any]] = {}


def hints_of(kind: type[Any]) -> Mapping[str, Any]:
    """The type of every setting, by name, with its ``Range`` if it has one; found out once, as it is slow."""
    if kind not in _known:
        hints = get_type_hints(kind, include_extras=True)
        _known[kind] = {field.name: hints[field.name] for field in fields(kind)}
    return _known[kind]


def optional(hint: Any) -> Any:  # noqa: ANN401
    """What a setting is if it is given: ``X`` of ``X | None``, and of any other hint the hint itself."""
    return get_args(hint)[0] if get_origin(hint) is UnionType or get_origin(hint) is Union else hint


def from_text(name: str, text: str, hint: Any) -> object:  # noqa: ANN401
    """The value that a text stands for. Raises ``ConfigError`` if it stands for none of this type."""
    hint = optional(hint)
    if get_origin(hint) is tuple:
        return tuple(part for part in text.split(os.pathsep) if part)
    return _converted(name, text, hint, strict=False)


def checked(name: str, value: object, hint: Any) -> Any:  # noqa: ANN401
    """The value, as exactly the type it must have. Raises ``ConfigError`` if it is not, or out of bounds."""
    if value is None and optional(hint) is not hint:
        return None
    hint = optional(hint)
    converted = _converted(name, value, hint, strict=True)
    for bounds in getattr(hint, "__metadata__", ()):
        bounds.check(name, converted)
    return converted


def _converted(name: str, value: object, hint: Any, *, strict: bool) -> Any:  # noqa: ANN401
    try:
        return msgspec.convert(value, hint, strict=strict)
    except (msgspec.ValidationError, UnicodeError):
        raise ConfigError(f"{name}: must be {_described(hint)}, not {value!r}") from None


def _described(hint: Any) -> str:  # noqa: ANN401
    if get_origin(hint) is Literal:
        return " or ".join(get_args(hint))
    if get_origin(hint) is tuple:
        return "a list of texts"
    kind = getattr(hint, "__origin__", hint)
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
