"""A text with what was prompt and what was output in it, and how it must be evaluated.

The law that keeps exact numerics: a prompt is evaluated in chunks counted from its own start, so whoever
knows the segments evaluates the same chunks. Taking text back inside a chunk makes that chunk a shorter one.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

import msgspec


@dataclass(slots=True)
class _Segment:
    start: int
    prompt: bool


_start_of = attrgetter("start")

Segment = tuple[bool, tuple[int, ...]]
"""Whether it was a prompt, and its tokens."""


class Span(msgspec.Struct, frozen=True, gc=False):
    """Positions ``start`` … ``end`` - 1, which are evaluated in one go: a prompt chunk, or output."""

    start: int
    end: int
    prompt: bool


class Transcript:
    """Confirmed tokens, in segments."""

    def __init__(self, chunk_tokens: int) -> None:
        self._chunk_tokens = chunk_tokens
        self._segments: list[_Segment] = []
        self.tokens: list[int] = []

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def first_prompt_tokens(self) -> int:
        """How many tokens the prompt has that the text begins with; 0 without one."""
        return self._end(0) if self._segments and self._segments[0].prompt else 0

    @property
    def last_start(self) -> int:
        """Where what must be evaluated last begins: the last prompt chunk, or the last token of output."""
        last, end = self._segments[-1] if self._segments else None, len(self.tokens)
        if last is None or not last.prompt:
            return max(0, end - 1)
        return last.start + (end - 1 - last.start) // self._chunk_tokens * self._chunk_tokens

    def append(self, tokens: Sequence[int], *, prompt: bool) -> None:
        """Add a prompt, which is a segment of its own, or more output."""
        if prompt or not self._segments or self._segments[-1].prompt:
            self._segments.append(_Segment(len(self.tokens), prompt))
        self.tokens += tokens

    def cut(self, length: int) -> int:
        """Shorten to ``length`` tokens; up to which position an evaluation of the old text still holds."""
        if length >= len(self.tokens):
            return length
        del self.tokens[length:]
        first_lost = length + 1
        while self._segments and self._segments[-1].start >= length:
            first_lost = self._segments.pop().start
        return length if first_lost == length else self._chunk_start(length)

    def spans_from(self, position: int) -> Iterator[Span]:
        """What remains to be evaluated from ``position`` on, in order."""
        first = max(0, bisect_right(self._segments, position, key=_start_of) - 1)
        for number in range(first, len(self._segments)):
            segment, end = self._segments[number], self._end(number)
            while position < end:
                until = min(self._border(segment, position), end) if segment.prompt else end
                yield Span(position, until, segment.prompt)
                position = until

    def spans_within(self, position: int, room_tokens: int, prompt_room_tokens: int) -> list[Span]:
        """What of it fits a pass: output may be cut anywhere, a prompt only into its chunks."""
        spans: list[Span] = []
        last = self._segments[-1] if self._segments else None
        if last is not None and not last.prompt and position >= last.start:  # the same, sooner
            end = min(len(self.tokens), position + room_tokens)
            return [Span(position, end, prompt=False)] if position < end else spans
        for span in self.spans_from(position):
            tokens = span.end - span.start
            if span.prompt:
                if tokens > prompt_room_tokens:
                    break
                spans.append(span)
                prompt_room_tokens -= tokens
                continue
            if room_tokens < tokens:
                if room_tokens > 0:
                    spans.append(Span(span.start, span.start + room_tokens, prompt=False))
                break
            spans.append(span)
            room_tokens -= tokens
        return spans

    def segments(self) -> tuple[Segment, ...]:
        """The whole text, from which ``take`` makes another transcript."""
        return tuple(
            (segment.prompt, tuple(self.tokens[segment.start : self._end(number)]))
            for number, segment in enumerate(self._segments)
        )

    def take(self, segments: Sequence[Segment]) -> int:
        """Become the text of these; up to which position an evaluation of the old text still holds."""
        valid = self._valid_for(segments)
        self._segments.clear()
        self.tokens.clear()
        for prompt, tokens in segments:
            self.append(tokens, prompt=prompt)
        return valid

    def _valid_for(self, segments: Sequence[Segment]) -> int:
        valid = 0
        for (prompt, ours), (is_prompt, theirs) in zip(self.segments(), segments, strict=False):
            if prompt != is_prompt:
                break
            shared = common_prefix(ours, theirs)
            is_same = shared == len(ours) == len(theirs)
            valid += shared if is_same or not prompt else shared - shared % self._chunk_tokens
            if not is_same:
                break
        return valid

    def _end(self, number: int) -> int:
        is_last = number + 1 == len(self._segments)
        return len(self.tokens) if is_last else self._segments[number + 1].start

    def _border(self, prompt: _Segment, position: int) -> int:
        """Where the chunk ends that ``position`` is in."""
        chunks = (position - prompt.start) // self._chunk_tokens + 1
        return prompt.start + chunks * self._chunk_tokens

    def _chunk_start(self, length: int) -> int:
        """The last chunk border before ``length`` if that lies in a prompt, else ``length``."""
        last = self._segments[-1] if self._segments else None
        if last is None or not last.prompt:
            return length
        return length - (length - last.start) % self._chunk_tokens


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences share from their start."""
    shared, most = 0, len(left) if len(left) < len(right) else len(right)
    while shared < most and left[shared] == right[shared]:
        shared += 1
    return shared
