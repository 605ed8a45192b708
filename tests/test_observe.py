import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from pipesd.actors.tuner import AtOnce
from pipesd.errors import UsageError
from pipesd.lab.clock import run_virtually
from pipesd.lab.link import LinkModel
from pipesd.observe import LogObserver, Recorder, StatsObserver, Step, replay
from pipesd.redact import CONTENT
from pipesd.session import commands, events
from pipesd.session.cloud_side import CloudSide
from pipesd.session.edge_side import EdgeSide
from pipesd.session.proof import Tokens
from pipesd.session.rules import CloudRules, EdgeRules, Patience
from pipesd.values import Sampling, Slice, TrialReport, TunerPlace
from pipesd.wire import frames
from tests.actors.rig import EndlessTarget, Plan, edge, gateway, generate, prompt, read_all
from tests.session.world import VOCABULARY, target_path, welcome

LOGGER = logging.getLogger("pipesd.test")
TOKEN = 987_654
TEXT = "the secret text"
SECRET = "a proof"
PLACE = 31

# -- every event, command and frame, with content that can be recognised -------------------------------------

VALUES: dict[str, Any] = {
    **dict.fromkeys(
        ("session", "peer", "epoch", "base", "ask", "accepted", "step", "keep", "sequence"), PLACE
    ),
    **dict.fromkeys(("token", "seed"), TOKEN),
    **dict.fromkeys(("tokens", "feed", "end_ids", "begin_ids"), (TOKEN, TOKEN)),
    **dict.fromkeys(("message", "client", "model", "engine", "numerics", "template"), TEXT),
    **dict.fromkeys(("credential", "lease"), SECRET.encode()),
    "nonce": SECRET,
    "vocabulary_hashes": TEXT.encode(),
    "picks": ((TOKEN,), (TOKEN,)),
    "slices": (Slice(0, PLACE, (TOKEN,), 1, False, Sampling(), TOKEN),) * 2,
    "pieces": (TEXT.encode(),),
    "segments": ((True, (TOKEN,)),),
    "sampling": Sampling(0.75),
    "stats": commands.GenerationStats(),
    "failure": commands.Failure("busy", TEXT),
    "reason": "planned",
    "code": "busy",
    "finish": "stop",
    "confidence": 0.5,
    "arrivals": ((1, TOKEN),),
    "report": TrialReport(TOKEN, ((TOKEN, 0.5, 0.5, 0.5),), ((0.5, 0.5, True),), (0.5,), (0.5,)),
    "objective": "cost",
    "welcome": msgspec.structs.replace(welcome(), credential=SECRET.encode()),
}
TOKENS_OF_OTHERS = Tokens({}, SECRET.encode())


def make(kind: Any, names: list[str]) -> Any:
    values = {**VALUES, "tokens": TOKENS_OF_OTHERS} if kind is events.TokensRead else VALUES
    return kind(**{name: values.get(name, TOKEN) for name in names})


def all_frames(union: Any) -> list[Any]:
    return [make(kind, [part.name for part in msgspec.structs.fields(kind)]) for kind in get_args(union)]


def everything() -> Iterator[tuple[str, Any]]:
    """(name, sample) of each event and command; of those that carry a frame, one for each frame."""
    unions = (events.EdgeEvent, events.CloudEvent, commands.EdgeCommand, commands.CloudCommand)
    for kind in dict.fromkeys(kind for union in unions for kind in get_args(union)):
        names = [part.name for part in fields(kind)]
        carried = all_frames(get_type_hints(kind)["frame"]) if "frame" in names else [None]
        for frame in carried:
            sample = make(kind, names)
            if frame is None:
                yield kind.__name__, sample
            else:
                yield type(frame).__name__, replace(sample, frame=frame)


SAMPLES = list(everything())


def test_the_samples_cover_every_event_command_and_frame():
    seen = {name for name, _ in SAMPLES}
    for union in (frames.EdgeFrame, frames.CloudFrame, events.CloudEvent, commands.CloudCommand):
        for kind in get_args(union):
            assert kind.__name__ in seen or "frame" in {part.name for part in fields(kind)}


def log(event: object, *decided: object, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.DEBUG, LOGGER.name):
        LogObserver(LOGGER).observe(1.5, event, decided)
    return caplog.messages


def test_no_log_line_shows_a_token_or_text(caplog: pytest.LogCaptureFixture):
    for name, sample in SAMPLES:
        for line in log(sample, sample, caplog=caplog):
            assert str(TOKEN) not in line, name
            assert "secret" not in line, name
            assert SECRET not in line, name


HOLD_CONTENT = {
    **dict.fromkeys(("TokenDrafted", "DraftNext", "RunPass", "PassDone"), str(TOKEN)),
    **dict.fromkeys(("PromptGiven", "Prompt", "Restore", "Draft", "Verdict"), str(TOKEN)),
    **dict.fromkeys(("EmitTokens", "ShowDrafts"), str(TOKEN)),
    **dict.fromkeys(("Hello", "Fault", "Refuse", "BytesRejected", "PeerRejected"), TEXT),
    **dict.fromkeys(("FailGeneration", "CloseLink"), TEXT),
}


def test_if_content_is_wanted_the_lines_hold_it_and_no_secret(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, CONTENT.name)
    found: dict[str, str] = {}
    for name, sample in SAMPLES:
        for line in log(sample, sample, caplog=caplog):
            assert SECRET not in line, name
            assert line.isprintable()
            found.update((name, content) for content in (str(TOKEN), TEXT) if content in line)
    assert found == HOLD_CONTENT


def test_every_line_has_its_moment_a_mark_and_a_name(caplog: pytest.LogCaptureFixture):
    for name, sample in SAMPLES:
        happened, decided = log(sample, sample, caplog=caplog)
        moment, mark, shown, *_ = happened.split(" ")
        assert (moment, shown) == ("1.500000", name)
        assert mark in {"<", "!"}
        assert decided.split(" ")[1] in {">", "!"}


def test_faults_are_marked_as_such(caplog: pytest.LogCaptureFixture):
    marked = {name for name, sample in SAMPLES if log(sample, caplog=caplog)[0].split(" ")[1] == "!"}
    assert marked == {
        "Fault",
        "Refuse",
        "BytesRejected",
        "PeerRejected",
        "DraftFailed",
        "PassFailed",
        "FailGeneration",
    }


def test_a_line_says_where_and_how_much(caplog: pytest.LogCaptureFixture):
    verdict = frames.Verdict(session=1, epoch=2, base=30, accepted=4, tokens=(TOKEN, TOKEN), finish="stop")
    (line,) = log(events.FrameReceived(verdict), caplog=caplog)
    assert line == "1.500000 < Verdict session=1 epoch=2 base=30 accepted=4 tokens×2 finish=stop"  # noqa: RUF001


def test_a_peers_words_cannot_forge_a_line(caplog: pytest.LogCaptureFixture):
    bye = frames.Bye("done\n2.000000 ! Forged \x1b[31m")
    for line in log(events.PeerFrame(3, bye), caplog=caplog):
        assert line.isprintable()


def test_nothing_is_written_if_nobody_listens(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, LOGGER.name):
        LogObserver(LOGGER).observe(1.5, events.StopRequested(), ())
    assert caplog.messages == []


def test_counts_are_by_name_and_frames_by_theirs():
    stats = StatsObserver()
    ping = frames.Ping(1)
    stats.observe(0.0, events.PeerFrame(1, ping), [commands.SendToPeer(1, frames.Pong(1))])
    stats.observe(1.0, events.PeerFrame(2, ping), [commands.SendToPeer(2, ping), commands.ClosePeer(2)])
    stats.observe(2.0, events.DeadlineReached(), [])
    assert stats.counts == {"<Ping": 2, ">Pong": 1, ">Ping": 1, "ClosePeer": 1, "DeadlineReached": 1}


# -- recordings ----------------------------------------------------------------------------------------------

RULES = EdgeRules(patience=Patience(greeting_s=2.0, ping_after_s=1.0, silent_after_s=3.0))


async def record() -> tuple[list[Step], list[Step]]:
    """What happened at the edge and in the cloud while two answers were made, and one impossible wish."""
    plan = Plan(rules=RULES, up=LinkModel(delay_s=0.016), down=LinkModel(delay_s=0.016))
    at_edge, in_cloud = Recorder(), Recorder()
    async with (
        gateway(replace(plan, observers=[in_cloud])) as served,
        edge(replace(plan, observers=[at_edge]), served) as runtime,
    ):
        assert await generate(runtime, [1, 2]) == target_path([1, 2], 40, context=10_000)
        session = runtime.open_session()
        with suppress(UsageError):
            runtime.start(prompt(session, [0], base=5))
        await read_all(runtime.start(prompt(session, [0])))
    return at_edge.steps, in_cloud.steps


@pytest.fixture(scope="module")
def recorded() -> tuple[list[Step], list[Step]]:
    return run_virtually(record())


def fresh_edge() -> EdgeSide:
    return EdgeSide(RULES, VOCABULARY)


def fresh_cloud() -> CloudSide:
    return CloudSide(Plan().cloud_rules, welcome(context=10_000), VOCABULARY)


Recorded = tuple[list[Step], list[Step]]


def test_both_sides_decide_the_same_again(recorded: Recorded):
    at_edge, in_cloud = recorded
    assert min(len(at_edge), len(in_cloud)) > 20
    assert replay(fresh_edge().handle, at_edge) is None
    assert replay(fresh_cloud().handle, in_cloud) is None


async def record_tuned(tuner: TunerPlace) -> tuple[list[Step], list[Step]]:
    """A long answer, while thresholds are tuned at once; each side is replayed."""
    rules = EdgeRules(tuner=tuner)
    cloud_rules = CloudRules(tunes=True)
    plan = Plan(
        rules=rules,
        cloud_rules=cloud_rules,
        target=EndlessTarget(),
        always_right=True,
        edge_tuning=AtOnce(),
        cloud_tuning=AtOnce(),
    )
    at_edge, in_cloud = Recorder(), Recorder()
    async with (
        gateway(replace(plan, observers=[in_cloud])) as served,
        edge(replace(plan, observers=[at_edge]), served) as runtime,
    ):
        await generate(runtime, [1, 2], tokens_max=100)
    fresh = EdgeSide(rules, VOCABULARY)
    assert replay(fresh.handle, at_edge.steps) is None
    grant = welcome(context=10_000, tunes=True)
    assert replay(CloudSide(cloud_rules, grant, VOCABULARY).handle, in_cloud.steps) is None
    return at_edge.steps, in_cloud.steps


@pytest.mark.parametrize("tuner", ["edge", "cloud"])
def test_tuned_sides_decide_the_same_again(tuner: TunerPlace):
    """What was proposed is an event like any other."""
    at_edge, in_cloud = run_virtually(record_tuned(tuner))
    proposed = [step for step in at_edge if isinstance(step.event, events.ThresholdsProposed)]
    tuned = [step for step in in_cloud if isinstance(step.event, events.PeerTuned)]
    assert (len(proposed) > 2, len(tuned) > 2) == (tuner == "edge", tuner == "cloud")


def test_a_recording_of_one_side_does_not_suit_the_other_run(recorded: Recorded):
    other_rules = EdgeSide(replace(RULES, window_tokens=1), VOCABULARY)
    assert replay(other_rules.handle, recorded[0]) is not None


def test_every_tampered_decision_is_noticed_where_it_is(recorded: Recorded):
    for steps, fresh in ((recorded[0], fresh_edge), (recorded[1], fresh_cloud)):
        for number, step in enumerate(steps):
            tampered = [*steps]
            tampered[number] = replace(step, commands=(*step.commands, commands.ClosePeer(9)))
            assert replay(fresh().handle, tampered) == number


def test_a_tampered_verdict_is_noticed_where_it_is(recorded: Recorded):
    steps = [*recorded[0]]
    number, step, verdict = next(
        (number, step, step.event.frame)
        for number, step in enumerate(steps)
        if isinstance(step.event, events.FrameReceived)
        and isinstance(step.event.frame, frames.Verdict)
        and step.event.frame.finish is None
    )
    changed = (*verdict.tokens[:-1], (verdict.tokens[-1] + 1) % 5)
    steps[number] = replace(
        step, event=events.FrameReceived(msgspec.structs.replace(verdict, tokens=changed))
    )
    assert replay(fresh_edge().handle, steps) == number


def test_a_recorder_keeps_what_was_decided_even_if_the_list_is_used_further():
    recorder, decided = Recorder(), [commands.ClosePeer(1)]
    recorder.observe(0.5, events.StopRequested(), decided)
    decided.clear()
    assert recorder.steps == [Step(0.5, events.StopRequested(), (commands.ClosePeer(1),))]


def test_an_empty_recording_suits_everybody():
    assert replay(fresh_edge().handle, []) is None
