"""The edge's greeting: who calls, and whether draft and target read and write the same tokens.

Hashes of blocks tell; where they differ, the block is asked for and compared token by token, for a block may
differ only in tokens beyond the smaller vocabulary.
"""

from pipesd.errors import PeerError
from pipesd.session.checks import check_welcome, unlike_tokenizers
from pipesd.session.commands import Failure
from pipesd.session.proof import EdgeProof
from pipesd.vocabulary import Vocabulary
from pipesd.wire.frames import PROTOCOL_VERSION, Block, BlockWanted, Challenge, Hello, Proof, Welcome

NO_TOKEN = "the cloud wants an access token; ask whoever runs it for one, and give token"

_IDS_NAMED = 3
_BYTES_SHOWN = 24

Answer = Proof | BlockWanted | Failure | None
"""What to say next, or why the two cannot work together; None if they can."""


class Greeting:
    """Proves a token, if there is one, and compares one vocabulary with a cloud's."""

    def __init__(self, vocabulary: Vocabulary, proof: EdgeProof | None = None) -> None:
        self._vocabulary = vocabulary
        self._proof = proof
        self._differing: int | None = None
        self.welcome: Welcome | None = None
        """What the cloud grants, once it has said so."""

        self.foreign: list[tuple[int, bytes]] = []
        """The target's tokens that lie behind the draft's last one."""

    def hello(self, client: str) -> Hello:
        """What to begin with."""
        credential = self._proof.first if self._proof is not None else b""
        return Hello(PROTOCOL_VERSION, client, len(self._vocabulary), credential)

    def answer(self, said: Challenge | Welcome | Block) -> Answer:
        """Go on. Raises ``PeerError`` if the cloud says what cannot be, or what was not asked for."""
        match said:
            case Block():
                return self._compare(said)
            case Challenge():
                return self._prove(said)
            case Welcome():
                return self._meet(said)

    def _prove(self, challenge: Challenge) -> Answer:
        if self._proof is None:
            return Failure("auth", NO_TOKEN)
        try:
            return Proof(self._proof.answer(challenge.credential))
        except PeerError as error:
            return Failure(error.code, str(error))

    def _meet(self, welcome: Welcome) -> Answer:
        if self._proof is not None:
            try:
                self._proof.check(welcome.credential)
            except PeerError as error:
                return Failure(error.code, str(error))
        check_welcome(welcome)
        self.welcome = welcome
        return self._next_difference(welcome, 0)

    def _compare(self, block: Block) -> Answer:
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
