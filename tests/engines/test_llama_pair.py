"""The engines of llama.cpp: what every engine must do, and what becomes of texts that share few slots."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from pipesd.engines.alone import answer_alone
from pipesd.engines.caches import Room
from pipesd.engines.llama import Model
from pipesd.engines.llama_pair import LlamaDraft, LlamaTarget
from pipesd.errors import EngineError, InterruptedStepError
from pipesd.values import Sampling, Slice
from tests.contracts.engines import check_draft_engine, check_more_texts_than_slots, check_target_engine

pytestmark = pytest.mark.models

GREEDY = Sampling()
TIGHT = Room(context_tokens=200, chunk_tokens=48, slots=2, threads=2)
"""Two places for the three sequences that the contract uses."""


@pytest.fixture(scope="module")
def model(load_model: Callable[[str], Model]) -> Model:
    return load_model("smollm2-135m")


@pytest.fixture(scope="module")
def target(model: Model) -> LlamaTarget:
    return LlamaTarget(model, TIGHT)


@pytest.fixture(scope="module")
def draft(model: Model) -> LlamaDraft:
    return LlamaDraft(model, TIGHT)


def text_of(model: Model, length: int) -> list[int]:
    return model.tokenizer.encode("It was the best of times, it was the worst of times. " * 20)[:length]


def output(sequence: int, base: int, tokens: Sequence[int], picks: int) -> Slice:
    return Slice(sequence, base, tuple(tokens), picks, False, GREEDY, 0)


def test_the_target_keeps_the_contract(target: LlamaTarget) -> None:
    check_target_engine(lambda: target)
    assert target.identity.context_tokens == 200


def test_the_draft_keeps_the_contract(draft: LlamaDraft) -> None:
    check_draft_engine(lambda: draft)
    assert draft.context_tokens == 200


def test_the_context_is_no_longer_than_the_models(model: Model) -> None:
    assert (
        LlamaDraft(model, replace(TIGHT, context_tokens=100_000)).context_tokens
        == model.context_tokens
        == 8_192
    )


def test_a_pass_over_more_texts_than_slots_is_as_exact_as_each_alone(
    model: Model, target: LlamaTarget
) -> None:
    check_more_texts_than_slots(target, [text_of(model, length) for length in (9, 60, 25, 100)])


def test_a_text_beyond_the_context_fails_and_leaves_the_others_alone(
    model: Model, target: LlamaTarget
) -> None:
    text = text_of(model, 30)
    expected = answer_alone(target, text, sampling=GREEDY, seed=0, tokens_max=1)[0]
    with pytest.raises(EngineError, match=r"201 tokens does not fit the model's context of 200; shorten"):
        target.forward([output(0, 0, text, 0), output(1, 0, [5] * 201, 1)])
    target.release(1)
    target.release(0)
    assert answer_alone(target, text, sampling=GREEDY, seed=0, tokens_max=1)[0] == expected
    assert target.forward([output(0, 0, text, 1), output(1, 0, text, 1)])[0] != ()
    target.release(0)
    target.release(1)


def test_a_prompt_in_larger_chunks_than_the_draft_knows_is_cut(model: Model, draft: LlamaDraft) -> None:
    text = text_of(model, 150)
    draft.extend(0, text, prompt=True)
    for start in range(0, 150, 48):
        draft.extend(1, text[start : start + 48], prompt=True)
    assert draft.propose(0, GREEDY, 0) == draft.propose(1, GREEDY, 0)
    draft.release(0)
    draft.release(1)


def test_looking_again_behind_a_prompt_chunk_reads_the_chunk_anew(model: Model, draft: LlamaDraft) -> None:
    text = text_of(model, 40)
    draft.extend(0, text, prompt=True)
    expected = draft.propose(0, GREEDY, 0)
    draft.extend(0, [5, 6])
    draft.truncate(0, 40)
    assert draft.propose(0, GREEDY, 0) == expected
    draft.release(0)


def interrupting(engine: LlamaDraft | LlamaTarget, work: Callable[[], None]) -> list[BaseException]:
    """Do ``work`` in a thread, interrupting it without pause; what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        engine.interrupt()
        thread.join(0.001)
    return raised


def test_an_interrupted_step_leaves_what_was_there_before(model: Model, draft: LlamaDraft) -> None:
    text = text_of(model, 120)
    draft.extend(0, text[:40], prompt=True)
    expected = draft.propose(0, GREEDY, 0)
    raised = interrupting(draft, lambda: draft.extend(0, text[40:]))
    assert [type(error) for error in raised] == [InterruptedStepError]
    draft.truncate(0, 40)
    assert draft.propose(0, GREEDY, 0) == expected
    draft.extend(0, text[40:60])
    after = draft.propose(0, GREEDY, 0)
    draft.release(0)
    draft.extend(0, text[:40], prompt=True)
    draft.extend(0, text[40:60])
    assert draft.propose(0, GREEDY, 0) == after
    draft.release(0)


def test_an_interrupted_reading_anew_forgets_nothing(model: Model, draft: LlamaDraft) -> None:
    text = text_of(model, 90)
    draft.extend(0, text[:48], prompt=True)
    draft.extend(0, text[48:])
    expected = draft.propose(0, GREEDY, 0)
    draft.extend(0, [5])
    for other in (1, 2):
        draft.extend(other, text[:20], prompt=True)
    draft.truncate(0, 90)
    raised = interrupting(draft, lambda: draft.extend(0, [7, 8, 9]))
    assert [type(error) for error in raised] == [InterruptedStepError]
    draft.truncate(0, 90)
    assert draft.propose(0, GREEDY, 0) == expected
    for sequence in range(3):
        draft.release(sequence)


def test_an_interrupted_pass_fails_and_the_next_one_is_right(model: Model, target: LlamaTarget) -> None:
    text = text_of(model, 100)
    expected = answer_alone(target, text, sampling=GREEDY, seed=0, tokens_max=3)

    def work() -> None:
        for _ in range(1_000):
            target.forward([output(0, 0, text, 1)])

    raised = interrupting(target, work)
    assert [type(error) for error in raised] == [InterruptedStepError]
    target.release(0)
    assert answer_alone(target, text, sampling=GREEDY, seed=0, tokens_max=3) == expected
