import base64
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.engines.traces import (
    SHIPPED_SETS,
    Trace,
    ids_in,
    load,
    read_trace,
    shipped_trace,
    shipped_traces,
    write_trace,
)
from pipesd.errors import EngineError, TraceError, UsageError

Json = dict[str, Any]

HEADER: Json = {
    "format": "pipesd-trace/1",
    "kind": "code",
    "draft": "small",
    "target": "large",
    "draft_sha256": "aa",
    "target_sha256": "bb",
    "numerics": "exact",
    "vocabulary": 10,
    "end_ids": [9],
    "pieces": {str(token): base64.b64encode(bytes([97 + token])).decode() for token in range(9)},
}
PROMPT: Json = {
    "id": "one",
    "prompt_tokens": [1, 2],
    "target": [3, 4],
    "target_p": [0.5, 1.0],
    "draft_top": [
        [[3, 0.9], [1, 0.05], [2, 0.03], [0, 0.01]],
        [[5, 0.4], [4, 0.3], [2, 0.1], [0, 0]],
    ],
    "rollouts": {"1": [[6, 0.5], [7, 0.25]]},
}
OTHER: Json = {**PROMPT, "id": "two", "prompt_tokens": [2, 1]}


def written(folder: Path, *lines: Json | bytes, name: str = "some.jsonl") -> Path:
    path = folder / name
    path.write_bytes(
        b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    )
    return path


def changed(line: Json, key: str, value: object) -> Json:
    return {**copy.deepcopy(line), key: value}


def without(line: Json, key: str) -> Json:
    return {name: value for name, value in line.items() if name != key}


def complaint(path: Path) -> str:
    """What is said about a broken trace: one sentence that names the file."""
    with pytest.raises(EngineError) as caught:
        read_trace(path)
    assert isinstance(caught.value, TraceError)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message.replace(str(path), "FILE")


# --- what is right ---


def test_a_trace_is_read_whole(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, HEADER, PROMPT, OTHER))
    assert (trace.header.draft, trace.header.target, trace.header.vocabulary) == ("small", "large", 10)
    assert (trace.header.end_ids, trace.header.pieces[2]) == ((9,), b"c")
    one, two = trace.prompts
    assert (one.id, two.id) == ("one", "two")
    assert (one.prompt_tokens, one.target, one.target_p) == ((1, 2), (3, 4), (0.5, 1.0))
    assert one.draft_top[1][0] == (5, 0.4)
    assert one.rollouts == {1: ((6, 0.5), (7, 0.25))}


def test_the_last_line_needs_no_end_and_more_keys_are_fine(tmp_path: Path) -> None:
    line = json.dumps({**PROMPT, "remark": [{}]}).encode()
    assert len(read_trace(written(tmp_path, {**HEADER, "machine": None}, line)).prompts) == 1


def test_the_ids_that_occur_are_told(tmp_path: Path) -> None:
    (prompt,) = read_trace(written(tmp_path, HEADER, PROMPT)).prompts
    assert ids_in(prompt) == set(range(8))


# --- what comes with pipesd ---


def test_the_shipped_traces_are_sound_and_quickly_read() -> None:
    start = time.perf_counter()
    traces = {path.stem: read_trace(path) for path in shipped_traces()}
    assert time.perf_counter() - start < 1.0
    assert {name: (trace.header.kind, len(trace.prompts)) for name, trace in traces.items()} == {
        "humaneval": ("code", 32),
        "chat": ("chat", 12),
    }


@pytest.mark.parametrize(
    ("name", "kind", "prompts", "numerics", "least", "most"),
    [
        ("humaneval", "code", 32, "fast", 0.93, 0.96),
        ("chat", "chat", 12, "fast", 0.81, 0.85),
        ("maths", "maths", 12, "exact", 0.85, 0.95),
        ("q2_k/humaneval", "code", 32, "exact", 0.8, 0.95),
        ("q2_k/chat", "chat", 12, "exact", 0.6, 0.83),
        ("q2_k/maths", "maths", 12, "exact", 0.7, 0.93),
    ],
)
def test_each_shipped_set_is_what_its_name_says(
    name: str, kind: str, prompts: int, numerics: str, least: float, most: float
) -> None:
    trace = read_trace(shipped_trace(name))
    header = trace.header
    assert (header.kind, len(trace.prompts), header.numerics) == (kind, prompts, numerics)
    assert header.draft.startswith("qwen2.5-coder-0.5b")
    assert header.draft.endswith("q2_k" if name.startswith("q2_k/") else "q4_k_m")
    assert header.target == "qwen2.5-coder-1.5b-instruct-q4_k_m"
    hits = [
        top[0].token == token
        for prompt in trace.prompts
        for token, top in zip(prompt.target, prompt.draft_top, strict=True)
    ]
    assert least < sum(hits) / len(hits) < most


def test_every_shipped_trace_has_a_name() -> None:
    folder = shipped_trace("chat").parent
    found = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.jsonl")}
    assert found == set(SHIPPED_SETS)
    assert [path.stem for path in shipped_traces()] == ["humaneval", "chat"]
    with pytest.raises(
        UsageError, match="no trace called 'q2_k' comes with pipesd; choose one of humaneval, "
    ):
        shipped_trace("q2_k")


def test_both_drafts_were_asked_the_same() -> None:
    for name in ("humaneval", "chat", "maths"):
        ours, theirs = read_trace(shipped_trace(name)), read_trace(shipped_trace(f"q2_k/{name}"))
        assert [(one.id, one.prompt_tokens) for one in ours.prompts] == [
            (one.id, one.prompt_tokens) for one in theirs.prompts
        ]
        assert ours.header.target_sha256 == theirs.header.target_sha256
        if ours.header.numerics == theirs.header.numerics == "exact":
            assert [one.target for one in ours.prompts] == [one.target for one in theirs.prompts]


def test_the_traces_of_the_smaller_draft_go_together() -> None:
    trace = load([shipped_trace(name) for name in SHIPPED_SETS if name.startswith("q2_k/")])
    assert len(trace.prompts) == 56
    assert (trace.header.kind, trace.header.numerics) == ("mixed", "exact")


# --- writing ---


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, HEADER, PROMPT, OTHER))
    path = tmp_path / "again.jsonl"
    write_trace(path, trace)
    write_trace(str(path), trace)
    assert read_trace(path) == trace
    lines = path.read_bytes().splitlines(keepends=True)
    assert [json.loads(line) for line in lines] == [HEADER, PROMPT, OTHER]
    assert all(line.endswith(b"}\n") and b" " not in line for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.jsonl", "some.jsonl"]


def test_what_cannot_be_written_whole_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, HEADER, PROMPT)
    before, trace = path.read_bytes(), read_trace(path)

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_trace(path, trace)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none/some.jsonl", "no such file"), ("some.jsonl/more", "not a directory"), ("a\0b", "embedded null")],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, name: str, reason: str) -> None:
    trace = read_trace(written(tmp_path, HEADER, PROMPT))
    with pytest.raises(
        TraceError, match=rf"^the trace .* cannot be written: {reason}.*; choose another place"
    ):
        write_trace(tmp_path / name, trace)


# --- what is wrong with a line ---


@pytest.mark.parametrize("key", HEADER)
def test_the_header_needs_every_key(tmp_path: Path, key: str) -> None:
    assert f"FILE, line 1: Object missing required field `{key}`" in complaint(
        written(tmp_path, without(HEADER, key), PROMPT)
    )


@pytest.mark.parametrize("key", PROMPT)
def test_a_prompt_needs_every_key(tmp_path: Path, key: str) -> None:
    assert f"FILE, line 3: Object missing required field `{key}`" in complaint(
        written(tmp_path, HEADER, OTHER, without(PROMPT, key))
    )


@pytest.mark.parametrize("value", [None, True, {}, "text", 1.5, [["x"]], [[1, 2]]])
@pytest.mark.parametrize("key", [key for key in PROMPT if key != "id"])
def test_a_value_of_another_type_is_named(tmp_path: Path, key: str, value: object) -> None:
    if key == "rollouts" and value == {}:
        value = []
    said = complaint(written(tmp_path, HEADER, changed(PROMPT, key, value)))
    assert said.startswith(f"FILE, line 2: {key}"), said
    assert "Expected" in said


TOP = PROMPT["draft_top"]


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("id", 7, "Expected `str`"),
        ("prompt_tokens", [], "length >= 1"),
        ("prompt_tokens", [1, 10], "id 10 is outside the vocabulary of 10"),
        ("prompt_tokens", [1, -1], ">= 0"),
        ("prompt_tokens", [1, 9], "no piece for id 9"),
        ("target", [], "length >= 1"),
        ("target", [3, 9], "no piece for id 9"),
        ("target_p", [0.5], "has 1 entries, but target has 2"),
        ("target_p", [0.5, 1.01], "<= 1.0"),
        ("target_p", [0.5, -0.01], ">= 0.0"),
        ("draft_top", TOP[:1], "has 1 entries, but target has 2"),
        ("draft_top", [TOP[0], TOP[1][:3]], "length 4"),
        ("draft_top", [TOP[0], TOP[1] * 2], "length 4"),
        ("draft_top", [TOP[0], [*TOP[1][:3], [0, 1.5]]], "<= 1.0"),
        ("draft_top", [TOP[0], [*TOP[1][:3], [10, 0.1]]], "id 10 is outside the vocabulary of 10"),
        ("draft_top", [TOP[0], [*TOP[1][:3], [0, 0.1, 0.2]]], "length 2"),
        ("rollouts", {}, "1 is missing, though the draft is wrong"),
        ("rollouts", {**PROMPT["rollouts"], "0": []}, "0 is there, though the draft is not wrong"),
        ("rollouts", {**PROMPT["rollouts"], "2": []}, "2 is there, though the draft is not wrong"),
        ("rollouts", {"one": []}, "Expected `int`"),
        ("rollouts", {"1": [[6, 0.5]] * 17}, "length <= 16"),
        ("rollouts", {"1": [[6, 2]]}, "<= 1.0"),
        ("rollouts", {"1": [[11, 0.5]]}, "id 11 is outside the vocabulary of 10"),
        ("rollouts", {"1": [[9, 0.5]]}, "no piece for id 9"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, key: str, value: object, what: str) -> None:
    said = complaint(written(tmp_path, HEADER, changed(PROMPT, key, value)))
    assert "FILE, line 2: " in said
    assert key in said
    assert what in said


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("format", "pipesd-trace/2", "pipesd-trace/2 is not known, only pipesd-trace/1"),
        ("format", "x\n\x1b[31m", r"x\n\x1b[31m is not known"),
        ("numerics", "sloppy", "Invalid enum value"),
        ("vocabulary", 1, ">= 2"),
        ("vocabulary", 2**31, "<= 2097152"),
        ("vocabulary", 8, "id 9 is outside the vocabulary of 8"),
        ("end_ids", [], "length >= 1"),
        ("end_ids", [10], "id 10 is outside the vocabulary of 10"),
        ("pieces", {"10": "IQ=="}, "id 10 is outside the vocabulary of 10"),
        ("pieces", {"-1": "IQ=="}, "id -1 is outside the vocabulary of 10"),
        ("pieces", {"1": "?"}, "Invalid base64"),
        ("pieces", {"x": "IQ=="}, "Expected `int`"),
        ("pieces", [], "Expected `object`"),
    ],
)
def test_a_wrong_value_of_the_header_is_named(tmp_path: Path, key: str, value: object, what: str) -> None:
    said = complaint(written(tmp_path, changed(HEADER, key, value), PROMPT))
    assert "FILE, line 1: " in said
    assert key in said or (key == "vocabulary" and "vocabulary" in said)
    assert what in said


def test_a_path_that_goes_on_after_its_end_is_named(tmp_path: Path) -> None:
    header = changed(HEADER, "end_ids", [3])
    assert "line 2: target: goes on after an end id" in complaint(written(tmp_path, header, PROMPT))


# --- what is wrong with a file ---


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "line 1: the file is empty"),
        (b"\n \n", "line 1: the file is empty"),
        (b"{", "line 1: Input data was truncated"),
        (b"plain text", "line 1: JSON is malformed"),
        (b"[]\n", "line 1: Expected `object`, got `array`"),
        (b'{"format":"pipesd-trace/1","x":' + b"[" * 200_000, "line 1: "),
        (b"\xef\xbb\xbf{}\n", "line 1: JSON is malformed"),
        (b"{}\n{}\n\xff\n", "line 3: not UTF-8"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    assert f"FILE, {what}" in complaint(written(tmp_path, content))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path, HEADER, PROMPT, OTHER).read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for size in (last + 1, last + 40, len(whole) - 2):
        assert "FILE, line 3: Input data was truncated" in complaint(written(tmp_path, whole[:size]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("target", [10, 4]),
        ("target", [9, 4]),
        ("draft_top", [[[10, 0.9], *TOP[0][1:]], TOP[1]]),
        ("draft_top", [[[9, 0.9], *TOP[0][1:]], TOP[1]]),
    ],
)
def test_a_broken_token_is_named_rather_than_what_follows_from_it(
    tmp_path: Path, key: str, value: object
) -> None:
    said = complaint(written(tmp_path, HEADER, changed(PROMPT, key, value)))
    assert said.startswith(f"FILE, line 2: {key}: ")
    assert "rollouts" not in said


def test_lines_that_are_missing_doubled_or_blank_are_refused(tmp_path: Path) -> None:
    assert "line 1: no prompt follows" in complaint(written(tmp_path, HEADER))
    assert "line 3: id: one was there before" in complaint(written(tmp_path, HEADER, PROMPT, PROMPT))
    same = changed(PROMPT, "id", "another")
    assert "line 3: prompt_tokens: another prompt has" in complaint(written(tmp_path, HEADER, PROMPT, same))
    for blank in (b"\n", b" \r\n"):
        assert "FILE, line 3: the line is blank; " in complaint(
            written(tmp_path, HEADER, PROMPT, blank, OTHER)
        )
        assert "FILE, line 1: the line is blank; " in complaint(written(tmp_path, blank, HEADER, PROMPT))
        assert "FILE, line 3: the line is blank; " in complaint(
            written(tmp_path, HEADER, PROMPT, blank, blank)
        )
    assert "line 1: " in complaint(written(tmp_path, PROMPT, HEADER))


@pytest.mark.parametrize("make", [lambda folder: folder / "none.jsonl", lambda folder: folder])
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    assert "the trace FILE cannot be read: " in complaint(make(tmp_path))
    with pytest.raises(TraceError, match="cannot be read: embedded null byte"):
        read_trace("a\0b")


@settings(derandomize=True, deadline=None, max_examples=300)
@given(at=st.floats(0, 1, exclude_max=True), cut=st.integers(0, 3), put=st.binary(max_size=3))
def test_any_damage_is_either_harmless_or_named(
    tmp_path_factory: pytest.TempPathFactory, at: float, cut: int, put: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    whole = written(folder, HEADER, PROMPT, OTHER).read_bytes()
    place = int(at * len(whole))
    path = written(folder, whole[:place] + put + whole[place + cut :])
    try:
        outcome = f"{path} has {len(read_trace(path).prompts)} prompts"
    except EngineError as error:
        outcome = str(error)
    assert str(path) in outcome
    assert "has 0 prompts" not in outcome


# --- several traces ---


def test_without_a_choice_the_shipped_traces_are_loaded() -> None:
    trace = load([])
    assert len(trace.prompts) == 44
    assert len({prompt.id for prompt in trace.prompts}) == 44
    assert (trace.header.kind, trace.header.numerics) == ("mixed", "fast")
    assert {trace.prompts[0].id, trace.prompts[-1].id} == {"HumanEval/0", "chat/11"}
    ids = {token for prompt in trace.prompts for token in (*prompt.prompt_tokens, *prompt.target)}
    assert ids <= trace.header.pieces.keys()


def test_a_shipped_trace_is_loaded_by_its_name_unless_a_file_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert {prompt.id.partition("/")[0] for prompt in load(["maths"]).prompts} == {"maths"}
    assert load(["q2_k/chat"]) == load([shipped_trace("q2_k/chat")])
    (tmp_path / "maths").write_text("mine\n")
    with pytest.raises(TraceError, match=r"^maths, line 1"):
        load(["maths"])


def both(folder: Path, header: Json, prompt: Json) -> Trace:
    first = written(folder, HEADER, PROMPT)
    return load([first, str(written(folder, header, prompt, name="more.jsonl"))])


def test_traces_of_one_pair_become_one(tmp_path: Path) -> None:
    more = {**HEADER, "pieces": {**HEADER["pieces"], "9": ""}}
    trace = both(tmp_path, more, OTHER)
    assert [prompt.id for prompt in trace.prompts] == ["one", "two"]
    assert (trace.header.kind, trace.header.numerics, trace.header.pieces[9]) == ("code", "exact", b"")
    fast = both(tmp_path, {**HEADER, "kind": "chat", "numerics": "fast"}, OTHER)
    assert (fast.header.kind, fast.header.numerics) == ("mixed", "fast")
    assert len(load([written(tmp_path, HEADER, PROMPT)]).prompts) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("draft", "other"),
        ("target", "other"),
        ("draft_sha256", "cc"),
        ("target_sha256", "cc"),
        ("vocabulary", 11),
        ("end_ids", [8]),
        ("pieces", {**HEADER["pieces"], "3": "IQ=="}),
    ],
)
def test_traces_of_different_pairs_are_refused(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(TraceError, match=rf"more\.jsonl does not go with .*some\.jsonl: {key}: .*; replay"):
        both(tmp_path, {**HEADER, key: value}, OTHER)


def test_traces_with_a_prompt_in_common_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="id: one is in both"):
        both(tmp_path, HEADER, PROMPT)
    with pytest.raises(TraceError, match="prompt_tokens: those of new are in both"):
        both(tmp_path, HEADER, changed(PROMPT, "id", "new"))
