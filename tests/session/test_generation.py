"""What the edge counts of an answer."""

from msgspec import structs

from pipesd.session.commands import GenerationStats
from pipesd.session.generation import Generation
from pipesd.values import Sampling
from tests.session.helpers import verdict


def test_verdicts_add_up() -> None:
    answer = Generation(start=3, tokens_max=96, limit=99, sampling=Sampling(), seed=0)
    answer.drafted = 5
    answer.count(structs.replace(verdict(3, 2, 9), energy_uj=900, judged=2), 2, corrected=False)
    answer.count(structs.replace(verdict(6, 0, 7), energy_uj=100, judged=3), 0, corrected=True)
    assert answer.stats == GenerationStats(
        tokens=4, drafted=5, accepted=2, corrections=1, verdicts=2, energy_uj=1_000, useful_uj=925
    )


def test_nothing_is_counted_before_a_verdict() -> None:
    assert Generation(start=0, tokens_max=1, limit=1, sampling=Sampling(), seed=0).stats == GenerationStats()
