"""The target by itself: the reference that every text of pipesd is compared with."""

from collections.abc import Generator, Sequence

from pipesd.engines.base import TargetEngine
from pipesd.errors import UsageError
from pipesd.transcript import Transcript
from pipesd.values import Finish, Sampling, Slice

__all__ = ["TextAlone", "answer_alone", "target_alone"]


class TextAlone:
    """One growing text of the target, in a sequence of its engine that nobody else uses."""

    def __init__(self, engine: TargetEngine, sequence: int = 0) -> None:
        self._engine = engine
        self._sequence = sequence
        self._text = Transcript(engine.identity.chunk_tokens)
        self._cached = 0
        self._answers = 0

    def answer(
        self, base: int, prompt: Sequence[int], *, sampling: Sampling, seed: int, tokens_max: int
    ) -> Generator[int, None, Finish]:
        """Cut the text to ``base`` tokens, append ``prompt``, and give what follows, token by token.

        An end id is given too; why it ends is returned. Raises ``UsageError`` at once, and with the text as
        it was, if the prompt is empty or does not fit. Reading raises ``EngineError`` if the model fails, and
        ``UsageError`` once there is a newer answer.
        """
        context_tokens = self._engine.identity.context_tokens
        if not 0 <= base <= len(self._text):
            raise UsageError(f"base: must be between 0 and {len(self._text)}, not {base}")
        if not prompt:
            raise UsageError("the prompt is empty; give it at least one character")
        if base + len(prompt) >= context_tokens:
            raise UsageError(
                f"the prompt has {len(prompt)} tokens, but the target's context of {context_tokens} "
                f"has room for {context_tokens - 1 - base}; shorten it"
            )
        if tokens_max < 1:
            raise UsageError(f"tokens_max: must be at least 1, not {tokens_max}")
        self._cached = min(self._cached, self._text.cut(base))
        self._text.append(tuple(prompt), prompt=True)
        self._answers += 1
        return self._answer(self._answers, sampling, seed, base + len(prompt) + tokens_max)

    def release(self) -> None:
        """Give the sequence back; the text is over."""
        self._engine.release(self._sequence)

    def _answer(self, number: int, sampling: Sampling, seed: int, limit: int) -> Generator[int, None, Finish]:
        identity = self._engine.identity
        end = min(limit, identity.context_tokens)
        while number == self._answers:
            token = self._read_on(sampling, seed)
            self._text.append((token,), prompt=False)
            is_full = len(self._text) == end
            yield token
            if token in identity.end_ids:
                return "stop"
            if is_full:
                return "length" if limit == end else "context"
        raise UsageError("a newer prompt took the text over; read one answer at a time")

    def _read_on(self, sampling: Sampling, seed: int) -> int:
        """Evaluate what is not yet, and pick the token behind it."""
        picks: tuple[int, ...] = ()
        for span in self._text.spans_from(self._cached):
            part = Slice(
                sequence=self._sequence,
                base=span.start,
                tokens=tuple(self._text.tokens[span.start : span.end]),
                picks=int(span.end == len(self._text)),
                prompt=span.prompt,
                sampling=sampling,
                seed=seed,
            )
            picks = self._engine.forward([part])[0]
            self._cached = span.end
        return picks[0]


def target_alone(
    engine: TargetEngine,
    prompt: Sequence[int],
    *,
    sampling: Sampling,
    seed: int,
    tokens_max: int,
    sequence: int = 0,
) -> Generator[int, None, Finish]:
    """The target path behind ``prompt``: ``TextAlone.answer`` to a text that begins with it.

    ``sequence`` must not be in use; it is released at the end.
    """
    text = TextAlone(engine, sequence)
    path = text.answer(0, prompt, sampling=sampling, seed=seed, tokens_max=tokens_max)
    return _and_release(path, text)


def answer_alone(
    engine: TargetEngine,
    prompt: Sequence[int],
    *,
    sampling: Sampling,
    seed: int,
    tokens_max: int,
) -> tuple[list[int], Finish]:
    """All of ``target_alone``, and why it ended. Raises as it does."""
    path = target_alone(engine, prompt, sampling=sampling, seed=seed, tokens_max=tokens_max)
    tokens: list[int] = []
    while True:
        try:
            tokens.append(next(path))
        except StopIteration as end:
            finish: Finish = end.value
            return tokens, finish


def _and_release(path: Generator[int, None, Finish], text: TextAlone) -> Generator[int, None, Finish]:
    try:
        return (yield from path)
    finally:
        text.release()
