"""The facts: frozen, complete, and all in one union per side."""

import dataclasses
import inspect
from typing import get_args

import pytest

from pipesd.session import events

DEFINED = [
    kind for _, kind in inspect.getmembers(events, inspect.isclass) if kind.__module__ == events.__name__
]
BOTH_SIDES = {events.DeadlineReached, events.StopRequested}


def test_every_event_is_in_a_union() -> None:
    assert {*get_args(events.EdgeEvent), *get_args(events.CloudEvent)} == set(DEFINED)


def test_only_what_concerns_both_sides_is_in_both_unions() -> None:
    assert set(get_args(events.EdgeEvent)) & set(get_args(events.CloudEvent)) == BOTH_SIDES


@pytest.mark.parametrize("kind", DEFINED)
def test_facts_do_not_change(kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    values = [None for _ in dataclasses.fields(kind)]
    fact = kind(*values)
    assert fact == kind(*values)
    assert not hasattr(fact, "__dict__")
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(fact, field.name, 1)


@pytest.mark.parametrize("kind", DEFINED)
def test_every_event_says_who_reports_it(kind: type) -> None:
    reporters = ("runtime.", "receiver", "sender.", "drafter.", "application", "gateway.", "verifier.")
    assert (kind.__doc__ or "").startswith((*reporters, "tuner."))
