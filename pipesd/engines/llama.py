"""The one door to llama.cpp: a model file, its tokenizer, and a context that evaluates tokens.

Nothing here knows drafts or verdicts; ``llama_pair`` makes the engines of it.

Exact numerics (on the CPU): the logits behind a token are the same to the bit, however many tokens, right or
wrong ones, of whichever sequences were evaluated in the same call. Four things make it so, and
``tests/engines/test_llama_exact.py`` holds them down: no repacked weights; at most 7 output tokens in a call,
since from 8 on other kernels multiply; prompt chunks by themselves; and a cache whose values are bfloat16,
since for float16 ones llama.cpp 0.3.36 sums a lone token's attention in another order from 512 tokens on.

Threads of llama.cpp that wait for each other spin for a moment only and then sleep, unless OMP_WAIT_POLICY or
GOMP_SPINCOUNT say otherwise: if they spin for long, two models on one machine starve each other, and a step
takes several times as long; if they sleep at once, it takes half as long again on an idle machine.
"""

import ctypes
import logging
import os
import re
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "300")  # before OpenMP is loaded, with the next line

import llama_cpp
import numpy as np
import psutil
from numpy.typing import NDArray

from pipesd.engines.caches import Cell, Numerics
from pipesd.engines.store import fingerprint
from pipesd.errors import EngineError, InterruptedStepError, UsageError, one_line
from pipesd.vocabulary import PROBE, Vocabulary, cutting_of

logger = logging.getLogger("pipesd.llama")

EXACT_TOKENS = 7
"""Most output tokens in one call under exact numerics."""

FAST_TOKENS = 64
"""Most output tokens in one call otherwise; room for the logits of each is kept, 4 bytes per known token."""

_F16, _BF16 = 1, 30
_VALUE_BYTES = 2
_PIECE_BYTES = 256
_DONE, _FULL, _ABORTED = 0, 1, 2
_WARNING, _ERROR = 3, 4
"""Levels of llama.cpp's log."""

_TOKEN_ID = re.compile(r"(?<=invalid token\[)(\d+\] = )-?\d+")
"""Where it quotes a text."""


class _Log:
    """What llama.cpp says goes to the log; its last error, or else warning, explains a failure."""

    def __init__(self) -> None:
        self._complaints: dict[int, str] = {}
        self._callback = llama_cpp.llama_log_callback(self._take)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _: ctypes.c_void_p) -> None:
        line = _TOKEN_ID.sub(r"\1…", one_line(text.decode(errors="replace").strip()))
        if line.strip("."):
            logger.debug("%s", line)
            if level in (_WARNING, _ERROR):
                self._complaints[level] = line

    def forget(self) -> None:
        self._complaints.clear()

    def why(self) -> str:
        """In brackets, what was complained of since ``forget``."""
        line = self._complaints.get(_ERROR) or self._complaints.get(_WARNING)
        return f" ({line})" if line else ""


_LOG = _Log()
llama_cpp.llama_backend_init()


def build() -> str:
    """Which llama.cpp this is, and which features of the processor it uses."""
    about = llama_cpp.llama_print_system_info().decode(errors="replace")
    words = about.replace("|", " ").replace(" = 1", "").split()
    return one_line(f"llama.cpp of llama-cpp-python {llama_cpp.__version__}, {' '.join(words)}")


class _Handle:
    """Frees a model when the last who needs it is gone."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - a C pointer
        weakref.finalize(self, llama_cpp.llama_model_free, model).atexit = False


def _unusable(model: Any) -> str:  # noqa: ANN401 - a C pointer
    """Why a model cannot draft or judge; empty if it can."""
    if llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model):
        return "it is recurrent, and its state cannot be cut back to an earlier token"
    if llama_cpp.llama_model_has_encoder(model) or llama_cpp.llama_model_is_diffusion(model):
        return "it does not write token by token"
    return ""


class Model:
    """A model file in memory. Raises ``EngineError`` if it cannot be loaded."""

    def __init__(self, path: Path, numerics: Numerics, *, gpu_layers: int = 0) -> None:
        self.name = f"{one_line(path.stem)} {fingerprint(path)}"
        """What decides its picks: the file's name and fingerprint."""

        self.gpu_layers = gpu_layers if llama_cpp.llama_supports_gpu_offload() else 0
        """How many layers lie on a GPU, at most; none if llama.cpp was built for the CPU alone."""

        self.numerics: Numerics = "fast" if self.gpu_layers else numerics
        """What holds: on a GPU nobody has shown that numerics are exact."""

        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = self.gpu_layers
        params.use_extra_bufts = self.numerics == "fast"
        _LOG.forget()
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise EngineError(
                f"the model {path} cannot be loaded{_LOG.why()}; check the file, and that memory is enough"
            )
        self._handle = _Handle(self._model)
        problem = _unusable(self._model)
        if self._about(f"{self._about('general.architecture')}.attention.causal") == "false":
            problem = "it reads both ways and writes nothing"
        if problem:
            raise EngineError(f"the model {path} cannot be used, for {problem}; choose another")
        self._vocab: Any = llama_cpp.llama_model_get_vocab(self._model)
        self.context_tokens = int(llama_cpp.llama_model_n_ctx_train(self._model))
        """Most tokens of a text that it was trained on."""

        self.tokenizer = LlamaTokenizer(self._vocab, keeps=self._handle)

    @property
    def begin_ids(self) -> tuple[int, ...]:
        """What stands before every text."""
        if not llama_cpp.llama_vocab_get_add_bos(self._vocab):
            return ()
        return (int(llama_cpp.llama_vocab_bos(self._vocab)),)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer, the model's own first."""
        own = int(llama_cpp.llama_vocab_eos(self._vocab))
        ids = range(len(self.tokenizer.vocabulary))
        found = [token for token in ids if llama_cpp.llama_vocab_is_eog(self._vocab, token)]
        return tuple(sorted(found, key=lambda token: token != own))

    @property
    def control_ids(self) -> tuple[int, ...]:
        """The tokens that are never shown."""
        ids = range(len(self.tokenizer.vocabulary))
        return tuple(token for token in ids if llama_cpp.llama_vocab_is_control(self._vocab, token))

    @property
    def template(self) -> str:
        """The chat template, as Jinja source; empty if there is none."""
        source = llama_cpp.llama_model_chat_template(self._model, None)
        return source.decode(errors="replace") if source else ""

    def check_memory(self, texts: int, tokens: int) -> None:
        """Raise ``EngineError`` unless the caches of so many texts of so many tokens fit the free memory.

        llama.cpp would end the process.
        """
        values = self._head_values("key") + self._head_values("value")
        heads = llama_cpp.llama_model_n_head_kv(self._model) * llama_cpp.llama_model_n_layer(self._model)
        needed = _VALUE_BYTES * values * heads * tokens * texts
        free = psutil.virtual_memory().available
        if needed > free:
            raise EngineError(
                f"the caches of {texts} texts of {tokens} tokens need {needed // 10**6} MB, but only "
                f"{free // 10**6} MB of memory are free; lower context_tokens or kv_sequences"
            )

    def _head_values(self, kind: str) -> int:
        """Numbers in a key or a value of one attention head."""
        length = self._about(f"{self._about('general.architecture')}.attention.{kind}_length")
        usual = llama_cpp.llama_model_n_embd(self._model) // llama_cpp.llama_model_n_head(self._model)
        return int(length) if length.isdecimal() else int(usual)

    def _about(self, key: str) -> str:
        """An entry of the file's metadata; empty if there is none."""
        buffer = ctypes.create_string_buffer(256)
        llama_cpp.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace")

    def _new_context(self, params: llama_cpp.llama_context_params) -> Any:  # noqa: ANN401 - a C pointer
        _LOG.forget()
        return llama_cpp.llama_init_from_model(self._model, params)


class LlamaTokenizer:
    """The tokenizer of a model file."""

    def __init__(self, vocab: Any, keeps: object) -> None:  # noqa: ANN401 - a C pointer
        """``keeps``: what the vocabulary belongs to, and must outlive it."""
        self._vocab = vocab
        self._keeps = keeps
        self._vocabulary = Vocabulary(tuple(_pieces(vocab)), cutting_of(self.encode(PROBE)))

    @property
    def vocabulary(self) -> Vocabulary:
        """The bytes of every token, control tokens included; unused ids are empty."""
        return self._vocabulary

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of ``text``; see ``Tokenizer``. Raises ``UsageError`` if it is not sayable in UTF-8."""
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"the text is not valid UTF-8 at character {error.start}; take out what stands there"
            ) from None
        room = len(data) + 8
        while True:
            ids = (llama_cpp.llama_token * room)()
            count = llama_cpp.llama_tokenize(self._vocab, data, len(data), ids, room, False, special)
            if count >= 0:
                return list(ids[:count])
            room = -count


def _pieces(vocab: Any) -> list[bytes]:  # noqa: ANN401 - a C pointer
    buffer = ctypes.create_string_buffer(_PIECE_BYTES)
    pieces = []
    for token in range(llama_cpp.llama_vocab_n_tokens(vocab)):
        if llama_cpp.llama_vocab_get_attr(vocab, token) & llama_cpp.LLAMA_TOKEN_ATTR_UNUSED:
            pieces.append(b"")
            continue
        length = llama_cpp.llama_token_to_piece(vocab, token, buffer, len(buffer), 0, True)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = llama_cpp.llama_token_to_piece(vocab, token, buffer, len(buffer), 0, True)
        pieces.append(buffer.raw[:length])
    return pieces


class Context:
    """Caches of a number of sequences, one per slot, and the calls that fill them.

    Not thread-safe but for ``interrupt``. Raises ``EngineError`` if there is not enough memory.
    """

    def __init__(
        self, model: Model, *, context_tokens: int, slots: int, chunk_tokens: int, threads: int
    ) -> None:
        model.check_memory(slots, context_tokens)
        self.tokens_max = context_tokens
        """Most tokens in a slot."""

        exact = model.numerics == "exact"
        self.call_tokens = EXACT_TOKENS if exact else FAST_TOKENS
        """Most output tokens for one ``evaluate``."""

        self._model = model
        self._room = max(min(chunk_tokens, context_tokens), self.call_tokens)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = context_tokens * slots
        params.n_batch = params.n_ubatch = self._room
        params.n_seq_max = slots
        params.n_outputs_max = max(self.call_tokens, slots)  # llama.cpp insists on one for each slot
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = False  # a cache of its own keeps each sequence's cells in order
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.type_k, params.type_v = _F16, _BF16 if exact else _F16
        params.no_perf = params.swa_full = True  # a sliding window could not be cut
        params.offload_kqv = params.op_offload = model.gpu_layers > 0
        self._context = model._new_context(params)
        if not self._context:
            raise EngineError(
                f"there is no context for {slots} texts of {context_tokens} tokens{_LOG.why()}; "
                "lower context_tokens or kv_sequences"
            )
        self._free = weakref.finalize(self, llama_cpp.llama_free, self._context)
        self._free.atexit = False
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(self._room, 0, 1)
        weakref.finalize(self, llama_cpp.llama_batch_free, self._batch).atexit = False
        self._vocabulary_size = len(model.tokenizer.vocabulary)
        self._stop = ctypes.create_string_buffer(2)
        llama_cpp.llama_set_abort_callback(self._context, _SET, ctypes.cast(self._stop, ctypes.c_void_p))

    def evaluate(self, cells: Sequence[Cell]) -> None:
        """One call, of at most ``call_tokens`` tokens or a prompt chunk.

        Raises ``InterruptedStepError`` or ``EngineError``; the slots then hold any part of the cells.
        """
        assert 0 < len(cells) <= self._room, "a call of no token, or of too many"
        batch = self._batch
        batch.n_tokens = len(cells)
        for index, cell in enumerate(cells):
            batch.token[index] = cell.token
            batch.pos[index] = cell.position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = cell.slot
            batch.logits[index] = cell.wanted
        _LOG.forget()
        code = llama_cpp.llama_decode(self._context, batch)
        if code == _ABORTED:
            raise InterruptedStepError("the step was interrupted")
        if code == _FULL:
            raise EngineError(
                "the cache of the model is full; lower the number of tokens, or raise context_tokens"
            )
        if code != _DONE:
            raise EngineError(f"llama.cpp failed with code {code}{_LOG.why()}; the log says more")

    def logits(self, index: int) -> NDArray[np.float32]:
        """Behind cell ``index`` of the last call, shape (vocabulary,). A view: gone with the next call."""
        row = llama_cpp.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(row, (self._vocabulary_size,))

    def cut(self, slot: int, length: int) -> None:
        """Forget all but the first ``length`` tokens of a slot."""
        was_cut = llama_cpp.llama_memory_seq_rm(self._memory, slot, length, -1)
        assert was_cut, "a cache that cannot be cut"

    def copy(self, source: int, slot: int, length: int) -> None:
        """Give ``slot`` the first ``length`` tokens of another, in place of what it holds."""
        llama_cpp.llama_memory_seq_rm(self._memory, slot, -1, -1)
        llama_cpp.llama_memory_seq_cp(self._memory, source, slot, -1, -1)  # nothing less, between caches
        self.cut(slot, length)

    def close(self) -> None:
        """Give the memory of the caches back; only ``interrupt`` may follow."""
        self._free()

    def allow(self) -> None:
        """Take back an ``interrupt``."""
        self._stop[0] = b"\0"

    def interrupt(self) -> None:
        """Make the call in flight, and those after it, fail soon; until ``allow``. From any thread."""
        self._stop[0] = b"\1"


def _c_length() -> Any:  # noqa: ANN401 - a C function
    """The C library's strlen, as a callback that asks "is the flag set?".

    llama.cpp asks before every operation of a step, some thousand times. A callback in Python would wait for
    the interpreter's lock each time; the length of a text of one byte that is 0 or 1 is the answer as well.
    """
    library = ctypes.CDLL(None if os.name == "posix" else "msvcrt")
    return ctypes.cast(library.strlen, llama_cpp.ggml_abort_callback)


_SET = _c_length()


def quantize(source: Path, result: Path, kind: str, threads: int) -> None:
    """Write ``source`` anew with weights of ``kind``, such as Q2_K. Blocks for a while.

    Raises ``UsageError`` for an unknown kind and ``EngineError`` if it fails; then part of ``result`` may be
    there. Quantising a quantised file loses more than quantising the original would.
    """
    number = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}", None)
    if number is None:
        raise UsageError(
            f"type: {kind!r} is no kind of weights; choose one of {', '.join(quantized_kinds())}"
        )
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.allow_requantize = number, threads, True
    _LOG.forget()
    code = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(result), ctypes.byref(params))
    if code != 0:
        raise EngineError(f"{source} cannot be quantised{_LOG.why()}; check the file and the disk's room")


def quantized_kinds() -> list[str]:
    """The kinds of weights that ``quantize`` can write."""
    prefix = "LLAMA_FTYPE_MOSTLY_"
    return sorted(name.removeprefix(prefix) for name in vars(llama_cpp) if name.startswith(prefix))
