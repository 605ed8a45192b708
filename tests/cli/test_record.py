"""``record`` with a scripted pair; no llama.cpp."""

import json
import os
import signal
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from pipesd.cli.record import record
from pipesd.coupling import Logits
from pipesd.engines.choose import cores
from pipesd.engines.manifest import default_model
from pipesd.engines.traces import read_trace
from pipesd.errors import EngineError, TraceError, UsageError
from pipesd.lab import record as lab
from tests.lab.test_record import DRAFT, TARGET, ScriptedText, fake_model

PATIENCE_S = 60
"""After this a test counts as hung; never waited for when all is well."""


class Rig:
    """A folder with models, prompts and recordings; notes how models were opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[tuple[str, str, int]] = []
        self.models = {"small": fake_model(DRAFT, "small"), "large": fake_model(TARGET, "large")}
        for name in self.models:
            (folder / f"{name}.gguf").write_bytes(b"GGUF")
        self.prompts({"id": "one", "prompt": "bc"})

    @property
    def output(self) -> Path:
        return self.folder / "out.jsonl"

    def prompts(self, *lines: object) -> None:
        (self.folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))

    def open_model(self, path: Path, numerics: lab.Numerics, threads: int) -> lab.RecordedModel:
        self.opened.append((path.name, numerics, threads))
        return self.models[path.stem]

    def run(self, *more: str) -> Result:
        arguments = {
            "--draft": str(self.folder / "small.gguf"),
            "--target": str(self.folder / "large.gguf"),
            "--prompts": str(self.folder / "prompts.jsonl"),
            "--kind": "maths",
            "--output": str(self.output),
        }
        given = [word for pair in arguments.items() for word in pair]
        return CliRunner().invoke(record, [*given, *more], standalone_mode=False)

    def left(self) -> list[str]:
        """Files that were not there before."""
        known = {"small.gguf", "large.gguf", "prompts.jsonl"}
        return sorted(path.name for path in self.folder.iterdir() if path.name not in known)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    rig = Rig(tmp_path)
    monkeypatch.setattr(lab, "open_model", rig.open_model)
    monkeypatch.setenv("PIPESD_HOME", str(tmp_path / "home"))
    return rig


def test_a_recording_is_made_and_its_progress_shown(rig: Rig):
    rig.prompts({"id": "one", "prompt": "bc"}, {"id": "two", "prompt": "ca"})
    done = rig.run("--tokens-max", "3", "--numerics", "fast", "--threads", "5")
    assert done.exception is None
    assert rig.opened == [("small.gguf", "fast", 5), ("large.gguf", "fast", 5)]
    trace = read_trace(rig.output)
    assert (trace.header.kind, trace.header.numerics) == ("maths", "fast")
    assert [(prompt.id, prompt.target) for prompt in trace.prompts] == [
        ("one", (3, 4, 5)),
        ("two", (3, 4, 5)),
    ]
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "1 of 2: one, 3 tokens, 33.3% as the draft guessed",
        "2 of 2: two, 3 tokens, 33.3% as the draft guessed",
        f"{rig.output}: 6 tokens, 33.3% as the draft guessed",
    ]
    assert rig.left() == ["out.jsonl"]


def test_without_more_words_numerics_are_exact_and_every_core_works(rig: Rig):
    done = rig.run()
    assert done.exception is None
    assert rig.opened == [("small.gguf", "exact", cores()), ("large.gguf", "exact", cores())]
    assert read_trace(rig.output).prompts[0].target == (3, 4, 5, 11)


def test_a_recording_is_recorded_anew(rig: Rig):
    assert rig.run().exception is None
    again = rig.folder / "again.jsonl"
    assert rig.run("--prompts", str(rig.output), "--output", str(again)).exception is None
    assert again.read_bytes() == rig.output.read_bytes()


def test_the_modes_of_prompts_reach_the_recorder(rig: Rig):
    rig.models["large"] = fake_model(TARGET, "large", template="{{ messages[0].content }}")
    assert rig.run("--raw").exception is None
    done = rig.run("--chat", "--output", str(rig.folder / "more.jsonl"))
    assert isinstance(done.exception, UsageError)
    assert "chat template cannot be used" in str(done.exception)
    assert rig.left() == ["out.jsonl"]


@pytest.mark.parametrize(
    ("more", "failure", "words"),
    [
        (("--prompts", "none"), UsageError, "the prompts none cannot be read"),
        (("--prompts", __file__), UsageError, "line 1: Expected `object`, got `str`"),
        (("--draft", "nobody"), UsageError, "nobody"),
        (("--target", "none.gguf"), UsageError, "there is no file none.gguf"),
        (("--target", __file__ + "/x.gguf"), UsageError, "cannot be read"),
        (("--target", default_model("target").name), EngineError, "is not here; run pipesd-cloud pull"),
        (
            ("--output", "none/out.jsonl"),
            UsageError,
            "output: none/out.jsonl cannot be written in its folder",
        ),
        (("--output", __file__), UsageError, "is there already"),
        (("--output", ""), UsageError, "is there already"),
        (("--chat",), UsageError, "no chat template"),
        (("--chat", "--raw"), click.UsageError, "--chat and --raw exclude each other"),
        (("--kind", "songs"), click.UsageError, "songs"),
        (("--tokens-max", "0"), click.UsageError, "0"),
        (("--numerics", "sloppy"), click.UsageError, "sloppy"),
        (("--threads", "-1"), click.UsageError, "-1"),
        (("extra",), click.UsageError, "extra"),
    ],
)
def test_what_cannot_be_recorded_is_said(rig: Rig, more: Sequence[str], failure: type[Exception], words: str):
    done = rig.run(*more)
    assert isinstance(done.exception, failure)
    assert words in str(done.exception)
    assert "\n" not in str(done.exception)
    assert rig.left() == []


@pytest.mark.parametrize("missing", ["--prompts", "--kind", "--output"])
def test_what_must_be_said_is_asked_for(missing: str):
    given = {"--prompts": "some.jsonl", "--kind": "chat", "--output": "out.jsonl"}
    words = [word for pair in given.items() if pair[0] != missing for word in pair]
    done = CliRunner().invoke(record, words, standalone_mode=False)
    assert isinstance(done.exception, click.UsageError)
    assert missing in done.exception.format_message()


def test_a_broken_prompt_is_said_before_a_model_is_loaded(rig: Rig):
    rig.prompts({"id": "one", "prompt": "bc"}, {"id": "two"})
    done = rig.run()
    assert isinstance(done.exception, UsageError)
    assert "prompts.jsonl, line 2: Object missing required field `prompt`" in str(done.exception)
    assert rig.opened == []


def test_a_model_that_fails_leaves_no_file(rig: Rig):
    def fail(_: int) -> lab.Text:
        raise EngineError("there is no context")

    rig.models["small"] = fake_model(DRAFT, "small", open_text=fail)
    done = rig.run()
    assert str(done.exception) == "there is no context"
    assert rig.left() == []


def test_a_file_that_cannot_be_written_is_said(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    done = rig.run()
    assert isinstance(done.exception, TraceError)
    assert "cannot be written: no space left on device" in str(done.exception)
    assert rig.left() == []


class InterruptedText(ScriptedText):
    """Has the process interrupted while it reads the second prompt, and works on until ``released``."""

    def __init__(self, released: threading.Event, *given: Any) -> None:
        super().__init__(*given)
        self._released = released
        self._prompts = 0

    def read(self, tokens: Sequence[int], *, prompt: bool = False) -> Logits:
        self._prompts += prompt
        if self._prompts == 2:
            os.kill(os.getpid(), signal.SIGINT)
            self._released.wait(PATIENCE_S)
            raise EngineError("nobody listens any more")
        return super().read(tokens, prompt=prompt)


def test_an_interrupt_ends_it_at_once_and_leaves_no_file(rig: Rig):
    rig.prompts({"id": "one", "prompt": "bc"}, {"id": "two", "prompt": "ca"})
    released = threading.Event()
    text = partial(InterruptedText, released, TARGET, 12)
    rig.models["large"] = fake_model(TARGET, "large", open_text=text)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = rig.run()
    finally:
        released.set()
        signal.signal(signal.SIGINT, before)
    assert isinstance(done.exception, click.Abort)
    assert done.stderr.splitlines()[0] == "1 of 2: one, 4 tokens, 50.0% as the draft guessed"
    assert rig.left() == []


def test_the_help_names_the_defaults():
    said = " ".join(CliRunner().invoke(record, ["--help"]).stdout.split())
    assert "default: qwen2.5-coder-0.5b" in said
    assert "default: qwen2.5-coder-1.5b" in said
    assert "default: 160" in said
