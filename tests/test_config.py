"""Every setting is checked, and an error names the setting and its source."""

import inspect
import os
import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import get_args

import platformdirs
import pytest

from pipesd.config import CloudConfig, CommonConfig, EdgeConfig, load
from pipesd.engines.manifest import default_model
from pipesd.errors import ConfigError
from pipesd.values import PolicyName, Sampling


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


# Building


def test_defaults_stand_and_are_frozen() -> None:
    edge, cloud = EdgeConfig(), CloudConfig()
    assert edge.cloud == cloud.listen == "127.0.0.1:7433"
    assert edge.sampling == Sampling()
    with pytest.raises(FrozenInstanceError):
        edge.upper_tokens = 9  # type: ignore[misc]


def test_values_are_normalised() -> None:
    edge = EdgeConfig(r1=1, traces=["a", "b"])  # type: ignore[arg-type]
    assert (edge.r1, type(edge.r1), edge.traces) == (1.0, float, ("a", "b"))
    assert hash(edge) == hash(EdgeConfig(r1=1.0, traces=("a", "b")))


@pytest.mark.parametrize("kind", [EdgeConfig, CloudConfig])
def test_every_setting_has_a_description(kind: type[CommonConfig]) -> None:
    source = Path(inspect.getfile(kind)).read_text()
    for field in fields(kind):
        assert re.search(rf'^    {field.name}: .*\n    """\S', source, re.MULTILINE), field.name


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("upper_tokens", 0, "must be at least 1 and at most 2147483647, not 0; raise it"),
        ("upper_tokens", "8", "must be a whole number, not '8'"),
        ("upper_tokens", True, "must be a whole number, not True"),
        ("lower_tokens", 0, "must be at least 1 and at most 2147483647, not 0; raise it"),
        ("agreement", 1.5, "must be at least 0 and at most 1, not 1.5; lower it"),
        ("draft_ms", -1, "must be at least 0 and at most 60000, not -1.0; raise it"),
        ("r1", float("nan"), "must be at least 0 and at most 1, not nan; give a number"),
        ("connect_timeout_s", 0, "must be above 0 and at most 86400, not 0.0; raise it"),
        ("connect_timeout_s", float("inf"), "must be above 0 and at most 86400, not inf; lower it"),
        (
            "silent_after_s",
            10.0,
            "must be above ping_after_s (10.0), not 10.0; raise it, or lower ping_after_s",
        ),
        ("engine", "gguf", "must be llama or scripted or replay, not 'gguf'"),
        ("numerics", "Exact", "must be exact or fast, not 'Exact'"),
        ("prompts", "", "must be auto or chat or raw, not ''"),
        ("threads", -1, "must be at least 0 and at most 1024, not -1; raise it"),
        ("context_tokens", 1, "must be at least 2 and at most 200000, not 1; raise it"),
        ("kv_sequences", 65, "must be at least 1 and at most 64, not 65; lower it"),
        ("system", 1, "must be text, not 1"),
        ("draft", None, "must be text, not None"),
        ("policy", "fast", f"must be {' or '.join(get_args(PolicyName))}, not 'fast'"),
        ("ahead", True, "must be never or always or expected, not True"),
        ("batching", "", "must be at_trigger or immediate or planned or work_conserving, not ''"),
        ("tuner", "on", "must be auto or edge or cloud or off, not 'on'"),
        ("objective", "", "must be latency or balanced or cost, not ''"),
        ("traces", "a.jsonl", "must be a list of texts, not 'a.jsonl'"),
        ("seed", -1, "must be at least 0 and at most 9223372036854775807, not -1; raise it"),
        ("temperature", -0.5, "must be between 0 and 100, not -0.5; choose a value within"),
        ("top_k", -1, "must be 0 (off) or a positive whole number, not -1; choose a value within"),
        ("top_p", 0.0, "must be above 0 and at most 1, not 0.0; choose a value within"),
        ("min_p", 2.0, "must be between 0 and 1, not 2.0; choose a value within"),
        ("cloud", "localhost:0", "the port must be between 1 and 65535, not 0"),
    ],
)
def test_an_impossible_setting_is_named(name: str, value: object, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EdgeConfig(**{name: value})  # type: ignore[arg-type]
    assert str(caught.value) == f"{name}: {says}"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"upper_tokens": 8, "lower_tokens": 9},
            "lower_tokens: must be at most upper_tokens (8), not 9; lower it, or raise upper_tokens",
        ),
        (
            {"upper_tokens": 8, "window_tokens": 7},
            "window_tokens: must be at least upper_tokens (8), not 7; raise it, or lower upper_tokens",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_named(settings: dict[str, int], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EdgeConfig(**settings)  # type: ignore[arg-type]
    assert str(caught.value) == says


@pytest.mark.parametrize("kind", [EdgeConfig, CloudConfig])
def test_a_recording_knows_no_temperature(kind: type[EdgeConfig | CloudConfig]) -> None:
    assert kind(engine="replay", temperature=0.0, top_p=0.5).sampling.greedy
    assert kind(engine="scripted", temperature=0.7).temperature == 0.7
    with pytest.raises(ConfigError) as caught:
        load(kind, file=None, environ={}, flags={"engine": "replay", "temperature": 0.7})
    assert str(caught.value) == (
        "temperature: recordings are replayed greedily only, not at 0.7; leave it at 0, or choose another "
        "engine (from the command line)"
    )


def test_what_the_policy_says_is_not_known_until_it_is_overridden() -> None:
    edge = EdgeConfig()
    assert edge.policy == "pipesd"
    own = (edge.r1, edge.r2, edge.upper_tokens, edge.lower_tokens, edge.ahead, edge.batching)
    assert own == (None,) * 6
    assert edge == EdgeConfig(
        r1=None, r2=None, upper_tokens=None, lower_tokens=None, ahead=None, batching=None
    )
    assert EdgeConfig(window_tokens=1).window_tokens == 1


def test_an_unknown_way_to_verify_is_named() -> None:
    assert CloudConfig().verify == "piggyback"
    with pytest.raises(ConfigError) as caught:
        CloudConfig(verify="never")  # type: ignore[arg-type]
    assert str(caught.value) == "verify: must be on_request or piggyback or eager, not 'never'"


def test_the_cloud_tunes_for_others_or_does_not() -> None:
    with pytest.raises(ConfigError) as caught:
        CloudConfig(tuner="auto")  # type: ignore[arg-type]
    assert str(caught.value) == "tuner: must be on or off, not 'auto'"


@pytest.mark.parametrize("name", [field.name for field in fields(CloudConfig)])
def test_every_number_of_the_cloud_is_bounded(name: str) -> None:
    if isinstance(getattr(CloudConfig(), name), int | float):
        with pytest.raises(ConfigError, match=f"^{name}: "):
            CloudConfig(**{name: -1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "name"), [(EdgeConfig, "draft_ms"), (CloudConfig, "pass_ms"), (CloudConfig, "pass_token_ms")]
)
def test_a_real_model_has_the_pace_it_has(kind: type[CommonConfig], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**{name: 1})  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"{name}: is for the scripted and replay engines; leave it out, or set engine"
    )
    for engine in ("scripted", "replay"):
        assert getattr(kind(engine=engine, **{name: 1}), name) == 1.0  # type: ignore[arg-type]


def test_a_cloud_is_paced_if_a_pass_or_its_tokens_take_time() -> None:
    assert not CloudConfig().is_paced
    assert CloudConfig(engine="scripted", pass_ms=1).is_paced
    assert CloudConfig(engine="scripted", pass_token_ms=1).is_paced


def test_the_default_models_are_those_of_the_manifest() -> None:
    """Said twice, since the settings know none of the parts they serve."""
    assert EdgeConfig().draft == default_model("draft").name
    assert CloudConfig().model == default_model("target").name
    assert EdgeConfig().engine == CloudConfig().engine == "llama"


def test_bounds_themselves_are_allowed() -> None:
    edge = EdgeConfig(upper_tokens=1, lower_tokens=1, window_tokens=1, agreement=0, r1=0, r2=1, draft_ms=0)
    assert (EdgeConfig(threads=1_024).threads, EdgeConfig(context_tokens=2).context_tokens) == (1_024, 2)
    assert [EdgeConfig(kv_sequences=number).kv_sequences for number in (1, 64)] == [1, 64]
    assert (edge.window_tokens, edge.r2) == (1, 1.0)
    assert CloudConfig(listen="[::]:0", seed=2**63 - 1, tokens_max=1).seed == 2**63 - 1


# Sources


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
