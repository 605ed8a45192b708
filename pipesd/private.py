"""What the draft model says alone, of which nothing leaves the device.

No link is in reach here: there is an engine, the door to it, and a sequence that nobody else uses.
"""

from collections.abc import Sequence
from functools import partial

from pipesd.actors.compute import Compute
from pipesd.actors.token_stream import Told
from pipesd.engines.base import DraftEngine
from pipesd.errors import InterruptedStepError, UsageError
from pipesd.session.commands import FinishGeneration, GenerationStats
from pipesd.session.events import PromptGiven
from pipesd.transcript import common_prefix
from pipesd.values import Finish

_CHUNK_TOKENS = 64
"""Read at once of a prompt, so that the drafts of other sessions come between."""


class PrivateText:
    """A text that only the draft model continues, answer by answer."""

    def __init__(self, engine: DraftEngine, compute: Compute, sequence: int, end_ids: frozenset[int]) -> None:
        self._engine = engine
        self._compute = compute
        self.sequence = sequence
        self._end_ids = end_ids
        self._cached: list[int] = []
        """What the sequence begins with."""

        self._newest: PrivateStream | None = None

    def answer(self, text: Sequence[int], wish: PromptGiven) -> "PrivateStream":
        """The answer behind ``text``, which ends with the prompt of ``wish``; one before it is over."""
        del self._cached[common_prefix(self._cached, text[:-1]) :]
        self._newest = PrivateStream(self, text, wish)
        return self._newest

    def end(self, stream: "PrivateStream | None" = None) -> None:
        """Nobody reads that answer any more, or any."""
        if stream in (None, self._newest):
            self._newest = None

    async def next_token(self, stream: "PrivateStream", text: Sequence[int], wish: PromptGiven) -> int:
        """What follows ``text``. Raises ``EngineError``, and ``UsageError`` if there is a newer answer."""
        while stream is self._newest:
            start = len(self._cached)
            end = min(start + _CHUNK_TOKENS, len(text))
            step = partial(self._step, text, start, end, wish)
            try:
                token = await self._compute.run(step, int(end == len(text)))
            except InterruptedStepError:
                continue  # it was meant for a draft of another session
            if stream is not self._newest:
                break
            self._cached += text[start:end]
            if token is not None:
                return token
        raise UsageError("a newer prompt took the session over; read one answer at a time")

    def _step(self, text: Sequence[int], start: int, end: int, wish: PromptGiven) -> int | None:
        """Read from ``start`` to ``end``, and give the next token if that is the end of ``text``."""
        is_prompt = start < wish.base + len(wish.tokens)
        self._engine.truncate(self.sequence, start)
        self._engine.extend(self.sequence, text[start:end], prompt=is_prompt)
        if end < len(text):
            return None
        return self._engine.propose(self.sequence, wish.sampling, wish.seed).token

    def why_over(self, text: Sequence[int], said: int, wish: PromptGiven) -> Finish | None:
        """Whether, and why, an answer of ``said`` tokens, with which ``text`` ends, is complete."""
        if text[-1] in self._end_ids:
            return "stop"
        if said == wish.tokens_max:
            return "length"
        return "context" if len(text) == self._engine.context_tokens else None


class PrivateStream:
    """The tokens of one answer, each made when it is asked for; it is read as a ``TokenStream`` is."""

    def __init__(self, owner: PrivateText, text: Sequence[int], wish: PromptGiven) -> None:
        self._owner = owner
        self._text = list(text)
        self._wish = wish
        self._said = 0
        self.finish: FinishGeneration | None = None
        """How the answer ended, once it has."""

    def cancel(self) -> None:
        """Nobody reads it any more."""
        self._owner.end(self)
        if self.finish is None:
            self._finish(None)

    async def next(self) -> Told:
        """The next token; none at the end. Raises ``UsageError`` or ``EngineError``."""
        if self.finish is not None:
            return Told((), preview=False)
        token = await self._owner.next_token(self, self._text, self._wish)
        self._text.append(token)
        self._said += 1
        reason = self._owner.why_over(self._text, self._said, self._wish)
        if reason is not None:
            self._finish(reason)
        return Told((token,), preview=False)

    def _finish(self, reason: Finish | None) -> None:
        stats = GenerationStats(tokens=self._said, drafted=self._said)
        self.finish = FinishGeneration(self._wish.session, reason, stats)
