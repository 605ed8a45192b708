"""Tiny random models of transformers with a tiny tokenizer, saved as folders."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import pipesd.engines.hf  # noqa: F401 - registers our attention with transformers

WORDS = "the quick brown fox jumps over the lazy dog and pack my box with five dozen liquor jugs, 123 times\n"
ENDS = ("<|im_end|>", "<|endoftext|>")
CONTROL = ("<|im_start|>", *ENDS)
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
SIZES = {
    "vocab_size": 320,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": None,
    "initializer_range": 0.3,
}


def tokenizer() -> Any:
    """Byte-level, trained on a few words."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([WORDS], trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=ENDS[0])
    fast.chat_template = TEMPLATE
    return fast


def random_model(kind: str = "llama", **settings: Any) -> Any:
    """A model of a kind that transformers knows, always the same."""
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **settings})
    return transformers.AutoModelForCausalLM.from_config(config)


def save(folder: Path, kind: str = "llama", **settings: Any) -> Path:
    """A folder as Hugging Face has them."""
    random_model(kind, **settings).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
