"""``token`` as a user types it."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipesd.access import AccessToken, Limits
from pipesd.cli.token import token
from pipesd.errors import ConfigError, UsageError
from pipesd.tokens import load


@pytest.fixture(autouse=True)
def data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path / "pipesd"


def typed(*arguments: str | Path) -> Result:
    return CliRunner().invoke(token, [str(argument) for argument in arguments], catch_exceptions=False)


def test_a_token_is_made_listed_and_revoked(data_folder: Path):
    made = typed("create", "alice", "--sessions-max", "2", "--tokens-per-minute", "600")
    assert made.exit_code == 0
    held = AccessToken.parse(made.stdout.removesuffix("\n"))
    assert held.name == "alice"
    assert "shown only now" in made.stderr
    assert held.secret not in made.stderr
    (entry,) = load(data_folder / "tokens.json").entries
    assert entry.limits == Limits(sessions_max=2, tokens_per_minute=600)

    typed("create", "bob", "--context-tokens", "4096")
    typed("create", "an-edge")
    listed = typed("list")
    assert listed.exit_code == 0
    assert [line.replace(str(entry.created), "DATE") for line in listed.stdout.splitlines()] == [
        "alice: made DATE, at most 2 sessions, at most 600 tokens per minute",
        "an-edge: made DATE, no limits",
        "bob: made DATE, at most 4096 tokens of context",
    ]
    assert held.secret not in listed.output

    revoked = typed("revoke", "alice")
    assert (revoked.exit_code, revoked.stdout) == (0, "")
    assert revoked.stderr == "pipesd-cloud: alice is revoked\n"
    assert typed("list").stdout.splitlines()[0] == f"alice: made {entry.created}, revoked"


def test_the_file_may_be_another(tmp_path: Path, data_folder: Path):
    other = tmp_path / "other.json"
    assert typed("create", "alice", "--tokens", other).exit_code == 0
    assert typed("list", "--tokens", other).stdout.startswith("alice: ")
    assert typed("revoke", "alice", "--tokens", other).exit_code == 0
    assert load(other).entries[0].revoked
    assert not data_folder.exists()


def test_where_there_is_no_file_there_is_nothing_to_list():
    with pytest.raises(ConfigError, match=r"^tokens: .* is not there; pipesd-cloud token create makes it"):
        typed("list")


def test_a_name_that_is_taken_is_refused_and_prints_nothing(capsys: pytest.CaptureFixture[str]):
    typed("create", "alice")
    with pytest.raises(UsageError, match="is called alice already"):
        typed("create", "alice")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", ["create", "revoke"])
def test_a_name_that_cannot_be_is_refused(command: str):
    typed("create", "alice")
    with pytest.raises(UsageError):
        typed(command, "No Name")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["create"],
        ["revoke"],
        ["create", "a", "b"],
        ["list", "alice"],
        ["create", "a", "--sessions-max", "0"],
        ["create", "a", "--context-tokens", "many"],
        ["create", "a", "--tokens-per-minute", str(2**53)],
        ["forget", "a"],
    ],
)
def test_what_cannot_be_meant_is_bad_usage(arguments: list[str], data_folder: Path):
    assert typed(*arguments).exit_code == 2
    assert not data_folder.exists()


def test_the_largest_limit_can_be_read_again():
    assert typed("create", "a", "--tokens-per-minute", str(2**53 - 1)).exit_code == 0
    assert typed("list").exit_code == 0
