"""Which tokens of a session are confirmed, drafted, sent, and asked for: the edge's books.

The law: every discard of drafts, sent or not, is a new epoch without asks. It happens in ``_discard`` and
nowhere else.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from pipesd.transcript import Segment, Transcript, common_prefix
from pipesd.values import Stretch


class Ledger:
    """One growing text as the edge knows it. ``validate`` states the invariants."""

    def __init__(self, chunk_tokens: int) -> None:
        self._text = Transcript(chunk_tokens)
        self.text = self._text.tokens
        """All confirmed tokens; to be read only."""

        self.suffix: list[int] = []
        self.sent_tokens = 0
        self.epoch = 0
        self.asks: deque[int] = deque()
        """Positions up to which the cloud owes verdicts, in order; to be read only."""

        self.confirmed = 0
        """Every position below this equals the target path."""

        self.end = 0
        """Position behind the draft suffix: the next to be drafted."""

    @property
    def last_ask(self) -> int:
        """The furthest position that is asked for; 0 if nothing is."""
        return self.asks[-1] if self.asks else 0

    @property
    def sent_end(self) -> int:
        """Position behind the last draft that has left."""
        return self.confirmed + self.sent_tokens

    def stretches_from(self, position: int) -> Iterator[Stretch]:
        """Text and suffix from ``position`` on, as they are to be evaluated."""
        if position >= self.confirmed:
            if position < self.end:
                yield Stretch(tuple(self.suffix[position - self.confirmed :]), prompt=False)
            return
        for span in self._text.spans_from(position):
            yield Stretch(tuple(self.text[span.start : span.end]), span.prompt)
        if self.suffix:
            yield Stretch(tuple(self.suffix), prompt=False)

    def prompt(self, base: int, tokens: tuple[int, ...]) -> int:
        """Cut the text to ``base``, and append a prompt.

        Returns up to which position an evaluation of the old text still holds.
        """
        assert base <= self.confirmed, "a prompt beyond the text"
        self._discard()
        still_valid = self._text.cut(base)
        self._text.append(tokens, prompt=True)
        self.confirmed = self.end = len(self.text)
        return still_valid

    def cancel(self) -> None:
        """Give up what is unverified and asked for."""
        self._discard()

    def unsend(self) -> None:
        """Nothing of what was sent and asked for counts any more; the drafts stay, to be sent again."""
        kept = self.suffix[:]
        self._discard()
        self.suffix += kept
        self.end += len(kept)

    def segments(self) -> tuple[Segment, ...]:
        """The confirmed text, for a cloud that does not have it."""
        return self._text.segments()

    def draft(self, token: int) -> None:
        """Append a guess to the suffix."""
        self.suffix.append(token)
        self.end += 1

    def send(self, count: int) -> tuple[int, tuple[int, ...]]:
        """(position, tokens) of the next ``count`` drafts, which now go on their way."""
        sent = self.sent_tokens
        tokens = tuple(self.suffix[sent : sent + count])
        self.sent_tokens = sent + len(tokens)
        return self.confirmed + sent, tokens

    def ask(self, length: int) -> None:
        """Note that the cloud owes verdicts until its text is ``length`` long."""
        self.asks.append(length)

    def settle(self, accepted: int, tokens: tuple[int, ...]) -> int | None:
        """Confirm ``accepted`` drafts and the target's own ``tokens`` behind them.

        The suffix stays where it says the same; otherwise it is discarded, and the position of the first
        contradicted draft is returned.
        """
        assert accepted <= self.sent_tokens, "more accepted than sent"
        suffix, base = self.suffix, self.confirmed
        news = [*suffix[:accepted], *tokens]
        count = len(news)
        self._text.append(news, prompt=False)
        self.confirmed = base + count
        if suffix:
            judged = suffix[:count]
            if judged != news[: len(judged)]:
                self._discard()
                return base + common_prefix(judged, news)
            del suffix[:count]
            self.sent_tokens = max(0, self.sent_tokens - count)
        self.end = self.confirmed + len(suffix)
        while self.asks and self.asks[0] <= self.confirmed:
            self.asks.popleft()
        return None

    def _discard(self) -> None:
        self.suffix.clear()
        self.sent_tokens = 0
        self.end = self.confirmed
        self.asks.clear()
        self.epoch += 1

    def validate(self) -> None:
        """Assert what must hold between any two events."""
        assert self.confirmed == len(self.text), "the count of confirmed tokens is off"
        assert self.end == self.confirmed + len(self.suffix), "the end of the suffix is off"
        assert 0 <= self.sent_tokens <= len(self.suffix), "more sent than drafted"
        assert all(ask > self.confirmed for ask in self.asks), "an answered ask is still open"
        assert sorted(self.asks) == list(self.asks), "asks out of order"


def first_of(ids: frozenset[int], tokens: Sequence[int]) -> int:
    """Where the first of ``ids`` is among ``tokens``; how many tokens there are if none is."""
    if ids.isdisjoint(tokens):
        return len(tokens)
    return next(at for at, token in enumerate(tokens) if token in ids)
