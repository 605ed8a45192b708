"""When a session asks, what it sends when, and what becomes of drafts that were sent in vain."""

import msgspec
import pytest

from pipesd.planner.policies import ASKS_MAX, Policy
from pipesd.planner.trigger import Thresholds
from pipesd.session.experience import Experience
from pipesd.session.ledger import Ledger
from pipesd.session.rules import EdgeRules
from pipesd.session.tactics import Tactics
from pipesd.session.trials import Trials
from pipesd.values import Ahead
from pipesd.wire.frames import Verdict
from tests.session.helpers import SHY, always, draft, verdict

WINDOW = 16
TWO_AT_MOST = Thresholds(0.0, 0.0, upper_tokens=2, lower_tokens=1)


class Desk:
    """A session's tactics with its books: behind the prompt 1, 2, 3 and the token 10, with no ask pending."""

    def __init__(self, policy: Policy | None = None, trials: Trials | None = None) -> None:
        self.books = Ledger(4)
        self.experience = Experience(trials)
        rules = EdgeRules(policy=policy or always(), tuner="off" if trials is None else "edge")
        self.tactics = Tactics(0, rules, self.books, self.experience)
        self.books.prompt(0, (1, 2, 3))
        self.tactics.begin()
        self.hears(verdict(3, 0, 10))

    def drafts(self, *tokens: int, confidence: float = 1.0) -> None:
        for token in tokens:
            self.books.draft(token)
            self.tactics.drafted(confidence, 1, 0.1)
            self.tactics.ask_if_due()

    def sends(self, window: int = WINDOW) -> list[object]:
        """All that leaves over a link that is idle again right behind each frame."""
        sent: list[object] = []
        while (frame := self.tactics.next_frame(window, 0.0, "some")) is not None:
            sent.append(frame)
            self.tactics.link_idle(0.0)
        self.books.validate()
        return sent

    def hears(self, frame: Verdict, now: float = 0.0) -> None:
        books, news = self.books, [*self.books.suffix[: frame.accepted], *frame.tokens]
        held, base = len(books.suffix), books.confirmed
        first_wrong = books.settle(frame.accepted, frame.tokens)
        agreed = min(held, len(news)) if first_wrong is None else first_wrong - base
        self.tactics.judged(frame, agreed, first_wrong, now)
        books.validate()


# -- asking and sending -----------------------------------------------------------------------------------


def test_nothing_is_sent_where_there_is_nothing() -> None:
    desk = Desk()
    assert desk.sends() == []
    assert (desk.tactics.asks, desk.tactics.furthest_ask) == (0, 0)


def test_drafts_leave_and_an_ask_goes_with_those_up_to_it() -> None:
    desk = Desk(always(TWO_AT_MOST))
    desk.drafts(11)
    assert desk.sends() == [draft(4, 11)]
    desk.drafts(12, 13)
    assert (desk.tactics.asks, desk.tactics.furthest_ask) == (1, 6)
    assert desk.sends() == [draft(5, 12, ask=6), draft(6, 13)]
    assert (desk.tactics.asks, desk.tactics.furthest_ask) == (1, 6)


def test_an_idle_drafter_asks_for_what_it_has() -> None:
    desk = Desk()
    assert not desk.tactics.ask_if_idle()
    desk.drafts(11, 12)
    assert desk.tactics.ask_if_idle()
    assert desk.sends() == [draft(4, 11, 12, ask=6)]
    assert not desk.tactics.ask_if_idle()


def test_what_is_asked_ahead_counts_like_any_ask() -> None:
    desk = Desk()
    desk.tactics.ask_ahead(30)
    assert (desk.tactics.asks, desk.tactics.furthest_ask) == (1, 30)
    assert desk.sends() == [draft(4, ask=30)]
    assert (desk.tactics.asks, list(desk.books.asks)) == (1, [30])


def test_no_more_than_the_window_leaves() -> None:
    desk = Desk()
    desk.drafts(*range(11, 31))
    assert desk.sends(window=6) == [draft(4, *range(11, 17))]
    assert desk.sends(window=8) == [draft(10, 17, 18)]
    assert desk.sends(window=4) == [], "a window that was narrowed takes nothing back"
    desk.hears(verdict(4, 6, 17))
    assert desk.sends(window=4) == [draft(12, 19, 20, 21)]


def test_drafts_ahead_that_may_not_be_uploaded_stay_until_the_verdict() -> None:
    desk = Desk(always(TWO_AT_MOST, upload_ahead=False))
    desk.drafts(11, 12)
    assert desk.sends() == [draft(4, 11, 12, ask=6)]
    desk.drafts(13, 14)
    assert desk.sends() == []
    desk.hears(verdict(4, 2, 13))
    assert desk.sends() == [draft(7, 14, ask=8)]


def test_no_more_asks_than_may_be_pending() -> None:
    desk = Desk(always(Thresholds(0.0, 0.0, 1, 1)))
    desk.drafts(*range(11, 31))
    assert desk.tactics.asks == ASKS_MAX
    desk.sends()
    assert desk.tactics.asks == len(desk.books.asks) == ASKS_MAX


@pytest.mark.parametrize(("ahead", "goes_ahead"), [("never", False), ("always", True)])
def test_whether_to_draft_ahead_is_the_policys_to_say(ahead: Ahead, goes_ahead: bool) -> None:
    desk = Desk(always(TWO_AT_MOST, ahead=ahead))
    assert desk.tactics.goes_ahead is goes_ahead
    desk.drafts(11, 12)
    assert desk.tactics.goes_ahead is goes_ahead


def test_a_drafter_that_knows_nothing_yet_goes_ahead_to_learn() -> None:
    desk = Desk(always(TWO_AT_MOST, ahead="expected"))
    desk.drafts(11, 12)
    assert desk.tactics.goes_ahead


# -- what becomes of drafts -------------------------------------------------------------------------------


def test_what_was_sent_in_vain_is_sent_again_with_what_was_drafted_since() -> None:
    desk = Desk(always(TWO_AT_MOST))
    desk.drafts(11, 12)
    assert desk.sends() == [draft(4, 11, 12, ask=6)]
    desk.books.unsend()
    desk.tactics.unsend()
    assert (desk.tactics.asks, desk.tactics.furthest_ask) == (0, 0)
    desk.drafts(13)
    assert desk.sends() == [draft(4, 11, 12, 13, epoch=2)]
    desk.tactics.ask_ahead(7)
    assert desk.sends() == [draft(7, ask=7, epoch=2)]


def test_what_was_to_be_asked_is_not_asked_when_nothing_that_was_sent_counts() -> None:
    desk = Desk(always(TWO_AT_MOST, upload_ahead=False))
    desk.drafts(11, 12, 13, 14)
    desk.tactics.next_frame(WINDOW, 0.0, "some")
    assert desk.tactics.asks == 2
    desk.books.unsend()
    desk.tactics.unsend()
    assert desk.tactics.asks == 0


def test_drafts_that_were_sent_in_vain_are_judged_and_learned_from_once() -> None:
    trials = Trials(SHY)
    desk = Desk(always(), trials)
    desk.drafts(11, 12, 13, confidence=0.5)
    desk.sends()
    desk.books.unsend()
    desk.tactics.unsend()
    desk.tactics.ask_ahead(7)
    desk.sends()
    desk.hears(verdict(4, 1, 50, epoch=2))
    assert [(sure, accepted) for sure, _, accepted in trials.kept_drafts] == [(0.5, True), (0.5, False)]
    assert list(trials.kept_astray) == [0.5]


def test_the_time_away_is_no_part_of_the_pace() -> None:
    desk = Desk()
    desk.books.unsend()
    desk.tactics.unsend()
    desk.hears(verdict(4, 0, 11, epoch=2), 60.0)
    assert desk.experience.costs.token_s is None
    desk.hears(verdict(5, 0, 12, epoch=2), 60.5)
    assert desk.experience.costs.token_s == pytest.approx(0.5)


def test_drafts_that_are_given_up_leave_nothing_behind() -> None:
    desk = Desk(always(TWO_AT_MOST))
    desk.drafts(11, 12, 13)
    desk.books.cancel()
    desk.tactics.discard()
    assert desk.tactics.asks == 0
    assert desk.sends() == []
    desk.drafts(14)
    assert desk.sends() == [draft(4, 14, epoch=2)], "the trigger counts from here on"


def test_a_contradiction_takes_the_asks_that_wait_with_it() -> None:
    desk = Desk(always(TWO_AT_MOST))
    desk.drafts(11, 12)
    desk.sends()
    desk.drafts(13, 14)
    assert desk.tactics.asks == 2
    desk.hears(verdict(4, 0, 50))
    assert desk.tactics.asks == 0
    assert desk.sends() == []


def test_an_ask_that_was_answered_while_it_waited_is_dropped() -> None:
    desk = Desk(always(TWO_AT_MOST))
    desk.drafts(11, 12)
    desk.sends()
    desk.tactics.ask_ahead(7)
    desk.hears(verdict(4, 2, 13))
    assert (desk.tactics.asks, desk.sends()) == (0, [])


# -- thresholds -------------------------------------------------------------------------------------------


def test_thresholds_are_adopted_from_the_next_draft_on_and_given_back() -> None:
    desk = Desk(always(SHY))
    desk.tactics.adopt(TWO_AT_MOST)
    desk.drafts(11, 12)
    assert desk.tactics.furthest_ask == 6
    desk.tactics.adopt(None)
    desk.drafts(13, 14, 15, 16)
    assert desk.tactics.furthest_ask == 6


def test_what_is_fixed_is_not_learned_and_what_is_learned_follows_the_pace() -> None:
    """A step takes 0.1 s, a token 0.5 s."""
    desk = Desk(always(Thresholds(0.9, 0.0, 100, 1), r1_rule="closed_form"))
    desk.drafts(11)
    assert desk.tactics.trigger.r1 == 0.9
    desk.hears(verdict(4, 0, 11, 12), 1.0)
    assert desk.tactics.trigger.r1 == pytest.approx(0.1 / 0.5)
    desk.tactics.adopt(Thresholds(0.125, 0.0, 100, 1))
    desk.hears(verdict(6, 0, 13), 1.5)
    assert desk.tactics.trigger.r1 == 0.125
    desk.tactics.adopt(None)
    assert desk.tactics.trigger.r1 == pytest.approx(0.1 / 0.5)


def test_drafts_of_before_a_trial_do_not_count_for_it() -> None:
    trials = Trials(SHY)
    desk = Desk(always(), trials)
    desk.drafts(11, 12)
    desk.sends()
    desk.tactics.adopt(TWO_AT_MOST)
    trials.begin(1)
    desk.hears(verdict(4, 2, *[50] * 18), 1.0)
    assert not trials.is_complete
    desk.hears(verdict(24, 0, *[50] * 20), 2.0)
    assert trials.is_complete


def test_what_the_cloud_works_for_a_token_is_taken_from_its_verdicts() -> None:
    desk = Desk()
    news = msgspec.structs.replace(verdict(4, 0, 11), pass_us=50_000)
    desk.hears(news, 0.5)
    desk.hears(msgspec.structs.replace(news, base=5), 1.0)
    assert desk.experience.costs.cloud_token_s == pytest.approx(0.05)
