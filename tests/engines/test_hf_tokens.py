"""Text to ids and ids to bytes, for the kinds of tokenizers that there are."""

from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from pipesd.engines.hf_tokens import HfTokenizer
from pipesd.errors import EngineError, UsageError
from tests.engines.tiny_hf import CONTROL, tokenizer

TEXTS = ["the quick brown fox", "你好,世界", "🙂 ünï", "  two\n\n\tlines ", "\u0000", ""]


def byte_level() -> HfTokenizer:
    return HfTokenizer(tokenizer().backend_tokenizer, size=320, has_padding=False)


def sentencepiece_like() -> Any:
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)}
    for piece in ("▁", "a", "b", "▁a", "ab", "▁ab"):
        vocabulary[piece] = len(vocabulary)
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b")]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_special_tokens([AddedToken("</s>", normalized=False, special=True)])
    return backend


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_survives_its_tokens(text: str) -> None:
    for found in (byte_level(), HfTokenizer(sentencepiece_like(), size=300, has_padding=False)):
        tokens = found.encode(text)
        assert b"".join(found.vocabulary.pieces[token] for token in tokens).decode() == text
        assert bool(tokens) == bool(text)


def test_ids_beyond_the_last_are_empty() -> None:
    found = byte_level()
    known = tokenizer().backend_tokenizer.get_vocab_size()
    assert len(found.vocabulary) == 320 > known
    assert set(found.vocabulary.pieces[known:]) == {b""}
    assert b"" not in found.vocabulary.pieces[:known]


def test_bytes_are_the_pieces_of_a_vocabulary_that_falls_back_to_them() -> None:
    pieces = HfTokenizer(sentencepiece_like(), size=262, has_padding=False).vocabulary.pieces
    assert pieces[:256] == tuple(bytes([byte]) for byte in range(256))
    assert pieces[256:] == (b" ", b"a", b"b", b" a", b"ab", b" ab")


def test_control_tokens_are_known_and_only_said_on_demand() -> None:
    found = byte_level()
    assert [found.vocabulary.pieces[token].decode() for token in found.control_ids] == list(CONTROL)
    assert not set(found.encode("a<|im_end|>b")) & set(found.control_ids)
    assert 1 in found.encode("a<|im_end|>b", special=True)
    assert not set(found.encode("a<|im_end|>b")) & set(found.control_ids)


def test_padding_in_gguf_files_is_empty() -> None:
    backend = tokenizer().backend_tokenizer
    size = backend.get_vocab_size()
    backend.add_tokens([f"[PAD{size}]", "[PAD7]"])
    assert HfTokenizer(backend, size=size + 2, has_padding=True).vocabulary.pieces[size:] == (b"", b"[PAD7]")
    plain = HfTokenizer(backend, size=size + 2, has_padding=False)
    assert plain.vocabulary.pieces[size:] == (b"[PAD%d]" % size, b"[PAD7]")


def test_how_text_is_cut_is_part_of_the_vocabulary() -> None:
    other = tokenizer().backend_tokenizer
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    cut_otherwise = HfTokenizer(other, size=320, has_padding=False).vocabulary
    assert cut_otherwise.hashes == byte_level().vocabulary.hashes
    assert len(byte_level().vocabulary.cutting) == 8
    assert byte_level().vocabulary.cutting == byte_level().vocabulary.cutting


def test_a_text_that_utf8_cannot_say_is_the_callers_fault() -> None:
    with pytest.raises(UsageError, match="not valid UTF-8 at character 2"):
        byte_level().encode("ab\udcff")


@pytest.mark.parametrize(
    ("decoder", "says"), [(decoders.WordPiece(), "it decodes by WordPiece"), (None, "it decodes by nothing")]
)
def test_tokens_that_are_no_bytes_are_refused(decoder: Any, says: str) -> None:
    backend = Tokenizer(models.WordPiece(vocab={"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    if decoder is not None:
        backend.decoder = decoder
    with pytest.raises(EngineError, match=rf"tokens are no bytes \({says}\); choose another model"):
        HfTokenizer(backend, size=2, has_padding=False)
