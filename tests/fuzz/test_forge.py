"""Every frame that there is can be forged, whatever is read."""

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.wire.frames import AnyFrame, Draft, Ping
from tests.fuzz.forge import forged
from tests.fuzz.tape import Tape

KINDS = get_args(AnyFrame)


def converted(kind: type[Any], data: bytes) -> Any:
    return msgspec.convert(forged(kind, Tape(data), {}), kind, builtin_types=(bytes,))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_plausible_frame_of_every_kind_is_one(kind: type[Any]) -> None:
    assert isinstance(converted(kind, b""), kind)


@given(st.sampled_from(KINDS), st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_whatever_is_read_is_as_long_as_the_types_allow(kind: type[Any], data: bytes) -> None:
    """What types do not say, such as what sampling may be, is the only thing that can be wrong."""
    try:
        converted(kind, data)
    except msgspec.ValidationError as error:
        assert "must be" in str(error), error  # noqa: PT017 - of some data only


def test_a_hint_by_kind_counts_before_one_by_name() -> None:
    hints = {"epoch": lambda _: 7, "Draft.epoch": lambda _: 9, "number": lambda tape: tape.byte()}
    assert forged(Draft, Tape(b""), hints)[:3] == [9, 0, 9]
    assert forged(Ping, Tape(b"\x05"), hints) == [19, 5]
