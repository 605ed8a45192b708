"""Who calls: both halves of SCRAM-SHA-256 (RFC 5802 and 7677), over messages that frames carry as bytes.

Four messages: the edge's first, the cloud's challenge, the edge's proof, the cloud's own. No secret is among
them, and what the cloud keeps of a token, its ``Verifier``, does not serve as one. What comes from the other
side raises ``PeerError`` or nothing. Nonces are handed in: printable ASCII without commas, never used twice.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from scramp import ScramClient, ScramException, ScramMechanism

from pipesd.access import AccessToken, Limits
from pipesd.errors import PeerError

MESSAGE_BYTES_MAX = 512
"""Longer messages are refused unread."""

ITERATIONS = 4_096
"""Of PBKDF2, at each login of an edge. They make guessing slow, and a secret of 32 random bytes cannot be
guessed anyway, so the least that RFC 7677 allows is enough."""

ITERATIONS_MAX = 65_536
"""A challenge that asks for more is refused: it would keep the edge from its work."""

SALT_BYTES = 16
KEY_BYTES = 32

_MECHANISM = "SCRAM-SHA-256"
_WRONG = "no token of this name and secret is known here; check it, or ask whoever runs the cloud for another"
REVOKED = "this token has been revoked; ask whoever runs the cloud for another"

Key = Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]


class Verifier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What tells a token from others: by itself it neither opens this cloud nor gives the secret away.

    But whoever has it can pose as the cloud, and with a login that was listened to, as the token's holder.
    """

    salt: Annotated[bytes, msgspec.Meta(min_length=SALT_BYTES, max_length=4 * SALT_BYTES)]
    iterations: Annotated[int, msgspec.Meta(ge=ITERATIONS, le=ITERATIONS_MAX)]
    stored_key: Key
    server_key: Key
    revoked: bool = False
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a cloud knows of all tokens."""

    verifiers: Mapping[str, Verifier]
    fake_key: bytes = field(repr=False)
    """See ``CloudProof``."""


def verifier_of(secret: str, salt: bytes, limits: Limits) -> Verifier:
    """Of a new token. ``salt`` is random, ``SALT_BYTES`` long, and of this token alone."""
    _, stored_key, server_key, iterations = ScramMechanism(_MECHANISM).make_auth_info(
        secret, ITERATIONS, salt
    )
    return Verifier(
        salt=salt, iterations=iterations, stored_key=stored_key, server_key=server_key, limits=limits
    )


class EdgeProof:
    """The edge's half of one login. Each method is called once, in this order."""

    def __init__(self, token: AccessToken, nonce: str) -> None:
        self._client = ScramClient([_MECHANISM], token.name, token.secret, c_nonce=nonce)
        self.first: bytes = self._client.get_client_first().encode()
        """What to begin with."""

    def answer(self, challenge: bytes) -> bytes:
        """Prove the token to whoever sent this. Takes a millisecond or two. Raises ``PeerError``."""
        with _blamed("the cloud's challenge to the token is none that can be answered"):
            self._client.set_server_first(_text(challenge))
            if int(self._client.iterations) > ITERATIONS_MAX:
                raise PeerError(
                    "auth", f"the cloud's challenge asks for more than {ITERATIONS_MAX} iterations"
                )
            final: str = self._client.get_client_final()
        return final.encode()

    def check(self, final: bytes) -> None:
        """Raise ``PeerError`` unless the cloud has proved that it knows the token; trust nothing before."""
        with _blamed("the cloud cannot prove that it knows the token, so it is not the one that gave it out"):
            self._client.set_server_final(_text(final))


class CloudProof:
    """The cloud's half of one login: a few hashes, whether or not there is such a token.

    Raises ``PeerError`` if ``first`` cannot begin one. A name that is not among the ``verifiers`` gets a salt
    too, made of it and ``fake_key``, which should outlive the process, and is refused like a wrong secret.
    """

    def __init__(self, verifiers: Mapping[str, Verifier], nonce: str, first: bytes, fake_key: bytes) -> None:
        self._verifiers = verifiers
        self._fake_key = fake_key
        self._server = ScramMechanism(_MECHANISM).make_server(self._look_up, s_nonce=nonce)
        with _blamed("what should begin the proof of a token cannot be read"):
            self._server.set_client_first(_text(first))
            challenge: str = self._server.get_server_first()
        self.challenge = challenge.encode()
        """What to answer with."""

    def _look_up(self, name: str) -> tuple[bytes, bytes, bytes, int]:
        fake = _fake(name, self._fake_key)  # made in any case, for it takes time
        self._name, self._verifier = name, self._verifiers.get(name, fake)
        known = self._verifier
        return known.salt, known.stored_key, known.server_key, known.iterations

    def judge(self, final: bytes) -> tuple[str, bytes]:
        """(name of the token, what proves the cloud to the edge). Raises ``PeerError``, also the second time.

        That a token was revoked is said only to those who have proved that they hold it.
        """
        with _blamed(_WRONG):
            self._server.set_client_final(_text(final))
            proved: str = self._server.get_server_final()
        if self._verifier.revoked:
            raise PeerError("auth", REVOKED)
        return self._name, proved.encode()

    @property
    def limits(self) -> Limits:
        """Of the token, once it is judged."""
        return self._verifier.limits


def _fake(name: str, key: bytes) -> Verifier:
    def part(of: bytes, size: int) -> bytes:
        return hashlib.blake2b(name.encode(), digest_size=size, key=key, person=of).digest()

    return Verifier(
        salt=part(b"salt", SALT_BYTES),
        iterations=ITERATIONS,
        stored_key=part(b"stored", KEY_BYTES),
        server_key=part(b"server", KEY_BYTES),
    )


def _text(message: bytes) -> str:
    if len(message) > MESSAGE_BYTES_MAX:
        raise PeerError("auth", f"a proof of a token is longer than {MESSAGE_BYTES_MAX} bytes")
    return message.decode("ascii")


@contextmanager
def _blamed(sentence: str) -> Iterator[None]:
    try:
        yield
    except (ScramException, UnicodeDecodeError):
        raise PeerError("auth", sentence) from None
