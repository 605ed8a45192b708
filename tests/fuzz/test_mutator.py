"""Mutations keep programs within their size, and do everything that they say."""

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.mutator import crossed, mutated
from tests.fuzz.tape import program, records

PARTS = [bytes([number]) * 3 for number in range(6)]


def louder(data: bytes, size_max: int) -> bytes:
    """Stands for libFuzzer's own mutation."""
    return (data + b"!")[:size_max]


@given(st.binary(max_size=80), st.integers(0, 2**32 - 1), st.integers(1, 90))
def test_a_mutation_is_never_too_long(data: bytes, seed: int, size_max: int) -> None:
    assert len(mutated(data, size_max, seed, louder)) <= size_max


def test_records_come_and_go_and_change() -> None:
    lengths: set[int] = set()
    changed: set[bytes] = set()
    for seed in range(500):
        parts = list(records(mutated(program(PARTS), 200, seed, louder)))
        lengths.add(len(parts))
        changed.update(part for part in parts if part not in PARTS)
    assert lengths >= {1, 3, 5, 6, 7, 9}
    assert {part + b"!" for part in PARTS} <= changed


def test_a_cross_begins_like_one_and_ends_like_the_other() -> None:
    other = [bytes([number]) for number in range(20, 26)]
    seen = set()
    for seed in range(200):
        parts = list(records(crossed(program(PARTS), program(other), 200, seed)))
        own = [part for part in parts if part in PARTS]
        assert parts == PARTS[: len(own)] + other[6 - (len(parts) - len(own)) :][: len(parts) - len(own)]
        seen.add((len(own), len(parts)))
    assert len(seen) > 20
