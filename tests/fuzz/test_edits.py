"""One change at a time, anywhere in a document."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.edits import edited, spliced
from tests.fuzz.tape import Tape

DOCUMENT = {"a": [1, 2, {"b": "text"}], "c": None}


@given(st.binary(max_size=12))
def test_the_same_tape_changes_the_same_whatever_it_says(data: bytes) -> None:
    changed = edited(copy.deepcopy(DOCUMENT), Tape(data))
    assert edited(copy.deepcopy(DOCUMENT), Tape(data)) == changed


def test_each_change_is_reached() -> None:
    """From the first leaf, ``a[0]``, and from the whole."""

    def of(*tape: int) -> object:
        return edited(copy.deepcopy(DOCUMENT), Tape(bytes(tape)))

    leaf = (0, 0, 0, 0)
    assert of(*leaf, 0, 4) == {"a": [True, 2, {"b": "text"}], "c": None}
    assert of(*leaf, 1, 0) == {"a": [2, 2, {"b": "text"}], "c": None}
    assert of(*leaf, 2) == {"a": [2, {"b": "text"}], "c": None}
    assert of(*leaf, 3, 3) == {"a": [1, 2, {"b": "text"}, 1], "c": None}
    assert of(*leaf, 4, 1) == {"a": [2, 1, {"b": "text"}], "c": None}
    assert of(*leaf, 5) == {"a": [[1], 2, {"b": "text"}], "c": None}
    assert of(255, 2) is None


def test_bytes_are_taken_out_and_put_in() -> None:
    assert spliced(b"abcdef", Tape(bytes([2, 3, 0]) + b"XY")) == b"abXYdef"[:2] + b"XY" + b"ef"
    assert spliced(b"abc", Tape(bytes([3, 0, 15]) + b"!")) == b"abc" + b"!" * 1_000
