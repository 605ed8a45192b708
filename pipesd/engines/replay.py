"""Replays traces: the guesses, confidences and picks of a real pair of models, without the models.

Which prompt a sequence is about shows in its first tokens; of several that fit, the longest counts. The law
of this file: off the recorded path the target never says what the path says, so that accepting a wrong
draft is found out. Steps are instant and cannot be interrupted.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from pipesd.engines.base import TargetIdentity, Tokenizer
from pipesd.engines.contexts import ContextDraft, Contexts, ContextTarget, rolled
from pipesd.engines.traces import ROLLOUT_TOKENS, Guess, Trace, TraceHeader, TracePrompt
from pipesd.errors import EngineError, UsageError
from pipesd.values import Proposal, Sampling, Slice
from pipesd.vocabulary import Vocabulary

CONTEXT_TOKENS = 4_096
UNSURE = 0.5
"""Confidence of guesses that were not recorded."""

IDS_NAMED = 3


class _Place(NamedTuple):
    """Where a context stands among the recorded texts."""

    context: int
    """Its hash."""

    prompt: TracePrompt | None
    """The recorded prompt it begins with, once that is complete."""

    position: int
    """Of the next token, counted from the end of the prompt."""

    wrong_at: int | None
    """The first position at which it left the target path."""

    wrong_token: int
    last_token: int


class _Recording:
    """The paths of a trace, found by the hashes of their prompts."""

    def __init__(self, trace: Trace) -> None:
        self.header = trace.header
        self.end_id = trace.header.end_ids[0]
        self.empty = _Place(0, None, 0, None, 0, 0)
        self._trace = trace

    @cached_property
    def _prompts(self) -> dict[int, TracePrompt]:
        return {_hash(prompt.prompt_tokens): prompt for prompt in self._trace.prompts}

    def advance(self, place: _Place, token: int) -> _Place:
        """The place after one more token."""
        context = rolled(place.context, token)
        begun = self._prompts.get(context)
        if begun is not None:
            return _Place(context, begun, 0, None, 0, token)
        if place.prompt is None:
            return _Place(context, None, 0, None, 0, token)
        wrong_at, wrong_token = place.wrong_at, place.wrong_token
        if wrong_at is None and token != self.on_path(place.prompt, place.position):
            wrong_at, wrong_token = place.position, token
        return _Place(context, place.prompt, place.position + 1, wrong_at, wrong_token, token)

    def on_path(self, prompt: TracePrompt, position: int) -> int:
        """The target path; behind its recorded end, nothing but end ids."""
        return prompt.target[position] if position < len(prompt.target) else self.end_id

    def pick(self, place: _Place) -> int:
        """What the target says next."""
        if place.prompt is None:
            return place.context % self.header.vocabulary
        right = self.on_path(place.prompt, place.position)
        if place.wrong_at is None:
            return right
        other = place.context % (self.header.vocabulary - 1)
        return other + (other >= right)

    def guess(self, place: _Place) -> Guess:
        """What the draft says next."""
        prompt, wrong_at = place.prompt, place.wrong_at
        if prompt is not None and (wrong_at is None or _is_own_error(prompt, place)):
            return guess_of(self.header, prompt, place.position, wrong_at)
        return Guess((place.last_token + 1) % self.header.vocabulary, UNSURE)


def guess_of(header: TraceHeader, prompt: TracePrompt, position: int, wrong_at: int | None) -> Guess:
    """What the draft says at ``position`` of an answer that its own guess at ``wrong_at`` left the path with.

    None: the answer is on the path so far.
    """
    recorded = position < len(prompt.target)
    if wrong_at is None:
        return prompt.draft_top[position][0] if recorded else Guess(header.end_ids[0], UNSURE)
    rollout, step = prompt.rollouts[wrong_at], position - wrong_at - 1
    if step < len(rollout):
        return rollout[step]
    if len(rollout) < ROLLOUT_TOKENS or not recorded:
        return Guess(header.end_ids[0], UNSURE)
    return Guess((prompt.target[position] + 1) % header.vocabulary, UNSURE)


def _hash(tokens: Sequence[int]) -> int:
    context = 0
    for token in tokens:
        context = rolled(context, token)
    return context


def _is_own_error(prompt: TracePrompt, place: _Place) -> bool:
    at = place.wrong_at
    return at in prompt.rollouts and prompt.draft_top[at][0].token == place.wrong_token


def replayed_identity(
    model: str, header: TraceHeader, context_tokens: int, chunk_tokens: int
) -> TargetIdentity:
    """Who a recorded model that decides a text is."""
    return TargetIdentity(
        model=f"{model} (replayed)",
        engine="replay",
        numerics="exact",
        context_tokens=context_tokens,
        chunk_tokens=chunk_tokens,
        begin_ids=(),
        end_ids=header.end_ids,
        greedy_only=True,
    )


class ReplayTokenizer:
    """Knows the prompts of its traces and nothing else."""

    def __init__(self, trace: Trace) -> None:
        self._vocabulary = trace.vocabulary
        self._trace = trace
        self._ids = [prompt.id for prompt in trace.prompts]

    @cached_property
    def _prompts(self) -> dict[str, tuple[int, ...]]:
        """Earlier names win: an id before a text, a text as it stands before one without its margins."""
        known: dict[str, tuple[int, ...]] = {}
        prompts, pieces = self._trace.prompts, self._trace.header.pieces
        texts = [b"".join(pieces[token] for token in prompt.prompt_tokens) for prompt in prompts]
        names = [text.decode(errors="replace") for text in texts]
        for group in (self._ids, names, [name.strip() for name in names]):
            for name, prompt in zip(group, prompts, strict=True):
                known.setdefault(name, prompt.prompt_tokens)
        return known

    @property
    def vocabulary(self) -> Vocabulary:
        """The pieces that occur in the traces; the other ids are empty."""
        return self._vocabulary

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The tokens of the prompt with this id or this text; none is ``special``. Raises ``UsageError``."""
        tokens = self._prompts.get(text) or self._prompts.get(text.strip())
        if tokens is None:
            raise UsageError(
                f"the replay engine knows only the {len(self._ids)} prompts of its traces; give the id of "
                f"one, such as {', '.join(self._ids[:IDS_NAMED])}"
            )
        return list(tokens)


class ReplayTarget(ContextTarget[_Place]):
    """Says what the target of a trace said."""

    def __init__(
        self, trace: Trace, *, context_tokens: int = CONTEXT_TOKENS, chunk_tokens: int = 512
    ) -> None:
        """Raises ``UsageError`` if a size is below 1."""
        self._recording = _Recording(trace)
        contexts = Contexts(self._recording.empty, self._recording.advance, context_tokens)
        self._tokenizer = ReplayTokenizer(trace)
        identity = replayed_identity(trace.header.target, trace.header, context_tokens, chunk_tokens)
        super().__init__(contexts, identity)

    @property
    def tokenizer(self) -> Tokenizer:
        """Knows the prompts of the traces."""
        return self._tokenizer

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        """The picks of each slice.

        Raises ``EngineError`` if a text does not fit the context, or for a temperature above 0.
        """
        for part in slices:
            _require_greedy(part.sampling)
        return [
            tuple(self._recording.pick(place) for _, place in self._contexts.evaluate(part))
            for part in slices
        ]


class ReplayDraft(ContextDraft[_Place]):
    """Guesses what the draft of a trace guessed, with the confidence it had."""

    def __init__(self, trace: Trace, *, context_tokens: int = CONTEXT_TOKENS) -> None:
        self._recording = _Recording(trace)
        super().__init__(Contexts(self._recording.empty, self._recording.advance, context_tokens))
        self._tokenizer = ReplayTokenizer(trace)

    @property
    def tokenizer(self) -> Tokenizer:
        """Knows the prompts of the traces."""
        return self._tokenizer

    def propose(self, sequence: int, sampling: Sampling, seed: int) -> Proposal:
        """The next token; does not advance. Raises ``EngineError`` for a temperature above 0."""
        _require_greedy(sampling)
        assert self._contexts.length(sequence) > 0, "a guess without a text"
        return Proposal(*self._recording.guess(self._contexts.latest(sequence)))


def _require_greedy(sampling: Sampling) -> None:
    if not sampling.greedy:
        raise EngineError("traces were recorded without sampling; set the temperature to 0 to replay them")
