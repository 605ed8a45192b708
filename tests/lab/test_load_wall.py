"""A load in wall time over real sockets; what it takes is not asserted."""

from dataclasses import replace
from typing import Any

import pytest

from pipesd.lab.load import Load
from pipesd.lab.load_wall import Engine, WallLoad, play_wall
from pipesd.lab.scenarios import SCENARIOS
from tests.lab.recordings import shipped

QUICK = replace(SCENARIOS["s1"], name="quick", draft_ms=1.0, pass_ms=2.0, pass_token_ms=0.1)


def wall(engine: Engine, **changed: Any) -> WallLoad:
    load = Load(trace=shipped("HumanEval/7"), scenario=QUICK, edges=2)
    return WallLoad(load=replace(load, **changed), engine=engine, traces=("humaneval",))


def test_recordings_say_what_they_say_in_virtual_time():
    record, alone = play_wall(wall("replay"))
    [prompt] = shipped("HumanEval/7").prompts
    answers = [tuple(asked.answer.tokens) for edge in (*record.edges, *alone) for asked in edge]
    assert answers == [prompt.target] * 4
    assert record.passes > 0
    assert record.pass_tokens >= len(prompt.target)


def test_a_toy_reads_the_bytes_of_a_prompt():
    record, alone = play_wall(wall("scripted"))
    assert [len(edge) for edge in record.edges] == [1, 1]
    said = {tuple(asked.answer.tokens) for edge in (*record.edges, *alone) for asked in edge}
    assert len(said) == 1
    [asked] = record.edges[0]
    assert bytes(asked.prompt.prompt_tokens).decode().strip() != ""


@pytest.mark.parametrize(("engine", "pass_ms"), [("replay", 2.0), ("scripted", 2.0), ("llama", 0.0)])
def test_only_what_is_no_real_model_keeps_the_pace_of_a_scenario(engine: Engine, pass_ms: float):
    config = wall(engine, system="one-lock").cloud
    assert (config.pass_ms, config.pass_sessions, config.engine) == (pass_ms, 1, engine)
    edge = wall(engine).edge("127.0.0.1", 7433)
    assert (edge.draft_ms > 0, edge.tuner) == (pass_ms > 0, "off")
