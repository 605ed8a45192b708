"""A login as it is right, message by message, and what is nearly one. The nonces are always the same."""

import binascii
import re
from collections.abc import Callable, Mapping

from msgspec import structs

from pipesd.access import AccessToken, Limits
from pipesd.session.proof import CloudProof, EdgeProof, Tokens, verifier_of
from tests.fuzz.edits import spliced
from tests.fuzz.tape import Tape

EDGE_NONCE, CLOUD_NONCE = "edge", "cloud"
_LIMITS = Limits(sessions_max=2, context_tokens=60, tokens_per_minute=100)
_HOLDERS = {"honest": Limits(), "liar": _LIMITS}


def _tokens(*, revoked: str = "") -> Tokens:
    """What a cloud knows of the tokens of both holders."""
    return Tokens(
        {
            name: structs.replace(
                verifier_of(_token(name).secret, bytes(16), limits), revoked=name == revoked
            )
            for name, limits in _HOLDERS.items()
        },
        b"fake",
    )


def _token(name: str) -> AccessToken:
    return AccessToken(name, "s" * 43)


TOKENS = _tokens()
LIAR_IS_REVOKED = _tokens(revoked="liar")


class Login:
    """What a holder and the cloud say to each other."""

    def __init__(self, name: str) -> None:
        self.token = _token(name)
        edge = EdgeProof(self.token, EDGE_NONCE)
        cloud = CloudProof(TOKENS.verifiers, CLOUD_NONCE, edge.first, TOKENS.fake_key)
        self.first = edge.first
        self.challenge = cloud.challenge
        self.proof = edge.answer(self.challenge)
        self.final = cloud.judge(self.proof)[1]


HONEST, LIAR = Login("honest"), Login("liar")

_SECRET = re.compile(rb"(?:^|,)[pv]=([^,]*)")


def _nearly(right: bytes) -> Callable[[Tape], bytes]:
    return lambda tape: spliced(right, tape)[:512] if tape.chance(96) else right


CREDENTIALS: Mapping[str, Callable[[Tape], object]] = {
    "Hello.credential": _nearly(LIAR.first),
    "Challenge.credential": _nearly(LIAR.challenge),
    "Proof.credential": _nearly(LIAR.proof),
    "Welcome.credential": _nearly(LIAR.final),
}


def proves(said: bytes, right: bytes) -> bool:
    """Whether the proof in it is that of the right message; its letters may differ, as base64 allows."""
    return not right or _proof_in(said) == _proof_in(right)


def _proof_in(message: bytes) -> bytes | None:
    found = _SECRET.search(message)
    try:
        return binascii.a2b_base64(found[1]) if found else None
    except binascii.Error:
        return None
