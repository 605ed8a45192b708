"""Settings come from several sources, and an error names its own."""

import os
import re
from pathlib import Path

import platformdirs
import pytest

from pipesd.config import CloudConfig, EdgeConfig
from pipesd.errors import ConfigError
from pipesd.settings import load


@pytest.fixture(autouse=True)
def users_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the user's directory of settings, so that no test depends on whose machine it runs."""
    directory = tmp_path / "settings-of-the-user"
    directory.mkdir()
    monkeypatch.setattr(platformdirs, "user_config_dir", lambda *_args, **_options: str(directory))
    return directory


def load_edge(file: Path | None = None, environ: dict[str, str] | None = None, **flags: object) -> EdgeConfig:
    return load(EdgeConfig, file=file, environ=environ or {}, flags=flags)


def toml(directory: Path, text: str) -> Path:
    path = directory / "config.toml"
    path.write_text(text)
    return path


def test_later_sources_win(tmp_path: Path) -> None:
    file = toml(tmp_path, "[edge]\nr1 = 0.1\nr2 = 0.1\nupper_tokens = 3\n[cloud]\nlisten = 'elsewhere:1'\n")
    environ = {
        "PIPESD_EDGE_R2": "0.2",
        "PIPESD_EDGE_UPPER_TOKENS": "4",
        "PIPESD_CLOUD_LISTEN": "x",
        "HOME": "/",
    }
    edge = load_edge(file, environ, upper_tokens=5, tokens_max=None)
    assert (edge.r1, edge.r2, edge.upper_tokens) == (0.1, 0.2, 5)
    assert edge == EdgeConfig(r1=0.1, r2=0.2, upper_tokens=5)


def test_the_environment_holds_text() -> None:
    paths = os.pathsep.join(["a.jsonl", "b.jsonl"])
    environ = {"PIPESD_CLOUD_TRACES": paths, "PIPESD_CLOUD_PASS_MS": "25", "PIPESD_CLOUD_ENGINE": "replay"}
    cloud = load(CloudConfig, file=None, environ=environ, flags={})
    assert cloud == CloudConfig(traces=("a.jsonl", "b.jsonl"), pass_ms=25.0, engine="replay")
    environ = {"PIPESD_EDGE_AHEAD": "never", "PIPESD_EDGE_R1": "0.5", "PIPESD_EDGE_UPPER_TOKENS": "4"}
    assert load_edge(environ=environ) == EdgeConfig(ahead="never", r1=0.5, upper_tokens=4)


def test_a_file_is_found(tmp_path: Path, users_directory: Path) -> None:
    assert load_edge() == EdgeConfig()
    toml(users_directory, "[edge]\nseed = 1\n")
    assert load_edge().seed == 1
    environ = {"PIPESD_CONFIG": str(toml(tmp_path, "[edge]\nseed = 2\n"))}
    assert load_edge(environ=environ).seed == 2
    other = tmp_path / "other.toml"
    other.write_text("[cloud]\nseed = 3\n")
    assert load_edge(other, environ).seed == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[edge]\nr1 = 2\n", "r1: must be at least 0 and at most 1, not 2.0; lower it (in [edge] of FILE)"),
        ("[edge]\nupper_tokens = '8'\n", "upper_tokens: must be a whole number, not '8' (in [edge] of FILE)"),
        ("[edge]\nuper_tokens = 8\n", "uper_tokens: unknown setting in [edge] of FILE; NEAR upper_tokens"),
        ("r1 = 0.5\n", "r1: unknown section or setting at the top of FILE; put it under [edge]"),
        ("seed = 1\n", "seed: unknown section or setting at the top of FILE; put it under [edge] or [cloud]"),
        ("edge = 1\n", "edge: must be a section, written [edge], in FILE"),
        ('"x\\n\\u001b[1m" = 1\n', r"x\n\x1b[1m: unknown section or setting at the top of FILE; …"),
        (
            "[egde]\nr1 = 1\n",
            "egde: unknown section or setting at the top of FILE; …[edge] and [cloud], and NEAR edge",
        ),
        (
            "[edge]\nr1 0.5\n",
            "config: FILE is not valid TOML: Expected '=' after a key … (at line 2, column 4)",
        ),
        (
            "[edge]\nr1 = '",
            "config: FILE is not valid TOML: … (at line 2, the end of the file)",
        ),
    ],
)
def test_an_error_in_a_file_names_setting_and_file(tmp_path: Path, text: str, says: str) -> None:
    file = toml(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_edge(file)
    expected = says.replace("FILE", str(file)).replace("NEAR", "the closest known one is")
    pattern = re.escape(expected).replace("…", ".*")
    assert re.fullmatch(pattern, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        ("R1", "much", "r1: must be a number, not 'much' (from the environment variable PIPESD_EDGE_R1)"),
        ("AHEAD", "no", "ahead: must be never or always or expected, not 'no' (from the environment …)"),
        ("UPPER_TOKENS", "", "upper_tokens: must be a whole number, not '' (from the environment …)"),
        ("TOKENS_MAX", "0", "tokens_max: must be at least 1 …; raise it (from the environment variable …)"),
        ("TOKEN_MAX", "1", "PIPESD_EDGE_TOKEN_MAX: unknown environment variable; … PIPESD_EDGE_TOKENS_MAX"),
        ("X\n", "1", r"PIPESD_EDGE_X\n: unknown environment variable; …"),
        ("tokens_max", "1", "PIPESD_EDGE_tokens_max: unknown environment variable; … PIPESD_EDGE_TOKENS_MAX"),
    ],
)
def test_an_error_in_the_environment_names_the_variable(variable: str, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_edge(environ={f"PIPESD_EDGE_{variable}": text})
    assert re.fullmatch(re.escape(says).replace("…", ".*"), str(caught.value)), str(caught.value)


def test_an_error_on_the_command_line_says_so() -> None:
    with pytest.raises(ConfigError, match=r"^r1: .* \(from the command line\)$"):
        load_edge(environ={"PIPESD_EDGE_R1": "0.5"}, r1=-1.0)
    with pytest.raises(ConfigError, match=r"^uper_tokens: .* closest known one is upper_tokens$"):
        load_edge(uper_tokens=None)


def test_a_default_is_not_blamed_on_a_source() -> None:
    with pytest.raises(ConfigError, match=r"or lower upper_tokens$"):
        load_edge(upper_tokens=33)


def test_a_named_file_must_be_there_and_be_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^PIPESD_CONFIG: cannot read .*missing.toml: "):
        load_edge(environ={"PIPESD_CONFIG": str(tmp_path / "missing.toml")})
    with pytest.raises(ConfigError, match=r"^config: cannot read "):
        load_edge(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"[edge]\n# \xff\n")
    with pytest.raises(ConfigError, match=r"not UTF-8 text \(at line 2\)$"):
        load_edge(tmp_path / "binary.toml")
