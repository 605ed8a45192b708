"""Which tokens of a session are confirmed, drafted, sent, and asked for: the edge's books.

The law: every discard of drafts, sent or not, is a new epoch without asks. It happens in ``_discard`` and
nowhere else.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from pipesd.transcript import Transcript
from pipesd.values import Stretch


class Ledger:
    """One growing text as the edge knows it. ``validate`` states the invariants."""

    def __init__(self, chunk_tokens: int) -> None:
        self._text = Transcript(chunk_tokens)
        self.suffix: list[int] = []
        self.sent_tokens = 0
        self.epoch = 0
        self._asks: deque[int] = deque()

    @property
    def text(self) -> list[int]:
        """All confirmed tokens; to be read only."""
        return self._text.tokens

    @property
    def confirmed(self) -> int:
        """Every position below this equals the target path."""
        return len(self.text)

    @property
    def end(self) -> int:
        """Position behind the draft suffix: the next to be drafted."""
        return len(self.text) + len(self.suffix)

    @property
    def asks_pending(self) -> int:
        """How many asks are unanswered."""
        return len(self._asks)

    @property
    def awaiting(self) -> bool:
        """Whether the cloud owes a verdict."""
        return bool(self._asks)

    def stretches_from(self, position: int) -> Iterator[Stretch]:
        """Text and suffix from ``position`` on, as they are to be evaluated."""
        for span in self._text.spans_from(position):
            yield Stretch(tuple(self.text[span.start : span.end]), span.prompt)
        if drafts := tuple(self.suffix[max(0, position - self.confirmed) :]):
            yield Stretch(drafts, prompt=False)

    def prompt(self, base: int, tokens: tuple[int, ...]) -> int:
        """Cut the text to ``base``, append a prompt, and ask for the first token behind it.

        Returns up to which position an evaluation of the old text still holds.
        """
        assert base <= self.confirmed, "a prompt beyond the text"
        self._discard()
        still_valid = self._text.cut(base)
        self._text.append(tokens, prompt=True)
        self.ask(self.confirmed + 1)
        return still_valid

    def cancel(self) -> None:
        """Give up what is unverified and asked for."""
        self._discard()

    def draft(self, token: int) -> None:
        """Append a guess to the suffix."""
        self.suffix.append(token)

    def send_unsent(self) -> tuple[int, tuple[int, ...]]:
        """(position, tokens) of the drafts that now go on their way."""
        base = self.confirmed + self.sent_tokens
        tokens = tuple(self.suffix[self.sent_tokens :])
        self.sent_tokens = len(self.suffix)
        return base, tokens

    def ask(self, length: int) -> None:
        """Note that the cloud owes verdicts until its text is ``length`` long."""
        self._asks.append(length)

    def settle(self, accepted: int, tokens: tuple[int, ...]) -> int | None:
        """Confirm ``accepted`` drafts and the target's own ``tokens`` behind them.

        The suffix stays where it says the same; otherwise it is discarded, and the position of the first
        contradicted draft is returned.
        """
        assert accepted <= self.sent_tokens, "more accepted than sent"
        news = [*self.suffix[:accepted], *tokens]
        agreed = common_prefix(self.suffix, news)
        first_wrong = self.confirmed + agreed if agreed < min(len(self.suffix), len(news)) else None
        self._text.append(news, prompt=False)
        if first_wrong is not None:
            self._discard()
            return first_wrong
        del self.suffix[: len(news)]
        self.sent_tokens = max(0, self.sent_tokens - len(news))
        while self._asks and self._asks[0] <= self.confirmed:
            self._asks.popleft()
        return None

    def _discard(self) -> None:
        self.suffix.clear()
        self.sent_tokens = 0
        self._asks.clear()
        self.epoch += 1

    def validate(self) -> None:
        """Assert what must hold between any two events."""
        assert 0 <= self.sent_tokens <= len(self.suffix), "more sent than drafted"
        assert all(ask > self.confirmed for ask in self._asks), "an answered ask is still open"
        assert sorted(self._asks) == list(self._asks), "asks out of order"


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences share from their start."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (ours, theirs) in pairs if ours != theirs), min(len(left), len(right)))
