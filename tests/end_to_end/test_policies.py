"""Policies as a user names them: all but one give the target's text, and that one says that it does not."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipesd.engines.traces import shipped_trace
from pipesd.planner.policies import POLICIES
from pipesd.summary import UNVERIFIED
from pipesd.trace_events import Bar, Label, read
from tests.end_to_end.processes import (
    expect_failure,
    finish,
    generate,
    interrupt,
    read_some,
    run,
    serving,
    start,
)

RECORDED = ("--engine", "replay", "--trace", str(shipped_trace("chat")))
PROMPT = ("-p", "chat/8")
ALONE = ("--policy", "edge-only")
VERIFIED_POLICIES = [name for name, policy in POLICIES.items() if policy.writers != "edge"]


@pytest.fixture(scope="module")
def recorded() -> Iterator[str]:
    """A cloud with the recorded target."""
    with serving(*RECORDED) as (_, address):
        yield address


@pytest.fixture(scope="module")
def reference() -> dict[str, object]:
    """What the recorded target says alone."""
    return answer_of(run("cloud", "generate", *RECORDED, *PROMPT, "--json"))


def answer_of(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


# --- with a cloud ---


@pytest.mark.parametrize("policy", VERIFIED_POLICIES)
def test_the_text_is_the_targets_whatever_the_policy(
    recorded: str, reference: dict[str, object], policy: str
) -> None:
    answer = answer_of(generate(recorded, *RECORDED, *PROMPT, "--json", "--policy", policy))
    for name in ("text", "token_ids", "finish", "verified"):
        assert answer[name] == reference[name], name
    assert answer["verified"] is True
    assert (answer["drafted"] == 0) == (policy == "cloud-only")


def test_a_policy_that_does_not_exist_is_answered_with_those_that_do(recorded: str) -> None:
    done = generate(recorded, *RECORDED, *PROMPT, "--policy", "nonsense")
    expect_failure(done, 2, "--policy", "nonsense", *POLICIES)


def test_an_impossible_threshold_is_named(recorded: str) -> None:
    done = generate(recorded, *RECORDED, *PROMPT, "--policy", "hsl", "--r2", "2")
    expect_failure(done, 2, "r2: ", "at most 1", "command line")


# --- without one ---


def test_the_draft_alone_needs_no_cloud_and_is_marked(reference: dict[str, object]) -> None:
    done = run("edge", "generate", *RECORDED, *PROMPT, *ALONE, "--cloud", "127.0.0.1:1", "--json")
    answer = answer_of(done)
    assert done.stderr == ""
    assert answer["verified"] is False
    assert (answer["passes"], answer["sent_bytes"]) == (0, None)
    assert answer["drafted"] == answer["tokens"] != 0
    assert answer["prompt_ids"] == reference["prompt_ids"]
    assert answer["text"] != reference["text"]


def test_the_draft_alone_says_what_the_target_would_if_they_agree() -> None:
    prompt = ("-p", "Once upon a time", "--tokens-max", "40", "--temperature", "0.9")
    done = run("edge", "generate", *ALONE, "--agreement", "1", *prompt)
    assert done.stdout == run("cloud", "generate", *prompt).stdout
    assert UNVERIFIED in done.stderr.splitlines()[-1]
    other = run("edge", "generate", *ALONE, "--agreement", "0.2", *prompt)
    assert other.stdout != done.stdout


def test_a_chat_with_the_draft_alone_says_so_once_at_its_start() -> None:
    done = run("edge", "chat", *ALONE, "--tokens-max", "9", script="Tell me\nGo on\n/stats\n")
    assert done.returncode == 0
    assert done.stdout.count("\n") == 2
    first, text, last, every = done.stderr.splitlines()
    assert first.startswith(UNVERIFIED)
    assert text.startswith("unverified: scripted")
    assert text.endswith("text of 30 tokens")
    assert last.endswith(UNVERIFIED)
    assert every.startswith("2 complete: ")


@pytest.mark.parametrize("name", ["generate", "chat"])
def test_of_a_draft_alone_there_is_nothing_to_trace(name: str, tmp_path: Path) -> None:
    path = tmp_path / "edge.json"
    prompt = ("-p", "x") if name == "generate" else ()
    done = run("edge", name, *prompt, *ALONE, "--trace-out", str(path))
    expect_failure(done, 2, "trace_out: ", "edge-only", "leave it out")
    assert not path.exists()


@pytest.mark.parametrize("name", ["generate", "chat"])
@pytest.mark.parametrize("policy", ["cloud-only", "edge-only"])
def test_a_setting_that_would_change_nothing_is_refused(name: str, policy: str) -> None:
    prompt = ("-p", "x") if name == "generate" else ()
    done = run("edge", name, *prompt, "--policy", policy, "--r1", "0.5", "--cloud", "127.0.0.1:1")
    expect_failure(done, 2, f"r1: changes nothing in {policy}", "leave it out")


def test_a_draft_alone_can_be_interrupted() -> None:
    slow = ("-p", "Once upon a time", "--draft-ms", "50", "--tokens-max", "200")
    with start("edge", "generate", *ALONE, *slow) as edge:
        read_some(edge, 5)
        interrupt(edge)
        assert finish(edge)[::2] == (130, "pipesd-edge: interrupted\n")


# --- timelines ---


def bars(path: Path, lane: str, name: str) -> list[Bar]:
    """What is called ``name`` on the lane."""
    timeline = read(path)
    lanes = {event.tid for event in timeline if isinstance(event, Label) and event.args.get("name") == lane}
    assert len(lanes) == 1
    return [
        event for event in timeline if isinstance(event, Bar) and event.tid in lanes and event.name == name
    ]


def overlap(one: Bar, other: Bar) -> bool:
    return one.ts < other.ts + other.dur and other.ts < one.ts + one.dur


@pytest.mark.parametrize(
    ("policy", "overlapping", "stop", "code", "words"),
    [
        ("pipesd-always-ahead", True, signal.SIGTERM, 0, ""),
        ("vanilla", False, signal.SIGINT, 130, "pipesd-cloud: interrupted\n"),
    ],
    ids=["ahead", "in turns"],
)
def test_timelines_of_both_sides_show_whether_one_drafts_while_the_other_verifies(
    policy: str, overlapping: bool, stop: signal.Signals, code: int, words: str, tmp_path: Path
) -> None:
    edge_out, cloud_out = tmp_path / "edge.json", tmp_path / "cloud.json"
    paced = (*RECORDED, "--pass-ms", "30", "--pass-token-ms", "1", "--trace-out", str(cloud_out))
    with serving(*paced) as (cloud, address):
        flags = ("--policy", policy, "--draft-ms", "6", "--trace-out", str(edge_out))
        done = generate(address, *RECORDED, *PROMPT, *flags)
        assert done.returncode == 0, done.stderr
        cloud.send_signal(stop)
        assert finish(cloud) == (code, "", words)
    for path in (edge_out, cloud_out):
        assert isinstance(json.loads(path.read_bytes()), list), "it is not complete"
    drafting, verifying = bars(edge_out, "drafting", "guess"), bars(cloud_out, "verifying", "pass")
    assert len(drafting) > 20
    assert len(verifying) > 5
    assert any(overlap(step, work) for step in drafting for work in verifying) == overlapping


def test_a_chat_can_be_traced_and_a_timeline_that_is_interrupted_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "edge.json"
    with (
        serving("--pass-ms", "20") as (_, address),
        start("edge", "chat", "--cloud", address, "--trace-out", str(path)) as edge,
    ):
        assert edge.stdin is not None
        edge.stdin.write("Tell me of the water.\n")
        edge.stdin.flush()
        read_some(edge, 10)
        interrupt(edge)
        assert finish(edge)[::2] == (130, "pipesd-edge: interrupted\n")
    assert isinstance(json.loads(path.read_bytes()), list)
    assert bars(path, "drafting", "guess") != []


def test_a_timeline_is_kept_if_no_cloud_is_there(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text("what was there")
    for path in (old, new):
        done = run("edge", "generate", "-p", "x", "--cloud", "127.0.0.1:1", "--trace-out", str(path))
        expect_failure(done, 1, "127.0.0.1:1")
    assert old.read_text() == "what was there"
    assert not new.exists()


def test_a_timeline_that_cannot_be_written_is_said_first(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "missing" / "timeline.json")
    for side, *words in (("edge", "generate", "-p", "x"), ("edge", "chat"), ("cloud", "serve")):
        expect_failure(run(side, *words, "--trace-out", nowhere), 2, "trace_out: ", "timeline.json")
