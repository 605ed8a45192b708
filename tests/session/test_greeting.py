"""Comparing two vocabularies, block by block."""

import pytest

from pipesd.errors import PeerError
from pipesd.session.commands import Failure
from pipesd.session.greeting import Greeting
from pipesd.vocabulary import BLOCK_TOKENS, Vocabulary
from pipesd.wire.frames import Block, BlockWanted, Welcome
from tests.session.helpers import grant

PIECES = [b"%d" % token for token in range(BLOCK_TOKENS)]
OURS = Vocabulary(PIECES)


def of(vocabulary: Vocabulary) -> Welcome:
    return grant(vocabulary_size=len(vocabulary), vocabulary_hashes=vocabulary.hashes)


def test_the_same_vocabulary_needs_no_look() -> None:
    greeting = Greeting(OURS)
    assert greeting.hear(of(OURS)) is None
    assert greeting.welcome == of(OURS)


def test_tokens_behind_the_last_one_are_no_difference_and_are_remembered() -> None:
    longer = Vocabulary([*PIECES, b"new"])
    greeting = Greeting(OURS)
    assert greeting.hear(of(longer)) == BlockWanted(1)
    assert greeting.compare(Block(1, longer.block(1))) is None
    assert greeting.foreign == [(BLOCK_TOKENS, b"new")]


def test_tokens_that_differ_are_named() -> None:
    other = Vocabulary([b"else", *PIECES[1:]])
    greeting = Greeting(OURS)
    assert greeting.hear(of(other)) == BlockWanted(0)
    answer = greeting.compare(Block(0, other.block(0)))
    assert isinstance(answer, Failure)
    assert "token 0 is b'0' here and b'else' there" in answer.message


def test_a_block_that_was_not_asked_for_is_the_peers_fault() -> None:
    greeting = Greeting(OURS)
    with pytest.raises(PeerError, match="block 0 of the vocabulary came"):
        greeting.compare(Block(0, OURS.block(0)))
    greeting.hear(of(Vocabulary([b"else", *PIECES[1:]])))
    with pytest.raises(PeerError, match="block 3 of the vocabulary came"):
        greeting.compare(Block(3, ()))


def test_a_cloud_that_grants_nothing_is_at_fault() -> None:
    with pytest.raises(PeerError, match="grants no window"):
        Greeting(OURS).hear(grant(window_tokens=0))
