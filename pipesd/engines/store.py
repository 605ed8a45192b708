"""The user's folder of models, and how a model gets into it.

The law of this file: a file gets its name only when it is whole; one that was pulled, after its size and
hash were checked and its bytes were handed to the disk. What is not wholly pulled stays in the folder
``partial``, where the next pull goes on with it.
"""

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import platformdirs

from pipesd.engines.manifest import HUB_MANIFEST, SOURCES_VARIABLE, Model, models, packages_of, unknown_model
from pipesd.engines.sources import HubSource, PackageSource, Report, Source
from pipesd.errors import EngineError, UsageError, one_line

HOME_VARIABLE = "PIPESD_HOME"
LOCK_POLL_S = 0.1
MAGIC = b"GGUF"
SUFFIX = ".gguf"

_FOLDER_CONFIG = "config.json"
_FOLDER_SUFFIXES = {".jinja", ".json", ".model", ".safetensors"}
_SAMPLES, _SAMPLE_BYTES = 1_024, 4_096


class Store:
    """The models in one folder; several processes may use it at once."""

    def __init__(self, folder: Path, known: Mapping[str, Model] | None = None) -> None:
        self.folder = folder
        self._known = models() if known is None else known

    @classmethod
    def of_user(cls, environ: Mapping[str, str]) -> "Store":
        """The store in PIPESD_HOME, or else in the user's cache folder."""
        home = environ.get(HOME_VARIABLE) or platformdirs.user_cache_dir("pipesd", appauthor=False)
        return cls(Path(home).absolute() / "models")

    def path_of(self, name_or_path: str, *, folders: bool = False) -> Path:
        """The GGUF file that is meant: a path, a known model, or a file NAME.gguf in this store.

        With ``folders`` a path may also be that of a folder of Hugging Face. Raises ``EngineError`` if the
        file is not there or is no GGUF file, ``UsageError`` if nothing is called so.
        """
        if _is_path(name_or_path):
            path = Path(name_or_path)
            if not (folders and _is_model_folder(path)):
                _check_gguf(path)
            return path
        model = self._known.get(name_or_path)
        if model is not None:
            return self._path_of_known(model)
        made = self.folder / f"{name_or_path}{SUFFIX}"
        if name_or_path in self._stems():
            _check_gguf(made)
            return made
        raise unknown_model(name_or_path, {*self._known, *self.names_here()})

    def names_here(self) -> tuple[str, ...]:
        """What ``path_of`` finds here by name: whole known models, and other .gguf files; sorted."""
        files = {model.file for model in self._known.values()}
        known = {name for name, model in self._known.items() if self._is_here(model)}
        made = {stem for stem in self._stems() if f"{stem}{SUFFIX}" not in files and stem not in self._known}
        return tuple(sorted(known | made))

    def pull(self, name: str, source: Source, report: Report) -> Path:
        """Have ``source`` bring the model ``name``, unless it is here, and return its path. Blocks.

        While another process pulls the same model, waits for it. May be interrupted at any moment, and goes
        on from there when called again. Raises ``EngineError`` if the model cannot be had, ``UsageError`` if
        it is not known.
        """
        model = self._known.get(name)
        if model is None:
            raise unknown_model(name, self._known)
        try:
            if not self._is_here(model):
                self._partial(model).parent.mkdir(parents=True, exist_ok=True)
                with self._alone(model, report):
                    if not self._is_here(model):
                        self._bring(model, source, report)
        except OSError as error:
            raise _disk_problem(error, self.folder) from None
        report(model.bytes)
        return self.folder / model.file

    @contextlib.contextmanager
    def making(self, result: Path) -> Iterator[Path]:
        """A place for the block to write a new model to; it becomes ``result`` if the block succeeds.

        Otherwise it is deleted. Raises ``UsageError`` if ``result`` cannot be the name of a model here or
        anywhere, and ``EngineError`` if the disk does not allow it.
        """
        taken = result.stem in self._known or result.name in {model.file for model in self._known.values()}
        if result.suffix != SUFFIX or taken:
            raise UsageError(f"{one_line(str(result))} is no name for a new model; choose another .gguf file")
        unfinished = result.with_name(f".{result.name}.{os.getpid()}.part")
        try:
            result.parent.mkdir(parents=True, exist_ok=True)
            unfinished.touch()
            try:
                yield unfinished
                with unfinished.open("rb+") as file:
                    os.fsync(file.fileno())
                os.replace(unfinished, result)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise _disk_problem(error, result.parent) from None

    def _path_of_known(self, model: Model) -> Path:
        path = self.folder / model.file
        if not self._is_here(model):
            state = "broken" if os.path.exists(path) else "not here"
            side = "cloud" if model.role == "target" else "edge"
            raise EngineError(f"the model {model.name} is {state}; run pipesd-{side} pull {model.name}")
        return path

    def _stems(self) -> set[str]:
        with contextlib.suppress(OSError):
            return {path.stem for path in self.folder.iterdir() if path.suffix == SUFFIX}
        return set()

    def _is_here(self, model: Model) -> bool:
        path = self.folder / model.file
        try:
            _check_gguf(path)
            return path.stat().st_size == model.bytes
        except (EngineError, OSError):
            return False

    def _partial(self, model: Model) -> Path:
        return self.folder / "partial" / f"{model.file}.part"

    @contextlib.contextmanager
    def _alone(self, model: Model, report: Report) -> Iterator[None]:
        """Keep other pulls of the model out; meanwhile, report the progress of the one that is waited for."""
        try:
            import filelock  # noqa: PLC0415
        except ImportError:
            raise EngineError("pulling models needs filelock; run pip install 'pipesd[llama]'") from None
        partial = self._partial(model)
        lock = filelock.FileLock(partial.with_name(f"{model.file}.lock"))
        while not lock.is_locked:
            try:
                lock.acquire(timeout=LOCK_POLL_S)
            except filelock.Timeout:
                report(min(_size(partial), model.bytes))
        try:
            yield
        finally:
            lock.release()

    def _bring(self, model: Model, source: Source, report: Report) -> None:
        partial = self._partial(model)
        self._check_room(model, partial, source)
        source.fetch(model, partial, report)
        problem = _checked(partial, model)
        if problem is not None:
            _discard(partial)
            raise EngineError(
                f"what came as {model.name} {problem}, and was deleted; pull again, or from elsewhere"
            )
        for sidecar in _beside(partial):
            _delete(sidecar)
        os.replace(partial, self.folder / model.file)
        _flush_folder(self.folder)

    def _check_room(self, model: Model, partial: Path, source: Source) -> None:
        needed = model.bytes - min(_size(partial), model.bytes) + source.spare_bytes(model)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise EngineError(
                f"{model.name} needs {-(-needed // 10**6)} MB in {self.folder}, but only {free // 10**6} MB "
                f"are free; make room, or set {HOME_VARIABLE} to another folder"
            )


def fingerprint(path: Path) -> str:
    """A short hash of a file's size and of 1,024 samples of 4 KB, spread evenly; whole for small files.

    Of a folder: of all its files that a model consists of.
    """
    digest = hashlib.blake2b(digest_size=8)
    if not path.is_dir():
        _sample(path, digest.update)
        return digest.hexdigest()
    for file in sorted(file for file in path.iterdir() if file.suffix in _FOLDER_SUFFIXES):
        digest.update(file.name.encode())
        _sample(file, digest.update)
    return digest.hexdigest()


def source_from(environ: Mapping[str, str]) -> Source:
    """Where models are pulled from: the Hub, unless PIPESD_MODEL_SOURCES names a manifest of packages.

    Raises ``ConfigError`` if that manifest is broken.
    """
    named = environ.get(SOURCES_VARIABLE)
    if not named or named == HUB_MANIFEST:
        return HubSource()
    return PackageSource(packages_of(named))


def _sample(path: Path, take: Callable[[bytes], None]) -> None:
    size = path.stat().st_size
    take(str(size).encode())
    with path.open("rb") as file:
        for number in range(_SAMPLES):
            file.seek(number * size // _SAMPLES)
            take(file.read(_SAMPLE_BYTES))


def _is_path(name_or_path: str) -> bool:
    separators = {"/", os.sep}
    return any(letter in separators for letter in name_or_path) or name_or_path.lower().endswith(SUFFIX)


def _is_model_folder(path: Path) -> bool:
    """Whether it is a folder of Hugging Face. Raises ``EngineError`` for any other folder."""
    if not path.is_dir():
        return False
    if not (path / _FOLDER_CONFIG).is_file():
        raise EngineError(
            f"{one_line(str(path))} has no {_FOLDER_CONFIG}; name a folder of Hugging Face, or a .gguf file"
        )
    return True


def _check_gguf(path: Path) -> None:
    """Raise ``EngineError`` unless ``path`` is a file that begins as GGUF files do."""
    name = one_line(str(path))
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise EngineError(f"{name} is a folder; name a .gguf file in it")
        if not stat.S_ISREG(mode) or _head(path) != MAGIC:
            raise EngineError(f"{name} is not a GGUF file; name one that is")
    except FileNotFoundError:
        raise EngineError(f"there is no file {name}; check its name") from None
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", error)).lower()
        raise EngineError(f"{name} cannot be read: {reason}; check its name and rights") from None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(MAGIC))


def _checked(partial: Path, model: Model) -> str | None:
    """What is wrong with the bytes that came; if nothing is, they are handed to the disk."""
    with partial.open("rb+") as file:
        size = os.fstat(file.fileno()).st_size
        if size != model.bytes:
            return f"has {size} bytes, not {model.bytes}"
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != model.sha256:
            return f"has the sha256 {found}, not {model.sha256}"
        os.fsync(file.fileno())
    return None if _head(partial) == MAGIC else "is not a GGUF file"


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _beside(partial: Path) -> list[Path]:
    """What helps a source to resume."""
    return list(partial.parent.glob(f"{glob.escape(partial.name)}.*"))


def _discard(partial: Path) -> None:
    for path in (*_beside(partial), partial):
        _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make the new name last; not every system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _disk_problem(error: OSError, folder: Path) -> EngineError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EngineError(
            f"the disk of {folder} is full; make room and pull again, and it goes on from there"
        )
    reason = (error.strerror or str(error)).lower()
    return EngineError(
        f"{error.filename or folder} cannot be written: {reason}; check the folder's rights, "
        f"or set {HOME_VARIABLE} to another folder"
    )
