"""Sequences that share few slots, over a toy in place of a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from pipesd.engines.alone import answer_alone
from pipesd.engines.base import TargetIdentity
from pipesd.engines.caches import CachedDraft, CachedTarget, Caches, Cell, Logits
from pipesd.engines.contexts import rolled
from pipesd.errors import EngineError, InterruptedStepError
from pipesd.values import Sampling, Slice
from pipesd.vocabulary import Vocabulary
from tests.contracts.engines import check_draft_engine, check_target_engine

GREEDY = Sampling()
SIZE = 64
CALL_TOKENS = 5
CHUNK_TOKENS = 4


@dataclass
class ToyTokenizer:
    """Knows letters only."""

    vocabulary: Vocabulary = field(
        default_factory=lambda: Vocabulary([bytes([32 + at]) for at in range(SIZE)])
    )

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        return [ord(letter) - 32 for letter in text]


class ToyCalls:
    """Logits that depend on every token of a slot, in calls that are counted."""

    def __init__(self, slots: int, tokens_max: int = 100) -> None:
        self.tokens_max = tokens_max
        self.call_tokens = CALL_TOKENS
        self.held: list[list[int]] = [[] for _ in range(slots)]
        self.calls: list[list[Cell]] = []
        self.copies = 0
        self.fails_after = -1
        self.is_stopped = self.is_closed = False
        self._logits: dict[int, Logits] = {}

    def evaluate(self, cells: Sequence[Cell]) -> None:
        self.calls.append(list(cells))
        self._logits = {}
        for number, cell in enumerate(cells):
            if number == self.fails_after or self.is_stopped:
                raise InterruptedStepError("the step was interrupted")
            held = self.held[cell.slot]
            assert cell.position == len(held), "a token that does not follow the others"
            held.append(cell.token)
            if cell.wanted:
                self._logits[number] = _logits_behind(held)

    def logits(self, index: int) -> Logits:
        return self._logits[index]

    def cut(self, slot: int, length: int) -> None:
        del self.held[slot][length:]

    def copy(self, source: int, slot: int, length: int) -> None:
        self.copies += 1
        self.held[slot] = self.held[source][:length]

    def allow(self) -> None:
        self.is_stopped = False

    def interrupt(self) -> None:
        self.is_stopped = True

    def close(self) -> None:
        self.is_closed = True


def _logits_behind(tokens: Sequence[int]) -> Logits:
    mark = 0
    for token in tokens:
        mark = rolled(mark, token)
    return np.random.default_rng(mark).normal(size=SIZE).astype(np.float32)


def target_of(calls: ToyCalls) -> CachedTarget:
    identity = TargetIdentity(
        model="toy",
        engine="toy",
        numerics="exact",
        context_tokens=calls.tokens_max,
        chunk_tokens=CHUNK_TOKENS,
        begin_ids=(),
        end_ids=(),
    )
    caches = Caches(calls, slots=len(calls.held), chunk_tokens=CHUNK_TOKENS)
    return CachedTarget(caches, ToyTokenizer(), identity)


def draft_of(calls: ToyCalls) -> CachedDraft:
    return CachedDraft(Caches(calls, slots=len(calls.held), chunk_tokens=CHUNK_TOKENS), ToyTokenizer())


def output(sequence: int, base: int, tokens: Sequence[int], picks: int, copy_of: int | None = None) -> Slice:
    return Slice(sequence, base, tuple(tokens), picks, False, GREEDY, 0, copy_of)


def picked(text: Sequence[int]) -> int:
    return int(_logits_behind(text).argmax())


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_both_engines_keep_the_contract(slots: int) -> None:
    check_target_engine(lambda: target_of(ToyCalls(slots)))
    check_draft_engine(lambda: draft_of(ToyCalls(slots)))


def test_output_of_many_sequences_shares_calls_and_prompt_chunks_do_not() -> None:
    calls = ToyCalls(3)
    target = target_of(calls)
    prompt = Slice(2, 0, (1, 2, 3), 1, True, GREEDY, 0)
    found = target.forward([output(0, 0, [1, 2], 1), output(1, 0, [3, 4], 2), prompt, output(0, 2, [5], 1)])
    sizes = [[cell.slot for cell in call] for call in calls.calls]
    assert [len(set(call)) for call in sizes] == [2, 1, 1]
    assert [len(call) for call in sizes] == [4, 3, 1]
    assert found == [
        (picked([1, 2]),),
        (picked([3]), picked([3, 4])),
        (picked([1, 2, 3]),),
        (picked([1, 2, 5]),),
    ]


def test_a_call_holds_no_more_than_the_model_allows() -> None:
    calls = ToyCalls(2)
    target_of(calls).forward([output(0, 0, range(7), 1), output(1, 0, range(6), 1)])
    assert [len(call) for call in calls.calls] == [CALL_TOKENS, CALL_TOKENS, 3]


def test_a_sequence_that_lost_its_slot_is_read_anew_in_the_same_stretches() -> None:
    calls = ToyCalls(1)
    target = target_of(calls)
    target.forward([Slice(0, 0, (1, 2, 3, 4), 0, True, GREEDY, 0), Slice(0, 4, (5, 6), 0, True, GREEDY, 0)])
    target.forward([output(0, 6, [7, 8], 0)])
    target.forward([output(1, 0, [9], 0)])
    calls.calls.clear()
    assert target.forward([output(0, 8, [10], 1)]) == [(picked([1, 2, 3, 4, 5, 6, 7, 8, 10]),)]
    assert [[cell.token for cell in call] for call in calls.calls] == [[1, 2, 3, 4], [5, 6], [7, 8], [10]]


@pytest.mark.parametrize(("slots", "copies"), [(3, 1), (1, 0)])
def test_a_slice_may_begin_with_a_copy(slots: int, copies: int) -> None:
    calls = ToyCalls(slots)
    target = target_of(calls)
    target.forward([Slice(0, 0, (1, 2, 3, 4), 0, True, GREEDY, 0), output(1, 0, [9, 9], 0)])
    found = target.forward([output(1, 3, [7], 1, copy_of=0), output(0, 4, [5], 1)])
    assert found == [(picked([1, 2, 3, 7]),), (picked([1, 2, 3, 4, 5]),)]
    assert calls.copies == copies
    assert target.forward([output(1, 4, [8], 1)]) == [(picked([1, 2, 3, 7, 8]),)]


def test_a_copy_of_what_the_pass_has_just_brought_holds_it() -> None:
    target = target_of(ToyCalls(2))
    found = target.forward([output(0, 0, [1, 2], 1), output(1, 2, [3], 1, copy_of=0)])
    assert found == [(picked([1, 2]),), (picked([1, 2, 3]),)]


def test_a_text_beyond_the_context_is_refused() -> None:
    with pytest.raises(EngineError, match=r"11 tokens does not fit the model's context of 10; shorten it"):
        target_of(ToyCalls(1, tokens_max=10)).forward([output(0, 0, range(11), 1)])


@pytest.mark.parametrize("make", [draft_of])
def test_a_step_that_fails_is_taken_back(make: Callable[[ToyCalls], CachedDraft]) -> None:
    calls = ToyCalls(1)
    draft = make(calls)
    draft.extend(0, [1, 2, 3])
    before = draft.propose(0, GREEDY, 0)
    calls.fails_after = 1
    with pytest.raises(InterruptedStepError):
        draft.extend(0, [4, 5, 6])
    calls.fails_after = -1
    assert draft.propose(0, GREEDY, 0) == before
    draft.extend(0, [4])
    assert draft.propose(0, GREEDY, 0).token == picked([1, 2, 3, 4])


def test_an_interrupt_counts_only_while_a_step_runs() -> None:
    calls = ToyCalls(1)
    draft = draft_of(calls)
    draft.interrupt()
    assert not calls.is_stopped
    evaluate = calls.evaluate

    def interrupted(cells: Sequence[Cell]) -> None:
        draft.interrupt()
        evaluate(cells)

    calls.evaluate = interrupted  # type: ignore[method-assign]
    with pytest.raises(InterruptedStepError):
        draft.extend(0, [1])


def test_closing_closes_the_model() -> None:
    for make in (draft_of, target_of):
        calls = ToyCalls(1)
        make(calls).close()
        assert calls.is_closed


def test_an_answer_is_the_path_of_the_toy() -> None:
    said, _ = answer_alone(target_of(ToyCalls(1)), [1, 2], sampling=GREEDY, seed=0, tokens_max=3)
    text = [1, 2]
    for token in said:
        assert token == picked(text)
        text.append(token)
