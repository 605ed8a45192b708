"""What the target model has to do: which sessions wait for it, and the pass that is running. Pure."""

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from pipesd.session.budgets import Budgets
from pipesd.session.cloud import CloudSession
from pipesd.session.commands import RunPass
from pipesd.session.energy import shared_uj, spent_j
from pipesd.session.events import PassDone
from pipesd.session.passes import PassLimits, Share, collect
from pipesd.session.places import Places
from pipesd.session.rules import CloudRules
from pipesd.wire.frames import Verdict

_LOSSES_MAX = 5
"""In so many lost passes a session may be, without one that clears it, before it fails."""


class Work:
    """The sessions whose turn will come, and those in the pass."""

    def __init__(self, rules: CloudRules, chunk_tokens: int, budgets: Budgets) -> None:
        self._rules = rules
        self._budgets = budgets
        self._lacks_place = False
        """Whether one that could go on is only kept from it by the places that there are."""

        self._resting_until = math.inf
        """When the first may go on whose token has used up what it may; infinite if there is none."""

        self._due: dict[CloudSession, None] = {}
        """Sessions that wait for a pass, the longest waiting first."""

        self._riders: dict[CloudSession, None] = {}
        """Sessions that owe nothing but have drafts; kept if the policy looks at them."""

        self._pass: list[Share] | None = None
        self._pass_began = 0.0
        self._limits = PassLimits(
            tokens=rules.pass_tokens, prompt_tokens=chunk_tokens, sessions=rules.pass_sessions
        )
        self._alone_limits = replace(self._limits, prompt_tokens=max(rules.lone_prompt_tokens, chunk_tokens))
        self._places = Places(rules.kv_sequences, chunk_tokens)

    # -- what waits -------------------------------------------------------------------------------------

    @property
    def waiting(self) -> Collection[CloudSession]:
        """The sessions that wait for a pass."""
        return self._due.keys()

    @property
    def is_running(self) -> bool:
        """Whether a pass is running."""
        return self._pass is not None

    @property
    def unread_tokens(self) -> int:
        """How many tokens of texts wait to be read."""
        return sum(session.unread_tokens for session in self._due)

    def is_at_work_for(self, session: CloudSession) -> bool:
        """Whether it waits for a verdict, or is in the pass."""
        return session in self._due or any(share.session is session for share in self._pass or ())

    def note(self, session: CloudSession) -> None:
        """Something has changed in it."""
        if not session.is_due:
            self._due.pop(session, None)
        else:
            self._due.setdefault(session)
        if self._rules.verify != "on_request":
            if session.may_ride:
                self._riders.setdefault(session)
            else:
                self._riders.pop(session, None)

    def drop(self, session: CloudSession) -> int | None:
        """The session is over; the sequence that the engine may forget, if any."""
        self._due.pop(session, None)
        self._riders.pop(session, None)
        return self._places.leave(session)

    def deadline(self) -> float:
        """When a pass may be possible that is not now; infinite if something else must happen first."""
        if not self._due or self._pass is not None:
            return math.inf
        return min(self._places.next_free() if self._lacks_place else math.inf, self._resting_until)

    # -- passes -----------------------------------------------------------------------------------------

    def start(self, sessions: Iterable[CloudSession], now: float) -> RunPass | None:
        """The next pass, if there is anything to do; ``sessions`` are all there are."""
        if self._pass is not None or not (self._due or (self._riders and self._rules.verify == "eager")):
            return None
        limits = self._alone_limits if self._is_one_alone(sessions) else self._limits
        ready = list(self._ready(now))
        shares, evicted = collect(ready, limits, self._places, now)
        self._lacks_place = not shares and any(session.sequence is None for session in ready)
        if not shares:
            return None
        self._pass, self._pass_began = shares, now
        for share in shares:
            self._due.pop(share.session, None)
            self._riders.pop(share.session, None)
        return RunPass(tuple(part for share in shares for part in share.slices), evicted)

    def _ready(self, now: float) -> Iterator[CloudSession]:
        """Those whose tokens have not used up what they may."""
        self._resting_until = math.inf
        for session in (*self._due, *self._riders):
            ready_at = self._budgets.ready_at(session.owner, now)
            if ready_at <= now:
                yield session
            else:
                self._resting_until = min(self._resting_until, ready_at)

    def _is_one_alone(self, sessions: Iterable[CloudSession]) -> bool:
        """Whether a single session is written to, and waits: nobody minds how long a pass is."""
        if len(self._due) != 1 or self._riders:
            return False
        return all(session.is_idle for session in sessions if session not in self._due)

    def _end_pass(self) -> list[Share]:
        shares, self._pass = self._pass, None
        assert shares is not None, "the result of a pass that nobody started"
        return shares

    def settle(self, done: PassDone, now: float) -> list[tuple[CloudSession, Verdict]]:
        """The pass is done; what is to be said of it."""
        shares, last, said = self._end_pass(), -1, []
        spent = spent_j(done.energy_j, self._rules.busy_watts, now - self._pass_began)
        parts = shared_uj(spent, [sum(len(part.tokens) for part in share.slices) for share in shares])
        for share, energy_uj in zip(shares, parts, strict=True):
            last += len(share.slices)
            verdict = share.session.settle(done.picks[last], now, energy_uj)
            if verdict is not None:
                tokens = verdict.accepted + len(verdict.tokens)
                self._budgets.spend(share.session.owner, tokens, now)
                said.append((share.session, verdict))
            self.note(share.session)
        return said

    def begin_anew(self) -> list[CloudSession]:
        """The engine was started anew and holds nothing: what is owed is read again from the transcripts.

        Only a session that time after time was in a pass that was lost may be what it is lost for: those.
        """
        shares = self._end_pass()
        self._places.spoil_all()
        for share in shares:
            share.session.lose()
            self.note(share.session)
        return [share.session for share in shares if share.session.losses.count >= _LOSSES_MAX]

    def fail(self) -> tuple[list[CloudSession], list[int]]:
        """The pass has failed; the sessions in it, and the sequences that the engine is to forget."""
        shares = self._end_pass()
        for share in shares:
            self._places.spoil(share.sequence)
        return [share.session for share in shares], [share.sequence for share in shares]
