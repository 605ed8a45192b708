"""An edge that says what it likes; by its books of what was said and heard, so that most is plausible."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipesd.wire import frames
from tests.fuzz.login import CREDENTIALS
from tests.fuzz.plausible import GREETING
from tests.fuzz.tape import Tape
from tests.session.world import WORDS, target_next

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NUMBERS = (0, 0, 0, 0, 0, 1, 1, 2, 3, 2**31 - 1, None)
_TEXT_TOKENS_MAX = 400
_LEASES_MAX = 4
"""How many it remembers to come back with."""


@dataclass
class Book:
    """A session as the liar thinks it is."""

    epoch: int = 0
    prompt_epoch: int = 0
    text: list[int] = field(default_factory=list)
    answer_start: int = 0
    guesses: list[int] = field(default_factory=list)


class Liar:
    """What one peer has said and heard; ``hints`` know what would be plausible next.

    The books of its sessions are also in ``leases``, for whoever comes back with these.
    """

    def __init__(self, leases: dict[bytes, Book]) -> None:
        self._books: dict[int | None, Book] = {}
        self._leases = leases
        self._book = Book()
        self._end = 0
        """Where what is being said would end."""

        self._start = 0
        """Where its answer would begin."""

        self.hints: Mapping[str, Callable[[Tape], object]] = {
            **GREETING,
            **CREDENTIALS,
            "session": self._session,
            "Open.session": self._unused,
            "Resume.session": self._unused,
            "epoch": lambda tape: max(0, self._book.epoch + tape.pick((1, 1, 1, 1, 1, 2, 0, -1))),
            "Draft.epoch": lambda tape: max(0, self._book.epoch + tape.pick((0, 0, 0, 0, 0, 1, 2, -1))),
            "prompt_epoch": lambda tape: max(0, self._book.prompt_epoch + tape.pick((0, 0, 0, 1, -1))),
            "base": lambda tape: self._base(tape, 0),
            "Draft.base": lambda tape: self._base(tape, len(self._book.guesses)),
            "confirmed": lambda tape: self._base(tape, 0),
            "tokens": self._prompt,
            "Draft.tokens": self._drafts,
            "ask": lambda tape: max(
                0, tape.pick((self._end + 1, self._end, 0, self._end + 4, self._end - 1))
            ),
            "tokens_max": lambda tape: tape.pick((20, 1, 3, 40, 0, 2**53 - 1)),
            "lease": self._lease,
            "segments": self._segments,
            "generation_start": lambda tape: max(0, self._start + tape.pick((0, 0, 0, 1, -1))),
        }

    def _session(self, tape: Tape) -> int | None:
        number = tape.pick(_NUMBERS)
        self._book = self._books.get(number) or Book()
        return number

    def _unused(self, tape: Tape) -> int:
        fresh = next(number for number in range(len(self._books) + 1) if number not in self._books)
        return tape.pick((fresh, fresh, fresh, 0, 1, 2, 2**31 - 1))

    def _lease(self, tape: Tape) -> bytes:
        known = list(reversed(self._leases))[:_LEASES_MAX]
        lease = tape.pick((*known[:1] * 4, *known, b"", bytes(16)))
        self._book = self._leases.get(lease) or Book()
        return lease

    def _base(self, tape: Tape, guesses: int) -> int:
        there = len(self._book.text) + guesses
        self._end = max(0, there + tape.pick((0, 0, 0, 0, 0, 0, -1, -2, -5, 1, 300, -300)))
        return self._end

    def _prompt(self, tape: Tape) -> list[int]:
        return [tape.byte() % (WORDS + 1) for _ in range(tape.pick((3, 1, 2, 5, 9, 20, 0)))]

    def _drafts(self, tape: Tape) -> list[int]:
        """Right ones, of which one may be wrong."""
        known = [*self._book.text, *self._book.guesses][: self._end]
        count, wrong = tape.pick((2, 1, 3, 0, 6, 20)), tape.pick((99, 99, 99, 0, 1, 2))
        fresh: list[int] = []
        for at in range(count):
            token = target_next([*known, *fresh])
            fresh.append((token + (at == wrong)) % (WORDS + 1))
        self._end += count
        return fresh

    def _segments(self, tape: Tape) -> list[list[object]]:
        """The text as it is known, or a short one; with an empty part now and then."""
        text, self._start = self._book.text or [1, 2, 3], self._book.answer_start or 3
        text = text[: len(text) - tape.pick((0, 0, 0, 1, 5))]
        parts: list[list[object]] = [[True, text[: self._start]], [False, text[self._start :]]]
        least = tape.pick((1, 1, 1, 0))
        return [part for part in parts if part[1] or not least]

    # -- the books --------------------------------------------------------------------------------------

    def note_said(self, frame: frames.EdgeFrame) -> None:
        """It has left."""
        number = getattr(frame, "session", None)
        book = self._books.setdefault(number, Book())
        match frame:
            case frames.Prompt(_, epoch, base, tokens):
                book.text = [*book.text[:base], *tokens][-_TEXT_TOKENS_MAX:]
                book.answer_start, book.guesses = len(book.text), []
                book.epoch = book.prompt_epoch = epoch
            case frames.Draft(_, epoch, base, tokens):
                if epoch != book.epoch:
                    book.guesses = []
                book.epoch = epoch
                book.guesses = [*book.guesses[: max(0, base - len(book.text))], *tokens]
            case frames.Cancel(_, epoch):
                book.epoch = book.prompt_epoch = epoch
                book.guesses = []
            case frames.Open() | frames.Close():
                self._books[number] = Book()
            case frames.Resume(_, lease, epoch):
                book = self._books[number] = self._leases.get(lease) or Book()
                book.epoch, book.guesses = epoch, []
            case frames.Restore(_, epoch, segments, generation_start=start):
                book.text = [token for _, tokens in segments for token in tokens][-_TEXT_TOKENS_MAX:]
                book.epoch = book.prompt_epoch = epoch
                book.answer_start, book.guesses = start, []
            case _:
                pass

    def note_heard(self, frame: frames.CloudFrame) -> None:
        """The cloud has said it."""
        if isinstance(frame, frames.Opened) and frame.lease:
            self._leases[frame.lease] = self._books.setdefault(frame.session, Book())
        if isinstance(frame, frames.Verdict):
            book = self._books.setdefault(frame.session, Book())
            news = [*book.guesses[: frame.accepted], *frame.tokens]
            held = book.guesses[: len(news)]
            book.guesses = book.guesses[len(news) :] if held == news[: len(held)] else []
            book.text = [*book.text[: frame.base], *news]
