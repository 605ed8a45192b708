"""The models that pipesd knows by name, and the packages that carry them.

The law of this file: what it hands out was checked. No file name has a folder in it, and no package is
anything but a name and an exact version.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Protocol, TypeVar

import msgspec

from pipesd.errors import ConfigError, UsageError

SOURCES_VARIABLE = "PIPESD_MODEL_SOURCES"
HUB_MANIFEST = "manifest.toml"
PACKAGE_MANIFEST = "manifest-packages.toml"

Role = Literal["draft", "target", "test"]
Name = Annotated[str, msgspec.Meta(pattern=r"^(?!.*\.gguf\Z)[A-Za-z0-9][A-Za-z0-9._-]*\Z")]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.gguf\Z")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Repository = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+\Z")]
Package = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*\Z")]


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model: a single GGUF file, told by its hash."""

    name: Name
    role: Role
    licence: str
    file: FileName
    bytes: Annotated[int, msgspec.Meta(ge=4)]
    sha256: Sha256
    hub: Repository | None = None
    """The Hugging Face repository that has the file, if one has."""


class Packages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The packages whose data members, joined in order, are a model's file."""

    name: Name
    """Of the model."""

    packages: Annotated[tuple[Package, ...], msgspec.Meta(min_length=1)]
    member: Annotated[str, msgspec.Meta(min_length=1)]
    """Which file of each wheel, as a shell pattern whose ``*`` matches ``/`` too."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Entry = TypeVar("Entry", bound=_Named)


class _Models(msgspec.Struct, forbid_unknown_fields=True):
    models: tuple[Model, ...]


class _PackagesOfModels(msgspec.Struct, forbid_unknown_fields=True):
    models: tuple[Packages, ...]


Document = TypeVar("Document", _Models, _PackagesOfModels)


@cache
def models() -> Mapping[str, Model]:
    """The models of the shipped manifest, by name."""
    path = _shipped(HUB_MANIFEST)
    return _by_name(_read(path, _Models, path.name).models, path, path.name)


def model_named(name: str) -> Model:
    """The shipped model ``name``. Raises ``UsageError``, which lists the known ones, if there is none."""
    found = models().get(name)
    if found is None:
        raise unknown_model(name, models())
    return found


def default_model(role: Role) -> Model:
    """The model that serves in this role unless another is asked for."""
    return next(model for model in models().values() if model.role == role)


def packages_of(named: str) -> Mapping[str, Packages]:
    """The packages of every model in the manifest that PIPESD_MODEL_SOURCES names, by the model's name.

    ``named`` is the path of a manifest, or the name of the shipped one. Raises ``ConfigError``, which starts
    with the name of the variable, if it is broken.
    """
    path = _shipped(named) if named == PACKAGE_MANIFEST else Path(named)
    return _by_name(_read(path, _PackagesOfModels, SOURCES_VARIABLE).models, path, SOURCES_VARIABLE)


def unknown_model(name: str, known: Iterable[str]) -> UsageError:
    """What to say about a name that none of the ``known`` models has."""
    names = sorted(known)
    closest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    hint = f"the closest known one is {closest[0]}, of {', '.join(names)}; " if closest else ""
    return UsageError(f"no model is called {name!r}; {hint}a path to a .gguf file works too")


def _shipped(name: str) -> Path:
    return Path(str(resources.files("pipesd") / "data" / name))


def _read(path: Path, kind: type[Document], origin: str) -> Document:
    try:
        return msgspec.convert(tomllib.loads(path.read_bytes().decode("utf-8-sig")), kind)
    except OSError as error:
        problem = f"cannot read {path}: {(error.strerror or str(error)).lower()}"
    except UnicodeDecodeError:
        problem = f"{path} is not UTF-8 text"
    except tomllib.TOMLDecodeError as error:
        problem = f"{path} is not valid TOML: {error}"
    except msgspec.ValidationError as error:
        problem = f"{path} is not such a manifest: {error}"
    except (ValueError, RecursionError) as error:
        problem = f"{path} cannot be read: {error}"
    ours = origin != SOURCES_VARIABLE
    advice = "install pipesd again" if ours else f"name a manifest of packages, such as {PACKAGE_MANIFEST}"
    raise ConfigError(f"{origin}: {problem}; {advice}")


def _by_name(entries: Iterable[Entry], path: Path, origin: str) -> Mapping[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.name in found:
            raise ConfigError(f"{origin}: {path} has {entry.name} twice; take one of them out")
        found[entry.name] = entry
    return MappingProxyType(found)
