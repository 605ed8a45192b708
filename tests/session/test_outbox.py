"""Which drafts leave when, and where a verdict is asked for."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.planner.batches import LinkCosts, plan
from pipesd.planner.policies import NEVER, POLICIES, Policy
from pipesd.planner.trigger import Thresholds
from pipesd.session.outbox import Outbox

quick = settings(derandomize=True, deadline=None, max_examples=150)

SLOW_LINK = LinkCosts(draft_s=0.036, batch_s=0.025, token_s=0.116)
assert plan(20, SLOW_LINK) == (1, 1, 4, 14)
assert plan(6, SLOW_LINK) == (1, 1, 4)

SHY = Policy(thresholds=Thresholds(0.0, 0.0, NEVER, 1), batching="work_conserving")
"""Asks only when it is told to."""


def asking(upper_tokens: int, **changes: object) -> Policy:
    """Asks after every so many drafts, and at once after a draft of confidence 0.5 or less."""
    thresholds = Thresholds(0.0, 0.5, upper_tokens, 1)
    return replace(SHY, thresholds=thresholds, **changes)  # type: ignore[arg-type]


def note(outbox: Outbox, *confidences: float) -> None:
    for confidence in confidences:
        outbox.trigger.note(confidence)


def leave_by_plan(outbox: Outbox, unsent_tokens: int) -> int:
    """As many of the unsent drafts leave as the plan says."""
    count = outbox.ready(unsent_tokens)
    if count:
        outbox.sent(count)
    return count


def asked(policy: Policy, end: int, confidence: float = 1.0) -> Outbox:
    """So many drafts behind position 0, of which the last one fires the trigger."""
    outbox = Outbox(policy)
    note(outbox, *[1.0] * (end - 1), confidence)
    assert outbox.ask_if_due(end, 0)
    return outbox


# --- asks ---


def test_nothing_is_asked_before_a_draft() -> None:
    outbox = Outbox(asking(1))
    assert not outbox.ask_if_due(7, 0)
    assert not outbox.ask_if_idle(7, 0)
    assert list(outbox.marks) == []


def test_a_trigger_marks_where_its_drafts_end() -> None:
    outbox = Outbox(asking(3))
    for end in range(11, 18):
        note(outbox, 1.0)
        assert outbox.ask_if_due(end, 0) == (end in (13, 16))
    assert list(outbox.marks) == [13, 16]


def test_marks_are_flushed_oldest_first_and_once() -> None:
    outbox = asked(asking(3), 3)
    note(outbox, 0.2)
    assert outbox.ask_if_due(4, 0)
    assert outbox.flush() == 3
    assert outbox.flush() == 4
    assert list(outbox.marks) == []


def test_an_ask_for_drafts_that_have_left_already_carries_none() -> None:
    assert asked(asking(3), 3).flush() == 3


@pytest.mark.parametrize("ask", [Outbox.ask_if_due, Outbox.ask_if_idle])
@pytest.mark.parametrize(("pending", "fires"), [(0, True), (1, False), (2, False)])
def test_no_more_asks_pend_than_may(
    ask: Callable[[Outbox, int, int], bool], pending: int, fires: bool
) -> None:
    outbox = Outbox(asking(2, asks_max=1))
    note(outbox, 1.0, 1.0)
    assert ask(outbox, 2, pending) == fires
    assert list(outbox.marks) == [2] * fires


def test_asks_that_wait_for_the_link_pend_too() -> None:
    outbox = asked(asking(2, asks_max=3), 2)
    for end, pending, fires in ((3, 2, False), (4, 1, True), (5, 1, False), (6, 0, True)):
        note(outbox, 0.2)
        assert outbox.ask_if_due(end, pending) == fires, end
    assert list(outbox.marks) == [2, 4, 6]


def test_a_trigger_that_was_held_back_asks_for_everything_right_after_the_verdict() -> None:
    outbox = Outbox(asking(2, asks_max=1))
    for end in range(1, 6):
        note(outbox, 1.0)
        assert not outbox.ask_if_due(end, 1)
    outbox.confirmed(1, unverified_tokens=4)
    assert outbox.ask_if_due(5, 0)
    assert outbox.flush() == 5
    assert not outbox.ask_if_due(5, 0)


def test_a_trigger_that_was_held_back_dies_with_its_drafts() -> None:
    outbox = Outbox(asking(2, asks_max=1))
    note(outbox, 1.0, 0.2)
    assert not outbox.ask_if_due(2, 1)
    outbox.contradicted(0)
    assert not outbox.ask_if_due(1, 0)
    note(outbox, 1.0)
    assert not outbox.ask_if_due(2, 0)


def test_a_trigger_that_was_held_back_dies_if_the_verdict_confirms_its_drafts() -> None:
    outbox = Outbox(asking(3, asks_max=1))
    note(outbox, 0.2, 1.0)
    assert not outbox.ask_if_due(2, 1)
    outbox.confirmed(1, unverified_tokens=1)
    assert not outbox.ask_if_due(2, 0)


def test_an_idle_drafter_asks_for_what_is_left() -> None:
    outbox = Outbox(SHY)
    note(outbox, 1.0)
    assert outbox.ask_if_idle(1, 0)
    assert not outbox.ask_if_idle(1, 1)
    assert list(outbox.marks) == [1]


@pytest.mark.parametrize(("pending", "marked"), [(1, False), (0, True)])
def test_an_idle_drafter_asks_for_little_only_if_nothing_pends(pending: int, marked: bool) -> None:
    outbox = Outbox(replace(SHY, thresholds=Thresholds(0.0, 0.0, 8, lower_tokens=2)))
    if marked:
        outbox.ask_ahead(40)
    note(outbox, 1.0)
    assert not outbox.ask_if_idle(1, pending)
    note(outbox, 1.0)
    assert outbox.ask_if_idle(2, pending)


def test_the_target_may_be_asked_to_run_on_alone() -> None:
    outbox = Outbox(SHY)
    outbox.ask_ahead(256)
    outbox.ask_ahead(384)
    assert (outbox.flush(), outbox.flush()) == (256, 384)


# --- verdicts ---


def test_what_is_confirmed_is_not_asked_for_any_more() -> None:
    outbox = asked(asking(2), 2)
    for end in (4, 6):
        note(outbox, 1.0, 1.0)
        assert outbox.ask_if_due(end, 0)
    outbox.confirmed(1, unverified_tokens=5)
    assert list(outbox.marks) == [2, 4, 6]
    outbox.confirmed(4, unverified_tokens=2)
    assert list(outbox.marks) == [6]


@pytest.mark.parametrize("way", ["contradicted", "cleared"])
def test_discarded_drafts_are_neither_asked_for_nor_counted(way: str) -> None:
    outbox = asked(asking(3), 3)
    note(outbox, 1.0, 1.0)
    if way == "cleared":
        outbox.clear()
    else:
        outbox.contradicted(2)
    assert list(outbox.marks) == []
    note(outbox, 1.0, 1.0)
    assert not outbox.ask_if_due(5, 0)


@pytest.mark.parametrize(
    ("outcome", "factor"), [("won", 0.5), ("lost", 1 / 0.4 ** (1 / 4)), ("cleared", 1.0)]
)
def test_edgellm_moves_its_threshold_with_verdicts_only(outcome: str, factor: float) -> None:
    outbox = asked(replace(POLICIES["edgellm"], thresholds=Thresholds(0.5, 0.0, NEVER, 1)), 4, 0.4)
    if outcome == "won":
        outbox.confirmed(5, unverified_tokens=0)
    elif outcome == "lost":
        outbox.contradicted(3)
    else:
        outbox.clear()
    assert outbox.trigger.r1 == pytest.approx(0.5 * factor)


# --- batches ---


@pytest.mark.parametrize(
    ("batching", "leave"),
    [("work_conserving", [3, 1]), ("immediate", [1, 1, 1, 1]), ("at_trigger", []), ("planned", [3, 1])],
)
def test_drafts_leave_as_the_policy_says_while_no_costs_are_known(batching: str, leave: list[int]) -> None:
    outbox = Outbox(asking(8, batching=batching))
    assert leave_by_plan(outbox, 0) == 0
    unsent, left = 3, []
    for more in (0, 1, 0, 0, 0):
        unsent += more
        batch = leave_by_plan(outbox, unsent)
        unsent -= batch
        left += [batch] * (batch > 0)
    assert left == leave


def planned(upper_tokens: int = 20) -> Outbox:
    outbox = Outbox(asking(upper_tokens, batching="planned"))
    outbox.learn(SLOW_LINK)
    return outbox


def leaving(outbox: Outbox, drafts: int) -> list[int]:
    """The batches in which so many drafts leave, if the link is idle after each of them."""
    batches, unsent = [], 0
    for _ in range(drafts):
        unsent += 1
        batch = leave_by_plan(outbox, unsent)
        unsent -= batch
        batches += [batch] * (batch > 0)
    return batches


def test_drafts_leave_as_planned() -> None:
    assert leaving(planned(), 20) == [1, 1, 4, 14]


def test_a_trigger_starts_the_plan_anew_for_as_many_drafts_as_it_asked_about() -> None:
    outbox = planned(upper_tokens=6)
    assert leaving(outbox, 4) == [1, 1]
    note(outbox, *[1.0] * 6)
    assert outbox.ask_if_due(6, 0)
    assert outbox.flush() == 6
    assert leaving(outbox, 6) == [1, 1, 4]


@pytest.mark.parametrize("way", ["due", "idle", "contradicted", "cleared"])
def test_drafts_that_were_verified_meanwhile_are_part_of_the_stretch(way: str) -> None:
    outbox = planned(upper_tokens=16 if way != "due" else 6)
    note(outbox, *[1.0] * 4)
    outbox.confirmed(3, unverified_tokens=1)
    note(outbox, *[1.0] * 5)
    if way == "due":
        assert outbox.ask_if_due(9, 0)
    elif way == "idle":
        assert outbox.ask_if_idle(9, 0)
    elif way == "contradicted":
        outbox.contradicted(5)
    else:
        outbox.clear()
    assert plan(9, SLOW_LINK) == (1, 2, 6)
    assert leaving(outbox, 9) == [1, 2, 6]


def test_what_a_trigger_flushes_late_is_no_part_of_the_new_plan() -> None:
    outbox = planned(upper_tokens=6)
    note(outbox, *[1.0] * 6)
    assert outbox.ask_if_due(6, 0)
    note(outbox, 1.0, 1.0)
    assert outbox.flush() == 6
    assert leave_by_plan(outbox, 2) == 1


@pytest.mark.parametrize("way", ["contradicted", "cleared", "idle"])
def test_whatever_ends_a_stretch_of_drafts_starts_the_plan_anew(way: str) -> None:
    outbox = planned()
    assert leaving(outbox, 5) == [1, 1]
    note(outbox, *[1.0] * 5)
    if way == "contradicted":
        outbox.contradicted(3)
    elif way == "cleared":
        outbox.clear()
    else:
        assert outbox.ask_if_idle(5, 0)
        assert outbox.flush() == 5
    assert leaving(outbox, 5) == list(plan(5, SLOW_LINK)) == [1, 4]


def test_a_discard_right_behind_a_trigger_shortens_no_window() -> None:
    outbox = planned(upper_tokens=6)
    note(outbox, *[1.0] * 6)
    assert outbox.ask_if_due(6, 0)
    outbox.contradicted(2)
    outbox.clear()
    assert leaving(outbox, 6) == [1, 1, 4]


def test_asking_the_target_to_run_alone_leaves_the_plan_as_it_is() -> None:
    outbox = planned()
    assert leaving(outbox, 3) == [1, 1]
    outbox.ask_ahead(256)
    assert outbox.flush() == 256
    assert leave_by_plan(outbox, 4) == 4


def test_without_costs_all_that_is_there_leaves() -> None:
    outbox = planned()
    outbox.learn(None)
    assert leave_by_plan(outbox, 5) == 5


# --- a whole session, played at random ---


moves = st.lists(
    st.one_of(
        st.tuples(st.just("draft"), st.sampled_from([0.3, 0.9, 1.0])),
        st.tuples(st.just("link"), st.just(0.0)),
        st.tuples(st.just("verdict"), st.floats(0.0, 1.0)),
        st.tuples(st.just("correction"), st.floats(0.0, 1.0)),
        st.tuples(st.just("idle"), st.just(0.0)),
    ),
    max_size=60,
)


class Desk:
    """Position by position what was confirmed, sent and drafted; it checks what the outbox wants to send."""

    def __init__(self, policy: Policy) -> None:
        self.outbox = Outbox(policy)
        self.asks_max = policy.asks_max
        self.confirmed = self.sent = self.end = 0
        self.asks: list[int] = []

    def play(self, move: str, share: float) -> None:
        {"draft": self.draft, "link": self.link, "idle": self.idle}.get(move, self.verdict)(
            share if move != "correction" else -share - 0.001
        )
        marks = list(self.outbox.marks)
        assert marks == sorted(set(marks))
        assert all(self.confirmed < mark <= self.end for mark in marks)
        assert len(marks) + len(self.asks) <= self.asks_max

    def draft(self, confidence: float) -> None:
        self.end += 1
        self.outbox.trigger.note(confidence)
        self.outbox.ask_if_due(self.end, len(self.asks))

    def idle(self, _: float) -> None:
        self.outbox.ask_if_idle(self.end, len(self.asks))

    def link(self, _: float) -> None:
        if self.outbox.marks:
            first = self.outbox.marks[0]
            count, ask = first - self.sent, self.outbox.flush()
            assert self.sent + count == ask == first, "an ask leaves with the last draft that it is about"
            self.asks.append(ask)
        else:
            count = leave_by_plan(self.outbox, self.end - self.sent)
        assert 0 <= count <= self.end - self.sent
        self.sent += count

    def verdict(self, share: float) -> None:
        """What was sent is confirmed, or (negative) contradicted, as far as the share goes."""
        right = self.confirmed + round(abs(share) * (self.sent - self.confirmed))
        if share >= 0.0 or right >= self.end:
            self.confirmed = right
            self.asks = [ask for ask in self.asks if ask > right]
            self.outbox.confirmed(right, self.end - right)
        else:
            self.outbox.contradicted(right)
            self.confirmed = self.sent = self.end = right + 1
            self.asks = []
        self.outbox.ask_if_due(self.end, len(self.asks))


@given(
    moves, st.sampled_from([1, 2, 8]), st.sampled_from(["planned", "immediate", "at_trigger"]), st.booleans()
)
@quick
def test_every_ask_leaves_in_order_with_the_last_of_its_drafts(
    played: list[tuple[str, float]], asks_max: int, batching: str, costs_known: bool
) -> None:
    desk = Desk(asking(4, asks_max=asks_max, batching=batching))
    if costs_known:
        desk.outbox.learn(SLOW_LINK)
    for move, share in played:
        desk.play(move, share)
    while desk.outbox.marks:
        desk.play("link", 0.0)
    assert desk.asks == sorted(set(desk.asks))
