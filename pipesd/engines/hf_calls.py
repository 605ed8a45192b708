"""One call of a transformers model over tokens of several sequences, each with a cache of its own.

The rows of a call are packed behind one another, as one sequence of their own as far as the model knows. Only
its attention has to know better, and that is ours: ``attend`` is registered with transformers as ``NAME``. It
appends the new keys and values to the cache of each row's slot, and lets each row look at its own slot only.

Exact numerics: the logits behind a token must be the same to the bit, whatever else is in the call. What
multiplies rows of tokens with weights does so in blocks of rows, and the rows of a block that is not full may
be summed in another order. So output tokens are evaluated in calls of whole blocks (``hf_rows`` finds out how
large they are), each row attends by itself, and prompt chunks are calls by themselves.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention

from pipesd.engines.caches import Cell
from pipesd.errors import EngineError, InterruptedStepError, one_line

NAME = "pipesd"
"""Of ``attend``, among the kinds of attention that transformers knows."""

EXACT_TOKENS = 16
"""Most output tokens in one call under exact numerics."""

FAST_TOKENS = 64
"""Most output tokens in one call otherwise."""

_FIRST_TOKENS = 256
"""Room in a new cache; it doubles as it grows."""

_FOREIGN = ("softcap", "s_aux", "position_bias")
"""What a model may ask of attention that ``attend`` does not do."""


class SlotCache:
    """Keys and values of one sequence: of each layer a tensor (heads, room, values of a head)."""

    def __init__(self, tokens_max: int) -> None:
        self._tokens_max = tokens_max
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def write(self, layer: int, start: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put keys and values, shape (heads, tokens, values), in place of those from ``start`` on."""
        stop = start + keys.shape[1]
        held = self._layers.get(layer)
        if held is None or held[0].shape[1] < stop:
            held = self._layers[layer] = self._grown(keys, held, 0, stop), self._grown(values, held, 1, stop)
        held[0][:, start:stop] = keys
        held[1][:, start:stop] = values

    def read(self, layer: int, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values of some tokens."""
        keys, values = self._layers[layer]
        return keys[:, start:stop], values[:, start:stop]

    def copied(self, length: int) -> "SlotCache":
        """A cache of the first ``length`` tokens."""
        copy = SlotCache(self._tokens_max)
        for layer, (keys, values) in self._layers.items():
            copy.write(layer, 0, keys[:, :length], values[:, :length])
        return copy

    def clear(self) -> None:
        """Give the memory back."""
        self._layers.clear()

    def _grown(
        self, like: torch.Tensor, held: tuple[torch.Tensor, torch.Tensor] | None, which: int, stop: int
    ) -> torch.Tensor:
        heads, _, values = like.shape
        room = _FIRST_TOKENS
        while room < stop:
            room *= 2
        grown = like.new_zeros((heads, min(room, max(stop, self._tokens_max)), values))
        if held is not None:
            grown[:, : held[which].shape[1]] = held[which]
        return grown


@dataclass(frozen=True, slots=True)
class _Rows:
    """Neighbouring rows of a call that hold neighbouring tokens of one slot."""

    cache: SlotCache
    first_row: int
    first_position: int
    count: int

    @property
    def rows(self) -> slice:
        return slice(self.first_row, self.first_row + self.count)

    def single(self) -> "Iterator[_Rows]":
        for at in range(self.count):
            yield _Rows(self.cache, self.first_row + at, self.first_position + at, 1)


class _Call:
    """What ``attend`` must know of the call it is part of."""

    def __init__(self, parts: Sequence[_Rows], *, alone: bool, calls: "TorchCalls") -> None:
        self._calls = calls
        self.written = parts
        self.looking = [row for part in parts for row in part.single()] if alone else parts
        self.layers: list[int] = []
        self._masks: dict[tuple[int, int, int], torch.Tensor] = {}

    def enter(self, layer: int) -> None:
        """Called by every layer in turn, which is where a call can be stopped."""
        if self._calls.is_stopped:
            raise InterruptedStepError("the step was interrupted")
        self.layers.append(layer)

    def mask(self, part: _Rows, groups: int, window: int, device: torch.device) -> torch.Tensor | None:
        """Which of its slot's tokens, from ``self.start`` on, rows see; None if they see all of them."""
        if part.count == 1:
            return None
        known = part.first_row, groups, window
        if known not in self._masks:
            rows = torch.arange(part.first_position, part.first_position + part.count, device=device)[:, None]
            seen = torch.arange(_start(part, window), part.first_position + part.count, device=device)[None]
            self._masks[known] = ((seen <= rows) & (seen > rows - window)).repeat(groups, 1)
        return self._masks[known]


_CALL: ContextVar[_Call] = ContextVar("pipesd call of a model")

_ENDLESS = 2**62
"""A window of attention that holds every text."""


def _start(part: _Rows, window: int) -> int:
    """The first token that any of the rows sees."""
    return max(0, part.first_position + 1 - window)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **others: Any,  # noqa: ANN401 - whatever transformers hands to attention functions
) -> tuple[torch.Tensor, None]:
    """The attention of one layer, for rows of shape (1, heads, rows, values); see above."""
    foreign = [name for name in _FOREIGN if others.get(name) is not None]
    if attention_mask is not None or not getattr(module, "is_causal", True):
        foreign.append("mask")
    if foreign:
        raise EngineError(
            f"the model cannot be used, for its attention needs what pipesd does not do ({foreign[0]}); "
            "choose another"
        )
    call, layer = _CALL.get(), int(module.layer_idx)
    call.enter(layer)
    window = others.get("sliding_window") or _ENDLESS
    for part in call.written:
        part.cache.write(layer, part.first_position, key[0, :, part.rows], value[0, :, part.rows])
    heads, kv_heads = query.shape[1], key.shape[1]
    result = query.new_zeros((1, query.shape[2], heads, value.shape[-1]))
    for part in call.looking:
        keys, values = part.cache.read(layer, _start(part, window), part.first_position + part.count)
        # The heads that share keys become rows of one head, so that no key is copied.
        asked = query[0, :, part.rows].reshape(1, kv_heads, heads // kv_heads * part.count, -1)
        mask = call.mask(part, heads // kv_heads, window, query.device)
        found = scaled_dot_product_attention(asked, keys[None], values[None], mask, scale=scaling)
        result[0, part.rows] = found.reshape(heads, part.count, -1).transpose(0, 1)
    return result, None


class TorchCalls:
    """A model with its slots; see ``caches.Calls``.

    With ``block``, exact numerics: calls of output tokens are filled up to whole blocks of so many rows.
    """

    def __init__(self, model: Any, *, tokens_max: int, slots: int, block: int | None) -> None:  # noqa: ANN401
        """``model``: of transformers, for causal language, with ``attend`` for its attention."""
        self.tokens_max = tokens_max
        """Most tokens in a slot."""

        self.call_tokens = FAST_TOKENS if block is None else EXACT_TOKENS
        """Most output tokens for one ``evaluate``."""

        self.is_stopped = False
        self.layers: list[int] = []
        """The layers that attended in the last call, in order."""

        self._model = model
        self._block = block
        self._slots = [SlotCache(tokens_max) for _ in range(slots)]
        self._logits: dict[int, NDArray[np.float32]] = {}

    def evaluate(self, cells: Sequence[Cell]) -> None:
        """One call; see ``Calls``."""
        assert cells, "a call of no token"
        alone = self._block is not None and len(cells) <= self.call_tokens
        call = _Call(list(self._parts(cells)), alone=alone, calls=self)
        wanted = [row for row, cell in enumerate(cells) if cell.wanted]
        with self._failing_clearly():
            rows = self._run(call, cells, wanted or [len(cells) - 1], fill=alone)
            self._logits = dict(zip(wanted, rows, strict=False))
        self.layers = call.layers

    def logits(self, index: int) -> NDArray[np.float32]:
        """Behind cell ``index`` of the last call, shape (vocabulary,)."""
        return self._logits[index]

    def cut(self, slot: int, length: int) -> None:
        """Forget all but the first ``length`` tokens of a slot; what lies behind is written over."""
        if length == 0:
            self._slots[slot].clear()

    def copy(self, source: int, slot: int, length: int) -> None:
        """Give ``slot`` the first ``length`` tokens of another, in place of what it holds."""
        with self._failing_clearly():
            self._slots[slot] = self._slots[source].copied(length)

    def allow(self) -> None:
        """Take back an ``interrupt``."""
        self.is_stopped = False

    def interrupt(self) -> None:
        """Make the call in flight, and those after it, fail soon; until ``allow``. From any thread."""
        self.is_stopped = True

    def close(self) -> None:
        """Give the memory of the caches, and of the model, back; only ``interrupt`` may follow."""
        self._slots.clear()
        self._logits.clear()
        self._model = None

    def _parts(self, cells: Sequence[Cell]) -> Iterator[_Rows]:
        starts = [
            row
            for row, cell in enumerate(cells)
            if row == 0 or (cells[row - 1].slot, cells[row - 1].position + 1) != (cell.slot, cell.position)
        ]
        for start, stop in pairwise([*starts, len(cells)]):
            yield _Rows(self._slots[cells[start].slot], start, cells[start].position, stop - start)

    def _run(
        self, call: _Call, cells: Sequence[Cell], wanted: Sequence[int], *, fill: bool
    ) -> NDArray[np.float32]:
        device = self._model.device
        spare = self._spare(len(cells)) if fill else 0
        kept = [*wanted, *[wanted[-1]] * self._spare(len(wanted))]
        token = _CALL.set(call)
        try:
            with torch.inference_mode():
                logits = self._model(
                    input_ids=torch.tensor([[*(cell.token for cell in cells), *[0] * spare]], device=device),
                    position_ids=torch.tensor(
                        [[*(cell.position for cell in cells), *[0] * spare]], device=device
                    ),
                    use_cache=False,
                    logits_to_keep=torch.tensor(kept, device=device),
                ).logits
                found: NDArray[np.float32] = logits[0].float().cpu().numpy()
                return found
        finally:
            _CALL.reset(token)

    def _spare(self, rows: int) -> int:
        """How many rows are missing to whole blocks."""
        return -rows % (self._block or 1)

    @contextmanager
    def _failing_clearly(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if "memory" in str(error):
                raise EngineError(
                    "there is not enough memory for the caches of the model; "
                    "lower context_tokens, kv_sequences or chunk_tokens"
                ) from None
            reason = one_line(str(error).partition("\n")[0])
            raise EngineError(f"torch failed ({reason}); try --device cpu, or another model") from error
