"""One session of an edge for applications: a text that grows turn by turn, and its answers as they are read.

Private turns go on behind what the cloud knows, in a conversation of their own: what is told to the cloud is
made from the other one alone.
"""

import operator
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsIndex

from msgspec.structs import replace

from pipesd.actors.compute import Compute
from pipesd.actors.edge_runtime import EdgeRuntime
from pipesd.actors.token_stream import TokenStream
from pipesd.config import EdgeConfig
from pipesd.conversation import Answer, Conversation
from pipesd.dialogue import Dialogue, Turn
from pipesd.engines.base import DraftEngine
from pipesd.errors import UsageError
from pipesd.private import PrivateStream, PrivateText
from pipesd.session.checks import check_prompt
from pipesd.session.commands import GenerationStats
from pipesd.session.events import PromptGiven
from pipesd.text import Piece, TextStream
from pipesd.values import Finish, Sampling
from pipesd.wire.frames import Welcome

__all__ = ["Generation", "Means", "Result", "Session"]

Stream = TokenStream | PrivateStream


class Means:
    """What all sessions of a connection work with."""

    def __init__(
        self,
        config: EdgeConfig,
        engine: DraftEngine,
        compute: Compute,
        runtime: EdgeRuntime,
        welcome: Welcome,
        dialogue: Dialogue,
    ) -> None:
        self.config = config
        self.engine = engine
        self.compute = compute
        self.runtime = runtime
        self.welcome = welcome
        self.dialogue = dialogue
        self._private_texts = 0
        self._silent_ids = frozenset((*welcome.end_ids, *welcome.control_ids))
        self._pieces = _with_foreign(engine.tokenizer.vocabulary.pieces, runtime.foreign_pieces)

    def text_stream(self, stop: Sequence[str]) -> TextStream:
        """For the text of one answer. Raises ``UsageError``."""
        return TextStream(self._pieces, stop=stop, silent_ids=self._silent_ids)

    def private_text(self) -> PrivateText:
        """For private turns, in a sequence of the draft that was not used before."""
        self._private_texts += 1
        return PrivateText(self.engine, self.compute, -self._private_texts, frozenset(self.welcome.end_ids))

    def check_private(self, text: Sequence[int], wish: PromptGiven) -> None:
        """Raise ``UsageError`` if the draft model cannot answer ``wish`` behind ``text``."""
        size = len(self.engine.tokenizer.vocabulary.pieces)
        grant = replace(self.welcome, context_tokens=self.engine.context_tokens, vocabulary_size=size)
        check_prompt(wish, len(text), grant, model="draft")
        if max(text[: wish.base], default=0) >= size:
            raise UsageError("the text holds a token that the draft does not know; begin a new session")


@dataclass(frozen=True, slots=True)
class Result:
    """How a generation ended, and what it took."""

    finish: Finish
    """``stop`` also if a stop string was found."""

    stats: GenerationStats


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    sampling: Sampling
    seed: int
    tokens_max: int
    stop: Sequence[str]
    private: bool


class Generation:
    """One answer: iterate over it to read the text as it is confirmed.

    With ``offline="draft"`` it also gives pieces that are a ``preview`` while no cloud is there. Each piece
    that is none takes the place of all such pieces before it. What is ``verified`` is the target's text; of
    a private answer nothing is.
    Leaving the iteration early ends the answer; the session stays. ``result`` is there once it is complete.
    """

    def __init__(
        self, session: "Session", prompt: str | Sequence[int], base: int | None, options: _Options
    ) -> None:
        self._session = session
        self._prompt = prompt
        self._base = base
        self._options = options
        self._answer: Answer | None = None
        self.prompt_ids: tuple[int, ...] = ()
        """Token ids of the prompt as it was sent, once the reading has started."""

        self.result: Result | None = None

    @property
    def private(self) -> bool:
        """Whether the draft model alone answers, and nothing leaves the device."""
        return self._options.private

    @property
    def kept_tokens(self) -> int:
        """How many of the tokens read lie before the stop string: all, while there is none."""
        return self._answer.kept_tokens if self._answer is not None else 0

    async def __aiter__(self) -> AsyncGenerator[Piece, None]:
        """Read on. Raises ``LinkError``, ``PeerError`` or ``RefusedError`` if the answer fails."""
        if self._answer is not None:
            raise UsageError("this answer was read before; call generate again")
        session = self._session
        turn, stream, answer = session._start(self._prompt, self._base, self._options)
        self.prompt_ids, self._answer = turn.tokens, answer
        try:
            while (told := await stream.next()).tokens:
                if told.preview:
                    yield answer.preview(told.tokens)
                    continue
                piece = answer.take(told.tokens)
                if answer.stopped:
                    session._cancel(stream)  # at once: the reader may take its time, and the cloud may go
                    yield piece
                    break
                yield piece
            if (rest := answer.rest()).text:
                yield rest
        finally:
            session._cancel(stream)
        if stream.finish is not None:
            finish = answer.conclude(stream.finish.finish or "stop")
            self.result = Result(finish, stream.finish.stats)


@dataclass(frozen=True, slots=True)
class _Private:
    """The text of a session with private turns, and who continues it."""

    conversation: Conversation
    text: PrivateText


class Session:
    """One growing text: each prompt continues it, on warm caches on both sides."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._number = means.runtime.open_session()
        self._public = Conversation(means.dialogue)
        self._private: _Private | None = None
        self._is_closed = False

    @property
    def length(self) -> int:
        """Tokens of the text so far, prompts and private turns included; where the next prompt goes by
        default."""
        return self._conversation.length

    @property
    def _conversation(self) -> Conversation:
        return self._public if self._private is None else self._private.conversation

    @property
    def public_length(self) -> int:
        """Tokens of the text without its private turns."""
        return self._public.length

    def leave_private(self) -> None:
        """Take all private turns back: the text is as it was before the first of them."""
        if self._private is not None:
            self._private.text.end()
            self._means.runtime.release(self._private.text.sequence)
            self._private = None

    def generate(  # noqa: PLR0913 - one for each wish
        self,
        prompt: str | Sequence[int],
        *,
        base: int | None = None,
        sampling: Sampling | None = None,
        seed: int | None = None,
        tokens_max: int | None = None,
        stop: Sequence[str] = (),
        private: bool = False,
    ) -> Generation:
        """Continue the text with ``prompt`` (text, or token ids as they are) and read the answer.

        ``base`` takes text back first: only that many tokens of it stay. What is not given is as in the
        configuration. With ``private`` the draft model alone answers, unverified, and neither prompt nor
        answer leaves the device; a later prompt that the cloud may see must take them back, by a ``base`` of
        at most ``public_length`` or with ``leave_private``.

        Raises ``UsageError`` for an impossible wish, here or when the reading starts.
        """
        config = self._means.config
        options = _Options(
            sampling=config.sampling if sampling is None else _plain(sampling),
            seed=config.seed if seed is None else _whole("seed", seed),
            tokens_max=config.tokens_max if tokens_max is None else _whole("tokens_max", tokens_max),
            stop=stop,
            private=private,
        )
        return Generation(self, prompt, None if base is None else _whole("base", base), options)

    def _start(
        self, prompt: str | Sequence[int], base: int | None, options: _Options
    ) -> tuple[Turn, Stream, Answer]:
        text, said = self._means.text_stream(options.stop), _said(prompt)
        if options.private:
            return self._start_private(said, base, options, text)
        if self._private is not None and (base is None or base > self.public_length):
            raise UsageError(
                f"the text behind its first {self.public_length} tokens is private and must not leave this "
                "device; give private=True, or take it back, with a base or leave_private()"
            )
        turn = self._public.turn(said, base)
        stream = self._means.runtime.start(self._wish(turn, options))
        self.leave_private()
        return turn, stream, self._public.begin(turn, text)

    def _start_private(
        self, said: str | tuple[int, ...], base: int | None, options: _Options, text: TextStream
    ) -> tuple[Turn, Stream, Answer]:
        if self._is_closed:
            raise UsageError("the session is closed; open a new one")
        conversation = self._public.fork() if self._private is None else self._conversation
        turn = conversation.turn(said, base)
        wish = self._wish(turn, options)
        self._means.check_private(conversation.tokens, wish)
        self._means.runtime.take_over(self._number)
        if self._private is None:
            self._private = _Private(conversation, self._means.private_text())
        answer = conversation.begin(turn, text, verified=False)
        return turn, self._private.text.answer(conversation.tokens, wish), answer

    def _wish(self, turn: Turn, options: _Options) -> PromptGiven:
        return PromptGiven(
            self._number, turn.base, turn.tokens, options.sampling, options.seed, options.tokens_max
        )

    def _cancel(self, stream: Stream) -> None:
        if isinstance(stream, PrivateStream):
            stream.cancel()
        else:
            self._means.runtime.cancel(self._number, stream)

    def _close(self) -> None:
        self._is_closed = True
        self.leave_private()
        self._means.runtime.close_session(self._number)


def _said(prompt: str | Sequence[int]) -> str | tuple[int, ...]:
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, bytes):
        raise UsageError("prompt: must be text or token ids, not bytes; decode it first")
    return tuple(_whole("prompt", token) for token in prompt)


def _whole(name: str, value: SupportsIndex) -> int:
    """A plain int of any whole number, such as numpy's."""
    try:
        return operator.index(value)
    except TypeError:
        raise UsageError(f"{name}: must be made of whole numbers, not {value!r}") from None


def _plain(sampling: Sampling) -> Sampling:
    try:
        return Sampling(
            float(sampling.temperature),
            operator.index(sampling.top_k),
            float(sampling.top_p),
            float(sampling.min_p),
        )
    except (AttributeError, TypeError):
        raise UsageError(f"sampling: must be a pipesd.Sampling of numbers, not {sampling!r}") from None


def _with_foreign(pieces: Sequence[bytes], foreign: Mapping[int, bytes]) -> Sequence[bytes]:
    """The bytes of every token that the target may say."""
    end = max(foreign, default=-1) + 1
    return (*pieces, *(foreign.get(token, b"") for token in range(len(pieces), end)))
