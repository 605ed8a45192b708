"""Which measurement belongs to what."""

import msgspec
import pytest

from pipesd.planner.ahead import Outlook
from pipesd.planner.calibration import Calibration
from pipesd.planner.forecast import Conditions
from pipesd.planner.occupancy import Gap
from pipesd.planner.policies import POLICIES
from pipesd.session.experience import Experience, SessionExperience, experience_of
from pipesd.session.trials import Trials
from pipesd.wire.frames import Verdict

BASE = 10
"""Where every generation begins."""


def same(number: float) -> object:
    return pytest.approx(number, rel=1e-9, abs=1e-12)


def verdict(
    base: int,
    accepted: int,
    *tokens: int,
    arrivals: tuple[tuple[int, int], ...] = (),
    queue_ms: int = 0,
    pass_ms: int = 0,
    judged: int = 0,
) -> Verdict:
    timing = (arrivals, queue_ms * 1_000, pass_ms * 1_000, judged)
    return Verdict(0, 1, base, accepted, tokens, None, *timing)


class Table:
    """A session that has begun, and what all sessions know."""

    def __init__(self, shared: Experience | None = None) -> None:
        self.shared = shared or Experience()
        self.costs = self.shared.costs
        self.session = SessionExperience(self.shared)
        self.session.began()

    def first_token(self, now: float = 0.0, pass_ms: int = 0) -> None:
        """The target has read the prompt."""
        self.session.judged(verdict(BASE, 0, 1, pass_ms=pass_ms), 0, False, now)

    def hears(self, end: int, now: float, queue_ms: int = 0, pass_ms: int = 0) -> None:
        """A verdict that confirms the text up to ``end``; none of it had been drafted."""
        self.session.judged(verdict(end - 1, 0, 1, queue_ms=queue_ms, pass_ms=pass_ms), 0, False, now)

    def drafts(self, *confidences: float, seconds: float = 0.04) -> None:
        for confidence in confidences:
            self.session.drafted(confidence, 1, seconds)

    def asks(self, end: int, now: float, tokens: int = 0) -> None:
        self.session.sent(tokens, end, now, "some")

    def r1(self, cost_weight: float = 0.0) -> float | None:
        return self.session.r1(self.session.link_costs(), cost_weight)

    def survival(self) -> float:
        outlook = self.session.outlook()
        assert outlook is not None
        return outlook.survival


def untaught(*confidences: float) -> float:
    """Probability that drafts so sure are all accepted, before anything was learned."""
    product = 1.0
    for confidence in confidences:
        product *= Calibration().survival(confidence)
    return product


@pytest.fixture
def table() -> Table:
    return Table()


# --- who keeps it ---


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("tuned", [False, True])
def test_it_is_kept_where_a_policy_or_the_tuner_goes_by_it(name: str, tuned: bool) -> None:
    policy, shared = POLICIES[name], Experience(Trials() if tuned else None)
    session = experience_of(policy, shared)
    session.began()
    session.judged(verdict(BASE, 0, 1, pass_ms=20), 0, False, 0.0)
    for number in range(5):
        base, now = BASE + 1 + 2 * number, 0.5 * number
        worth = session.drafted(0.9, 1, 0.04)
        session.sent(1, base + 2, now, "none")
        session.link_idle(now + 0.01)
        arrivals = ((1, 100_000 * number),)
        session.judged(verdict(base, 1, 1, arrivals=arrivals, pass_ms=20, judged=1), 1, False, now + 0.1)
    costs = shared.costs
    known = {costs.draft_s, costs.answer_s, costs.token_s, costs.occupancy, session.outlook()}
    if policy.goes_by_measurements or tuned:
        assert None not in known
        assert worth < shared.calibration.survival(0.9)
        assert shared.calibration.survival(0.9) > untaught(0.9)
    else:
        assert known == {None}
        assert worth == 0.9
        assert untaught(0.9) == shared.calibration.survival(0.9)


def test_where_nothing_is_kept_nothing_is_known_after_a_pause_a_loss_or_a_discard_either() -> None:
    session = experience_of(POLICIES["vanilla"], Experience())
    for happens in (session.paused, session.unsent, session.discarded, session.began):
        session.drafted(0.9, 1, 0.04)
        session.sent(1, 12, 0.0, "none")
        happens()
        session.judged(verdict(BASE, 1, 1, pass_ms=20, judged=1), 1, True, 0.1)
    assert (session.outlook(), session.r1(session.link_costs()), session.link_costs()) == (None, None, None)
    assert session.may_upload_ahead(1, 0.0)


# --- drafts ---


def test_a_step_that_read_much_first_says_nothing_of_the_ordinary_ones(table: Table) -> None:
    table.session.drafted(0.9, 3, 5.0)
    table.session.drafted(0.9, 400, 9.0)
    assert table.costs.draft_s is None
    table.session.drafted(0.9, 1, 0.04)
    table.session.drafted(0.9, 2, 0.06)
    table.session.drafted(0.9, 3, 9.0)
    assert table.costs.draft_s == same(0.05)


def test_a_draft_is_worth_what_was_learned_of_such_drafts(table: Table) -> None:
    assert table.session.drafted(0.9, 1, 0.04) == untaught(0.9)
    table.session.judged(verdict(BASE, 0, 1), 0, True, 0.0)
    table.session.discarded()
    assert table.session.drafted(0.9, 1, 0.04) < untaught(0.9)


def test_the_verdict_teaches_up_to_the_first_draft_that_was_wrong(table: Table) -> None:
    sure = (0.6, 0.75, 0.9, 0.97)
    table.drafts(*sure)
    table.session.judged(verdict(BASE, 2, 7), 2, True, 0.0)
    learned = [table.shared.calibration.survival(confidence) for confidence in sure]
    before = [untaught(confidence) for confidence in sure]
    assert learned[0] > before[0]
    assert learned[1] > before[1]
    assert learned[2] < before[2]
    assert learned[3] == before[3]


def test_drafts_that_stand_are_judged_by_the_next_verdict(table: Table) -> None:
    table.drafts(0.6, 0.75, 0.9)
    table.session.judged(verdict(BASE, 1, 1), 2, False, 0.0)
    table.session.judged(verdict(BASE + 2, 0, 1), 0, True, 0.1)
    assert table.shared.calibration.survival(0.75) > untaught(0.75)
    assert table.shared.calibration.survival(0.9) < untaught(0.9)


def test_drafts_that_were_discarded_teach_nothing(table: Table) -> None:
    table.drafts(0.6)
    table.session.discarded()
    table.drafts(0.9)
    table.session.judged(verdict(BASE, 1, 1), 1, False, 0.0)
    assert table.shared.calibration.survival(0.6) == untaught(0.6)
    assert table.shared.calibration.survival(0.9) > untaught(0.9)


def test_drafts_that_were_sent_in_vain_are_learned_from_when_they_are_judged(table: Table) -> None:
    table.drafts(0.6, 0.6)
    table.session.unsent()
    table.session.judged(verdict(BASE, 2, 1), 2, False, 0.0)
    assert table.shared.calibration.survival(0.6) > untaught(0.6)


# --- passes and pace ---


def test_the_pass_over_the_prompt_is_none_of_the_ordinary_ones(table: Table) -> None:
    table.first_token(3.0, pass_ms=3_000)
    assert table.costs.token_s is None
    for number, judged in enumerate((0, 2, 4), start=1):
        said = verdict(BASE + number, 0, 1, pass_ms=40 + 2 * (judged + 1), judged=judged)
        table.session.judged(said, 0, False, 3.0 + number)
    assert table.costs.passes is not None
    assert table.costs.passes.fixed.value == same(0.04)
    assert table.costs.passes.slope.value == same(0.002)


def test_pace_counts_what_was_accepted_and_what_the_target_added(table: Table) -> None:
    table.first_token(1.0)
    table.drafts(0.9, 0.9, 0.9)
    table.session.judged(verdict(BASE + 1, 3, 1), 3, False, 1.4)
    assert table.costs.token_s == same(0.1)
    table.session.judged(verdict(BASE + 5, 0, 1), 0, False, 1.9)
    assert table.costs.token_s == same(0.18)


def test_time_between_two_answers_is_nobodys_pace(table: Table) -> None:
    table.first_token(1.0)
    table.session.judged(verdict(BASE + 1, 0, 1), 0, False, 1.1)
    table.session.began()
    table.first_token(900.0)
    assert table.costs.token_s == same(0.1)
    table.session.judged(verdict(BASE + 1, 0, 1), 0, False, 900.3)
    assert table.costs.token_s == same(0.2)


def test_time_in_which_nobody_reads_is_nobodys_pace(table: Table) -> None:
    table.first_token(1.0)
    table.hears(BASE + 2, 1.1)
    table.session.paused()
    table.hears(BASE + 3, 600.0)
    assert table.costs.token_s == same(0.1)
    table.hears(BASE + 4, 600.3)
    assert table.costs.token_s == same(0.2)


def test_a_correction_does_not_interrupt_the_pace(table: Table) -> None:
    table.first_token(1.0)
    table.drafts(0.9)
    table.session.judged(verdict(BASE + 1, 0, 1), 0, True, 1.1)
    table.session.discarded()
    table.session.judged(verdict(BASE + 2, 0, 1), 0, False, 1.4)
    assert table.costs.token_s == same(0.2)


# --- answers ---


def test_an_answer_takes_from_the_ask_to_the_verdict_that_reaches_it(table: Table) -> None:
    table.first_token()
    table.asks(BASE + 3, now=1.0)
    table.session.link_idle(1.02)
    table.hears(BASE + 2, 1.05)
    assert table.costs.answer_s is None
    table.hears(BASE + 3, 1.2, queue_ms=10, pass_ms=40)
    assert (table.costs.answer_s, table.costs.return_s) == (same(0.2), same(0.18))
    assert table.costs.travel_s == same(0.13)


def test_a_verdict_that_nobody_asked_for_is_no_answer(table: Table) -> None:
    table.first_token()
    table.session.sent(3, 0, 1.0, "some")
    table.hears(BASE + 4, 1.2)
    assert (table.costs.answer_s, table.costs.return_s) == (None, None)


def test_of_asks_that_are_answered_together_the_oldest_counts(table: Table) -> None:
    table.first_token()
    for end, now in ((BASE + 2, 1.0), (BASE + 3, 1.1), (BASE + 6, 1.2)):
        table.asks(end, now)
    table.hears(BASE + 5, 1.3)
    assert table.costs.answer_s == same(0.3)
    table.hears(BASE + 7, 1.7)
    assert table.costs.answer_s == same(0.4)  # the median of 0.3 and 0.5


def test_an_ask_that_was_discarded_is_never_answered(table: Table) -> None:
    table.first_token()
    table.asks(BASE + 3, now=1.0)
    table.session.discarded()
    table.hears(BASE + 5, 1.2)
    assert table.costs.answer_s is None


def test_an_ask_that_was_sent_in_vain_is_never_answered(table: Table) -> None:
    table.first_token()
    table.asks(BASE + 3, now=1.0)
    table.session.unsent()
    table.hears(BASE + 5, 60.0)
    assert (table.costs.answer_s, table.costs.token_s) == (None, None)


def test_an_ask_behind_the_prompt_is_no_ordinary_one(table: Table) -> None:
    table.asks(BASE + 3, now=0.1)
    table.session.link_idle(0.2)
    table.first_token(5.0, pass_ms=4_900)
    table.hears(BASE + 4, 5.06, pass_ms=40)
    assert (table.costs.answer_s, table.costs.return_s, table.costs.travel_s) == (None, None, None)


def test_an_ask_behind_the_prompt_leaves_those_that_follow_it_alone(table: Table) -> None:
    table.asks(BASE + 3, now=0.1)
    table.first_token(5.0, pass_ms=4_900)
    table.asks(BASE + 6, now=5.1)
    table.session.link_idle(5.15)
    table.hears(BASE + 4, 5.2)
    assert table.costs.answer_s is None
    table.hears(BASE + 6, 5.4, queue_ms=10, pass_ms=40)
    assert (table.costs.answer_s, table.costs.return_s) == (same(0.3), same(0.25))
    assert table.costs.travel_s == same(0.2)


def test_the_way_back_begins_when_the_newest_ask_has_left(table: Table) -> None:
    table.first_token()
    table.asks(BASE + 2, now=1.0)
    table.session.link_idle(1.1)
    table.asks(BASE + 4, now=1.2)
    table.session.link_idle(1.3)
    table.session.sent(2, 0, 1.3, "none")
    table.session.link_idle(1.4)
    table.hears(BASE + 3, 1.5)
    assert table.costs.return_s is None
    table.hears(BASE + 4, 1.6)
    assert table.costs.return_s == same(0.3)


def test_there_is_no_way_back_of_an_ask_that_has_not_left(table: Table) -> None:
    table.first_token()
    table.session.link_idle(0.5)
    table.asks(BASE + 2, now=1.0)
    table.hears(BASE + 3, 1.5)
    assert table.costs.return_s is None


def test_a_link_that_is_called_idle_after_the_verdict_says_nothing_of_the_next_ask(table: Table) -> None:
    table.first_token()
    table.asks(BASE + 2, now=1.0)
    table.hears(BASE + 2, 1.2)
    table.session.link_idle(1.3)
    table.asks(BASE + 4, now=2.0)
    table.hears(BASE + 4, 2.2)
    assert table.costs.return_s is None
    table.asks(BASE + 6, now=3.0)
    table.session.link_idle(3.1)
    table.session.link_idle(3.15)
    table.hears(BASE + 6, 3.2)
    assert table.costs.return_s == same(0.1)


# --- the link ---


def busy(table: Table) -> None:
    """Batches that leave one after the other, at ten milliseconds a token; a verdict acknowledges them."""
    arrivals, at_ms = [], 0
    for tokens in (1, 2, 4, 3):
        table.session.sent(tokens, 0, at_ms / 1e3, "none")
        at_ms += 10 * tokens
        arrivals.append((tokens, 7_000_000 + at_ms * 1_000))
    table.session.judged(verdict(BASE, 0, 1, arrivals=tuple(arrivals)), 0, False, 0.2)


def test_arrivals_show_the_occupancy_of_the_link(table: Table) -> None:
    busy(table)
    assert table.costs.occupancy is not None
    assert table.costs.occupancy.fixed.value == same(0.0)
    assert table.costs.occupancy.slope.value == same(0.01)
    assert table.session.link_costs() is None
    table.drafts(0.9)
    assert table.session.link_costs() is table.costs.link_costs() is not None


def test_an_ask_without_drafts_leaves_no_stamp(table: Table) -> None:
    table.session.sent(2, 0, 0.0, "some")
    table.session.sent(0, BASE + 9, 0.02, "none")
    table.session.sent(4, 0, 0.02, "none")
    table.session.sent(3, 0, 0.06, "none")
    stamps = ((2, 500_000), (4, 580_000), (3, 610_000))  # the ask took its time on the link as well
    table.session.judged(verdict(BASE, 0, 1, arrivals=stamps), 0, False, 1.0)
    table.session.sent(1, 0, 0.09, "none")
    table.session.judged(verdict(BASE + 1, 0, 1, arrivals=((1, 620_000),)), 0, False, 1.1)
    assert table.costs.occupancy is not None
    assert table.costs.occupancy.at(7) == same(0.07)


def busy_with_asks(table: Table, every: int) -> None:
    """Each frame takes the link 25 ms and each token 10 ms; behind each so many batches an ask goes alone."""
    arrivals, at_ms = [], 0
    for number in range(1, 41):
        tokens = 1 + number % 4
        table.session.sent(tokens, 0, at_ms / 1e3, "none")
        at_ms += 25 + 10 * tokens
        arrivals.append((tokens, at_ms * 1_000))
        if number % every == 0:
            table.session.sent(0, BASE + 900, at_ms / 1e3, "none")
            at_ms += 25
    table.session.judged(verdict(BASE, 0, 1, arrivals=tuple(arrivals)), 0, False, 9.0)


@pytest.mark.parametrize("every", [2, 3, 5])
def test_an_ask_without_drafts_is_no_part_of_the_batch_behind_it(table: Table, every: int) -> None:
    busy_with_asks(table, every)
    assert table.costs.occupancy is not None
    assert table.costs.occupancy.fixed.value == same(0.025)
    assert table.costs.occupancy.slope.value == same(0.01)


def test_nothing_is_known_of_the_link_if_all_batches_are_behind_asks_without_drafts(table: Table) -> None:
    busy_with_asks(table, every=1)
    assert table.costs.occupancy is None


@pytest.mark.parametrize(("gap", "is_known"), [("none", True), ("some", False), ("foreign", False)])
def test_what_lay_between_two_batches_counts(table: Table, gap: Gap, is_known: bool) -> None:
    table.session.sent(1, 0, 0.0, gap)
    table.session.sent(2, 0, 0.001, gap)
    table.session.sent(4, 0, 0.002, gap)
    stamps = ((1, 510_000), (2, 530_000), (4, 570_000))
    table.session.judged(verdict(BASE, 0, 1, arrivals=stamps), 0, False, 1.0)
    assert (table.costs.occupancy is not None) == is_known


@pytest.mark.parametrize("again", ["discarded", "began"])
def test_batches_of_an_old_epoch_are_not_waited_for(table: Table, again: str) -> None:
    table.session.sent(5, 0, 0.0, "some")
    getattr(table.session, again)()
    busy(table)
    assert table.costs.occupancy is not None


# --- what is expected ---


def test_there_is_no_outlook_before_draft_and_answer_are_known() -> None:
    drafted, answered = Table(), Table()
    drafted.drafts(0.9)
    answered.first_token()
    answered.asks(BASE + 2, now=1.0)
    answered.hears(BASE + 2, 1.2)
    assert (drafted.costs.draft_s, answered.costs.answer_s) == (same(0.04), same(0.2))
    assert (drafted.session.outlook(), answered.session.outlook()) == (None, None)


def test_the_outlook_is_what_was_measured(table: Table) -> None:
    table.costs.answered(0.2)
    table.drafts(0.9, 0.8)
    acceptance = Calibration().acceptance
    survival = same(untaught(0.9, 0.8))
    assert table.session.outlook() == Outlook(0.2, 0.04, 0.0, survival, acceptance)  # type: ignore[arg-type]
    table.costs.aborted(0.003)
    outlook = table.session.outlook()
    assert outlook is not None
    assert outlook.abort_s == 0.003


def test_survival_is_that_of_the_drafts_that_are_unverified(table: Table) -> None:
    table.costs.answered(0.2)
    table.drafts(0.6, 0.75, 0.9)
    assert table.survival() == same(untaught(0.6, 0.75, 0.9))
    table.session.judged(verdict(BASE, 1, 1), 2, False, 0.0)
    assert table.survival() == same(untaught(0.9))
    table.drafts(0.97)
    table.session.discarded()
    assert table.survival() == 1.0


def test_sessions_share_what_is_known_but_not_their_drafts(table: Table) -> None:
    other = Table(table.shared)
    table.drafts(0.6)
    table.costs.answered(0.2)
    assert (other.survival(), table.survival()) == (1.0, same(untaught(0.6)))
    other.drafts(0.9)
    table.session.judged(verdict(BASE, 0, 1), 0, True, 0.0)
    assert other.survival() == same(untaught(0.9))
    assert other.session.drafted(0.6, 1, 0.04) < untaught(0.6)


@pytest.mark.parametrize(("draft_s", "r1"), [(0.04, 0.4), (3.0, 1.0)])
def test_r1_is_a_draft_step_over_the_pace_and_at_most_one(table: Table, draft_s: float, r1: float) -> None:
    assert table.r1() is None
    table.drafts(0.9, seconds=draft_s)
    assert table.r1() is None
    table.first_token(1.0)
    table.session.judged(verdict(BASE + 1, 1, 1), 1, False, 1.2)
    assert table.r1() == same(r1)


def test_r1_counts_a_place_on_the_link_if_that_takes_longer_than_a_step(table: Table) -> None:
    busy(table)
    table.drafts(0.9, seconds=0.004)
    table.session.judged(verdict(BASE + 1, 0, 1), 0, False, 0.3)
    assert table.r1() == same(0.01 / 0.1)


def asked(table: Table) -> None:
    """The verdict that is pending is expected at 5.5; each token takes 10 ms of the link."""
    busy(table)
    table.drafts(0.9)
    for _ in range(20):
        table.costs.returned(0.3)
    table.asks(BASE + 2, now=5.0)
    table.session.link_idle(5.2)


def test_drafts_leave_ahead_while_too_little_is_known(table: Table) -> None:
    assert table.session.may_upload_ahead(30, 99.0)
    busy(table)
    table.drafts(0.9)
    assert table.session.may_upload_ahead(30, 99.0)


@pytest.mark.parametrize(
    ("tokens", "now", "may"),
    [(1, 5.2, True), (29, 5.2, True), (31, 5.2, False), (9, 5.4, True), (11, 5.4, False), (4, 5.6, False)],
)
def test_drafts_leave_ahead_if_they_are_away_before_the_verdict(
    table: Table, tokens: int, now: float, may: bool
) -> None:
    asked(table)
    assert table.session.may_upload_ahead(tokens, now) == may


@pytest.mark.parametrize(("tokens", "may"), [(1, True), (2, True), (4, False)])
@pytest.mark.parametrize("now", [5.48, 5.6, 99.0])
def test_drafts_that_leave_in_a_tenth_of_the_way_back_go_ahead_however_late_the_verdict_is(
    table: Table, now: float, tokens: int, may: bool
) -> None:
    asked(table)
    assert table.session.may_upload_ahead(tokens, now) == may


def test_nothing_is_held_back_while_the_newest_ask_is_on_its_way(table: Table) -> None:
    asked(table)
    table.asks(BASE + 4, now=5.6)
    assert table.session.may_upload_ahead(40, 5.6)
    table.session.link_idle(5.7)
    assert not table.session.may_upload_ahead(40, 5.7)


def test_an_ask_of_before_a_pause_holds_nothing_back(table: Table) -> None:
    asked(table)
    table.session.paused()
    assert table.session.may_upload_ahead(40, 60.0)
    table.hears(BASE + 2, 60.1)
    table.session.paused()
    table.asks(BASE + 6, now=60.2)
    table.session.link_idle(60.3)
    assert table.session.may_upload_ahead(10, 60.3)


def test_an_ask_that_is_not_timed_holds_nothing_back_either_while_it_is_on_its_way(table: Table) -> None:
    asked(table)
    table.session.paused()
    table.session.link_idle(5.3)
    assert table.session.may_upload_ahead(40, 5.3)
    table.asks(BASE + 4, now=5.4)
    assert table.session.may_upload_ahead(40, 5.4)


def test_an_ask_that_was_discarded_holds_nothing_back(table: Table) -> None:
    asked(table)
    table.session.discarded()
    assert table.session.may_upload_ahead(40, 5.3)


def test_an_ask_of_the_last_answer_holds_nothing_back(table: Table) -> None:
    asked(table)
    table.session.judged(verdict(BASE + 1, 1, 1), 1, False, 5.5)
    table.session.began()
    assert table.session.may_upload_ahead(40, 60.0)


def test_what_leaves_without_an_ask_holds_nothing_back(table: Table) -> None:
    asked(table)
    table.session.judged(verdict(BASE + 1, 1, 1), 1, False, 5.5)
    table.session.began()
    table.session.sent(1, 0, 60.0, "some")
    table.session.link_idle(60.01)
    assert table.session.may_upload_ahead(40, 61.0)
    table.asks(BASE + 2, now=61.0, tokens=1)
    table.session.link_idle(61.01)
    assert table.session.may_upload_ahead(40, 62.0)


# --- the tuner ---


def trials_of(table: Table) -> Trials:
    assert table.shared.trials is not None
    return table.shared.trials


@pytest.fixture
def tuned() -> Table:
    return Table(Experience(Trials()))


def hears_of_twenty(table: Table, now: float, pass_ms: int = 0, *, counts: bool = True) -> None:
    news = verdict(BASE + 1, 0, *[1] * 20, pass_ms=pass_ms)
    table.session.judged(news, 0, False, now, counts=counts)


def test_a_trial_is_what_verdicts_took_since_the_ones_before(tuned: Table) -> None:
    tuned.first_token(1.0, pass_ms=300)
    hears_of_twenty(tuned, 1.5, pass_ms=40)
    report = trials_of(tuned).report(())
    assert report.verdicts == ((20, same(500.0), same(40.0), 0.0),)


def test_a_trial_knows_what_energy_its_verdicts_took(tuned: Table) -> None:
    trials_of(tuned).counts_energy = True
    tuned.first_token()
    news = msgspec.structs.replace(verdict(BASE + 1, 0, *[1] * 20), energy_uj=750_000)
    tuned.session.judged(news, 0, False, 0.5)
    assert trials_of(tuned).report(()).verdicts[0][3] == same(750.0)


def test_what_came_behind_a_pause_or_a_prompt_is_no_part_of_a_trial(tuned: Table) -> None:
    tuned.first_token()
    tuned.session.paused()
    hears_of_twenty(tuned, 9.0)
    tuned.session.began()
    hears_of_twenty(tuned, 10.0)
    assert not trials_of(tuned).is_complete
    hears_of_twenty(tuned, 10.5)
    assert trials_of(tuned).report(()).verdicts == ((20, same(500.0), 0.0, 0.0),)


def test_a_verdict_on_older_drafts_is_learned_from_but_not_counted(tuned: Table) -> None:
    tuned.first_token()
    tuned.drafts(0.9)
    tuned.session.judged(verdict(BASE + 1, 1, *[1] * 20), 1, False, 0.5, counts=False)
    assert not trials_of(tuned).is_complete
    hears_of_twenty(tuned, 0.75)
    report = trials_of(tuned).report(())
    assert report.verdicts == ((20, same(250.0), 0.0, 0.0),)
    assert report.drafts == ((0.9, untaught(0.9), True),)


def test_drafts_are_told_with_what_they_were_thought_worth_when_they_were_made(tuned: Table) -> None:
    tuned.first_token()
    tuned.drafts(0.9, 0.8, 0.5, 0.4)
    worths = [untaught(confidence) for confidence in (0.9, 0.8, 0.5)]
    tuned.session.judged(verdict(BASE + 1, 2, 7), 2, True, 0.5)
    report = trials_of(tuned).report(())
    assert report.drafts == ((0.9, worths[0], True), (0.8, worths[1], True), (0.5, worths[2], False))
    assert report.astray == (0.4,)


def test_conditions_are_those_that_the_model_knows(tuned: Table) -> None:
    """In the order of its fields; nothing is told before all but the link's own occupancy is known."""
    assert tuned.shared.conditions_ms() == ()
    tuned.costs.drafted(0.03)
    tuned.costs.travelled(0.08)
    assert tuned.shared.conditions_ms() == ()
    for tokens in (1, 2, 4):
        tuned.costs.passed(tokens, 0.04 + 0.001 * tokens)
    assert tuned.shared.conditions_ms() == tuple(map(same, (30.0, 0.0, 80.0, 0.0, 0.0, 40.0, 1.0)))
    tuned.costs.aborted(0.002)
    trip = tuned.costs.trip()
    for tokens in (1, 2, 4, 3):
        trip.sent(tokens, 0.0, "none")
    trip.arrived([(1, 0), (2, 25_000), (4, 70_000), (3, 105_000)])
    measured = Conditions(*(each / 1e3 for each in tuned.shared.conditions_ms()))
    assert (measured.draft_s, measured.abort_s, measured.link_s) == (same(0.03), same(0.002), same(0.08))
    assert (measured.batch_s, measured.token_s) == (same(0.005), same(0.01))
    assert (measured.pass_s, measured.pass_token_s) == (same(0.04), same(0.001))


def test_the_way_is_the_answer_without_the_clouds_share(table: Table) -> None:
    table.first_token()
    table.asks(BASE + 2, 1.0)
    table.session.link_idle(1.25)
    table.hears(BASE + 2, 2.0, queue_ms=100, pass_ms=400)
    assert (table.costs.travel_s, table.costs.return_s) == (same(0.25), same(0.75))


def test_what_the_clouds_work_is_worth_moves_the_closed_form(table: Table) -> None:
    """Steps of 40 ms, 200 ms per token; passes of 20 ms and 10 ms per token, one of 40 ms for each token."""
    table.drafts(0.9)
    table.first_token()
    for number in range(1, 4):
        table.session.judged(verdict(BASE + number, 0, 1, pass_ms=40, judged=1), 0, False, 0.2 * number)
    table.costs.passed(5, 0.07)
    assert table.r1() == same(0.04 / 0.2)
    assert table.r1(0.0) == table.r1()
    assert table.r1(1.0) == same((0.04 + 0.01) / (0.2 + 0.04))
    assert table.r1(4.0) == same((0.04 + 0.04) / (0.2 + 0.16))
