"""Trips through the production actors, with every fault by itself; and faults of pipesd that are planted."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pipesd.lab.stormy_play import AMBUSHES, WEIGHTS, TripRecord, Weather, play_trip
from pipesd.lab.stormy_trip import Trip
from pipesd.session.cloud import CloudSession
from pipesd.session.edge import EdgeSession
from pipesd.session.ledger import Ledger
from pipesd.session.places import Places
from pipesd.values import Offline, PolicyName, Sampling
from pipesd.wire.frames import Restore, Resume
from tests.lab.tiny_storm import believe_a_draft, retold, trip_of, turn

TALK = retold(6)
LEAVING = (turn(30, 5, leaves_after=0), turn(30, 6, leaves_after=9, leaves_in_stall=True), turn(20, 7))


@pytest.fixture(autouse=True)
def lost_connections_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "pipesd.edge")


def weather(kind: str, **ambushes: float) -> Weather:
    return Weather(every_s=0.6, weights={kind: 1.0}, ambushes=ambushes)


def is_right(record: TripRecord, trip: Trip) -> bool:
    whole = sum(part.end == "whole" and part.is_wanted_whole for part in record.parts)
    return not record.problems and whole == trip.whole and all(part.is_right for part in record.parts)


def test_in_calm_nothing_is_lost():
    trip = trip_of(TALK, LEAVING)
    record = play_trip(trip, None)
    assert is_right(record, trip)
    assert [part.end for part in record.parts].count("left") == 2
    assert (record.drawn, record.faults.total(), record.away_s) == (0, 0, 0.0)
    assert record.line == {"connected": 1}


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("offline", ["wait", "draft"])
def test_every_fault_is_survived(kind: str, offline: Offline):
    trip = trip_of(TALK, LEAVING, offline=offline)
    record = play_trip(trip, weather(kind, Prompt=0.5, Cancel=1.0))
    assert is_right(record, trip)
    assert record.faults[kind] > 3
    assert record.drawn >= record.faults.total()
    assert 0.0 <= record.away_s < record.lasted_s


def test_the_same_trip_gives_the_same_record():
    trip = trip_of(TALK, LEAVING, sampling=Sampling(1.0), clouds=2)
    assert play_trip(trip, Weather(every_s=0.4)) == play_trip(trip, Weather(every_s=0.4))


def test_answers_stop_with_the_connection_where_that_is_wanted():
    trip = trip_of(retold(3), offline="stop")
    record = play_trip(trip, weather("cut"))
    assert is_right(record, trip)
    assert [part.end for part in record.parts].count("stopped") > 1


def test_drafts_are_shown_while_the_cloud_is_down():
    trip = trip_of(TALK, offline="draft")
    record = play_trip(trip, weather("restart"))
    assert is_right(record, trip)
    assert any(part.showed for part in record.parts)
    assert any(part.corrected for part in record.parts)


@pytest.mark.parametrize(
    ("changed", "kind", "seen"),
    [
        ({"short_patience": True}, "stall", "given up as silent"),
        ({"lease_s": 0.01}, "cut", "taken up without its text"),
        ({}, "cut", "taken up"),
        ({}, "restart", "tried in vain"),
        ({}, "restart", "asked to move"),
        ({"clouds": 2}, "restart", "taken up without its text"),
    ],
)
def test_what_becomes_of_connections_is_counted(changed: dict[str, Any], kind: str, seen: str):
    trip = trip_of(TALK, **changed)
    record = play_trip(trip, weather(kind))
    assert is_right(record, trip)
    assert record.line[seen] > 0


def test_faults_come_right_after_the_frames_that_were_named():
    trip = trip_of(TALK, LEAVING)
    only = Weather(every_s=86_000.0, weights={"engine": 1.0}, ambushes={"Prompt": 1.0, "Cancel": 1.0})
    record = play_trip(trip, only)
    assert is_right(record, trip)
    assert record.ambushes == {"Prompt": len(TALK) + len(LEAVING), "Cancel": 2, "leave": 1}
    assert record.faults["engine"] > 1
    assert set(AMBUSHES) > {"Prompt", "Cancel"}


@pytest.mark.parametrize(
    "changed", [{"policy": "cloud-only"}, {"verify": "eager"}, {"kv_sequences": 1}, {"window_tokens": 8}]
)
def test_other_rules_survive_everything_too(changed: dict[str, Any]):
    trip = trip_of(TALK, LEAVING, **changed)
    assert is_right(play_trip(trip, Weather(every_s=0.6)), trip)


# -- what a fault of pipesd would look like -----------------------------------------------------------------


def forget_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloud that goes on with an answer although a newer prompt was lost."""

    def resume(self: CloudSession, frame: Resume) -> object:
        if frame.epoch <= self._epoch or not self._answer_start <= frame.confirmed <= len(self._tokens):
            return None
        return self._go_on(frame.epoch, frame.confirmed)

    monkeypatch.setattr(CloudSession, "resume", resume)


def trust_a_lost_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloud that thinks that an engine still holds what the one before it held."""
    monkeypatch.setattr(Places, "spoil_all", lambda self: None)


def forget_what_was_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloud that reads a text that it is told again as if all of it were a prompt."""
    restore = CloudSession.restore

    def as_prompt(self: CloudSession, frame: Restore) -> None:
        whole = tuple(token for _, tokens in frame.segments for token in tokens)
        restore(self, msgspec.structs.replace(frame, segments=((True, whole),)))

    monkeypatch.setattr(CloudSession, "restore", as_prompt)


def owe_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloud that forgets the verdicts that it owes when a pass is lost."""
    lose = CloudSession.lose

    def forgetful(self: CloudSession) -> None:
        lose(self)
        self._asks.clear()

    monkeypatch.setattr(CloudSession, "lose", forgetful)


@pytest.mark.parametrize(
    ("plant", "kind", "policy"),
    [
        (forget_the_turn, "cut", "pipesd"),
        (believe_a_draft, "cut", "pipesd"),
        (trust_a_lost_engine, "engine", "pipesd"),
        (forget_what_was_prompt, "restart", "pipesd"),
        (owe_nothing_more, "engine", "cloud-only"),
    ],
)
def test_a_fault_of_pipesd_is_found(
    plant: Callable[[pytest.MonkeyPatch], None],
    kind: str,
    policy: PolicyName,
    monkeypatch: pytest.MonkeyPatch,
):
    trip = trip_of(TALK, policy=policy)
    assert is_right(play_trip(trip, weather(kind, Prompt=1.0)), trip)
    plant(monkeypatch)
    assert not is_right(play_trip(trip, weather(kind, Prompt=1.0)), trip)


def test_drafts_of_an_outage_that_are_asked_about_past_the_window_are_a_problem_though_the_text_is_right(
    monkeypatch: pytest.MonkeyPatch,
):
    trip = trip_of(TALK, LEAVING, offline="draft", window_tokens=8)
    assert play_trip(trip, Weather(every_s=0.6)).problems == []
    monkeypatch.setattr(EdgeSession, "_exceeds_window", lambda _: False)
    problems = play_trip(trip, Weather(every_s=0.6)).problems
    assert "the cloud thought its peer broke the protocol: more than 8 unverified drafts" in problems


def test_what_breaks_a_side_down_is_a_problem_of_its_trip(monkeypatch: pytest.MonkeyPatch):
    def fails(self: Ledger) -> None:
        raise AssertionError("planted")

    monkeypatch.setattr(Ledger, "unsend", fails)
    [problem] = play_trip(trip_of(TALK), weather("cut")).problems
    assert problem.startswith("a fault of pipesd")
