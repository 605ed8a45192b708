"""How much the holders of a token may still use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipesd.access import Limits
from pipesd.session.budgets import Budgets
from pipesd.session.proof import SALT_BYTES, Tokens, verifier_of

ANN = Limits(tokens_per_minute=60)
"""One a second."""


def budgets(**limits: Limits) -> Budgets:
    made = Budgets()
    verifiers = {name: verifier_of("secret", bytes(SALT_BYTES), each) for name, each in limits.items()}
    made.learn(Tokens(verifiers, b""))
    return made


def test_who_has_no_token_has_no_limits() -> None:
    made = budgets(ann=ANN)
    assert made.limits("") == Limits()
    made.spend("", 10**9, 0.0)
    assert made.ready_at("", 0.0) == 0.0


def test_a_token_without_a_limit_is_never_used_up() -> None:
    made = budgets(bob=Limits(sessions_max=2))
    made.spend("bob", 10**9, 0.0)
    assert made.ready_at("bob", 5.0) == 5.0
    assert made.limits("bob").sessions_max == 2


def test_a_minutes_worth_is_there_at_first_and_no_more_gathers() -> None:
    made = budgets(ann=ANN)
    made.spend("ann", 59, 1_000.0)
    assert made.ready_at("ann", 1_000.0) == 1_000.0
    made.spend("ann", 1, 1_000.0)
    assert made.ready_at("ann", 1_000.0) == pytest.approx(1_001.0)
    made.spend("ann", 60, 2_000.0)
    assert made.ready_at("ann", 2_000.0) == pytest.approx(2_001.0)


def test_what_was_spent_beyond_it_is_waited_for() -> None:
    made = budgets(ann=ANN)
    made.spend("ann", 160, 0.0)
    assert made.ready_at("ann", 0.0) == pytest.approx(101.0)
    assert made.ready_at("ann", 50.0) == pytest.approx(101.0)
    assert made.ready_at("ann", 101.0) == pytest.approx(101.0)
    assert made.ready_at("ann", 200.0) == 200.0


def test_one_holders_use_is_not_anothers() -> None:
    made = budgets(ann=ANN, bob=ANN)
    made.spend("ann", 500, 0.0)
    assert made.ready_at("bob", 0.0) == 0.0


def test_new_limits_hold_at_once() -> None:
    made = budgets(ann=ANN)
    made.spend("ann", 160, 0.0)
    made.learn(Tokens({}, b""))
    assert made.ready_at("ann", 0.0) == 0.0


def test_sessions_are_counted_by_whoever_opens_them() -> None:
    made = budgets(ann=ANN)
    assert made.sessions["ann"] == 0
    made.sessions["ann"] += 1
    assert made.sessions["ann"] == 1


@given(
    st.integers(1, 10_000),
    st.lists(st.tuples(st.floats(0.0, 60.0), st.integers(0, 500)), min_size=1, max_size=20),
)
def test_whoever_waits_as_told_never_gets_more_than_a_minutes_worth_ahead(
    per_minute: int, uses: list[tuple[float, int]]
) -> None:
    """Over any time: what that brings, a minute's worth, and the last use, which may go beyond it."""
    made, now, spent, last = budgets(ann=Limits(tokens_per_minute=per_minute)), 0.0, 0, 0
    for pause_s, tokens in uses:
        now = made.ready_at("ann", now + pause_s)
        made.spend("ann", tokens, now)
        spent, last = spent + tokens, tokens
    assert spent - last <= per_minute + now * per_minute / 60.0 + 1e-6
