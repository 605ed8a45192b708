"""The process of a target model: what it obeys, what it answers, and when it ends."""

import io
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from pipesd.config import CloudConfig
from pipesd.engines import worker
from pipesd.engines.scripted import ScriptedTarget
from pipesd.engines.worker import (
    LENGTH_BYTES,
    Answer,
    Encode,
    Failed,
    Forward,
    Interrupt,
    Load,
    Order,
    Picks,
    Ready,
    Release,
    Released,
    Tokens,
    Worker,
    messages,
    pack,
)
from pipesd.errors import ConfigError, EngineError, InterruptedStepError, TraceError, UsageError
from pipesd.values import Sampling, Slice
from tests.engines.odd import STUCK, odd

PATIENCE_S = 60
CONFIG = CloudConfig(engine="scripted", script_seed=3, chunk_tokens=16)
LOAD = Load(CONFIG, logging.WARNING)
PART = Slice(0, 0, (1, 2, 3), 2, False, Sampling(temperature=0.5), 2**63 - 1)
PICKS = Picks(tuple(ScriptedTarget(3).forward([PART])))


def answers_in(data: bytes) -> list[Answer]:
    """All that came out of the pipe; nothing but whole messages may."""
    pipe = io.BytesIO(data)
    decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
    found = list(messages(pipe, decoder))
    assert b"".join(pack(answer) for answer in found) == data
    return found


# -- the pipe -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        LOAD,
        Load(CloudConfig(traces=("a", "b"), temperature=0.7), logging.DEBUG),
        Forward(2**40, (PART, Slice(7, 2**20, (), 0, True, Sampling(), 0, copy_of=3))),
        Interrupt(1),
        Release(2**31),
        Encode.of("grüße 🙂 \ud800", special=True),
        Ready(ScriptedTarget().identity, (b"", b"\xff", "世".encode()), b"12345678"),
        Picks(((), (1, 2**31 - 1))),
        Released(),
        Tokens((1, 2)),
        Failed("EngineError", "no"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_comes_back_as_it_went(message: Order | Answer) -> None:
    packed = pack(message)
    assert int.from_bytes(packed[:LENGTH_BYTES], "big") == len(packed) - LENGTH_BYTES
    decoder: msgspec.msgpack.Decoder[Order | Answer] = msgspec.msgpack.Decoder(Order | Answer)
    assert list(messages(io.BytesIO(packed * 2), decoder)) == [message, message]


@pytest.mark.parametrize("cut", [1, LENGTH_BYTES - 1, LENGTH_BYTES, LENGTH_BYTES + 1])
def test_what_the_end_cuts_off_does_not_count(cut: int) -> None:
    decoder: msgspec.msgpack.Decoder[Interrupt] = msgspec.msgpack.Decoder(Interrupt)
    pipe = io.BytesIO(pack(Interrupt(1)) + pack(Interrupt(2))[:cut])
    assert list(messages(pipe, decoder)) == [Interrupt(1)]


# -- orders -------------------------------------------------------------------------------------------------


class Answers(io.BytesIO):
    """Takes so many answers; then nobody is left to take more."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def flush(self) -> None:
        self._count -= 1
        if self._count == 0:
            raise BrokenPipeError


def answered(*orders: Order) -> list[Answer]:
    """What a worker answers that reads all of them before it obeys the first."""
    answers = Answers(sum(not isinstance(order, Interrupt) for order in orders))
    at_work = Worker(io.BytesIO(b"".join(map(pack, orders))), answers)
    at_work.read()
    with pytest.raises(BrokenPipeError):
        at_work.serve()
    return answers_in(answers.getvalue())


def test_orders_are_obeyed_one_after_the_other() -> None:
    target = ScriptedTarget(3)
    again = Slice(0, 3, (4,), 1, False, Sampling(), 0)
    orders = (LOAD, Forward(1, (PART,)), Forward(2, (again,)), Release(0), Encode.of("né", special=False))
    ready, *rest = answered(*orders)
    vocabulary = target.tokenizer.vocabulary
    assert isinstance(ready, Ready)
    assert (ready.identity.model, ready.identity.chunk_tokens) == (target.identity.model, 16)
    assert (ready.pieces, ready.cutting) == (tuple(vocabulary.pieces), vocabulary.cutting)
    target.forward([PART])
    assert rest == [PICKS, Picks(tuple(target.forward([again]))), Released(), Tokens(tuple("né".encode()))]


def test_a_released_sequence_is_empty() -> None:
    far = Forward(2, (Slice(0, 3, (4,), 1, False, Sampling(), 0),))
    *_, failed = answered(LOAD, Forward(1, (PART,)), Release(0), far)
    assert isinstance(failed, Failed), "it went on behind tokens that were to be forgotten"


class Broken(ScriptedTarget):
    def __init__(self, error: Exception) -> None:
        super().__init__(3)
        self.error = error

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        if slices[0].sequence:
            raise self.error
        return super().forward(slices)


class OwnError(TraceError):
    """An engine's own kind of a known error."""


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (EngineError("it failed; do that"), Failed("EngineError", "it failed; do that")),
        (TraceError("gone"), Failed("TraceError", "gone")),
        (OwnError("gone"), Failed("TraceError", "gone")),
        (UsageError("no"), Failed("UsageError", "no")),
        (ConfigError("top_k: no"), Failed("ConfigError", "top_k: no")),
        (InterruptedStepError("stopped"), Failed("InterruptedStepError", "stopped")),
        (IndexError("/a/secret"), Failed("EngineError", "its engine broke down; the cloud's log says more")),
        (MemoryError(), Failed("EngineError", "its engine broke down; the cloud's log says more")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_engine_raises_is_the_answer_and_the_next_pass_is_done(
    error: Exception, failed: Failed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "open_target", lambda _: Broken(error))
    bad = msgspec.structs.replace(PART, sequence=1)
    assert answered(LOAD, Forward(1, (bad,)), Forward(2, (PART,)))[1:] == [failed, PICKS]
    is_known = failed.message == str(error)
    assert ["Traceback" in line for line in caplog.messages] == ([] if is_known else [True])
    assert "/a/secret" not in caplog.text


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        (CloudConfig(engine="replay", traces=("none.jsonl",)), "TraceError", "none.jsonl"),
        (CloudConfig(engine="llama", model="nobody"), "UsageError", "'nobody'"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_an_answer(config: CloudConfig, kind: str, words: str) -> None:
    (failed,) = answered(Load(config, logging.WARNING))
    assert isinstance(failed, Failed)
    assert failed.kind == kind
    assert words in failed.message


# -- interrupts ---------------------------------------------------------------------------------------------


def test_a_pass_that_is_interrupted_before_it_begins_is_not_begun() -> None:
    first, second = Forward(1, (PART,)), Forward(2, (PART,))
    _, failed, picks = answered(LOAD, first, Interrupt(1), second)
    assert isinstance(failed, Failed)
    assert failed.kind == "InterruptedStepError"
    assert picks == PICKS


def test_an_interrupt_that_comes_too_late_hits_no_other_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted: list[int] = []

    class Noting(ScriptedTarget):
        def interrupt(self) -> None:
            interrupted.append(1)

    monkeypatch.setattr(worker, "open_target", lambda _: Noting(3))
    assert answered(LOAD, Interrupt(1), Forward(2, (PART,)), Forward(3, (PART,)))[1:] == [PICKS, PICKS]
    assert interrupted == []


def test_an_interrupt_is_heard_while_the_engine_works(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, stopped = threading.Event(), threading.Event()

    class Slow(ScriptedTarget):
        def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
            begun.set()
            assert stopped.wait(PATIENCE_S)
            raise InterruptedStepError("stopped")

        def interrupt(self) -> None:
            stopped.set()

    class AfterTheBeginning(io.BytesIO):
        """Holds its last message back until the pass has begun."""

        def read(self, size: int | None = -1) -> bytes:
            if self.tell() == len(orders):
                assert begun.wait(PATIENCE_S)
            return super().read(size)

    monkeypatch.setattr(worker, "open_target", lambda _: Slow())
    orders = pack(LOAD) + pack(Forward(1, (PART,)))
    answers = Answers(2)
    at_work = Worker(AfterTheBeginning(orders + pack(Interrupt(1))), answers)
    reader = threading.Thread(target=at_work.read)
    reader.start()
    with pytest.raises(BrokenPipeError):
        at_work.serve()
    reader.join()
    assert answers_in(answers.getvalue())[1] == Failed("InterruptedStepError", "stopped")


# -- the process --------------------------------------------------------------------------------------------


def started(*program: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *program], stdin=pipe, stdout=pipe, stderr=pipe)


def next_answer(process: subprocess.Popen[bytes]) -> Answer:
    assert process.stdout is not None
    decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
    return next(messages(process.stdout, decoder))


def test_as_a_process_it_answers_and_ends_with_its_input() -> None:
    with started("-m", "pipesd.engines.worker") as process:
        assert process.stdin is not None
        process.stdin.write(pack(LOAD) + pack(Forward(1, (PART,))))
        process.stdin.flush()
        assert isinstance(next_answer(process), Ready)
        assert next_answer(process) == PICKS
        assert process.communicate(timeout=PATIENCE_S) == (b"", b"")
    assert process.returncode == 0


NOISY = """
    def forward(self, slices):
        print("a word from a library", flush=True)
        os.write(1, b"and one past Python")
        worker.logger.info("told to those who listen")
        return self.sane(slices)
"""


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_what_is_printed_is_logged_and_does_not_reach_the_pipe(level: int) -> None:
    with started(*odd(NOISY)) as process:
        assert process.stdin is not None
        process.stdin.write(pack(Load(CONFIG, level)) + pack(Forward(1, (PART,))))
        process.stdin.flush()
        assert isinstance(next_answer(process), Ready)
        assert next_answer(process) == PICKS
        out, log = process.communicate(timeout=PATIENCE_S)
    assert out == b""
    assert b"a word from a library" in log
    assert b"and one past Python" in log
    assert (b"pipesd.worker told to those who listen" in log) == (level == logging.INFO)


@pytest.mark.parametrize("content", [False, True])
def test_what_an_engine_says_about_its_fault_is_logged_if_content_may_be(content: bool) -> None:
    broken = "def forward(self, slices):\n    raise IndexError('token 987654')"
    with started(*odd(broken)) as process:
        assert process.stdin is not None
        load = Load(CONFIG, logging.WARNING, log_content=content)
        process.stdin.write(pack(load) + pack(Forward(1, (PART,))))
        process.stdin.flush()
        assert isinstance(next_answer(process), Ready)
        assert isinstance(next_answer(process), Failed)
        _, log = process.communicate(timeout=PATIENCE_S)
    assert b"IndexError" in log
    assert (b"token 987654" in log) == content


def test_it_ends_with_its_input_in_the_middle_of_a_pass(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with started(*odd(STUCK.format(fifo=str(fifo)))) as process:
        assert process.stdin is not None
        process.stdin.write(pack(LOAD) + pack(Forward(1, (PART,))))
        process.stdin.flush()
        assert fifo.read_text() == "at work"
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0


def test_it_ends_in_silence_if_nobody_is_left_to_be_answered() -> None:
    with started("-m", "pipesd.engines.worker") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(pack(LOAD))
        process.stdin.flush()
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == b""


def test_a_fault_of_its_own_is_logged_and_ends_it() -> None:
    wrong = "def forward(self, slices):\n    return [(object(),)]"
    with started(*odd(wrong)) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(pack(LOAD) + pack(Forward(1, (PART,))))
        process.stdin.flush()
        assert process.wait(PATIENCE_S) == 1
        assert b"ends on a fault of pipesd" in process.stderr.read()


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_was_meant_for_the_cloud_does_not_end_it(which: signal.Signals) -> None:
    with started("-m", "pipesd.engines.worker") as process:
        assert process.stdin is not None
        process.stdin.write(pack(LOAD))
        process.stdin.flush()
        assert isinstance(next_answer(process), Ready)
        process.send_signal(which)
        process.stdin.write(pack(Forward(1, (PART,))))
        process.stdin.flush()
        assert next_answer(process) == PICKS
        assert process.communicate(timeout=PATIENCE_S) == (b"", b"")
