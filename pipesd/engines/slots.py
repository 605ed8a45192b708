"""Which sequences have their cache in one of a few slots, and what each of them consists of.

Pure. A sequence that lost its slot to another is remembered as the stretches it was evaluated in, so that it
can be evaluated anew in the same way, which exact numerics need.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field

from pipesd.values import Stretch


@dataclass(slots=True)
class _Text:
    slot: int | None = None
    stretches: list[Stretch] = field(default_factory=list)
    length: int = 0


class Slots:
    """Sequences are numbered by the caller and start empty; they need no opening."""

    def __init__(self, count: int) -> None:
        assert count > 0, "no slots"
        self._free = list(range(count))[::-1]
        self._texts: dict[int, _Text] = {}  # the one used longest ago comes first

    def length(self, sequence: int) -> int:
        """Tokens in it."""
        text = self._texts.get(sequence)
        return 0 if text is None else text.length

    def slot(self, sequence: int) -> int | None:
        """Where its cache is, if anywhere."""
        text = self._texts.get(sequence)
        return None if text is None else text.slot

    def take(self, sequence: int, *, busy: Container[int] = ()) -> tuple[int, bool] | None:
        """(slot, whether it is newly given and must be filled) for a sequence, which is now the latest used.

        Another sequence may lose its slot for it, but none that is ``busy``: then the answer is None.
        """
        text = self._texts.pop(sequence, None) or _Text()
        self._texts[sequence] = text
        if text.slot is not None:
            return text.slot, False
        text.slot = self._free.pop() if self._free else self._taken_away(busy)
        return None if text.slot is None else (text.slot, True)

    def stretches(self, sequence: int) -> tuple[Stretch, ...]:
        """How it was evaluated."""
        text = self._texts.get(sequence)
        return () if text is None else tuple(text.stretches)

    def append(self, sequence: int, tokens: Sequence[int], *, prompt: bool) -> None:
        """Note that ``tokens`` were evaluated behind the others, in one go if they are a prompt chunk."""
        text = self._texts[sequence]
        last = text.stretches[-1] if text.stretches else None
        if last is not None and not (last.prompt or prompt):
            text.stretches[-1] = Stretch((*last.tokens, *tokens), prompt=False)
        elif tokens:
            text.stretches.append(Stretch(tuple(tokens), prompt))
        text.length += len(tokens)

    def truncate(self, sequence: int, length: int) -> bool:
        """Note that all but the first ``length`` tokens are forgotten; whether there were more."""
        text = self._texts.get(sequence)
        if text is None or text.length <= length:
            return False
        while text.length > length:
            last = text.stretches.pop()
            text.length -= len(last.tokens)
            if kept := last.tokens[: max(0, length - text.length)]:
                text.stretches.append(Stretch(kept, last.prompt))
                text.length += len(kept)
                break
        return True

    def prefix(self, source: int, length: int) -> tuple[Stretch, ...]:
        """The first ``length`` tokens of ``source``, as they were evaluated."""
        copied, left = [], length
        for stretch in self.stretches(source):
            if left > 0:
                copied.append(Stretch(stretch.tokens[:left], stretch.prompt))
                left -= len(stretch.tokens)
        return tuple(copied)

    def vacate(self, sequence: int) -> None:
        """Take its slot away, for what is in the cache there is not to be relied on; the text is kept."""
        text = self._texts[sequence]
        if text.slot is not None:
            self._free.append(text.slot)
            text.slot = None

    def release(self, sequence: int) -> int | None:
        """Forget it; the slot that is free now, if it had one."""
        text = self._texts.pop(sequence, None)
        if text is None or text.slot is None:
            return None
        self._free.append(text.slot)
        return text.slot

    def _taken_away(self, busy: Container[int]) -> int | None:
        for sequence, text in self._texts.items():
            if text.slot is not None and sequence not in busy:
                slot, text.slot = text.slot, None
                return slot
        return None

    def __iter__(self) -> Iterator[int]:
        return iter(self._texts)
