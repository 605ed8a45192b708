"""One call over several sequences: right, interruptible, and under exact numerics the same to the bit."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipesd.engines.caches import Cell
from pipesd.engines.hf_calls import EXACT_TOKENS, NAME, TorchCalls
from pipesd.engines.hf_rows import block_of
from pipesd.errors import EngineError, InterruptedStepError
from tests.engines.tiny_hf import random_model

Logits = NDArray[np.float32]

KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 12},
    "gemma": {"head_dim": 16},
    "phi3": {"pad_token_id": 0},
    "gpt_neox": {},
    "gpt2": {"n_positions": 256},
    "mistral": {"sliding_window": 7},
    "gemma3_text": {
        "head_dim": 12,
        "sliding_window": 9,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "mixtral": {"num_local_experts": 4},
}
TEXT = [(7 * at * at + 3 * at + 5) % 320 for at in range(320)]


def with_our_attention(kind: str, dtype: torch.dtype = torch.float32) -> Any:
    model = random_model(kind, **KINDS[kind], max_position_embeddings=1_024).to(dtype).eval()
    model.set_attn_implementation(NAME)
    return model


def calls_of(model: Any, block: int | None = None, slots: int = 3) -> TorchCalls:
    return TorchCalls(model, tokens_max=1_024, slots=slots, block=block)


def cells(start: int, count: int, slot: int = 0, shift: int = 0) -> list[Cell]:
    return [Cell((TEXT[at] + shift) % 320, at, slot, wanted=True) for at in range(start, start + count)]


def evaluate(calls: TorchCalls, *parts: Sequence[Cell]) -> list[Logits]:
    whole = [cell for part in parts for cell in part]
    calls.evaluate(whole)
    return [calls.logits(at).copy() for at in range(len(whole))]


@pytest.fixture(autouse=True, scope="module")
def _few_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- right ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [None, 4])
def test_packed_sequences_are_as_transformers_itself_evaluates_them(kind: str, block: int | None) -> None:
    model = with_our_attention(kind)
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    with torch.inference_mode():
        expected = plain(torch.tensor([TEXT[:48]])).logits[0].numpy()
    calls = calls_of(model, block)
    found = evaluate(calls, cells(0, 30))
    evaluate(calls, cells(0, 5, slot=1))
    mixed = (cells(5, 6, slot=1), cells(30, 3), cells(11, 1, slot=1), cells(0, 2, slot=2))
    found += evaluate(calls, *mixed)[6:9]
    for at in range(33, 48):
        found += evaluate(calls, cells(at, 1))
    np.testing.assert_allclose(np.stack(found), expected, atol=2e-4 * np.abs(expected).max())
    assert calls.layers == [0, 1]


def test_only_what_is_wanted_is_kept() -> None:
    calls = calls_of(with_our_attention("llama"), 4)
    whole = evaluate(calls, cells(0, 5))
    some = [Cell(cell.token, cell.position, 1, wanted=cell.position in (1, 4)) for cell in cells(0, 5)]
    calls.evaluate(some)
    assert [calls.logits(at).tobytes() for at in (1, 4)] == [whole[at].tobytes() for at in (1, 4)]
    with pytest.raises(KeyError):
        calls.logits(0)
    calls.evaluate([Cell(5, 5, 1, wanted=False)])
    assert evaluate(calls, cells(5, 1))


# --- exact ---


class Bench:
    """A model, and the logits of its text token by token behind a prompt."""

    def __init__(self, kind: str, dtype: torch.dtype, prompt: int) -> None:
        self.model = with_our_attention(kind, dtype)
        self.block = block_of(self.model, TEXT[:EXACT_TOKENS])
        assert self.block is not None, "this machine's torch is not exact with a plain small model"
        self.prompt = prompt
        self.calls = calls_of(self.model, self.block, slots=4)
        self.read(0)
        self.alone = [evaluate(self.calls, cells(prompt + at, 1))[0] for at in range(2 * EXACT_TOKENS)]

    def read(self, slot: int) -> None:
        self.calls.cut(slot, 0)
        for start in range(0, self.prompt, 64):
            self.calls.evaluate(cells(start, min(64, self.prompt - start), slot))

    def differing(self, found: Sequence[Logits], start: int) -> list[int]:
        return [at for at, ours in enumerate(found) if ours.tobytes() != self.alone[start + at].tobytes()]


@pytest.fixture(
    scope="module",
    params=[
        ("llama", torch.float32, 250),
        ("qwen2", torch.float32, 20),
        ("qwen2", torch.bfloat16, 70),
    ],
    ids=str,
)
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(*request.param)


def test_a_call_of_any_size_is_as_exact_as_single_tokens(bench: Bench) -> None:
    for size in range(2, EXACT_TOKENS + 1):
        start = EXACT_TOKENS - size
        found = evaluate(bench.calls, cells(bench.prompt + start, size))
        assert bench.differing(found, start) == [], f"a call of {size}"


def test_sequences_of_different_lengths_may_share_a_call_in_any_order(bench: Bench) -> None:
    bench.read(1)
    bench.calls.copy(1, 2, 20)
    for start, counts in ((0, (3, 2, 2)), (3, (1, 5, 1)), (4, (9, 3, 4)), (5, (1, 1, 14))):
        own = cells(bench.prompt + start, counts[0])
        other = cells(bench.prompt, counts[1], slot=1)
        third = cells(20, counts[2], slot=2, shift=9)
        found = evaluate(bench.calls, third, own, other)[counts[2] :]
        assert bench.differing(found[: counts[0]], start) == []
        assert bench.differing(found[counts[0] :], 0) == []
        found = evaluate(bench.calls, other, third, own)[-counts[0] :]
        assert bench.differing(found, start) == []


def test_wrong_drafts_leave_no_trace(bench: Bench) -> None:
    for kept in (0, 3, 6):
        start = bench.prompt + kept
        evaluate(bench.calls, cells(start, 5, shift=1))
        bench.calls.cut(0, start)
        assert bench.differing(evaluate(bench.calls, cells(start, 7)), kept) == []


def test_a_copy_and_a_rebuilt_cache_are_the_same_to_the_bit(bench: Bench) -> None:
    bench.calls.copy(0, 3, bench.prompt + 5)
    assert bench.differing(evaluate(bench.calls, cells(bench.prompt + 5, 4, slot=3)), 5) == []
    bench.read(3)
    evaluate(bench.calls, cells(bench.prompt, 6, slot=3))
    assert bench.differing(evaluate(bench.calls, cells(bench.prompt + 6, 4, slot=3)), 6) == []


# --- what goes wrong ---


def test_a_call_stops_before_the_next_layer_and_the_next_call_is_right() -> None:
    model = with_our_attention("llama")
    calls = calls_of(model, 4)
    expected = evaluate(calls, cells(0, 20), cells(0, 4, slot=1))
    calls.evaluate(cells(0, 10))
    hook = model.model.layers[1].register_forward_pre_hook(lambda *_: calls.interrupt())
    with pytest.raises(InterruptedStepError):
        calls.evaluate(cells(10, 10))
    hook.remove()
    with pytest.raises(InterruptedStepError):
        calls.evaluate(cells(10, 10))
    calls.allow()
    again = evaluate(calls, cells(10, 10))
    np.testing.assert_allclose(np.stack(again), np.stack(expected[10:20]), atol=1e-3)


def test_memory_that_is_not_there_is_one_sentence() -> None:
    calls = TorchCalls(with_our_attention("llama"), tokens_max=2**45, slots=1, block=4)
    with pytest.raises(EngineError, match=r"not enough memory for the caches of the model; lower"):
        calls.evaluate([Cell(5, 2**44, 0, wanted=True)])


def test_what_torch_complains_of_is_one_sentence() -> None:
    model = with_our_attention("llama")
    model.lm_head = torch.nn.Linear(7, 320)
    with pytest.raises(EngineError, match=r"^torch failed \(.*shapes.*\); try --device cpu") as caught:
        calls_of(model).evaluate(cells(0, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "settings"), [("gemma2", {"head_dim": 12, "attn_logit_softcapping": 5.0})])
def test_attention_that_needs_more_is_refused(kind: str, settings: dict[str, Any]) -> None:
    model = random_model(kind, **settings).eval()
    model.set_attn_implementation(NAME)
    with pytest.raises(EngineError, match=r"attention needs what pipesd does not do \(softcap\); choose"):
        calls_of(model).evaluate(cells(0, 1))


def test_a_closed_model_gives_its_memory_back() -> None:
    calls = calls_of(with_our_attention("llama"))
    calls.evaluate(cells(0, 3))
    calls.close()
    calls.interrupt()
    assert calls._slots == []
