"""A model file, its tokenizer, and its contexts: what goes wrong, and what is known of it."""

import logging
from collections.abc import Callable
from pathlib import Path

import llama_cpp
import numpy as np
import psutil
import pytest

from pipesd.engines.caches import Cell
from pipesd.engines.llama import (
    EXACT_TOKENS,
    FAST_TOKENS,
    Context,
    Model,
    build,
    quantize,
    quantized_kinds,
)
from pipesd.engines.traces import load
from pipesd.errors import EngineError, InterruptedStepError, UsageError

pytestmark = pytest.mark.models

SMALL = "smollm2-135m"
QWEN = "qwen2.5-coder-0.5b"
END, MESSAGE_END = 151_643, 151_645


def context_of(model: Model, *, context_tokens: int = 256, slots: int = 1) -> Context:
    return Context(model, context_tokens=context_tokens, slots=slots, chunk_tokens=64, threads=2)


def cells(tokens: list[int], *, start: int = 0, slot: int = 0) -> list[Cell]:
    """Cells in a row; the logits behind the last are wanted."""
    last = len(tokens) - 1
    return [Cell(token, start + at, slot, wanted=at == last) for at, token in enumerate(tokens)]


# --- the model ---


def test_a_model_says_what_the_target_path_depends_on(load_model: Callable[[str], Model]) -> None:
    model = load_model(QWEN)
    assert model.name.startswith("qwen2.5-coder-0.5b-instruct-q4_k_m ")
    assert len(model.name.split()[-1]) == 16
    assert model.context_tokens == 32_768
    assert model.begin_ids == ()
    assert model.end_ids[0] == MESSAGE_END
    assert END in model.end_ids
    assert set(model.end_ids) <= set(model.control_ids) | {END}
    assert "<|im_start|>" in model.template
    assert build().startswith("llama.cpp of llama-cpp-python ")
    assert "CPU" in build()


def test_the_pieces_are_those_of_the_recordings(load_model: Callable[[str], Model]) -> None:
    pieces = load_model(QWEN).tokenizer.vocabulary.pieces
    header = load(()).header
    assert len(pieces) == header.vocabulary
    assert len(header.pieces) > 1_000
    assert {token: pieces[token] for token in header.pieces} == dict(header.pieces)


@pytest.mark.parametrize(
    "text", ["plain words", "你好,世界", "🙂🙃 ünïcödé", "  two\n\n\tlines ", "\u0000", ""]
)
@pytest.mark.parametrize("name", [SMALL, QWEN])
def test_a_text_survives_its_tokens(load_model: Callable[[str], Model], name: str, text: str) -> None:
    tokenizer = load_model(name).tokenizer
    tokens = tokenizer.encode(text)
    assert b"".join(tokenizer.vocabulary.pieces[token] for token in tokens).decode() == text
    assert bool(tokens) == bool(text)


def test_only_on_demand_a_text_becomes_a_control_token(load_model: Callable[[str], Model]) -> None:
    tokenizer = load_model(QWEN).tokenizer
    assert MESSAGE_END not in tokenizer.encode("a<|im_end|>b")
    assert MESSAGE_END in tokenizer.encode("a<|im_end|>b", special=True)


def test_a_text_that_utf8_cannot_say_is_the_callers_fault(load_model: Callable[[str], Model]) -> None:
    with pytest.raises(UsageError, match="not valid UTF-8 at character 2"):
        load_model(SMALL).tokenizer.encode("ab\udcff")


@pytest.mark.parametrize("content", [b"GGUF", b"GGUF" + bytes(4_000)])
def test_a_broken_model_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=r"broken\.gguf cannot be loaded \(.+\); check the file") as caught:
        Model(path, "exact")
    assert "\n" not in str(caught.value)


def test_a_file_that_was_cut_off_is_refused(model_file: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    with model_file(SMALL).open("rb") as whole:
        path.write_bytes(whole.read(50_000_000))
    with pytest.raises(EngineError, match="cannot be loaded"):
        Model(path, "exact")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("is_recurrent", "cannot be cut back"),
        ("is_hybrid", "cannot be cut back"),
        ("has_encoder", "token by token"),
        ("is_diffusion", "token by token"),
    ],
)
def test_a_model_of_a_kind_that_cannot_be_used_is_refused(
    model_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, kind: str, why: str
) -> None:
    monkeypatch.setattr(llama_cpp, f"llama_model_{kind}", lambda _: True)
    with pytest.raises(EngineError, match=f"cannot be used, for .*{why}.*; choose another"):
        Model(model_file(SMALL), "exact")


# --- contexts ---


def test_there_may_be_more_slots_than_tokens_in_a_call(load_model: Callable[[str], Model]) -> None:
    context = context_of(load_model(SMALL), slots=64)
    context.evaluate([Cell(5 + slot, 0, slot, wanted=True) for slot in range(EXACT_TOKENS)])
    assert np.isfinite(context.logits(EXACT_TOKENS - 1)).all()


def test_a_context_that_is_closed_gives_its_memory_back(load_model: Callable[[str], Model]) -> None:
    context = context_of(load_model(SMALL), context_tokens=8_192)
    context.evaluate(cells([5, 6]))
    before = psutil.Process().memory_info().rss
    context.close()
    context.close()
    context.interrupt()
    assert psutil.Process().memory_info().rss < before - 100_000_000


def test_a_context_without_memory_is_one_sentence(load_model: Callable[[str], Model]) -> None:
    with pytest.raises(EngineError, match=r"256 texts of 2000000 tokens need 11796480 MB, .*; lower"):
        context_of(load_model(SMALL), context_tokens=2_000_000, slots=256)


def test_a_full_cache_is_one_sentence(load_model: Callable[[str], Model]) -> None:
    context = context_of(load_model(SMALL))
    for start in range(0, 256, 64):
        context.evaluate(cells([5] * 64, start=start))
    with pytest.raises(EngineError, match="cache of the model is full"):
        context.evaluate(cells([5], start=256))


def test_a_call_that_makes_no_sense_is_one_sentence(load_model: Callable[[str], Model]) -> None:
    context = context_of(load_model(SMALL))
    with pytest.raises(EngineError, match=r"failed with code -1 \(.+\); the log") as caught:
        context.evaluate(cells([5], start=9, slot=0) + cells([5], start=3, slot=0))
    assert "\n" not in str(caught.value)


def test_what_llama_says_of_a_call_quotes_no_token(
    load_model: Callable[[str], Model], caplog: pytest.LogCaptureFixture
) -> None:
    context = context_of(load_model(SMALL))
    with (
        caplog.at_level(logging.DEBUG, "pipesd.llama"),
        pytest.raises(EngineError, match="failed with code -1") as caught,
    ):
        context.evaluate(cells([1, 987_654]))
    assert "invalid token[1] = …" in caplog.text
    assert "987654" not in f"{caught.value} {caplog.text}"


def test_an_interrupted_call_fails_until_it_is_allowed(load_model: Callable[[str], Model]) -> None:
    context = context_of(load_model(SMALL))
    context.evaluate(cells([5, 6, 7]))
    expected = context.logits(2).copy()
    context.cut(0, 0)
    context.interrupt()
    for _ in range(2):
        with pytest.raises(InterruptedStepError):
            context.evaluate(cells([5, 6, 7]))
        context.cut(0, 0)
    context.allow()
    context.evaluate(cells([5, 6, 7]))
    assert np.array_equal(context.logits(2), expected)


def test_numerics_decide_how_much_shares_a_call(
    load_model: Callable[[str], Model], model_file: Callable[[str], Path]
) -> None:
    assert context_of(load_model(SMALL)).call_tokens == EXACT_TOKENS == 7
    fast = Model(model_file(SMALL), "fast")
    assert fast.numerics == "fast"
    context = context_of(fast)
    assert context.call_tokens == FAST_TOKENS
    context.evaluate(cells([5, 6, 7]))
    assert np.isfinite(context.logits(2)).all()


# --- quantising ---


def test_a_smaller_model_of_a_model_still_speaks(model_file: Callable[[str], Path], tmp_path: Path) -> None:
    source, result = model_file(SMALL), tmp_path / "smaller.gguf"
    quantize(source, result, "Q2_K", 2)
    small, whole = Model(result, "exact"), Model(source, "exact")
    assert small.tokenizer.vocabulary.hashes == whole.tokenizer.vocabulary.hashes
    prompt = whole.tokenizer.encode("Once upon a time there was a little")
    found = []
    for model in (small, whole):
        context = context_of(model)
        context.evaluate(cells(prompt))
        found.append(context.logits(len(prompt) - 1).copy())
    assert 0.5 < np.corrcoef(found[0], found[1]).min() < 0.9999


def test_a_kind_of_weights_that_is_none_is_named(model_file: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^type: 'Q0' is no kind of weights; choose one of .*Q2_K"):
        quantize(model_file(SMALL), tmp_path / "x.gguf", "Q0", 1)
    assert "Q4_K_M" in quantized_kinds()


def test_what_is_no_model_cannot_be_quantised(tmp_path: Path) -> None:
    source = tmp_path / "broken.gguf"
    source.write_bytes(b"GGUF" + bytes(1_000))
    with pytest.raises(EngineError, match="cannot be quantised"):
        quantize(source, tmp_path / "x.gguf", "Q2_K", 1)
