"""One conversation: how far its text has got, where the next prompt goes, and the answer as it is read.

Pure. What an answer showed stays; what came behind a stop string, or unread, is taken back by the next turn.
"""

import copy
from collections.abc import Sequence

from pipesd.dialogue import Dialogue, Turn
from pipesd.errors import UsageError
from pipesd.text import Piece, TextStream
from pipesd.values import Finish


class Conversation:
    """The text of one session as its reader knows it."""

    def __init__(self, dialogue: Dialogue) -> None:
        self.tokens: list[int] = []
        """The text so far, prompts included; to be read only."""

        self._dialogue = dialogue
        self._ends: dict[int, int] = {}
        """Behind which lengths of the text an answer ended, and the end id that it ended with."""

        self._newest: Answer | None = None

    @property
    def length(self) -> int:
        """How many tokens that is."""
        return len(self.tokens)

    def fork(self) -> "Conversation":
        """Another one with the same text so far; what is said in it does not concern this one."""
        other = copy.copy(self)
        other.tokens, other._ends, other._newest = list(self.tokens), dict(self._ends), None
        return other

    def turn(self, prompt: str | Sequence[int], base: int | None = None) -> Turn:
        """What ``prompt`` makes of the text, cut to ``base`` tokens if that is given; nothing changes yet.

        Token ids are taken as they are. Raises ``UsageError`` if the prompt cannot be encoded.
        """
        length = self.length if base is None else base
        if not isinstance(prompt, str):
            return Turn(length, tuple(prompt))
        if not 0 <= length <= self.length:
            raise UsageError(f"base: must be between 0 and {self.length}, not {length}")
        return self._dialogue.turn(prompt, length, self._ends.get(length))

    def begin(self, turn: Turn, text: TextStream, *, verified: bool = True) -> "Answer":
        """The turn is taken: the answer to it, by the target unless it is not ``verified``, is read through
        ``text``.
        """
        self._ends = {length: end_id for length, end_id in self._ends.items() if length <= turn.base}
        self.tokens[turn.base :] = turn.tokens
        self._newest = Answer(self, text, verified=verified)
        return self._newest

    def _grow(self, answer: "Answer", start: int, tokens: Sequence[int], kept: int) -> None:
        """The text behind ``start`` is the first ``kept`` of these tokens.

        An answer that another took over from moves nothing any more.
        """
        if answer is self._newest:
            del self.tokens[start + kept :]
            new = tokens[len(self.tokens) - start : kept]
            self.tokens += new
            if new and new[-1] in self._dialogue.end_ids and not answer.stopped:
                self._ends[self.length] = new[-1]


class Answer:
    """One answer as it is read; the conversation grows with it."""

    def __init__(self, conversation: Conversation, text: TextStream, *, verified: bool) -> None:
        self._conversation = conversation
        self._text = text
        self._verified = verified
        self._start = conversation.length
        self._tokens: list[int] = []
        self._ahead: TextStream | None = None
        """The text as it would be with the drafts that were previewed."""

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found: no more of the answer is wanted."""
        return self._text.stopped

    @property
    def kept_tokens(self) -> int:
        """How many of its tokens lie before the stop string: all, while there is none."""
        return self._text.kept_tokens

    def take(self, tokens: tuple[int, ...]) -> Piece:
        """More tokens came; the text that can be shown now."""
        self._ahead = None
        self._tokens += tokens
        return self._piece(self._text.feed(tokens), tokens)

    def preview(self, tokens: tuple[int, ...]) -> Piece:
        """Drafts, behind those that were previewed since the last tokens that were taken; nothing changes."""
        if self._ahead is None:
            self._ahead = self._text.fork()
        return Piece(self._ahead.feed(tokens), tokens, verified=False, preview=True)

    def rest(self) -> Piece:
        """No more will come; the text that was held back."""
        return self._piece(self._text.finish(), ())

    def conclude(self, finish: Finish) -> Finish:
        """Why it ended, a stop string considered."""
        return "stop" if self._text.stopped else finish

    def _piece(self, shown: str, tokens: tuple[int, ...]) -> Piece:
        self._conversation._grow(self, self._start, self._tokens, self._text.kept_tokens)
        return Piece(shown, tokens, verified=self._verified)
