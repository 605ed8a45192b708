"""Programs of records, and what is read off them."""

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.tape import RECORD_BYTES_MAX, Tape, program, records

parts = st.lists(st.binary(max_size=RECORD_BYTES_MAX), max_size=8)


@given(parts)
def test_a_program_has_the_records_it_was_made_of(parts: list[bytes]) -> None:
    assert list(records(program(parts))) == parts


@given(st.binary())
def test_any_bytes_are_a_program(data: bytes) -> None:
    again = program(records(data))
    assert list(records(again)) == list(records(data))


def test_behind_the_end_everything_is_plausible() -> None:
    tape = Tape(b"\x07")
    assert tape.pick("abc") == "b"
    assert (tape.byte(), tape.pick("abc"), tape.chance(255), tape.number(3, 9)) == (0, "a", False, 3)
    assert (tape.take(4), tape.rest()) == (b"", b"")


@given(st.binary(max_size=12), st.integers(-5, 2**40), st.integers(0, 2**63))
def test_a_number_is_within_its_bounds(data: bytes, low: int, span: int) -> None:
    assert low <= Tape(data).number(low, low + span) <= low + span


def test_a_tape_is_read_in_order() -> None:
    tape = Tape(bytes(range(9)))
    assert (tape.byte(), tape.take(3), tape.byte(), tape.rest()) == (
        0,
        b"\x01\x02\x03",
        4,
        b"\x05\x06\x07\x08",
    )
