"""What the tuner is told, and when."""

import msgspec
import pytest

from pipesd.session.trials import TRIAL_TOKENS, Trials
from pipesd.tuning import RECORD_DRAFTS
from pipesd.values import TrialReport

HERE = (10.0, 1.0, 40.0)


def confirm(trials: Trials, *tokens: int) -> None:
    for count in tokens:
        trials.verdict(count, 0.05, 0.02)


def test_a_report_is_due_once_a_trial_has_confirmed_enough() -> None:
    trials = Trials()
    due = []
    for tokens in (TRIAL_TOKENS - 1, 4):
        confirm(trials, tokens)
        due.append(trials.is_complete)
    assert due == [False, True]
    assert trials.report(HERE) == TrialReport(
        trial=0,
        verdicts=((TRIAL_TOKENS - 1, 50.0, 20.0, 0.0), (4, 50.0, 20.0, 0.0)),
        drafts=(),
        astray=(),
        conditions_ms=HERE,
    )


@pytest.mark.parametrize(("counts", "told_mj"), [(False, 0.0), (True, 1_500.0)])
def test_energy_is_told_if_it_counts(counts: bool, told_mj: float) -> None:
    trials = Trials()
    trials.counts_energy = counts
    trials.verdict(TRIAL_TOKENS, 0.05, 0.02, energy_j=1.5)
    assert trials.report(()).verdicts == ((TRIAL_TOKENS, 50.0, 20.0, told_mj),)


def test_no_report_follows_before_the_answer_to_the_last() -> None:
    trials = Trials()
    confirm(trials, TRIAL_TOKENS)
    trials.report(HERE)
    confirm(trials, *[TRIAL_TOKENS] * 3)
    assert not trials.is_complete
    trials.begin(7)
    assert not trials.is_complete, "what was confirmed before the answer is no part of the next trial"
    confirm(trials, TRIAL_TOKENS)
    report = trials.report(HERE)
    assert (report.trial, len(report.verdicts)) == (7, 1)


def test_an_answer_in_the_middle_of_a_trial_begins_another() -> None:
    trials = Trials()
    confirm(trials, TRIAL_TOKENS - 1)
    trials.begin(1)
    confirm(trials, TRIAL_TOKENS - 1)
    assert not trials.is_complete
    confirm(trials, 1)
    assert trials.report(()).verdicts == ((TRIAL_TOKENS - 1, 50.0, 20.0, 0.0), (1, 50.0, 20.0, 0.0))


def test_drafts_are_told_once_whatever_thresholds_they_were_made_under() -> None:
    trials = Trials()
    trials.drafts_judged([(0.9, 0.8, True)], [])
    confirm(trials, TRIAL_TOKENS)
    assert trials.report(()).drafts == ((0.9, 0.8, True),)
    trials.drafts_judged([(0.7, 0.6, True), (0.5, 0.4, False)], [0.3, 0.2])
    trials.begin(1)
    confirm(trials, TRIAL_TOKENS)
    report = trials.report(())
    assert (report.drafts, report.astray) == (((0.7, 0.6, True), (0.5, 0.4, False)), (0.3, 0.2))


@pytest.mark.parametrize("astray", [0, 1, 400])
def test_what_is_kept_while_no_report_goes_out_always_fits_one(astray: int) -> None:
    """Each verdict contradicts a draft, and many others go astray behind it; the latest are kept."""
    trials = Trials()
    confirm(trials, TRIAL_TOKENS)
    trials.report(())
    for number in range(5_000):
        trials.drafts_judged([(0.5, number / 5_000, False)], [number / 5_000] * astray)
        confirm(trials, 1)
    trials.begin(1)
    confirm(trials, TRIAL_TOKENS)
    report = trials.report(())
    assert msgspec.convert(msgspec.to_builtins(report), TrialReport) == report
    assert report.drafts[-1] == (0.5, 4_999 / 5_000, False)
    assert len(report.drafts) >= RECORD_DRAFTS
    assert report.astray[-1:] == (4_999 / 5_000,) * min(1, astray)
    assert len(report.verdicts) == 1
