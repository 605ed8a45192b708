import contextlib
import errno
import hashlib
import os
import shutil
import stat
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import platformdirs
import pytest

from pipesd.engines.manifest import Model, Role, models
from pipesd.engines.sources import HubSource, PackageSource, Report
from pipesd.engines.store import Store, fingerprint, source_from
from pipesd.errors import ConfigError, EngineError, UsageError

BODY = b"GGUF0123456789abcdef"
HALF = 10
OTHER = BODY[:-1] + b"!"
ODD = b"JPEG" + BODY[4:]
SPARE = 7


def model(name: str, role: Role, body: bytes = BODY) -> Model:
    return Model(name, role, "MIT", f"{name}-q4.gguf", len(body), hashlib.sha256(body).hexdigest())


KNOWN = {"tiny": model("tiny", "draft"), "large": model("large", "target"), "odd": model("odd", "test", ODD)}
FILE = "tiny-q4.gguf"
PARTIAL = f"partial/{FILE}.part"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "pipesd" / "models", KNOWN)


def put(path: Path, body: bytes = BODY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


def files(store: Store) -> dict[str, bytes]:
    """What is in a store, but for the locks, which may stay."""
    found = (path for path in store.folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(store.folder).as_posix(): path.read_bytes() for path in found}


def nothing(*_: object) -> None:
    """For those who need not hear."""


def complaint(attempt: Callable[..., object], *args: object, kind: type[BaseException] = EngineError) -> str:
    """What is said when an attempt fails: one sentence."""
    with pytest.raises(kind) as caught:
        attempt(*args)
    assert caught.type is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


class FakeSource:
    """Makes a partial file, from where it ends, to ``body``; calls ``during`` half-way."""

    def __init__(self, body: bytes = BODY, during: Callable[[Path], object] = nothing) -> None:
        self.body = body
        self.during = during
        self.begun_at: list[int] = []

    def spare_bytes(self, model: Model) -> int:
        assert model in KNOWN.values()
        return SPARE

    def fetch(self, model: Model, partial: Path, report: Report) -> None:
        with partial.open("ab") as file:
            self.begun_at.append(file.tell())
            file.write(self.body[file.tell() : HALF])
            file.flush()
            report(file.tell())
            self.during(partial)
            file.write(self.body[file.tell() :])
            report(file.tell())


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


def next_pull_begins_at(store: Store) -> list[int]:
    """Where another pull goes on, which then makes the model whole; nowhere if it is here."""
    source = FakeSource()
    assert store.pull("tiny", source, nothing) == store.path_of("tiny") == store.folder / FILE
    assert files(store) == {FILE: BODY}
    return source.begun_at


# --- what is meant, and what is here ---


def test_a_path_is_taken_as_it_is(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("some.gguf", "loud.GGUF", "./tiny", str(tmp_path / "whole.gguf")):
        assert put(Path(path)) == store.path_of(path)


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("none.gguf", "there is no file none.gguf; check its name"),
        ("folder.gguf", "folder.gguf is a folder; name a .gguf file in it"),
        ("short.gguf", "short.gguf is not a GGUF file; name one that is"),
        ("./words", "words is not a GGUF file; name one that is"),
        ("pipe.gguf", "pipe.gguf is not a GGUF file; name one that is"),
        (
            "loop.gguf",
            "loop.gguf cannot be read: too many levels of symbolic links; check its name and rights",
        ),
        ("words/x.gguf", "words/x.gguf cannot be read: not a directory; check its name and rights"),
        ("a\0b.gguf", r"a\x00b.gguf cannot be read: "),
        ("a\nb.gguf", r"there is no file a\nb.gguf; check its name"),
        ("\ud800.gguf", r"\ud800.gguf cannot be read: "),
        ("x" * 300 + ".gguf", "x.gguf cannot be read: file name too long; check its name and rights"),
    ],
)
def test_a_path_to_something_else_is_named(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.gguf").mkdir()
    put(Path("short.gguf"), b"GGU")
    put(Path("words"), b"gguf" + BODY)
    os.mkfifo("pipe.gguf")
    Path("loop.gguf").symlink_to("loop.gguf")
    with open("pipe.gguf", "r+b", buffering=0) as pipe:
        pipe.write(BODY)  # an empty one would hold up whoever reads it
        assert what in complaint(store.path_of, path)


def test_a_folder_of_hugging_face_is_a_model_where_that_is_allowed(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    assert "has no config.json; name a folder of Hugging Face" in complaint(
        lambda path: store.path_of(path, folders=True), str(folder)
    )
    (folder / "config.json").write_text("{}")
    assert store.path_of(str(folder), folders=True) == folder
    assert "is a folder; name a .gguf file in it" in complaint(store.path_of, str(folder))
    whole = put(tmp_path / "whole.gguf")
    assert store.path_of(str(whole), folders=True) == whole
    missing = str(tmp_path / "none")
    assert "there is no file" in complaint(lambda path: store.path_of(path, folders=True), missing)


def test_a_fingerprint_tells_files_apart(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(bytes(100_000))
    other.write_bytes(bytes(50_000) + b"\1" + bytes(49_999))
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(other)
    other.write_bytes(bytes(100_001))
    assert fingerprint(one) != fingerprint(other)
    other.write_bytes(b"")
    assert len(fingerprint(other)) == 16


def test_a_fingerprint_of_a_folder_is_that_of_what_the_model_is_made_of(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    (tmp_path / "model.safetensors").write_bytes(BODY)
    before = fingerprint(tmp_path)
    (tmp_path / "README.md").write_bytes(b"words")
    assert fingerprint(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(OTHER)
    assert fingerprint(tmp_path) != before
    (tmp_path / "model.safetensors").write_bytes(BODY)
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    assert fingerprint(tmp_path) != before


def test_a_file_that_may_not_be_read_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(store.folder / "own.gguf")
    # The tests may run as a user who may read everything.
    monkeypatch.setattr(Path, "open", failing(PermissionError(errno.EACCES, "Permission denied")))
    said = f"{path} cannot be read: permission denied; check its name and rights"
    assert complaint(store.path_of, "own") == complaint(store.path_of, str(path)) == said


def test_a_model_or_a_file_in_the_folder_is_found_by_its_name(store: Store) -> None:
    known, own = put(store.folder / FILE), put(store.folder / "my.own-Q2_K.gguf")
    assert (store.path_of("tiny"), store.path_of("my.own-Q2_K")) == (known, own)
    words = put(store.folder / "words.gguf", b"words")
    assert complaint(store.path_of, "words") == f"{words} is not a GGUF file; name one that is"


@pytest.mark.parametrize(("name", "side"), [("tiny", "edge"), ("large", "cloud"), ("odd", "edge")])
def test_a_model_that_is_not_here_is_answered_with_the_command_that_brings_it(
    store: Store, name: str, side: str
) -> None:
    said = f"the model {name} is not here; run pipesd-{side} pull {name}"
    assert complaint(store.path_of, name) == said
    put(store.folder / "partial" / f"{name}-q4.gguf.part")
    put(store.folder / f"{name}.gguf")
    assert complaint(store.path_of, name) == said


@pytest.mark.parametrize("body", [BODY + b"!", BODY[:-1], b"", ODD])
def test_a_model_that_cannot_be_whole_is_broken(store: Store, body: bytes) -> None:
    put(store.folder / FILE, body)
    assert complaint(store.path_of, "tiny") == "the model tiny is broken; run pipesd-edge pull tiny"
    assert next_pull_begins_at(store) == [0]


@pytest.mark.parametrize("name", ["tyni", "", "a\nb", "..", "TINY"])
def test_an_unknown_name_is_answered_with_what_there_is(store: Store, name: str) -> None:
    put(store.folder / "own.gguf")
    said = complaint(store.path_of, name, kind=UsageError)
    assert said.startswith(f"no model is called {name!r}; the closest known one is ")
    assert said.endswith(", of large, odd, own, tiny; a path to a .gguf file works too")


def test_the_names_of_what_is_here(store: Store) -> None:
    paths = [put(store.folder / name) for name in ("0.gguf", "Ape.gguf", "a.gguf", "b.gguf", FILE, "z.gguf")]
    assert store.names_here() == ("0", "Ape", "a", "b", "tiny", "z")
    assert [store.path_of(name) for name in store.names_here()] == paths


def test_what_is_unfinished_or_broken_or_not_meant_by_its_name_is_not_listed(store: Store) -> None:
    put(store.folder / KNOWN["large"].file, b"GGUF")
    for name in (PARTIAL, "partial/inner.gguf", "notes.txt", "odd.gguf"):
        put(store.folder / name)
    assert store.names_here() == ()


@pytest.mark.parametrize("folder", ["none", "x" * 300, "file/models"])
def test_a_folder_that_cannot_be_looked_into_has_no_models(tmp_path: Path, folder: str) -> None:
    put(tmp_path / "file")
    store = Store(tmp_path / folder, KNOWN)
    assert store.names_here() == ()
    assert complaint(store.path_of, "tiny") == "the model tiny is not here; run pipesd-edge pull tiny"
    assert "no model is called 'own'" in complaint(store.path_of, "own", kind=UsageError)


# --- pulling ---


def test_a_pulled_model_is_here_and_the_source_not_asked_again(store: Store) -> None:
    source, reports = FakeSource(), list[int]()
    for _ in range(2):
        assert store.pull("tiny", source, reports.append) == store.path_of("tiny") == store.folder / FILE
        assert (files(store), store.names_here()) == ({FILE: BODY}, ("tiny",))
    assert (source.begun_at, reports) == ([0], [HALF, len(BODY), len(BODY), len(BODY)])


def test_nothing_is_asked_for_or_written_for_a_model_that_is_here(store: Store) -> None:
    put(store.folder / FILE)
    assert next_pull_begins_at(store) == []
    assert list(store.folder.iterdir()) == [store.folder / FILE]


@pytest.mark.parametrize("name", ["own", "tyni", FILE, "./tiny"])
def test_the_source_is_not_asked_for_what_is_not_known(store: Store, name: str) -> None:
    put(store.folder / "own.gguf")
    source = FakeSource()
    said = complaint(store.pull, name, source, nothing, kind=UsageError)
    assert said.endswith(", of large, odd, tiny; a path to a .gguf file works too")
    assert source.begun_at == []


def leave_sidecars(partial: Path) -> None:
    put(partial.with_name(f"{partial.name}.json"))
    put(partial.with_name(f"{partial.name}.wheel-1") / "some.whl")


@pytest.mark.parametrize(
    ("name", "body", "what"),
    [
        ("tiny", OTHER, f"has the sha256 {hashlib.sha256(OTHER).hexdigest()}, not {KNOWN['tiny'].sha256}"),
        ("tiny", BODY[:-1], "has 19 bytes, not 20"),
        ("tiny", BODY + b"!", "has 21 bytes, not 20"),
        ("tiny", b"", "has 0 bytes, not 20"),
        ("odd", ODD, "is not a GGUF file"),
    ],
)
def test_what_is_not_the_model_is_deleted(store: Store, name: str, body: bytes, what: str) -> None:
    said = complaint(store.pull, name, FakeSource(body, during=leave_sidecars), nothing)
    assert said == f"what came as {name} {what}, and was deleted; pull again, or from elsewhere"
    assert files(store) == {}
    assert next_pull_begins_at(store) == [0]


def test_what_helped_to_resume_is_gone_in_the_end(store: Store) -> None:
    of_others = (f"partial/{FILE}.particle", f"partial/other-{FILE}.part.json")
    for name in of_others:
        put(store.folder / name)
    store.pull("tiny", FakeSource(during=leave_sidecars), nothing)
    assert files(store) == dict.fromkeys((FILE, *of_others), BODY)
    assert [path for path in (store.folder / "partial").iterdir() if path.is_dir()] == []


def test_a_file_gets_its_name_only_when_its_bytes_were_checked_and_flushed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[tuple[str, bool]] = []

    def seen(call: str, real: Callable[..., None]) -> Callable[..., None]:
        def look(*args: object) -> None:
            happened.append((call, (store.folder / FILE).exists()))
            real(*args)

        return look

    monkeypatch.setattr(os, "fsync", seen("flush", os.fsync))
    monkeypatch.setattr(os, "replace", seen("name", os.replace))
    complaint(store.pull, "tiny", FakeSource(OTHER, during=seen("fetch", nothing)), nothing)
    assert happened == [("fetch", False)]
    store.pull("tiny", FakeSource(during=seen("fetch", nothing)), nothing)
    assert happened[1:] == [("fetch", False), ("flush", False), ("name", False), ("flush", True)]


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk of {} is full; make room and pull"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk of {} is full; make room and pull"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "x cannot be written: permission denied;"),
        (OSError("Odd"), "{} cannot be written: odd; check the folder's rights, or set PIPESD_HOME to"),
        (EngineError("the link broke"), "the link broke"),
        (ConfigError("some: odd"), "some: odd"),
        (KeyboardInterrupt("stop"), "stop"),
    ],
)
def test_a_pull_that_was_stopped_goes_on_from_there(store: Store, error: BaseException, what: str) -> None:
    kind = EngineError if isinstance(error, OSError) else type(error)
    said = complaint(store.pull, "tiny", FakeSource(during=failing(error)), nothing, kind=kind)
    assert said.startswith(what.format(store.folder))
    assert files(store) == {PARTIAL: BODY[:HALF]}
    assert next_pull_begins_at(store) == [HALF]


@pytest.mark.parametrize("present", [0, HALF, len(BODY)])
def test_too_little_room_is_noticed_before_the_source_is_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch, present: int
) -> None:
    needed = len(BODY) - present + SPARE
    put(store.folder / PARTIAL, BODY[:present])
    source = FakeSource()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    assert complaint(store.pull, "tiny", source, nothing) == (
        f"tiny needs 1 MB in {store.folder}, but only 0 MB are free; "
        "make room, or set PIPESD_HOME to another folder"
    )
    assert (source.begun_at, files(store)) == ([], {PARTIAL: BODY[:present]})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    store.pull("tiny", source, nothing)
    assert source.begun_at == [present]


@pytest.mark.parametrize(("call", "what"), [("mkdir", "partial"), ("open", ".lock"), ("replace", ".part")])
def test_what_the_system_refuses_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str, what: str
) -> None:
    def refuse(path: object, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        said = complaint(store.pull, "tiny", FakeSource(), nothing)
    assert f"{what} cannot be written: permission denied; check the folder's rights, or set PIPESD_" in said
    assert files(store) == ({PARTIAL: BODY} if call == "replace" else {})
    assert next_pull_begins_at(store) == [len(BODY) if call == "replace" else 0]


def test_a_file_that_cannot_be_flushed_gets_no_name_but_a_folder_need_not_be(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flush_files_only(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", failing(OSError(errno.EIO, "Input/output error")))
    said = complaint(store.pull, "tiny", FakeSource(), nothing)
    assert said.startswith(f"{store.folder} cannot be written: input/output error; check")
    assert files(store) == {PARTIAL: BODY}
    monkeypatch.setattr(os, "fsync", flush_files_only)
    assert next_pull_begins_at(store) == [len(BODY)]


def test_without_its_library_a_pull_says_what_to_install(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "filelock", None)
    source = FakeSource()
    assert "run pip install 'pipesd[llama]'" in complaint(store.pull, "tiny", source, nothing)
    assert source.begun_at == []


# --- pulling at the same time ---


@pytest.mark.parametrize(("end", "second_begins_at"), [(nothing, []), (failing(EngineError("lost")), [HALF])])
def test_a_second_pull_waits_and_then_brings_only_what_is_missing(
    store: Store, monkeypatch: pytest.MonkeyPatch, end: Callable[[Path], None], second_begins_at: list[int]
) -> None:
    # Else the second one looks only every so often whether the first has ended.
    monkeypatch.setattr("pipesd.engines.store.LOCK_POLL_S", 0.0)
    waits, reports, second = threading.Event(), list[int](), FakeSource()
    pulls: list[Future[Path]] = []

    def report(present: int) -> None:
        reports.append(present)
        waits.set()

    def start_second(partial: Path) -> None:
        pulls.append(pool.submit(Store(store.folder, KNOWN).pull, "tiny", second, report))
        assert waits.wait(10)
        assert second.begun_at == []
        end(partial)

    with ThreadPoolExecutor(1) as pool:
        with contextlib.suppress(EngineError):
            store.pull("tiny", FakeSource(during=start_second), nothing)
        assert pulls[0].result(10) == store.folder / FILE
    assert (second.begun_at, files(store)) == (second_begins_at, {FILE: BODY})
    assert (reports[0], reports[-1]) == (HALF, len(BODY))


# --- making ---


def test_what_is_made_gets_its_name_when_it_is_whole(store: Store) -> None:
    result = store.folder / "own.gguf"
    with store.making(result) as unfinished:
        assert unfinished.read_bytes() == b""
        put(unfinished)
        assert (result.exists(), store.names_here()) == (False, ())
    assert files(store) == {"own.gguf": BODY}


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk of {} is full; make room"),
        (EngineError("odd weights"), "odd weights"),
        (KeyboardInterrupt("stop"), "stop"),
    ],
)
def test_what_is_not_made_to_its_end_leaves_the_folder_as_it_was(
    store: Store, error: BaseException, what: str
) -> None:
    def make() -> None:
        with store.making(old) as unfinished:
            put(unfinished)
            raise error

    old = put(store.folder / "own.gguf", OTHER)
    kind = EngineError if isinstance(error, OSError) else type(error)
    assert complaint(make, kind=kind).startswith(what.format(store.folder))
    assert files(store) == {"own.gguf": OTHER}


@pytest.mark.parametrize("name", [FILE, "own", "own.GGUF", ".gguf", "own.gguf.part"])
def test_what_is_made_has_the_name_of_a_new_model(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store.folder.mkdir(parents=True)
    monkeypatch.chdir(store.folder)
    for path in (Path(name), store.folder / name):
        said = complaint(store.making(path).__enter__, kind=UsageError)
        assert said == f"{path} is no name for a new model; choose another .gguf file"
    assert list(store.folder.iterdir()) == []


def test_nothing_is_made_where_no_file_can_be(store: Store, tmp_path: Path) -> None:
    said = complaint(store.making(put(tmp_path / "file") / "own.gguf").__enter__)
    assert said.startswith(f"{tmp_path / 'file'} cannot be written: file exists; check the folder's rights")


# --- the user's surroundings ---


def test_the_store_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = Path(platformdirs.user_cache_dir("pipesd", appauthor=False)) / "models"
    for home, folder in ((str(tmp_path), tmp_path / "models"), ("some", tmp_path / "some" / "models")):
        assert Store.of_user({"PIPESD_HOME": home}).folder == folder
    assert Store.of_user({}).folder == Store.of_user({"PIPESD_HOME": ""}).folder == cache
    user = Store.of_user({"PIPESD_HOME": str(tmp_path)})
    for name in models():
        assert f"the model {name} is not here; run" in complaint(user.path_of, name)


def test_models_come_from_the_hub_unless_packages_are_named(tmp_path: Path) -> None:
    for hub in ({}, {"PIPESD_MODEL_SOURCES": ""}, {"PIPESD_MODEL_SOURCES": "manifest.toml"}):
        assert isinstance(source_from(hub), HubSource)
    shipped = source_from({"PIPESD_MODEL_SOURCES": "manifest-packages.toml"})
    assert isinstance(shipped, PackageSource)
    assert shipped.spare_bytes(models()["smollm2-135m"]) == 98_362_432
    own = tmp_path / "own.toml"
    own.write_text('[[models]]\nname = "tiny"\nmember = "*"\npackages = ["a==1", "b==1"]\n', encoding="utf-8")
    assert source_from({"PIPESD_MODEL_SOURCES": str(own)}).spare_bytes(KNOWN["tiny"]) == 10


def test_a_broken_manifest_of_packages_is_a_setting(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", put(tmp_path / "own.toml")):
        said = complaint(source_from, {"PIPESD_MODEL_SOURCES": str(path)}, kind=ConfigError)
        assert said.startswith("PIPESD_MODEL_SOURCES: ")
        assert str(path) in said
