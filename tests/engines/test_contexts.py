"""What toy engines remember."""

from itertools import islice
from typing import Any

import pytest
from msgspec.structs import replace

from pipesd.engines.base import TargetIdentity
from pipesd.engines.contexts import ContextDraft, Contexts, ContextTarget, rolled
from pipesd.errors import EngineError, UsageError
from pipesd.values import Sampling, Slice


def test_going_back_costs_nothing() -> None:
    steps = []

    def advance(mark: int, token: int) -> int:
        steps.append(token)
        return mark + token

    contexts = Contexts(0, advance, 1_000)
    contexts.extend(0, range(100))
    contexts.truncate(0, 50)
    assert (contexts.latest(0), contexts.length(0)) == (sum(range(50)), 50)
    assert len(steps) == 100


def test_hashes_of_short_contexts_do_not_meet() -> None:
    hashes = {rolled(rolled(0, first), second) for first in range(300) for second in range(300)}
    assert len(hashes | {rolled(0, first) for first in range(300)} | {0}) == 300 * 300 + 301
    assert all(0 <= number < 2**64 for number in islice(hashes, 100))


def test_a_full_context_says_so_and_stays_as_it_was() -> None:
    contexts = Contexts(0, rolled, 3)
    contexts.extend(7, [1, 2])
    before = contexts.latest(7)
    with pytest.raises(EngineError, match="context of 3"):
        contexts.extend(7, [3, 4])
    assert (contexts.latest(7), contexts.length(7)) == (before, 2)
    with pytest.raises(UsageError, match="context_tokens"):
        Contexts(0, rolled, 0)


def identity(**changes: Any) -> TargetIdentity:
    sizes = {"context_tokens": 30, "chunk_tokens": 4, **changes}
    return TargetIdentity(model="toy", engine="toy", numerics="exact", begin_ids=(), end_ids=(), **sizes)


def test_a_target_looks_after_its_sequences() -> None:
    contexts = Contexts(0, rolled, 30)
    target = ContextTarget(contexts, identity())
    assert target.identity == identity()
    contexts.extend(1, [1, 2])
    contexts.extend(2, [3])
    target.release(1)
    target.release(1)
    assert (contexts.length(1), contexts.length(2)) == (0, 1)
    target.interrupt()
    assert contexts.length(2) == 1


@pytest.mark.parametrize("chunk_tokens", [0, -1])
def test_a_target_needs_chunks_of_at_least_a_token(chunk_tokens: int) -> None:
    with pytest.raises(UsageError, match=rf"^chunk_tokens: must be at least 1, not {chunk_tokens}$"):
        ContextTarget(Contexts(0, rolled, 30), identity(chunk_tokens=chunk_tokens))


def test_a_slice_cuts_back_and_gives_what_is_known_before_each_pick() -> None:
    contexts = Contexts(0, lambda mark, token: mark + token, 30)
    contexts.extend(0, [1, 2, 3, 4])
    part = Slice(0, 2, (10, 20, 30), 2, prompt=False, sampling=Sampling(), seed=0)
    assert list(contexts.evaluate(part)) == [(4, 33), (5, 63)]
    assert contexts.length(0) == 5
    with pytest.raises(AssertionError, match="beyond"):
        list(contexts.evaluate(replace(part, base=6)))
    with pytest.raises(AssertionError, match="more picks"):
        list(contexts.evaluate(replace(part, picks=4)))


def test_a_draft_looks_after_its_sequences() -> None:
    contexts = Contexts(0, rolled, 5)
    draft = ContextDraft(contexts)
    assert draft.context_tokens == 5
    draft.extend(0, [1, 2, 3], prompt=True)
    draft.truncate(0, 1)
    draft.truncate(0, 4)
    assert contexts.length(0) == 1
    draft.interrupt()
    draft.extend(0, [4])
    assert contexts.latest(0) == rolled(rolled(0, 1), 4)
    draft.release(0)
    assert contexts.length(0) == 0
