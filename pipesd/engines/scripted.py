"""Toy models that need nothing: deterministic, cheap, and right for tests, demos and benchmarks.

The law of this file: the target's logits are a pure function of its seed and of the whole context, so one
wrong token in the context changes all that follows. Steps are instant and cannot be interrupted.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipesd import coupling
from pipesd.engines.base import TargetIdentity, Tokenizer
from pipesd.engines.contexts import ContextDraft, Contexts, ContextTarget, rolled
from pipesd.errors import UsageError
from pipesd.values import Proposal, Sampling, Slice
from pipesd.vocabulary import Vocabulary

_TEXT = """
the of and to in is it on as at by we he she you they this that from with have not but what when will more one
two all out up so some time day way new good old great long little own other see come think look want give use
find tell ask work seem feel try leave call water light stone
"""
WORDS = tuple(f" {word}" for word in _TEXT.split())
FIRST_WORD_ID = 256
END_ID = FIRST_WORD_ID + len(WORDS)
ENDS_EVERY = 200

_PIECES = (*(bytes([byte]) for byte in range(FIRST_WORD_ID)), *(word.encode() for word in WORDS), b"")

_SURENESS = (0.3, 0.36, 0.43, 0.5, 0.57, 0.65, 0.73, 0.8, 0.86, 0.91, 0.95, 0.97, 0.985, 0.993, 0.997, 0.999)
"""How likely the likeliest token is; each equally often."""

_DECAY = 0.6
"""Each further token is so much less likely; the second stays below the first at every sureness."""


def _distributions() -> NDArray[np.float64]:
    sure = np.array(_SURENESS)[:, None]
    rest = (1.0 - sure) * (1.0 - _DECAY) * _DECAY ** np.arange(len(WORDS) - 1)
    chances = np.hstack([sure, rest])
    return np.asarray(chances / chances.sum(axis=1, keepdims=True), dtype=np.float64)


_CHANCES = _distributions()
_LOGITS = np.log(_CHANCES)
_CONFIDENCES = tuple(float(chance) for chance in _CHANCES[:, 0])
_WORD_NUMBERS = np.arange(len(WORDS))

_TARGET_KEY = 0x243F6A8885A308D3
_DRAFT_KEY = 0x13198A2E03707344


class _Opinion(NamedTuple):
    """A distribution over words, as four small numbers.

    Word w is as likely as rank (w - favourite) * stride modulo the number of words. That number is a power
    of two and stride is odd, so each word has a rank of its own, and rank 0, the likeliest, is the favourite.
    """

    favourite: int
    stride: int
    sureness: int
    ends: bool
    """Whether the end id stands in the favourite's place."""

    @property
    def likeliest(self) -> int:
        return END_ID if self.ends else FIRST_WORD_ID + self.favourite

    def logits(self) -> NDArray[np.float64]:
        logits = np.full(len(_PIECES), -np.inf)
        ranks = (_WORD_NUMBERS - self.favourite) * self.stride % len(WORDS)
        logits[FIRST_WORD_ID:END_ID] = _LOGITS[self.sureness][ranks]
        if self.ends:
            favourite = FIRST_WORD_ID + self.favourite
            logits[[favourite, END_ID]] = logits[[END_ID, favourite]]
        return logits

    def propose(self, sampling: Sampling, seed: int, position: int) -> Proposal:
        if sampling.greedy:  # the same as below up to rounding, without the arrays
            return Proposal(self.likeliest, _CONFIDENCES[self.sureness])
        return coupling.propose(self.logits(), sampling, seed, position)

    def pick(self, sampling: Sampling, seed: int, position: int) -> int:
        if sampling.greedy:
            return self.likeliest
        return coupling.pick(self.logits(), sampling, seed, position)

    def altered(self, dice: int) -> "_Opinion":
        """Another favourite, less sure; the old one comes second. Uses 8 bits of ``dice``."""
        step = (dice & 31) * 2 + 1
        second = pow(-step, -1, len(WORDS))
        return _Opinion((self.favourite + step) % len(WORDS), second, dice >> 5 & 7, ends=False)


class _Script:
    """The target's opinion on every context, which a context's hash stands for."""

    def __init__(self, seed: int, ends_every: int) -> None:
        if not 0 <= seed < 2**63:
            raise UsageError(f"script_seed: must be at least 0 and below 2**63, not {seed}")
        if ends_every < 0:
            raise UsageError(f"ends_every: must be a number of tokens, or 0 for never, not {ends_every}")
        self.empty = rolled(0, seed)
        self._ends_every = ends_every

    def opinion(self, context: int) -> _Opinion:
        dice = _dice(context, _TARGET_KEY)
        ends = self._ends_every > 0 and (dice >> 15) % self._ends_every == 0
        return _Opinion(dice & 63, dice >> 5 & 62 | 1, dice >> 11 & 15, ends)


def _dice(context: int, key: int) -> int:
    return rolled(rolled(context, key), key)


def scripted_identity(model: str, context_tokens: int, chunk_tokens: int) -> TargetIdentity:
    """Who a scripted model that decides a text is."""
    return TargetIdentity(
        model=model,
        engine="scripted",
        numerics="exact",
        context_tokens=context_tokens,
        chunk_tokens=chunk_tokens,
        begin_ids=(),
        end_ids=(END_ID,),
    )


class ScriptedTokenizer:
    """Bytes, some English words, and an end id. Text is encoded as its UTF-8 bytes."""

    def __init__(self) -> None:
        self._vocabulary = Vocabulary(_PIECES)

    @property
    def vocabulary(self) -> Vocabulary:
        """Ids 0 … 255 are bytes, then come words with a leading space, and last the end id."""
        return self._vocabulary

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The UTF-8 bytes of ``text``; none is ``special``. Raises ``UsageError`` if it has none."""
        try:
            return list(text.encode())
        except UnicodeEncodeError as error:
            raise UsageError(
                f"the text has half a surrogate pair at character {error.start}, which is no character; "
                "take it out"
            ) from None


class ScriptedTarget(ContextTarget[int]):
    """Says words; which ones depends on every token before."""

    def __init__(
        self,
        seed: int = 0,
        *,
        context_tokens: int = 4_096,
        chunk_tokens: int = 512,
        ends_every: int = ENDS_EVERY,
    ) -> None:
        """``ends_every``: the end id comes about once in so many tokens; 0 is never.

        Raises ``UsageError`` for impossible values.
        """
        self._script = _Script(seed, ends_every)
        contexts = Contexts(self._script.empty, rolled, context_tokens)
        self._tokenizer = ScriptedTokenizer()
        model = f"scripted, seed {seed}, ends every {ends_every}"
        super().__init__(contexts, scripted_identity(model, context_tokens, chunk_tokens))

    @property
    def tokenizer(self) -> Tokenizer:
        """Bytes and words."""
        return self._tokenizer

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        """The picks of each slice. Raises ``EngineError`` if a text does not fit the context."""
        return [
            tuple(
                self._script.opinion(context).pick(part.sampling, part.seed, position)
                for position, context in self._contexts.evaluate(part)
            )
            for part in slices
        ]


class ScriptedDraft(ContextDraft[int]):
    """Guesses what the scripted target of the same seed says, and is sometimes wrong."""

    def __init__(
        self,
        seed: int = 0,
        *,
        agreement: float = 0.85,
        context_tokens: int = 4_096,
        ends_every: int = ENDS_EVERY,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """``agreement``: share of contexts with the target's own logits; elsewhere the greedy pick differs.

        ``tokenizer``: instead of ``ScriptedTokenizer``. Raises ``UsageError`` for impossible values.
        """
        if not 0.0 <= agreement <= 1.0:
            raise UsageError(f"agreement: must be between 0 and 1, not {agreement}")
        self._agreement = agreement
        self._script = _Script(seed, ends_every)
        super().__init__(Contexts(self._script.empty, rolled, context_tokens))
        self._tokenizer = tokenizer or ScriptedTokenizer()

    @property
    def tokenizer(self) -> Tokenizer:
        """Bytes and words, or what was given."""
        return self._tokenizer

    def propose(self, sequence: int, sampling: Sampling, seed: int) -> Proposal:
        """The next token; does not advance."""
        position = self._contexts.length(sequence)
        assert position > 0, "a guess without a text"
        return self._opinion(self._contexts.latest(sequence)).propose(sampling, seed, position)

    def _opinion(self, context: int) -> _Opinion:
        opinion = self._script.opinion(context)
        dice = _dice(context, _DRAFT_KEY)
        agrees = (dice >> 11) * 2.0**-53 < self._agreement
        return opinion if agrees else opinion.altered(dice)
