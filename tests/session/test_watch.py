"""Who is pinged, who is given up, and when."""

import math

from hypothesis import given
from hypothesis import strategies as st

from pipesd.session.rules import Patience
from pipesd.session.watch import Watch

PATIENCE = Patience(ping_after_s=10.0, silent_after_s=30.0)


def test_nobody_is_watched_at_first() -> None:
    watch = Watch(PATIENCE)
    assert watch.deadline() == math.inf
    assert watch.due(1e9) == ([], [])


def test_silence_is_asked_about_once_and_then_given_up() -> None:
    watch = Watch(PATIENCE)
    watch.heard(1, 0.0)
    assert watch.deadline() == 10.0
    assert watch.due(9.0) == ([], [])
    assert watch.due(10.0) == ([1], [])
    assert watch.deadline() == 30.0
    assert watch.due(29.0) == ([], [])
    assert watch.due(30.0) == ([], [1])
    assert watch.deadline() == math.inf


def test_a_sign_of_life_starts_anew() -> None:
    watch = Watch(PATIENCE)
    watch.heard(1, 0.0)
    assert watch.due(10.0) == ([1], [])
    watch.heard(1, 12.0)
    assert watch.deadline() == 22.0
    assert watch.due(30.0) == ([1], [])
    assert watch.due(42.0) == ([], [1])


def test_a_sign_of_life_makes_the_ping_forgotten() -> None:
    watch = Watch(Patience(ping_after_s=10.0, silent_after_s=15.0))
    watch.heard(1, 0.0)
    assert watch.due(10.0) == ([1], [])
    watch.heard(1, 12.0)
    assert watch.due(16.0) == ([], [])


def test_who_is_forgotten_is_watched_no_longer() -> None:
    watch = Watch(PATIENCE)
    watch.heard(1, 0.0)
    watch.heard(2, 0.0)
    watch.due(10.0)
    watch.heard(3, 11.0)
    watch.forget(1)
    watch.forget(3)
    watch.forget(4)
    assert watch.due(1_000.0) == ([], [2])


def test_the_longest_silent_come_first() -> None:
    watch = Watch(PATIENCE)
    for peer, now in ((1, 0.0), (2, 1.0), (3, 2.0), (1, 3.0)):
        watch.heard(peer, now)
    assert watch.deadline() == 11.0
    assert watch.due(12.0) == ([2, 3], [])
    assert watch.deadline() == 13.0


def test_a_watch_that_comes_late_does_both_at_once() -> None:
    watch = Watch(PATIENCE)
    watch.heard(1, 0.0)
    assert watch.due(50.0) == ([1], [1])


def test_without_patience_settings_nobody_is_ever_due() -> None:
    watch = Watch(Patience())
    watch.heard(1, 0.0)
    assert watch.deadline() == math.inf
    assert watch.due(1e12) == ([], [])


moments = st.floats(0, 1e6)
spans = st.floats(0.001, 1e4)


def test_the_deadline_is_kept_where_sums_are_rounded() -> None:
    watch = Watch(Patience(ping_after_s=5.0, silent_after_s=10.0))
    watch.heard(1, 255.069)
    assert watch.due(watch.deadline()) == ([1], [])


@given(moments, spans, spans)
def test_at_its_deadline_there_is_something_to_do(heard: float, ping: float, more: float) -> None:
    """Otherwise the deadline stays where it is, and whoever sleeps until then wakes up for ever."""
    watch = Watch(Patience(ping_after_s=ping, silent_after_s=ping + more))
    watch.heard(1, heard)
    assert watch.due(watch.deadline()) in (([1], []), ([1], [1]))
    if watch.deadline() < math.inf:
        assert watch.due(watch.deadline()) == ([], [1])
