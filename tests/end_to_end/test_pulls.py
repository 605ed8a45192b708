"""``pull`` and ``quantize`` as processes, with a folder of models that is empty: no model, and no network."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pipesd.engines.manifest import default_model, models
from tests.end_to_end.processes import (
    PATIENCE_S,
    environment,
    expect_failure,
    finish,
    interrupt,
    run,
    start,
)

NOBODY = "http://127.0.0.1:9"
"""Nothing listens on the discard port."""


@pytest.fixture
def env(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """The environment of a user who has no models, and whose Hub does not answer."""

    def env(**extra: str) -> dict[str, str]:
        plain = {"HF_ENDPOINT": NOBODY, "HF_HUB_OFFLINE": "0", "no_proxy": "*", "NO_PROXY": "*"}
        return environment(PIPESD_HOME=str(tmp_path / "home"), **{**plain, **extra})

    return env


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_the_models_that_can_be_had_are_listed(side: str, env: Callable[..., dict[str, str]], tmp_path: Path):
    done = run(side, "pull", "--list", env=env())
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == list(models())
    assert all(line.endswith(", not here") for line in done.stdout.splitlines())

    folder = tmp_path / "home" / "models"
    folder.mkdir(parents=True)
    (folder / "mine-q2_k.gguf").write_bytes(b"GGUF")
    done = run(side, "pull", "--list", env=env())
    assert done.stdout.splitlines()[-1] == "mine-q2_k: made here"


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_an_unknown_model_is_bad_usage_and_the_known_ones_are_named(
    side: str, env: Callable[..., dict[str, str]], tmp_path: Path
):
    done = run(side, "pull", "nobody", env=env())
    expect_failure(done, 2, "'nobody'", *models())
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_a_hub_that_cannot_be_reached_is_one_sentence(
    side: str, env: Callable[..., dict[str, str]], tmp_path: Path
):
    done = run(side, "pull", env=env())
    sentence = expect_failure(done, 1, "Hugging Face Hub cannot be reached", "PIPESD_MODEL_SOURCES=")
    assert done.stderr == sentence + "\n"
    file = default_model("draft" if side == "edge" else "target").file
    left = files_in(tmp_path)
    assert f"{file}.part" in left
    assert file not in left


def test_an_interrupt_while_the_hub_keeps_silent_is_one_line(
    env: Callable[..., dict[str, str]], tmp_path: Path
):
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.settimeout(PATIENCE_S)
        silent = env(HF_ENDPOINT=f"http://127.0.0.1:{hub.getsockname()[1]}")
        with start("edge", "pull", env=silent) as pulling:
            caller, _ = hub.accept()
            interrupt(pulling)
            assert finish(pulling) == (130, "", "pipesd-edge: interrupted\n")
            caller.close()
    assert default_model("draft").file not in files_in(tmp_path)


def test_a_source_that_is_broken_is_bad_usage(env: Callable[..., dict[str, str]], tmp_path: Path):
    broken = tmp_path / "broken.toml"
    broken.write_text("models = 1\n")
    done = run("edge", "pull", env=env(PIPESD_MODEL_SOURCES=str(broken)))
    expect_failure(done, 2, "PIPESD_MODEL_SOURCES", str(broken))


@pytest.mark.parametrize(
    ("side", "arguments"),
    [
        ("edge", ("generate", "--engine", "llama", "-p", "x")),
        ("edge", ("chat", "--engine", "llama")),
        ("cloud", ("generate", "--engine", "llama", "-p", "x")),
        ("cloud", ("chat", "--engine", "llama")),
        ("cloud", ("serve", "--engine", "llama", "--listen", "127.0.0.1:0")),
    ],
    ids=lambda case: case if isinstance(case, str) else case[0],
)
def test_a_model_that_was_not_pulled_is_named_with_the_command_that_pulls_it(
    side: str, arguments: tuple[str, ...], env: Callable[..., dict[str, str]], tmp_path: Path
):
    name = default_model("draft" if side == "edge" else "target").name
    expect_failure(run(side, *arguments, env=env()), 1, name, f"run pipesd-{side} pull {name}")
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "code"), [(b"plain text", 2), (b"GGUF", 1), (b"GGUF and what is no model", 1), (b"", 2)]
)
def test_what_is_no_model_file_is_not_quantized_and_leaves_nothing(
    content: bytes, code: int, env: Callable[..., dict[str, str]], tmp_path: Path
):
    source = tmp_path / "source.gguf"
    source.write_bytes(content)
    output = ("--output", str(tmp_path / "made" / "small.gguf"))
    expect_failure(run("edge", "quantize", str(source), *output, env=env()), code)
    assert files_in(tmp_path) == ["source.gguf"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("quantize",), 1, ("is not here; run pipesd-edge pull",)),
        (("quantize", "nobody"), 2, ("'nobody'",)),
        (("quantize", "nowhere.gguf"), 2, ("no file nowhere.gguf",)),
        (("quantize", "."), 2, ("'.'",)),
        (("quantize", "--threads", "-1"), 2, ("--threads",)),
        (("quantize", "a.gguf", "b.gguf"), 2, ("b.gguf",)),
    ],
    ids=str,
)
def test_what_cannot_be_quantized_is_one_sentence(
    arguments: tuple[str, ...],
    code: int,
    words: tuple[str, ...],
    env: Callable[..., dict[str, str]],
    tmp_path: Path,
):
    expect_failure(run("edge", *arguments, env=env()), code, *words)
    assert files_in(tmp_path) == []
