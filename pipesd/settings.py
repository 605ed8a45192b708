"""Settings from their sources; later ones win: defaults, a TOML file, the environment, flags.

Every ``ConfigError`` says where the setting came from, unless that is a default.
"""

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from pipesd.config import CloudConfig, CommonConfig, EdgeConfig
from pipesd.errors import ConfigError, one_line
from pipesd.hints import from_text, hints_of

SECTIONS = ("edge", "cloud")

Config = TypeVar("Config", bound=CommonConfig)


@dataclass(frozen=True, slots=True)
class _Setting:
    name: str
    value: object
    source: str


def load(
    kind: type[Config], *, file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]
) -> Config:
    """Settings from all sources; flags that are None do not count.

    Without ``file``, the one named by PIPESD_CONFIG is read, or else the user's, if there is one. Raises
    ``ConfigError`` for anything that is unknown, of a wrong type or out of bounds.
    """
    try:
        return _loaded(
            kind, _from_file(kind, file, environ), _from_environ(kind, environ), _from_flags(kind, flags)
        )
    except ConfigError as error:
        raise ConfigError(one_line(str(error))) from None


def _loaded(kind: type[Config], *sources: Iterable[_Setting]) -> Config:
    found: dict[str, _Setting] = {}
    for settings in sources:
        found.update((setting.name, setting) for setting in settings)
    values: dict[str, Any] = {name: setting.value for name, setting in found.items()}
    try:
        return kind(**values)
    except ConfigError as error:
        culprit = found.get(str(error).partition(":")[0])
        raise ConfigError(f"{error} ({culprit.source})" if culprit else str(error)) from None


def _from_file(kind: type[Config], file: Path | None, environ: Mapping[str, str]) -> Iterator[_Setting]:
    path, origin = _config_file(file, environ)
    document = {} if path is None else _read_toml(path, origin)
    for name, table in document.items():
        if name not in SECTIONS:
            raise ConfigError(
                f"{name}: unknown section or setting at the top of {path}; {_sections_advice(name)}"
            )
        if not isinstance(table, dict):
            raise ConfigError(f"{name}: must be a section, written [{name}], in {path}")
    for name, value in document.get(kind.section, {}).items():
        source = f"in [{kind.section}] of {path}"
        if name not in hints_of(kind):
            raise ConfigError(f"{name}: unknown setting {source}; {_closest(name, hints_of(kind))}")
        yield _Setting(name, value, source)


def _from_environ(kind: type[Config], environ: Mapping[str, str]) -> Iterator[_Setting]:
    prefix = f"PIPESD_{kind.section.upper()}_"
    known = {prefix + name.upper(): name for name in hints_of(kind)}
    for variable in sorted(variable for variable in environ if variable.startswith(prefix)):
        if variable not in known:
            raise ConfigError(f"{variable}: unknown environment variable; {_closest(variable, known)}")
        name, text = known[variable], environ[variable]
        source = f"from the environment variable {variable}"
        try:
            value = from_text(name, text, hints_of(kind)[name])
        except ConfigError as error:
            raise ConfigError(f"{error} ({source})") from None
        yield _Setting(name, value, source)


def _from_flags(kind: type[Config], flags: Mapping[str, object]) -> Iterator[_Setting]:
    for name, value in flags.items():
        if name not in hints_of(kind):
            raise ConfigError(
                f"{name}: unknown setting on the command line; {_closest(name, hints_of(kind))}"
            )
        if value is not None:
            yield _Setting(name, value, "from the command line")


def _config_file(file: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, str]:
    """The file to read, if any, and what named it."""
    if file is not None:
        return file, "config"
    if named := environ.get("PIPESD_CONFIG"):
        return Path(named), "PIPESD_CONFIG"
    users = Path(platformdirs.user_config_dir("pipesd", appauthor=False)) / "config.toml"
    return (users if users.is_file() else None), "config"


def _read_toml(path: Path, origin: str) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{origin}: cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{origin}: {path} is not UTF-8 text (at line {line})") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        end = f"at line {text.count(chr(10)) + 1}, the end of the file"
        reason = str(error).replace("at end of document", end)
        raise ConfigError(f"{origin}: {path} is not valid TOML: {reason}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{origin}: {path} holds what no setting can be: {error}") from None


def _sections_advice(name: str) -> str:
    homes = [f"[{kind.section}]" for kind in (EdgeConfig, CloudConfig) if name in hints_of(kind)]
    if homes:
        return f"put it under {' or '.join(homes)}"
    return f"the sections are [edge] and [cloud], and {_closest(name, SECTIONS)}"


def _closest(name: str, known: Iterable[str]) -> str:
    by_folded = {each.casefold(): each for each in known}
    best = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.0)
    return f"the closest known one is {by_folded[best[0]]}"
