"""A well-behaved edge in a few lines: it says what the protocol allows, and knows what must be answered."""

from collections import deque
from functools import cache

from pipesd.values import Sampling
from pipesd.wire import frames
from tests.fuzz.login import Login
from tests.session.world import VOCABULARY, WORDS, target_path

PROMPTS = ((1, 2, 3, 4), (1, 2, 3, 0, 1), (4,))
ANSWER_TOKENS = 12
SESSION = 5


@cache
def _path(prompt: tuple[int, ...], context_tokens: int) -> tuple[int, ...]:
    """What the target answers to it."""
    return tuple(target_path(prompt, ANSWER_TOKENS, context_tokens))


class Customer:
    """Asks one question, and checks every token of the answer. What it says waits in ``up``, in order."""

    def __init__(self, number: int, context_tokens: int, login: Login) -> None:
        self.up: deque[frames.EdgeFrame] = deque()
        self.is_answered = self.has_failed = self.is_turned_away = False
        self._prompt = PROMPTS[number % len(PROMPTS)]
        self._expected = _path(self._prompt, context_tokens)
        self._limit = len(self._prompt) + ANSWER_TOKENS
        self._got: list[int] = []
        self._guesses: list[int] = []
        self._asked = 0
        self._epoch = 0
        self._rounds = number
        self._is_open = False
        self._login = login
        self.up.append(
            frames.Hello(frames.PROTOCOL_VERSION, "customer", len(VOCABULARY), credential=login.first)
        )

    @property
    def is_done(self) -> bool:
        """Whether it wants nothing more."""
        return self.is_answered or self.has_failed

    def _ask(self) -> None:
        self._epoch += 1
        if not self._is_open:
            self.up.append(frames.Open(SESSION))
        self.up.append(frames.Prompt(SESSION, self._epoch, 0, self._prompt, Sampling(), 0, ANSWER_TOKENS))
        self._asked = len(self._prompt) + 1

    def ask_again(self) -> None:
        """It was turned away, and has waited."""
        self.is_turned_away = False
        if not self._is_open:
            self.up.append(frames.Close(SESSION))
        self._ask()

    def hear(self, frame: frames.CloudFrame) -> None:
        """Take what the cloud says; what an honest edge must not be told is an ``AssertionError``."""
        match frame:
            case frames.Verdict():
                self._verdict(frame)
            case frames.Challenge():
                self.up.append(frames.Proof(self._login.proof))
            case frames.Welcome():
                self._ask()
            case frames.Opened():
                self._is_open = True
            case frames.Fault(session, "busy", _, retry_ms) if session == SESSION and retry_ms:
                self.is_turned_away = True
            case frames.Fault(session, "engine") if session == SESSION:
                self.has_failed = True
            case frames.Ping(number):
                self.up.append(frames.Pong(number))
            case frames.Fault() | frames.Bye() | frames.Refuse():
                raise AssertionError(f"an honest edge was told {frame}")
            case _:
                pass

    def _verdict(self, frame: frames.Verdict) -> None:
        if frame.epoch < self._epoch:
            return
        length = len(self._prompt) + len(self._got)
        assert (frame.session, frame.epoch, frame.base) == (SESSION, self._epoch, length)
        assert frame.accepted <= len(self._guesses), "more accepted than sent"
        news = [*self._guesses[: frame.accepted], *frame.tokens]
        self._got += news
        assert news or frame.finish, "a verdict that says nothing"
        assert tuple(self._got) == self._expected[: len(self._got)], "the text is not the target's"
        held = self._guesses[: len(news)]
        if frame.finish is not None:
            assert len(self._got) == len(self._expected), "the answer ended too early"
            self.is_answered = True
        elif held != news[: len(held)]:
            self._epoch += 1
            self._guesses, self._asked = [], 0
        else:
            del self._guesses[: len(news)]
        if not self.is_answered and self._asked <= length + len(news):
            self._guess()

    def _guess(self) -> None:
        """Up to three drafts more, of which the last is wrong now and then, and one token behind them."""
        self._rounds += 1
        end = len(self._prompt) + len(self._got) + len(self._guesses)
        at = len(self._got) + len(self._guesses)
        fresh = list(self._expected[at : at + self._rounds % 4])
        fresh = fresh[: max(0, self._limit - 1 - end)]
        if fresh and self._rounds % 3 == 0:
            fresh[-1] = (fresh[-1] + 1) % WORDS
        self._guesses += fresh
        self._asked = min(end + len(fresh) + 1, self._limit)
        self.up.append(frames.Draft(SESSION, self._epoch, end, tuple(fresh), self._asked))
