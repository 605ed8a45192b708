"""The edge's part in tuning."""

from dataclasses import replace

import pytest

from pipesd.errors import PeerError, UsageError
from pipesd.planner.policies import POLICIES
from pipesd.planner.trigger import Thresholds
from pipesd.session.commands import SendFrame, TuneThresholds
from pipesd.session.rules import EdgeRules
from pipesd.session.tuned import Learned, Tuned
from pipesd.values import TunerPlace
from pipesd.wire import frames

LIMITS = Thresholds(0.8, 0.6, 8, 2)
PROPOSED = frames.Thresholds(3, 0.8, 0.6, 8, 2)


def costs() -> tuple[float, ...]:
    return (43.0, 1.0, 30.0, 0.2, 0.0, 25.0, 1.0)


def tuned(place: TunerPlace, *, tunes: bool = True) -> Tuned:
    made = Tuned(EdgeRules(tuner=place, objective="cost"))
    made.meet(tunes=tunes)
    return made


def complete(one: Tuned) -> Tuned:
    assert one.trials is not None
    one.trials.verdict(20, 1.0, 0.1)
    return one


@pytest.mark.parametrize(
    ("place", "tunes", "is_here"),
    [
        ("edge", True, True),
        ("edge", False, True),
        ("auto", True, False),
        ("auto", False, True),
        ("cloud", True, False),
    ],
)
def test_where_it_is_decides_who_is_told(place: TunerPlace, tunes: bool, is_here: bool) -> None:
    one = complete(tuned(place, tunes=tunes))
    told = one.report(costs)
    assert one.is_here == is_here
    if is_here:
        assert isinstance(told, TuneThresholds)
        assert told.report.conditions_ms == costs()
    else:
        assert isinstance(told, SendFrame)
        assert isinstance(told.frame, frames.Telemetry)
        assert (told.frame.objective, told.frame.report.trial) == ("cost", 0)


@pytest.mark.parametrize(
    ("source", "told_mj"), [("", 0.0), ("modelled: 300 W while it works", 0.0), ("zeus: GPU 0", 2_500.0)]
)
def test_energy_counts_only_where_it_is_measured(source: str, told_mj: float) -> None:
    one = Tuned(EdgeRules(tuner="edge"))
    one.meet(tunes=False, energy=source)
    assert one.trials is not None
    one.trials.verdict(20, 1.0, 0.1, energy_j=2.5)
    told = one.report(costs)
    assert isinstance(told, TuneThresholds)
    assert told.report.verdicts[0][3] == told_mj


def test_a_cloud_that_does_not_tune_cannot_be_asked_to() -> None:
    with pytest.raises(UsageError, match="this cloud does not tune; choose edge or off"):
        tuned("cloud", tunes=False)


def test_where_nobody_tunes_nothing_happens() -> None:
    one = tuned("off")
    assert (one.trials, one.trial, one.learned, one.report(costs)) == (None, None, None, None)
    assert not one.begin(1, LIMITS)
    one.remember(Learned(LIMITS, (), ()))
    assert one.thresholds is None


def test_a_trial_begins_and_says_whether_anything_changed() -> None:
    one = tuned("edge")
    assert one.begin(1, LIMITS)
    assert not one.begin(2, LIMITS)
    assert one.begin(3, None)
    assert (one.trial, one.thresholds) == (3, None)


def test_what_the_cloud_proposes_counts_only_where_it_tunes() -> None:
    there, here = tuned("auto"), tuned("edge")
    assert there.hear(PROPOSED)
    assert (there.trial, there.thresholds) == (3, LIMITS)
    assert not here.hear(PROPOSED)
    assert (here.trial, here.thresholds) == (0, None)


def test_a_trial_that_was_reported_to_a_cloud_goes_on_after_a_reconnect() -> None:
    """The report may have been lost, and so may its answer."""
    there = complete(tuned("auto"))
    assert isinstance(there.report(costs), SendFrame)
    assert complete(there).report(costs) is None
    there.reconnected()
    told = complete(there).report(costs)
    assert isinstance(told, SendFrame)
    assert there.trial == 0


def test_one_that_was_reported_here_is_answered_here() -> None:
    here = complete(tuned("edge"))
    assert isinstance(here.report(costs), TuneThresholds)
    here.reconnected()
    assert complete(here).report(costs) is None


def test_a_report_is_not_waited_for_that_another_cloud_was_told() -> None:
    """The next one does not tune."""
    one = complete(tuned("auto"))
    assert isinstance(one.report(costs), SendFrame)
    one.meet(tunes=False)
    one.reconnected()
    assert isinstance(complete(one).report(costs), TuneThresholds)


def test_where_nobody_tunes_a_reconnect_changes_nothing() -> None:
    tuned("off").reconnected()


def test_thresholds_that_cannot_be_are_the_cloud_s_fault() -> None:
    with pytest.raises(PeerError, match="thresholds that cannot be: lower_tokens"):
        tuned("auto").hear(frames.Thresholds(1, 0.5, 0.5, 2, 9))


def test_what_is_remembered_is_in_force_and_in_the_first_report() -> None:
    one = tuned("edge")
    drafts, astray = ((0.9, 0.95, True), (0.4, 0.5, False)), (0.3,)
    one.remember(Learned(LIMITS, drafts, astray))
    assert one.thresholds == LIMITS
    told = complete(one).report(costs)
    assert isinstance(told, TuneThresholds)
    assert (told.report.drafts, told.report.astray) == (drafts, astray)
    assert one.learned == Learned(LIMITS, drafts, astray)


def test_what_is_learned_is_the_latest() -> None:
    one = tuned("edge")
    assert one.trials is not None
    for number in range(500):
        one.trials.drafts_judged([(number / 500, 0.5, True)], [number / 500])
    learned = one.learned
    assert learned is not None
    assert (len(learned.drafts), len(learned.astray)) == (400, 64)
    assert learned.drafts[-1][0] == learned.astray[-1] == 499 / 500


def test_a_report_names_the_thresholds_that_are_not_tuned() -> None:
    policy = replace(POLICIES["pipesd"], thresholds=Thresholds(upper_tokens=5, lower_tokens=1))
    told = complete(Tuned(EdgeRules(policy=policy, tuner="edge"))).report(costs)
    assert isinstance(told, TuneThresholds)
    assert (told.report.upper_tokens, told.report.lower_tokens) == (5, 1)
