"""Which drafts travel together."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.errors import UsageError
from pipesd.planner.batches import (
    LinkCosts,
    Rule,
    Schedule,
    Window,
    at_trigger,
    finish_s,
    immediate,
    plan,
    work_conserving,
)

RULES = {
    "at_trigger": at_trigger,
    "immediate": immediate,
    "planned": plan,
    "work_conserving": work_conserving,
}

quick = settings(derandomize=True, deadline=None, max_examples=150)
times = st.one_of(st.just(0.0), st.floats(0, 1), st.integers(0, 9).map(lambda tenths: tenths / 10))
any_costs = st.builds(LinkCosts, times, times, times)


def costs_ms(batch: float, token: float, draft: float) -> LinkCosts:
    """Costs in the order in which the literature states them, in milliseconds."""
    return LinkCosts(draft_s=draft / 1e3, batch_s=batch / 1e3, token_s=token / 1e3)


def same(seconds: float) -> object:
    return pytest.approx(seconds, rel=1e-9, abs=1e-12)


def replayed_s(sizes: Sequence[int], costs: LinkCosts) -> float:
    """The model in other words: each batch begins when draft and link are there."""
    over = 0.0
    for number, size in enumerate(sizes, start=1):
        begun = max(costs.draft_s * sum(sizes[:number]), over)
        over = begun + costs.batch_s + size * costs.token_s
    return over


def earliest_s(tokens: int, costs: LinkCosts) -> float:
    """The recurrence as the paper states it."""
    best = [0.0]
    for end in range(1, tokens + 1):
        drafted_s = costs.draft_s * end
        ways = (max(best[i], drafted_s) + costs.batch_s + costs.token_s * (end - i) for i in range(end))
        best.append(min(ways))
    return best[tokens]


def compositions(tokens: int) -> list[list[int]]:
    """Every way to cut so many drafts into batches."""
    inner = range(1, tokens)
    cuts = (cut for cuts in range(tokens) for cut in itertools.combinations(inner, cuts))
    return [[end - begin for begin, end in itertools.pairwise((0, *cut, tokens))] for cut in cuts]


# --- plans ---


@pytest.mark.parametrize("named", ["draft_s", "batch_s", "token_s"])
@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf, -math.inf])
def test_an_impossible_cost_is_named(named: str, value: float) -> None:
    fields = {"draft_s": 0.04, "batch_s": 0.02, "token_s": 0.0, named: value}
    with pytest.raises(UsageError, match=f"^{named}: "):
        LinkCosts(**fields)


@pytest.mark.parametrize("rule", RULES.values())
@pytest.mark.parametrize("tokens", [0, -3])
def test_nothing_cannot_be_planned(rule: Callable[[int, LinkCosts], tuple[int, ...]], tokens: int) -> None:
    with pytest.raises(UsageError, match=r"^tokens: "):
        rule(tokens, costs_ms(25, 116, 36))


@pytest.mark.parametrize(
    ("costs", "tokens", "sizes", "ms"),
    [
        (costs_ms(25, 116, 36), 20, (1, 1, 4, 14), 2456),
        (costs_ms(33.7, 115.6, 43.2), 6, (1, 1, 4), 837.9),
        (costs_ms(27.3, 0.0047, 44.4), 20, (1,) * 20, 915.3047),
        (costs_ms(100, 0.005, 44), 20, (2, 3, 3, 3, 3, 3, 3), 980.015),
        (costs_ms(12, 2, 10), 6, (2, 2, 2), 76),
    ],
)
def test_known_plans(costs: LinkCosts, tokens: int, sizes: tuple[int, ...], ms: float) -> None:
    assert plan(tokens, costs) == sizes
    assert finish_s(sizes, costs) == same(ms / 1e3)


@pytest.mark.parametrize(
    ("costs", "tokens", "at_once_ms", "conserving_ms", "at_end_ms"),
    [
        (costs_ms(25, 116, 36), 20, 2856, 2456, 3065),
        (costs_ms(33.7, 115.6, 43.2), 6, 939, 837.9, 986.5),
        (costs_ms(100, 0.005, 44), 20, 2044.1, 1044.1, 980.1),
    ],
)
def test_known_finishes_of_the_other_rules(
    costs: LinkCosts, tokens: int, at_once_ms: float, conserving_ms: float, at_end_ms: float
) -> None:
    assert finish_s(immediate(tokens, costs), costs) == same(at_once_ms / 1e3)
    assert finish_s(work_conserving(tokens, costs), costs) == same(conserving_ms / 1e3)
    assert finish_s(at_trigger(tokens, costs), costs) == same(at_end_ms / 1e3)


def test_the_other_rules_as_sizes() -> None:
    costs = costs_ms(25, 116, 36)
    assert immediate(4, costs) == (1, 1, 1, 1)
    assert at_trigger(4, costs) == (4,)
    assert work_conserving(20, costs) == (1, 3, 11, 5)


def test_a_draft_that_is_there_just_when_the_link_is_free_rides_along() -> None:
    assert work_conserving(9, LinkCosts(draft_s=0.05, batch_s=0.04, token_s=0.02)) == (1, 1, 1, 1, 1, 2, 1, 1)


def test_drafts_leave_early_where_that_costs_nothing() -> None:
    assert plan(12, LinkCosts(draft_s=0.02, batch_s=0.04, token_s=0.0)) == (2,) * 6


def test_of_equal_plans_the_one_that_waits_for_its_draft_is_taken() -> None:
    costs = LinkCosts(draft_s=1.0, batch_s=1.0, token_s=0.5)
    assert finish_s([1, 1], costs) == finish_s([2], costs)
    assert plan(2, costs) == (2,)


def test_drafts_that_are_there_at_once_travel_together() -> None:
    assert plan(9, LinkCosts(draft_s=0.0, batch_s=0.1, token_s=0.0)) == (9,)


def test_a_batch_of_nothing_is_refused() -> None:
    assert finish_s([], costs_ms(25, 116, 36)) == 0.0
    with pytest.raises(UsageError, match=r"^sizes: "):
        finish_s([2, 0], costs_ms(25, 116, 36))


@quick
@given(st.integers(1, 10), any_costs)
def test_no_plan_is_faster(tokens: int, costs: LinkCosts) -> None:
    sizes = plan(tokens, costs)
    assert sum(sizes) == tokens
    assert min(sizes) >= 1
    assert finish_s(sizes, costs) == same(min(replayed_s(other, costs) for other in compositions(tokens)))


@quick
@given(st.integers(1, 80), any_costs)
def test_the_short_cut_loses_nothing_on_the_recurrence(tokens: int, costs: LinkCosts) -> None:
    assert finish_s(plan(tokens, costs), costs) == same(earliest_s(tokens, costs))


@quick
@given(st.integers(1, 80), any_costs)
def test_every_beginning_of_a_plan_is_a_plan(tokens: int, costs: LinkCosts) -> None:
    sizes = plan(tokens, costs)
    for batches in range(1, len(sizes)):
        assert plan(sum(sizes[:batches]), costs) == sizes[:batches]


@quick
@given(st.integers(1, 80), any_costs)
def test_it_is_never_later_than_the_other_rules(tokens: int, costs: LinkCosts) -> None:
    planned_s = finish_s(plan(tokens, costs), costs)
    for rule in (immediate, at_trigger, work_conserving):
        sizes = rule(tokens, costs)
        assert sum(sizes) == tokens
        assert planned_s <= finish_s(sizes, costs) * (1 + 1e-9)


@quick
@given(st.integers(1, 80), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_on_a_fast_link_every_draft_leaves_at_once(
    tokens: int, batch_s: float, token_s: float, spare_s: float
) -> None:
    costs = LinkCosts(batch_s + token_s + spare_s, batch_s, token_s)
    assert plan(tokens, costs) == (1,) * tokens
    assert finish_s((1,) * tokens, costs) == same(costs.draft_s * tokens + batch_s + token_s)


# --- the window ---


def test_the_window_is_twenty_until_a_length_is_known() -> None:
    window = Window()
    assert window.tokens == 20
    window.note(3)
    assert window.tokens == 3


def test_the_window_is_the_rounded_mean() -> None:
    window = Window()
    for length, tokens in [(4, 4), (5, 5), (1, 3), (1, 3), (1, 2)]:  # 4, 4.5, 3.33, 2.75, 2.4
        window.note(length)
        assert window.tokens == tokens


def test_a_length_of_zero_does_not_count_and_a_negative_one_is_named() -> None:
    window = Window()
    window.note(0)
    assert window.tokens == 20
    window.note(4)
    window.note(0)
    assert window.tokens == 4
    with pytest.raises(UsageError, match=r"^length: "):
        window.note(-1)


def test_the_window_forgets_what_is_more_than_a_hundred_lengths_ago() -> None:
    window = Window()
    window.note(1_000)
    for _ in range(99):
        window.note(10)
    assert window.tokens == 20
    window.note(10)
    assert window.tokens == 10


# --- the schedule ---


def played(schedule: Schedule, tokens: int, costs: LinkCosts) -> list[int]:
    """The batches that leave while so many drafts come, over a link that carries one at a time."""
    sizes, drafted, free_s = list[int](), 0, 0.0
    while drafted < tokens:
        drafted += 1
        next_s = math.inf if drafted == tokens else costs.draft_s * (drafted + 1) * (1 - 1e-12)
        now_s = max(free_s, costs.draft_s * drafted)
        while now_s < next_s and (size := schedule.ready(drafted - sum(sizes))):
            schedule.sent(size)
            sizes.append(size)
            now_s = free_s = now_s + costs.batch_s + costs.token_s * size
    return sizes


@quick
@given(st.integers(1, 40), any_costs, st.sampled_from(["immediate", "planned", "work_conserving"]))
def test_a_session_sends_what_its_rule_says(tokens: int, costs: LinkCosts, rule: Rule) -> None:
    schedule = Schedule(rule)
    schedule.interrupt(tokens)
    schedule.update(costs)
    assert played(schedule, tokens, costs) == list(RULES[rule](tokens, costs))


def test_a_schedule_at_the_trigger_releases_nothing() -> None:
    schedule = Schedule("at_trigger")
    assert [schedule.ready(unsent) for unsent in (0, 1, 1_000)] == [0, 0, 0]
    schedule.sent(7)
    assert schedule.ready(1_000) == 0


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(UsageError, match=r"^rule: .* not sometimes$"):
        Schedule("sometimes")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^tokens: "):
        Schedule("immediate").sent(0)


@pytest.mark.parametrize("rule", get_args(Rule))
def test_where_nothing_is_unsent_nothing_leaves(rule: Rule) -> None:
    schedule = Schedule(rule)
    assert schedule.ready(0) == 0
    schedule.update(costs_ms(25, 116, 36))
    assert schedule.ready(0) == 0


@pytest.mark.parametrize("rule", ["at_trigger", "immediate", "work_conserving"])
def test_other_rules_do_not_plan(rule: Rule) -> None:
    schedule = Schedule(rule)
    before = schedule.ready(9)
    assert not schedule.update(costs_ms(25, 116, 36))
    schedule.interrupt(6)
    assert schedule.ready(9) == before
    assert not schedule.sizes


def test_without_estimates_all_that_is_there_leaves() -> None:
    schedule = Schedule("planned")
    assert not schedule.update(None)
    assert schedule.ready(5) == 5
    schedule.sent(5)
    schedule.interrupt(6)
    assert schedule.ready(3) == 3
    assert schedule.update(costs_ms(33.7, 115.6, 43.2))
    assert schedule.sizes == (1, 1, 4)
    assert not schedule.update(None)
    schedule.sent(2)
    assert schedule.ready(9) == 9


def test_a_plan_is_followed_and_then_begins_again() -> None:
    schedule = Schedule("planned")
    schedule.update(costs_ms(25, 116, 36))
    left = []
    for _ in range(9):
        due = next(unsent for unsent in range(99) if schedule.ready(unsent))
        assert schedule.ready(due + 50) == due
        schedule.sent(due)
        left.append(due)
    assert left == [1, 1, 4, 14, 1, 1, 4, 14, 1]


def test_the_plan_goes_on_behind_what_left_otherwise() -> None:
    schedule = Schedule("planned")
    schedule.update(costs_ms(25, 116, 36))
    for sent, due in [(1, 1), (2, 3), (2, 1), (1, 14), (15, 1), (4, 1), (41, 14), (10, 4)]:
        schedule.sent(sent)
        assert schedule.ready(99) == due


def test_an_interruption_begins_the_plan_anew() -> None:
    schedule = Schedule("planned")
    schedule.interrupt(20)
    schedule.update(costs_ms(25, 116, 36))
    for drafted in (20, 0, 20):
        schedule.sent(6)
        assert schedule.ready(99) == 14
        schedule.interrupt(drafted)
        assert schedule.ready(99) == 1
    assert schedule.sizes == (1, 1, 4, 14)


def test_another_window_means_another_plan() -> None:
    schedule = Schedule("planned")
    schedule.update(costs_ms(25, 116, 36))
    schedule.sent(2)
    schedule.interrupt(6)
    assert schedule.sizes == plan(6, costs_ms(25, 116, 36)) == (1, 1, 4)
    assert schedule.ready(99) == 1


def test_a_move_by_a_fifth_means_another_plan_that_begins_at_once() -> None:
    schedule = Schedule("planned")
    assert schedule.update(costs_ms(25, 116, 36))
    schedule.sent(2)
    assert not schedule.update(costs_ms(25, 138, 36))
    assert not schedule.update(costs_ms(25, 96, 36))
    assert schedule.ready(99) == 4
    assert schedule.update(costs_ms(25, 150, 36))
    assert schedule.sizes == plan(20, costs_ms(25, 150, 36)) == (1, 4, 15)
    assert schedule.ready(99) == 1
    schedule.sent(1)
    assert schedule.ready(99) == 4
    assert schedule.update(costs_ms(2, 0.01, 36))
    assert list(schedule.sizes) == [1] * 20


def test_small_moves_add_up() -> None:
    schedule = Schedule("planned")
    schedule.update(costs_ms(25, 100, 36))
    tokens_ms = [100 * 1.05**step for step in range(1, 9)]
    plans = [schedule.update(costs_ms(25, token_ms, 36)) for token_ms in tokens_ms]
    assert plans == [False, False, False, True] * 2


def test_a_window_replans_with_the_costs_of_the_moment() -> None:
    schedule = Schedule("planned")
    schedule.update(costs_ms(100, 0.005, 44))
    assert not schedule.update(costs_ms(5, 0.005, 44))  # 885 instead of 980 ms
    schedule.interrupt(20)
    assert list(schedule.sizes) == [2, 3, 3, 3, 3, 3, 3]
    schedule.interrupt(22)
    assert list(schedule.sizes) == [1] * 21


def test_noise_about_zero_does_not_make_plans() -> None:
    schedule = Schedule("planned")
    noise = [costs_ms(1e-6 * 50**a, 1e-6 * 8**b, 40) for a, b in itertools.product(range(4), range(5))]
    assert [schedule.update(costs) for costs in noise * 2] == [True] + [False] * (2 * len(noise) - 1)


@quick
@given(st.lists(st.tuples(times, times), max_size=5))
def test_less_than_a_millisecond_never_makes_a_plan(noise: list[tuple[float, float]]) -> None:
    schedule = Schedule("planned")
    schedule.update(LinkCosts(0.0, 0.0, 0.0))
    first = schedule.sizes
    for batch, token in noise:
        assert not schedule.update(LinkCosts(0.0, batch * 4e-5, token * 9e-6))
    assert schedule.sizes == first
