"""The page on faults in Markdown. The same findings give the same bytes."""

from collections.abc import Callable, Sequence

from pipesd.lab.markdown import Lines, bullets, heading, paragraph, table
from pipesd.lab.stormy import BASIS, Count, FaultFindings
from pipesd.lab.stormy_play import AMBUSHES, DOWN_S_MAX, ROLLING, SHORT_S, SOON_WAYS, STALL_S, WEIGHTS
from pipesd.lab.stormy_trip import Trip
from pipesd.values import Offline

_KINDS = {
    "cut": "both ends lose the connection, and what was on its way",
    "stall": f"for {STALL_S[0]:g} to {STALL_S[1]:g} s nothing passes, not even that an end went away",
    "restart": f"the cloud is killed, and is back within {DOWN_S_MAX:g} s; or ({ROLLING:.0%}) another one "
    "takes over at once, and it ends in good order",
    "engine": "the pass that runs, or the next one, is lost, with all that the engine of the target holds",
}

_LINE = {
    "lost": "connections lost",
    "given up as silent": "connections given up as silent, while their other end was still there",
    "asked to move": "connections whose cloud asked the edge to move",
    "tried in vain": "tries to connect that failed",
    "taken up": "sessions taken up where they were",
    "taken up without its text": "sessions whose text the cloud had to be told again",
}

_RULES: dict[Offline, str] = {
    "wait": "answers wait",
    "draft": "drafts are shown, as unverified",
    "stop": "answers stop",
}

_Holds = Callable[[Trip], bool]

_GROUPS: Sequence[tuple[str, _Holds]] = (
    ("offline: wait", lambda trip: trip.offline == "wait"),
    ("offline: draft", lambda trip: trip.offline == "draft"),
    ("offline: stop", lambda trip: trip.offline == "stop"),
    ("temperature 0", lambda trip: trip.sampling.greedy),
    ("temperature above 0", lambda trip: not trip.sampling.greedy),
    ("one conversation", lambda trip: len(trip.talks) == 1),
    ("several conversations at once", lambda trip: len(trip.talks) > 1),
    (f"silence is borne for {SHORT_S[1]:g} s, a stall may last longer", lambda trip: trip.short_patience),
    ("the cloud keeps sessions for a moment only", lambda trip: trip.lease_s < 1.0),
    ("two clouds", lambda trip: trip.clouds > 1),
    ("one place in the model's cache", lambda trip: trip.kv_sequences == 1),
    ("a window of 8 drafts", lambda trip: trip.window_tokens == 8),
    ("the edge drafts nothing (cloud-only)", lambda trip: trip.policy == "cloud-only"),
)


def faults_report(findings: FaultFindings, command: str) -> str:
    """The whole page; ``command`` is what writes it."""
    lines = [
        *_opening(findings, command),
        *_answer(findings),
        *_faults(findings),
        *_time(findings),
        *_line(findings),
        *_groups(findings),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _opening(findings: FaultFindings, command: str) -> Lines:
    study = findings.study
    return [
        *heading("Faults, scripted and modelled", 1),
        *paragraph(
            f"All figures are *{BASIS}*: the actors, sessions and frames are real, a target and a draft",
            f"follow a script, and machines and links have the pace of {study.scenario.name}; see",
            f"[the report](report.md) for what that means. `{command}` writes this page again, to the byte.",
        ),
        *paragraph(
            f"An edge is on a trip, on which a fault comes every {1e3 * study.every_s:g} ms on average. Its",
            "users talk to it: they read answers to their ends, leave others early, take turns back and",
            f"ask anew. There are {len(findings.outcomes):,} trips, each under rules that are drawn from the",
            "seed, and each is played in calm too. All that is confirmed is compared, token by token, with",
            "what the target alone says to the same prompts. The target also refuses to read a prompt in",
            "other chunks than those counted from its start, on which exact numerics depend.",
        ),
    ]


def _answer(findings: FaultFindings) -> Lines:
    shown, overhead = findings.shown, findings.overhead
    stopped = (
        f"{_bold(findings.stopped)} parts of answers that stopped with the connection, as rules wanted it, "
        "are the target's as far as they go; the next prompt then asked for the rest."
    )
    drafts = (
        f"{shown['showed']:,} answers showed drafts that nobody had verified; in {shown['corrected']:,} of "
        "them some were wrong, and were replaced."
    )
    said = [
        f"{_bold(findings.whole)} answers that were read to their ends are the target's, and end as its do.",
        f"{_bold(findings.left)} that were left early are the target's as far as they go.",
        stopped,
        f"{findings.faults.total():,} faults were survived.",
        *([] if overhead is None else [f"Answers took {overhead:.2f} times as long as without faults."]),
        drafts,
    ]
    wrong = [f"**{problem}**" for problem in findings.problems]
    return [*heading("What came of it"), *bullets([*said, *wrong])]


def _bold(count: Count) -> str:
    return str(count) if count.right == count.all else f"**only {count}**"


def _faults(findings: FaultFindings) -> Lines:
    rows = [
        (kind, what, f"{WEIGHTS[kind]:g} %", f"{findings.faults[kind]:,}") for kind, what in _KINDS.items()
    ]
    after, soon_ms = findings.ambushes, SOON_WAYS * findings.study.scenario.delay_ms
    frames = ", ".join(f"{after[each]:,} after a `{each}`" for each in AMBUSHES)
    return [
        *heading("Faults"),
        *table(("fault", "what it does", "share", "survived"), rows, words=2),
        *paragraph(
            f"{findings.drawn:,} came in all; what does not count as survived found no connection, a cloud",
            "that was down, or a target that ran no pass before the next such fault. Among them are some",
            f"that came on purpose, at once or within {soon_ms:g} ms after the edge sent a frame: {frames}.",
            f"In {after['leave']:,} cases the link was made to stall in the moment in which a reader left an",
            "answer; and each trip ends in a stall.",
        ),
    ]


def _time(findings: FaultFindings) -> Lines:
    rows = []
    for offline, what in _RULES.items():
        if (paces := findings.paces(offline)) is not None:
            calm, storm = paces
            rows.append(
                (
                    offline,
                    what,
                    f"{calm.tpt_ms:.1f}",
                    f"{calm.p50_ms:.1f}",
                    f"{calm.p95_ms:.1f}",
                    f"{storm.tpt_ms:.1f}",
                    f"{storm.p50_ms:.1f}",
                    f"{storm.p95_ms:.1f}",
                    f"{storm.tpt_ms / calm.tpt_ms:.2f}",
                )
            )
    head = (
        "offline",
        "while the cloud is away",
        "calm, ms per token",
        "p50",
        "p95",
        "storm, ms per token",
        "p50",
        "p95",
        "times",
    )
    return [
        *heading("Time"),
        *table(head, rows, words=2),
        *paragraph(
            "From a prompt to its answer's end, over the answers that were read to their ends; of those that",
            "stop, to the end of the last part. Percentiles are over answers. For",
            f"{findings.away:.0%} of the time there was no connection that could be used: a cloud was down,",
            "or the edge waited before it tried again.",
        ),
    ]


def _line(findings: FaultFindings) -> Lines:
    rows = [(what, f"{findings.line[each]:,}") for each, what in _LINE.items()]
    return [*heading("Connections and sessions"), *table(("what", "how often"), rows)]


def _groups(findings: FaultFindings) -> Lines:
    rows = []
    for what, holds in _GROUPS:
        outcomes = findings.chosen(holds)
        rows.append((what, f"{len(outcomes):,}", _bold(findings.whole_of(outcomes))))
    return [
        *heading("Under which rules"),
        *table(("trips on which", "trips", "texts that are the target's"), rows),
        *paragraph(
            "A trip is in several of these rows. What is not modelled: a cloud takes no time to load its",
            "model when it is back, and neither does an engine that was lost.",
        ),
    ]
