"""A draft model as the only one: what it proposes is the text, and nobody confirms it.

``SoloTarget`` makes a target engine of any draft engine. A draft of llama.cpp needs none: the target engine
opens its file, and knows its template and its end ids as well.
"""

from collections.abc import Sequence

from pipesd.engines.base import DraftEngine, TargetIdentity, Tokenizer
from pipesd.engines.replay import UNSURE, ReplayDraft, replayed_identity
from pipesd.engines.scripted import ScriptedDraft, scripted_identity
from pipesd.engines.traces import Trace
from pipesd.values import Proposal, Sampling, Slice


class SoloTarget:
    """A target engine whose picks are the proposals of a draft engine, which it takes over."""

    def __init__(self, draft: DraftEngine, identity: TargetIdentity) -> None:
        self._draft = draft
        self.identity = identity
        """What decides the draft's path."""

        self._texts: dict[int, list[int]] = {}

    @property
    def tokenizer(self) -> Tokenizer:
        """The draft model's own."""
        return self._draft.tokenizer

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        """The proposals behind each slice. Raises ``EngineError`` or ``InterruptedStepError``."""
        return [self._picks(part) for part in slices]

    def _picks(self, part: Slice) -> tuple[int, ...]:
        assert 0 <= part.picks <= len(part.tokens), "more picks than tokens"
        text = self._cut_back(part)
        text += part.tokens
        split = len(part.tokens) - max(0, part.picks - 1)
        picks = []
        for stretch in (part.tokens[:split], *((token,) for token in part.tokens[split:])):
            self._draft.extend(part.sequence, stretch, prompt=part.prompt)
            if part.picks:
                picks.append(self._draft.propose(part.sequence, part.sampling, part.seed).token)
        return tuple(picks)

    def _cut_back(self, part: Slice) -> list[int]:
        """The sequence's tokens before the slice; a copy is read anew."""
        text = self._texts.setdefault(part.sequence, [])
        if part.copy_of is None:
            self._draft.truncate(part.sequence, part.base)
            del text[part.base :]
        else:
            self._draft.release(part.sequence)
            text[:] = self._texts[part.copy_of][: part.base]
            self._draft.extend(part.sequence, text)
        return text

    def release(self, sequence: int) -> None:
        """Forget the sequence."""
        self._texts.pop(sequence, None)
        self._draft.release(sequence)

    def interrupt(self) -> None:
        """Ask the step in flight to stop soon; without one, nothing happens. From any thread."""
        self._draft.interrupt()

    def close(self) -> None:
        """Give the memory back; only ``interrupt`` may follow."""
        self._draft.close()


class RecordedDraft(ReplayDraft):
    """What the draft of a trace said by itself; its text ends where its recording does.

    ``ReplayDraft`` goes on beyond, with tokens that are made up to be wrong: a target corrects them.
    """

    def propose(self, sequence: int, sampling: Sampling, seed: int) -> Proposal:
        """The next token; does not advance. Raises ``EngineError`` for a temperature above 0."""
        proposal = super().propose(sequence, sampling, seed)
        return proposal if self._is_recorded(sequence) else Proposal(self._recording.end_id, UNSURE)

    def _is_recorded(self, sequence: int) -> bool:
        """Whether what the draft said there is known: on the target's path, and a while beside it."""
        place = self._contexts.latest(sequence)
        prompt, left_at = place.prompt, place.wrong_at
        if prompt is None:
            return False
        if left_at is None:
            return place.position < len(prompt.target)
        is_near = place.position - left_at <= len(prompt.rollouts.get(left_at, ()))
        return is_near and prompt.draft_top[left_at][0].token == place.wrong_token


def scripted_solo(seed: int, agreement: float, *, context_tokens: int, chunk_tokens: int) -> SoloTarget:
    """The scripted draft by itself. Raises ``UsageError`` for impossible values."""
    model = f"scripted, seed {seed}, agreement {agreement:g} (draft)"
    identity = scripted_identity(model, context_tokens, chunk_tokens)
    return SoloTarget(ScriptedDraft(seed, agreement=agreement, context_tokens=context_tokens), identity)


def replay_solo(trace: Trace, *, context_tokens: int, chunk_tokens: int) -> SoloTarget:
    """The draft of a trace by itself, as far as it was recorded. Raises ``UsageError`` for a size below 1."""
    model = f"{trace.header.draft} (draft)"
    identity = replayed_identity(model, trace.header, context_tokens, chunk_tokens)
    return SoloTarget(RecordedDraft(trace, context_tokens=context_tokens), identity)
