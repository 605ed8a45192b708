"""The figures of real answers, of the edge and of a model alone."""

from dataclasses import replace

import pytest

from pipesd.alone import alone, edge_alone
from pipesd.cli.output import Timing
from pipesd.cli.summaries import alone_summary, edge_summary
from pipesd.cloud import serve
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import connect
from pipesd.summary import Summary

CLOUD = CloudConfig(engine="scripted", listen="127.0.0.1:0", tokens_max=20)
EDGE = EdgeConfig(engine="scripted", tokens_max=20)


def timing_of(first_token_ms: float, elapsed_ms: float) -> Timing:
    timing = Timing()
    timing.first_token_ms, timing.elapsed_ms = first_token_ms, elapsed_ms
    return timing


async def summary_of_the_second_answer(
    config: EdgeConfig, cloud_config: CloudConfig = CLOUD
) -> tuple[Summary, int]:
    """And how many bytes the edge had sent in all."""
    async with serve(cloud_config) as cloud:
        config = replace(config, cloud="{}:{}".format(*cloud.address))
        async with connect(config) as edge, edge.session() as session:
            async for _ in session.generate("Tell me"):
                pass
            before = edge.statistics()
            answer = session.generate("Go on")
            async for _ in answer:
                pass
            assert answer.result is not None
            assert answer.result.stats.tokens == 20
            assert before.sent_bytes > 0
            summary = edge_summary(edge, answer, timing_of(5.0, 70.0), before)
            return summary, edge.statistics().sent_bytes


async def test_an_answer_of_the_edge_is_counted_by_itself():
    summary, sent_in_all = await summary_of_the_second_answer(EDGE)
    assert (summary.tokens, summary.finish) == (20, "length")
    assert (summary.first_token_ms, summary.elapsed_ms) == (5.0, 70.0)
    assert summary.accepted is not None
    assert summary.judged is not None
    assert summary.drafted is not None
    assert 0 < summary.accepted <= summary.judged <= summary.drafted
    assert 0 < summary.passes < 20
    assert summary.sent_bytes is not None
    assert 0 < summary.sent_bytes < sent_in_all
    assert summary.received_bytes is not None
    assert summary.received_bytes > 0
    assert not summary.modelled
    assert (summary.useful_j, summary.rejected_j, summary.energy_source) == (None, None, "")


async def test_energy_is_split_and_carries_its_source():
    cloud = replace(CLOUD, power_busy_watts=60.0, pass_ms=1.0)
    rounds = replace(EDGE, policy="vanilla")  # in which wrong drafts are judged, however slow the machine
    summary, _ = await summary_of_the_second_answer(rounds, cloud)
    assert summary.energy_source == "modelled: 60 W busy"
    assert summary.useful_j is not None
    assert summary.rejected_j is not None
    assert summary.useful_j > 0.0
    assert summary.rejected_j > 0.0
    assert summary.useful_j + summary.rejected_j >= 60.0 * 0.001 * summary.passes


async def test_a_modelled_draft_makes_the_figures_modelled():
    summary, _ = await summary_of_the_second_answer(replace(EDGE, draft_ms=0.1))
    assert summary.modelled


@pytest.mark.parametrize("config", [CLOUD, replace(CLOUD, pass_ms=0.01), replace(CLOUD, pass_token_ms=0.01)])
async def test_an_answer_of_the_target_alone_has_a_pass_for_each_token(config: CloudConfig):
    async with alone(config) as target:
        answer = target.generate("Tell me")
        async for _ in answer:
            pass
        summary = alone_summary(target, answer, timing_of(5.0, 70.0))
    assert summary == Summary(
        tokens=20,
        finish="length",
        elapsed_ms=70.0,
        first_token_ms=5.0,
        passes=20,
        modelled=config is not CLOUD,
    )


@pytest.mark.parametrize("config", [EDGE, replace(EDGE, draft_ms=0.01)])
async def test_an_answer_of_the_draft_alone_has_steps_but_no_passes(config: EdgeConfig):
    async with edge_alone(config) as draft:
        answer = draft.generate("Tell me")
        async for _ in answer:
            pass
        summary = alone_summary(draft, answer, timing_of(5.0, 70.0))
    assert summary == Summary(
        tokens=20,
        finish="length",
        elapsed_ms=70.0,
        first_token_ms=5.0,
        drafted=20,
        passes=0,
        modelled=config is not EDGE,
        verified=False,
    )


async def test_a_recording_makes_the_figures_modelled():
    async with alone(CloudConfig(engine="replay", tokens_max=2)) as target:
        answer = target.generate("chat/0")
        async for _ in answer:
            pass
        assert alone_summary(target, answer, timing_of(1.0, 1.0)).modelled


async def test_an_answer_that_is_not_complete_has_no_figures():
    async with alone(CLOUD) as target:
        with pytest.raises(AssertionError, match="has not ended"):
            alone_summary(target, target.generate("Tell me"), Timing())
