"""Which tokens of a session are confirmed, drafted, sent, and asked for: the edge's books.

The law: every discard of drafts, sent or not, is a new epoch without asks. It happens in ``_discard`` and
nowhere else.
"""

from collections import deque
from collections.abc import Sequence


class Ledger:
    """One growing text as the edge knows it. ``validate`` states the invariants."""

    def __init__(self) -> None:
        self.text: list[int] = []
        self.suffix: list[int] = []
        self.sent_tokens = 0
        self.epoch = 0
        self._asks: deque[int] = deque()

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

    def tokens_from(self, position: int) -> tuple[int, ...]:
        """Text and suffix from ``position`` on."""
        if position >= self.confirmed:
            return tuple(self.suffix[position - self.confirmed :])
        return (*self.text[position:], *self.suffix)

    def prompt(self, base: int, tokens: tuple[int, ...]) -> None:
        """Cut the text to ``base``, append a prompt, and ask for the first token behind it."""
        assert base <= self.confirmed, "a prompt beyond the text"
        self._discard()
        del self.text[base:]
        self.text += tokens
        self.ask(self.confirmed + 1)

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
        self.text += news
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
