"""How many rows a block has: the condition for exact numerics with torch, found out on the machine itself.

Which kernel multiplies a row of a call with the weights, and so in which order it is summed, depends on the
processor, on torch's libraries, and on how many rows there are. With MKL and AVX2, for example, rows come in
fours and the rest is summed otherwise, and a lone row is summed in a third way. None of this is promised to
anyone. So it is measured, with the model's own weights, each time one is loaded.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipesd.engines.caches import Cell
from pipesd.engines.hf_calls import EXACT_TOKENS, TorchCalls

_BLOCKS = (1, 2, 4, 8, 16)
_SPLITS: tuple[tuple[int, ...], ...] = ((16,), (1, 15), (3, 2, 11), (6, 9, 1), (5, 4, 7))
"""In which calls the same 16 tokens are evaluated, to compare the logits."""


def block_of(model: Any, tokens: Sequence[int]) -> int | None:  # noqa: ANN401 - of transformers
    """The fewest rows in calls of whose multiples, up to 16, each row's result is the same to the bit.

    None if no number is enough. ``tokens``: 16 of the vocabulary, to try the whole model with.
    """
    block = _block_of_weights(model)
    if block is None:
        return None
    calls = TorchCalls(model, tokens_max=EXACT_TOKENS, slots=1, block=block)
    found = [_all_logits(calls, tokens, split) for split in _SPLITS]
    return block if all(np.array_equal(found[0], other) for other in found[1:]) else None


def _block_of_weights(model: Any) -> int | None:  # noqa: ANN401 - of transformers
    modules = list(_one_of_each_shape(model))
    for block in _BLOCKS:
        if all(_is_alike(module, width, block) for module, width in modules):
            return block
    return None


def _one_of_each_shape(model: Any) -> Iterator[tuple[torch.nn.Module, int]]:  # noqa: ANN401
    """(module, how wide its rows are) for every shape of weights that rows are multiplied with."""
    seen = set()
    for module in model.modules():
        is_linear = isinstance(module, torch.nn.Linear)
        if is_linear or type(module).__name__ == "Conv1D":
            shape = tuple(module.weight.shape)
            if (shape, is_linear) not in seen:
                seen.add((shape, is_linear))
                yield module, shape[1] if is_linear else shape[0]


def _is_alike(module: torch.nn.Module, width: int, block: int) -> bool:
    luck = torch.Generator().manual_seed(0)
    rows = torch.randn((1, EXACT_TOKENS, width), generator=luck).to(module.weight.dtype)
    with torch.inference_mode():
        whole = module(rows)
        for count in range(block, EXACT_TOKENS, block):
            if not torch.equal(module(rows[:, -count:]), whole[:, -count:]):
                return False
        turned = (module(rows.roll(by, 1)).roll(-by, 1) for by in range(1, block))
        return all(torch.equal(found, whole) for found in turned)


def _all_logits(calls: TorchCalls, tokens: Sequence[int], split: Sequence[int]) -> NDArray[np.float32]:
    """Behind each token of a text that is evaluated in calls of so many tokens."""
    rows = []
    for start, stop in pairwise(accumulate(split, initial=0)):
        calls.evaluate([Cell(tokens[at], at, 0, wanted=True) for at in range(start, stop)])
        rows += [calls.logits(at) for at in range(stop - start)]
    return np.stack(rows)
