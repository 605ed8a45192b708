"""The wishes: frozen and complete; and failures as exceptions."""

import dataclasses
import inspect
from typing import get_args

import pytest

from pipesd.errors import LinkError, PeerError, RefusedError
from pipesd.session import commands
from pipesd.wire.faults import FAULTS
from tests.session.helpers import part

DEFINED = [
    kind for _, kind in inspect.getmembers(commands, inspect.isclass) if kind.__module__ == commands.__name__
]
DATA = {commands.Failure, commands.GenerationStats}


def test_every_command_is_in_one_union() -> None:
    edge, cloud = set(get_args(commands.EdgeCommand)), set(get_args(commands.CloudCommand))
    assert edge | cloud == set(DEFINED) - DATA
    assert not edge & cloud


@pytest.mark.parametrize("kind", DEFINED)
def test_wishes_do_not_change(kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    wish = kind(*[None for _ in dataclasses.fields(kind)])
    assert not hasattr(wish, "__dict__")
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(wish, field.name, 1)


@pytest.mark.parametrize("kind", [kind for kind in DEFINED if kind not in DATA])
def test_every_command_says_who_obeys_it(kind: type) -> None:
    obeyers = ("sender.", "drafter.", "runtime.", "application", "peer's sender.", "gateway.", "verifier.")
    assert (kind.__doc__ or "").startswith((*obeyers, "tuner."))


@pytest.mark.parametrize("code", ["link", "silent"])
def test_a_lost_link_is_a_link_error(code: str) -> None:
    error = commands.Failure(code, "gone").error()
    assert isinstance(error, LinkError)
    assert str(error) == "gone"


def test_a_broken_protocol_is_a_peer_error() -> None:
    error = commands.Failure("peer", "nonsense").error()
    assert isinstance(error, PeerError)
    assert error.code in FAULTS


@pytest.mark.parametrize("code", sorted(set(FAULTS) - {"silent"}))
def test_what_the_cloud_will_not_do_is_a_refusal(code: str) -> None:
    error = commands.Failure(code, "no").error()
    assert isinstance(error, RefusedError)
    assert (str(error), error.code, error.retryable) == ("no", code, FAULTS[code].retryable)


@pytest.mark.parametrize("code", ["vocabulary", "a code of a later version"])
def test_what_is_not_in_the_table_is_not_worth_another_try(code: str) -> None:
    error = commands.Failure(code, "no").error()
    assert isinstance(error, RefusedError)
    assert not error.retryable


def test_a_pass_knows_its_size() -> None:
    assert commands.RunPass((part(0, (1, 2), 1), part(5, (3,), 1))).tokens == 3
    assert commands.RunPass(()).tokens == 0
