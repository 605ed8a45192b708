"""Which sessions are kept for edges that are away, and by what they are known when they come back.

A lease is sixteen bytes that nobody can guess who was not told them. It is good on any connection, and
belongs to the token that opened the session, if there are tokens.
"""

import math
from hashlib import blake2b

from pipesd.session.cloud import CloudSession

LEASE_BYTES = 16


class Leases:
    """The sessions by lease, and until when each is kept whose edge is away."""

    def __init__(self, key: bytes, keep_s: float) -> None:
        """``key`` is secret, and another one in every process; with ``keep_s`` 0 nothing is kept."""
        self._key = key
        self._keep_s = keep_s
        self._granted = 0
        self._sessions: dict[bytes, CloudSession] = {}
        self._parked: dict[CloudSession, float] = {}
        """Until when each is kept; the one parked longest ago comes first."""

    def grant(self, session: CloudSession) -> bytes:
        """A lease for a new session; empty if nothing is kept."""
        if self._keep_s > 0:
            self._granted += 1
            number = self._granted.to_bytes(8, "big")
            session.lease = blake2b(number, key=self._key, digest_size=LEASE_BYTES, person=b"lease").digest()
            self._sessions[session.lease] = session
        return session.lease

    def find(self, lease: bytes, owner: str) -> CloudSession | None:
        """The session of that lease, if it is the owner's; its edge need not be known to be away."""
        session = self._sessions.get(lease)
        return session if session is not None and session.owner == owner else None

    def park(self, session: CloudSession, now: float) -> bool:
        """Keep it for a while; False if it has no lease."""
        if not session.lease:
            return False
        self._parked[session] = now + self._keep_s
        return True

    def is_parked(self, session: CloudSession) -> bool:
        """Whether its edge is away."""
        return session in self._parked

    def unpark(self, session: CloudSession) -> None:
        """Its edge is back."""
        self._parked.pop(session, None)

    def forget(self, session: CloudSession) -> None:
        """The session is over."""
        self._parked.pop(session, None)
        self._sessions.pop(session.lease, None)

    def oldest(self, owner: str | None = None) -> CloudSession | None:
        """The session whose edge, or that one of ``owner``, has been away longest."""
        return next((each for each in self._parked if owner is None or each.owner == owner), None)

    def expired(self, now: float) -> list[CloudSession]:
        """Those that were kept long enough."""
        return [session for session, until in self._parked.items() if until <= now]

    def deadline(self) -> float:
        """When the next one will have been; infinite without any."""
        return next(iter(self._parked.values()), math.inf)
