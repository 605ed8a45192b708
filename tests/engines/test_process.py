"""A target model in a process of its own: the same picks, and what happens when that process ends."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pipesd.config import CloudConfig
from pipesd.engines import process
from pipesd.engines.choose import open_target
from pipesd.engines.process import PROGRAM, ProcessTarget, Restarts
from pipesd.engines.scripted import ScriptedTarget
from pipesd.engines.traces import shipped_traces
from pipesd.errors import (
    EngineError,
    EngineLostError,
    InterruptedStepError,
    PipeSDError,
    TraceError,
    UsageError,
)
from pipesd.values import Sampling, Slice
from tests.children import children
from tests.contracts.engines import check_chunks_do_not_matter, check_target_engine
from tests.engines.odd import STUCK, odd

PATIENCE_S = 60
CONFIG = CloudConfig(engine="scripted", context_tokens=200_000)
AT_ONCE = Restarts(pause_s=0.0)
TOKENS = (1, 2, 3)

Program = Sequence[str]


def part(tokens: tuple[int, ...] = TOKENS, base: int = 0, sequence: int = 0) -> Slice:
    return Slice(sequence, base, tokens, 1, False, Sampling(), 0)


PICKS = ScriptedTarget().forward([part()])


@contextmanager
def loaded(
    program: Program = PROGRAM, restarts: Restarts = AT_ONCE, config: CloudConfig = CONFIG
) -> Iterator[ProcessTarget]:
    """A target that is ready; in the end nothing is left of it."""
    before = children()
    with closing(ProcessTarget(config, restarts, program)) as engine:
        engine.start()
        yield engine
    assert children() == before


def process_of(engine: ProcessTarget) -> psutil.Process:
    """The one in which it is now, if there is no other of the kind."""
    assert engine.identity.model
    (found,) = [child for child in children() if child.status() != psutil.STATUS_ZOMBIE]
    return found


def kill(engine: ProcessTarget) -> None:
    child = process_of(engine)
    child.kill()
    while child.status() != psutil.STATUS_ZOMBIE:
        pass


@contextmanager
def passing(engine: ProcessTarget) -> Iterator["Future[list[tuple[int, ...]]]"]:
    """A pass in a thread of its own, as the cloud does it."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(engine.forward, [part()])


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """Says that a stuck engine is in a pass."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


# -- all is well --------------------------------------------------------------------------------------------


def test_it_passes_the_check_of_engines() -> None:
    with loaded(config=CloudConfig(engine="scripted", chunk_tokens=8)) as engine:
        check_target_engine(lambda: engine)
        check_chunks_do_not_matter(lambda: engine)


@pytest.mark.parametrize("kind", ["scripted", "replay"])
def test_it_is_who_the_same_engine_is_here(kind: str) -> None:
    config = CloudConfig(engine=kind, script_seed=5, context_tokens=500, chunk_tokens=30)  # type: ignore[arg-type]
    here, text = open_target(config), "HumanEval/0"
    with loaded(config=config) as engine:
        assert engine.identity == here.identity
        known, expected = engine.tokenizer.vocabulary, here.tokenizer.vocabulary
        assert (known.hashes, known.cutting) == (expected.hashes, expected.cutting)
        tokens = here.tokenizer.encode(text)
        assert engine.tokenizer.encode(text) == tokens
        with pytest.raises(UsageError) as caught:
            engine.tokenizer.encode("\ud800")
        with pytest.raises(UsageError) as refused:
            here.tokenizer.encode("\ud800")
        assert str(caught.value) == str(refused.value)
        prompt = Slice(0, 0, tuple(tokens[:30]), 1, True, Sampling(), 0)
        assert engine.forward([prompt]) == here.forward([prompt])


def test_a_pass_may_be_larger_than_a_pipe_and_may_be_empty() -> None:
    long = part(tuple(range(256)) * 500)
    with loaded() as engine:
        assert engine.forward([long]) == ScriptedTarget(context_tokens=200_000).forward([long])
        assert engine.forward([]) == []


def test_a_signal_to_the_group_of_the_cloud_does_not_reach_it() -> None:
    with loaded() as engine:
        assert os.getpgid(process_of(engine).pid) != os.getpgid(0)


# -- the process ends ---------------------------------------------------------------------------------------


def test_a_process_that_was_killed_is_told_once_and_started_anew() -> None:
    with loaded() as engine:
        for number in range(6):
            assert engine.forward([part()]) == PICKS
            kill(engine)
            with pytest.raises(
                EngineLostError, match=r"^the process of the target model was ended by SIGKILL$"
            ):
                engine.forward([part((4,), 3)])
            assert children() == set(), "a zombie"
            assert engine.forward([part()]) == PICKS, number
        with pytest.raises(EngineError):
            engine.forward([part((4,), 5)])


def test_a_process_that_ends_in_a_pass_is_the_same(fifo: Path) -> None:
    with loaded(odd(STUCK.format(fifo=str(fifo)))) as engine:
        for _ in range(2):
            with passing(engine) as done:
                assert fifo.read_text() == "at work"
                process_of(engine).kill()
                with pytest.raises(EngineLostError, match="SIGKILL"):
                    done.result(PATIENCE_S)


def test_a_process_that_hangs_is_killed_and_started_anew(fifo: Path) -> None:
    hasty = replace(CONFIG, pass_timeout_s=1.5)
    once = f"""
        def forward(self, slices):
            if not Path({str(fifo)!r} + ".hung").exists():
                Path({str(fifo)!r} + ".hung").touch()
                threading.Event().wait()
            return self.sane(slices)
    """
    says = r"^the process of the target model was ended by SIGKILL, since a pass took longer than 1\.5 s$"
    with loaded(odd(once), config=hasty) as engine:
        with pytest.raises(EngineLostError, match=says):
            engine.forward([part()])
        assert engine.forward([part()]) == PICKS


def test_a_process_that_does_not_even_read_is_killed_in_time() -> None:
    long = part(tuple(range(256)) * 500)
    with loaded(config=replace(CONFIG, pass_timeout_s=1.5)) as engine:
        process_of(engine).suspend()
        with pytest.raises(EngineLostError, match="a pass took longer"):
            engine.forward([long])


def test_the_deadline_of_a_pass_is_not_that_of_the_next() -> None:
    with loaded(config=replace(CONFIG, pass_timeout_s=60)) as engine:
        for _ in range(3):
            assert engine.forward([part()]) == PICKS
        assert [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)] == []


def test_how_it_ended_is_said() -> None:
    with (
        loaded(odd("def forward(self, slices):\n    os._exit(7)")) as engine,
        pytest.raises(EngineLostError, match="ended with code 7"),
    ):
        engine.forward([part()])


def test_a_release_does_not_hide_the_loss() -> None:
    with loaded() as engine:
        engine.forward([part()])
        kill(engine)
        engine.release(0)
        with pytest.raises(EngineLostError):
            engine.tokenizer.encode("x")
        with pytest.raises(EngineLostError):
            engine.forward([part((4,), 3)])
        engine.release(0)
        assert children() == set(), "a release started a process"
        assert engine.tokenizer.encode("x") == [120]
        assert engine.forward([part()]) == PICKS


def test_a_call_that_was_broken_off_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer would be taken for the next one's."""

    def break_off(_: object) -> None:
        raise KeyboardInterrupt

    with loaded() as engine:
        with monkeypatch.context() as patch:
            patch.setattr(engine, "_has_sent", break_off)
            with pytest.raises(KeyboardInterrupt):
                engine.forward([part()])
        with pytest.raises(EngineLostError):
            engine.forward([part()])
        assert engine.forward([part((7,))]) == ScriptedTarget().forward([part((7,))])


DIES_OF_NINE = """
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        with open({log!r}, "a") as log:
            log.write("started ")

    def forward(self, slices):
        if slices[0].tokens == (9,):
            os._exit(3)
        return self.sane(slices)
"""


def test_a_process_that_ends_again_and_again_fails_its_passes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only at first what it does is tried again; a pass that succeeds forgives it all."""
    log = tmp_path / "log"
    with loaded(odd(DIES_OF_NINE.format(log=str(log))), Restarts(limit=2, pause_s=0.0)) as engine:
        for losses in (3, 5):
            for loss in range(1, losses + 1):
                with pytest.raises(EngineError, match="ended with code 3") as caught:
                    engine.forward([part((9,))])
                assert isinstance(caught.value, EngineLostError) == (loss <= 2)
                assert (f"({loss} times in a row" in str(caught.value)) == (loss > 2)
            assert engine.forward([part()]) == PICKS
    assert log.read_text().split() == ["started"] * (1 + 3 + 5)
    lost = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len([message for message in lost if "ended with code 3" in message]) == 3 + 5
    assert len([message for message in lost if message == "the target model is loaded again"]) == 3 + 5


def test_pauses_grow_to_a_limit() -> None:
    pauses = [Restarts(5, 0.5, 30.0).pause_after_s(losses) for losses in (0, 1, 2, 3, 4, 7, 8, 9, 10**6)]
    assert pauses == [0.0, 0.0, 0.5, 1.0, 2.0, 16.0, 30.0, 30.0, 30.0]


def test_a_start_in_a_row_waits_until_it_is_called_off() -> None:
    endless = Restarts(limit=9, pause_s=3_600.0, pause_max_s=3_600.0)
    with loaded(odd("def forward(self, slices):\n    os._exit(3)"), endless) as engine:
        for _ in range(2):
            with pytest.raises(EngineLostError):
                engine.forward([part()])
        with passing(engine) as done:
            while not done.done():
                engine.interrupt()
            with pytest.raises(InterruptedStepError):
                done.result()
        with passing(engine) as done:
            engine.close()
            with pytest.raises((InterruptedStepError, EngineError)):
                done.result(PATIENCE_S)
        assert children() == set()


# -- it cannot be loaded ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        CloudConfig(engine="replay", traces=("none.jsonl",)),
        CloudConfig(engine="llama", model="nobody"),
        CloudConfig(engine="llama", model="none.gguf"),
    ],
    ids=lambda config: config.model,
)
def test_what_cannot_be_loaded_is_said_as_by_the_engine_itself(config: CloudConfig) -> None:
    with pytest.raises(PipeSDError) as here:
        open_target(config)
    before = children()
    with pytest.raises(type(here.value)) as apart, loaded(config=config):
        raise AssertionError("it was loaded")
    assert (type(apart.value), str(apart.value)) == (type(here.value), str(here.value))
    assert children() == before


def test_a_process_that_ends_while_it_loads_is_one_sentence() -> None:
    killed = odd("def __init__(self, *_, **__):\n    os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(EngineError, match="was ended by SIGKILL while it loaded; if memory"), loaded(killed):
        raise AssertionError("it was loaded")


def test_a_process_that_cannot_be_started_is_an_engine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "no-such-program")
    with pytest.raises(EngineError, match="cannot be started: No such file"), loaded():
        raise AssertionError("it was loaded")


def test_a_model_that_is_gone_at_the_restart_is_a_loss_until_it_is_back(tmp_path: Path) -> None:
    chat = next(path for path in shipped_traces() if path.stem == "chat")
    trace = tmp_path / "own.jsonl"
    trace.write_bytes(chat.read_bytes())
    with loaded(config=CloudConfig(engine="replay", traces=(str(trace),))) as engine:
        prompt = Slice(0, 0, tuple(engine.tokenizer.encode("chat/0")), 1, True, Sampling(), 0)
        picks = engine.forward([prompt])
        kill(engine)
        away = trace.rename(tmp_path / "away")
        for reason in ("SIGKILL", r"cannot be loaded again: .*own\.jsonl", r"own\.jsonl"):
            with pytest.raises(EngineLostError, match=reason):
                engine.forward([prompt])
        away.rename(trace)
        assert engine.forward([prompt]) == picks


def test_another_model_in_the_place_of_the_one_that_was_served_is_refused(tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.write_text("0")
    with loaded(odd(seed=f"int(Path({str(seed)!r}).read_text())")) as engine:
        assert engine.forward([part()]) == PICKS
        seed.write_text("1")
        kill(engine)
        with pytest.raises(EngineLostError):
            engine.forward([part()])
        for _ in range(2):
            with pytest.raises(EngineError, match=r"not the one any more .* start the cloud anew") as caught:
                engine.forward([part()])
            assert not isinstance(caught.value, EngineLostError)
            assert children() == set()
        seed.write_text("0")
        assert engine.forward([part()]) == PICKS


# -- errors and interrupts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        ("EngineError('full; wait')", EngineError, "full; wait"),
        ("TraceError('gone')", TraceError, "gone"),
        ("InterruptedStepError('stopped')", InterruptedStepError, "stopped"),
        ("IndexError('secret')", EngineError, "its engine broke down; the cloud's log says more"),
    ],
)
def test_what_the_engine_raises_is_raised_and_the_process_lives(
    raised: str, kind: type[Exception], message: str
) -> None:
    once = f"def forward(self, slices):\n    Odd.forward = Odd.sane\n    raise {raised}"
    with loaded(odd(once)) as engine:
        before = process_of(engine)
        with pytest.raises(kind) as caught:
            engine.forward([part()])
        assert (type(caught.value), str(caught.value)) == (kind, message)
        assert engine.forward([part()]) == PICKS
        assert process_of(engine) == before


def test_an_interrupt_reaches_an_engine_at_work(fifo: Path) -> None:
    with loaded(odd(STUCK.format(fifo=str(fifo)))) as engine:
        before = process_of(engine)
        engine.interrupt()
        for _ in range(2):
            with passing(engine) as done:
                assert fifo.read_text() == "at work"
                engine.interrupt()
                with pytest.raises(InterruptedStepError, match="stopped by the engine"):
                    done.result(PATIENCE_S)
        assert process_of(engine) == before


def test_a_model_that_is_being_loaded_again_may_be_interrupted(fifo: Path, tmp_path: Path) -> None:
    slow = f"""
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            if Path({str(tmp_path / "slow")!r}).exists():
                Path({str(fifo)!r}).write_text("loading")
                threading.Event().wait()
    """
    with loaded(odd(slow)) as engine:
        kill(engine)
        with pytest.raises(EngineLostError):
            engine.forward([part()])
        (tmp_path / "slow").touch()
        with passing(engine) as done:
            assert fifo.read_text() == "loading"
            engine.interrupt()
            with pytest.raises(InterruptedStepError, match="started anew"):
                done.result(PATIENCE_S)
        (tmp_path / "slow").unlink()
        assert engine.forward([part()]) == PICKS


# -- the end ------------------------------------------------------------------------------------------------


def test_closing_ends_it_at_any_time_and_nothing_follows(
    fifo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with loaded(odd(STUCK.format(fifo=str(fifo)))) as engine, passing(engine) as done:
        assert fifo.read_text() == "at work"
        engine.close()
        assert children() == set()
        with pytest.raises(EngineError, match="was closed"):
            done.result(PATIENCE_S)
        engine.close()
        engine.interrupt()
        engine.release(0)
        with pytest.raises(PipeSDError):
            engine.forward([part()])
        assert children() == set()
    assert caplog.records == []


def test_closing_ends_a_process_that_is_being_loaded(fifo: Path) -> None:
    slow = f"""
        def __init__(self, *_, **__):
            Path({str(fifo)!r}).write_text("loading")
            threading.Event().wait()
    """
    engine = ProcessTarget(CONFIG, program=odd(slow))
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(engine.start)
        assert fifo.read_text() == "loading"
        engine.close()
        assert children() == set()
        with pytest.raises(EngineError):
            done.result(PATIENCE_S)
    with pytest.raises(EngineError, match="was closed"):
        engine.start()


def test_a_process_that_does_not_end_with_its_input_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_S", 0.1)
    with loaded() as engine:
        process_of(engine).suspend()
        engine.close()
        assert children() == set()


def test_one_that_does_not_read_is_killed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_S", 0.1)
    long = part(tuple(range(256)) * 500)
    with loaded() as engine, ThreadPoolExecutor(1) as thread:
        process_of(engine).suspend()
        done = thread.submit(engine.forward, [long])
        while engine._stage != "sending":
            pass
        engine.interrupt()
        engine.close()
        with pytest.raises(EngineError):
            done.result(PATIENCE_S)
        assert children() == set()


PARENT = """
import sys, threading
from pipesd.config import CloudConfig
from pipesd.engines.process import ProcessTarget
from tests.engines.odd import STUCK, odd
from tests.engines.test_process import part

fifo = sys.argv[1]
engine = ProcessTarget(CloudConfig(engine="scripted"), program=odd(STUCK.format(fifo=fifo)))
engine.start()
print(engine._child._process.pid, flush=True)
if sys.argv[2] == "passing":
    engine.forward([part()])
threading.Event().wait()
"""


@pytest.mark.parametrize("moment", ["idle", "passing"])
def test_a_parent_that_is_killed_leaves_no_orphan(moment: str, fifo: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(fifo), moment]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        if moment == "passing":
            assert fifo.read_text() == "at work"
        assert child.is_running()
        parent.kill()
        child.wait(PATIENCE_S)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
