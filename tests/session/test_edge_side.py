"""The whole edge: the handshake, silence, sessions side by side, the end, and a cloud that lies."""

import dataclasses
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.access import AccessToken
from pipesd.errors import LinkError, RefusedError, UsageError
from pipesd.planner.policies import Policy
from pipesd.planner.trigger import Thresholds
from pipesd.session import events
from pipesd.session.commands import (
    AbortStep,
    AnnounceReady,
    CloseLink,
    DraftNext,
    DropLink,
    EdgeCommand,
    FailGeneration,
    Failure,
    FinishGeneration,
    NoteAway,
    NoteWait,
    ReleaseDraft,
    SendFrame,
    TuneThresholds,
)
from pipesd.session.edge_side import EdgeSide
from pipesd.session.phases import EdgePhase, TextPhase
from pipesd.session.rules import EdgeRules, Patience
from pipesd.session.trials import TRIAL_TOKENS
from pipesd.values import Objective, Offline, Sampling, TrialReport, TunerPlace
from pipesd.vocabulary import BLOCK_TOKENS, Vocabulary
from pipesd.wire import frames
from tests.session.helpers import (
    SHY,
    TOKENS,
    VOCABULARY,
    WELCOME,
    EdgeTable,
    HostileCloud,
    Move,
    always,
    draft,
    emit,
    grant,
    policies,
    prompt,
    restore,
    resume,
    send,
    step,
    verdict,
    wish,
)

PATIENT = EdgeRules(patience=Patience(greeting_s=5.0, ping_after_s=10.0, silent_after_s=30.0))


def greeting(rules: EdgeRules | None = None, vocabulary: Vocabulary = VOCABULARY) -> EdgeSide:
    side = EdgeSide(rules or EdgeRules(), vocabulary)
    hello = frames.Hello(frames.PROTOCOL_VERSION, "pipesd", len(vocabulary))
    assert side.handle(events.LinkOpened(), 0.0) == [send(hello)]
    assert side.phase is EdgePhase.GREETING
    return side


def hears(side: EdgeSide, frame: frames.CloudFrame, now: float = 0.0) -> list[EdgeCommand]:
    return side.handle(events.FrameReceived(frame), now)


def sent_frames(answer: list[EdgeCommand]) -> list[frames.EdgeFrame]:
    return [command.frame for command in answer if isinstance(command, SendFrame)]


def failure(answer: list[EdgeCommand]) -> Failure:
    """Why the link is closed; nothing may follow that."""
    last = answer[-1]
    assert isinstance(last, CloseLink)
    return last.failure


# -- the handshake ----------------------------------------------------------------------------------------


def test_welcome_makes_it_ready() -> None:
    side = greeting()
    assert hears(side, WELCOME) == [AnnounceReady(WELCOME)]
    assert side.handle(events.SessionWanted(0), 0.0) == [send(frames.Open(0))]
    assert side.phase is EdgePhase.READY


@pytest.mark.parametrize("code", ["version", "busy"])
def test_refusal_is_told_with_its_code(code: str) -> None:
    side = greeting()
    told = failure(hears(side, frames.Refuse(code, "because")))
    assert told == Failure(code, "the cloud refused the connection: because")
    assert side.phase is EdgePhase.CLOSED


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"version": frames.PROTOCOL_VERSION + 1}, "version"),
        ({"window_tokens": 0}, "protocol"),
        ({"chunk_tokens": 0}, "protocol"),
        ({"context_tokens": 1}, "protocol"),
        ({"vocabulary_size": 5_000}, "protocol"),
    ],
)
def test_impossible_welcome_is_a_fault(changes: dict[str, int], code: str) -> None:
    side = greeting()
    fault, close = hears(side, grant(**changes))
    assert isinstance(fault, SendFrame)
    assert isinstance(fault.frame, frames.Fault)
    assert fault.frame.code == code
    assert failure([close]).code == "peer"
    assert side.phase is EdgePhase.CLOSED


def test_vocabularies_that_differ_are_named_by_their_ids() -> None:
    pieces = [bytes([token]) for token in range(TOKENS)]
    theirs = list(pieces)
    theirs[7], theirs[9] = b"seven", b"nine"
    side = greeting(vocabulary=Vocabulary(pieces))
    other = grant(vocabulary_hashes=Vocabulary(theirs).hashes)
    assert hears(side, other) == [send(frames.BlockWanted(0))]
    bye, close = hears(side, frames.Block(0, tuple(theirs)))
    told = failure([close])
    assert told.code == "vocabulary"
    assert r"token 7 is b'\x07' here and b'seven' there, 9 is b'\t' here" in told.message
    assert bye == send(frames.Bye(told.message))
    assert side.phase is EdgePhase.CLOSED


def test_tokens_beyond_the_smaller_vocabulary_are_fetched_and_no_difference() -> None:
    pieces = [b"x"] * 2 * BLOCK_TOKENS
    longer = Vocabulary([*pieces, b"", b"last"])
    shorter = Vocabulary(pieces[:-2])
    side = greeting(vocabulary=shorter)
    welcome = grant(vocabulary_size=len(longer), vocabulary_hashes=longer.hashes)
    assert hears(side, welcome) == [send(frames.BlockWanted(1))]
    assert hears(side, frames.Ping(1)) == [send(frames.Pong(1))]
    assert hears(side, frames.Block(1, longer.block(1))) == [send(frames.BlockWanted(2))]
    end = 2 * BLOCK_TOKENS
    foreign = ((end - 2, b"x"), (end - 1, b"x"), (end + 1, b"last"))
    assert hears(side, frames.Block(2, longer.block(2))) == [AnnounceReady(welcome, foreign)]
    assert side.phase is EdgePhase.READY


def test_padding_beyond_the_smaller_vocabulary_needs_no_look() -> None:
    pieces = [b"x"] * BLOCK_TOKENS
    padded = Vocabulary([*pieces, *[b""] * 300])
    side = greeting(vocabulary=Vocabulary(pieces))
    welcome = grant(vocabulary_size=len(padded), vocabulary_hashes=padded.hashes)
    assert hears(side, welcome) == [AnnounceReady(welcome)]


@pytest.mark.parametrize(("ours", "theirs"), [(b"", b"12345678"), (b"12345678", b""), (b"same", b"same")])
def test_how_text_is_cut_is_compared_where_both_know_it(ours: bytes, theirs: bytes) -> None:
    pieces = [b"x"] * TOKENS
    side = greeting(vocabulary=Vocabulary(pieces, ours))
    welcome = grant(vocabulary_hashes=Vocabulary(pieces).hashes, cutting=theirs)
    assert hears(side, welcome) == [AnnounceReady(welcome)]


def test_tokenizers_that_cut_text_differently_are_refused() -> None:
    pieces = [b"x"] * TOKENS
    side = greeting(vocabulary=Vocabulary(pieces, b"ours"))
    welcome = grant(vocabulary_hashes=Vocabulary(pieces).hashes, cutting=b"theirs")
    bye, close = hears(side, welcome)
    told = failure([close])
    assert told.code == "vocabulary"
    assert "cuts text into others" in told.message
    assert bye == send(frames.Bye(told.message))
    assert side.phase is EdgePhase.CLOSED


def test_block_that_was_not_asked_for_is_a_fault() -> None:
    side = greeting()
    hears(side, grant(vocabulary_hashes=b"12345678"))
    assert failure(hears(side, frames.Block(1, ()))).code == "peer"
    assert side.phase is EdgePhase.CLOSED


# -- time -------------------------------------------------------------------------------------------------


def test_greeting_that_never_comes_is_given_up() -> None:
    side = greeting(PATIENT)
    assert side.deadline() == 5.0
    assert side.handle(events.DeadlineReached(), 4.9) == []
    told = failure(side.handle(events.DeadlineReached(), 5.0))
    assert told == Failure("silent", "the cloud did not complete the greeting in 5 s")
    assert (side.phase, side.deadline()) == (EdgePhase.CLOSED, None)


def test_comparing_is_part_of_the_greeting() -> None:
    side = greeting(PATIENT)
    hears(side, grant(vocabulary_hashes=b"12345678"), 3.0)
    assert side.deadline() == 5.0


def test_silence_is_asked_about_and_then_given_up() -> None:
    side = greeting(PATIENT)
    hears(side, WELCOME, 1.0)
    assert side.deadline() == 11.0
    assert side.handle(events.DeadlineReached(), 11.0) == [send(frames.Ping(11_000_000))]
    assert hears(side, frames.Pong(11_000_000), 12.0) == []
    assert side.deadline() == 22.0
    side.handle(events.DeadlineReached(), 22.0)
    assert side.deadline() == 42.0
    bye, close = side.handle(events.DeadlineReached(), 42.0)
    assert failure([close]).code == "silent"
    assert bye == send(frames.Bye("nothing was heard from the cloud for 30 s"))
    assert (side.phase, side.deadline()) == (EdgePhase.CLOSED, None)


def test_without_patience_there_is_no_deadline() -> None:
    side = greeting()
    hears(side, WELCOME)
    assert side.deadline() is None


def test_ping_is_answered() -> None:
    assert EdgeTable().hears(frames.Ping(77)) == [send(frames.Pong(77))]


# -- sessions ---------------------------------------------------------------------------------------------


def test_sessions_take_turns_at_the_draft_engine() -> None:
    table = EdgeTable(sessions=2)
    assert table.tell(wish(1, 2))[1] == step(1, 0, 1, 2)
    assert table.tell(wish(3, 4, session=1)) == [send(prompt(3, 4, session=1))]
    assert table.drafts(10) == [step(2, 0, 3, 4, session=1), send(draft(2, 10))]
    assert table.drafts(20) == [step(3, 2, 10), send(draft(2, 20, session=1))]
    assert table.drafts(11) == [step(4, 2, 20, session=1), send(draft(3, 11))]
    assert (table.phase(0), table.phase(1)) == (TextPhase.AWAITING, TextPhase.AWAITING)


def test_sessions_take_turns_at_the_link() -> None:
    table = EdgeTable(sessions=2, keeps_up=False)
    table.tell(wish(1, 2))
    table.tell(wish(3, 4, session=1))
    assert send(draft(2, 10)) in table.drafts(10)
    sent = [command for command in table.drafts(20, 11, 21, 12) if isinstance(command, SendFrame)]
    assert sent == []
    assert table.idles() == [send(draft(2, 20, 21, session=1))]
    assert table.drafts(22)[1:] == []
    assert table.idles() == [send(draft(3, 11, 12))]
    assert table.idles() == [send(draft(4, 22, session=1))]
    assert table.idles() == []


def test_sessions_that_all_wait_for_the_link_are_served_in_turn() -> None:
    table = EdgeTable(EdgeRules(policy=always(batching="immediate")), sessions=3, keeps_up=False)
    for session in range(3):
        table.tell(wish(1, 2, session=session))
    table.drafts(*range(10, 22))
    sent = [command.frame for _ in range(6) for command in table.idles() if isinstance(command, SendFrame)]
    assert [frame.session for frame in sent if isinstance(frame, frames.Draft)] == [1, 2, 0, 1, 2, 0]


def test_session_that_has_nothing_to_send_misses_its_turn() -> None:
    table = EdgeTable(sessions=2, keeps_up=False)
    table.tell(wish(1, 2))
    table.drafts(10, 11)
    assert table.idles() == [send(draft(3, 11))]
    table.tell(events.SessionLeft(0))
    table.aborts()
    table.tell(wish(3, 4, session=1))
    assert table.idles() == []
    assert table.drafts(20)[-1] == send(draft(2, 20, session=1))


def test_session_that_missed_its_turn_keeps_it() -> None:
    table = EdgeTable(EdgeRules(policy=always(batching="immediate")), sessions=3, keeps_up=False)
    table.tell(wish(1, 2))
    table.tell(wish(1, 2, session=2))
    table.drafts(10, 30, 11, 31, 12, 32)
    assert table.idles() == [send(draft(2, 30, session=2))]
    table.tell(wish(1, 2, session=1))
    table.drafts(13, 33, 20, 14, 34, 21)
    sent = [command.frame for _ in range(6) for command in table.idles() if isinstance(command, SendFrame)]
    assert [frame.session for frame in sent if isinstance(frame, frames.Draft)] == [1, 0, 2, 1, 0, 2]


def test_session_that_is_closed_has_no_turn() -> None:
    table = EdgeTable(EdgeRules(policy=always(batching="immediate")), sessions=3, keeps_up=False)
    for session in range(3):
        table.tell(wish(1, 2, session=session))
    table.drafts(*range(10, 19))
    table.tell(events.SessionLeft(1))
    sent = [command.frame for _ in range(3) for command in table.idles() if isinstance(command, SendFrame)]
    assert [frame.session for frame in sent if isinstance(frame, frames.Draft)] == [2, 0, 2]


@pytest.mark.parametrize(
    ("late", "sent"), [(0, []), (2, []), (3, []), (4, [draft(3, 11)]), (5, [draft(3, 11)])]
)
def test_report_that_the_last_drafts_have_not_left_yet_makes_no_link_idle(
    late: int, sent: list[frames.Draft]
) -> None:
    """Hello, Open and Prompt went before the drafts, and a Pong behind them."""
    table = EdgeTable(keeps_up=False)
    table.tell(wish(1, 2))
    assert table.drafts(10)[-1] == send(draft(2, 10))
    assert table.hears(frames.Ping(1)) == [send(frames.Pong(1))]
    assert table.told_frames == 5
    table.drafts(11)
    assert table.tell(events.LinkIdle(late)) == [send(frame) for frame in sent]


def test_late_report_does_not_undo_that_the_link_is_idle() -> None:
    table = EdgeTable(keeps_up=False)
    table.tell(wish(1, 2))
    table.drafts(10)
    assert table.idles() == []
    assert table.tell(events.LinkIdle(3)) == []
    assert table.drafts(11)[-1] == send(draft(3, 11))
    assert table.tell(events.LinkIdle(4)) == []
    table.drafts(12)
    assert table.idles() == [send(draft(4, 12))]


def stamped(base: int, accepted: int, *tokens: int, ms: tuple[tuple[int, int], ...]) -> frames.Verdict:
    """A verdict that says how many drafts came when."""
    stamps = tuple((count, 1_000 * at_ms) for count, at_ms in ms)
    return frames.Verdict(0, 1, base, accepted, tokens, arrivals=stamps)


def test_the_way_back_of_an_ask_begins_when_it_has_left_and_not_with_a_late_report() -> None:
    table = EdgeTable(EdgeRules(policy=always(Thresholds(0.0, 0.5, 10, 1))), keeps_up=False)
    table.tell(wish(1, 2))
    table.hears(verdict(2, 0, 10), 0.5)
    assert table.tell(events.StepAborted(1), 0.6) == [step(2, 0, 1, 2, 10)]
    assert table.drafts(11, confidence=0.3, now=1.0)[-1] == send(draft(3, 11, ask=4))
    table.tell(events.LinkIdle(3), 1.1)
    table.idles(1.3)
    table.hears(verdict(3, 1, 12), 1.5)
    costs = table.side._experience.costs
    assert costs.answer_s == pytest.approx(0.5)
    assert costs.return_s == pytest.approx(0.2)


def test_only_drafts_that_leave_when_those_before_have_left_are_known_to_have_queued() -> None:
    """Each takes the link 10 ms; the last one leaves after half a second in which the link was idle."""
    table = EdgeTable(keeps_up=False)
    table.tell(wish(1, 2))
    table.drafts(10)
    table.drafts(11, 12)
    assert table.idles(0.01) == [send(draft(3, 11, 12))]
    table.drafts(13, 14, 15, 16, now=0.02)
    assert table.idles(0.03) == [send(draft(5, 13, 14, 15, 16))]
    assert table.idles(0.07) == []
    assert table.drafts(17, now=0.57)[-1] == send(draft(9, 17))
    table.hears(stamped(2, 8, 18, ms=((1, 10), (2, 30), (4, 70), (1, 580))), 0.7)
    occupancy = table.side._experience.costs.occupancy
    assert occupancy is not None
    assert occupancy.at(7) == pytest.approx(0.07)


@pytest.mark.parametrize("between", ["nothing", "prompt", "pong"])
def test_what_went_between_two_batches_is_no_part_of_the_second(between: str) -> None:
    """Each token takes the link 10 ms, whatever goes between two seconds."""
    table = EdgeTable(sessions=2, keeps_up=False)
    table.tell(wish(1, 2))
    table.drafts(10)
    table.drafts(11, 12)
    if between == "prompt":
        table.tell(wish(*[1] * 200, session=1))
    elif between == "pong":
        table.hears(frames.Ping(1))
    held_ms = 0 if between == "nothing" else 2_000
    assert table.idles((10 + held_ms) / 1e3) == [send(draft(3, 11, 12))]
    assert table.drafts(13, now=(20 + held_ms) / 1e3)[1:] == []
    assert table.idles((30 + held_ms) / 1e3) == [send(draft(5, 13))]
    table.hears(stamped(2, 4, 17, ms=((1, 10), (2, 30 + held_ms), (1, 40 + held_ms))), 2.2)
    occupancy = table.side._experience.costs.occupancy
    assert (occupancy is not None) == (between == "nothing")


def test_drafts_behind_those_of_another_session_are_not_known_to_have_queued() -> None:
    table = EdgeTable(sessions=2, keeps_up=False)
    table.tell(wish(1, 2))
    table.tell(wish(1, 2, session=1))
    table.drafts(10)
    table.drafts(20, 11, 21, 12, 22)
    assert table.idles(0.01) == [send(draft(2, 20, 21, 22, session=1))]
    assert table.idles(0.04) == [send(draft(3, 11, 12))]
    table.drafts(13, 23)
    assert table.idles(0.06) == [send(draft(5, 23, session=1))]
    assert table.idles(0.07) == [send(draft(5, 13))]
    table.hears(stamped(2, 4, 14, ms=((1, 10), (2, 60), (1, 80))), 0.7)
    assert table.side._experience.costs.occupancy is None


def test_idle_link_before_the_welcome_is_no_news() -> None:
    side = greeting()
    assert side.handle(events.LinkIdle(1), 0.0) == []
    assert hears(side, WELCOME) == [AnnounceReady(WELCOME)]


def test_a_correction_in_one_session_leaves_the_others_step_alone() -> None:
    table = EdgeTable(sessions=2)
    table.tell(wish(1, 2))
    table.tell(wish(3, 4, session=1))
    table.drafts(10)
    assert table.hears(verdict(2, 0, 50)) == [emit(50)]
    assert table.drafts(20) == [step(3, 2, 50), send(draft(2, 20, session=1))]


def test_session_left_during_its_draft_step() -> None:
    table = EdgeTable(sessions=2)
    table.tell(wish(1, 2))
    table.tell(wish(3, 4, session=1))
    table.tell(events.GenerationCancelled(0))
    answer = table.tell(events.SessionLeft(0))
    assert answer == [send(frames.Close(0)), ReleaseDraft(0)]
    assert table.drafts(10) == [step(2, 0, 3, 4, session=1)]
    assert table.hears(verdict(2, 0, 10)) == []
    assert table.hears(frames.Fault(0, "engine", "broken")) == []
    assert list(table.side.sessions) == [1]


def test_session_left_in_the_middle_of_an_answer_aborts_its_step() -> None:
    table = EdgeTable()
    table.tell(wish(1, 2))
    answer = table.tell(events.SessionLeft(0))
    assert {send(frames.Close(0)), ReleaseDraft(0), AbortStep(1)} <= set(answer)
    assert table.aborts() == []
    assert table.side.sessions == {}


def test_cache_that_was_never_used_is_not_released() -> None:
    table = EdgeTable()
    assert table.tell(events.SessionLeft(0)) == [send(frames.Close(0))]
    assert table.tell(events.SessionLeft(0)) == []


def test_session_numbers_are_not_used_twice() -> None:
    table = EdgeTable()
    table.tell(events.SessionLeft(0))
    with pytest.raises(UsageError, match="before"):
        table.tell(events.SessionWanted(0))


def test_more_sessions_than_granted_are_refused() -> None:
    table = EdgeTable(sessions=WELCOME.sessions_max)
    with pytest.raises(UsageError, match="all 4 sessions"):
        table.tell(events.SessionWanted(9))
    table.tell(events.SessionLeft(2))
    assert table.tell(events.SessionWanted(9)) == [send(frames.Open(9))]


def test_fault_of_a_session_leaves_the_others_alone() -> None:
    table = EdgeTable(sessions=2)
    table.tell(wish(1, 2))
    table.tell(wish(3, 4, session=1))
    failed = FailGeneration(0, Failure("engine", "broken"))
    assert table.hears(frames.Fault(0, "engine", "broken")) == [failed, AbortStep(1)]
    assert table.aborts() == [step(2, 0, 3, 4, session=1)]
    assert (table.phase(0), table.phase(1)) == (TextPhase.FAILED, TextPhase.AWAITING)


@pytest.mark.parametrize("frame", [verdict(0, 0, 1, session=5), frames.Fault(5, "engine", "broken")])
def test_frame_for_a_session_never_opened_is_a_fault(frame: frames.CloudFrame) -> None:
    table = EdgeTable()
    assert failure(table.hears(frame)).code == "peer"
    assert table.side.phase is EdgePhase.CLOSED


GOOD = wish(4, base=3)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"base": -1}, "base"),
        ({"base": 4}, "base"),
        ({"tokens": ()}, "empty"),
        ({"tokens_max": 0}, "tokens_max"),
        ({"tokens": (TOKENS,)}, "token 100"),
        ({"tokens": (4,) * 997}, "context"),
        ({"sampling": Sampling(temperature=1.0)}, "temperature"),
        ({"tokens": (-1,)}, "-1"),
        ({"tokens_max": 2**53}, "tokens_max"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
    ],
)
def test_impossible_prompt_changes_nothing(changes: dict[str, object], named: str) -> None:
    """Whatever would not fit its frame must not reach the wire: the cloud would close the connection."""
    table = EdgeTable(welcome=grant(greedy_only=True))
    table.tell(wish(1, 2, 3))
    with pytest.raises(UsageError, match=named):
        table.tell(dataclasses.replace(GOOD, **changes))  # type: ignore[arg-type]
    assert (table.ledger().text, table.ledger().epoch) == ([1, 2, 3], 1)
    assert table.phase() is TextPhase.AWAITING


# -- the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "code", "last_word"),
    [
        (events.LinkClosed("reset"), "link", None),
        (events.StopRequested(), "link", frames.Bye),
        (events.BytesRejected("malformed", "no frame"), "peer", frames.Fault),
        (events.FrameReceived(frames.Bye("enough")), "link", None),
        (events.FrameReceived(frames.Fault(None, "stopping", "enough")), "stopping", None),
        (events.FrameReceived(frames.Thresholds(0, 0.5, 0.5, 1, 2)), "peer", frames.Fault),
        (events.FrameReceived(frames.Thresholds(0, 0.5, 0.5, 0, 0)), "peer", frames.Fault),
        (events.FrameReceived(WELCOME), "peer", frames.Fault),
    ],
)
def test_every_end_fails_what_runs_and_closes_the_link(
    event: events.EdgeEvent, code: str, last_word: type | None
) -> None:
    table = EdgeTable(sessions=2)
    table.tell(wish(1, 2))
    answer = table.tell(event)
    sent = [type(command.frame) for command in answer if isinstance(command, SendFrame)]
    assert sent == ([last_word] if last_word else [])
    close, failed, abort = answer[-3:]
    assert failed == FailGeneration(0, failure([close]))
    assert failure([close]).code == code
    assert abort == AbortStep(1)
    assert table.aborts() == []
    assert table.side.phase is EdgePhase.CLOSED


@pytest.mark.parametrize(
    "event",
    [
        events.LinkClosed("reset"),
        events.StopRequested(),
        events.DeadlineReached(),
        events.BytesRejected("malformed", "no frame"),
        events.FrameReceived(verdict(0, 0, 1)),
        events.FrameReceived(frames.Ping(1)),
        events.GenerationCancelled(0),
        events.SessionLeft(0),
        events.ReaderPaused(0),
        events.LinkIdle(99),
        events.ThresholdsProposed(1, Thresholds()),
        events.FrameReceived(frames.Thresholds(1, 0.5, 0.5, 2, 1)),
    ],
)
def test_nothing_is_said_after_the_end(event: events.EdgeEvent) -> None:
    table = EdgeTable(PATIENT)
    table.tell(events.StopRequested())
    assert table.tell(event, 15.0) == []
    assert table.side.phase is EdgePhase.CLOSED


def test_wishes_after_the_end_are_told_so() -> None:
    table = EdgeTable()
    table.tell(events.LinkClosed("reset"))
    with pytest.raises(LinkError):
        table.tell(wish(1))
    with pytest.raises(LinkError):
        table.tell(events.SessionWanted(1))


def test_stopping_before_there_is_a_link_says_nothing() -> None:
    side = EdgeSide(EdgeRules(), VOCABULARY)
    answer = side.handle(events.StopRequested(), 0.0)
    assert len(answer) == 1
    assert failure(answer).code == "link"


def test_no_session_before_the_welcome() -> None:
    with pytest.raises(LinkError, match="Hello"):
        greeting().handle(events.SessionWanted(0), 0.0)


# -- one connection after another -------------------------------------------------------------------------

TRYING = EdgeRules(policy=always(), patience=Patience(away_s=60.0), clouds=2)
LEASE = b"sixteen bytes ok"


def answering(rules: EdgeRules = TRYING, sessions: int = 1) -> EdgeTable:
    """Each session is behind 1, 2 and 10, and its lease is known."""
    table = EdgeTable(rules, sessions=sessions)
    for session in range(sessions):
        table.hears(frames.Opened(session, LEASE + bytes([session])))
        table.tell(wish(1, 2, session=session))
        table.hears(verdict(2, 0, 10, session=session))
    return table


@pytest.mark.parametrize(
    ("event", "last_word", "cloud"),
    [
        (events.LinkClosed("reset"), None, 0),
        (events.BytesRejected("malformed", "no frame"), frames.Fault, 0),
        (events.FrameReceived(verdict(9, 0, 1)), frames.Fault, 0),
        (events.FrameReceived(WELCOME), frames.Fault, 0),
        (events.FrameReceived(frames.Resumed(0, need=False)), frames.Fault, 0),
        (events.FrameReceived(frames.Resumed(1, need=True)), frames.Fault, 0),
        (events.FrameReceived(frames.Fault(None, "malformed", "no frame")), None, 0),
        (events.FrameReceived(frames.Fault(None, "stopping", "enough")), None, 0),
        (events.FrameReceived(frames.Bye("it is stopping")), None, 1),
    ],
)
def test_every_end_but_ours_is_followed_by_another_try(
    event: events.EdgeEvent, last_word: type | None, cloud: int
) -> None:
    """Of the same cloud, for it may have kept our texts, unless it said goodbye."""
    table = answering(sessions=2)
    answer = table.tell(event)
    assert [type(frame) for frame in sent_frames(answer)] == ([last_word] if last_word else [])
    drop, note = [command for command in answer if isinstance(command, DropLink | NoteAway)]
    assert isinstance(note, NoteAway)
    assert answer.index(drop) < answer.index(note)
    assert not any(isinstance(command, FailGeneration | CloseLink) for command in answer)
    assert (table.side.phase, table.side.deadline()) == (EdgePhase.AWAY, note.wait_s)
    table.dials()
    assert (table.link, table.cloud) == (1, cloud)
    assert table.side.phase is EdgePhase.CONNECTING


def test_all_sessions_come_back_with_it() -> None:
    table = answering(sessions=2)
    table.tell(events.SessionWanted(2))
    table.cut()
    said = sent_frames(table.meets())
    assert len(said) == 3
    assert set(said) == {
        resume(LEASE + b"\0", 3, epoch=3),
        resume(LEASE + b"\1", 3, epoch=3, session=1),
        frames.Open(2),
    }
    table.aborts()
    table.hears(frames.Resumed(1, need=False))
    assert (table.phase(0), table.phase(1)) == (TextPhase.DRAFTING, TextPhase.AWAITING)
    table.hears(frames.Resumed(0, need=False))
    assert table.phase(0) is TextPhase.AWAITING


def test_a_greeting_is_the_same_each_time_and_proves_itself_anew() -> None:
    rules = dataclasses.replace(TRYING, token=AccessToken("ann", "a" * 43))
    side = EdgeSide(rules, VOCABULARY)
    firsts = []
    for nonce in ("one", "two"):
        (hello,) = sent_frames(side.handle(events.LinkOpened(nonce=nonce), 0.0))
        assert isinstance(hello, frames.Hello)
        firsts.append(hello.credential)
    assert firsts == [b"n,,n=ann,r=one", b"n,,n=ann,r=two"]


def test_a_try_that_fails_is_followed_by_the_next_with_the_next_cloud() -> None:
    table = answering()
    table.cut()
    table.dials()
    table.tell(events.LinkClosed("connection refused", table.link))
    table.dials()
    assert (table.link, table.cloud) == (2, 1)
    table.tell(events.LinkOpened(table.link))
    table.hears(frames.Refuse("busy", "no connection is free", 5_000))
    before = table.now
    table.dials()
    assert (table.link, table.cloud) == (3, 0)
    assert table.now < before + 5.0, "that one has room, for all we know"


@pytest.mark.parametrize(
    "late",
    [
        events.LinkOpened(0),
        events.LinkClosed("reset", 0),
        events.LinkIdle(99, 0),
        events.FrameReceived(verdict(3, 0, 11), 0),
        events.FrameReceived(frames.Ping(1), 0),
        events.FrameReceived(frames.Bye("enough"), 0),
        events.BytesRejected("malformed", "no frame", 0),
    ],
)
@pytest.mark.parametrize("phase", [EdgePhase.AWAY, EdgePhase.CONNECTING, EdgePhase.READY])
def test_what_an_old_connection_still_says_is_passed_over(late: events.EdgeEvent, phase: EdgePhase) -> None:
    table = answering()
    table.cut()
    table.aborts()
    if phase is EdgePhase.READY:
        table.meets()
    elif phase is EdgePhase.CONNECTING:
        table.dials()
    assert table.side.phase is phase
    assert table.tell(late) == []
    assert (table.side.phase, table.ledger().confirmed) == (phase, 3)


def test_what_was_sent_over_the_old_connection_is_not_counted_on_the_new_one() -> None:
    """Hello and Resume, then drafts; and a Pong behind them."""
    table = EdgeTable(TRYING, keeps_up=False)
    table.hears(frames.Opened(0, LEASE))
    table.tell(wish(1, 2))
    table.drafts(10)
    table.cut()
    table.aborts()
    table.meets()
    table.aborts()
    assert table.hears(frames.Resumed(0, need=False)) == [send(draft(2, 10, ask=3, epoch=3))]
    assert table.told_frames == 3
    table.drafts(11)
    assert table.tell(events.LinkIdle(2, table.link)) == []
    assert table.tell(events.LinkIdle(3, table.link)) == [send(draft(3, 11, epoch=3))]


def test_drafts_that_a_link_was_busy_with_do_not_hold_up_the_next_one() -> None:
    table = EdgeTable(TRYING, keeps_up=False)
    table.hears(frames.Opened(0, LEASE))
    table.tell(wish(1, 2))
    assert sent_frames(table.drafts(10)) == [draft(2, 10)]
    table.drafts(11)
    table.cut()
    table.aborts()
    table.meets()
    assert sent_frames(table.hears(frames.Resumed(0, need=False))) == [draft(2, 10, 11, ask=4, epoch=3)]


def test_silence_is_watched_on_every_connection() -> None:
    table = answering(
        dataclasses.replace(TRYING, patience=dataclasses.replace(PATIENT.patience, away_s=60.0))
    )
    table.cut()
    table.meets()
    assert table.side.deadline() == table.now + 10.0
    assert send(frames.Ping(round((table.now + 10.0) * 1e6))) in table.tell(
        events.DeadlineReached(), table.now + 10.0
    )


def test_a_session_that_is_opened_while_away_is_opened_when_there_is_a_cloud() -> None:
    table = answering()
    table.cut()
    table.aborts()
    assert table.tell(events.SessionWanted(1)) == []
    assert sent_frames(table.tell(wish(4, 5, session=1))) == []
    assert sent_frames(table.meets()) == [
        resume(LEASE + b"\0", 3, epoch=3),
        frames.Open(1),
        restore((True, (4, 5)), session=1, start=2, most=50, epoch=2),
        draft(2, session=1, ask=3, epoch=2),
    ]


def test_no_more_sessions_are_opened_while_away_than_were_granted() -> None:
    table = answering(sessions=4)
    table.cut()
    with pytest.raises(UsageError, match="all 4 sessions"):
        table.tell(events.SessionWanted(4))


def test_impossible_prompts_are_told_so_while_away_too() -> None:
    table = answering()
    table.cut()
    with pytest.raises(UsageError, match="base"):
        table.tell(wish(4, base=9))
    assert table.ledger().text == [1, 2, 10]


def test_when_patience_ends_everything_does() -> None:
    table = answering(dataclasses.replace(TRYING, patience=Patience(away_s=5.0)), sessions=2)
    answer = table.cut()
    while not any(isinstance(command, CloseLink) for command in answer):
        table.dials()
        assert table.now <= 5.0
        answer = table.tell(events.LinkClosed("connection refused", table.link))
    gone = Failure("link", "connection refused")
    assert answer[0] == CloseLink(gone)
    assert len(answer) == 3
    assert set(answer[1:]) == {FailGeneration(0, gone), FailGeneration(1, gone)}
    assert (table.side.phase, table.side.deadline()) == (EdgePhase.CLOSED, None)
    with pytest.raises(LinkError):
        table.tell(wish(4))
    with pytest.raises(LinkError):
        table.tell(events.SessionWanted(7))


def test_an_edge_that_is_away_can_be_stopped_without_a_word() -> None:
    table = answering()
    table.cut()
    answer = table.tell(events.StopRequested())
    assert sent_frames(answer) == []
    assert [type(command) for command in answer] == [CloseLink, FailGeneration]
    assert table.side.phase is EdgePhase.CLOSED


def test_one_that_is_greeting_again_says_goodbye() -> None:
    table = answering()
    table.cut()
    table.dials()
    table.tell(events.LinkOpened(table.link))
    assert [type(frame) for frame in sent_frames(table.tell(events.StopRequested()))] == [frames.Bye]


def test_a_text_that_gets_longer_makes_the_next_wait_short_again() -> None:
    waits = []
    for luck in range(20):
        table = answering(dataclasses.replace(TRYING, luck=luck, clouds=1))
        table.cut()
        for _ in range(6):
            table.dials()
            table.tell(events.LinkClosed("connection refused", table.link))
        table.meets()
        table.hears(frames.Resumed(0, need=False))
        table.hears(verdict(3, 0, 11, epoch=3))
        (note,) = [command for command in table.cut() if isinstance(command, NoteAway)]
        waits.append(note.wait_s)
    assert max(waits) <= 0.2


@pytest.mark.parametrize(("tuner", "again"), [("cloud", True), ("edge", False)])
def test_a_trial_whose_report_may_be_lost_with_the_connection_is_gone_through_anew(
    tuner: TunerPlace, again: bool
) -> None:
    table = EdgeTable(dataclasses.replace(TRYING, policy=always(SHY), tuner=tuner), grant(tunes=True))
    begin(table, 0)
    assert len(reports(confirm(table, TRIAL_TOKENS))) == 1
    table.cut()
    table.meets(grant(tunes=True))
    confirm(table, 1)
    assert (reports(confirm(table, TRIAL_TOKENS)) != []) == again


# -- the tuner --------------------------------------------------------------------------------------------

DOUBTING = Thresholds(r1=0.0, r2=0.6, upper_tokens=100, lower_tokens=1)
"""Asks at once about a draft of confidence 0.5."""

DOUBTING_FRAME = frames.Thresholds(1, 0.0, 0.6, 100, 1)


def tuned(
    tuner: TunerPlace, *, tunes: bool = True, sessions: int = 1, objective: Objective = "balanced"
) -> EdgeTable:
    """An edge with answers behind their first token, so that what follows has a pace."""
    rules = EdgeRules(policy=always(SHY), tuner=tuner, objective=objective)
    table = EdgeTable(rules, grant(tunes=tunes), sessions=sessions)
    for session in range(sessions):
        begin(table, session)
    return table


def begin(table: EdgeTable, session: int) -> None:
    table.tell(wish(1, 2, session=session, most=500))
    confirm(table, 1, session)
    if table.side._drafting is not None:
        table.aborts()


def confirm(table: EdgeTable, tokens: int, session: int = 0, now: float = 0.0) -> list[EdgeCommand]:
    """The target says so many tokens of its own accord."""
    books = table.ledger(session)
    news = verdict(books.confirmed, 0, *[50] * tokens, epoch=books.epoch, session=session)
    return table.hears(news, now)


def reports(answer: list[EdgeCommand]) -> list[TrialReport]:
    """What the tuner is told, wherever it is."""
    here = [command.report for command in answer if isinstance(command, TuneThresholds)]
    sent = [command.frame for command in answer if isinstance(command, SendFrame)]
    return here + [frame.report for frame in sent if isinstance(frame, frames.Telemetry)]


def asks_about_a_doubtful_draft(table: EdgeTable, session: int = 0) -> bool:
    """Whether the next draft, at which the model is not sure, is asked about."""
    before = table.asks(session)
    while table.side._drafting is not None and table.side._drafting[1] != session:
        table.aborts()
    table.drafts(11, confidence=0.5)
    return table.asks(session) != before


@pytest.mark.parametrize(
    ("tuner", "tunes", "kind"),
    [
        ("edge", False, TuneThresholds),
        ("edge", True, TuneThresholds),
        ("auto", False, TuneThresholds),
        ("auto", True, SendFrame),
        ("cloud", True, SendFrame),
    ],
)
def test_a_trial_is_reported_where_the_tuner_is(tuner: TunerPlace, tunes: bool, kind: type) -> None:
    table = tuned(tuner, tunes=tunes, objective="cost")
    assert reports(confirm(table, TRIAL_TOKENS - 1, now=0.5)) == []
    answer = confirm(table, 2, now=0.75)
    expected = TrialReport(0, ((TRIAL_TOKENS - 1, 500.0, 0.0, 0.0), (2, 250.0, 0.0, 0.0)), (), (), (), 100, 1)
    assert reports(answer) == [expected]
    (told,) = [command for command in answer if command not in (emit(50, 50), AbortStep(table.steps_started))]
    assert isinstance(told, kind)
    if isinstance(told, SendFrame):
        assert told.frame == frames.Telemetry("cost", expected)


@pytest.mark.parametrize("tunes", [False, True])
def test_without_a_tuner_nothing_is_reported(tunes: bool) -> None:
    table = tuned("off", tunes=tunes)
    for _ in range(10):
        assert reports(confirm(table, TRIAL_TOKENS, now=0.5)) == []


@pytest.mark.parametrize("tuner", ["edge", "cloud"])
def test_no_report_follows_before_the_answer_to_the_last(tuner: TunerPlace) -> None:
    table = tuned(tuner)
    assert len(reports(confirm(table, TRIAL_TOKENS))) == 1
    assert reports(confirm(table, 3 * TRIAL_TOKENS)) == []
    if tuner == "edge":
        table.tell(events.ThresholdsProposed(1, DOUBTING))
    else:
        table.hears(DOUBTING_FRAME)
    assert reports(confirm(table, TRIAL_TOKENS - 1)) == []
    (report,) = reports(confirm(table, 1))
    assert report.trial == 1


def test_sessions_fill_a_trial_together() -> None:
    table = tuned("edge", sessions=2)
    confirm(table, 12, session=0)
    (report,) = reports(confirm(table, 8, session=1))
    assert [tokens for tokens, *_ in report.verdicts] == [12, 8]


def test_a_report_tells_what_became_of_drafts() -> None:
    table = tuned("edge")
    table.drafts(11, 12, 13, 14, confidence=0.75)
    table.hears(verdict(3, 1, 60))
    (report,) = reports(confirm(table, TRIAL_TOKENS))
    assert [(confidence, accepted) for confidence, _, accepted in report.drafts] == [
        (0.75, True),
        (0.75, False),
    ]
    assert report.astray == (0.75, 0.75)


@pytest.mark.parametrize("tuner", ["edge", "cloud"])
def test_all_sessions_adopt_what_is_proposed_and_later_ones_too(tuner: TunerPlace) -> None:
    table = tuned(tuner, sessions=2)
    assert not asks_about_a_doubtful_draft(table, 0)
    if tuner == "edge":
        assert table.tell(events.ThresholdsProposed(1, DOUBTING)) == []
    else:
        assert table.hears(DOUBTING_FRAME) == []
    table.tell(events.SessionWanted(2))
    begin(table, 2)
    assert [asks_about_a_doubtful_draft(table, session) for session in range(3)] == [True] * 3


@pytest.mark.parametrize("tuner", ["edge", "cloud"])
def test_none_takes_all_sessions_back_to_what_they_began_with(tuner: TunerPlace) -> None:
    table = tuned(tuner, sessions=2)
    table.tell(events.ThresholdsProposed(1, DOUBTING))
    if tuner == "edge":
        table.tell(events.ThresholdsProposed(2, None))
    else:
        table.hears(frames.Thresholds(2, None, 0.0, 1, 1))
    table.tell(events.SessionWanted(2))
    begin(table, 2)
    assert [asks_about_a_doubtful_draft(table, session) for session in range(3)] == [False] * 3


@pytest.mark.parametrize("tuner", ["off", "edge"])
def test_thresholds_of_a_cloud_that_was_not_asked_are_passed_over(tuner: TunerPlace) -> None:
    table = tuned(tuner)
    confirm(table, 2 * TRIAL_TOKENS)
    assert table.hears(DOUBTING_FRAME) == []
    assert reports(confirm(table, 2 * TRIAL_TOKENS)) == [], "it was taken for the answer to our report"
    if table.side._drafting is not None:
        table.aborts()
    assert not asks_about_a_doubtful_draft(table)
    assert table.side.phase is EdgePhase.READY


def test_drafts_of_before_the_trial_do_not_count_for_it() -> None:
    table = tuned("edge")
    table.drafts(11, 12, 13, 14)
    table.tell(events.ThresholdsProposed(1, DOUBTING))
    assert reports(table.hears(verdict(3, 2, *[50] * 25), 1.0)) == []
    (report,) = reports(confirm(table, TRIAL_TOKENS, now=1.5))
    assert report == TrialReport(
        1, ((TRIAL_TOKENS, 500.0, 0.0, 0.0),), report.drafts, report.astray, (), 100, 1
    )
    assert [accepted for _, _, accepted in report.drafts] == [True, True, False]


def test_what_was_confirmed_by_one_verdict_may_end_before_the_drafts_of_before() -> None:
    table = tuned("edge")
    table.drafts(11, 12, 13, 14)
    table.tell(events.ThresholdsProposed(1, DOUBTING))
    table.hears(verdict(3, 1, 12), 1.0)
    table.hears(verdict(5, 1, 14), 1.25)
    (report,) = reports(confirm(table, TRIAL_TOKENS, now=1.5))
    assert report.verdicts == ((TRIAL_TOKENS, 250.0, 0.0, 0.0),)


def test_when_drafts_of_before_were_wrong_the_trial_begins_at_once() -> None:
    table = tuned("edge")
    table.drafts(*[11] * 10)
    table.tell(events.ThresholdsProposed(1, DOUBTING))
    table.hears(verdict(3, 0, 50), 1.0)
    assert table.ledger().confirmed == 4
    (report,) = reports(confirm(table, TRIAL_TOKENS, now=1.5))
    assert report.verdicts == ((TRIAL_TOKENS, 500.0, 0.0, 0.0),)


def test_a_text_that_is_taken_back_counts_from_its_prompt_on() -> None:
    table = tuned("edge")
    confirm(table, 200)
    table.tell(events.ThresholdsProposed(1, DOUBTING))
    table.tell(wish(3, base=1, most=100))
    confirm(table, 1, now=1.0)
    assert len(reports(confirm(table, TRIAL_TOKENS, now=1.5))) == 1


def test_a_trial_goes_on_while_nothing_changes() -> None:
    """A proposal of what is in use already leaves drafts that are on their way as good as any."""
    table = tuned("edge")
    table.tell(events.ThresholdsProposed(1, DOUBTING))
    table.drafts(11, 12, 13, 14)
    table.tell(events.ThresholdsProposed(2, DOUBTING))
    (report,) = reports(table.hears(verdict(3, 4, *[50] * 16), 1.0))
    assert (report.trial, len(report.verdicts)) == (2, 1)


def test_a_cloud_that_does_not_tune_cannot_be_told_to() -> None:
    side = greeting(EdgeRules(tuner="cloud"))
    bye, close = hears(side, grant(tunes=False))
    told = failure([close])
    assert told.code == "usage"
    assert isinstance(told.error(), UsageError)
    assert "tuner" in told.message
    assert bye == send(frames.Bye(told.message))
    assert side.phase is EdgePhase.CLOSED


@pytest.mark.parametrize("tuner", ["off", "edge", "cloud", "auto"])
@pytest.mark.parametrize("limits", [(0.5, 0.5, 2, 3), (0.5, 0.5, 0, 0), (0.5, 0.5, 4, 0)])
def test_impossible_thresholds_are_the_clouds_fault(
    tuner: TunerPlace, limits: tuple[float, float, int, int]
) -> None:
    table = tuned(tuner)
    answer = table.hears(frames.Thresholds(1, *limits))
    (fault,) = [command.frame for command in answer if isinstance(command, SendFrame)]
    assert isinstance(fault, frames.Fault)
    assert "thresholds" in fault.message
    assert table.side.phase is EdgePhase.CLOSED


# -- a cloud that lies ------------------------------------------------------------------------------------

digits = st.integers(0, 99)


@given(
    st.lists(st.tuples(st.integers(0, 37), digits, digits), min_size=20, max_size=60),
    policies,
    st.integers(1, 8),
    st.sampled_from([0.0, 0.0, 9.0, 1e6]),
    st.sampled_from(get_args(Offline)),
)
@settings(max_examples=200, deadline=None)
def test_whatever_the_cloud_says_the_edge_keeps_its_head(
    moves: list[Move], policy: Policy, window: int, away_s: float, offline: Offline
) -> None:
    """It acts, calls again or gives up; its books hold, and no answer stands still while the link lives."""
    rules = EdgeRules(
        policy=policy,
        window_tokens=window,
        patience=Patience(away_s=away_s),
        offline=offline,
        offline_tokens=6,
        clouds=2,
    )
    cloud = HostileCloud(rules, grant(context_tokens=40))
    for move in moves:
        cloud.move(move)


# -- a cloud without room ---------------------------------------------------------------------------------

NO_ROOM = frames.Fault(0, "busy", "all 4 sessions are taken", 1_000)


def turned_away(rules: EdgeRules | None = None) -> tuple[EdgeTable, float]:
    """A prompt, two drafts that were sent with an ask, and the cloud's word that there is no room."""
    table = EdgeTable(rules)
    table.tell(wish(1, 2, 3))
    table.drafts(10, 11)
    (wait,) = (command for command in table.hears(NO_ROOM, 5.0) if isinstance(command, NoteWait))
    assert wait.reason == "all 4 sessions are taken"
    assert table.side.deadline() == 5.0 + wait.wait_s
    return table, 5.0 + wait.wait_s


def test_a_session_that_was_turned_away_waits_and_says_everything_again() -> None:
    table, until = turned_away()
    assert table.phase() is TextPhase.DRAFTING
    assert table.tell(events.DeadlineReached(), until - 0.001) == []
    answer = table.tell(events.DeadlineReached(), until)
    again = [command.frame for command in answer if isinstance(command, SendFrame)]
    whole = restore((True, (1, 2, 3)), start=3, most=50)
    assert again == [frames.Close(0), frames.Open(0), whole, draft(3, 10, 11, ask=5, epoch=2)]
    assert any(isinstance(command, DraftNext) for command in table.drafts(12, now=until))
    table.hears(frames.Opened(0), until)
    assert table.hears(verdict(3, 2, 12, epoch=2), until)[0] == emit(10, 11, 12)
    assert table.side.sessions[0].ledger.confirmed == 6


def test_a_session_that_waits_neither_drafts_nor_sends() -> None:
    table, _ = turned_away()
    started = table.steps_started
    table.drafts(12)
    assert table.steps_started == started
    assert table.idles(6.0) == []


def test_a_session_that_is_open_only_says_its_text_again() -> None:
    table = EdgeTable()
    table.hears(frames.Opened(0))
    table.tell(wish(1, 2, 3))
    table.hears(frames.Fault(0, "busy", "prompts wait", 500), 1.0)
    deadline = table.side.deadline()
    assert deadline is not None
    answer = table.tell(events.DeadlineReached(), deadline)
    assert sent_frames(answer) == [
        restore((True, (1, 2, 3)), start=3, most=50),
        draft(3, ask=4, epoch=2),
    ]


def test_so_does_one_that_was_turned_away_in_the_middle_of_its_text() -> None:
    table = EdgeTable()
    table.hears(frames.Opened(0))
    table.tell(wish(1, 2, 3))
    table.hears(verdict(3, 0, 10))
    table.tell(wish(4, base=4))
    table.hears(frames.Fault(0, "busy", "prompts wait", 500), 1.0)
    deadline = table.side.deadline()
    assert deadline is not None
    whole = restore((True, (1, 2, 3)), (False, (10,)), (True, (4,)), epoch=3, start=5, most=50)
    assert sent_frames(table.tell(events.DeadlineReached(), deadline))[0] == whole


def test_a_prompt_that_is_given_at_the_door_waits_there() -> None:
    table, until = turned_away()
    assert sent_frames(table.tell(wish(7, 8, base=0), 6.0)) == []
    assert sent_frames(table.tell(events.DeadlineReached(), until)) == [
        frames.Close(0),
        frames.Open(0),
        restore((True, (7, 8)), epoch=3, start=2, most=50),
        draft(2, ask=3, epoch=3),
    ]


def test_who_is_turned_away_again_waits_longer() -> None:
    table, until = turned_away()
    table.tell(events.DeadlineReached(), until)
    (wait,) = (command for command in table.hears(NO_ROOM, until) if isinstance(command, NoteWait))
    assert wait.wait_s >= 1.0
    assert table.side.deadline() == until + wait.wait_s
    answer = sent_frames(table.tell(events.DeadlineReached(), until + wait.wait_s))
    assert restore((True, (1, 2, 3)), epoch=3, start=3, most=50) in answer


def test_an_answer_that_waits_can_be_given_up() -> None:
    table, until = turned_away()
    assert [type(command) for command in table.tell(events.GenerationCancelled(0), 6.0)] == [FinishGeneration]
    again = sent_frames(table.tell(events.DeadlineReached(), until))
    assert again == [frames.Close(0), frames.Open(0), restore((True, (1, 2, 3)), epoch=3)]


def test_a_cloud_that_never_has_room_fails_the_session() -> None:
    table = EdgeTable(EdgeRules(patience=Patience(busy_s=0.1)))
    table.tell(wish(1, 2, 3))
    (failed,) = (command for command in table.hears(NO_ROOM) if isinstance(command, FailGeneration))
    assert (failed.failure.code, failed.failure.message) == ("busy", "all 4 sessions are taken")
    assert table.side.deadline() is None


def test_a_connection_that_is_refused_for_a_while_says_for_how_long() -> None:
    (closed,) = hears(greeting(), frames.Refuse("busy", "no connection is free", 2_000))
    assert isinstance(closed, CloseLink)
    error = closed.failure.error()
    assert isinstance(error, RefusedError)
    assert (error.retryable, error.retry_s) == (True, 2.0)
