"""What is kept for the next time."""

import logging
from pathlib import Path

import pytest

from pipesd import learned
from pipesd.planner.trigger import Thresholds
from pipesd.session.tuned import Learned

KNOWN = Learned(Thresholds(0.8, 0.6, 8, 2), ((0.9, 0.95, True), (0.4, 0.5, False)) * 12, (0.3, 0.7))


def test_what_is_saved_is_loaded(tmp_path: Path):
    place = tmp_path / "not" / "there" / "yet.json"
    learned.save(place, KNOWN)
    assert learned.load(place) == KNOWN
    assert [path.name for path in place.parent.iterdir()] == ["yet.json"]


def test_the_latest_takes_the_place_of_the_one_before(tmp_path: Path):
    for thresholds in (KNOWN.thresholds, None):
        learned.save(tmp_path / "it.json", Learned(thresholds, KNOWN.drafts, ()))
    kept = learned.load(tmp_path / "it.json")
    assert kept is not None
    assert kept.thresholds is None


def test_where_nothing_was_kept_there_is_nothing_to_say(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert learned.load(tmp_path / "none.json") is None
    assert caplog.records == []


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"thresholds":null,"drafts":[[0.5,0.5]],"astray":[]}',
        b'{"thresholds":null,"drafts":[[7,0.5,true]],"astray":[]}',
        b'{"thresholds":{"r1":2.0},"drafts":[],"astray":[]}',
    ],
)
def test_a_damaged_file_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: bytes
):
    place = tmp_path / "it.json"
    place.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        assert learned.load(place) is None
    (record,) = caplog.records
    assert "cannot be used, so thresholds are tuned from the start" in record.message
    learned.save(place, KNOWN)
    assert learned.load(place) == KNOWN


def test_few_drafts_are_not_worth_a_file(tmp_path: Path):
    learned.save(tmp_path / "it.json", Learned(None, KNOWN.drafts[:23], ()))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "file").write_text("in the way")
    learned.save(tmp_path / "file" / "it.json", KNOWN)
    (record,) = caplog.records
    assert "cannot be kept" in record.message


def test_each_pair_and_host_has_a_place_of_its_own():
    places = {
        learned.place_of(names) for names in (("a", "b", "c"), ("a", "b", "d"), ("ab", "c", ""), ("a", "b"))
    }
    assert len(places) == 4
    assert {place.parent.name for place in places} == {"tuning"}
