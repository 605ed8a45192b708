"""Vocabularies and their hashes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.vocabulary import BLOCK_TOKENS, HASH_BYTES, PROBE, Vocabulary, cutting_of

QWEN_USED, QWEN_SMALL, QWEN_LARGE = 151_665, 151_936, 152_064
USED = [f"token {number}".encode() for number in range(QWEN_USED)]


def padded(pieces: list[bytes], size: int) -> Vocabulary:
    return Vocabulary([*pieces, *[b""] * (size - len(pieces))])


def test_golden_hash() -> None:
    vocabulary = Vocabulary([b"a", b"", b"\xff\x00bc"])
    assert vocabulary.hashes.hex() == "96e2abd845a62d16"
    assert Vocabulary([]).hashes == b""
    assert Vocabulary([b""]).hashes.hex() == "6a25a5d72848f75c"


def test_length_and_one_hash_per_started_block() -> None:
    for size, blocks in ((0, 0), (1, 1), (BLOCK_TOKENS, 1), (BLOCK_TOKENS + 1, 2)):
        vocabulary = padded([], size)
        assert len(vocabulary) == size
        assert len(vocabulary.hashes) == blocks * HASH_BYTES


def test_padded_vocabularies_of_one_tokenizer_match() -> None:
    small, large = padded(USED, QWEN_SMALL), padded(USED, QWEN_LARGE)
    assert small.first_difference(large.hashes) is None
    assert large.first_difference(small.hashes) is None
    assert Vocabulary(USED).first_difference(large.hashes) is None


def test_blocks_beyond_the_last_one_of_the_smaller_are_looked_at_by_the_smaller_alone() -> None:
    small, large = Vocabulary(USED[:BLOCK_TOKENS]), Vocabulary(USED[: 3 * BLOCK_TOKENS])
    assert small.first_difference(large.hashes) == 1
    assert small.first_difference(large.hashes, 2) == 2
    assert list(small.differing_ids(2, large.block(2), len(large))) == []
    assert large.first_difference(small.hashes) is None


def test_what_a_peer_knows_behind_our_last_token_is_given_with_its_id() -> None:
    ours = Vocabulary([b"a", b"b"])
    assert list(ours.beyond(0, [b"a", b"b", b"", b"d", b"e"])) == [(3, b"d"), (4, b"e")]
    assert list(ours.beyond(1, [b"f"])) == [(BLOCK_TOKENS, b"f")]
    assert list(ours.beyond(0, [b"other"])) == []
    assert list(ours.beyond(0, [b""] * BLOCK_TOKENS + [b"too many"])) == []


def test_how_text_is_cut_is_told_by_the_ids() -> None:
    assert cutting_of([1, 23]) == cutting_of((1, 23))
    assert len({cutting_of(ids) for ids in ([1, 23], [12, 3], [123], [])}) == 4
    assert PROBE.encode().decode() == PROBE


@pytest.mark.parametrize("changed", [0, 1_023, 1_024, 70_000, QWEN_USED - 1])
def test_a_changed_id_is_found_and_named(changed: int) -> None:
    ours, theirs = padded(USED, QWEN_SMALL), padded(USED, QWEN_LARGE)
    pieces = list(theirs.pieces)
    pieces[changed] = b"other"
    theirs = Vocabulary(pieces)
    number = changed // BLOCK_TOKENS
    assert ours.first_difference(theirs.hashes) == number
    assert list(ours.differing_ids(number, theirs.block(number), len(theirs))) == [
        (changed, f"token {changed}".encode(), b"other")
    ]


def test_the_first_of_several_differences_is_reported() -> None:
    pieces = USED[: 4 * BLOCK_TOKENS]
    changed = list(pieces)
    changed[1_500], changed[3_500] = b"x", b"y"
    assert Vocabulary(pieces).first_difference(Vocabulary(changed).hashes) == 1


def test_a_block_always_has_1024_tokens() -> None:
    vocabulary = Vocabulary([b"a"] * (BLOCK_TOKENS + 2))
    assert vocabulary.block(0) == (b"a",) * BLOCK_TOKENS
    assert vocabulary.block(1) == (b"a", b"a") + (b"",) * (BLOCK_TOKENS - 2)
    assert vocabulary.block(7) == (b"",) * BLOCK_TOKENS


def test_a_peers_block_of_the_wrong_length_is_compared_as_far_as_it_makes_sense() -> None:
    ours = Vocabulary([b"a", b"b", b"c"])
    assert list(ours.differing_ids(0, [b"a"], 3)) == [(1, b"b", b""), (2, b"c", b"")]
    assert list(ours.differing_ids(0, [], 3)) == [(0, b"a", b""), (1, b"b", b""), (2, b"c", b"")]
    assert list(ours.differing_ids(0, [*ours.block(0), b"too many"], 3)) == []


def test_ids_that_only_the_larger_vocabulary_has_are_no_difference() -> None:
    small, large = Vocabulary([b"a", b"b"]), Vocabulary([b"a", b"b", b"added"])
    assert small.first_difference(large.hashes) == 0, "the hash alone cannot tell"
    assert list(small.differing_ids(0, large.block(0), len(large))) == []
    assert list(large.differing_ids(0, small.block(0), len(small))) == []


def test_the_search_for_differences_can_go_on() -> None:
    ours = Vocabulary(USED[: 3 * BLOCK_TOKENS])
    theirs = Vocabulary([b"x", *USED[1 : 2 * BLOCK_TOKENS], b"y"])
    assert ours.first_difference(theirs.hashes) == 0
    assert ours.first_difference(theirs.hashes, 1) == 2
    assert ours.first_difference(theirs.hashes, 3) is None


def test_hashes_of_a_peer_with_half_a_hash_at_the_end_are_compared_up_to_it() -> None:
    ours = Vocabulary(USED[: 2 * BLOCK_TOKENS])
    assert ours.first_difference(ours.hashes[:-1]) is None
    assert ours.first_difference(b"") is None


def test_a_byte_cannot_move_between_neighbours_unnoticed() -> None:
    texts = [[b"ab", b"c"], [b"a", b"bc"], [b"abc", b""], [b"", b"abc"], [b"abc"]]
    hashes = [Vocabulary(pieces).hashes for pieces in texts]
    assert len(set(hashes)) == 4
    assert hashes[2] == hashes[4], "unused ids count as ids beyond the end"


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=2), max_size=4), st.lists(st.binary(max_size=2), max_size=4))
def test_hashes_are_equal_exactly_when_the_tokens_are(left: list[bytes], right: list[bytes]) -> None:
    ours, theirs = padded(left, 5), padded(right, 6)
    assert (ours.hashes == theirs.hashes) == (ours.block(0) == theirs.block(0))
    named = {number for number, _, _ in ours.differing_ids(0, right, 6)}
    assert named == {number for number in range(5) if ours.block(0)[number] != theirs.block(0)[number]}
