"""The tokenizer of a transformers model: text to ids, and the bytes of every id."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from pipesd.errors import EngineError, UsageError
from pipesd.vocabulary import PROBE, Vocabulary, cutting_of

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""Stands for a space in the vocabularies of sentencepiece."""


class HfTokenizer:
    """A fast tokenizer; raises ``EngineError`` if it is of a kind whose tokens are no bytes."""

    def __init__(self, backend: Any, *, size: int, has_padding: bool) -> None:  # noqa: ANN401
        """``backend``: of the package tokenizers; ``size``: how many ids the model knows.

        ``has_padding``: whether unused ids are spelled [PAD123], as in GGUF files.
        """
        self._backend = backend
        pieces = list(_pieces(backend, size))
        if has_padding:
            pieces = [b"" if piece == b"[PAD%d]" % token else piece for token, piece in enumerate(pieces)]
        self._vocabulary = Vocabulary(tuple(pieces), cutting_of(self.encode(PROBE)))

    @property
    def vocabulary(self) -> Vocabulary:
        """The bytes of every token, control tokens included; unused ids are empty."""
        return self._vocabulary

    @property
    def control_ids(self) -> tuple[int, ...]:
        """The tokens that are never shown."""
        added = self._backend.get_added_tokens_decoder()
        size = len(self._vocabulary)
        return tuple(sorted(token for token, about in added.items() if about.special and token < size))

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of ``text``; see ``Tokenizer``. Raises ``UsageError`` if it is not sayable in UTF-8."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"the text is not valid UTF-8 at character {error.start}; take out what stands there"
            ) from None
        self._backend.encode_special_tokens = not special
        return list(self._backend.encode(text, add_special_tokens=False).ids)


def _pieces(backend: Any, size: int) -> Iterator[bytes]:  # noqa: ANN401 - of the package tokenizers
    spelled = _spelling(backend)
    added = backend.get_added_tokens_decoder()
    for token in range(size):
        text = backend.id_to_token(token)
        if text is None:
            yield b""
        elif token in added:
            yield added[token].content.encode()
        else:
            yield spelled(text)


def _spelling(backend: Any) -> Callable[[str], bytes]:  # noqa: ANN401 - of the package tokenizers
    """How tokens spell their bytes."""
    kinds = set(_kinds(json.loads(backend.decoder.__getstate__()))) if backend.decoder else set()
    if "ByteLevel" in kinds:
        return _spelled_in_bytes
    if kinds & {"ByteFallback", "Metaspace"}:
        return _spelled_in_text
    raise EngineError(
        f"the tokenizer of the model cannot be used, for its tokens are no bytes "
        f"(it decodes by {', '.join(sorted(kinds)) or 'nothing'}); choose another model"
    )


def _kinds(decoder: dict[str, Any]) -> Iterator[str]:
    yield decoder["type"]
    for part in decoder.get("decoders", ()):
        yield from _kinds(part)


def _byte_letters() -> dict[str, int]:
    """The letter for every byte in byte-level vocabularies: itself if it prints, else one from 256 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + at): byte for at, byte in enumerate(others)}


_BYTES = _byte_letters()


def _spelled_in_bytes(text: str) -> bytes:
    if all(letter in _BYTES for letter in text):
        return bytes(_BYTES[letter] for letter in text)
    return text.encode()


def _spelled_in_text(text: str) -> bytes:
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes([int(text[3:5], 16)])
    return text.replace(_SPACE, " ").encode()
