"""The study: what is counted, and what makes it fail."""

import json
import logging
import pickle
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest

from pipesd.errors import UsageError
from pipesd.lab.jobs import working
from pipesd.lab.stormy import BASIS, Count, FaultFindings, FaultStudy, Outcome, play_both, storms
from pipesd.lab.stormy_play import WEIGHTS, TripRecord, Weather
from pipesd.lab.stormy_user import Part
from tests.lab.tiny_storm import believe_a_draft, tiny_storm, trip_of, turn

RIGHT = Part("whole", True, True, 10, 10, 1.0, False, False)
LEFT = replace(RIGHT, end="left", is_wanted_whole=False, tokens=3)
STOPPED = replace(RIGHT, end="stopped", tokens=4, showed=True)
TRIP = trip_of((turn(10), turn(10)))


def record(*parts: Part, **named: object) -> TripRecord:
    made = TripRecord(list(parts), away_s=1.0, lasted_s=4.0)
    for name, value in named.items():
        setattr(made, name, value)
    return made


def found(*storms: TripRecord, calm: TripRecord | None = None) -> FaultFindings:
    outcomes = [Outcome(TRIP, calm or record(RIGHT, RIGHT), storm) for storm in storms]
    return FaultFindings(study=FaultStudy(generations=2 * len(storms), seed=9), outcomes=outcomes)


# -- played -------------------------------------------------------------------------------------------------


def test_all_texts_are_right_and_faults_were_survived():
    findings = tiny_storm()
    assert findings.problems == []
    assert findings.whole == Count(12, 12)
    assert findings.left.right == findings.left.all > 0
    assert findings.stopped.right == findings.stopped.all
    assert set(findings.faults) == set(WEIGHTS)
    assert min(findings.faults.values()) > 0
    assert findings.drawn > findings.faults.total()
    assert findings.overhead is not None
    assert findings.overhead > 1.0


def test_a_trip_is_played_again_as_it_was_and_nothing_is_logged(caplog: pytest.LogCaptureFixture):
    first = tiny_storm().outcomes[0]
    assert play_both(first.trip, Weather(every_s=0.8)) == first
    assert first.storm.line["lost"] > 0
    assert caplog.records == []
    assert logging.getLogger("pipesd.edge").level == logging.NOTSET


def test_a_planted_fault_makes_the_study_fail(monkeypatch: pytest.MonkeyPatch):
    believe_a_draft(monkeypatch)
    with working(1) as pool:
        findings = storms(tiny_storm().study, pool)
    assert findings.problems
    assert findings.whole.right < findings.whole.all


def test_trips_can_be_played_in_other_processes():
    first = tiny_storm().outcomes[0]
    job = partial(play_both, first.trip, Weather(every_s=0.8))
    there = pickle.loads(pickle.dumps(job))
    assert there.args == job.args
    assert pickle.loads(pickle.dumps(first)) == first


# -- counted ------------------------------------------------------------------------------------------------


def test_answers_are_counted_by_how_they_were_to_end_and_did():
    findings = found(
        record(RIGHT, LEFT, STOPPED, RIGHT), record(RIGHT, STOPPED, RIGHT, replace(LEFT, end="whole"))
    )
    assert (findings.whole, findings.left, findings.stopped) == (Count(4, 4), Count(2, 2), Count(2, 2))
    assert findings.shown == Counter(showed=2, corrected=0)
    assert findings.problems == []
    assert str(findings.whole) == "4 of 4"
    assert f"{Count(1_000, 1_000)}" == "1,000 of 1,000"


@pytest.mark.parametrize(
    ("storm", "whole", "said"),
    [
        (record(RIGHT, replace(RIGHT, is_right=False)), Count(1, 2), "1 of 2 texts are not the target's"),
        (record(RIGHT, RIGHT, replace(LEFT, is_right=False)), Count(2, 2), "1 of 3 texts"),
        (record(RIGHT, RIGHT, replace(STOPPED, is_right=False)), Count(2, 2), "1 of 3 texts"),
        (record(RIGHT), Count(1, 2), "1 of 2 answers did not come to their ends"),
        (record(RIGHT, RIGHT, problems=["it broke"]), Count(2, 2), "in the storm: it broke"),
    ],
)
def test_whatever_is_wrong_is_said_with_what_plays_it_again(storm: TripRecord, whole: Count, said: str):
    findings = found(storm)
    assert findings.whole == whole
    [problem] = findings.problems
    assert problem.startswith("trip 0 of seed 9, in the storm: ")
    assert said in problem


def test_in_calm_everything_must_be_right_too():
    [problem] = found(record(RIGHT, RIGHT), calm=record(RIGHT)).problems
    assert problem.startswith("trip 0 of seed 9, in calm: ")


def test_faults_and_connections_are_summed_over_trips():
    storm = record(
        RIGHT, RIGHT, drawn=7, faults=Counter(cut=2), ambushes=Counter(Prompt=1), line=Counter(lost=2)
    )
    findings = found(storm, storm)
    assert (findings.drawn, findings.faults, findings.ambushes) == (14, {"cut": 4}, {"Prompt": 2})
    assert findings.line == {"lost": 4}
    assert findings.away == 0.25


def test_times_are_over_answers_that_were_read_to_their_ends():
    slow = replace(RIGHT, turn_tokens=20, turn_s=6.0)
    findings = found(record(RIGHT, slow, replace(LEFT, turn_s=99.0)))
    paces = findings.paces("wait")
    assert paces is not None
    calm, storm = paces
    assert [calm.tpt_ms, storm.tpt_ms] == pytest.approx([100.0, 7000 / 30])
    assert [storm.p50_ms, storm.p95_ms] == pytest.approx([100.0, 300.0])
    assert findings.overhead == pytest.approx(7 / 3)
    assert findings.paces("draft") is None


def test_without_answers_to_compare_there_is_no_overhead():
    outcome = Outcome(replace(TRIP, offline="stop"), record(RIGHT, RIGHT), record(RIGHT, RIGHT))
    findings = FaultFindings(study=FaultStudy(generations=2), outcomes=[outcome])
    assert findings.overhead is None
    assert findings.as_json()["overhead"] is None
    assert "times the time" not in findings.summary()


def test_everything_is_told_in_a_line_and_by_name():
    findings = tiny_storm()
    assert findings.summary().startswith("12 of 12 texts equal the target's; ")
    assert f"cut {findings.faults['cut']}" in findings.summary()
    assert BASIS in findings.summary()
    told = json.loads(json.dumps(findings.as_json()))
    assert (told["generations"], told["right"], told["seed"], told["every_s"]) == (12, 12, 7, 0.8)
    assert told["faults"] == dict(findings.faults)
    assert told["problems"] == []


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"generations": 0}, "generations: must be between 1"),
        ({"generations": 10**7}, "generations: must be between 1"),
        ({"every_s": 0.0}, "every-s: must be between 0.001"),
        ({"every_s": float("nan")}, "every-s: must be between 0.001"),
    ],
)
def test_what_cannot_be_played_is_said(named: dict[str, float], words: str):
    with pytest.raises(UsageError, match=words):
        FaultStudy(**named)  # type: ignore[arg-type]
