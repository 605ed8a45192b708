"""The contract of the engines: broken ones are found out."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from msgspec import structs

from pipesd.engines.scripted import ScriptedDraft, ScriptedTarget
from pipesd.errors import EngineError, InterruptedStepError
from pipesd.values import Proposal, Sampling, Slice
from tests.contracts.engines import check_chunks_do_not_matter, check_draft_engine, check_target_engine


def test_an_interrupted_step_is_no_failure() -> None:
    # Whoever handles failures of the model must not take a step that was stopped on purpose for one.
    assert not issubclass(InterruptedStepError, EngineError)


# --- drafts ---


class Advances(ScriptedDraft):
    def propose(self, sequence: int, sampling: Sampling, seed: int) -> Proposal:
        guess = super().propose(sequence, sampling, seed)
        self.extend(sequence, [guess.token])
        return guess


class NeverTruncates(ScriptedDraft):
    def truncate(self, sequence: int, length: int) -> None:
        pass


class TruncatesOneTooFew(ScriptedDraft):
    def truncate(self, sequence: int, length: int) -> None:
        super().truncate(sequence, length + 1)


class TruncatesToZeros(ScriptedDraft):
    def truncate(self, sequence: int, length: int) -> None:
        super().truncate(sequence, length)
        self.extend(sequence, [0] * (length - self._contexts.length(sequence)))


class NeverReleases(ScriptedDraft):
    def release(self, sequence: int) -> None:
        pass


class HasOneSequence(ScriptedDraft):
    def extend(self, sequence: int, tokens: Sequence[int], *, prompt: bool = False) -> None:
        super().extend(0, tokens)

    def propose(self, sequence: int, sampling: Sampling, seed: int) -> Proposal:
        return super().propose(0, sampling, seed)


class HearsTheFirstTokenOnly(ScriptedDraft):
    def extend(self, sequence: int, tokens: Sequence[int], *, prompt: bool = False) -> None:
        super().extend(sequence, tokens[:1])


class IsTooSure(ScriptedDraft):
    def propose(self, sequence: int, sampling: Sampling, seed: int) -> Proposal:
        return structs.replace(super().propose(sequence, sampling, seed), confidence=1.01)


class LeavesTheVocabulary(ScriptedDraft):
    def propose(self, sequence: int, sampling: Sampling, seed: int) -> Proposal:
        guess = super().propose(sequence, sampling, seed)
        return structs.replace(guess, token=guess.token + 100)


class IsMoody(ScriptedDraft):
    mood = 0

    def propose(self, sequence: int, sampling: Sampling, seed: int) -> Proposal:
        self.mood += 1
        return super().propose(sequence, Sampling(temperature=2.0), self.mood)


class TakesInterruptsToHeart(ScriptedDraft):
    def interrupt(self) -> None:
        self.truncate(0, 1)


@pytest.mark.parametrize(
    "broken",
    [
        Advances,
        NeverTruncates,
        TruncatesOneTooFew,
        TruncatesToZeros,
        NeverReleases,
        HasOneSequence,
        HearsTheFirstTokenOnly,
        IsTooSure,
        LeavesTheVocabulary,
        IsMoody,
        TakesInterruptsToHeart,
    ],
)
def test_a_broken_draft_engine_is_found_out(broken: Callable[[], ScriptedDraft]) -> None:
    with pytest.raises(AssertionError):
        check_draft_engine(broken)


# --- targets ---


class ChangedSlices(ScriptedTarget):
    def change(self, part: Slice) -> Slice:
        return part

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        return super().forward([self.change(part) for part in slices])


class ForgetsOneMore(ChangedSlices):
    def change(self, part: Slice) -> Slice:
        return part if part.base < 20 else structs.replace(part, base=part.base - 1)


class IgnoresTheSequence(ChangedSlices):
    def change(self, part: Slice) -> Slice:
        return structs.replace(part, sequence=0, base=min(part.base, self._contexts.length(0)))


class SeedsByLength(ChangedSlices):
    def change(self, part: Slice) -> Slice:
        return structs.replace(part, seed=part.seed + len(part.tokens))


class KeepsWrongDrafts(ChangedSlices):
    def change(self, part: Slice) -> Slice:
        return part if part.base == 0 else structs.replace(part, base=self._contexts.length(part.sequence))


class ReversesPicks(ScriptedTarget):
    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        return [picks[::-1] for picks in super().forward(slices)]


class GivesAllPicks(ScriptedTarget):
    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        return super().forward([structs.replace(part, picks=len(part.tokens)) for part in slices])


class GivesFirstPicks(ScriptedTarget):
    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        every = super().forward([structs.replace(part, picks=len(part.tokens)) for part in slices])
        return [picks[: part.picks] for picks, part in zip(every, slices, strict=True)]


class SortsSlices(ScriptedTarget):
    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        order = sorted(range(len(slices)), key=lambda number: -len(slices[number].tokens))
        picks = dict(zip(order, super().forward([slices[number] for number in order]), strict=True))
        return [picks[number] for number in range(len(slices))]


class ClaimsToBeGreedy(ScriptedTarget):
    def __init__(self) -> None:
        super().__init__()
        self._identity = replace(self._identity, greedy_only=True)


class ReleasesAll(ScriptedTarget):
    def release(self, sequence: int) -> None:
        for number in range(3):
            super().release(number)


class TakesTheNextPassForInterrupted(ChangedSlices):
    interrupted = False

    def interrupt(self) -> None:
        self.interrupted = True

    def change(self, part: Slice) -> Slice:
        return structs.replace(part, tokens=part.tokens[:1] * len(part.tokens)) if self.interrupted else part


class SteersWithUnknownTokens(ScriptedTarget):
    def __init__(self) -> None:
        super().__init__()
        self._identity = replace(self._identity, control_ids=(70_000,))


class ForgetsChunks(ChangedSlices):
    def change(self, part: Slice) -> Slice:
        return structs.replace(part, tokens=part.tokens[-1:]) if part.prompt else part


@pytest.mark.parametrize(
    "broken",
    [
        ForgetsOneMore,
        IgnoresTheSequence,
        SeedsByLength,
        KeepsWrongDrafts,
        ReversesPicks,
        GivesAllPicks,
        GivesFirstPicks,
        SortsSlices,
        ReleasesAll,
        TakesTheNextPassForInterrupted,
        SteersWithUnknownTokens,
    ],
)
def test_a_broken_target_engine_is_found_out(broken: Callable[[], ScriptedTarget]) -> None:
    with pytest.raises(AssertionError):
        check_target_engine(broken)


def test_an_engine_that_samples_though_it_said_it_cannot_is_found_out() -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_target_engine(ClaimsToBeGreedy)


def test_an_engine_that_depends_on_chunks_is_found_out() -> None:
    check_chunks_do_not_matter(ScriptedTarget)
    with pytest.raises(AssertionError):
        check_chunks_do_not_matter(ForgetsChunks)
