"""What toy engines remember of their sequences: a mark after each token, so that going back costs nothing.

Shared by the scripted and the replay engines. Steps on marks are instant and cannot be interrupted.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from pipesd.engines.base import TargetIdentity
from pipesd.errors import EngineError, UsageError
from pipesd.values import Slice

Mark = TypeVar("Mark")

_MASK = 2**64 - 1
_FACTOR = 0x9E3779B97F4A7C15
_TERM = 0xA4093822299F31D1


def rolled(context: int, token: int) -> int:
    """The 64-bit hash of a context after ``token``, from the hash before it."""
    mixed = ((context ^ token) * _FACTOR + _TERM) & _MASK
    return mixed ^ (mixed >> 32)


class Contexts(Generic[Mark]):
    """What an engine knows of each sequence after each of its tokens, so that going back costs nothing."""

    def __init__(self, empty: Mark, advance: Callable[[Mark, int], Mark], tokens_max: int) -> None:
        if tokens_max < 1:
            raise UsageError(f"context_tokens: must be at least 1, not {tokens_max}")
        self.tokens_max = tokens_max
        self._empty = empty
        self._advance = advance
        self._marks: dict[int, list[Mark]] = {}

    def length(self, sequence: int) -> int:
        """Tokens in it."""
        return len(self._of(sequence)) - 1

    def latest(self, sequence: int) -> Mark:
        """What is known after its last token."""
        return self._of(sequence)[-1]

    def truncate(self, sequence: int, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        assert length >= 0, "a negative length"
        del self._of(sequence)[length + 1 :]

    def extend(self, sequence: int, tokens: Sequence[int]) -> None:
        """Append ``tokens``. Raises ``EngineError`` if the context has no room for them."""
        marks = self._of(sequence)
        if len(marks) - 1 + len(tokens) > self.tokens_max:
            raise EngineError(
                f"a text of {len(marks) - 1 + len(tokens)} tokens does not fit the context of "
                f"{self.tokens_max}; shorten it, or raise context_tokens"
            )
        for token in tokens:
            marks.append(self._advance(marks[-1], token))

    def release(self, sequence: int) -> None:
        """Forget the sequence."""
        self._marks.pop(sequence, None)

    def evaluate(self, part: Slice) -> Iterator[tuple[int, Mark]]:
        """Do what ``Slice`` says; the position of each pick, and what is known of the text before it."""
        if part.copy_of is not None:
            self._marks[part.sequence] = list(self._of(part.copy_of))
        assert part.base <= self.length(part.sequence), "a slice beyond what the sequence holds"
        assert 0 <= part.picks <= len(part.tokens), "more picks than tokens"
        self.truncate(part.sequence, part.base)
        self.extend(part.sequence, part.tokens)
        marks = self._of(part.sequence)
        for number in range(part.picks):
            position = part.pick_position(number)
            yield position, marks[position]

    def _of(self, sequence: int) -> list[Mark]:
        marks = self._marks.get(sequence)
        if marks is None:
            marks = self._marks[sequence] = [self._empty]
        return marks


class ContextDraft(Generic[Mark]):
    """The part of a ``DraftEngine`` that looks after the sequences."""

    def __init__(self, contexts: Contexts[Mark]) -> None:
        self._contexts = contexts

    @property
    def context_tokens(self) -> int:
        """Most tokens a sequence can hold."""
        return self._contexts.tokens_max

    def truncate(self, sequence: int, length: int) -> None:
        """Forget all but the first ``length`` tokens; nothing happens if there are no more."""
        self._contexts.truncate(sequence, length)

    def extend(self, sequence: int, tokens: Sequence[int], *, prompt: bool = False) -> None:
        """Append ``tokens``, prompt or not. Raises ``EngineError`` if the context has no room for them."""
        self._contexts.extend(sequence, tokens)

    def release(self, sequence: int) -> None:
        """Forget the sequence."""
        self._contexts.release(sequence)

    def interrupt(self) -> None:
        """Nothing: a step is over before it could be stopped."""

    def close(self) -> None:
        """Nothing: what it holds is small."""


class ContextTarget(Generic[Mark]):
    """The part of a ``TargetEngine`` that looks after the sequences."""

    def __init__(self, contexts: Contexts[Mark], identity: TargetIdentity) -> None:
        """Raises ``UsageError`` for impossible chunks."""
        if identity.chunk_tokens < 1:
            raise UsageError(f"chunk_tokens: must be at least 1, not {identity.chunk_tokens}")
        self._contexts = contexts
        self._identity = identity

    @property
    def identity(self) -> TargetIdentity:
        """What decides the target path."""
        return self._identity

    def release(self, sequence: int) -> None:
        """Forget the sequence."""
        self._contexts.release(sequence)

    def interrupt(self) -> None:
        """Nothing: a pass is over before it could be stopped."""

    def close(self) -> None:
        """Nothing: what it holds is small."""
