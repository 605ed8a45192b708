"""What a peer that lies, or is merely built otherwise, cannot bring about."""

import pytest

from pipesd.errors import UsageError
from pipesd.session import events
from pipesd.session.commands import FinishGeneration, SendFrame
from pipesd.session.edge_side import EdgeSide
from pipesd.session.phases import EdgePhase, TextPhase
from pipesd.session.rules import EdgeRules
from pipesd.wire import frames
from tests.session.helpers import (
    END,
    VOCABULARY,
    CloudTable,
    EdgeTable,
    draft,
    faults,
    grant,
    prompt,
    send,
    verdict,
    wish,
)


def test_an_edge_cannot_have_the_prompt_said_back_to_it():
    """A few bytes would otherwise make a reply of megabytes, once per epoch."""
    table = CloudTable()
    table.hears(prompt(*range(90)))
    assert faults(table.hears(draft(89, epoch=2))) == [(0, None, "protocol")]


@pytest.mark.parametrize(
    "frame",
    [
        verdict(3, 0, END),
        verdict(3, 0, END, 5),
        verdict(3, 0, END, 5, finish="stop"),
        verdict(3, 1, 7, finish="stop"),
    ],
)
def test_text_behind_an_end_id_or_an_end_without_finish_is_a_fault(frame):
    table = EdgeTable()
    table.tell(wish(1, 2, 3))
    table.drafts(END)
    table.hears(frame)
    assert table.side.phase is EdgePhase.CLOSED


def test_an_end_id_that_also_meets_the_limit_may_be_called_length():
    table = EdgeTable()
    table.tell(wish(1, 2, 3, most=1))
    table.hears(verdict(3, 0, END, finish="length"))
    assert table.phase() is TextPhase.IDLE


def test_a_failure_of_a_step_begun_for_an_earlier_prompt_does_not_stop_drafting():
    table = EdgeTable()
    table.tell(wish(1, 2, 3))
    table.tell(wish(4, base=3))
    table.tell(events.DraftFailed(1, "late"))
    assert table.steps_started == 2


def test_a_session_left_in_mid_answer_ends_the_answer():
    table = EdgeTable()
    table.tell(wish(1, 2, 3))
    answer = table.tell(events.SessionLeft(0))
    assert [command.finish for command in answer if isinstance(command, FinishGeneration)] == [None]
    sent = [command.frame for command in answer if isinstance(command, SendFrame)]
    assert sent == [frames.Cancel(0, 2), frames.Close(0)]


def test_a_link_that_opens_after_the_stop_is_not_greeted():
    side = EdgeSide(EdgeRules(), VOCABULARY)
    side.handle(events.StopRequested(), 0.0)
    assert side.handle(events.LinkOpened(), 0.0) == []
    assert side.phase is EdgePhase.CLOSED


def test_a_prompt_that_fits_no_frame_is_the_callers_error():
    table = EdgeTable(welcome=grant(context_tokens=2**30))
    with pytest.raises(UsageError, match="several turns"):
        table.tell(wish(*[1] * (frames.PROMPT_TOKENS_MAX + 1)))
    assert table.tell(wish(1))[0] == send(prompt(1))


def test_a_huge_token_of_a_foreign_vocabulary_makes_no_huge_sentence():
    table = EdgeTable(welcome=grant(vocabulary_hashes=b"otherwise"[:8]), sessions=0)
    answer = table.hears(frames.Block(0, (b"x" * 300_000,)))
    byes = [command.frame for command in answer if isinstance(command, SendFrame)]
    assert isinstance(byes[0], frames.Bye)
    assert "b'xxx" in byes[0].reason
    assert len(byes[0].reason) < 500
