"""Who is let in: how many connections there may be, and the greeting that each begins with.

Before a peer is let in, nothing is kept for it but what is here.
"""

import math
from collections import Counter
from dataclasses import dataclass

from msgspec import structs

from pipesd.address import counted_as
from pipesd.errors import PeerError
from pipesd.session.greeting import NO_TOKEN
from pipesd.session.proof import REVOKED, CloudProof, Tokens
from pipesd.session.rules import CloudRules
from pipesd.wire.frames import PROTOCOL_VERSION, Challenge, Hello, Proof, Refuse, Welcome


@dataclass(slots=True)
class _Guest:
    address: str
    nonce: str
    proof: CloudProof | None = None
    owner: str = ""


class Admission:
    """The connections that there are, and the greetings that are not over."""

    def __init__(self, rules: CloudRules, welcome: Welcome) -> None:
        self._rules = rules
        self._welcome = welcome
        self._guests: dict[int, _Guest] = {}
        self._greeting: dict[int, float] = {}
        """Until when those that are not let in yet may take."""

        self._addresses: Counter[str] = Counter()
        self._tokens: Tokens | None = None

    def learn(self, tokens: Tokens) -> list[int]:
        """Whoever has none of these is not let in; those who are in with one that is revoked."""
        self._tokens = tokens
        good = {name for name, verifier in tokens.verifiers.items() if not verifier.revoked}
        return [peer for peer, guest in self._guests.items() if guest.owner and guest.owner not in good]

    def meet(self, peer: int, address: str, nonce: str, now: float, *, is_stopping: bool) -> Refuse | None:
        """A connection was made; why it cannot be, if so."""
        if is_stopping:
            return Refuse("stopping", "it is stopping")
        if len(self._guests) >= self._rules.connections_max:
            return Refuse("busy", "no connection is free", self._rules.retry_ms)
        address = counted_as(address)
        if address and self._addresses[address] >= self._rules.address_connections_max:
            message = f"all {self._rules.address_connections_max} connections from one address are taken"
            return Refuse("busy", message, self._rules.retry_ms)
        self._addresses[address] += 1
        self._greeting[peer] = now + self._rules.patience.greeting_s
        self._guests[peer] = _Guest(address, nonce)
        return None

    def hear(self, peer: int, said: Hello | Proof) -> Challenge | Welcome | Refuse:
        """What is answered to a greeting."""
        guest = self._guests[peer]
        try:
            if isinstance(said, Proof):
                return self._judge(guest, said)
            if said.version != PROTOCOL_VERSION:
                message = f"it speaks version {PROTOCOL_VERSION} of the protocol, not {said.version}"
                return Refuse("version", message)
            return self._welcome if self._tokens is None else self._challenge(guest, said, self._tokens)
        except PeerError as error:
            return Refuse(error.code, str(error))

    def _challenge(self, guest: _Guest, hello: Hello, tokens: Tokens) -> Challenge:
        if not hello.credential:
            raise PeerError("auth", NO_TOKEN)
        guest.proof = CloudProof(tokens.verifiers, guest.nonce, hello.credential, tokens.fake_key)
        return Challenge(guest.proof.challenge)

    def _judge(self, guest: _Guest, said: Proof) -> Welcome:
        proof, guest.proof = guest.proof, None
        assert proof is not None, "a proof without a challenge"
        owner, credential = proof.judge(said.credential)
        now = self._tokens.verifiers.get(owner) if self._tokens is not None else None
        if now is None or now.revoked:
            raise PeerError("auth", REVOKED)
        guest.owner = owner
        most = proof.limits.context_tokens or self._welcome.context_tokens
        context_tokens = min(self._welcome.context_tokens, most)
        return structs.replace(self._welcome, credential=credential, context_tokens=context_tokens)

    def admit(self, peer: int) -> str:
        """It is let in; the name of its token, empty without tokens."""
        self._greeting.pop(peer, None)
        return self._guests[peer].owner

    def forget(self, peer: int) -> None:
        """The connection is gone."""
        self._greeting.pop(peer, None)
        guest = self._guests.pop(peer, None)
        if guest is not None:
            self._addresses[guest.address] -= 1
            if not self._addresses[guest.address]:
                del self._addresses[guest.address]

    def late(self, now: float) -> list[int]:
        """Those whose greeting takes too long."""
        return [peer for peer, until in self._greeting.items() if until <= now]

    def deadline(self) -> float:
        """When the next of them will have taken too long; infinite without any."""
        return next(iter(self._greeting.values()), math.inf)
