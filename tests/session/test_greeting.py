"""Proving a token, and comparing two vocabularies, block by block."""

import pytest

from pipesd.access import AccessToken, Limits
from pipesd.errors import PeerError
from pipesd.session.commands import Failure
from pipesd.session.greeting import NO_TOKEN, Greeting
from pipesd.session.proof import SALT_BYTES, CloudProof, EdgeProof, verifier_of
from pipesd.vocabulary import BLOCK_TOKENS, Vocabulary
from pipesd.wire.frames import PROTOCOL_VERSION, Block, BlockWanted, Challenge, Hello, Proof, Welcome
from tests.session.helpers import grant

PIECES = [b"%d" % token for token in range(BLOCK_TOKENS)]
OURS = Vocabulary(PIECES)


def of(vocabulary: Vocabulary) -> Welcome:
    return grant(vocabulary_size=len(vocabulary), vocabulary_hashes=vocabulary.hashes)


def test_the_same_vocabulary_needs_no_look() -> None:
    greeting = Greeting(OURS)
    assert greeting.answer(of(OURS)) is None
    assert greeting.welcome == of(OURS)


def test_tokens_behind_the_last_one_are_no_difference_and_are_remembered() -> None:
    longer = Vocabulary([*PIECES, b"new"])
    greeting = Greeting(OURS)
    assert greeting.answer(of(longer)) == BlockWanted(1)
    assert greeting.answer(Block(1, longer.block(1))) is None
    assert greeting.foreign == [(BLOCK_TOKENS, b"new")]


def test_tokens_that_differ_are_named() -> None:
    other = Vocabulary([b"else", *PIECES[1:]])
    greeting = Greeting(OURS)
    assert greeting.answer(of(other)) == BlockWanted(0)
    answer = greeting.answer(Block(0, other.block(0)))
    assert isinstance(answer, Failure)
    assert "token 0 is b'0' here and b'else' there" in answer.message


def test_a_block_that_was_not_asked_for_is_the_peers_fault() -> None:
    greeting = Greeting(OURS)
    with pytest.raises(PeerError, match="block 0 of the vocabulary came"):
        greeting.answer(Block(0, OURS.block(0)))
    greeting.answer(of(Vocabulary([b"else", *PIECES[1:]])))
    with pytest.raises(PeerError, match="block 3 of the vocabulary came"):
        greeting.answer(Block(3, ()))


def test_a_cloud_that_grants_nothing_is_at_fault() -> None:
    with pytest.raises(PeerError, match="grants no window"):
        Greeting(OURS).answer(grant(window_tokens=0))


# -- who calls --------------------------------------------------------------------------------------------

ANN = AccessToken("ann", "a" * 43)


def cloud_for(hello: Hello, secret: str = ANN.secret) -> CloudProof:
    """A cloud that knows ann by that secret."""
    known = {"ann": verifier_of(secret, bytes(SALT_BYTES), Limits())}
    return CloudProof(known, "cloud", hello.credential, b"fake")


def greeting_of(token: AccessToken = ANN) -> Greeting:
    return Greeting(OURS, EdgeProof(token, "edge"))


def test_who_has_no_token_shows_none() -> None:
    assert Greeting(OURS).hello("me") == Hello(PROTOCOL_VERSION, "me", len(OURS), b"")


def test_a_token_is_proved_and_the_cloud_proves_that_it_knows_it() -> None:
    greeting = greeting_of()
    cloud = cloud_for(greeting.hello("me"))
    proof = greeting.answer(Challenge(cloud.challenge))
    assert isinstance(proof, Proof)
    name, credential = cloud.judge(proof.credential)
    assert name == "ann"
    assert (
        greeting.answer(
            grant(vocabulary_hashes=OURS.hashes, vocabulary_size=len(OURS), credential=credential)
        )
        is None
    )


def test_a_secret_never_crosses_the_wire() -> None:
    greeting = greeting_of()
    hello = greeting.hello("me")
    proof = greeting.answer(Challenge(cloud_for(hello).challenge))
    assert isinstance(proof, Proof)
    assert ANN.secret.encode() not in hello.credential + proof.credential


def test_who_has_no_token_cannot_prove_one() -> None:
    assert Greeting(OURS).answer(Challenge(b"r=1,s=c2FsdA==,i=4096")) == Failure("auth", NO_TOKEN)


@pytest.mark.parametrize("challenge", [b"", b"nonsense", b"r=other,s=c2FsdA==,i=4096", b"\xff"])
def test_a_challenge_that_is_none_is_not_answered(challenge: bytes) -> None:
    greeting = greeting_of()
    greeting.hello("me")
    answer = greeting.answer(Challenge(challenge))
    assert isinstance(answer, Failure)
    assert answer.code == "auth"


def test_a_cloud_that_does_not_know_the_token_is_not_trusted() -> None:
    """It let the edge in without being able to judge its proof."""
    greeting = greeting_of()
    cloud = cloud_for(greeting.hello("me"), secret="another")
    assert isinstance(greeting.answer(Challenge(cloud.challenge)), Proof)
    answer = greeting.answer(grant(credential=b"v=AAAA"))
    assert isinstance(answer, Failure)
    assert answer.code == "auth"
    assert greeting.welcome is None


def test_a_cloud_that_asks_for_no_proof_cannot_pass_for_one_that_does() -> None:
    greeting = greeting_of()
    greeting.hello("me")
    answer = greeting.answer(of(OURS))
    assert isinstance(answer, Failure)
    assert answer.code == "auth"
    assert greeting.welcome is None
