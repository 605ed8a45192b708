"""``pull`` and ``quantize`` with a source and a store of the test; no network and no llama.cpp."""

import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from pipesd.cli import models as commands
from pipesd.cli.models import model_file, pull_command, quantize_command
from pipesd.engines.choose import cores
from pipesd.engines.manifest import Model, Role, default_model
from pipesd.engines.sources import Report
from pipesd.engines.store import Store
from pipesd.errors import EngineError, UsageError

CONTENT = b"GGUF" + bytes(range(256)) * 40
"""Of every model here."""


def model_of(role: Role, name: str) -> Model:
    digest = hashlib.sha256(CONTENT).hexdigest()
    return Model(name, role, "MIT", f"{name}-file.gguf", len(CONTENT), digest)


ROLES: Mapping[str, Role] = {"small": "draft", "large": "target", "tiny": "test"}
KNOWN = {name: model_of(role, name) for name, role in ROLES.items()}


class Bringer:
    """A source that has everything, and notes what it brought."""

    def __init__(self) -> None:
        self.brought: list[str] = []
        self.fails: Exception | None = None

    def spare_bytes(self, model: Model) -> int:
        return 0

    def fetch(self, model: Model, partial: Path, report: Report) -> None:
        self.brought.append(model.name)
        partial.write_bytes(CONTENT[:1_000])
        report(1_000)
        if self.fails is not None:
            raise self.fails
        partial.write_bytes(CONTENT)
        report(len(CONTENT))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the models are; the known ones are small, large and tiny."""
    monkeypatch.setenv("PIPESD_HOME", str(tmp_path))

    class SmallStore(Store):
        def __init__(self, folder: Path, known: Mapping[str, Model] | None = None) -> None:
            super().__init__(folder, known or KNOWN)

    def model_named(name: str) -> Model:
        if name not in KNOWN:
            raise UsageError(f"no model is called {name!r}")
        return KNOWN[name]

    monkeypatch.setattr(commands, "Store", SmallStore)
    monkeypatch.setattr(commands, "models", lambda: KNOWN)
    monkeypatch.setattr(commands, "model_named", model_named)
    monkeypatch.setattr(
        commands, "default_model", lambda role: KNOWN["small" if role == "draft" else "large"]
    )
    return tmp_path / "models"


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Bringer:
    bringer = Bringer()
    monkeypatch.setattr(commands, "source_from", lambda _: bringer)
    return bringer


def invoked(command: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, standalone_mode=False)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


# --- pull ---


@pytest.mark.parametrize(("role", "name"), [("draft", "small"), ("target", "large")])
def test_without_a_name_the_models_default_is_brought(folder: Path, source: Bringer, role: Role, name: str):
    done = invoked(pull_command(role))
    assert done.exception is None
    assert source.brought == [name]
    assert (folder / f"{name}-file.gguf").read_bytes() == CONTENT
    assert (done.stdout, done.stderr) == ("", f"{name} is {folder / f'{name}-file.gguf'}\n")


def test_every_model_that_is_named_is_brought_once(folder: Path, source: Bringer):
    pull = pull_command("draft")
    done = invoked(pull, "large", "tiny", "large")
    assert done.exception is None
    assert source.brought == ["large", "tiny"]
    assert done.stderr.splitlines() == [
        f"{name} is {folder / f'{name}-file.gguf'}" for name in ("large", "tiny", "large")
    ]


def test_a_name_that_is_not_known_is_said_before_any_network(folder: Path, source: Bringer):
    done = invoked(pull_command("draft"), "nobody", "small")
    assert isinstance(done.exception, UsageError)
    assert source.brought == []
    assert not folder.exists()


def test_what_was_brought_before_a_failure_stays_for_the_next_time(folder: Path, source: Bringer):
    source.fails = EngineError("the connection was lost")
    done = invoked(pull_command("draft"), "small")
    assert done.exception is source.fails
    assert names_in(folder) == ["small-file.gguf.part"]
    source.fails = None
    assert invoked(pull_command("draft"), "small").exception is None
    assert names_in(folder) == ["small-file.gguf"]


def test_a_person_sees_how_far_it_is(folder: Path, source: Bringer, monkeypatch: pytest.MonkeyPatch):
    pull = pull_command("draft")
    with CliRunner().isolation() as (_, error, __):
        assert error is not None
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        pull.main(["small"], standalone_mode=False)
        shown = error.getvalue().decode()
    assert shown.startswith("\rsmall ")
    assert shown.endswith(f"small is {folder / 'small-file.gguf'}\n")


def test_models_are_listed_with_what_matters(folder: Path, source: Bringer):
    folder.mkdir()
    (folder / "tiny-file.gguf").write_bytes(CONTENT)
    (folder / "large-file.gguf").write_bytes(CONTENT[:-1])
    (folder / "mine.gguf").write_bytes(b"GGUF")
    done = invoked(pull_command("draft"), "--list")
    assert done.stdout.splitlines() == [
        "small: draft, 0 MB, MIT, not here",
        "large: target, 0 MB, MIT, not here",
        "tiny: test, 0 MB, MIT, here",
        "mine: made here",
    ]
    assert source.brought == []


@pytest.mark.parametrize("role", ["draft", "target"])
def test_the_help_names_the_default(role: Role):
    assert f"[default: {default_model(role).name}]" in " ".join(
        invoked(pull_command(role), "--help").stdout.split()
    )


# --- quantize ---


class Quantizer:
    """In place of llama.cpp: half of the bytes will do."""

    def __init__(self) -> None:
        self.asked: list[tuple[Path, str, int]] = []
        self.fails: Exception | None = None

    def __call__(self, source: Path, result: Path, kind: str, threads: int) -> None:
        self.asked.append((source, kind, threads))
        assert result.parent.is_dir()
        result.write_bytes(source.read_bytes()[: len(CONTENT) // 2])
        if self.fails is not None:
            raise self.fails


@pytest.fixture
def quantizer(monkeypatch: pytest.MonkeyPatch) -> Quantizer:
    stands_in = Quantizer()
    monkeypatch.setattr(commands, "quantize", stands_in)
    return stands_in


@pytest.fixture
def here(folder: Path) -> Iterator[Path]:
    """The folder with the default draft in it."""
    folder.mkdir()
    (folder / "small-file.gguf").write_bytes(CONTENT)
    yield folder
    assert not list(folder.rglob("*.part")), "an unfinished file was left"


def test_the_default_draft_is_made_smaller_and_is_found_by_name(here: Path, quantizer: Quantizer):
    done = invoked(quantize_command())
    assert done.exception is None
    result = here / "small-q2_k.gguf"
    assert quantizer.asked == [(here / "small-file.gguf", "Q2_K", cores())]
    assert result.read_bytes() == CONTENT[: len(CONTENT) // 2]
    assert done.stderr == f"small-q2_k is {result}: 0 MB of 0 MB\n"
    assert Store(here, KNOWN).path_of("small-q2_k") == result


def test_a_file_of_ones_own_is_told_by_its_path(here: Path, quantizer: Quantizer, tmp_path: Path):
    (tmp_path / "own.gguf").write_bytes(CONTENT)
    done = invoked(quantize_command(), str(tmp_path / "own.gguf"), "--type", "Q3_K_S", "--threads", "3")
    assert done.exception is None
    assert quantizer.asked == [(tmp_path / "own.gguf", "Q3_K_S", 3)]
    assert names_in(here) == ["own-q3_k_s.gguf", "small-file.gguf"]


def test_the_result_goes_where_it_is_wanted(here: Path, quantizer: Quantizer, tmp_path: Path):
    wanted = tmp_path / "deep" / "down" / "mine.gguf"
    done = invoked(quantize_command(), "small", "--output", str(wanted))
    assert done.exception is None
    assert wanted.read_bytes() == CONTENT[: len(CONTENT) // 2]
    assert done.stderr.startswith(f"mine is {wanted}: ")
    assert names_in(here) == ["small-file.gguf"]


@pytest.mark.parametrize("before", [None, b"GGUF of before"])
def test_what_fails_half_way_leaves_what_was_there(here: Path, quantizer: Quantizer, before: bytes | None):
    wanted = here / "small-q2_k.gguf"
    if before is not None:
        wanted.write_bytes(before)
    quantizer.fails = EngineError("no room")
    done = invoked(quantize_command(), "small")
    assert done.exception is quantizer.fails
    assert (wanted.read_bytes() if wanted.exists() else None) == before
    assert not list(here.glob(".*"))


def test_a_file_that_was_named_is_never_replaced(here: Path, quantizer: Quantizer, tmp_path: Path):
    wanted = tmp_path / "mine.gguf"
    wanted.write_bytes(b"GGUF of before")
    done = invoked(quantize_command(), "small", "--output", str(wanted))
    assert isinstance(done.exception, UsageError)
    assert "is there already" in str(done.exception)
    assert wanted.read_bytes() == b"GGUF of before"


def test_the_kind_of_weights_may_be_written_small(here: Path, quantizer: Quantizer):
    assert invoked(quantize_command(), "small", "--type", "q4_k_m").exit_code == 0
    assert (here / "small-q4_k_m.gguf").exists()


def test_a_model_is_found_by_its_name_or_its_path(here: Path):
    path = here / "small-file.gguf"
    assert model_file("small") == model_file(str(path)) == path
    (here / "broken.gguf").write_bytes(b"GIF89a")
    for name, failure in (("large", EngineError), ("none.gguf", UsageError), ("broken", UsageError)):
        with pytest.raises(failure):
            model_file(name)


def test_a_folder_is_a_model_where_that_is_allowed(here: Path):
    folder = here / "folder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert model_file(str(folder), folders=True) == folder
    with pytest.raises(UsageError, match="is a folder"):
        model_file(str(folder))


def test_a_list_takes_no_names(here: Path):
    done = invoked(pull_command("draft"), "--list", "small")
    assert isinstance(done.exception, click.UsageError)
    assert "--list takes no names" in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "failure"),
    [
        (("nobody",), UsageError),
        (("large",), EngineError),
        (("nowhere.gguf",), UsageError),
        (("small", "--output", "mine.bin"), UsageError),
        (("small", "--threads", "-1"), click.BadParameter),
        (("small", "--threads", "many"), click.BadParameter),
        (("small", "extra"), click.UsageError),
    ],
    ids=lambda case: " ".join(case) if isinstance(case, tuple) else "",
)
def test_what_cannot_be_is_said_before_any_work(
    here: Path, quantizer: Quantizer, arguments: tuple[str, ...], failure: type[Exception]
):
    done = invoked(quantize_command(), *arguments)
    assert isinstance(done.exception, failure)
    assert quantizer.asked == []


def test_a_model_that_pipesd_knows_is_never_written_over(here: Path, quantizer: Quantizer):
    done = invoked(quantize_command(), "small", "--output", str(here / "large-file.gguf"))
    assert isinstance(done.exception, UsageError)
    assert names_in(here) == ["small-file.gguf"]
