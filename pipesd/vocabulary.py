"""A vocabulary as bytes, and the hashes by which two sides find out whether theirs agree.

Only what text is made of counts: ids without bytes (unused or padding) equal ids beyond the end, so that
padded vocabularies of one tokenizer match.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

BLOCK_TOKENS = 1_024
HASH_BYTES = 8

PROBE = (
    "Hello world, it's 12345.678 — don't PANIC! über naïve façade Straße\n\n  two  spaces\t\ttabs\r\n"
    "def f(x): return {'a': [1, 2]} != None  # ÀÉÎ ΑΒΓ где нет 世界和平 こんにちは 안녕 🙂🙃 e\u0301\u0301"
)
"""A text that tokenizers cut differently if they differ."""


@dataclass(frozen=True)
class Vocabulary:
    """The bytes of every token, by id; empty for unused ones."""

    pieces: Sequence[bytes]
    cutting: bytes = b""
    """Hash of how ``PROBE`` is cut into tokens (``cutting_of``); empty if that is not known."""

    def __len__(self) -> int:
        return len(self.pieces)

    def block(self, number: int) -> tuple[bytes, ...]:
        """The tokens of block ``number``, always 1,024 of them: beyond the end they are empty."""
        start = number * BLOCK_TOKENS
        known = tuple(self.pieces[start : start + BLOCK_TOKENS])
        return known + (b"",) * (BLOCK_TOKENS - len(known))

    @cached_property
    def hashes(self) -> bytes:
        """One 64-bit BLAKE2b hash per block, joined."""
        blocks = hashes_bytes(len(self.pieces)) // HASH_BYTES
        return b"".join(_block_hash(self.block(number)) for number in range(blocks))

    def first_difference(self, peer_hashes: bytes, start: int = 0) -> int | None:
        """The first block from ``start`` on in which a peer's vocabulary differs, or goes on behind ours."""
        for number in range(start, len(peer_hashes) // HASH_BYTES):
            at = slice(number * HASH_BYTES, (number + 1) * HASH_BYTES)
            if (self.hashes[at] or _NOTHING_HASH) != peer_hashes[at]:
                return number
        return None

    def beyond(self, number: int, peer_block: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
        """(id, the peer's bytes) for each token of block ``number`` that lies behind our last one."""
        start = number * BLOCK_TOKENS
        for token, piece in enumerate(peer_block[:BLOCK_TOKENS], start):
            if token >= len(self) and piece:
                yield token, piece

    def differing_ids(
        self, number: int, peer_block: Sequence[bytes], peer_size: int
    ) -> Iterator[tuple[int, bytes, bytes]]:
        """(id, our bytes, the peer's bytes) for each token of block ``number`` that differs.

        Ids beyond the smaller of the two vocabularies do not count, though their block's hash may differ.
        """
        start = number * BLOCK_TOKENS
        shared = min(len(self), peer_size)
        padded = (*peer_block, *(b"",) * (BLOCK_TOKENS - len(peer_block)))
        for offset, (ours, theirs) in enumerate(zip(self.block(number), padded, strict=False)):
            if ours != theirs and start + offset < shared:
                yield start + offset, ours, theirs


def cutting_of(ids: Sequence[int]) -> bytes:
    """The hash of the tokens that ``PROBE`` is cut into: vocabularies alone do not tell how text is cut."""
    return hashlib.blake2b(",".join(map(str, ids)).encode(), digest_size=HASH_BYTES).digest()


def hashes_bytes(vocabulary_size: int) -> int:
    """How long the hashes of a vocabulary of this size are."""
    return HASH_BYTES * -(-vocabulary_size // BLOCK_TOKENS)


def _block_hash(pieces: Sequence[bytes]) -> bytes:
    lengths = ",".join(str(len(piece)) for piece in pieces).encode()
    return hashlib.blake2b(lengths + b";" + b"".join(pieces), digest_size=HASH_BYTES).digest()


_NOTHING_HASH = _block_hash((b"",) * BLOCK_TOKENS)
