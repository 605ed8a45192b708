"""How many rows make a block: with a module that sums as some kernels do, and with whole models."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipesd.engines.hf_calls import EXACT_TOKENS, NAME
from pipesd.engines.hf_rows import block_of
from tests.engines.tiny_hf import random_model

TOKENS = list(range(1, EXACT_TOKENS + 1))


class OddKernel(torch.nn.Linear):  # type: ignore[misc]
    """Adds a little to the rows that ``is_odd(row, rows)``, as another order of summation would."""

    def __init__(self, width: int, size: int, is_odd: Callable[[int, int], bool]) -> None:
        super().__init__(width, size, bias=False)
        self.is_odd = is_odd

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        count = rows.shape[1]
        exact = (rows[:, :, None, :].double() @ self.weight.double().T).float().squeeze(2)
        odd = torch.tensor([float(self.is_odd(row, count)) for row in range(count)])
        return exact + 1e-4 * odd[None, :, None]


def model_with(is_odd: Callable[[int, int], bool]) -> Any:
    torch.set_num_threads(1)
    model = random_model("llama").eval()
    model.set_attn_implementation(NAME)
    model.lm_head = OddKernel(model.lm_head.in_features, 320, is_odd)
    model.lm_head.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    return model


def rest_of(size: int) -> Callable[[int, int], bool]:
    """Rows beyond the last whole block."""
    return lambda row, rows: row >= rows - rows % size


def test_the_rest_of_a_block_is_filled_up() -> None:
    assert [block_of(model_with(rest_of(size)), TOKENS) for size in (8, 16)] == [8, 16]


@pytest.mark.parametrize(
    "is_odd",
    [
        lambda row, _: row % 4 == 1,
        lambda row, rows: row == rows - 1,
        lambda row, _: row == 0,
        lambda row, rows: rows < 16 and row == 5,
    ],
    ids=["every fourth", "the last", "the first", "smaller calls"],
)
def test_kernels_by_the_place_of_a_row_are_never_exact(is_odd: Callable[[int, int], bool]) -> None:
    expected = 16 if is_odd(5, 15) and not is_odd(5, 16) else None
    assert block_of(model_with(is_odd), TOKENS) == expected


def test_what_only_the_whole_model_shows_counts_too() -> None:
    model = model_with(lambda *_: False)
    assert block_of(model, TOKENS) is not None

    def disturb(_: object, __: object, result: SimpleNamespace) -> None:
        result.logits[:, -1] += 1e-3

    model.register_forward_hook(disturb)
    assert block_of(model, TOKENS) is None


def test_models_are_tried_in_the_numbers_that_they_have() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = random_model("gpt2").to(dtype).eval()
        model.set_attn_implementation(NAME)
        assert block_of(model, TOKENS) in (1, 2, 4, 8, 16)
