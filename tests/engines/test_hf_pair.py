"""The engines of torch: what every engine must do, and what becomes of texts that share few slots."""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pipesd.engines.alone import answer_alone
from pipesd.engines.caches import CachedDraft, CachedTarget, Cell, Room
from pipesd.engines.hf import Model
from pipesd.engines.hf_calls import EXACT_TOKENS
from pipesd.engines.hf_pair import torch_draft, torch_target
from pipesd.errors import InterruptedStepError
from pipesd.values import Sampling, Slice
from tests.contracts.engines import check_draft_engine, check_more_texts_than_slots, check_target_engine
from tests.engines.tiny_hf import save

GREEDY = Sampling()
TIGHT = Room(context_tokens=200, chunk_tokens=48, slots=2, threads=1)
"""Two places for the three sequences that the contract uses."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(save(tmp_path_factory.mktemp("models") / "tiny"), "exact", device="cpu", threads=1)


@pytest.fixture(scope="module")
def target(model: Model) -> CachedTarget:
    return torch_target(model, TIGHT)


@pytest.fixture(scope="module")
def draft(model: Model) -> CachedDraft:
    return torch_draft(model, TIGHT)


def output(sequence: int, base: int, tokens: Sequence[int], picks: int, copy_of: int | None = None) -> Slice:
    return Slice(sequence, base, tuple(tokens), picks, False, GREEDY, 0, copy_of)


def text_of(model: Model, length: int) -> list[int]:
    return model.tokenizer.encode("the quick brown fox jumps over the lazy dog and pack " * 20)[:length]


def test_the_target_keeps_the_contract(target: CachedTarget) -> None:
    check_target_engine(lambda: target)


def test_the_draft_keeps_the_contract(draft: CachedDraft) -> None:
    check_draft_engine(lambda: draft)


def test_the_target_says_what_it_is(model: Model, target: CachedTarget) -> None:
    identity = target.identity
    assert (identity.model, identity.engine, identity.numerics) == (model.name, model.engine, "exact")
    assert (identity.context_tokens, identity.chunk_tokens) == (200, 48)
    assert (identity.end_ids, identity.control_ids, identity.begin_ids) == ((1, 2), (0, 1, 2), ())
    assert identity.template == model.template
    assert target.tokenizer is model.tokenizer


def test_the_context_is_no_longer_than_the_models(model: Model) -> None:
    room = Room(context_tokens=10_000, chunk_tokens=48, slots=1, threads=1)
    assert torch_draft(model, room).context_tokens == model.context_tokens == 256


def test_a_pass_over_more_texts_than_slots_is_as_exact_as_each_alone(
    model: Model, target: CachedTarget
) -> None:
    check_more_texts_than_slots(target, [text_of(model, length) for length in (9, 60, 25, 100)])


def test_a_copied_beginning_gives_the_same_text(model: Model) -> None:
    target = torch_target(model, Room(context_tokens=200, chunk_tokens=48, slots=3, threads=1))
    text = text_of(model, 60)
    expected = answer_alone(target, text, sampling=GREEDY, seed=0, tokens_max=5)[0]
    target.forward([Slice(0, 0, tuple(text[:48]), 0, True, GREEDY, 0)])
    rest = Slice(1, 48, tuple(text[48:]), 1, True, GREEDY, 0, 0)
    assert target.forward([rest]) == [tuple(expected[:1])]
    assert target.forward([output(1, 60, expected[:4], 4)]) == [tuple(expected[1:])]


def test_an_interrupted_step_leaves_what_was_there_before(model: Model, draft: CachedDraft) -> None:
    text = text_of(model, 120)
    draft.extend(0, text[:40], prompt=True)
    expected = draft.propose(0, GREEDY, 0)
    layer = model._model.model.layers[1]
    hook = layer.register_forward_pre_hook(lambda *_: draft.interrupt())
    with pytest.raises(InterruptedStepError):
        draft.extend(0, text[40:])
    hook.remove()
    draft.truncate(0, 40)
    assert draft.propose(0, GREEDY, 0) == expected
    draft.extend(0, text[40:60])
    after = draft.propose(0, GREEDY, 0)
    draft.release(0)
    draft.extend(0, text[:40], prompt=True)
    draft.extend(0, text[40:60])
    assert draft.propose(0, GREEDY, 0) == after
    draft.release(0)


def test_a_draft_of_the_targets_model_is_never_contradicted(
    model: Model, target: CachedTarget, draft: CachedDraft
) -> None:
    text = text_of(model, 50)
    sampling = Sampling(temperature=1.0)
    said = answer_alone(target, text, sampling=sampling, seed=5, tokens_max=30)[0]
    for start in (0, 48):
        draft.extend(0, text[start : start + 48], prompt=True)
    for token in said:
        assert draft.propose(0, sampling, 5).token == token
        draft.extend(0, [token])
    draft.release(0)


def test_fast_numerics_say_nearly_the_same(model: Model, target: CachedTarget, tmp_path: Path) -> None:
    fast = torch_target(Model(save(tmp_path / "tiny"), "fast", device="cpu", threads=1), TIGHT)
    assert fast.identity.numerics == "fast"
    text = text_of(model, 30)
    expected = answer_alone(target, text, sampling=GREEDY, seed=0, tokens_max=10)[0]
    fast.forward([Slice(0, 0, tuple(text), 0, True, GREEDY, 0), Slice(1, 0, tuple(text), 0, True, GREEDY, 0)])
    found = fast.forward([output(0, 30, expected[:9], 9), output(1, 30, expected[:4], 4)])
    assert found == [tuple(expected[1:]), tuple(expected[1:5])]


def test_closing_lets_the_model_go(tmp_path: Path) -> None:
    own = torch_target(Model(save(tmp_path / "tiny"), "fast", device="cpu", threads=1), TIGHT)
    own.forward([output(0, 0, [5, 6, 7], 1)])
    own.close()
    own.interrupt()
    assert torch.get_num_threads() == 1


# --- a real model ---

TEXTS = (
    "Once upon a time there was a little",
    "The capital of France is",
    "def fibonacci(n):\n",
    "It was the best of times, it was the worst of times.",
)
SMALL = "smollm2-135m"


@pytest.fixture(scope="module")
def smollm(model_file: Callable[[str], Path]) -> Model:
    return Model(model_file(SMALL), "exact", device="cpu", threads=2)


@pytest.mark.models
def test_a_real_model_keeps_the_contract(smollm: Model) -> None:
    target, draft = torch_target(smollm, TIGHT), torch_draft(smollm, TIGHT)
    check_target_engine(lambda: target)
    check_draft_engine(lambda: draft)


@pytest.mark.models
def test_both_engines_know_the_same_of_one_file(smollm: Model, load_model: Callable[[str], Any]) -> None:
    other = load_model(SMALL)
    ours, theirs = smollm.tokenizer.vocabulary, other.tokenizer.vocabulary
    assert (ours.hashes, ours.cutting, len(ours)) == (theirs.hashes, theirs.cutting, len(theirs))
    assert smollm.name == other.name
    assert (smollm.template, smollm.begin_ids) == (other.template, other.begin_ids)
    assert smollm.context_tokens == other.context_tokens
    assert smollm.control_ids == other.control_ids
    assert smollm.end_ids[0] == other.end_ids[0]
    assert set(smollm.end_ids) <= set(other.end_ids)
    for text in (*TEXTS, "<|im_start|>user\nÜber 12 €<|im_end|>"):
        for special in (False, True):
            tokens = smollm.tokenizer.encode(text, special=special)
            assert tokens == other.tokenizer.encode(text, special=special)


@pytest.mark.models
def test_both_engines_write_the_same_from_the_same_weights(
    smollm: Model, model_file: Callable[[str], Path], tmp_path: Path
) -> None:
    """Llama.cpp is given them de-quantised too: it rounds what it multiplies 4-bit weights with to 8 bits."""
    from pipesd.engines import llama, llama_pair  # noqa: PLC0415 - an extra of its own

    whole = tmp_path / "whole.gguf"
    dequantize(model_file(SMALL), whole)
    room = Room(context_tokens=128, chunk_tokens=64, slots=1, threads=2)
    theirs = llama_pair.LlamaTarget(llama.Model(whole, "exact"), room)
    ours = torch_target(smollm, room)
    for text in TEXTS:
        prompt = smollm.tokenizer.encode(text)
        said, expected = (
            answer_alone(target, prompt, sampling=GREEDY, seed=0, tokens_max=64)[0]
            for target in (ours, theirs)
        )
        assert said == expected, text


def dequantize(source: Path, result: Path) -> None:
    import llama_cpp  # noqa: PLC0415 - an extra of its own

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = llama_cpp.LLAMA_FTYPE_ALL_F32, True
    assert llama_cpp.llama_model_quantize(bytes(source), bytes(result), ctypes.byref(params)) == 0


@pytest.mark.models
@pytest.mark.parametrize("length", [20, 250, 600])
def test_logits_of_a_real_model_do_not_depend_on_what_shares_a_call(smollm: Model, length: int) -> None:
    calls = smollm.calls(context_tokens=1_024, slots=3)
    text = smollm.tokenizer.encode("Pack my box with five dozen jugs. How vexingly quick! " * 60)

    def read(slot: int, count: int) -> None:
        calls.cut(slot, 0)
        for start in range(0, count, 64):
            evaluate((slot, start, min(64, count - start)))

    def evaluate(*parts: tuple[int, int, int], wrong: int = 0) -> list[bytes]:
        cells = [
            Cell(text[at] + wrong, at, slot, wanted=True)
            for slot, start, count in parts
            for at in range(start, start + count)
        ]
        calls.evaluate(cells)
        return [calls.logits(at).tobytes() for at in range(len(cells))]

    read(0, length)
    alone = [evaluate((0, length + at, 1))[0] for at in range(EXACT_TOKENS)]
    for size in range(2, EXACT_TOKENS + 1):
        assert evaluate((0, length, size)) == alone[:size], f"a call of {size}"
    read(1, length)
    read(2, 20)
    for counts in ((3, 5, 8), (1, 14, 1), (6, 2, 3)):
        evaluate((0, length, 4), wrong=1)
        found = evaluate((2, 20, counts[0]), (0, length, counts[1]), (1, length, counts[2]))[counts[0] :]
        assert found == [*alone[: counts[1]], *alone[: counts[2]]]
