"""One connection after another: who is asked when, and when there is no sense in asking any more."""

import math
from dataclasses import replace
from typing import Any

import pytest

from pipesd.errors import PeerError
from pipesd.session.commands import (
    AnnounceReady,
    CloseLink,
    DropLink,
    EdgeCommand,
    Failure,
    NoteAway,
    OpenLink,
    SendFrame,
)
from pipesd.session.line import BREACHES_MAX, RETRY_MAX_S, RETRY_S, Line
from pipesd.session.phases import EdgePhase
from pipesd.session.rules import EdgeRules, Patience
from pipesd.session.tuned import Tuned
from pipesd.vocabulary import Vocabulary
from pipesd.wire import frames
from tests.session.helpers import VOCABULARY, WELCOME, grant, send

AWAY_S = 600.0
PATIENT = EdgeRules(patience=Patience(away_s=AWAY_S))
LOST = Failure("link", "reset")
SILENT = Patience(away_s=AWAY_S, greeting_s=5.0, ping_after_s=10.0, silent_after_s=30.0)


class Phone:
    """A line, and what becomes of its connections."""

    def __init__(self, rules: EdgeRules = PATIENT, **changes: Any) -> None:
        self.rules = replace(rules, **changes)
        self.line = Line(self.rules, VOCABULARY, Tuned(self.rules))
        self.now = 0.0

    def opens(self) -> list[EdgeCommand]:
        return list(self.line.opened("nonce", self.now))

    def hears(self, welcome: frames.Welcome = WELCOME) -> list[EdgeCommand]:
        return list(self.line.greet(welcome, self.now))

    def connects(self) -> "Phone":
        self.opens()
        assert self.hears() == [AnnounceReady(WELCOME)]
        assert self.line.phase is EdgePhase.READY
        return self

    def loses(self, failure: Failure = LOST, *, moves: bool = False) -> list[EdgeCommand]:
        return list(self.line.lose(failure, self.now, moves=moves))

    def is_refused(self, code: str = "busy", retry_ms: int = 0) -> list[EdgeCommand]:
        self.opens()
        return list(self.line.refused(frames.Refuse(code, "because", retry_ms), self.now))

    def waits(self) -> float:
        """It waits until its next try; for how long."""
        assert self.line.phase is EdgePhase.AWAY
        wait_s = self.line.deadline() - self.now
        self.now = self.line.deadline()
        return wait_s

    def dials(self) -> int:
        """It waits, and tries again; the cloud that it calls."""
        self.waits()
        (order,) = self.line.keep_time(self.now)
        assert isinstance(order, OpenLink)
        assert order.link == self.line.number
        assert self.line.phase is EdgePhase.CONNECTING
        return order.cloud

    def stands(self) -> tuple[EdgePhase, Failure | None]:
        """(the phase, why there is no connection)"""
        return self.line.phase, self.line.failure

    @property
    def is_over(self) -> bool:
        assert self.line.is_over == (self.line.phase is EdgePhase.CLOSED)
        return self.line.is_over


def end(answer: list[EdgeCommand]) -> Failure:
    """Why there will be no connection any more."""
    last = answer[-1]
    assert isinstance(last, CloseLink)
    return last.failure


def wait_of(answer: list[EdgeCommand]) -> float:
    """The connection is dropped, and the next try comes after so long."""
    drop, note = answer
    assert drop == DropLink()
    assert isinstance(note, NoteAway)
    return note.wait_s


# -- one connection ---------------------------------------------------------------------------------------


def test_a_connection_begins_with_a_greeting() -> None:
    phone = Phone()
    assert phone.stands() == (EdgePhase.CONNECTING, None)
    assert phone.opens() == [send(frames.Hello(frames.PROTOCOL_VERSION, "pipesd", len(VOCABULARY)))]
    assert phone.stands() == (EdgePhase.GREETING, None)
    assert phone.hears() == [AnnounceReady(WELCOME)]
    assert phone.stands() == (EdgePhase.READY, None)
    assert (phone.line.welcome, phone.line.number) == (WELCOME, 0)


def test_a_greeting_has_its_time() -> None:
    phone = Phone(patience=SILENT).connects()
    phone.loses()
    phone.dials()
    phone.opens()
    assert phone.line.deadline() == phone.now + 5.0
    phone.now += 5.0
    bye, drop, note = phone.line.keep_time(phone.now)
    assert bye == send(frames.Bye("the cloud did not complete the greeting in 5 s"))
    assert wait_of([drop, note]) > 0


def test_silence_is_asked_about_and_then_given_up_and_the_same_cloud_is_tried_first() -> None:
    phone = Phone(patience=SILENT, clouds=2).connects()
    assert phone.line.deadline() == 10.0
    assert list(phone.line.keep_time(10.0)) == [send(frames.Ping(10_000_000))]
    phone.now = 30.0
    bye, drop, _ = phone.line.keep_time(phone.now)
    assert bye == send(frames.Bye("nothing was heard from the cloud for 30 s"))
    assert drop == DropLink()
    assert phone.dials() == 0


def test_whatever_is_heard_is_a_sign_of_life() -> None:
    phone = Phone(patience=SILENT).connects()
    phone.line.heard(7.0)
    assert phone.line.deadline() == 17.0


def test_a_line_that_is_away_waits_for_nothing_but_its_next_try() -> None:
    phone = Phone(patience=SILENT).connects()
    wait_s = wait_of(phone.loses())
    assert phone.line.deadline() == wait_s
    phone.line.heard(0.0)
    assert phone.line.deadline() == wait_s
    assert list(phone.line.keep_time(wait_s / 2)) == []


def test_a_cloud_that_breaks_the_protocol_is_told_so() -> None:
    phone = Phone().connects()
    fault, *rest = phone.line.expel(PeerError("window", "too many"), phone.now)
    assert fault == send(frames.Fault(None, "window", "too many"))
    assert wait_of(rest) > 0
    assert phone.line.failure == Failure("peer", "the cloud broke the protocol: too many")


# -- how long it waits ------------------------------------------------------------------------------------


def waits(luck: int, tries: int, **changes: Any) -> list[float]:
    """Before each of so many tries, none of which is answered."""
    phone = Phone(luck=luck, patience=Patience(away_s=math.inf), **changes).connects()
    found = []
    phone.loses()
    for _ in range(tries):
        found.append(phone.waits())
        list(phone.line.keep_time(phone.now))
        phone.loses()
    return found


def test_each_try_may_take_twice_as_long_and_any_time_up_to_that_up_to_the_most() -> None:
    columns = list(zip(*[waits(luck, 12) for luck in range(200)], strict=True))
    for number, column in enumerate(columns):
        most = min(RETRY_MAX_S, RETRY_S * 2**number)
        assert 0.0 <= min(column) < 0.1 * most
        assert 0.9 * most < max(column) <= most
        assert 0.4 * most < sum(column) / len(column) < 0.6 * most


def test_edges_that_lose_a_cloud_together_do_not_come_back_together() -> None:
    assert len({waits(luck, 1)[0] for luck in range(50)}) == 50


def test_one_edge_does_not_wait_alike_twice() -> None:
    assert len(set(waits(3, 20))) == 20


def test_with_more_clouds_the_time_grows_when_all_of_them_were_tried() -> None:
    columns = list(zip(*[waits(luck, 6, clouds=3) for luck in range(200)], strict=True))
    for number, column in enumerate(columns):
        most = RETRY_S * 2 ** (number // 3)
        assert 0.9 * most < max(column) <= most


def test_a_connection_over_which_the_text_got_longer_makes_the_next_wait_short() -> None:
    shortest = []
    for luck in range(30):
        phone = Phone(luck=luck).connects()
        phone.loses()
        for _ in range(5):
            phone.dials()
            phone.loses()
        phone.dials()
        phone.connects()
        phone.line.advanced()
        shortest.append(wait_of(phone.loses()))
    assert max(shortest) <= RETRY_S


def test_a_cloud_that_answers_and_falls_silent_again_is_called_more_and_more_rarely() -> None:
    longest = []
    for luck in range(30):
        phone = Phone(luck=luck).connects()
        for _ in range(6):
            phone.loses()
            phone.dials()
            phone.connects()
        longest.append(wait_of(phone.loses()))
    assert max(longest) > 0.9 * RETRY_MAX_S


def test_a_cloud_that_says_when_to_come_again_is_not_called_before() -> None:
    phone = Phone().connects()
    phone.loses()
    phone.dials()
    assert 3.0 <= wait_of(phone.is_refused(retry_ms=3_000)) <= 3.0 + 2 * RETRY_S


# -- whom it calls ----------------------------------------------------------------------------------------


def test_after_a_cut_the_same_cloud_comes_first_for_it_may_still_have_our_texts() -> None:
    phone = Phone(clouds=3).connects()
    for _ in range(3):
        phone.loses()
        assert phone.dials() == 0
        phone.connects()


def test_after_a_try_that_failed_the_next_one_comes_and_so_on_in_turn() -> None:
    phone = Phone(clouds=3).connects()
    phone.loses()
    called = []
    for _ in range(7):
        called.append(phone.dials())
        phone.loses()
    assert called == [0, 1, 2, 0, 1, 2, 0]


def test_a_cloud_that_broke_off_during_the_greeting_has_failed_too() -> None:
    phone = Phone(clouds=2).connects()
    phone.loses()
    assert phone.dials() == 0
    phone.opens()
    phone.loses()
    assert phone.dials() == 1


def test_a_cloud_that_says_goodbye_is_left_for_the_next() -> None:
    phone = Phone(clouds=3).connects()
    phone.loses(moves=True)
    assert phone.dials() == 1
    phone.connects()
    phone.loses()
    assert phone.dials() == 1, "it is the one that has our texts now"


def test_a_cloud_without_room_is_left_for_the_next_which_has_not_said_when_to_come() -> None:
    phone = Phone(clouds=2).connects()
    phone.loses()
    phone.dials()
    assert wait_of(phone.is_refused("busy", retry_ms=10_000)) <= RETRY_S
    assert phone.dials() == 1


@pytest.mark.parametrize("code", ["version", "auth", "unsupported", "a code of a later version"])
def test_a_cloud_that_refuses_for_good_is_not_called_again(code: str) -> None:
    phone = Phone(clouds=3).connects()
    phone.loses()
    phone.dials()
    phone.is_refused(code)
    called = []
    for _ in range(6):
        called.append(phone.dials())
        phone.loses()
    assert called == [1, 2, 1, 2, 1, 2]


def test_nor_one_that_ends_the_connection_for_good() -> None:
    phone = Phone(clouds=2).connects()
    phone.loses(Failure("auth", "the access token has been revoked"))
    assert phone.dials() == 1
    phone.loses()
    assert phone.dials() == 1


def test_nor_one_whose_model_reads_other_tokens() -> None:
    phone = Phone(clouds=2).connects()
    phone.loses()
    assert phone.dials() == 0
    phone.opens()
    other = Vocabulary([b"x", *[bytes([token]) for token in range(1, 100)]])
    assert phone.hears(grant(vocabulary_hashes=other.hashes)) == [send(frames.BlockWanted(0))]
    assert phone.line.phase is EdgePhase.COMPARING
    bye, *_ = phone.line.greet(frames.Block(0, other.block(0)), phone.now)
    assert isinstance(bye, SendFrame)
    assert isinstance(bye.frame, frames.Bye)
    assert phone.dials() == 1


def test_when_no_cloud_is_left_it_is_over() -> None:
    phone = Phone(clouds=2).connects()
    phone.loses()
    phone.dials()
    phone.is_refused("auth")
    assert phone.dials() == 1
    assert end(phone.is_refused("version")) == Failure("version", "the cloud refused the connection: because")
    assert phone.is_over


# -- when it gives up -------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [LOST, Failure("busy", "no room", 10), Failure("peer", "nonsense")])
def test_what_fails_before_the_first_welcome_is_the_end(failure: Failure) -> None:
    phone = Phone(clouds=2)
    phone.opens()
    assert phone.loses(failure) == [CloseLink(failure)]
    assert (phone.is_over, phone.line.failure) == (True, failure)
    assert math.isinf(phone.line.deadline())


@pytest.mark.parametrize("moves", [True, False])
def test_without_patience_the_first_loss_is_the_end(moves: bool) -> None:
    phone = Phone(EdgeRules(clouds=2)).connects()
    assert phone.loses(moves=moves) == [CloseLink(LOST)]
    assert phone.is_over


@pytest.mark.parametrize("away_s", [0.001, 5.0, 60.0])
def test_patience_has_an_end(away_s: float) -> None:
    for luck in range(10):
        phone = Phone(luck=luck, clouds=2, patience=Patience(away_s=away_s)).connects()
        phone.now = 100.0
        answer = phone.loses()
        while not phone.is_over:
            phone.dials()
            assert phone.now <= 100.0 + away_s
            phone.now += 0.1
            answer = phone.loses()
        assert end(answer) == LOST
        assert phone.now <= 100.0 + away_s + 0.1


def test_patience_begins_anew_with_every_connection_that_was_ready() -> None:
    phone = Phone(patience=Patience(away_s=30.0)).connects()
    for _ in range(20):
        phone.loses()
        phone.dials()
        phone.connects()
        phone.now += 29.0
    assert not phone.is_over


def test_a_connection_that_came_about_but_was_never_ready_uses_patience_up() -> None:
    phone = Phone(patience=Patience(away_s=30.0)).connects()
    phone.loses()
    tries = 0
    while not phone.is_over:
        phone.dials()
        phone.opens()
        phone.now += 5.0
        phone.loses()
        tries += 1
    assert tries <= 7


def test_a_cloud_that_breaks_the_protocol_again_and_again_is_the_end() -> None:
    phone = Phone(clouds=2).connects()
    for _ in range(BREACHES_MAX):
        list(phone.line.expel(PeerError("protocol", "nonsense"), phone.now))
        phone.dials()
        phone.connects()
    answer = list(phone.line.expel(PeerError("protocol", "nonsense"), phone.now))
    assert end(answer).code == "peer"
    assert phone.is_over


@pytest.mark.parametrize("code", ["malformed", "oversized", "out_of_phase", "protocol", "window"])
def test_breaches_that_the_cloud_says_are_ours_are_borne_as_often(code: str) -> None:
    """A bad network changes bytes on the way up, too."""
    phone, found = Phone(clouds=2).connects(), Failure(code, "because")
    for _ in range(BREACHES_MAX):
        phone.loses(found)
        assert phone.dials() == 0
        phone.connects()
    assert end(phone.loses(found)) == found


def test_breaches_between_which_the_text_gets_longer_are_borne() -> None:
    phone = Phone().connects()
    for _ in range(3 * BREACHES_MAX):
        list(phone.line.expel(PeerError("protocol", "nonsense"), phone.now))
        phone.dials()
        phone.connects()
        phone.line.advanced()
    assert not phone.is_over


# -- the end ----------------------------------------------------------------------------------------------


def test_the_end_is_told_once() -> None:
    phone = Phone().connects()
    assert list(phone.line.end(LOST)) == [CloseLink(LOST)]
    assert list(phone.line.end(LOST)) == []
    assert phone.loses() == []
    assert (phone.line.phase, phone.line.failure) == (EdgePhase.CLOSED, LOST)


def test_a_line_that_is_away_can_be_ended() -> None:
    phone = Phone().connects()
    phone.loses()
    assert list(phone.line.end(LOST)) == [CloseLink(LOST)]
    assert math.isinf(phone.line.deadline())


def test_a_loss_is_noted_once() -> None:
    phone = Phone().connects()
    phone.loses()
    until = phone.line.deadline()
    assert phone.loses(Failure("silent", "later")) == []
    assert (phone.line.deadline(), phone.line.failure) == (until, LOST)


def test_why_it_is_away_is_known_until_it_is_back() -> None:
    phone = Phone().connects()
    assert phone.stands() == (EdgePhase.READY, None)
    phone.loses()
    assert phone.stands() == (EdgePhase.AWAY, LOST)
    phone.dials()
    assert phone.stands() == (EdgePhase.CONNECTING, LOST)
    phone.opens()
    assert phone.stands() == (EdgePhase.GREETING, LOST)
    phone.hears()
    assert phone.stands() == (EdgePhase.READY, None)


def test_connections_are_counted_and_one_that_is_lost_is_not_the_one_that_there_is() -> None:
    phone = Phone().connects()
    numbers = []
    for _ in range(4):
        phone.loses()
        numbers.append(phone.line.number)
        phone.dials()
        numbers.append(phone.line.number)
    assert numbers == [1, 1, 2, 2, 3, 3, 4, 4]


def test_what_the_new_cloud_grants_takes_the_place_of_what_the_last_one_did() -> None:
    phone = Phone(clouds=2).connects()
    phone.loses(moves=True)
    phone.dials()
    phone.opens()
    smaller = grant(context_tokens=500, window_tokens=4)
    assert phone.hears(smaller) == [AnnounceReady(smaller)]
    assert phone.line.welcome == smaller
