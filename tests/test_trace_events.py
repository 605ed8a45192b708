"""The format: what is written can be read, cut off at any byte; and what is not of pipesd is refused."""

import io
import json
import logging
from pathlib import Path

import pytest

from pipesd.errors import TraceError
from pipesd.trace_events import Bar, Count, Event, Instant, Label, TraceWriter, merge, read, write

LABEL = Label(name="thread_name", pid=1, tid=2, args={"name": 'a],\n"lane'})
BAR = Bar(
    name="guess", pid=1, tid=2, args={"position": 7, "confidence": 0.5, "corrected": True}, ts=10, dur=5
)
INSTANT = Instant(name="verdict", pid=1, tid=3, args={"finish": "stop"}, ts=12)
COUNT = Count(name="confirmed tokens", pid=1, tid=3, args={"tokens": 3}, ts=12)
ALL: list[Event] = [LABEL, BAR, INSTANT, COUNT]


def written(*events: Event) -> bytes:
    out = io.BytesIO()
    writer = TraceWriter(out)
    for event in events:
        writer.put(event)
    writer.complete()
    return out.getvalue()


# -- what is written ----------------------------------------------------------------------------------------


def test_a_timeline_is_a_json_array_with_an_event_on_each_line():
    lines = written(*ALL).decode().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("[", "]", 2 + len(ALL))
    assert json.loads("".join(lines)) == [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 2, "args": {"name": 'a],\n"lane'}},
        {
            "ph": "X",
            "name": "guess",
            "pid": 1,
            "tid": 2,
            "args": {"position": 7, "confidence": 0.5, "corrected": True},
            "ts": 10,
            "dur": 5,
        },
        {"ph": "i", "name": "verdict", "pid": 1, "tid": 3, "args": {"finish": "stop"}, "ts": 12, "s": "t"},
        {"ph": "C", "name": "confirmed tokens", "pid": 1, "tid": 3, "args": {"tokens": 3}, "ts": 12},
    ]


def test_a_whole_timeline_is_written_as_piece_by_piece():
    out = io.BytesIO()
    write(ALL, out)
    assert out.getvalue() == written(*ALL)


class CountingFile(io.BytesIO):
    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


def test_what_was_written_reaches_the_disk_once_a_second_while_time_goes_on():
    out = CountingFile()
    writer = TraceWriter(out)
    seen = []
    for at_us in (0, 400_000, 999_999, 1_000_000, 1_500_000, 2_000_000):
        writer.put(INSTANT)
        writer.note_time(at_us)
        seen.append(out.flushes)
    assert seen == [1, 1, 1, 2, 2, 3]
    writer.complete()
    assert out.flushes == 4


class FullDisk(io.BytesIO):
    """Room for so many writes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data: object) -> int:
        self.room -= 1
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return super().write(data)  # type: ignore[arg-type]


def test_a_full_disk_is_said_once_and_disturbs_nobody(caplog: pytest.LogCaptureFixture):
    out = FullDisk(room=2)
    writer = TraceWriter(out)
    with caplog.at_level(logging.WARNING):
        for event in ALL:
            writer.put(event)
        writer.note_time(5)
        writer.complete()
    assert [(record.name, record.levelname) for record in caplog.records] == [("pipesd.timeline", "WARNING")]
    assert "trace_out" in caplog.messages[0]
    assert "No space left on device" in caplog.messages[0]
    assert out.getvalue().count(b'"ph"') == 2


def test_a_file_that_somebody_closed_is_as_a_full_disk(caplog: pytest.LogCaptureFixture):
    out = io.BytesIO()
    writer = TraceWriter(out)
    out.close()
    writer.put(BAR)
    writer.complete()
    assert len(caplog.records) == 1


def test_behind_the_end_nothing_is_written():
    out = io.BytesIO()
    writer = TraceWriter(out)
    writer.put(BAR)
    writer.complete()
    before = out.getvalue()
    writer.put(BAR)
    writer.complete()
    assert out.getvalue() == before


# -- what is read -------------------------------------------------------------------------------------------


def test_what_was_written_is_read(tmp_path: Path):
    path = tmp_path / "edge.json"
    path.write_bytes(written(*ALL))
    assert read(path) == ALL


def test_a_timeline_that_ends_anywhere_gives_every_whole_event(tmp_path: Path):
    path, data = tmp_path / "edge.json", written(*ALL)
    lines = data.splitlines(keepends=True)
    ends = [len(b"".join(lines[: number + 1]).rstrip(b",\n")) for number in range(1, 1 + len(ALL))]
    for length in range(ends[0], len(data)):
        path.write_bytes(data[:length])
        said: list[str] = []
        whole = ALL[: sum(end <= length for end in ends)]
        assert read(path, said.append) == whole
        warning = (
            f"{path} has no end, as if its writer was killed or is still at it; "
            f"what follows the first {len(whole)} events is missing"
        )
        assert said == ([] if data[:length].endswith(b"]") else [warning])


def test_a_missing_end_is_logged_if_nobody_else_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "edge.json"
    path.write_bytes(written(*ALL)[:-2])
    assert read(path) == ALL
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    path.write_bytes(written(*ALL))
    assert read(path) == ALL
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[",
        b'[\n{"ph":"X","na',
        b"no timeline",
        b'{"format":"pipesd-trace/1"}\n',
        b"\xff\xfe",
        b'[\n{"ph":"b","name":"x","pid":1,"tid":1,"ts":1}\n]\n',
        b'[\n{"ph":"X","name":"x","pid":1,"tid":1,"ts":1}\n]\n',
        written(LABEL, BAR).replace(b'"ph":"M"', b'"ph":"?"'),
        written(BAR, INSTANT, COUNT).replace(b'"ts":12,"s"', b'"ts":"12","s"'),
    ],
)
def test_what_is_no_timeline_is_refused_in_a_sentence_that_names_the_file(tmp_path: Path, data: bytes):
    path = tmp_path / "other.json"
    path.write_bytes(data)
    with pytest.raises(TraceError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "event" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(TraceError, match=r"nowhere\.json cannot be read \(No such file or directory\)"):
        read(tmp_path / "nowhere.json")


# -- what is merged -----------------------------------------------------------------------------------------


def test_labels_come_first_and_all_else_in_the_order_of_time():
    early = Bar(name="pass", pid=2, tid=9, ts=3, dur=50)
    label = Label(name="thread_name", pid=2, tid=9, args={"name": "verifying"})
    assert merge([ALL, [label, early]]) == [LABEL, label, early, BAR, INSTANT, COUNT]


def test_processes_of_one_number_are_told_apart():
    merged = merge([[BAR, INSTANT], [BAR], [Bar(name="pass", pid=2, tid=1, ts=0, dur=1), BAR]])
    assert sorted((event.pid, event.name) for event in merged) == [
        (1, "guess"),
        (1, "verdict"),
        (2, "guess"),
        (3, "pass"),
        (4, "guess"),
    ]


def test_of_nothing_nothing_is_merged():
    assert merge([]) == merge([[], []]) == []
