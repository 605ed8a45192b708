"""The few value types that more than one layer speaks. No behaviour but the check of their own bounds."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from pipesd.errors import UsageError

TokenId = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
"""Index into a vocabulary."""

Position = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
"""Index into a session's text; 0 is the first prompt token."""

Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""Fixes the noise of a generation."""

PromptMode = Literal["auto", "chat", "raw"]
"""How prompts are taken: in the chat template, as they are, or in the template where there is one."""

Finish = Literal["stop", "length", "context"]
"""Why a generation ended: an end id, ``tokens_max``, or a full context."""


class Sampling(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How the target picks a token. The filters apply in the order of the fields.

    The defaults are greedy decoding. Raises ``UsageError`` if a field is out of its range.
    """

    temperature: float = 0.0
    """0 is greedy (the filters then change nothing); 1 leaves the model's distribution as it is."""

    top_k: int = 0
    """Only the ``top_k`` likeliest tokens stay; 0 keeps all."""

    top_p: float = 1.0
    """Only the smallest set of likeliest tokens whose probability reaches ``top_p`` stays; 1 keeps all."""

    min_p: float = 0.0
    """Only tokens at least ``min_p`` times as likely as the likeliest stay; 0 keeps all."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and 0.0 <= self.temperature <= 100.0):
            raise UsageError(f"temperature: must be between 0 and 100, not {self.temperature}")
        if not 0 <= self.top_k < 2**31:
            raise UsageError(f"top_k: must be 0 (off) or a positive whole number, not {self.top_k}")
        if not 0.0 < self.top_p <= 1.0:
            raise UsageError(f"top_p: must be above 0 and at most 1, not {self.top_p}")
        if not 0.0 <= self.min_p <= 1.0:
            raise UsageError(f"min_p: must be between 0 and 1, not {self.min_p}")

    @property
    def greedy(self) -> bool:
        """Whether no noise is drawn."""
        return self.temperature == 0.0


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the draft model would say next."""

    token: int
    confidence: float
    """The draft's probability of ``token`` after temperature and filters, 0..1; at temperature 0, of the
    unfiltered distribution."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens that an engine evaluates in one go."""

    tokens: tuple[int, ...]
    prompt: bool
    """Whether this is a prompt chunk, not output tokens and drafts; exact engines keep the two apart."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One session's share of a pass of the target model.

    The engine cuts ``sequence`` back to ``base`` tokens, evaluates ``tokens`` behind them, and gives its own
    token for each of the last ``picks`` places: pick k follows token ``len(tokens) - picks + k``.
    """

    sequence: int
    base: int
    tokens: tuple[int, ...]
    picks: int
    prompt: bool
    """Whether this is a prompt chunk, not output tokens and drafts; exact engines keep the two apart."""

    sampling: Sampling
    seed: int

    def pick_position(self, number: int) -> int:
        """Position in the text of the token that pick ``number`` is for."""
        return self.base + len(self.tokens) - self.picks + number + 1
