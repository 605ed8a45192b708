"""What an engine must offer. ``tests/contracts`` holds the check that every engine passes.

Engines are synchronous and not thread-safe: they are entered through ``actors.compute`` only, one call at a
time. ``interrupt`` alone may be called from another thread while a call runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pipesd.values import Proposal, Sampling, Slice
from pipesd.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetIdentity:
    """What decides the target path besides prompt, sampling and seed; announced in ``Welcome``."""

    model: str
    engine: str
    numerics: Literal["exact", "fast"]
    context_tokens: int
    chunk_tokens: int
    begin_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    """The tokens that end an answer, the model's own first."""

    control_ids: tuple[int, ...] = ()
    """Tokens that steer the model and are never shown; the end ids need not be among them."""

    template: str = ""
    greedy_only: bool = False
    """Whether sampling with temperature is refused."""


class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The bytes of every token."""

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of ``text``, without begin-of-text ids. Raises ``UsageError`` if it cannot be encoded.

        Only with ``special`` a control token's text, such as ``<|im_end|>``, becomes that token.
        """


class DraftEngine(Protocol):
    """Guesses tokens. Sequences are numbered by the caller and start empty; they need no opening."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The draft model's own."""

    @property
    def context_tokens(self) -> int:
        """Most tokens a sequence can hold."""

    def truncate(self, sequence: int, length: int) -> None:
        """Forget all but the first ``length`` tokens; nothing happens if there are no more."""

    def extend(self, sequence: int, tokens: Sequence[int], *, prompt: bool = False) -> None:
        """Append ``tokens``; ``prompt`` as in ``Stretch``. May raise ``InterruptedStepError``."""

    def propose(self, sequence: int, sampling: Sampling, seed: int) -> Proposal:
        """The next token as the model would pick it with the shared noise; does not advance.

        The sequence must not be empty. May raise ``InterruptedStepError``.
        """

    def release(self, sequence: int) -> None:
        """Forget the sequence."""

    def interrupt(self) -> None:
        """Ask the call in flight to stop soon; without one, nothing happens. Callable from any thread."""

    def close(self) -> None:
        """Give the memory back. Nothing but ``interrupt`` may be called afterwards."""


class TargetEngine(Protocol):
    """Says what the text is."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The target model's own."""

    @property
    def identity(self) -> TargetIdentity:
        """What decides the target path."""

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        """Evaluate the slices in order, as one pass; the picks of each (see ``Slice``).

        A sequence may occur several times. Raises ``EngineError`` if the model fails; the caches of the
        sequences involved are then undefined.
        """

    def release(self, sequence: int) -> None:
        """Forget the sequence."""

    def interrupt(self) -> None:
        """Ask the pass in flight to fail soon; without one, nothing happens. Callable from any thread."""

    def close(self) -> None:
        """Give the memory back. Nothing but ``interrupt`` may be called afterwards."""
