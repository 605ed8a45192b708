"""From what an answer was to its figures."""

from pipesd.actors.connection import LinkStatistics
from pipesd.alone import Alone, AloneAnswer
from pipesd.cli.output import Timing
from pipesd.edge import Edge
from pipesd.edge_session import Generation
from pipesd.session.energy import MICRO
from pipesd.summary import Summary


def edge_summary(edge: Edge, answer: Generation, timing: Timing, before: LinkStatistics) -> Summary:
    """Of an answer that is complete; ``before`` is what had crossed the link when it began."""
    assert answer.result is not None, "an answer without a result"
    stats, crossed, source = answer.result.stats, edge.statistics(), edge.welcome.energy
    modelled = edge.config.engine == "replay" or edge.config.draft_ms > 0
    if answer.private:
        return Summary(
            tokens=stats.tokens,
            finish=answer.result.finish,
            elapsed_ms=timing.elapsed_ms,
            first_token_ms=timing.first_token_ms,
            passes=0,
            drafted=stats.drafted,
            modelled=modelled,
            verified=False,
        )
    return Summary(
        tokens=stats.tokens,
        finish=answer.result.finish,
        elapsed_ms=timing.elapsed_ms,
        first_token_ms=timing.first_token_ms,
        accepted=stats.accepted,
        judged=stats.accepted + stats.corrections,
        passes=stats.verdicts,
        drafted=stats.drafted,
        sent_bytes=crossed.sent_bytes - before.sent_bytes,
        received_bytes=crossed.received_bytes - before.received_bytes,
        useful_j=stats.useful_uj / MICRO if source else None,
        rejected_j=(stats.energy_uj - stats.useful_uj) / MICRO if source else None,
        energy_source=source,
        modelled=modelled,
    )


def alone_summary(model: Alone, answer: AloneAnswer, timing: Timing) -> Summary:
    """Of an answer of one model alone that is complete."""
    assert answer.finish is not None, "an answer that has not ended"
    return Summary(
        tokens=answer.tokens,
        finish=answer.finish,
        elapsed_ms=timing.elapsed_ms,
        first_token_ms=timing.first_token_ms,
        drafted=None if model.verified else answer.tokens,
        passes=answer.tokens if model.verified else 0,
        modelled=model.modelled,
        verified=model.verified,
    )
