"""The door to transformers and torch: a model and its tokenizer, from a Hugging Face folder or a GGUF file.

No code that comes with a model is ever run, nor is anything fetched. Weights of GGUF files are de-quantised.

As to threads that spin while they wait for each other, see ``llama``.
"""

import inspect
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "300")  # before OpenMP is loaded, with the next lines
os.environ.setdefault("TQDM_DISABLE", "1")

import psutil
import torch
import transformers

from pipesd.engines.caches import Cell, Numerics
from pipesd.engines.hf_calls import EXACT_TOKENS, NAME, TorchCalls, attend
from pipesd.engines.hf_rows import block_of
from pipesd.engines.hf_tokens import HfTokenizer
from pipesd.engines.store import fingerprint
from pipesd.errors import EngineError, one_line

logger = logging.getLogger("pipesd.torch")

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

_USUAL_ENDS = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<end_of_turn>", "</s>"}
"""Control tokens that end an answer wherever they occur; GGUF files name only one end."""

_NO_LIMIT = 2**31 - 1
_REASON_LETTERS = 300

transformers.AttentionInterface.register(NAME, attend)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


class Model:
    """A model in memory. Raises ``EngineError`` if it cannot be loaded or used."""

    def __init__(
        self, path: Path, numerics: Numerics, *, device: Device = "auto", dtype: Dtype = "auto", threads: int
    ) -> None:
        self.device = _device(device)
        self.dtype = _dtype(dtype, self.device)
        torch.set_num_threads(threads)
        self.name = f"{one_line(path.stem if path.is_file() else path.name)} {fingerprint(path)}"
        """What decides its picks, besides ``engine``: its name and fingerprint."""

        self.engine = (
            f"transformers {transformers.__version__}, torch {torch.__version__}, "
            f"{self.device} {str(self.dtype).removeprefix('torch.')}, threads {threads}"
        )
        """What runs it, and how: another number of threads may sum in another order."""

        place, options = _where(path)
        with _loading(path):
            config = transformers.AutoConfig.from_pretrained(place, **options)
            self._check_kind(path, config)
            backend = transformers.AutoTokenizer.from_pretrained(place, **options)
            self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                place, dtype=self.dtype, attn_implementation=NAME, use_safetensors=True, **options
            ).to(self.device)
        if not backend.is_fast:
            raise EngineError(f"the model {path} has no fast tokenizer; choose another")
        self._hf_tokenizer: Any = backend
        self._config: Any = self._model.config.get_text_config()
        size = int(self._model.get_output_embeddings().weight.shape[0])
        self.tokenizer = HfTokenizer(backend.backend_tokenizer, size=size, has_padding=path.is_file())
        self._block: int | None = None
        self._check_layers(path)
        if numerics == "exact":
            self._block = self._found_block()
        self.numerics: Numerics = "fast" if self._block is None else "exact"
        """What holds: exact numerics are claimed on the CPU only, and where a trial bears it out."""

    @property
    def context_tokens(self) -> int:
        """Most tokens of a text that it was trained on."""
        return int(getattr(self._config, "max_position_embeddings", None) or _NO_LIMIT)

    @property
    def begin_ids(self) -> tuple[int, ...]:
        """What stands before every text."""
        ids = self._hf_tokenizer("").input_ids
        begin = self._hf_tokenizer.bos_token_id
        return (int(begin),) if begin is not None and ids[:1] == [begin] else ()

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer, the model's own first."""
        named = self._model.generation_config.eos_token_id
        found = [self._hf_tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
        pieces = self.tokenizer.vocabulary.pieces
        usual = [token for token in self.control_ids if pieces[token].decode(errors="replace") in _USUAL_ENDS]
        ends = [int(token) for token in (*found, *usual) if token is not None and token < len(pieces)]
        return tuple(dict.fromkeys(ends))

    @cached_property
    def control_ids(self) -> tuple[int, ...]:
        """The tokens that are never shown."""
        return self.tokenizer.control_ids

    @property
    def template(self) -> str:
        """The chat template, as Jinja source; empty if there is none."""
        template = self._hf_tokenizer.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        return template or ""

    def calls(self, *, context_tokens: int, slots: int) -> TorchCalls:
        """The model with caches for so many sequences of so many tokens."""
        return TorchCalls(
            self._model, tokens_max=min(context_tokens, self.context_tokens), slots=slots, block=self._block
        )

    def _check_kind(self, path: Path, config: Any) -> None:  # noqa: ANN401 - of transformers
        with torch.device("meta"):
            empty = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        problem = _unusable(empty)
        if problem:
            raise EngineError(f"the model {path} cannot be used, for {problem}; choose another")
        needed = sum(part.numel() for part in empty.parameters()) * self.dtype.itemsize
        free = psutil.virtual_memory().available
        if self.device == "cpu" and needed > free:
            raise EngineError(
                f"the model {path} needs {needed // 10**6} MB as {self.dtype}, but only {free // 10**6} MB "
                "of memory are free; choose a smaller one, or --dtype bfloat16"
            )

    def _check_layers(self, path: Path) -> None:
        """Raise ``EngineError`` unless all that a layer remembers is in its keys and values."""
        calls = self.calls(context_tokens=EXACT_TOKENS, slots=1)
        calls.evaluate([Cell(0, 0, 0, wanted=True)])
        if calls.layers != list(range(self._config.num_hidden_layers)):
            raise EngineError(
                f"the model {path} cannot be used, for not every layer of it keeps its memory in keys and "
                "values, which can be cut back to an earlier token; choose another"
            )

    def _found_block(self) -> int | None:
        if self.device != "cpu" or _has_experts(self._config):
            return None
        size = len(self.tokenizer.vocabulary)
        block = block_of(self._model, [1 + at * (size - 2) // EXACT_TOKENS for at in range(EXACT_TOKENS)])
        if block is None:
            logger.warning("torch is not exact with this model on this machine; its numerics are fast")
        return block


def _unusable(model: Any) -> str:  # noqa: ANN401 - of transformers
    """Why a model cannot draft or judge; empty if it can."""
    if model.config.is_encoder_decoder or "logits_to_keep" not in inspect.signature(model.forward).parameters:
        return "it does not write token by token"
    if model._is_stateful:
        return "it is recurrent, and its state cannot be cut back to an earlier token"
    if not model._supports_attention_backend:
        return "its attention cannot be told which tokens belong together"
    return ""


def _has_experts(config: Any) -> bool:  # noqa: ANN401 - of transformers
    """Whether tokens are sorted to experts: what shares an expert's multiplication depends on the call."""
    return any("expert" in name and bool(value) for name, value in config.to_dict().items())


def _where(path: Path) -> tuple[str, dict[str, Any]]:
    """What transformers calls the place of a model, and the options that go with it."""
    options = {"local_files_only": True, "trust_remote_code": False}
    if path.is_dir():
        return str(path.absolute()), options
    return str(path.absolute().parent), {**options, "gguf_file": path.name}


@contextmanager
def _loading(path: Path) -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except ImportError as error:
        raise EngineError(
            f"the model {path} needs a package that is missing ({_reason(error)}); "
            "run pip install 'pipesd[torch]'"
        ) from error
    except Exception as error:
        advice = "check the folder" if path.is_dir() else "check the file"
        if "memory" in str(error):
            advice = "choose a smaller one, or --dtype bfloat16"
        raise EngineError(f"the model {path} cannot be loaded ({_reason(error)}); {advice}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return one_line(text[:_REASON_LETTERS]).rstrip(".") or type(error).__name__


def _device(wanted: Device) -> str:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if not there[wanted]:
        raise EngineError(f"torch finds no device {wanted} here; leave --device out, or install its driver")
    return wanted


def _dtype(wanted: Dtype, device: str) -> torch.dtype:
    if wanted != "auto":
        found: torch.dtype = getattr(torch, wanted)
        return found
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float16 if device == "mps" else torch.float32
