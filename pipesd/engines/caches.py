"""Many sequences in the caches of one model, and the draft and the target engine that follow from them.

What a model must offer is ``Calls``: to evaluate some tokens in one call. Sequences share a number of slots.
One that lost its slot to another keeps its tokens here, and is evaluated anew, in the same stretches, when
its turn comes. Going back is a cut of the cache, never a saved state.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipesd import coupling
from pipesd.engines.base import TargetIdentity, Tokenizer
from pipesd.engines.slots import Slots
from pipesd.errors import EngineError
from pipesd.values import Proposal, Sampling, Slice, Stretch

Numerics = Literal["exact", "fast"]

Logits = NDArray[np.float32]
Take = Callable[[Logits], None]
"""Is handed the logits behind a token, as a view that is gone afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much caches are to hold, and how the model works."""

    context_tokens: int
    """Most tokens of one sequence; the model may have been trained on fewer."""

    chunk_tokens: int
    """Most tokens of one prompt chunk; a longer one is cut."""

    slots: int
    """How many sequences have their cache in memory at once."""

    threads: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One token to evaluate: where it goes, and whether its logits are wanted."""

    token: int
    position: int
    slot: int
    wanted: bool


class Calls(Protocol):
    """A model with its slots."""

    @property
    def tokens_max(self) -> int:
        """Most tokens in a slot."""

    @property
    def call_tokens(self) -> int:
        """Most output tokens for one ``evaluate``."""

    def evaluate(self, cells: Sequence[Cell]) -> None:
        """One call, of at most ``call_tokens`` tokens or a prompt chunk.

        Raises ``InterruptedStepError`` or ``EngineError``; the slots then hold any part of the cells.
        """

    def logits(self, index: int) -> Logits:
        """Behind cell ``index`` of the last call, shape (vocabulary,). A view: gone with the next call."""

    def cut(self, slot: int, length: int) -> None:
        """Forget all but the first ``length`` tokens of a slot."""

    def copy(self, source: int, slot: int, length: int) -> None:
        """Give ``slot`` the first ``length`` tokens of another, in place of what it holds."""

    def allow(self) -> None:
        """Take back an ``interrupt``."""

    def interrupt(self) -> None:
        """Make the call in flight, and those after it, fail soon; until ``allow``. From any thread."""

    def close(self) -> None:
        """Give the memory of the caches back; only ``interrupt`` may follow."""


class Caches:
    """The sequences of one model. What ``append`` takes in is evaluated by ``flush`` at the latest."""

    def __init__(self, calls: Calls, *, slots: int, chunk_tokens: int) -> None:
        self.tokens_max = calls.tokens_max
        """Of one sequence."""

        self._calls = calls
        self._chunk_tokens = chunk_tokens
        self._slots = Slots(slots)
        self._queue: list[tuple[Cell, Take | None]] = []
        self._first_queued: dict[int, int] = {}
        """For each sequence with tokens that are not evaluated yet, the position of the first."""

        self._busy = False
        self._busy_lock = threading.Lock()

    def length(self, sequence: int) -> int:
        """Tokens in it."""
        return self._slots.length(sequence)

    def truncate(self, sequence: int, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        if self._slots.length(sequence) <= length:
            return
        if sequence in self._first_queued:
            self.flush()
        self._slots.truncate(sequence, length)
        slot = self._slots.slot(sequence)
        if slot is not None:
            self._calls.cut(slot, length)

    def copy(self, source: int, sequence: int, length: int) -> None:
        """Let ``sequence`` be the first ``length`` tokens of ``source``. Raises as ``append`` does."""
        self.flush()
        stretches = self._slots.prefix(source, length)
        self.release(sequence)
        slot, _ = self._slots.take(sequence) or (None, True)
        assert slot is not None, "no slot, though none is busy"
        for stretch in stretches:
            self._slots.append(sequence, stretch.tokens, prompt=stretch.prompt)
        held_by = self._slots.slot(source)
        if held_by is None:
            self._fill(sequence, slot, 0, stretches, None)
        else:
            self._calls.copy(held_by, slot, length)

    def append(self, sequence: int, tokens: Sequence[int], *, prompt: bool, takes: Sequence[Take]) -> None:
        """Add ``tokens``, a prompt chunk or output; ``takes`` are for the last so many of them.

        Raises ``EngineError`` or ``InterruptedStepError``.
        """
        start = self._slots.length(sequence)
        if start + len(tokens) > self.tokens_max:
            raise EngineError(
                f"a text of {start + len(tokens)} tokens does not fit the model's context of "
                f"{self.tokens_max}; shorten it, or raise context_tokens"
            )
        slot = self._slot_of(sequence)
        self._first_queued.setdefault(sequence, start)
        self._slots.append(sequence, tokens, prompt=prompt)
        unseen: list[Take | None] = [None] * (len(tokens) - len(takes))
        self._enqueue(sequence, slot, start, Stretch(tuple(tokens), prompt), [*unseen, *takes])

    def flush(self) -> None:
        """Evaluate what is queued. Raises as ``append`` does."""
        if self._queue:
            self._calls.evaluate([cell for cell, _ in self._queue])
        queue, self._queue = self._queue, []
        self._first_queued.clear()
        for index, (_, take) in enumerate(queue):
            if take is not None:
                take(self._calls.logits(index))

    def look_again(self, sequence: int, take: Take) -> None:
        """Evaluate its last token once more, or the prompt chunk it ends with. Raises as ``append`` does."""
        slot = self._slot_of(sequence)
        last = self._slots.stretches(sequence)[-1]
        again = last if last.prompt else Stretch(last.tokens[-1:], prompt=False)
        self._fill(sequence, slot, self.length(sequence) - len(again.tokens), [again], take)

    def release(self, sequence: int) -> None:
        """Forget it."""
        slot = self._slots.release(sequence)
        if slot is not None:
            self._calls.cut(slot, 0)

    @contextmanager
    def working(self) -> Iterator[None]:
        """What the block does may be interrupted. If it fails, tokens not evaluated are taken back."""
        with self._busy_lock:
            self._calls.allow()
            self._busy = True
        try:
            yield
            self.flush()
        except BaseException:
            self._take_back()
            raise
        finally:
            with self._busy_lock:
                self._busy = False

    def interrupt(self) -> None:
        """Make the block in ``working`` fail soon; without one, nothing happens. From any thread."""
        with self._busy_lock:
            if self._busy:
                self._calls.interrupt()

    def close(self) -> None:
        """Free them; only ``interrupt`` may follow."""
        self._calls.close()

    def _slot_of(self, sequence: int) -> int:
        """Its slot, filled."""
        taken = self._slots.take(sequence, busy=self._first_queued)
        if taken is None:
            self.flush()
            taken = self._slots.take(sequence)
            assert taken is not None, "no slot, though none is busy"
        slot, is_new = taken
        if is_new and self._slots.length(sequence) == 0:
            self._calls.cut(slot, 0)
        elif is_new:
            self._fill(sequence, slot, 0, self._slots.stretches(sequence), None)
        return slot

    def _fill(
        self, sequence: int, slot: int, start: int, stretches: Sequence[Stretch], take: Take | None
    ) -> None:
        """Evaluate anew, from ``start`` on, what is known of a sequence; ``take`` is for its last token."""
        try:
            self.flush()
            self._calls.cut(slot, start)
            for stretch in stretches:
                is_last = stretch is stretches[-1]
                unseen: list[Take | None] = [None] * (len(stretch.tokens) - 1)
                self._enqueue(None, slot, start, stretch, [*unseen, take if is_last else None])
                start += len(stretch.tokens)
            self.flush()
        except BaseException:
            self._queue.clear()
            self._slots.vacate(sequence)
            raise

    def _enqueue(
        self, sequence: int | None, slot: int, start: int, stretch: Stretch, takes: Sequence[Take | None]
    ) -> None:
        begins = range(start, start + len(stretch.tokens), self._chunk_tokens) if stretch.prompt else ()
        for position, (token, take) in enumerate(zip(stretch.tokens, takes, strict=True), start):
            is_full = not stretch.prompt and len(self._queue) == self._calls.call_tokens
            if is_full or position in begins:
                self.flush()
                if sequence is not None:
                    self._first_queued[sequence] = position
            self._queue.append((Cell(token, position, slot, take is not None), take))
        if stretch.prompt:
            self.flush()

    def _take_back(self) -> None:
        self._queue.clear()
        for sequence, first in self._first_queued.items():
            self._slots.truncate(sequence, first)
            slot = self._slots.slot(sequence)
            if slot is not None:
                self._calls.cut(slot, first)
        self._first_queued.clear()


class CachedTarget:
    """A target model. Interrupted or failed passes leave the sequences in them undefined."""

    def __init__(self, caches: Caches, tokenizer: Tokenizer, identity: TargetIdentity) -> None:
        self._caches = caches
        self.tokenizer = tokenizer
        """The model's own."""

        self.identity = identity
        """What decides the target path."""

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        """Evaluate the slices in order; see ``TargetEngine``."""
        picks = [[0] * part.picks for part in slices]
        with self._caches.working():
            for part, found in zip(slices, picks, strict=True):
                assert 0 <= part.picks <= len(part.tokens), "more picks than tokens"
                if part.copy_of is not None:
                    self._caches.copy(part.copy_of, part.sequence, part.base)
                assert part.base <= self._caches.length(part.sequence), "a slice beyond its sequence"
                self._caches.truncate(part.sequence, part.base)
                takes = [partial(_pick, found, number, part) for number in range(part.picks)]
                self._caches.append(part.sequence, part.tokens, prompt=part.prompt, takes=takes)
        return [tuple(found) for found in picks]

    def release(self, sequence: int) -> None:
        """Forget the sequence."""
        self._caches.release(sequence)

    def interrupt(self) -> None:
        """Ask the pass in flight to fail soon; without one, nothing happens. From any thread."""
        self._caches.interrupt()

    def close(self) -> None:
        """Give the memory of the caches back."""
        self._caches.close()


def _pick(found: list[int], number: int, part: Slice, logits: Logits) -> None:
    found[number] = coupling.pick(logits, part.sampling, part.seed, part.pick_position(number))


class CachedDraft:
    """A draft model."""

    def __init__(self, caches: Caches, tokenizer: Tokenizer) -> None:
        self._caches = caches
        self._behind: dict[int, tuple[int, Logits]] = {}
        """Of each sequence, a length, and the logits behind its last token then."""

        self.tokenizer = tokenizer
        """The model's own."""

    @property
    def context_tokens(self) -> int:
        """Most tokens a sequence can hold."""
        return self._caches.tokens_max

    def truncate(self, sequence: int, length: int) -> None:
        """Forget all but the first ``length`` tokens; nothing happens if there are no more."""
        self._caches.truncate(sequence, length)
        if self._caches.length(sequence) < self._behind.get(sequence, (0,))[0]:
            del self._behind[sequence]

    def extend(self, sequence: int, tokens: Sequence[int], *, prompt: bool = False) -> None:
        """Append and evaluate ``tokens``. Raises ``EngineError`` or ``InterruptedStepError``."""
        if tokens:
            take = self._take_behind(sequence, self._caches.length(sequence) + len(tokens))
            with self._caches.working():
                self._caches.append(sequence, tokens, prompt=prompt, takes=[take])

    def propose(self, sequence: int, sampling: Sampling, seed: int) -> Proposal:
        """The next token; see ``DraftEngine``. Raises as ``extend`` does."""
        length = self._caches.length(sequence)
        assert length > 0, "nothing can follow an empty text"
        if self._behind.get(sequence, (0,))[0] != length:
            with self._caches.working():
                self._caches.look_again(sequence, self._take_behind(sequence, length))
        return coupling.propose(self._behind[sequence][1], sampling, seed, length)

    def release(self, sequence: int) -> None:
        """Forget the sequence."""
        self._behind.pop(sequence, None)
        self._caches.release(sequence)

    def interrupt(self) -> None:
        """Ask the call in flight to stop soon; without one, nothing happens. From any thread."""
        self._caches.interrupt()

    def close(self) -> None:
        """Give the memory of the caches back."""
        self._caches.close()

    def _take_behind(self, sequence: int, length: int) -> Take:
        def take(logits: Logits) -> None:
            self._behind[sequence] = length, logits.copy()

        return take
