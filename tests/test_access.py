"""Tokens as their holders have them."""

import pytest

from pipesd.access import AccessToken, check_name
from pipesd.errors import ConfigError, UsageError

SECRET = "3q2-7wAB_" + "x" * 34


@pytest.mark.parametrize("name", ["alice", "a", "0", "edge-7", "a" + "-" * 31])
def test_a_token_is_read_as_it_is_written(name: str):
    token = AccessToken.parse(f"{name}.{SECRET}")
    assert token == AccessToken(name, SECRET)
    assert token.text == f"{name}.{SECRET}"
    check_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        SECRET,
        f".{SECRET}",
        f"alice.{SECRET[:-1]}",
        f"alice.{SECRET}=",
        f"alice.{SECRET}\n",
        f" alice.{SECRET}",
        f"alice:{SECRET}",
        f"alice.{SECRET[:-1]}+",
        f"Alice.{SECRET}",
        f"-alice.{SECRET}",
        f"{'a' * 33}.{SECRET}",
        f"ålice.{SECRET}",
    ],
)
def test_what_is_no_token_is_refused_and_not_quoted(text: str):
    with pytest.raises(ConfigError, match=r"^token: must be NAME\.SECRET") as caught:
        AccessToken.parse(text)
    assert SECRET[:9] not in str(caught.value)


def test_a_secret_is_not_shown_by_accident():
    token = AccessToken("alice", SECRET)
    assert SECRET not in f"{token} {token!r}"


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a.b", "a\n", "a" * 33, "é"])
def test_a_name_that_no_token_can_have_is_refused(name: str):
    with pytest.raises(UsageError, match="cannot be the name of a token"):
        check_name(name)


def test_a_long_name_is_not_quoted_whole():
    with pytest.raises(UsageError) as caught:
        check_name("x" * 10_000)
    assert len(str(caught.value)) < 250
