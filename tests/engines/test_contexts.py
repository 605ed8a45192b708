"""What toy engines remember."""

from itertools import islice

import pytest

from pipesd.engines.contexts import Contexts, rolled
from pipesd.errors import EngineError, UsageError


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
