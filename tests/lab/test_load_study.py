from dataclasses import replace

from pipesd.lab.jobs import working
from pipesd.lab.load_metrics import Power
from pipesd.lab.load_study import compare_loads, measure
from tests.lab.tiny_load import tiny_loads


def test_every_system_is_played_at_every_number_of_edges():
    comparison = tiny_loads()
    assert set(comparison.figures) == {
        (system, edges) for system in ("batched", "one-lock", "cloud-only") for edges in (1, 2, 4)
    }
    assert [each.edges for each in comparison.of("one-lock")] == [1, 2, 4]
    assert {each.system for each in comparison.of("one-lock")} == {"one-lock"}


def test_each_play_is_told_of():
    study, told = replace(tiny_loads().study, edges=(1,)), list[None]()
    with working(1, lambda: told.append(None)) as pool:
        assert compare_loads(study, pool).of("batched") == tiny_loads().of("batched")[:1]
    assert len(told) == study.plays == 3


def test_what_is_changed_of_drafting_is_changed_where_drafts_are_made():
    study = tiny_loads().study
    changed = {"r1": 0.5, "verify": "on_request"}
    loads = replace(study, load=replace(study.load, changed=changed)).loads(2)
    assert [load.changed for load in loads] == [changed, changed, {"verify": "on_request"}]


def test_a_comparison_says_what_each_load_gives():
    comparison = tiny_loads()
    load = replace(comparison.study.load, edges=2, system="one-lock")
    assert comparison.figures["one-lock", 2] == measure(load, Power())


def test_alone_one_lock_is_batched():
    batched, locked = (tiny_loads().of(system)[0] for system in ("batched", "one-lock"))
    assert replace(locked, system="batched") == batched


def test_everything_is_told_by_name():
    told = tiny_loads().as_json()
    assert set(told) == {"batched", "one-lock", "cloud-only"}
    assert told["batched"] == [each.as_json() for each in tiny_loads().of("batched")]
