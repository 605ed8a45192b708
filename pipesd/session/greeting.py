"""Whether draft and target read and write the same tokens: the last part of the edge's greeting.

Hashes of blocks tell; where they differ, the block is asked for and compared token by token, for a block may
differ only in tokens beyond the smaller vocabulary.
"""

from pipesd.errors import PeerError
from pipesd.session.checks import check_welcome, unlike_tokenizers
from pipesd.session.commands import Failure
from pipesd.vocabulary import Vocabulary
from pipesd.wire.frames import Block, BlockWanted, Welcome

_IDS_NAMED = 3
_BYTES_SHOWN = 24

Answer = BlockWanted | Failure | None
"""What to ask for next, or why the two cannot work together; None if they can."""


class Greeting:
    """Compares one vocabulary with a cloud's."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._differing: int | None = None
        self.welcome: Welcome | None = None
        """What the cloud grants, once it has said so."""

        self.foreign: list[tuple[int, bytes]] = []
        """The target's tokens that lie behind the draft's last one."""

    def hear(self, welcome: Welcome) -> Answer:
        """Begin. Raises ``PeerError`` if the cloud grants what cannot be."""
        check_welcome(welcome)
        self.welcome = welcome
        return self._next_difference(welcome, 0)

    def compare(self, block: Block) -> Answer:
        """Go on with the block that was asked for. Raises ``PeerError`` if it is another one."""
        number, pieces, welcome = block.block, block.pieces, self.welcome
        if number != self._differing or welcome is None:
            raise PeerError("protocol", f"block {number} of the vocabulary came, which was not asked for")
        differing = list(self._vocabulary.differing_ids(number, pieces, welcome.vocabulary_size))
        if not differing:
            self.foreign += self._vocabulary.beyond(number, pieces)
            return self._next_difference(welcome, number + 1)
        named = ", ".join(
            f"{token} is {ours[:_BYTES_SHOWN]!r} here and {theirs[:_BYTES_SHOWN]!r} there"
            for token, ours, theirs in differing[:_IDS_NAMED]
        )
        return unlike_tokenizers(welcome.model, f"token {named}")

    def _next_difference(self, welcome: Welcome, start: int) -> Answer:
        self._differing = self._vocabulary.first_difference(welcome.vocabulary_hashes, start)
        if self._differing is not None:
            return BlockWanted(self._differing)
        if welcome.cutting and self._vocabulary.cutting not in {b"", welcome.cutting}:
            return unlike_tokenizers(welcome.model, "its tokens are the same, but it cuts text into others")
        return None
