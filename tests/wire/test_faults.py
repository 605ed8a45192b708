"""The table of fault codes."""

import re
from pathlib import Path

import pytest

import pipesd
from pipesd.wire.faults import FAULTS, is_retryable

CODES = sorted(FAULTS)


def test_only_what_may_pass_by_itself_is_retryable() -> None:
    retryable = {code for code in CODES if is_retryable(code)}
    assert retryable == {"busy", "engine", "silent", "stopping"}


def test_a_code_of_a_newer_peer_is_not_retried() -> None:
    assert not is_retryable("code_of_a_newer_version")


@pytest.mark.parametrize("code", CODES)
def test_rows_are_well_formed(code: str) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
    meaning = FAULTS[code].meaning
    assert meaning[0].islower()
    assert not meaning.endswith(".")


def test_meanings_differ() -> None:
    assert len({rule.meaning for rule in FAULTS.values()}) == len(FAULTS)


def test_every_code_that_a_peer_is_blamed_with_is_in_the_table() -> None:
    assert pipesd.__file__ is not None
    sources = Path(pipesd.__file__).parent.rglob("*.py")
    text = "\n".join(source.read_text(encoding="utf-8") for source in sources)
    used = set(re.findall(r'(?:PeerError|self\._fail)\(\s*"(\w+)"', text))
    assert {"malformed", "oversized"} <= used
    assert used <= set(FAULTS)
