"""The tuner's process: what it obeys, how it is spoken to, and when it ends."""

import io
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd import tuning_worker
from pipesd.planner.trigger import Thresholds
from pipesd.tuning import Desk, Proposal
from pipesd.tuning_worker import LENGTH_BYTES, Desks, Order, pack
from pipesd.values import COST_WEIGHTS, TrialReport

DRAFTS = ((0.95, 0.9, True),) * 30 + ((0.5, 0.5, False),) * 10
HERE = (40.0, 2.0, 60.0, 5.0, 1.0, 90.0, 2.0)
REPORT = TrialReport(0, ((20, 900.0, 300.0, 0.0),), DRAFTS, (0.3,), HERE)
PATIENCE_S = 60


def order(client: int, trial: int = 0) -> Order:
    return Order(client, "balanced", msgspec.structs.replace(REPORT, trial=trial))


def answers_in(data: bytes) -> list[Proposal]:
    """All that came out of the pipe; nothing but whole messages may."""
    pipe, found = io.BytesIO(data), []
    while length := pipe.read(LENGTH_BYTES):
        body = pipe.read(int.from_bytes(length, "big"))
        found.append(msgspec.msgpack.decode(body, type=Proposal))
    return found


# -- orders -------------------------------------------------------------------------------------------------


def test_each_client_has_trials_of_its_own() -> None:
    desks = Desks()
    numbers = [(desks.obey(order(client, trial)) or Proposal(-1, None)).trial for client, trial in TURNS]
    assert numbers == [1, 2, 1, 3]


TURNS = [(7, 0), (7, 1), (8, 0), (7, 2)]


def test_a_client_that_has_gone_is_forgotten_and_gets_no_answer() -> None:
    desks = Desks()
    desks.obey(order(7))
    desks.obey(order(7, 1))
    gone = Order(7, "balanced", None)
    assert [desks.obey(gone), desks.obey(gone)] == [None, None]
    proposal = desks.obey(order(7))
    assert proposal is not None
    assert proposal.trial == 1


def test_a_fault_of_the_tuner_costs_nobody_but_the_client_whose_report_it_was(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    advise = Desk.advise

    def faulty(desk: Desk, report: TrialReport) -> Proposal:
        if report.astray == (1.0,):
            raise ZeroDivisionError("one of ours")
        return advise(desk, report)

    monkeypatch.setattr(Desk, "advise", faulty)
    desks = Desks()
    first = [desks.obey(order(client)) for client in (7, 8)]
    bad = Order(7, "balanced", msgspec.structs.replace(REPORT, trial=1, astray=(1.0,)))
    kept = [desks.obey(bad), desks.obey(bad)]
    assert first[0] is not None
    assert kept == [Proposal(2, first[0].thresholds), Proposal(3, first[0].thresholds)]
    others = [desks.obey(order(8, 1)), desks.obey(order(7, 3))]
    assert [other and other.trial for other in others] == [2, 4]
    (said,) = caplog.records
    assert "one edge keeps its thresholds" in said.getMessage()
    assert said.exc_info is not None


counts = st.sampled_from([0, 1, 20, 2**53 - 1]) | st.integers(0, 40)
times = st.sampled_from([0.0, 5e-324, 1e-9, 40.0, 1e9, 2.0**52]) | st.floats(0.0, 1e4)
shares = st.sampled_from([0.0, 5e-324, 0.5, 1.0]) | st.floats(0.0, 1.0)
many_drafts = st.lists(st.tuples(shares, shares, st.booleans()), max_size=4).map(lambda few: tuple(few * 12))
reports = st.builds(
    TrialReport,
    st.integers(0, 4),
    st.lists(st.tuples(counts, times, times, times), max_size=5).map(tuple),
    many_drafts,
    st.lists(shares, max_size=4).map(tuple),
    st.just(()) | st.tuples(*[times] * 7) | st.lists(times, max_size=16).map(tuple),
)


@given(st.lists(reports, min_size=1, max_size=6), st.sampled_from(list(COST_WEIGHTS)))
@settings(max_examples=60, deadline=None)
def test_whatever_a_peer_reports_there_is_an_answer(told: list[TrialReport], objective: str) -> None:
    """One peer's nonsense must not cost the others their tuner."""
    desks = Desks()
    for trial, report in enumerate(told):
        numbered = msgspec.structs.replace(report, trial=trial)
        proposal = desks.obey(Order(1, objective, numbered))  # type: ignore[arg-type]
        assert proposal is not None
        assert proposal.trial == trial + 1


# -- the pipe -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        order(7, 3),
        Order(2**31, "cost", None),
        Proposal(1, None),
        Proposal(2**53 - 1, Thresholds(0.0, 0.999, 32, 8)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_comes_back_as_it_went(message: Order | Proposal) -> None:
    packed = pack(message)
    assert int.from_bytes(packed[:LENGTH_BYTES], "big") == len(packed) - LENGTH_BYTES
    assert msgspec.msgpack.decode(packed[LENGTH_BYTES:], type=type(message)) == message


@pytest.mark.parametrize("cut", [0, 1, LENGTH_BYTES - 1])
def test_it_serves_until_its_input_ends(cut: int) -> None:
    """Even in the middle of a length: whoever wrote it is gone."""
    orders = b"".join([pack(order(7)), pack(Order(7, "balanced", None)), pack(order(8)), pack(order(8, 1))])
    answers = io.BytesIO()
    tuning_worker._serve(io.BytesIO(orders + bytes(cut)), answers)
    assert [answer.trial for answer in answers_in(answers.getvalue())] == [1, 1, 2]


def run(program: list[str], orders: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *program], input=orders, capture_output=True, timeout=PATIENCE_S, check=True
    )


QUICK = """
from pipesd import tuning_worker

tuning_worker.Desks.obey = lambda desks, order: tuning_worker.Proposal(order.client, None)
tuning_worker.main()
"""

NOISY = """
import os, sys
from pipesd import tuning_worker

def obey(desks, order):
    print("a word from a library", flush=True)
    os.write(1, b"and one past Python")
    return tuning_worker.Proposal(order.client, None)

tuning_worker.Desks.obey = obey
tuning_worker.main()
"""


def test_what_is_printed_does_not_reach_the_pipe() -> None:
    done = run(["-c", NOISY], pack(order(7)) + pack(order(9)))
    assert answers_in(done.stdout) == [Proposal(7, None), Proposal(9, None)]
    assert b"a word from a library" in done.stderr
    assert b"and one past Python" in done.stderr


def test_it_ends_in_silence_if_nobody_is_left_to_be_answered() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", QUICK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stderr is not None
        worker.stdout.close()
        worker.stdin.write(pack(order(7)))
        worker.stdin.close()
        assert worker.stderr.read() == b""
        assert worker.wait(PATIENCE_S) == 0


def test_as_a_process_it_answers_and_ends_with_its_input() -> None:
    done = run(["-m", "pipesd.tuning_worker"], pack(order(7)) + pack(order(7, 1)))
    assert [answer.trial for answer in answers_in(done.stdout)] == [1, 2]
    assert done.stderr == b""
