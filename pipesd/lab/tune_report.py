"""The page on tuners in Markdown, and its picture. The same figures give the same bytes."""

from collections.abc import Sequence
from pathlib import Path

from pipesd.lab.drift import BANDS, DriftComparison, DriftOutcome
from pipesd.lab.markdown import Lines, heading, image, paragraph, ratio, table
from pipesd.lab.plots import Curve, Panel, draw_panels
from pipesd.lab.run import BASIS
from pipesd.lab.tune import BY_PLACE, SETTLED, CaseOutcome, Comparison, Outcome
from pipesd.lab.tuned import FIXED
from pipesd.planner.trigger import Thresholds
from pipesd.session.trials import TRIAL_TOKENS
from pipesd.tuner.choose import TunerKind
from pipesd.values import COST_WEIGHTS

PICTURE = "tuning.png"

_EARLY = 4
"""Trials after which it is looked at first."""

_REGRET_MAX = 0.25
"""What is worse is not of interest in a picture."""

_OURS, _START = "model-guided", "closed-form"


def tune_report(comparison: Comparison, drift: DriftComparison | None, command: str) -> str:
    """The whole page; ``command`` is what writes it."""
    lines = [
        *_opening(comparison, command),
        *_overall(comparison),
        *image(PICTURE, "Regret by trial of all tuners"),
        *_by_case(comparison),
        *(_drift(drift) if drift is not None else ()),
    ]
    return "\n".join(lines).rstrip() + "\n"


def draw_regrets(comparison: Comparison, path: Path) -> None:
    """The picture: regret by trial, for each recording. Raises ``UsageError`` as ``plots.picture`` does."""
    panels = [
        Panel(
            title=f"{trace}, mean over {_count(len(comparison.study.scenarios), 'scenario')}",
            x=f"trials of {TRIAL_TOKENS} tokens",
            y="J above that of the best point, %",
            curves=[
                _curve(kind, [each.tuners[kind] for each in comparison.cases if each.case.trace == trace])
                for kind in comparison.study.tuners
            ],
            y_max=100 * _REGRET_MAX,
        )
        for trace in comparison.study.traces
    ]
    draw_panels(panels, path, columns=len(panels), note=BASIS)


def _curve(kind: TunerKind, outcomes: Sequence[Outcome]) -> Curve:
    by_trial = zip(*(outcome.regret_by_trial for outcome in outcomes), strict=True)
    points = [(trial, 100 * sum(each) / len(each)) for trial, each in enumerate(by_trial, start=1)]
    return Curve(kind, points, "--" if kind in SETTLED else "-")


# -- parts of the page --------------------------------------------------------------------------------------


def _opening(comparison: Comparison, command: str) -> Lines:
    study = comparison.study
    weight = COST_WEIGHTS[study.objective]
    return [
        *heading("Tuners, replayed and modelled", 1),
        *paragraph(
            f"All figures are *{BASIS}*; see [the report](report.md) for what that means. `{command}` writes",
            "this page again, to the byte.",
        ),
        *paragraph(
            f"J is the time per token plus {weight:g} times the cloud's work per token (objective",
            f"{study.objective}). Regret is by how much J of a whole recording is higher with what a tuner",
            f"would have gone on with than with the best point of a grid of {study.per_axis} by",
            f"{study.per_axis} thresholds, known in hindsight; below 0 it is lower. What exploring costs is",
            f"J of the first {study.trials * TRIAL_TOKENS} tokens, in which a tuner makes {study.trials}",
            "trials, over J of the same tokens with that point. The first trial is the closed form's, with",
            "which an edge begins. Means over",
            f"{_count(study.seeds, 'order')} of the prompts; wire {study.wire}.",
        ),
    ]


def _overall(comparison: Comparison) -> Lines:
    study = comparison.study
    early = min(_EARLY, study.trials)
    rows = [
        (
            kind,
            _percent(outcome.regret_by_trial[early - 1]),
            _percent(comparison.worst(kind, early)),
            _percent(outcome.final_regret),
            _percent(comparison.worst(kind, study.trials)),
            f"{outcome.explore_cost:.3f}",
        )
        for kind, outcome in comparison.tuners.items()
    ]
    head = (
        "tuner",
        f"regret after {early}",
        "in its worst case",
        f"regret after {study.trials}",
        "in its worst case",
        "exploring costs",
    )
    between = [kind for kind in study.tuners if kind in BY_PLACE]
    notes = [f"Fixed is R1 = {FIXED.r1:g}, R2 = {FIXED.r2:g}."]
    if between:
        notes.append(
            f"What {' and '.join(between)} would have gone on with before the last trial lies between"
            " points of the grid, and so does its J here; what is there at the end was played."
        )
    return [
        *heading("All cases"),
        *paragraph(f"Means over {_count(len(comparison.cases), 'case')}, scenarios times recordings."),
        *table(head, rows),
        *paragraph(*notes),
    ]


def _by_case(comparison: Comparison) -> Lines:
    kinds = comparison.study.tuners
    rows = [
        (
            each.case.scenario.name,
            each.case.trace,
            f"{each.table.least_ms:.1f}",
            _thresholds(each.table.best),
            *(_cell(each, kind) for kind in kinds),
        )
        for each in comparison.cases
    ]
    return [
        *heading("Case by case"),
        *paragraph(
            f"Regret after {_count(comparison.study.trials, 'trial')}; bold where {_OURS} does worse than",
            "the closed form that it starts with.",
        ),
        *table(("scenario", "recording", "best J, ms", "R1 / R2", *kinds), rows, words=2),
    ]


def _cell(outcome: CaseOutcome, kind: TunerKind) -> str:
    said = _percent(outcome.tuners[kind].final_regret)
    start = outcome.tuners.get(_START)
    is_worse = kind == _OURS and start is not None and _is_more(outcome.tuners[kind], start)
    return f"**{said}**" if is_worse else said


def _is_more(one: Outcome, other: Outcome) -> bool:
    """Whether its regret is more, as far as it shows."""
    return round(100 * one.final_regret, 1) > round(100 * other.final_regret, 1)


def _drift(drift: DriftComparison) -> Lines:
    study = drift.study
    head = (
        "scenario",
        "recording",
        "closed form",
        "best fixed",
        "tuned",
        "oracle",
        "tuned / oracle",
        "tuned / best fixed",
        "in total",
    )
    return [
        *heading("Conditions that change"),
        *paragraph(
            f"J in ms over {study.tokens:,} tokens, means over {_count(study.seeds, 'order')} of the",
            f"prompts. Best fixed is the best point of a grid of {study.per_axis} by {study.per_axis} for",
            "all of it, in hindsight. The oracle switches, the moment the condition changes, to the point",
            "that would be best if it held for good. Tuned is the model-guided tuner, from its first trial",
            "on. Above 1 is bold.",
        ),
        *paragraph(
            "Conditions go by the clock: who is quicker in a bad one writes more of the text in it, and may",
            "take more in total for all its haste. So conditions count here as much as they do for the",
            "closed form. The last column is tuned / best fixed of the text as it came.",
        ),
        *table(head, map(_drift_row, drift.outcomes), words=2),
        *paragraph(
            f"Conditions of s4 are {BANDS} equally wide bands of its uplink's rate; of the others, their",
            "phases. What is best in each, R1 / R2:",
        ),
        *table(
            ("scenario", "recording", "best fixed", "by condition"), map(_best_row, drift.outcomes), words=4
        ),
    ]


def _drift_row(outcome: DriftOutcome) -> Sequence[str]:
    costs = (outcome.costs_ms[name] for name in (_START, "best fixed", _OURS, "oracle"))
    return (
        f"{outcome.case.scenario.name}, {outcome.case.wire}",
        outcome.case.trace,
        *(f"{cost_ms:.1f}" for cost_ms in costs),
        ratio(outcome.ratio(_OURS, "oracle")),
        ratio(outcome.ratio(_OURS, "best fixed")),
        ratio(outcome.totals_ms[_OURS] / outcome.totals_ms["best fixed"]),
    )


def _best_row(outcome: DriftOutcome) -> Sequence[str]:
    return (
        outcome.case.scenario.name,
        outcome.case.trace,
        _thresholds(outcome.best_fixed),
        "; ".join(map(_thresholds, outcome.best_of_conditions)),
    )


def _thresholds(thresholds: Thresholds) -> str:
    return f"{thresholds.r1:.3f} / {thresholds.r2:.3f}"


def _percent(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f} %"  # not minus zero


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
