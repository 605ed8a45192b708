"""Which sessions wait for the target, and what becomes of the pass that is running."""

import math

import pytest

from pipesd.access import Limits
from pipesd.session.budgets import Budgets
from pipesd.session.cloud import CloudSession
from pipesd.session.commands import RunPass, SendToPeer
from pipesd.session.events import PassDone
from pipesd.session.places import TENURE_S
from pipesd.session.proof import SALT_BYTES, Tokens, verifier_of
from pipesd.session.rules import CloudRules
from pipesd.session.work import Work
from pipesd.values import Slice, Verify
from pipesd.wire.frames import Verdict
from tests.session.helpers import draft, grant, part, prompt, run, verdict, without_stamps

CHUNK = 4
LOSSES_MAX = 5


class Shop:
    """A target with some sessions; what it is told to do is done when ``done`` says so."""

    def __init__(self, sessions: int = 1, **rules: int | Verify) -> None:
        self.budgets = Budgets()
        self.work = Work(CloudRules(**rules), CHUNK, self.budgets)  # type: ignore[arg-type]
        self.sessions = [CloudSession(0, number, grant(chunk_tokens=CHUNK)) for number in range(sessions)]

    def asks(self, number: int = 0, *tokens: int, now: float = 0.0) -> CloudSession:
        """That one is prompted."""
        session = self.sessions[number]
        session.prompt(prompt(*(tokens or (1, 2)), session=number), now)
        self.work.note(session)
        return session

    def drafts(self, number: int, *tokens: int, ask: int = 0, base: int = 3) -> None:
        session = self.sessions[number]
        session.draft(draft(base, *tokens, ask=ask, session=number), 0.0)
        self.work.note(session)

    def stands(self) -> tuple[bool, list[CloudSession], list[bool]]:
        """(whether a pass runs, who waits for one, for whom the target is at work)"""
        at_work = [self.work.is_at_work_for(session) for session in self.sessions]
        return self.work.is_running, list(self.work.waiting), at_work

    def starts(self, now: float = 0.0) -> RunPass | None:
        return self.work.start(self.sessions, now)

    def done(
        self, *picks: tuple[int, ...], now: float = 0.0, energy_j: float | None = None
    ) -> list[tuple[int, object]]:
        said = self.work.settle(PassDone(picks, energy_j), now)
        for session in self.sessions:
            session.validate()
        return [(session.number, frame) for session, frame in said]

    def begun(self) -> "Shop":
        """All of them are behind 1, 2 and 10."""
        for number in range(len(self.sessions)):
            self.asks(number)
            assert self.starts() is not None
            self.done((10,))
        return self


def first(number: int, *tokens: int) -> Slice:
    """The first chunk of a prompt, in the place of that number."""
    return part(0, tokens or (1, 2), 1, chunk=True, sequence=number)


# -- what waits -------------------------------------------------------------------------------------------


def test_nobody_waits_and_nothing_runs() -> None:
    shop = Shop()
    assert shop.starts() is None
    assert not shop.work.is_running
    assert list(shop.work.waiting) == []
    assert math.isinf(shop.work.deadline())


def test_who_asked_waits_and_is_worked_for_until_it_has_its_verdict() -> None:
    shop = Shop(2)
    session = shop.asks()
    assert shop.stands() == (False, [session], [True, False])
    assert shop.starts() == run(first(0))
    assert shop.stands() == (True, [], [True, False])
    assert [number for number, _ in shop.done((10,))] == [0]
    assert shop.stands() == (False, [], [False, False])


def test_no_pass_starts_while_another_runs() -> None:
    shop = Shop(2)
    shop.asks(0)
    shop.starts()
    shop.asks(1)
    assert shop.starts() is None
    shop.done((10,))
    assert shop.starts() == run(first(1))


def test_who_waits_longest_comes_first_and_keeps_its_turn_when_it_asks_for_more() -> None:
    shop = Shop(3, pass_tokens=2).begun()
    shop.drafts(1, 11, ask=4)
    shop.drafts(0, 12, ask=4)
    shop.drafts(1, ask=5, base=4)
    assert [session.number for session in shop.work.waiting] == [1, 0]
    assert shop.starts() == run(part(2, (10, 11), 2, sequence=1))


def test_who_does_not_want_anything_any_more_does_not_wait() -> None:
    shop = Shop(2)
    session = shop.asks()
    session.park()
    shop.work.note(session)
    assert list(shop.work.waiting) == []
    assert shop.starts() is None


def test_what_is_to_be_read_is_counted_over_all_who_wait() -> None:
    shop = Shop(3).begun()
    assert shop.work.unread_tokens == 0
    shop.sessions[0].prompt(prompt(1, 2, 3, base=3, epoch=2), 0.0)
    shop.work.note(shop.sessions[0])
    shop.drafts(1, ask=4)
    assert shop.work.unread_tokens == (1 + 3) + 1


def test_who_left_is_neither_waited_for_nor_kept_in_the_cache() -> None:
    shop = Shop(2).begun()
    shop.drafts(0, ask=4)
    shop.drafts(1, 11)
    assert shop.work.drop(shop.sessions[0]) == 0
    assert shop.work.drop(shop.sessions[1]) == 1
    assert shop.starts() is None
    assert shop.work.drop(shop.sessions[1]) is None


def test_what_others_may_begin_with_is_kept_when_a_session_leaves() -> None:
    shop = Shop(2)
    shop.asks(0, 1, 2, 3, 4, 5)
    for picks in ((), (10,)):
        shop.starts()
        shop.done(picks)
    assert shop.work.drop(shop.sessions[0]) is None
    shop.asks(1, 1, 2, 3, 4, 6)
    assert shop.starts() == run(part(4, (6,), 1, chunk=True))


def test_who_leaves_in_the_middle_of_its_pass_is_told_nothing() -> None:
    shop = Shop(3).begun()
    shop.drafts(0, ask=4)
    shop.starts()
    shop.drafts(1, 11, ask=4)
    shop.drafts(2, 12, ask=4)
    shop.done((50,))
    assert shop.starts() == run(part(2, (10, 11), 2, sequence=1), part(2, (10, 12), 2, sequence=2))
    shop.sessions[1].abandon()
    shop.work.drop(shop.sessions[1])
    assert [number for number, _ in shop.done((11, 20), (12, 30))] == [2]
    assert shop.starts() is None


# -- places -----------------------------------------------------------------------------------------------


def test_who_waits_for_a_place_says_when_it_may_get_one() -> None:
    shop = Shop(2, kv_sequences=1)
    shop.asks(0)
    shop.starts(now=1.0)
    shop.done((10,), now=1.25)
    shop.asks(1)
    assert shop.starts(now=1.5) is None
    assert shop.work.deadline() == 1.0 + TENURE_S
    assert shop.starts(now=1.0 + TENURE_S) == run(first(0), evicted=1)
    assert math.isinf(shop.work.deadline()), "a pass must come first"


def test_who_has_a_place_waits_for_none() -> None:
    shop = Shop(1).begun()
    assert math.isinf(shop.work.deadline())


# -- who shares a pass ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verify", "alone"), [("on_request", False), ("piggyback", False), ("eager", True)])
def test_drafts_that_nobody_asked_about_start_a_pass_of_an_eager_target_only(
    verify: Verify, alone: bool
) -> None:
    shop = Shop(1, verify=verify).begun()
    shop.drafts(0, 11, 12)
    assert shop.starts() == (run(part(2, (10, 11, 12), 3)) if alone else None)


@pytest.mark.parametrize(("verify", "rides"), [("on_request", False), ("piggyback", True), ("eager", True)])
def test_and_ride_behind_those_that_were_asked_about_where_they_may(verify: Verify, rides: bool) -> None:
    shop = Shop(3, verify=verify).begun()
    shop.drafts(0, ask=4)
    shop.starts()
    shop.drafts(1, 11)
    shop.drafts(2, 12, ask=4)
    shop.done((50,))
    riding = [part(2, (10, 11), 2, sequence=1)]
    assert shop.starts() == run(part(2, (10, 12), 2, sequence=2), *riding * rides)


def test_a_text_that_is_the_only_one_may_be_read_faster() -> None:
    shop = Shop(2, lone_prompt_tokens=3 * CHUNK)
    shop.asks(0, *range(20, 36))
    order = shop.starts()
    assert order is not None
    assert [len(each.tokens) for each in order.slices] == [4, 4, 4]
    shop.asks(1)
    shop.done((), (), ())
    assert shop.starts() == run(first(1)), "who waits longest, and no more than a chunk"


def test_a_text_is_not_the_only_one_while_another_is_written_to() -> None:
    shop = Shop(2, lone_prompt_tokens=3 * CHUNK)
    shop.asks(1)
    shop.starts()
    shop.done((10,))
    shop.asks(0, *range(20, 36))
    assert shop.starts() == run(part(0, range(20, 24), 0, chunk=True, sequence=1))


# -- tokens that have used up what they may -----------------------------------------------------------------


def metered(per_minute: int) -> Shop:
    """Two sessions behind their first token; the first is of a holder who is limited."""
    shop = Shop(2)
    verifier = verifier_of("secret", bytes(SALT_BYTES), Limits(tokens_per_minute=per_minute))
    shop.budgets.learn(Tokens({"ann": verifier}, b""))
    shop.sessions[0].owner = "ann"
    return shop.begun()


def test_who_has_used_up_what_it_may_rests_while_others_go_on() -> None:
    """A token comes back each second."""
    shop = metered(per_minute=60)
    shop.budgets.spend("ann", 59, now=0.0)
    shop.drafts(0, ask=4)
    assert shop.starts(now=0.5) is None
    assert shop.work.deadline() == 1.0
    shop.drafts(1, ask=4)
    assert shop.starts(now=0.75) == run(part(2, (10,), 1, sequence=1))
    shop.done((50,), now=0.75)
    assert list(shop.work.waiting) == [shop.sessions[0]]
    assert shop.starts(now=1.0) == run(part(2, (10,), 1))


def test_a_place_that_nobody_waits_for_is_no_reason_to_look_again() -> None:
    """That one could lose its place a second after it got it is past, and would be for ever."""
    shop = metered(per_minute=60)
    shop.budgets.spend("ann", 64, now=5.0)
    shop.drafts(0, ask=4)
    assert shop.starts(now=5.0) is None
    assert 5.0 < shop.work.deadline() < math.inf


def test_what_a_pass_confirms_is_spent() -> None:
    shop = metered(per_minute=60)
    shop.drafts(0, 11, 12, 13, ask=7)
    shop.starts()
    shop.done((11, 12, 13, 14))
    shop.budgets.spend("ann", 56, now=0.0)
    assert shop.budgets.ready_at("ann", 0.0) == pytest.approx(2.0), "60 less 1, 4 and 56 is one too few"


# -- what becomes of a pass -------------------------------------------------------------------------------


def test_a_pass_that_is_done_tells_each_its_verdict() -> None:
    shop = Shop(3).begun()
    shop.drafts(0, ask=4)
    shop.starts()
    shop.drafts(1, 11, ask=4)
    shop.drafts(2, 12, ask=5)
    shop.done((50,))
    shop.starts()
    assert [(number, plain(frame)) for number, frame in shop.done((11, 20), (12, 30))] == [
        (1, verdict(3, 1, 20, session=1)),
        (2, verdict(3, 1, 30, session=2)),
    ]
    assert list(shop.work.waiting) == []


def plain(frame: object) -> object:
    """A verdict without what it says about its pass."""
    assert isinstance(frame, Verdict)
    said = without_stamps(SendToPeer(0, frame))
    assert isinstance(said, SendToPeer)
    return said.frame


def test_who_is_not_served_in_full_waits_again_behind_the_others() -> None:
    shop = Shop(2, pass_tokens=2).begun()
    shop.drafts(0, ask=6)
    shop.starts()
    shop.drafts(1, ask=4)
    shop.done((50,))
    assert [session.number for session in shop.work.waiting] == [1, 0]


def test_a_prompt_that_is_read_by_halves_says_nothing_and_waits_on() -> None:
    shop = Shop()
    session = shop.asks(0, 1, 2, 3, 4, 5)
    shop.starts()
    assert shop.done(()) == []
    assert list(shop.work.waiting) == [session]
    assert shop.starts() == run(part(4, (5,), 1, chunk=True))


@pytest.mark.parametrize(("watts", "energy_j", "total_uj"), [(None, 0.5, 500_000), (20.0, None, 5_000_000)])
def test_what_a_pass_took_is_shared_out_by_tokens(
    watts: float | None, energy_j: float | None, total_uj: int
) -> None:
    """Two tokens of one session, three of the other; the pass takes 0.25 s."""
    shop = Shop(3)
    shop.work = Work(CloudRules(busy_watts=watts), CHUNK, shop.budgets)
    shop.begun()
    shop.drafts(0, ask=4)
    shop.starts()
    shop.drafts(1, 11, ask=4)
    shop.drafts(2, 12, 13, ask=5)
    shop.done((50,))
    shop.starts(now=1.0)
    said = [frame for _, frame in shop.done((11, 20), (12, 13, 30), now=1.25, energy_j=energy_j)]
    spent = [frame.energy_uj for frame in said if isinstance(frame, Verdict)]
    assert spent == [total_uj * 2 // 5, total_uj * 3 // 5]


# -- engines that fail ------------------------------------------------------------------------------------


def test_what_a_lost_engine_owed_is_read_again() -> None:
    shop = Shop(2).begun()
    shop.drafts(0, 11, ask=4)
    shop.starts()
    assert shop.work.begin_anew() == []
    assert not shop.work.is_running
    assert shop.work.is_at_work_for(shop.sessions[0])
    assert [session.unread_tokens for session in shop.sessions] == [3, 3]
    order = shop.starts()
    assert order is not None
    assert [each.tokens for each in order.slices] == [(1, 2), (10, 11)]


def test_who_is_in_every_pass_that_is_lost_is_named() -> None:
    shop = Shop()
    session = shop.asks()
    named = []
    for _ in range(LOSSES_MAX):
        shop.starts()
        named.append(shop.work.begin_anew())
    assert named == [[]] * (LOSSES_MAX - 1) + [[session]]


def test_a_verdict_clears_a_session_of_suspicion() -> None:
    shop = Shop()
    shop.asks()
    for _ in range(LOSSES_MAX - 1):
        shop.starts()
        shop.work.begin_anew()
    shop.starts()
    shop.done((10,))
    shop.drafts(0, ask=4)
    shop.starts()
    assert shop.work.begin_anew() == []


def test_a_pass_that_fails_names_who_was_in_it_and_what_is_to_be_forgotten() -> None:
    shop = Shop(3).begun()
    shop.drafts(0, ask=4)
    shop.starts()
    shop.drafts(1, 11, ask=4)
    shop.drafts(2, 12, ask=4)
    shop.done((50,))
    shop.starts()
    assert shop.work.fail() == (shop.sessions[1:], [1, 2])
    assert not shop.work.is_running
    assert [session.unread_tokens for session in shop.sessions] == [1, 3, 3]
