"""The target by itself: the reference that every text of pipesd is compared with."""

from collections.abc import Generator, Sequence

from pipesd.engines.base import TargetEngine
from pipesd.errors import UsageError
from pipesd.values import Finish, Sampling, Slice

__all__ = ["answer_alone", "target_alone"]


def target_alone(
    engine: TargetEngine,
    prompt: Sequence[int],
    *,
    sampling: Sampling,
    seed: int,
    tokens_max: int,
    sequence: int = 0,
) -> Generator[int, None, Finish]:
    """The target path behind ``prompt``, token by token, an end id included; why it ends is returned.

    ``sequence`` must not be in use; it is released at the end. Raises ``UsageError`` at once if the prompt is
    empty or does not fit, and ``EngineError`` while reading if the model fails.
    """
    context_tokens = engine.identity.context_tokens
    if not prompt:
        raise UsageError("the prompt is empty; give it at least one character")
    if len(prompt) >= context_tokens:
        raise UsageError(
            f"the prompt has {len(prompt)} tokens, but the target's context of {context_tokens} "
            f"has room for {context_tokens - 1}; shorten it"
        )
    if tokens_max < 1:
        raise UsageError(f"tokens_max: must be at least 1, not {tokens_max}")
    return _Alone(engine, sequence, sampling, seed).run(tuple(prompt), tokens_max)


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


class _Alone:
    def __init__(self, engine: TargetEngine, sequence: int, sampling: Sampling, seed: int) -> None:
        self._engine = engine
        self._sequence = sequence
        self._sampling = sampling
        self._seed = seed
        self._length = 0

    def run(self, prompt: tuple[int, ...], tokens_max: int) -> Generator[int, None, Finish]:
        identity = self._engine.identity
        limit = len(prompt) + tokens_max
        try:
            token = self._read(prompt, identity.chunk_tokens)
            while True:
                yield token
                if token in identity.end_ids:
                    return "stop"
                # The token just said is text, but not evaluated yet.
                if self._length + 1 == min(limit, identity.context_tokens):
                    return "length" if limit <= identity.context_tokens else "context"
                token = self._forward((token,), picks=1, prompt=False)[0]
        finally:
            self._engine.release(self._sequence)

    def _read(self, prompt: tuple[int, ...], chunk_tokens: int) -> int:
        """Evaluate the prompt; the first token of the answer."""
        picks: tuple[int, ...] = ()
        for start in range(0, len(prompt), chunk_tokens):
            chunk = prompt[start : start + chunk_tokens]
            picks = self._forward(chunk, picks=int(start + len(chunk) == len(prompt)), prompt=True)
        return picks[0]

    def _forward(self, tokens: tuple[int, ...], *, picks: int, prompt: bool) -> tuple[int, ...]:
        part = Slice(
            sequence=self._sequence,
            base=self._length,
            tokens=tokens,
            picks=picks,
            prompt=prompt,
            sampling=self._sampling,
            seed=self._seed,
        )
        self._length += len(tokens)
        return self._engine.forward([part])[0]
