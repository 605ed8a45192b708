"""Logins: the published exchange, those that succeed, and everything that must not."""

import hashlib
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipesd.access import AccessToken, Limits
from pipesd.errors import PeerError
from pipesd.session.proof import (
    ITERATIONS,
    ITERATIONS_MAX,
    MESSAGE_BYTES_MAX,
    CloudProof,
    EdgeProof,
    Verifier,
    verifier_of,
)

T = TypeVar("T")

LIMITS = Limits(sessions_max=2)
ALICE = AccessToken("alice", "a" * 43)
BOB = AccessToken("bob", "b" * 43)
KNOWN = {
    "alice": verifier_of(ALICE.secret, b"s" * 16, LIMITS),
    "bob": msgspec.structs.replace(verifier_of(BOB.secret, b"t" * 16, Limits()), revoked=True),
}
FAKE_KEY = b"k" * 32
WRONG = "no token of this name and secret is known here"


def cloud_for(
    first: bytes, nonce: str = "cloud-nonce", known: Mapping[str, Verifier] | None = None
) -> CloudProof:
    return CloudProof(KNOWN if known is None else known, nonce, first, FAKE_KEY)


def salt_and_iterations(cloud: CloudProof) -> bytes:
    return cloud.challenge.partition(b",")[2]


class Published:
    """The exchange in RFC 7677, section 3."""

    token = AccessToken("user", "pencil")
    edge_nonce = "rOprNGfwEbeRWgbNEkqO"
    cloud_nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    challenge = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    final = (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    proved = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_the_edge_says_what_is_published():
    edge = EdgeProof(Published.token, Published.edge_nonce)
    assert edge.first == Published.first
    assert edge.answer(Published.challenge) == Published.final
    edge.check(Published.proved)


def test_the_cloud_says_what_is_published():
    verifier = verifier_of(Published.token.secret, b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), Limits())
    cloud = cloud_for(Published.first, Published.cloud_nonce, {"user": verifier})
    assert cloud.challenge == Published.challenge
    assert cloud.judge(Published.final) == ("user", Published.proved)


def test_who_holds_a_token_is_let_in_under_its_name():
    edge = EdgeProof(ALICE, "edge-nonce")
    cloud = cloud_for(edge.first)
    owner, proved = cloud.judge(edge.answer(cloud.challenge))
    edge.check(proved)
    assert (owner, cloud.limits) == ("alice", LIMITS)


def test_no_secret_and_nothing_that_is_kept_crosses_the_wire():
    edge = EdgeProof(ALICE, "edge-nonce")
    cloud = cloud_for(edge.first)
    final = edge.answer(cloud.challenge)
    _, proved = cloud.judge(final)
    said = b"".join((edge.first, cloud.challenge, final, proved))
    known = KNOWN["alice"]
    values = [b64decode(part[2:]) for part in (final.rpartition(b",")[2], proved)]
    assert ALICE.secret.encode() not in said
    assert not {known.stored_key, known.server_key} & set(values)


def test_the_cloud_leaves_the_costly_hash_to_the_edge(monkeypatch: pytest.MonkeyPatch):
    edge, late = EdgeProof(ALICE, "edge-nonce"), EdgeProof(ALICE, "edge-nonce")
    final = edge.answer(cloud_for(edge.first).challenge)

    def refuse(*_: object) -> bytes:
        raise AssertionError("hashed")

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", refuse)
    assert cloud_for(edge.first).judge(final)[0] == "alice"
    unknown = cloud_for(EdgeProof(AccessToken("carol", "c" * 43), "edge-nonce").first)
    with pytest.raises(PeerError, match=WRONG):
        unknown.judge(final)
    with pytest.raises(AssertionError, match="hashed"):
        late.answer(unknown.challenge)


def test_a_wrong_secret_is_refused():
    edge = EdgeProof(AccessToken("alice", "c" * 43), "edge-nonce")
    cloud = cloud_for(edge.first)
    with pytest.raises(PeerError, match=WRONG) as caught:
        cloud.judge(edge.answer(cloud.challenge))
    assert caught.value.code == "auth"


def test_an_unknown_name_is_answered_and_refused_like_a_wrong_secret():
    edge = EdgeProof(AccessToken("carol", "c" * 43), "edge-nonce")
    cloud = cloud_for(edge.first)
    assert len(cloud.challenge) == len(cloud_for(EdgeProof(ALICE, "edge-nonce").first).challenge)
    with pytest.raises(PeerError, match=WRONG):
        cloud.judge(edge.answer(cloud.challenge))


def test_an_unknown_name_has_one_salt_that_others_cannot_foretell():
    def salt(name: str, nonce: str = "n", key: bytes = FAKE_KEY) -> bytes:
        return salt_and_iterations(CloudProof(KNOWN, nonce, f"n,,n={name},r=edge".encode(), key))

    assert salt("carol") == salt("carol", nonce="m")
    assert len({salt("carol"), salt("dave"), salt("alice"), salt("carol", key=b"l" * 32)}) == 4
    assert salt("alice") == salt("alice", key=b"l" * 32)


def test_that_a_token_is_revoked_is_said_to_its_holder_alone():
    for secret, says in ((BOB.secret, "has been revoked"), ("c" * 43, WRONG)):
        edge = EdgeProof(AccessToken("bob", secret), "edge-nonce")
        cloud = cloud_for(edge.first)
        with pytest.raises(PeerError, match=says):
            cloud.judge(edge.answer(cloud.challenge))


def test_a_login_that_was_listened_to_cannot_be_replayed():
    edge = EdgeProof(ALICE, "edge-nonce")
    heard = cloud_for(edge.first)
    final = edge.answer(heard.challenge)
    heard.judge(final)
    adapted = final.replace(b"cloud-nonce", b"another-nonce")
    assert adapted != final
    for replayed in (final, adapted):
        with pytest.raises(PeerError, match=WRONG):
            cloud_for(edge.first, nonce="another-nonce").judge(replayed)


def test_a_challenge_gives_one_try():
    right = EdgeProof(ALICE, "edge-nonce")
    cloud = cloud_for(right.first)
    final = right.answer(cloud.challenge)
    wrong = EdgeProof(AccessToken("alice", "c" * 43), "edge-nonce")
    with pytest.raises(PeerError):
        cloud.judge(wrong.answer(cloud.challenge))
    with pytest.raises(PeerError):
        cloud.judge(final)


def test_a_login_is_judged_once():
    edge = EdgeProof(ALICE, "edge-nonce")
    cloud = cloud_for(edge.first)
    final = edge.answer(cloud.challenge)
    cloud.judge(final)
    with pytest.raises(PeerError):
        cloud.judge(final)


def test_a_cloud_that_does_not_know_the_token_is_found_out():
    edge = EdgeProof(ALICE, "edge-nonce")
    impostor = cloud_for(edge.first, known={"alice": verifier_of("x" * 43, b"s" * 16, Limits())})
    edge.answer(impostor.challenge)
    other = EdgeProof(AccessToken("alice", "x" * 43), "edge-nonce")
    _, proved = impostor.judge(other.answer(impostor.challenge))
    with pytest.raises(PeerError, match="cannot prove that it knows the token") as caught:
        edge.check(proved)
    assert caught.value.code == "auth"


@pytest.mark.parametrize("final", [b"", b"v=", b"v=AAAA", b"e=other-error", b"e=so", b"v=\xff", b"x" * 600])
def test_a_cloud_that_proves_nothing_is_found_out(final: bytes):
    edge = EdgeProof(ALICE, "edge-nonce")
    edge.answer(cloud_for(edge.first).challenge)
    with pytest.raises(PeerError):
        edge.check(final)


def test_a_cloud_is_not_believed_before_it_was_answered():
    with pytest.raises(PeerError):
        EdgeProof(Published.token, Published.edge_nonce).check(Published.proved)


SALT = b"c2FsdHNhbHRzYWx0c2FsdA=="


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"r=edge-nonce,s=%s,i=4096" % SALT,
        b"r=another-nonce-x,s=%s,i=4096" % SALT,
        b"r=edge-noncex,s=%s,i=%d" % (SALT, ITERATIONS - 1),
        b"r=edge-noncex,s=%s,i=%d" % (SALT, ITERATIONS_MAX + 1),
        b"r=edge-noncex,s=%s,i=999999999999" % SALT,
        b"r=edge-noncex,s=,i=4096",
        b"r=edge-noncex,s=AAAA,i=4096",
        b"m=x,r=edge-noncex,s=%s,i=4096" % SALT,
        b"e=unknown-user",
        b"r=edge-noncex,s=%s,i=4096,x=%s" % (SALT, b"y" * MESSAGE_BYTES_MAX),
    ],
)
def test_an_edge_answers_no_challenge_that_cannot_be(challenge: bytes):
    with pytest.raises(PeerError) as caught:
        EdgeProof(ALICE, "edge-nonce").answer(challenge)
    assert caught.value.code == "auth"


@pytest.mark.parametrize("iterations", [ITERATIONS, ITERATIONS_MAX])
def test_an_edge_answers_every_challenge_that_can_be(iterations: int):
    challenge = b"r=edge-noncex,s=%s,i=%d" % (SALT, iterations)
    assert EdgeProof(ALICE, "edge-nonce").answer(challenge).startswith(b"c=biws,r=edge-noncex,p=")


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n,,",
        b"n,,n=alice",
        b"n,,n=alice,r=",
        b"n,,n=,r=edge",
        b"n,,n=a=lice,r=edge",
        b"n,,r=edge,n=alice",
        b"n,a=root,n=alice,r=edge",
        b"p=tls-unique,,n=alice,r=edge",
        b"n,,m=x,n=alice,r=edge",
        "n,,n=ålice,r=edge".encode(),
        b"n,,n=alice,r=\xff",
        b"n,,n=alice,r=" + b"x" * MESSAGE_BYTES_MAX,
    ],
)
def test_what_begins_no_login_is_refused(first: bytes):
    with pytest.raises(PeerError) as caught:
        cloud_for(first)
    assert caught.value.code == "auth"


def test_a_message_of_just_the_limit_is_read():
    start = b"n,,n=alice,r="
    assert cloud_for(start + b"x" * (MESSAGE_BYTES_MAX - len(start))).challenge.startswith(b"r=xxx")


LETTERS = b"nrsicpvemya=,0123456789+/ABCabc-% "
ALMOST = st.lists(st.sampled_from([bytes([letter]) for letter in LETTERS]), max_size=80).map(b"".join)
ANYTHING = st.binary(max_size=MESSAGE_BYTES_MAX + 8) | ALMOST


def mangled(right: bytes) -> st.SearchStrategy[bytes]:
    places = st.integers(0, len(right))
    return st.builds(lambda start, end, new: right[:start] + new + right[end:], places, places, ANYTHING)


RIGHT_EDGE = EdgeProof(ALICE, "edge-nonce")
RIGHT_CLOUD = cloud_for(RIGHT_EDGE.first)
RIGHT_FINAL = RIGHT_EDGE.answer(RIGHT_CLOUD.challenge)
RIGHT_PROVED = RIGHT_CLOUD.judge(RIGHT_FINAL)[1]


def outcome(call: Callable[[], T]) -> T | PeerError:
    """What a call gave, or the one kind of error that it may raise."""
    try:
        return call()
    except PeerError as error:
        return error


def is_blamed(result: object) -> bool:
    return isinstance(result, PeerError) and result.code == "auth"


def signed(final: bytes) -> tuple[bytes, bytes]:
    """What it says, and its proof decoded, for base64 can write the same bytes in more than one way."""
    said, _, proof = final.rpartition(b",p=")
    return said, b64decode(proof)


@given(ANYTHING | mangled(RIGHT_EDGE.first))
def test_any_bytes_begin_a_login_or_are_the_peers_fault(first: bytes):
    result = outcome(lambda: cloud_for(first).challenge)
    assert is_blamed(result) or (isinstance(result, bytes) and result.startswith(b"r="))


@given(ANYTHING | mangled(RIGHT_FINAL))
def test_no_other_proof_than_the_right_one_opens(final: bytes):
    result = outcome(lambda: cloud_for(RIGHT_EDGE.first).judge(final))
    if final == RIGHT_FINAL:
        assert result == ("alice", RIGHT_PROVED)
    elif not is_blamed(result):
        assert signed(final) == signed(RIGHT_FINAL)


@given(ANYTHING | mangled(RIGHT_CLOUD.challenge))
def test_any_challenge_is_answered_or_the_peers_fault(challenge: bytes):
    result = outcome(lambda: EdgeProof(ALICE, "edge-nonce").answer(challenge))
    assert is_blamed(result) or (isinstance(result, bytes) and result.startswith(b"c=biws,r=edge-nonce"))


@given(ANYTHING | mangled(RIGHT_PROVED))
def test_no_other_bytes_than_the_right_ones_prove_the_cloud(final: bytes):
    edge = EdgeProof(ALICE, "edge-nonce")
    edge.answer(RIGHT_CLOUD.challenge)
    result = outcome(lambda: edge.check(final))
    if final == RIGHT_PROVED:
        assert result is None
    elif not is_blamed(result):
        assert b64decode(final.partition(b",")[0][2:]) == b64decode(RIGHT_PROVED[2:])
