import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pipesd.config import CloudConfig, CommonConfig, EdgeConfig
from pipesd.errors import ConfigError
from pipesd.flags import field_docs, settings_of, take

KINDS = [EdgeConfig, CloudConfig]
both_kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.section)


def command_for(kind: type[CommonConfig], taken: list[Any], environ: dict[str, str]) -> click.Command:
    @click.command()
    @settings_of(kind)
    def command(**given: Any) -> None:
        taken.append(take(kind, given, environ))

    return command


Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The configuration that comes of these arguments; the user's own file does not count."""
    nothing = tmp_path / "nothing.toml"
    nothing.write_text("")

    def run(kind: type[CommonConfig], *args: str, environ: dict[str, str] | None = None) -> Any:
        taken: list[Any] = []
        command = command_for(kind, taken, {"PIPESD_CONFIG": str(nothing), **(environ or {})})
        result = CliRunner().invoke(command, args, standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return taken[0]

    return run


def flags_of(kind: type[CommonConfig]) -> dict[str, click.Option]:
    return {
        param.name: param
        for param in command_for(kind, [], {}).params
        if isinstance(param, click.Option) and param.name is not None
    }


@both_kinds
def test_every_setting_has_one_flag_with_a_help_text(kind: type[CommonConfig]):
    params = command_for(kind, [], {}).params
    names = [param.name for param in params]
    assert sorted(map(str, names)) == sorted(["config", *(field.name for field in fields(kind))])
    for name, option in flags_of(kind).items():
        assert option.help is not None
        assert len(option.help) > 15, name
        assert "``" not in option.help


@both_kinds
def test_no_two_settings_share_a_flag(kind: type[CommonConfig]):
    spellings = [
        name for option in flags_of(kind).values() for name in (*option.opts, *option.secondary_opts)
    ]
    assert len(spellings) == len(set(spellings))
    assert all(spelling.startswith("--") and "_" not in spelling for spelling in spellings)


@both_kinds
def test_the_help_names_the_defaults(kind: type[CommonConfig]):
    assert CliRunner().invoke(command_for(kind, [], {}), ["--help"]).exit_code == 0
    flags = flags_of(kind)
    for field in fields(kind):
        if field.default not in ((), "", None):
            assert f"[default: {field.default}]" in str(flags[field.name].help)


@both_kinds
def test_no_help_text_shows_python_or_an_empty_default(kind: type[CommonConfig]):
    helps = {name: str(option.help) for name, option in flags_of(kind).items()}
    assert [name for name, text in helps.items() if re.search(r"\(\)|None|default: \]", text)] == []


@both_kinds
def test_without_flags_the_settings_are_the_defaults(run: Run, kind: type[CommonConfig]):
    assert run(kind) == kind()


NEEDS: dict[str, dict[str, Any]] = {
    **{name: {"engine": "replay"} for name in ("draft_ms", "pass_ms", "pass_token_ms")},
    **{name: {"engine": "torch"} for name in ("device", "dtype")},
    "power_idle_watts": {"power_busy_watts": 60.0},
    "tls_cert": {"tls_key": "key.pem", "tls_ca": "ca.pem"},
    "tls_key": {"tls_cert": "cert.pem", "tls_ca": "ca.pem"},
    "tls_ca": {"tls_cert": "cert.pem", "tls_key": "key.pem"},
}
"""What settings mean nothing without."""


def a_value_for(kind: type[CommonConfig], name: str) -> Any:
    """Another value than the default, within all bounds."""
    special = {
        "engine": "replay",
        "numerics": "fast",
        "prompts": "raw",
        "traces": ("a.jsonl", "b.jsonl"),
        "cloud": "[::1]:7000",
        "listen": "[::1]:0",
        "upper_tokens": 9,
        "lower_tokens": 1,
        "policy": "hsl",
        "ahead": "never",
        "batching": "immediate",
        "verify": "eager",
        "offline": "draft",
        "tuner": "off",
        "objective": "cost",
        "silent_after_s": 31.5,
        "energy": "off",
        "engine_process": "on",
        "device": "cpu",
        "dtype": "float32",
        "metrics": "127.0.0.1:0",
    }
    if name in special:
        return special[name]
    default = getattr(kind(), name)
    if isinstance(default, str):
        return f"another {default}"
    return not default if isinstance(default, bool) else default + 1 if isinstance(default, int) else 0.25


def as_arguments(option: click.Option, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [(option.opts if value else option.secondary_opts)[0]]
    values = value if isinstance(value, tuple) else (value,)
    return [part for each in values for part in (option.opts[0], str(each))]


@both_kinds
def test_every_flag_sets_its_setting_and_no_other(run: Run, kind: type[CommonConfig]):
    flags = flags_of(kind)
    for field in fields(kind):
        value = a_value_for(kind, field.name)
        assert value != field.default
        needed = NEEDS.get(field.name, {})
        arguments = [part for name in needed for part in as_arguments(flags[name], needed[name])]
        config = run(kind, *arguments, *as_arguments(flags[field.name], value))
        assert config == kind(**needed, **{field.name: value}), field.name


def test_flags_win_over_the_environment_and_that_over_the_file(run: Run, tmp_path: Path):
    file = tmp_path / "own.toml"
    file.write_text("[edge]\nseed = 1\ntokens_max = 1\nupper_tokens = 3\n")
    environ = {"PIPESD_EDGE_SEED": "2", "PIPESD_EDGE_TOKENS_MAX": "2"}
    config = run(EdgeConfig, "--config", str(file), "--seed", "3", environ=environ)
    assert (config.seed, config.tokens_max, config.upper_tokens) == (3, 2, 3)


def test_a_flag_can_say_what_the_default_is_against_other_sources(run: Run):
    environ = {"PIPESD_EDGE_POLICY": "hsl", "PIPESD_EDGE_TEMPERATURE": "1"}
    config = run(EdgeConfig, "--policy", "pipesd", "--temperature", "0", environ=environ)
    assert config == EdgeConfig()


def test_traces_of_the_environment_stay_if_no_flag_names_any(run: Run):
    environ = {"PIPESD_EDGE_TRACES": "one.jsonl:two.jsonl"}
    assert run(EdgeConfig, environ=environ).traces == ("one.jsonl", "two.jsonl")
    assert run(EdgeConfig, "--trace", "mine.jsonl", environ=environ).traces == ("mine.jsonl",)


@pytest.mark.parametrize(
    "args",
    [
        ["--draft-ms", "soon"],
        ["--tokens-max", "2.5"],
        ["--engine", "steam"],
        ["--no-such-setting", "1"],
        ["--seed"],
        ["--ahead=maybe"],
        ["--ahead"],
        ["--no-ahead"],
        ["--policy", "unknown"],
        ["a stray word"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_read_is_a_usage_error(run: Run, args: list[str]):
    with pytest.raises(click.UsageError):
        run(EdgeConfig, *args)


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (["--draft-ms", "-1"], "draft_ms"),
        (["--draft-ms", "1"], "draft_ms"),
        (["--draft-ms", "nan"], "draft_ms"),
        (["--tokens-max", "0"], "tokens_max"),
        (["--r1", "1.5"], "r1"),
        (["--top-p", "0"], "top_p"),
        (["--cloud", "nowhere"], "cloud"),
        (["--upper-tokens", "4", "--lower-tokens", "5"], "lower_tokens"),
    ],
    ids=lambda case: " ".join(case) if isinstance(case, list) else case,
)
def test_what_is_out_of_bounds_is_a_config_error_that_names_it(run: Run, args: list[str], name: str):
    with pytest.raises(ConfigError, match=rf"^{name}: .*\(from the command line\)$"):
        run(EdgeConfig, *args)


def test_a_file_that_is_not_there_is_a_config_error(run: Run, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^config: cannot read"):
        run(CloudConfig, "--config", str(tmp_path / "missing.toml"))


def test_field_docs_are_the_lines_under_the_fields():
    @dataclass
    class Base:
        first: int = 1
        """Of the
        base."""

        silent: int = 2

    @dataclass
    class Derived(Base):
        second: int = 2
        """Of the derived."""

    assert field_docs(Derived) == {"first": "Of the base.", "second": "Of the derived."}
