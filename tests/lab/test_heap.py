"""The heap against the production actors: the same events at the same nanoseconds, and the same record."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.engines.traces import Trace
from pipesd.lab.answers import UPTIME_S, Record
from pipesd.lab.heap import Happening, HeapPlay
from pipesd.lab.run import Experiment, chosen
from pipesd.lab.scenarios import SCENARIOS, Phase, Scenario
from pipesd.lab.stages import Play, play_virtually
from pipesd.lab.wires import WIRES
from pipesd.observe import Recorder, Step
from pipesd.planner.policies import POLICIES
from pipesd.planner.trigger import Thresholds
from pipesd.session import commands, events
from pipesd.tuning import Proposal
from pipesd.values import TrialReport
from pipesd.wire import frames
from tests.lab.recordings import DISTANT, IDEAL, MIXED, SHORT, SMALL, shipped

COMPARED = ("pipesd", "hsl", "edgellm", "cloud-only", "pipesd-never-ahead", "pipesd-no-plan")
PLAYED = [name for name, policy in POLICIES.items() if policy.writers != "edge"]

LOSSY = replace(
    SCENARIOS["s1"], name="lossy", jitter_ms=30.0, loss=0.05, outages_s=((0.9, 1.4), (60.5, 61.5))
)
FICKLE = replace(
    LOSSY,
    name="fickle",
    phases=(
        Phase(duration_s=0.37, draft_ms=20.0, alpha_ms=4.0),
        Phase(duration_s=0.5, pass_ms=80.0, pass_token_ms=3.0, delay_ms=3.0, up_bits_per_s=1e5),
        Phase(duration_s=0.2, down_bits_per_s=2e4),
    ),
)
WHERE = {name: SCENARIOS[name] for name in ("s1", "s3", "far", "fast", "s4", "wifi-4g")} | {
    "lossy": LOSSY,
    "fickle": FICKLE,
    "quick to throttle": replace(
        SCENARIOS["throttled"], phases=(Phase(duration_s=0.7), Phase(duration_s=0.9, draft_ms=86.0))
    ),
}

Moment = tuple[int, int, int]
"""(nanoseconds, a position, a number of tokens or a token)."""


def of_edge(steps: Iterable[Step]) -> Iterator[Happening]:
    """What an edge's recording says; a draft that had to be aborted and came all the same is none."""
    ends: dict[int, int] = {}
    late: set[int] = set()
    for step in steps:
        match step.event:
            case events.TokenDrafted(number, token) if number not in late:
                yield "draft", step.now, ends[number], token
            case events.StepAborted():
                yield "abort", step.now, 0, 0
            case events.FrameReceived(frames.Verdict(base=base, accepted=accepted)):
                yield "verdict", step.now, base, accepted
            case _:
                pass
        for command in step.commands:
            match command:
                case commands.DraftNext(number, keep=keep, feed=feed):
                    ends[number] = keep + sum(len(stretch.tokens) for stretch in feed) + 1
                case commands.AbortStep(number):
                    late.add(number)
                case commands.SendFrame(frames.Draft(base=base, tokens=tokens)):
                    yield "send", step.now, base, len(tokens)
                case _:
                    pass


def of_cloud(steps: Iterable[Step]) -> Iterator[Happening]:
    """The same for a cloud, whose clock has run for a while."""
    for step in steps:
        for command in step.commands:
            match command:
                case commands.RunPass(slices):
                    yield "pass", step.now - UPTIME_S, slices[-1].base, command.tokens
                case commands.SendToPeer(_, frames.Verdict(base=base, accepted=accepted)):
                    yield "judge", step.now - UPTIME_S, base, accepted
                case _:
                    pass


def by_kind(log: Iterable[Happening]) -> dict[str, list[Moment]]:
    kinds: dict[str, list[Moment]] = {}
    for kind, at, position, tokens in log:
        kinds.setdefault(kind, []).append((round(at * 1e9), position, tokens))
    return kinds


def acted(play: Play) -> tuple[Record, dict[str, list[Moment]]]:
    """What the actors did."""
    at_edge, at_cloud = Recorder(), Recorder()
    record = play_virtually(replace(play, observers=((at_edge,), (at_cloud,))))
    return record, by_kind([*of_edge(at_edge.steps), *of_cloud(at_cloud.steps)])


def simulated(play: Play) -> tuple[Record, dict[str, list[Moment]]]:
    """What the heap did."""
    log: list[Happening] = []
    return HeapPlay(play, log).play(), by_kind(log)


def play_of(
    trace: Trace,
    scenario: Scenario,
    policy: str = "pipesd",
    changed: Mapping[str, object] | None = None,
    wire: str = "ids",
    seed: int = 0,
) -> Play:
    return Experiment(
        trace=trace, scenario=scenario, policy=policy, changed=changed or {}, wire=wire, seed=seed
    ).play


def assert_equal(play: Play) -> None:
    """The same happenings in the same order, kind by kind, and the same record to the last digit."""
    record, happened = acted(play)
    same_record, same_happened = simulated(play)
    for kind in happened.keys() | same_happened.keys():
        assert_same_moments(kind, same_happened.get(kind, []), happened.get(kind, []))
    assert same_record == record


def assert_same_moments(kind: str, found: Sequence[Moment], expected: Sequence[Moment]) -> None:
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
        assert ours == theirs, f"{kind} {number}"
    assert len(found) == len(expected), kind


# -- against hand calculation -----------------------------------------------------------------------------


def test_a_play_is_as_computed_by_hand():
    """In milliseconds behind the greeting, which takes 12; positions count the prompt of two tokens."""
    play = play_of(chosen(SMALL, ["wrong"]), DISTANT, changed={"n": 1, "ahead": "never"})
    _, happened = simulated(play)
    assert {
        kind: [(ns / 1e6 - 12, *rest) for ns, *rest in moments] for kind, moments in happened.items()
    } == {
        "pass": [(6.0, 0, 2), (50.0, 2, 2), (94.0, 3, 2), (138.0, 5, 2)],
        "judge": [(28.0, 2, 0), (72.0, 3, 0), (116.0, 4, 1), (160.0, 6, 1)],
        "verdict": [(34.0, 2, 0), (78.0, 3, 0), (122.0, 4, 1), (166.0, 6, 1)],
        "draft": [(44.0, 4, 1), (88.0, 5, 22), (132.0, 7, 24)],
        "send": [(44.0, 3, 1), (88.0, 4, 1), (132.0, 6, 1)],
    }


def test_steps_are_aborted_when_a_verdict_settles_them():
    """A verdict 35 ms after each prompt finds a step of 30 ms at work that guesses what it says."""
    play = play_of(SMALL, replace(DISTANT, draft_ms=45.0), changed={"n": 1, "ahead": "always"})
    _, happened = simulated(play)
    begun_ms = happened["abort"][0][0] / 1e6 - 12
    assert begun_ms == 6.0 + 23.0 + 6.0
    assert happened["draft"][0] == (round((12 + 35 + 45) * 1e6), 5, 11)


# -- event for event --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("policy", COMPARED)
def test_the_heap_does_what_the_actors_do(policy: str, where: str, wire: str):
    assert_equal(play_of(shipped(*SHORT), WHERE[where], policy, wire=wire, seed=5))


@pytest.mark.parametrize("policy", PLAYED)
def test_it_does_so_for_every_policy_that_has_a_cloud(policy: str):
    assert_equal(play_of(MIXED, DISTANT, policy))
    assert_equal(play_of(MIXED, SCENARIOS["s4"], policy, seed=9))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("verify", ["on_request", "piggyback", "eager"])
def test_it_does_so_however_the_cloud_verifies(verify: str, seed: int):
    assert_equal(play_of(MIXED, LOSSY, changed={"verify": verify}, seed=seed))


times_ms = st.just(0.0) | st.floats(0.01, 90.0) | st.integers(1, 30).map(float)
bits_per_s = st.just(math.inf) | st.floats(1e4, 1e8)
scenarios = st.builds(
    Scenario,
    name=st.just("random"),
    draft_ms=times_ms,
    up_bits_per_s=bits_per_s,
    down_bits_per_s=bits_per_s,
    delay_ms=times_ms,
    alpha_ms=times_ms,
    pass_ms=times_ms,
    pass_token_ms=times_ms.map(lambda ms: ms / 10),
    jitter_ms=st.just(0.0) | times_ms,
    loss=st.just(0.0) | st.floats(0.0, 1.0),
    outages_s=st.sampled_from([(), ((0.1, 0.3), (0.5, 0.6), (60.4, 61.0))]),
    changes_every_s=st.just(0.0),
    phases=st.just(())
    | st.lists(
        st.builds(
            Phase,
            duration_s=st.floats(0.01, 2.0),
            draft_ms=st.none() | st.floats(1.0, 90.0),
            up_bits_per_s=st.none() | bits_per_s,
            delay_ms=st.none() | times_ms,
            alpha_ms=st.none() | st.floats(0.1, 20.0),
            pass_ms=st.none() | st.floats(1.0, 90.0),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
)
settings_of_policy = st.fixed_dictionaries(
    {},
    optional={
        "r1": st.floats(0.0, 1.0),
        "r2": st.floats(0.0, 1.0),
        "n": st.integers(1, 12),
        "ahead": st.sampled_from(["never", "always", "expected"]),
        "window_tokens": st.integers(12, 30),
        "verify": st.sampled_from(["on_request", "piggyback", "eager"]),
    },
)


def takes_time(scenario: Scenario) -> bool:
    """Whether something does that both sides wait for: otherwise all is one moment, whose order is any."""
    return scenario.draft_ms > 0 or scenario.pass_ms > 0 or scenario.alpha_ms > 0


@given(
    scenario=scenarios.filter(takes_time),
    policy=st.sampled_from(PLAYED),
    changed=settings_of_policy,
    wire=st.sampled_from(WIRES),
    seed=st.integers(0, 99),
)
@settings(derandomize=True, deadline=None, max_examples=50)
def test_it_does_so_wherever_whatever_the_thresholds(
    scenario: Scenario, policy: str, changed: dict[str, object], wire: str, seed: int
):
    drafts = policy != "cloud-only"  # which no setting changes
    assert_equal(play_of(MIXED, scenario, policy, changed if drafts else {}, wire, seed))


# -- what coincides ---------------------------------------------------------------------------------------

IN_STEP = replace(DISTANT, draft_ms=34.0)
SLOWEST = replace(IDEAL, delay_ms=60_000.0, up_bits_per_s=1_000.0, down_bits_per_s=1_000.0)
CUT_OFF = replace(SCENARIOS["s1"], name="cut off", outages_s=((0.38, 130.0),))
ALWAYS = {"n": 1, "ahead": "always"}

COINCIDENCES = {
    "a verdict comes as a step ends": play_of(SMALL, IN_STEP, changed=ALWAYS),
    "the same without a link": play_of(SMALL, replace(IDEAL, draft_ms=22.0), changed=ALWAYS),
    "steps take no time": play_of(MIXED, replace(DISTANT, draft_ms=0.0), "pipesd-fixed-trigger"),
    "steps and link take no time": play_of(MIXED, replace(IDEAL, draft_ms=0.0), "pipesd-immediate"),
    "the link is free as a step ends": play_of(
        MIXED, replace(DISTANT, alpha_ms=25.0, pass_ms=40.0), "pipesd-work-conserving"
    ),
    "the link is free as a pass ends": play_of(
        MIXED, replace(DISTANT, alpha_ms=21.0, pass_token_ms=1.0), "cloud-only"
    ),
    "drafts arrive as a pass ends": play_of(shipped("chat/11"), SCENARIOS["fast"]),
    "many arrive at once": play_of(
        MIXED, replace(IDEAL, draft_ms=5.0, loss=0.7, loss_delay_ms=100.0), "pipesd-token-only", seed=1
    ),
    "a prompt's last word leaves after the next prompt": play_of(SMALL, CUT_OFF),
    "the same on the slowest link": play_of(SMALL, SLOWEST, "hsl"),
}


@pytest.mark.parametrize("name", COINCIDENCES)
def test_what_coincides_comes_in_the_order_of_the_actors(name: str):
    assert_equal(COINCIDENCES[name])


# -- thresholds on the way --------------------------------------------------------------------------------


class Scripted:
    """Proposes these, one after another, and then no others."""

    def __init__(self, *proposed: Thresholds | None) -> None:
        self._proposed = proposed
        self.reports: list[TrialReport] = []

    def advise(self, report: TrialReport) -> Proposal:
        self.reports.append(report)
        number = len(self.reports)
        return Proposal(number, self._proposed[min(number, len(self._proposed)) - 1])


def asks(log: Iterable[Happening]) -> int:
    return sum(kind == "judge" for kind, *_ in log)


def test_a_desk_is_told_of_each_trial_and_its_thresholds_hold_from_then_on():
    trace = shipped("HumanEval/0")
    every, none = Thresholds(r1=1.0), Thresholds(r1=0.0, r2=0.0)
    few: list[Happening] = []
    many: list[Happening] = []
    desk = Scripted(every)
    HeapPlay(play_of(trace, SCENARIOS["s1"]), many, desk).play()
    HeapPlay(play_of(trace, SCENARIOS["s1"]), few, Scripted(none)).play()
    assert asks(many) > 1.5 * asks(few)
    assert [report.trial for report in desk.reports] == list(range(len(desk.reports)))
    assert all(sum(tokens for tokens, *_ in report.verdicts) >= 20 for report in desk.reports)


def test_a_timetable_holds_from_the_first_draft_on_and_is_followed_at_once():
    trace = shipped("HumanEval/0")
    always, never = Thresholds(r1=1.0), Thresholds(r1=0.0, r2=0.0)
    fixed = play_of(trace, SCENARIOS["s1"], changed={"r1": 1.0})
    following = play_of(trace, SCENARIOS["s1"])
    expected = HeapPlay(fixed).play()
    log: list[Happening] = []
    assert HeapPlay(following, log, timetable=lambda _: always).play() == expected
    switched: list[Happening] = []
    HeapPlay(following, switched, timetable=lambda now: always if now < 1.0 else never).play()
    early = [happening for happening in log if happening[1] < 1.0]
    assert [happening for happening in switched if happening[1] < 1.0] == early
    assert asks(switched) < asks(log)


def test_every_pass_is_listed():
    play = HeapPlay(play_of(shipped(*SHORT), SCENARIOS["s1"]))
    record = play.play()
    assert len(play.passes) == record.passes
    assert sum(took_s for _, took_s in play.passes) == pytest.approx(record.cloud_s)
    assert play.passes == sorted(play.passes)
